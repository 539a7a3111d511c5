"""What was decided ahead of the lock was answered though only what is written is fenced; keys were missed at midnight."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import Connection, text

from engine import writer as writer_module
from engine.batch import run_batch
from engine.commands import AcceptEntry, PostBatch, PostEntry, ReverseEntry, UpdateLedger
from engine.databases import Database
from engine.entry_errors import PeriodClosed
from engine.errors import DuplicateEntry, IdempotencyKeyReused
from engine.events import Diagnostics
from engine.fold import BatchRun, Submission
from tests.databases import PostgresDatabase
from tests.fakes.clock import START_US, FakeClock
from tests.store.engine_stage import Stage, entry, key, line, make_stage, outcomes, until

_DAY_US = 86_400_000_000
_WAITING = text("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'")
both_ways = pytest.mark.parametrize("ahead", [False, True])


@pytest.fixture
async def stage(site_database: Database) -> Stage:
    """A site with one ledger."""
    return await make_stage(site_database)


@both_ways
async def test_retry_of_a_payment_is_answered_as_the_payment_was(stage: Stage, *, ahead: bool) -> None:
    """Though the funds are gone by then, and others in the batch are posted."""
    engine = stage.another(ahead=ahead)
    till, sales = await stage.account("asset", allow_negative=False), await stage.account("revenue")
    await engine.submit(stage.site, entry(till, sales, 10))
    pay = entry(sales, till, 10)
    first = await engine.submit(stage.site, pay, key=key("pay", "r"))
    again, _ = await outcomes(
        engine.submit(stage.site, pay, key=key("pay", "r")),
        engine.submit(stage.site, entry(till, sales, 1), key=key("other")),
    )
    assert not isinstance(again, BaseException)
    assert (again.body, again.replayed) == (first.body, True)


@both_ways
async def test_retry_of_an_entry_that_demands_a_version_is_answered_as_it_was(stage: Stage, *, ahead: bool) -> None:
    """Its own success has moved the version on."""
    engine = stage.another(ahead=ahead)
    cash, sales = await stage.accounts("asset", "revenue")
    await engine.submit(stage.site, entry(cash, sales, 10))
    pay = PostEntry(lines=(line(cash, "debit", 5, lock_version=2), line(sales, "credit", 5)))
    first = await engine.submit(stage.site, pay, key=key("pay", "r"))
    again, _ = await outcomes(
        engine.submit(stage.site, pay, key=key("pay", "r")),
        engine.submit(stage.site, entry(cash, sales, 1), key=key("other")),
    )
    assert not isinstance(again, BaseException)
    assert (again.body, again.replayed) == (first.body, True)


@both_ways
async def test_key_of_another_request_is_named_before_any_other_reason(stage: Stage, *, ahead: bool) -> None:
    """The funds would not suffice either."""
    engine = stage.another(ahead=ahead)
    till, sales = await stage.account("asset", allow_negative=False), await stage.account("revenue")
    await engine.submit(stage.site, entry(till, sales, 10), key=key("k", "a"))
    again, _ = await outcomes(
        engine.submit(stage.site, entry(sales, till, 100), key=key("k", "b")),
        engine.submit(stage.site, entry(till, sales, 1), key=key("other")),
    )
    assert isinstance(again, IdempotencyKeyReused)


@both_ways
async def test_external_id_that_is_taken_is_named_before_funds_that_are_gone(stage: Stage, *, ahead: bool) -> None:
    """Whoever sent it learns that it is there, alone and as an item of a batch."""
    engine = stage.another(ahead=ahead)
    till, sales = await stage.account("asset", allow_negative=False), await stage.account("revenue")
    await engine.submit(stage.site, entry(till, sales, 10))
    paid = entry(sales, till, 10, external_id="order-1")
    await engine.submit(stage.site, paid)
    again, _ = await outcomes(
        engine.submit(stage.site, paid),
        engine.submit(stage.site, entry(till, sales, 1)),
    )
    assert isinstance(again, DuplicateEntry)
    batch = PostBatch(mode="independent", entries=(paid, entry(till, sales, 1)))
    answer = await engine.submit(stage.site, batch)
    assert b"order-1" in answer.body.partition(b"committed")[0]


@both_ways
async def test_external_id_of_a_reversal_is_named_before_a_period_that_is_closed(stage: Stage, *, ahead: bool) -> None:
    """Also where what is reversed is an earlier item of the same batch."""
    engine = stage.another(ahead=ahead)
    cash, sales = await stage.accounts("asset", "revenue")
    await engine.submit(stage.site, entry(cash, sales, 1, external_id="taken"))
    stage.clock.advance(seconds=3600)
    closed_until = START_US + 1_800_000_000
    await engine.submit(stage.site, UpdateLedger(ledger_id=stage.ledger_id, closed_until=closed_until))
    back = ReverseEntry(entry_id="local:a", external_id="taken", effective_at=START_US)
    batch = PostBatch(entries=(entry(cash, sales, 1), back), names=("a", None), mode="independent")
    answer = await engine.submit(stage.site, batch)
    assert b"DuplicateEntry" in answer.body


async def test_period_is_closed_for_what_is_decided_on_accounts_that_are_known_already(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An entry of now brought the accounts without their ledger, and what came after it was dated back into a closed period."""
    cash, sales = await stage.accounts("asset", "revenue")
    stage.clock.advance(seconds=3600)
    await stage.run(UpdateLedger(ledger_id=stage.ledger_id, closed_until=START_US + 1_800_000_000))
    await stage.submit(entry(cash, sales, 1))
    monkeypatch.setattr(writer_module, "STEP_LINES_MAX", 1)
    earlier = entry(cash, sales, 7, effective_at=START_US)
    answers = await outcomes(
        *(stage.submit(each) for each in (entry(cash, sales, 1), entry(cash, sales, 1), earlier)),
        stage.submit(PostBatch(entries=(earlier,))),
        stage.submit(AcceptEntry(entry=earlier)),
    )
    assert [type(each) for each in answers[2:4]] == [PeriodClosed] * 2
    assert await stage.posted(cash) == 3


