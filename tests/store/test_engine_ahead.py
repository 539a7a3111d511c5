"""Batches decided ahead of the lock: the same books as behind it, and never on what is not true any more."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from sqlalchemy import Connection

from engine import feed
from engine import writer as writer_module
from engine.balances import Limit
from engine.batch import run_batch
from engine.clock import Clock
from engine.commands import (
    AcceptEntry,
    CaptureHold,
    Command,
    CreateHold,
    CreateLedger,
    PostBatch,
    UpdateAccount,
    UpdateLedger,
)
from engine.databases import Database, Site
from engine.entry_errors import LimitBroken, PeriodClosed
from engine.errors import DuplicateEntry, IdempotencyKeyReused, InsufficientFunds
from engine.fold import BatchResult, BatchRun, Submission
from engine.memory import Memories, Memory
from tests.fakes.clock import START_US, SequentialIds
from tests.store.engine_stage import SITE, Stage, entry, key, make_stage, outcomes, until

ROUNDS = 40


@pytest.fixture
async def stage(site_database: Database) -> Stage:
    """A site with one ledger."""
    return await make_stage(site_database)


@pytest.fixture
def behind_lock(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many commands each batch had that was decided behind the lock."""
    seen: list[int] = []

    def note(
        conn: Connection,
        run: BatchRun,
        submissions: Sequence[Submission],
        clock: Clock,
        memory: Memory,
        joining: Callable[[], Sequence[Submission]],
    ) -> BatchResult:
        result = run_batch(conn, run, submissions, clock, memory, joining)
        seen.append(len(result.outcomes))
        return result

    monkeypatch.setattr(writer_module, "run_batch", note)
    return seen


async def test_entries_on_known_accounts_take_no_look_at_the_books(stage: Stage, behind_lock: list[int]) -> None:
    """Who opened the accounts, or posted to them before, knows them."""
    cash, sales = await stage.accounts("asset", "revenue")
    behind_lock.clear()
    await asyncio.gather(*(stage.submit(entry(cash, sales, 1), key(f"{each}")) for each in range(20)))
    await stage.submit(PostBatch(entries=(entry(cash, sales, 1), entry(sales, cash, 1))))
    assert behind_lock == []
    assert (await stage.posted(cash), await stage.verify()) == (20, None)


async def test_account_that_is_not_known_is_read_once(stage: Stage, behind_lock: list[int]) -> None:
    """A process that has just started reads what it needs behind the lock, and knows it from then on; by its name too."""
    cash, sales = await stage.account("asset", external_id="cash"), await stage.account("revenue")
    started = stage.another()
    behind_lock.clear()
    for each in range(3):
        await started.submit(stage.site, entry("external_id:cash", sales, 1), key=key(f"{each}"))
    assert behind_lock == [1]
    assert await stage.posted(cash) == 3


async def test_two_processes_never_decide_on_each_others_past(stage: Stage) -> None:
    """Each remembers what the other has changed: nothing is posted twice, no funds are spent twice."""
    till, sales = await stage.account("asset", allow_negative=False), await stage.account("revenue")
    engines = [stage.another() for _ in range(3)]
    for engine in engines:
        await engine.submit(stage.site, entry(till, sales, 10))
    answers: list[Any] = []
    for number in range(ROUNDS):
        both = (engines[number % 3], engines[(number + 1) % 3])
        answers += await outcomes(
            *(
                each.submit(stage.site, entry(sales, till, 1), key=key(f"{number}-{place}-{more}"))
                for place, each in enumerate(both)
                for more in range(2)
            )
        )
    done = [each for each in answers if not isinstance(each, BaseException)]
    assert {type(each) for each in answers if isinstance(each, BaseException)} == {InsufficientFunds}
    assert (len(done), await stage.posted(till), await stage.verify()) == (30, 0, None)
    assert [each.sequence for each in await stage.events()] == list(range(1, len(await stage.events()) + 1))


async def test_what_another_process_took_is_not_there(stage: Stage) -> None:
    """Remembered funds that are gone: refused, though they were there when this process last looked."""
    till, sales = await stage.account("asset", allow_negative=False), await stage.account("revenue")
    await stage.submit(entry(till, sales, 10))
    await stage.another().submit(stage.site, entry(sales, till, 10))
    with pytest.raises(InsufficientFunds):
        await stage.submit(entry(sales, till, 1))


async def test_what_another_process_brought_is_there(stage: Stage) -> None:
    """Remembered funds that were too little: nobody is refused on a memory."""
    till, sales = await stage.account("asset", allow_negative=False), await stage.account("revenue")
    await stage.submit(entry(till, sales, 1))
    await stage.another().submit(stage.site, entry(till, sales, 10))
    await stage.submit(entry(sales, till, 11))
    assert await stage.posted(till) == 0


