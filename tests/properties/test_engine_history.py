"""Balances at any time against an oracle that adds up every line: backdated, future-dated, reserved, resolved; on both databases."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any, Final

import pytest
from sqlalchemy import select

from engine import history, queries, statements
from engine.balances import Balances, Totals, balances_of
from engine.commands import ArchiveEntry, Command, PostPending, UpdateAccount
from engine.databases import Database
from engine.history import Moment
from engine.money import format_instant
from engine.reports import intervals
from engine.schema import lines as lines_table
from engine.schema import span_parts
from engine.schema import spans as spans_table
from engine.spanning import SpanBuilder
from engine.statements import Stretch
from tests.store.engine_stage import OneDatabase, Stage, count_of, entry, make_spans_small, make_stage

HOUR: Final = 3_600_000_000
DAY: Final = 24 * HOUR


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """A line as its row tells it: the oracle knows nothing else."""

    version: int
    direction: str
    posted: int
    pending: int
    effective_at: int
    created_at: int


@pytest.fixture(autouse=True)
def small_spans(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a span of the lowest level cover four versions, and one above it two below."""
    make_spans_small(monkeypatch)


@pytest.fixture
async def stage(site_database: Database) -> Stage:
    """A site with one ledger."""
    return await make_stage(site_database)


async def drive(stage: Stage, random: Random, cash: str, other: str, steps: int, spread: int) -> None:
    """Post, reserve, resolve and rename, at times spread around the present."""
    pending: list[str] = []
    for _ in range(steps):
        now = stage.clock.advance(micros=random.choice((0, 1, 40 * 60_000_000)))
        at = random.choice((None, now + random.randrange(-spread, spread + 1), now - random.randrange(3)))
        pair = (cash, other) if random.random() < 0.7 else (other, cash)
        match random.randrange(6):
            case 0 if pending:
                held = pending.pop(random.randrange(len(pending)))
                command: Command = random.choice((PostPending, ArchiveEntry))(entry_id=held)
                await stage.run(command)
            case 1:
                done = await stage.run(entry(*pair, random.randrange(1, 50), status="pending", effective_at=at))
                pending.append(done["id"])
            case 2:
                await stage.run(UpdateAccount(account_id=cash, name=f"n{random.random()}"))
            case _:
                await stage.run(entry(*pair, random.randrange(1, 50), effective_at=at))


async def told(stage: Stage, account_id: str) -> list[Told]:
    """Return every line of an account."""
    query = select(lines_table).where(lines_table.c.account_id == account_id).order_by("account_lock_version")
    rows = await stage.read(lambda conn: conn.execute(query).mappings().all())
    return [
        Told(
            version=row["account_lock_version"],
            direction=row["direction"],
            posted=row["posted_moved"],
            pending=row["pending_moved"],
            effective_at=row["effective_at"],
            created_at=row["created_at"],
        )
        for row in rows
    ]


def added(found: list[Told], chosen: Callable[[Told], bool]) -> tuple[int, int, int, int]:
    """Add up the chosen lines."""
    sums = [0, 0, 0, 0]
    for line in found:
        if chosen(line):
            side = ("debit", "credit").index(line.direction)
            sums[side] += line.posted
            sums[side + 2] += line.pending
    return (sums[0], sums[1], sums[2], sums[3])


def before(at: int) -> Callable[[Told], bool]:
    """Return the choice of the lines that took effect before a time."""
    return lambda line: line.effective_at < at


def shown(sums: tuple[int, int, int, int]) -> Balances:
    """Return the sums as the balances of an account that is debit normal."""
    return balances_of(Totals(*sums, 0), "debit")


async def balance(stage: Stage, account_id: str, moment: Moment) -> Balances:
    """Ask for an account's balances at a moment."""
    found = (await stage.engine.ask(stage.site, statements.balance_at, account_id, moment)).value
    return Balances(found.posted, found.pending, found.available)


