"""Idempotency keys: the first answer again, for as long as it is promised, and never a second effect."""

from __future__ import annotations

import pytest

from engine import idempotency
from engine.commands import UpdateLedger
from engine.databases import Database
from engine.errors import IdempotencyKeyReused, InsufficientFunds
from engine.idempotency import RETENTION_DAYS_MAX
from engine.ledger import Limits
from engine.schema import IDEMPOTENCY_SLOTS, idempotency_keys
from tests.fakes.clock import START_US
from tests.store.engine_stage import OTHER, Stage, count_of, entry, key, make_stage, outcomes

DAY_S = 86_400
DAY_US = DAY_S * 1_000_000


@pytest.fixture
async def stage(site_database: Database) -> Stage:
    """A site with one ledger."""
    return await make_stage(site_database)


async def test_same_key_and_request_get_the_first_answer_again(stage: Stage) -> None:
    """To the byte, whatever happened in between; nothing is posted a second time."""
    cash, sales = await stage.accounts("asset", "revenue")
    first = await stage.submit(entry(cash, sales, 5), key("k"))
    await stage.submit(entry(cash, sales, 7))
    before = await stage.rows()
    again = await stage.submit(entry(cash, sales, 5), key("k"))
    assert (again.body, again.resource_id, again.lock_version) == (first.body, first.resource_id, first.lock_version)
    assert (first.replayed, again.replayed) == (False, True)
    assert await stage.rows() == before


async def test_same_key_with_another_request_is_refused(stage: Stage) -> None:
    """Whether the first one is from before or from the same batch."""
    cash, sales = await stage.accounts("asset", "revenue")
    answers = await outcomes(
        stage.submit(entry(cash, sales, 5), key("k", "five")),
        stage.submit(entry(cash, sales, 6), key("k", "six")),
    )
    assert isinstance(answers[1], IdempotencyKeyReused)
    with pytest.raises(IdempotencyKeyReused):
        await stage.submit(entry(cash, sales, 6), key("k", "six"))
    assert await stage.posted(cash) == 5


async def test_many_with_one_key_at_once_post_once(stage: Stage) -> None:
    """A storm of duplicates over several processes: one effect, one answer for all."""
    cash, sales = await stage.accounts("asset", "revenue")
    engines = [stage.engine, stage.another(), stage.another()]
    answers = await outcomes(
        *(engines[number % 3].submit(stage.site, entry(cash, sales, 5), key=key("k")) for number in range(30)),
    )
    told = [each for each in answers if not isinstance(each, BaseException)]
    assert len(told) == 30
    assert len({each.body for each in told}) == 1
    assert sum(not each.replayed for each in told) == 1
    assert await stage.posted(cash) == 5


async def test_refusals_are_not_remembered(stage: Stage) -> None:
    """What was refused once may be accepted when things have changed, under the same key."""
    till, sales = await stage.account("asset", allow_negative=False), await stage.account("revenue")
    with pytest.raises(InsufficientFunds):
        await stage.submit(entry(sales, till, 5), key("k"))
    await stage.submit(entry(till, sales, 5))
    assert not (await stage.submit(entry(sales, till, 5), key("k"))).replayed


async def test_command_that_changed_nothing_is_remembered_too(stage: Stage) -> None:
    """It has an answer, if no event; later the same key still gives that answer."""
    first = await stage.submit(UpdateLedger(ledger_id=stage.ledger_id, name="Main"), key("k"))
    await stage.submit(UpdateLedger(ledger_id=stage.ledger_id, name="Other"))
    again = await stage.submit(UpdateLedger(ledger_id=stage.ledger_id, name="Main"), key("k"))
    assert (again.body, again.replayed) == (first.body, True)


async def test_key_belongs_to_its_site(stage: Stage) -> None:
    """Another site's same key is another key."""
    other = await make_stage(stage.database, OTHER)
    cash, sales = await stage.accounts("asset", "revenue")
    there, where = await other.accounts("asset", "revenue")
    await stage.submit(entry(cash, sales, 5), key("k"))
    assert not (await other.submit(entry(there, where, 6), key("k"))).replayed


@pytest.mark.parametrize("days", [1, 7, RETENTION_DAYS_MAX])
async def test_key_is_remembered_for_its_days_and_no_longer(stage: Stage, days: int) -> None:
    """Across every midnight between, to the microsecond; then it is a new key."""
    cash, sales = await stage.accounts("asset", "revenue")
    engine = stage.another(Limits(idempotency_days=days))
    stage.clock.advance(micros=DAY_US - START_US % DAY_US - 1)
    assert not (await engine.submit(stage.site, entry(cash, sales, 1), key=key("k"))).replayed
    for _ in range(days):
        stage.clock.advance(seconds=DAY_S)
        stage.clock.advance(micros=-1)
        assert (await engine.submit(stage.site, entry(cash, sales, 1), key=key("k"))).replayed
        stage.clock.advance(micros=1)
    assert not (await engine.submit(stage.site, entry(cash, sales, 1), key=key("k"))).replayed
    assert await stage.posted(cash) == 2


@pytest.mark.parametrize("days", [1, RETENTION_DAYS_MAX])
async def test_forgetting_removes_what_is_past_its_days_and_nothing_else(stage: Stage, days: int) -> None:
    """One key a day for three weeks and a daily sweep: the table holds what is still promised, and little more."""
    engine = stage.another(Limits(idempotency_days=days))
    rename = UpdateLedger(ledger_id=stage.ledger_id, name="Main")
    for day in range(21):
        await engine.submit(stage.site, rename, key=key(f"k{day}"))
        if day % IDEMPOTENCY_SLOTS == 0:
            # Its slot comes round again, and must have been emptied.
            assert not (await engine.submit(stage.site, rename, key=key("again"))).replayed
        await stage.write(lambda conn: idempotency.forget(conn, stage.site.id, stage.clock.now_us(), days))
        for age in range(min(day, days - 1) + 1):
            assert (await engine.submit(stage.site, rename, key=key(f"k{day - age}"))).replayed
        stage.clock.advance(seconds=DAY_S)
    assert await stage.read(count_of(idempotency_keys)) <= days + 3


async def test_forgetting_leaves_other_sites_alone(stage: Stage) -> None:
    """A site's sweep is its own."""
    other = await make_stage(stage.database, OTHER)
    for each in (stage, other):
        await each.submit(UpdateLedger(ledger_id=each.ledger_id, name="Main"), key("k"))
    later = stage.clock.now_us() + 9 * DAY_US
    assert await stage.write(lambda conn: idempotency.forget(conn, stage.site.id, later)) == 1
    assert await other.read(count_of(idempotency_keys)) == 1