async def test_key_of_another_time_is_answered_as_it_was(stage: Stage) -> None:
    """The key is looked for in the statement that writes: the first answer again, alone or among new ones; once only."""
    cash, sales = await stage.accounts("asset", "revenue")
    first = await stage.another().submit(stage.site, entry(cash, sales, 5), key=key("k", "a"))
    await stage.submit(entry(cash, sales, 1))
    again, other, reused = await outcomes(
        stage.submit(entry(cash, sales, 5), key("k", "a")),
        stage.submit(entry(cash, sales, 2), key("other", "b")),
        stage.submit(entry(cash, sales, 2), key("k", "c")),
    )
    assert not isinstance(again, BaseException)
    assert not isinstance(other, BaseException)
    assert (again.body, again.replayed, other.replayed) == (first.body, True, False)
    assert isinstance(reused, IdempotencyKeyReused)
    assert await stage.posted(cash) == 8


async def test_external_id_that_is_taken_is_refused_and_the_others_go_through(stage: Stage) -> None:
    """Its index says so when the batch is written; the refusal names who holds it."""
    cash, sales = await stage.accounts("asset", "revenue")
    holder = await stage.submit(entry(cash, sales, 1, external_id="order-1"))
    answers = await outcomes(
        stage.submit(entry(cash, sales, 1, external_id="order-1")),
        stage.submit(entry(cash, sales, 1, external_id="order-2")),
        stage.submit(entry(cash, sales, 1)),
    )
    assert isinstance(answers[0], DuplicateEntry)
    assert str(holder.resource_id) in answers[0].detail
    assert await stage.posted(cash) == 3


@pytest.mark.parametrize(
    ("change", "refusal"),
    [
        (lambda ledger, _: UpdateLedger(ledger_id=ledger, closed_until=START_US + 60_000_000), PeriodClosed),
        (
            lambda _, account: UpdateAccount(
                account_id=account, limits=(Limit(balance="posted", at_least=None, at_most=5),)
            ),
            LimitBroken,
        ),
    ],
)
async def test_changed_rules_hold_for_what_is_remembered(
    stage: Stage, change: Callable[[str, str], Command], refusal: type[Exception]
) -> None:
    """Changed here or by another process: the next entry keeps to it."""
    for by_another in (False, True):
        cash, sales = await stage.accounts("asset", "revenue")
        await stage.submit(entry(cash, sales, 1, effective_at=START_US))
        stage.clock.advance(seconds=60)
        engine = stage.another() if by_another else stage.engine
        await engine.submit(stage.site, change(stage.ledger_id, cash))
        with pytest.raises(refusal):
            await stage.submit(entry(cash, sales, 10, effective_at=START_US))
        stage.ledger_id = (await stage.run(CreateLedger(name="Another")))["id"]


