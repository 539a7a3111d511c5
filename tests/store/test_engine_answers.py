"""Answers are remembered by their events: the very bytes again, by whichever process, and stored only once."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest
from sqlalchemy import Connection, select

from engine.category_commands import CreateMonitor
from engine.commands import (
    AcceptEntry,
    CaptureHold,
    Command,
    CreateAccount,
    CreateHold,
    CreateLedger,
    LineDraft,
    PostBatch,
    PostEntry,
    PostPending,
    ReverseEntry,
    UpdateAccount,
    UpdateLedger,
)
from engine.databases import Database
from engine.fold import Committed
from engine.fx_commands import CreateFxRate
from engine.schema import idempotency_keys
from tests.store.engine_stage import OTHER, Stage, entry, key, make_stage
from tests.unit.engine.handling import handler, happened, line

HOLE = b"\x01"
both_ways = pytest.mark.parametrize("ahead", [False, True])


@pytest.fixture
async def stage(site_database: Database) -> Stage:
    """A site with one ledger."""
    return await make_stage(site_database)


async def kept(stage: Stage) -> dict[str, tuple[int | None, bytes]]:
    """Return by key from which event on an answer is left out, and what is stored of it."""

    def look(conn: Connection) -> dict[str, tuple[int | None, bytes]]:
        columns = idempotency_keys.c
        rows = conn.execute(select(columns.key, columns.from_sequence, columns.body))
        return {row.key: (row.from_sequence, bytes(row.body)) for row in rows}

    return await stage.read(look)


async def head(stage: Stage) -> int:
    """Return how many events there are."""
    return (await stage.events())[-1].sequence


class Asking:
    """Asks under a key, and again in another process at the end."""

    def __init__(self, stage: Stage, *, ahead: bool) -> None:
        self.stage = stage
        self.engine = stage.another(ahead=ahead)
        self.asked: list[tuple[Command, Committed]] = []

    async def __call__(self, command: Command) -> Any:
        """Submit it, and return its answer as JSON."""
        done = await self.engine.submit(self.stage.site, command, key=key(f"{len(self.asked)}"))
        self.asked.append((command, done))
        return msgspec.json.decode(done.body)

    async def again(self) -> None:
        """Ask all again at once, of a process that knows nothing, and see the same bytes."""
        started = self.stage.another()
        answers = await asyncio.gather(
            *(
                started.submit(self.stage.site, command, key=key(f"{number}"))
                for number, (command, _) in enumerate(self.asked)
            )
        )
        for again, (command, first) in zip(answers, self.asked, strict=True):
            told = (again.body, again.resource_id, again.lock_version, again.replayed)
            assert told == (first.body, first.resource_id, first.lock_version, True), command


@both_ways
async def test_whatever_was_asked_is_answered_with_the_same_bytes_again(stage: Stage, *, ahead: bool) -> None:
    """By a process that has just started, all at once; and what an event tells is not stored a second time."""
    ask = Asking(stage, ahead=ahead)
    till, sales = await stage.account("asset", allow_negative=False), await stage.account("revenue")
    ledger = await ask(CreateLedger(name="Other", metadata={"control": "\x01"}))
    await ask(CreateAccount(ledger_id=ledger["id"], name="Cash", type="asset", currency="EUR"))
    await ask(UpdateAccount(account_id=till, name="Till"))
    await ask(entry(till, sales, 9, description='Zürich \x01 "\\"', metadata={"a": "\x1f"}))
    await ask(entry(till, sales, 9, status="pending"))
    first = entry(till, sales, 4, status="pending")
    local = (first, PostPending(entry_id="local:a"), entry(till, sales, 1), ReverseEntry(entry_id="local:b"))
    await ask(PostBatch(entries=local, names=("a", None, "b", None)))
    poor = entry(sales, till, 1_000)
    await ask(PostBatch(entries=(poor, entry(till, sales, 2), poor, entry(till, sales, 3)), mode="independent"))
    await ask(PostBatch(entries=(poor,), mode="independent"))
    hold = await ask(CreateHold(entry=entry(till, sales, 5, status="pending", held=True)))
    await ask(CaptureHold(hold_id=hold["id"], amount=2))
    await ask(AcceptEntry(entry=entry(till, sales, 7)))
    await ask(UpdateLedger(ledger_id=stage.ledger_id, name="Main"))
    rate = await ask(CreateFxRate(base="EUR", quote="USD", rate="1.10"))
    abroad = await stage.account("revenue", "USD")
    exchange = (
        LineDraft(account=till, direction="debit", amount=10, metadata={}),
        LineDraft(account=abroad, direction="credit", amount=11, metadata={}),
    )
    await ask(PostEntry(lines=exchange, fx_rate_id=rate["id"]))
    pair = {"lines": [line(till, "debit", 3), line(sales, "credit", 3)]}
    await ask(handler(entries=[pair, pair]))
    await ask(happened())
    await ask.again()
    stored = await kept(stage)
    holes = [stored[f"{number}"][1].count(HOLE) for number in range(len(ask.asked))]
    assert holes == [1, 1, 1, 1, 1, 4, 2, 0, 1, 1, 1, 0, 1, 1, 1, 1]
    assert [number for number, count in enumerate(holes) if count == 0] == [
        number for number in range(len(holes)) if stored[f"{number}"][0] is None
    ]
    assert await stage.verify() is None


@both_ways
async def test_what_one_event_tells_is_stored_as_one_byte(stage: Stage, *, ahead: bool) -> None:
    """For each of many entries, and whatever else is written with them: one that changes nothing has no event, and is stored whole."""
    cash, sales = await stage.accounts("asset", "revenue")
    engine = stage.another(ahead=ahead)
    await engine.submit(stage.site, entry(cash, sales))
    start = await head(stage)
    nothing = PostBatch(entries=(entry(cash, "external_id:none"),), mode="independent")
    asked = {f"{number}": nothing if number == 6 else entry(cash, sales, number + 1) for number in range(12)}
    first = await asyncio.gather(
        *(engine.submit(stage.site, command, key=key(name)) for name, command in asked.items())
    )
    stored = await kept(stage)
    assert stored.pop("6") == (None, first[6].body)
    assert sorted(stored.values()) == [(start + 1 + number, HOLE) for number in range(11)]
    again = await asyncio.gather(
        *(stage.another().submit(stage.site, command, key=key(name)) for name, command in asked.items())
    )
    assert [each.body for each in again] == [each.body for each in first]


@both_ways
async def test_answer_of_a_hundred_entries_is_stored_in_few_bytes(stage: Stage, *, ahead: bool) -> None:
    """A byte and a comma each, behind the accounts that it may have opened; there as whole as ever."""
    ask = Asking(stage, ahead=ahead)
    cash, sales = await stage.accounts("asset", "revenue")
    await ask(entry(cash, sales))
    start = await head(stage)
    await ask(PostBatch(entries=(entry(cash, sales),) * 100))
    first, body = (await kept(stage))["1"]
    assert (first, body.count(HOLE)) == (start + 1, 100)
    assert len(body) < 300
    assert len(ask.asked[1][1].body) > 100_000
    await ask.again()


async def test_what_follows_an_event_that_the_answer_does_not_have_is_stored(stage: Stage) -> None:
    """A monitor tells in the middle of a batch what none of its entries is."""
    ask = Asking(stage, ahead=True)
    cash, sales = await stage.accounts("asset", "revenue")
    await stage.run(CreateMonitor(subject="account", subject_id=cash, field="posted", operator="gt", value=2))
    start = await head(stage)
    await ask(PostBatch(entries=(entry(cash, sales),) * 5))
    types = [each.type for each in (await stage.events())[start:]]
    assert types.index("balance.threshold_crossed") == 3
    first, body = (await kept(stage))["0"]
    assert (first, body.count(HOLE), body.count(b'"posted_at"')) == (start + 1, 3, 2)
    await ask.again()


async def test_other_sites_events_are_not_taken_for_it(stage: Stage) -> None:
    """Two sites' feeds have the same sequences."""
    other = await make_stage(stage.database, OTHER)
    for each in (stage, other):
        ask = Asking(each, ahead=True)
        cash, sales = await each.accounts("asset", "revenue")
        await ask(entry(cash, sales))
        await ask.again()
    assert (await kept(stage))["0"] == (await kept(other))["0"]
