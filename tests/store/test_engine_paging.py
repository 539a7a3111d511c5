"""A list read to its end while a writer is at work: what was there at its start is shown once, in order, either way."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from engine import hold_queries, line_queries, queries
from engine.commands import CreateHold, PostPending, UpdateEntry
from engine.databases import Database
from engine.line_queries import LineSelection
from engine.queries import Selection
from tests.store.engine_stage import Stage, entry, make_stage

MADE = 24
META = {"batch": "1"}


@pytest.fixture
async def stage(site_database: Database) -> Stage:
    """A site with one ledger."""
    return await make_stage(site_database)


LISTS: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "entries": (queries.list_entries, Selection),
    "entries by metadata": (queries.list_entries, lambda **page: Selection(metadata=META, **page)),
    "entries by status": (
        queries.list_entries,
        lambda **page: Selection(metadata=META, equals={"status": "posted"}, **page),
    ),
    "entries by their accounts": (
        queries.list_entries,
        lambda **page: Selection(account_metadata={"user": "7"}, **page),
    ),
    "holds": (hold_queries.list_holds, Selection),
    "lines": (line_queries.list_lines, LineSelection),
    "lines narrowed": (line_queries.list_lines, lambda **page: LineSelection(bounds={"amount": {"lt": 900}}, **page)),
}


@pytest.mark.parametrize("ascending", [False, True])
@pytest.mark.parametrize("name", list(LISTS))
async def test_list_is_whole_while_others_write(stage: Stage, name: str, *, ascending: bool) -> None:
    """A writer adds, changes and posts all the while; every page takes a snapshot of its own."""
    query, wanted = LISTS[name]
    cash = await stage.account("asset", metadata={"user": "7"})
    sales = await stage.account("revenue")
    made = [(await stage.run(entry(cash, sales, n + 1, metadata=META)))["id"] for n in range(MADE)]
    pending = [(await stage.run(entry(cash, sales, 1, status="pending", metadata={})))["id"] for _ in range(8)]
    for _ in range(6):
        await stage.run(CreateHold(entry=entry(cash, sales, 1, status="pending", held=True)))

    async def everything(**page: Any) -> list[Any]:
        found, cursor = [], None
        while True:
            some = (await stage.engine.ask(stage.site, query, wanted(cursor=cursor, **page))).value
            found += some.items
            cursor = some.next_cursor
            if cursor is None or len(found) > 2_000:
                return found

    before = [each.id for each in await everything(limit=1_000, ascending=ascending)]
    reading, begun = True, asyncio.Event()

    async def write() -> None:
        number = 0
        for entry_id in pending:
            await stage.run(PostPending(entry_id=entry_id))
            begun.set()
        while reading:
            await stage.run(entry(cash, sales, 999, metadata=META if number % 2 else {}))
            await stage.run(UpdateEntry(entry_id=made[number % MADE], description=str(number)))
            number += 1

    writing = asyncio.create_task(write())
    await begun.wait()
    try:
        if ascending:
            # A reader that follows a writer may never come to an end: it stops where it has all that was there.
            shown: list[str] = []
            cursor = None
            while not set(before) <= set(shown):
                some = (await stage.engine.ask(stage.site, query, wanted(limit=3, cursor=cursor, ascending=True))).value
                shown += [each.id for each in some.items]
                cursor = some.next_cursor
                assert cursor is not None or set(before) <= set(shown)
        else:
            shown = [each.id for each in await everything(limit=3)]
    finally:
        reading = False
        await writing
    kept = [each for each in shown if each in set(before)]
    if name.startswith("lines"):
        # Versions of one line share its id; each version is shown once.
        assert list(dict.fromkeys(kept)) == list(dict.fromkeys(before))
    else:
        assert kept == before