async def test_more_accounts_than_are_remembered(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was not used lately is forgotten, and read again: the books stay right."""
    monkeypatch.setattr(Memories, "open", lambda self: Memory(3, self.used))
    engine = stage.another()
    accounts = await stage.accounts(*["asset"] * 12)
    chance = random.Random(7)
    for _ in range(ROUNDS):
        debit, credit = chance.sample(accounts, 2)
        await engine.submit(stage.site, entry(debit, credit, 1))
    assert await stage.verify() is None


@pytest.fixture
def gate(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """What batches that were decided ahead wait for before they are written."""
    opened = asyncio.Event()
    write_once = stage.database.write_once

    async def written_later(run: Callable[[Connection], Any], *, site_id: int) -> Any:
        await opened.wait()
        return await write_once(run, site_id=site_id)

    monkeypatch.setattr(stage.database, "write_once", written_later)
    return opened


async def test_time_goes_on_while_a_batch_is_decided(stage: Stage, gate: asyncio.Event) -> None:
    """What comes later is later; who is refused last leaves no time behind."""
    till, sales = await stage.account("asset", allow_negative=False), await stage.account("revenue")
    writer = stage.engine._writers[stage.site.id]
    asked = [asyncio.ensure_future(stage.submit(entry(till, sales, 1)))]
    await until(lambda: writer._sent is not None)
    for number in range(3):
        asked.append(asyncio.ensure_future(stage.submit(entry(till, sales, 1))))
        await until(lambda number=number: len(writer._drafted) == number + 1)  # type: ignore[misc]
        stage.clock.advance(seconds=1)
    asked.append(asyncio.ensure_future(stage.submit(entry(sales, till, 9))))
    await until(lambda: len(writer._waiting) == 1)
    gate.set()
    answers = await asyncio.gather(*asked, return_exceptions=True)
    assert isinstance(answers[-1], InsufficientFunds)
    times = [each.created_at for each in await stage.events()][-4:]
    assert [later - times[0] for later in times] == [0, 0, 1_000_000, 2_000_000]
    assert (await stage.posted(till), await stage.verify()) == (4, None)


async def test_hold_whose_time_comes_while_a_batch_is_decided_expires_before_what_comes_after(
    stage: Stage, gate: asyncio.Event
) -> None:
    """What it reserved is free for the entry that came after it, and not for the one before."""
    till, sales = await stage.account("asset", allow_negative=False), await stage.account("revenue")
    writer = stage.engine._writers[stage.site.id]
    gate.set()
    await stage.submit(entry(till, sales, 11))
    reserved = entry(sales, till, 10, status="pending", held=True)
    await stage.submit(CreateHold(entry=reserved, expires_at=stage.clock.now_us() + 5_000_000))
    gate.clear()
    first = asyncio.ensure_future(stage.submit(entry(till, sales, 1)))
    await until(lambda: writer._sent is not None)
    stage.clock.advance(seconds=6)
    after = asyncio.ensure_future(stage.submit(entry(sales, till, 12)))
    await until(lambda: len(writer._waiting) == 1)
    gate.set()
    await asyncio.gather(first, after)
    assert (await stage.posted(till), await stage.verify()) == (0, None)


async def test_nothing_stands_of_what_was_decided_on_a_batch_that_came_too_late(
    stage: Stage, gate: asyncio.Event, behind_lock: list[int]
) -> None:
    """Another process wrote before it: both batches are decided again, on what is true."""
    till, sales = await stage.account("asset", allow_negative=False), await stage.account("revenue")
    gate.set()
    await stage.submit(entry(till, sales, 11))
    gate.clear()
    writer, behind_lock[:] = stage.engine._writers[stage.site.id], []
    first = asyncio.ensure_future(stage.submit(entry(till, sales, 1), key("first")))
    await until(lambda: writer._sent is not None)
    rest = [asyncio.ensure_future(stage.submit(entry(sales, till, 5), key(f"{each}"))) for each in range(2)]
    await until(lambda: len(writer._drafted) == 2)
    taken = stage.another(ahead=False)
    await taken.submit(stage.site, entry(sales, till, 11))
    gate.set()
    answers = await asyncio.gather(first, *rest, return_exceptions=True)
    assert [type(each) for each in answers[1:]] == [InsufficientFunds] * 2
    assert behind_lock == [1, 3]
    assert (await stage.posted(till), await stage.verify()) == (1, None)


async def test_both_ways_come_to_the_same(site_database: Database) -> None:
    """The same commands in the same batches, behind the lock and ahead of it: every row, every byte but the site's own."""
    books = []
    for ahead, number in ((False, 101), (True, 102)):
        stage = await _told(
            site_database, Site(id=number, organization=SITE.organization, environment=SITE.environment), ahead=ahead
        )
        rows = await stage.rows()
        assert await stage.verify() is None
        books.append(
            {
                table: [_without_site(table, row) for row in found if row[0] == stage.site.id]
                for table, found in rows.items()
            }
        )
    assert books[0] == books[1]
    assert len(books[0]["entries"]) > ROUNDS


async def _told(database: Database, site: Site, *, ahead: bool) -> Stage:
    """Return a site after a story that every run tells alike."""
    stage = Stage(database, site)
    stage.ids = SequentialIds()  # type: ignore[assignment]
    stage.engine = stage.another(ahead=ahead)
    chance = random.Random(42)
    await stage.write(lambda conn: _create(conn, site, stage.clock.now_us()))
    stage.ledger_id = (await stage.run(CreateLedger(name="Main")))["id"]
    accounts = [
        await stage.account(kind, external_id=f"account-{number}")
        for number, kind in enumerate(["asset", "revenue", "liability", "asset", "expense", "asset"])
    ]
    holds: list[str] = []
    for number in range(ROUNDS):
        stage.clock.advance(micros=chance.randint(1, 5_000))
        batch = [_command(chance, accounts, holds, f"{number}-{each}") for each in range(chance.randint(1, 9))]
        answers = await outcomes(
            *(stage.submit(each, key(f"key-{number}-{place}")) for place, each in enumerate(batch))
        )
        for asked, answer in zip(batch, answers, strict=True):
            if isinstance(asked, CreateHold) and not isinstance(answer, BaseException):
                holds.append(str(answer.resource_id))
    return stage


def _command(chance: random.Random, accounts: Sequence[str], holds: list[str], name: str) -> Command:
    debit, credit = chance.sample(accounts, 2)
    amount = chance.randint(1, 100)
    plain = entry(debit, credit, amount, external_id=chance.choice([None, name]), metadata={"name": name})
    match chance.randint(0, 9):
        case 0:
            return CreateHold(entry=entry(debit, credit, amount, status="pending", held=True))
        case 1 if holds:
            return CaptureHold(hold_id=chance.choice(holds), amount=1)
        case 2:
            return AcceptEntry(entry=plain)
        case 3:
            return PostBatch(entries=(plain, entry(credit, debit, 1)), mode=chance.choice(["atomic", "independent"]))
        case 4:
            return UpdateAccount(account_id=debit, name=name)
        case 5:
            return entry("external_id:account-1", credit, amount, status=chance.choice(["posted", "pending"]))
        case _:
            return plain


def _create(conn: Connection, site: Site, now_us: int) -> None:
    feed.create_site(conn, site, "e1", now_us)


def _without_site(table: str, row: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return a row without what differs from site to site: its number, and the hashes that start from it."""
    return tuple(
        each for each in row[1:] if not (isinstance(each, bytes) and len(each) == 32 and table in {"feeds", "events"})
    )
