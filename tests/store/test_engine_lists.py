"""Lists: pages that stay stable while others write, filters, and the lines of an account."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

from engine import queries, statements
from engine.commands import PostPending
from engine.databases import Database
from engine.errors import CursorInvalid, NotFound
from engine.queries import Page, Selection
from tests.store.engine_stage import OTHER, Stage, entry, make_stage

NOBODY = "00000000-0000-7000-8000-000000000000"


@pytest.fixture
async def stage(site_database: Database) -> Stage:
    """A site with one ledger."""
    return await make_stage(site_database)


async def ask(stage: Stage, query: Callable[..., Page[Any]], *given: Any, **wanted: Any) -> Page[Any]:
    """Return a page of a list."""
    return (await stage.engine.ask(stage.site, query, *given, Selection(**wanted))).value


async def test_pages_stay_stable_while_others_write(stage: Stage) -> None:
    """Newest first; what comes in between is on no later page, and nothing is shown twice or left out."""
    cash, sales = await stage.accounts("asset", "revenue")
    made = [(await stage.run(entry(cash, sales, 1)))["id"] for _ in range(7)]
    shown: list[str] = []
    cursor: str | None = None
    sizes = []
    while True:
        page = await ask(stage, queries.list_entries, limit=3, cursor=cursor)
        shown += [each.id for each in page.items]
        sizes.append(len(page.items))
        await stage.run(entry(cash, sales, 1))
        cursor = page.next_cursor
        if cursor is None:
            break
    assert (shown, sizes) == (made[::-1], [3, 3, 1])


async def test_page_that_is_exactly_full_is_the_last(stage: Stage) -> None:
    """No cursor leads to an empty page."""
    await stage.accounts("asset", "asset", "asset")
    assert (await ask(stage, queries.list_accounts, limit=3)).next_cursor is None
    assert (await ask(stage, queries.list_accounts, limit=2)).next_cursor is not None
    assert len((await ask(stage, queries.list_ledgers)).items) == 1


async def test_filters_narrow_to_exact_values(stage: Stage) -> None:
    """Each alone and several together."""
    cash = await stage.account("asset", code="1000", external_id="till")
    debts = await stage.account("liability", "USD", code="1000")
    for wanted, found in (
        ({"type": "asset"}, [cash]),
        ({"code": "1000"}, [debts, cash]),
        ({"code": "1000", "currency": "USD"}, [debts]),
        ({"external_id": "till"}, [cash]),
        ({"external_id": "nobody"}, []),
        ({"ledger_id": NOBODY}, []),
    ):
        assert [each.id for each in (await ask(stage, queries.list_accounts, equals=wanted)).items] == found


async def test_metadata_filter_finds_every_spelling(stage: Stage) -> None:
    """A key is a text like any other, quotes and dots and all; the value is compared whole."""
    cash, sales = await stage.accounts("asset", "revenue")
    await stage.run(entry(cash, sales, 1))
    for name in ("a.b", 'a"b', "a'b", "a\\b", "$", "[0]", "é😀", "a\tb", "%", "a/b?", ":e"):
        wanted = (await stage.run(entry(cash, sales, 1, metadata={name: "7", "y": "y"})))["id"]
        await stage.run(entry(cash, sales, 1, metadata={name: "77"}))
        await stage.run(entry(cash, sales, 1, metadata={name + "x": "7", "z": "7"}))
        found = await ask(stage, queries.list_entries, metadata={name: "7"})
        assert [each.id for each in found.items] == [wanted], name
        assert (await ask(stage, queries.list_entries, metadata={name: "7", "y": "n"})).items == []
        tagged = await stage.account("asset", metadata={name: "7"})
        assert [each.id for each in (await ask(stage, queries.list_accounts, metadata={name: "7"})).items] == [tagged]


async def test_bounds_are_kept_to_the_microsecond(stage: Stage) -> None:
    """Bounds gt and lt leave the instant itself out, gte and lte take it in."""
    cash, sales = await stage.accounts("asset", "revenue")
    at, made = [], []
    for _ in range(3):
        at.append(stage.clock.advance(micros=1))
        made.append((await stage.run(entry(cash, sales, 1)))["id"])
    for operator, found in (("gt", made[2:]), ("gte", made[1:]), ("lt", made[:1]), ("lte", made[:2])):
        page = await ask(stage, queries.list_entries, bounds={"created_at": {operator: at[1]}})
        assert [each.id for each in page.items] == found[::-1]
    both = await ask(stage, queries.list_entries, bounds={"created_at": {"gt": at[0], "lt": at[2]}})
    assert [each.id for each in both.items] == made[1:2]


async def test_entries_of_an_account_are_those_with_a_line_on_it(stage: Stage) -> None:
    """Once each, however many lines and versions they have."""
    cash, sales, other = await stage.accounts("asset", "revenue", "asset")
    mine = (await stage.run(entry(cash, sales, 1, status="pending")))["id"]
    await stage.run(PostPending(entry_id=mine))
    await stage.run(entry(other, sales, 1))
    found = (await stage.engine.ask(stage.site, queries.list_entries, Selection(), cash)).value
    assert [(each.id, each.status) for each in found.items] == [(mine, "posted")]
    assert [each.status for each in found.items[0].lines] == ["posted", "posted"]


async def test_lines_of_an_account_come_newest_first_with_the_balances_after_each(stage: Stage) -> None:
    """Every version of every line, by the version of the account, in pages."""
    cash, sales = await stage.accounts("asset", "revenue")
    held = (await stage.run(entry(cash, sales, 3, status="pending")))["id"]
    await stage.run(entry(cash, sales, 5))
    await stage.run(PostPending(entry_id=held))
    first = await ask(stage, queries.account_lines, cash, limit=2)
    rest = await ask(stage, queries.account_lines, cash, limit=2, cursor=first.next_cursor)
    told = [
        (each.status, each.amount, each.resulting_balances.posted.amount, each.resulting_balances.pending.amount)
        for each in (*first.items, *rest.items)
    ]
    assert told == [("posted", 3, 8, 8), ("posted", 5, 5, 8), ("pending", 3, 0, 3)]
    assert rest.next_cursor is None
    versions = [each.account_lock_version for each in (*first.items, *rest.items)]
    assert all(one > other for one, other in pairwise(versions))


async def test_what_is_not_there_is_not_found(stage: Stage) -> None:
    """Nor is what belongs to another site."""
    other = await make_stage(stage.database, OTHER)
    there, where = await other.accounts("asset", "revenue")
    made = (await other.run(entry(there, where, 1)))["id"]
    for query, named in (
        (queries.ledger, other.ledger_id),
        (queries.account, there),
        (statements.balance_at, there),
        (queries.entry, made),
        (queries.entry, NOBODY),
    ):
        with pytest.raises(NotFound):
            await stage.engine.ask(stage.site, query, named)
    with pytest.raises(NotFound):
        await ask(stage, queries.account_lines, there)
    assert (await ask(stage, queries.list_accounts)).items == []


async def test_cursor_of_another_list_is_refused(stage: Stage) -> None:
    """It is recognised, never misread."""
    cash = await stage.account("asset")
    for query, given, cursor in (
        (queries.list_entries, (), "p1.5"),
        (queries.list_accounts, (), "v1.e1.5.0123456789ab"),
        (queries.account_lines, (cash,), f"p1.{cash}"),
    ):
        with pytest.raises(CursorInvalid):
            await ask(stage, query, *given, cursor=cursor)


async def test_answer_and_its_feed_cursor_are_of_one_snapshot(stage: Stage) -> None:
    """Following the feed from it brings exactly what the answer does not show."""
    cash, sales = await stage.accounts("asset", "revenue")
    await stage.run(entry(cash, sales, 1))
    shown = await stage.engine.ask(stage.site, queries.list_entries, Selection())
    later = (await stage.run(entry(cash, sales, 1)))["id"]
    page = await stage.engine.events_after(stage.site, shown.feed_cursor, 10)
    assert [event.resource_id for event in page.events] == [later]