async def hold_against_oracle(stage: Stage, random: Random, account_id: str, checks: int) -> None:
    """Ask for many moments, times of lines and one microsecond beside them among those, and add up each by hand."""
    found = await told(stage, account_id)
    times = [line.effective_at for line in found] + [line.created_at for line in found]
    top = found[-1].version
    for _ in range(checks):
        at = random.choice(times) + random.choice((-1, 0, 1))
        known = random.choice(times) + random.choice((-1, 0, 1))
        version = random.randrange(1, top + 1)
        for moment, chosen in (
            (Moment(as_of=at), lambda line, at=at: line.effective_at <= at),
            (Moment(known_at=known), lambda line, known=known: line.created_at <= known),
            (Moment(version=version), lambda line, version=version: line.version <= version),
            (
                Moment(as_of=at, known_at=known),
                lambda line, at=at, known=known: line.effective_at <= at and line.created_at <= known,
            ),
            (
                Moment(as_of=at, version=version),
                lambda line, at=at, version=version: line.effective_at <= at and line.version <= version,
            ),
        ):
            assert await balance(stage, account_id, moment) == shown(added(found, chosen)), moment


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("spread", [0, 3, 30 * DAY])
async def test_balances_at_any_moment_are_what_the_lines_add_up_to(stage: Stage, seed: int, spread: int) -> None:
    """Without spans, with some, with all: in order, nearly in order, and in no order at all."""
    random = Random(seed)
    cash, other = await stage.accounts("asset", "asset")
    builder = SpanBuilder(OneDatabase(stage.database))
    for share in (0.2, 0.5, 0.3):
        await drive(stage, random, cash, other, int(60 * share), spread)
        await hold_against_oracle(stage, random, cash, 3)
        while await builder.run(stage.site):
            pass
        await hold_against_oracle(stage, random, cash, 6)
    assert await stage.read(count_of(spans_table)) > 10
    assert await stage.read(count_of(span_parts)) > 0 or not spread


@pytest.mark.parametrize("seed", range(3))
async def test_statements_show_every_line_of_their_time_once(stage: Stage, seed: int) -> None:
    """Page by page while others write: opening plus lines is closing, the running balances are those of the oracle."""
    random = Random(seed)
    cash, other = await stage.accounts("asset", "asset")
    await drive(stage, random, cash, other, 70, 2 * DAY if seed else 0)
    found = await told(stage, cash)
    ordered = sorted(found, key=lambda line: (line.effective_at, line.version))
    for _ in range(4):
        start, end = sorted(random.choice(found).effective_at + random.choice((0, 0, 1)) for _ in range(2))
        cursor, seen, pages = None, [], []
        end += 1
        while True:
            stretch = Stretch(start=start, end=end, limit=random.randrange(1, 9), cursor=cursor)
            page = (await stage.engine.ask(stage.site, statements.statement, cash, stretch, None)).value
            pages.append(page)
            seen += page.data
            cursor = page.next_cursor
            if cursor is None:
                break
            await stage.run(entry(cash, other, 5, effective_at=random.randrange(start, end)))
        within = [line for line in ordered if start <= line.effective_at < end]
        assert [each.account_lock_version for each in seen] == [line.version for line in within]
        for index, each in enumerate(seen):
            upto = ordered[: ordered.index(within[index]) + 1]
            assert each.balances == shown(added(upto, lambda _line: True))
        for page in pages:
            assert page.opening_balances == shown(added(found, before(start)))
            assert page.closing_balances == shown(added(found, before(end)))
        found = await told(stage, cash)
        ordered = sorted(found, key=lambda line: (line.effective_at, line.version))


async def test_statement_of_what_was_known_shows_nothing_that_came_later(stage: Stage) -> None:
    """A line booked today for last week is not on the statement that was known yesterday."""
    cash, other = await stage.accounts("asset", "asset")
    start = stage.clock.now_us()
    await stage.run(entry(cash, other, 5))
    yesterday = stage.clock.advance(seconds=60)
    stage.clock.advance(seconds=60)
    await stage.run(entry(cash, other, 7, effective_at=start + 1))
    stretch = Stretch(start=start, end=start + DAY)
    then, now = [
        (await stage.engine.ask(stage.site, statements.statement, cash, stretch, known_at)).value
        for known_at in (yesterday, None)
    ]
    assert [each.amount for each in then.data] == [5]
    assert [each.amount for each in now.data] == [5, 7]
    assert (then.closing_balances.posted.amount, now.closing_balances.posted.amount) == (5, 12)