@both_ways
@pytest.mark.parametrize("over_midnight", [False, True])
async def test_key_that_is_recorded_without_an_event_is_seen_by_who_waits_for_the_lock(
    postgres_database: PostgresDatabase, *, over_midnight: bool, ahead: bool
) -> None:
    """It moves no head; on the other side of midnight it is not even found by its index."""
    database = Database.open(postgres_database.runtime_url)
    stage = await make_stage(database)
    stage.clock.advance(micros=_DAY_US - stage.clock.now_us() % _DAY_US - 1_000_000)
    till, sales = await stage.account("asset", allow_negative=False), await stage.account("revenue")
    engine = stage.another(ahead=ahead)
    await engine.submit(stage.site, entry(till, sales, 1))
    asked = PostBatch(mode="independent", entries=(entry(sales, till, 10),))
    run = BatchRun(site=stage.site, ids=stage.ids, idempotency_days=7)
    theirs = Submission(command=asked, key=key("k", "r"), diagnostics=Diagnostics())
    earlier = FakeClock(stage.clock.now_us())

    def waits(conn: Connection) -> bool:
        return bool(conn.execute(_WAITING).scalar_one())

    async with database._writer.begin() as connection:
        result = await connection.run_sync(
            database._inside, lambda conn: run_batch(conn, run, [theirs], earlier), stage.site.id
        )
        stage.clock.advance(seconds=2 if over_midnight else 0.5)
        waiting = asyncio.ensure_future(
            outcomes(
                engine.submit(stage.site, entry(till, sales, 20)),
                engine.submit(stage.site, asked, key=key("k", "r")),
            )
        )
        await until(lambda: database.read(waits))
    _, again = await waiting
    first = result.outcomes[0]
    posted = await stage.posted(till)
    kept = [row for row in (await stage.rows())["idempotency_keys"] if row[2] == "k"]
    await database.close()
    assert not isinstance(again, BaseException)
    assert not isinstance(first, BaseException)
    assert (again.replayed, again.body == first.body, posted, len(kept)) == (True, True, 21, 1)


@both_ways
async def test_key_that_was_recorded_tomorrow_is_found(stage: Stage, *, ahead: bool) -> None:
    """A clock stepped back over midnight, or another gateway's is behind."""
    stage.clock.advance(micros=_DAY_US - stage.clock.now_us() % _DAY_US - 1_000_000)
    engine = stage.another(ahead=ahead)
    till, sales = await stage.account("asset", allow_negative=False), await stage.account("revenue")
    asked = PostBatch(mode="independent", entries=(entry(sales, till, 10),))
    stage.clock.advance(seconds=1.05)
    first = await engine.submit(stage.site, asked, key=key("k", "r"))
    stage.clock.advance(seconds=-0.1)
    await engine.submit(stage.site, entry(till, sales, 20))
    again = await engine.submit(stage.site, asked, key=key("k", "r"))
    assert (again.replayed, again.body == first.body) == (True, True)
