"""Holds over a real database: they expire without traffic, and every race for one has one winner."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

from engine import hold_queries
from engine.batch import EXPIRED_MAX
from engine.commands import CaptureHold, Command, CreateHold, ReleaseHold, Tend
from engine.databases import Database
from engine.entry_errors import HoldNotOpen
from engine.queries import Selection
from tests.store.engine_stage import SITE, Stage, entry, make_stage

HOUR_US = 3_600_000_000


@pytest.fixture
async def stage(site_database: Database) -> Stage:
    """A site with one ledger."""
    return await make_stage(site_database)


async def make_hold(stage: Stage, source: str, target: str, amount: int, expires_at: int | None = None) -> str:
    """Reserve an amount and return the hold's id."""
    held = entry(source, target, amount, status="pending", held=True)
    return str((await stage.run(CreateHold(entry=held, expires_at=expires_at)))["id"])


async def attempt(stage: Stage, engine: Any, command: Command) -> str:
    """Return `done`, or how the hold had ended."""
    try:
        await engine.submit(stage.site, command)
    except HoldNotOpen as refused:
        return refused.status
    return "done"


async def test_holds_expire_when_the_books_are_tended(stage: Stage) -> None:
    """Nobody needs to post anything; what is not due yet is what tending says comes next."""
    cash, sales = await stage.accounts("asset", "revenue")
    now = stage.clock.now_us()
    assert await stage.engine.tend(SITE) is None
    soon = await make_hold(stage, cash, sales, 5, now + HOUR_US)
    await make_hold(stage, cash, sales, 7, now + 2 * HOUR_US)
    assert await stage.engine.tend(SITE) == now + HOUR_US
    stage.clock.advance(seconds=3600)
    assert await stage.engine.tend(SITE) == now + 2 * HOUR_US
    found = (await stage.engine.ask(SITE, hold_queries.hold, soon)).value
    assert (found.status, found.lines[0].held) == ("expired", 0)
    assert (await stage.engine.account(SITE, cash)).value.balances.pending.amount == 7
    assert [event.type for event in (await stage.events())[-2:]] == ["entry.archived", "hold.expired"]
    assert await stage.verify() is None


async def test_every_batch_first_lets_expire_what_is_due(stage: Stage) -> None:
    """A posting of the same moment already has the funds."""
    cash = await stage.account("asset")
    wallet = await stage.account("liability", allow_negative=False)
    await stage.run(entry(cash, wallet, 10))
    await make_hold(stage, wallet, cash, 10, stage.clock.now_us() + HOUR_US)
    stage.clock.advance(seconds=3600)
    await stage.run(entry(wallet, cash, 10))
    assert [event.type for event in (await stage.events())[-3:]] == ["entry.archived", "hold.expired", "entry.posted"]


async def test_more_than_a_batch_expires_bounded_batch_by_batch(stage: Stage) -> None:
    """None is forgotten, and none is too late to be refused."""
    cash, sales = await stage.accounts("asset", "revenue")
    at = stage.clock.now_us() + HOUR_US
    held = entry(cash, sales, 1, status="pending", held=True)
    made = await asyncio.gather(
        *(stage.run(CreateHold(entry=held, expires_at=at)) for _ in range(EXPIRED_MAX + 20)),
    )
    stage.clock.advance(seconds=3600)
    await stage.submit(Tend())
    statuses = Counter(
        [(await stage.engine.ask(SITE, hold_queries.hold, each["id"])).value.status for each in made],
    )
    assert statuses == {"expired": EXPIRED_MAX, "open": 20}
    waiting = [each["id"] for each in made][-1]
    with pytest.raises(HoldNotOpen):
        await stage.submit(CaptureHold(hold_id=waiting))
    assert await stage.engine.tend(SITE) is None
    page = (await stage.engine.ask(SITE, hold_queries.list_holds, Selection(equals={"status": "open"}))).value
    assert page.items == []
    assert await stage.verify() is None


@pytest.mark.parametrize("late", [False, True])
async def test_race_for_a_hold_has_one_winner(stage: Stage, late: bool) -> None:
    """Capture, release, capture again, over two processes, and its expiry: the losers are told how it ended."""
    cash, sales = await stage.accounts("asset", "revenue")
    engines = [stage.engine, stage.another()]
    for _ in range(5):
        hold_id = await make_hold(stage, cash, sales, 5, stage.clock.now_us() + HOUR_US)
        if late:
            stage.clock.advance(seconds=3600)
        commands: list[Command] = [CaptureHold(hold_id=hold_id), ReleaseHold(hold_id=hold_id), Tend()] * 2
        outcomes = await asyncio.gather(
            *(attempt(stage, engines[index % 2], command) for index, command in enumerate(commands)),
        )
        ended = [one for one, command in zip(outcomes, commands, strict=True) if not isinstance(command, Tend)]
        status = (await stage.engine.ask(SITE, hold_queries.hold, hold_id)).value.status
        assert status in {"expired" if late else "captured", "released"}
        assert Counter(ended) == ({"expired": 4} if late else {"done": 1, status: 3})
    assert await stage.verify() is None


async def test_holds_are_listed_by_account_and_status(stage: Stage) -> None:
    """In pages, the newest first."""
    cash, sales, other = await stage.accounts("asset", "revenue", "revenue")
    mine = [await make_hold(stage, cash, sales, 1) for _ in range(3)]
    await make_hold(stage, cash, other, 1)
    await stage.run(ReleaseHold(hold_id=mine[0]))
    wanted = Selection(limit=1, equals={"status": "open"})
    first = (await stage.engine.ask(SITE, hold_queries.list_holds, wanted, sales)).value
    assert [each.id for each in first.items] == [mine[2]]
    wanted = Selection(limit=1, equals={"status": "open"}, cursor=first.next_cursor)
    second = (await stage.engine.ask(SITE, hold_queries.list_holds, wanted, sales)).value
    assert ([each.id for each in second.items], second.next_cursor) == ([mine[1]], None)