@pytest.mark.parametrize("interval", ["hour", "day", "month"])
async def test_series_is_the_balance_at_the_end_of_every_interval(stage: Stage, interval: Any) -> None:
    """Whole intervals of UTC, in pages, the first and the last one touching the time that is asked for."""
    random = Random(5)
    cash, other = await stage.accounts("asset", "asset")
    await drive(stage, random, cash, other, 40, 3 * DAY)
    found = await told(stage, cash)
    start, end = min(line.effective_at for line in found), max(line.effective_at for line in found) + 1
    points, cursor = [], None
    while True:
        stretch = Stretch(start=start, end=end, limit=7, cursor=cursor)
        page = (await stage.engine.ask(stage.site, statements.balance_history, cash, interval, stretch, None)).value
        points += page.data
        cursor = page.next_cursor
        if cursor is None:
            break
    edges = list(intervals(interval, start, end))
    assert [(format_instant(low), format_instant(high)) for low, high in edges] == [
        (point.from_, point.to) for point in points
    ]
    assert edges[0][0] <= start < edges[0][1]
    assert edges[-1][0] < end <= edges[-1][1]
    for (_, high), point in zip(edges, points, strict=True):
        expected = shown(added(found, before(high)))
        assert Balances(point.posted, point.pending, point.available) == expected


async def test_trial_balance_agrees_at_any_time(stage: Stage) -> None:
    """In every currency debits are credits, at the end of the pages; later pages show what the first one knew."""
    random = Random(3)
    euros = await stage.accounts("asset", "asset", "asset")
    yen = [await stage.account("asset", "JPY") for _ in range(2)]
    for one, two in ((0, 1), (1, 2)):
        await drive(stage, random, euros[one], euros[two], 30, DAY)
    await drive(stage, random, yen[0], yen[1], 20, DAY)
    rows = {account_id: await told(stage, account_id) for account_id in (*euros, *yen)}
    times = [line.effective_at for found in rows.values() for line in found]
    for as_of in (None, *random.sample(times, 5)):
        data, cursor = [], None
        while True:
            page = (
                await stage.engine.ask(
                    stage.site, statements.trial_balance, stage.ledger_id, Moment(as_of=as_of), 2, cursor
                )
            ).value
            data += page.data
            cursor = page.next_cursor
            if cursor is None:
                break
            stage.clock.advance(micros=1)
            await stage.run(entry(euros[0], euros[1], 9, effective_at=times[0]))
        for row in data:
            upto = max(times) if as_of is None else as_of
            debits, credits_, _, _ = added(rows[row.account_id], before(upto + 1))
            assert (row.debits, row.credits) == (debits, credits_)
            assert row.debit_balance - row.credit_balance == debits - credits_
        assert [each.currency for each in page.sums] == ["EUR", "JPY"]
        assert all(each.debits == each.credits for each in page.sums)
        assert all(each.debit_balance == each.credit_balance for each in page.sums)
        rows = {account_id: await told(stage, account_id) for account_id in (*euros, *yen)}


async def test_totals_of_several_accounts_are_those_of_each(stage: Stage) -> None:
    """Those with few lines are asked for together, those with many one by one."""
    random = Random(8)
    large, other, small, empty = await stage.accounts("asset", "asset", "asset", "asset")
    await drive(stage, random, large, other, 40, DAY)
    await stage.run(entry(small, other, 4, effective_at=stage.clock.now_us() - HOUR))
    accounts = [large, other, small, empty]

    def ask(conn: Any) -> dict[str, tuple[Totals, Totals]]:
        present = {each: queries.account_row(conn, stage.site.id, each)[1] for each in accounts}
        moment = Moment(as_of=stage.clock.now_us() - HOUR, known_at=stage.clock.now_us())
        together = history.totals_of_several(conn, stage.site.id, present, moment)
        return {
            each: (together[each], history.totals_at(conn, stage.site.id, each, present[each], moment))
            for each in accounts
        }

    for one, other_way in (await stage.read(ask)).values():
        assert one[:4] == other_way[:4]


async def test_builders_that_run_at_once_make_the_same_spans(stage: Stage) -> None:
    """Two workers and one that starts from nothing: each span once, and nothing is wrong."""
    random = Random(4)
    cash, other = await stage.accounts("asset", "asset")
    await drive(stage, random, cash, other, 60, DAY)
    builders = [SpanBuilder(OneDatabase(stage.database)) for _ in range(3)]
    await asyncio.gather(*(builder.run(stage.site) for builder in builders))
    while await builders[0].run(stage.site):
        pass
    before = await stage.rows()
    await SpanBuilder(OneDatabase(stage.database)).extend(stage.site, cash)
    assert await stage.rows() == before
    await hold_against_oracle(stage, random, cash, 10)
