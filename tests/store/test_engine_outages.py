"""The connection to PostgreSQL dies at every moment of a transaction: the command happens once, and is answered."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator

import asyncpg
import pytest
from sqlalchemy.engine import make_url
from structlog.testing import capture_logs

from engine.commands import UpdateLedger
from engine.databases import Database
from engine.errors import Unavailable
from engine.ledger import Answered
from tests.databases import PostgresDatabase
from tests.store.engine_stage import SITE, Stage, entry, key, make_stage, until
from tests.store.severing import Wire

_HELD = 77_001


@pytest.fixture(autouse=True)
def logs() -> Iterator[None]:
    """What is logged, kept instead of printed."""
    with capture_logs():
        yield


@pytest.fixture
async def wire(postgres_database: PostgresDatabase) -> AsyncIterator[Wire]:
    """The way to the database, which a test cuts."""
    async with Wire(postgres_database.runtime_url) as made:
        yield made


@pytest.fixture
async def stage(wire: Wire) -> AsyncIterator[Stage]:
    """A site with one ledger, reached through the wire by few connections."""
    database = Database.open(wire.relayed_url, pool_size=1)
    yield await make_stage(database)
    await database.close()


@pytest.fixture
async def owner(postgres_database: PostgresDatabase) -> AsyncIterator[asyncpg.Connection]:
    """A session of the owner: it locks, looks and kills."""
    url = make_url(postgres_database.owner_url).set(drivername="postgresql").render_as_string(hide_password=False)
    connection = await asyncpg.connect(url)
    await connection.execute(f"SELECT set_config('gledger.site_id', '{SITE.id}', false)")
    yield connection
    await connection.close()


async def waits_for_a_lock(owner: asyncpg.Connection) -> int:
    """Wait until a session waits for a lock, and return its process id."""
    found: list[int] = []

    async def look() -> bool:
        # Within a transaction what was seen first is seen again.
        await owner.execute("SELECT pg_stat_clear_snapshot()")
        query = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        found.extend(row["pid"] for row in await owner.fetch(query))
        return bool(found)

    await until(look)
    return found[0]


async def check_posted_once(stage: Stage, cash: str, answers: list[bytes], amount: int) -> None:
    """Check that every answer stands for an entry that is there, once, and that the books are right."""
    assert len(set(answers)) == len(answers)
    assert await stage.posted(cash) == amount * len(answers)
    assert await stage.verify() is None


both_ways = pytest.mark.parametrize(("ahead", "last_word"), [(False, b"COMMIT"), (True, b"entry.posted")])
"""Behind the lock the commit is the last that the database hears of a batch; ahead of it the one statement that writes it."""


async def knows(stage: Stage, cash: str, sales: str, *, ahead: bool) -> None:
    """Let the stage's engine be one that decides this way, and has posted to these accounts already."""
    stage.engine = stage.another(ahead=ahead)
    await stage.submit(entry(cash, sales, 1))
    await stage.submit(entry(sales, cash, 1))


@both_ways
async def test_connection_cut_before_the_commit_is_sent(
    stage: Stage, wire: Wire, *, ahead: bool, last_word: bytes
) -> None:
    """The transaction is gone; it is run again."""
    cash, sales = await stage.accounts("asset", "revenue")
    await knows(stage, cash, sales, ahead=ahead)
    wire.cut_before = lambda chunk: last_word in chunk
    done = await asyncio.gather(*(stage.submit(entry(cash, sales, 5)) for _ in range(3)))
    assert wire.cut_before is None
    await check_posted_once(stage, cash, [each.body for each in done], 5)


@both_ways
async def test_connection_cut_after_the_commit_was_done(
    stage: Stage, wire: Wire, *, ahead: bool, last_word: bytes
) -> None:
    """The transaction happened and nobody was told: it is found, and not run again."""
    cash, sales = await stage.accounts("asset", "revenue")
    await knows(stage, cash, sales, ahead=ahead)
    wire.cut_after = lambda chunk: last_word in chunk
    told = len(stage.commits)
    done = await asyncio.gather(*(stage.submit(entry(cash, sales, 5)) for _ in range(3)))
    assert wire.cut_after is None
    await check_posted_once(stage, cash, [each.body for each in done], 5)
    assert len(stage.commits) == told + 1


async def test_reads_that_share_a_statement_share_its_fate(stage: Stage, wire: Wire) -> None:
    """All who asked are told that the database did not answer, and whoever comes next is answered."""
    cash = await stage.account("asset")
    assert await stage.posted(cash) == 0
    wire.cut_before = lambda _chunk: True
    found = await asyncio.gather(*(stage.engine.account(SITE, cash) for _ in range(5)), return_exceptions=True)
    assert wire.cut_before is None
    assert Counter(map(type, found)) >= Counter({Unavailable: 1})
    assert {type(each) for each in found} <= {Unavailable, Answered}
    assert await stage.posted(cash) == 0


@pytest.mark.parametrize("happened", [True, False])
async def test_connection_cut_while_the_next_batch_is_decided_on_top(
    stage: Stage, wire: Wire, owner: asyncpg.Connection, *, happened: bool
) -> None:
    """Whether the one before it happened or not: what was decided on it is posted after it, once."""
    cash, sales = await stage.accounts("asset", "revenue")
    await knows(stage, cash, sales, ahead=True)
    writer = stage.engine._writers[SITE.id]
    wire.cut_after = (lambda chunk: b"entry.posted" in chunk) if happened else None
    async with owner.transaction():
        await owner.execute("SELECT 1 FROM feeds FOR UPDATE")
        asked = [asyncio.ensure_future(stage.submit(entry(cash, sales, 5), key("first")))]
        pid = await waits_for_a_lock(owner)
        asked += [asyncio.ensure_future(stage.submit(entry(cash, sales, 5), key(f"{each}"))) for each in range(9)]
        # The second one asks for the first one's key.
        asked.append(asyncio.ensure_future(stage.submit(entry(cash, sales, 5), key("first"))))
        await until(lambda: len(writer._drafted) == 10)
        if not happened:
            await owner.execute("SELECT pg_terminate_backend($1)", pid)
    *done, again = await asyncio.gather(*asked)
    assert (again.body, again.replayed) == (done[0].body, True)
    assert (len({each.body for each in done}), await stage.posted(cash)) == (10, 50)
    assert await stage.verify() is None


async def test_command_without_an_event_survives_a_lost_commit(stage: Stage, wire: Wire) -> None:
    """It leaves only its key behind; asked again, the key has the answer."""
    wire.cut_after = lambda chunk: b"COMMIT" in chunk
    done = await stage.submit(UpdateLedger(ledger_id=stage.ledger_id, name="Main"), key("k"))
    assert wire.cut_after is None
    assert done.resource_id == stage.ledger_id
    assert (await stage.submit(UpdateLedger(ledger_id=stage.ledger_id, name="Main"), key("k"))).body == done.body


@pytest.mark.parametrize(("ahead", "cuts"), [(False, 8), (True, 6)])
async def test_connection_cut_at_every_message(stage: Stage, wire: Wire, *, ahead: bool, cuts: int) -> None:
    """Whatever was the last that arrived, or the last that was answered: once, and answered."""
    cash, sales = await stage.accounts("asset", "revenue")
    await knows(stage, cash, sales, ahead=ahead)
    answers: list[bytes] = []
    for answered in (False, True):
        for place in range(6):
            seen = iter(range(1_000))
            plan = lambda _chunk, place=place, seen=seen: next(seen) == place  # noqa: E731 - a cut is a question
            wire.cut_before, wire.cut_after = (None, plan) if answered else (plan, None)
            answers.append((await stage.submit(entry(cash, sales, 5), key(f"{answered}{place}"))).body)
    assert wire.cuts >= cuts
    wire.cut_before = wire.cut_after = None
    await check_posted_once(stage, cash, answers, 5)


async def test_session_killed_while_it_waits_for_the_lock(stage: Stage, owner: asyncpg.Connection) -> None:
    """An operator ends the backend; the batch is run again on another."""
    cash, sales = await stage.accounts("asset", "revenue")
    async with owner.transaction():
        await owner.execute("SELECT 1 FROM feeds FOR UPDATE")
        asked = [asyncio.ensure_future(stage.submit(entry(cash, sales, 5))) for _ in range(3)]
        pid = await waits_for_a_lock(owner)
        await owner.execute("SELECT pg_terminate_backend($1)", pid)
    done = await asyncio.gather(*asked)
    await check_posted_once(stage, cash, [each.body for each in done], 5)


@pytest.mark.parametrize("killed", [True, False])
async def test_session_killed_in_the_middle_of_its_commit(
    stage: Stage, owner: asyncpg.Connection, *, killed: bool
) -> None:
    """A commit that hangs and dies did not happen and is run again; one that only hangs is waited for."""
    cash, sales = await stage.accounts("asset", "revenue")
    await owner.execute(
        f"CREATE FUNCTION hang() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_advisory_xact_lock({_HELD}); "
        "RETURN NULL; END $$; CREATE CONSTRAINT TRIGGER hang AFTER INSERT ON events DEFERRABLE INITIALLY DEFERRED "
        "FOR EACH ROW EXECUTE FUNCTION hang()",
    )
    await owner.execute(f"SELECT pg_advisory_lock({_HELD})")
    asked = [asyncio.ensure_future(stage.submit(entry(cash, sales, 5))) for _ in range(3)]
    pid = await waits_for_a_lock(owner)
    if killed:
        await owner.execute("SELECT pg_terminate_backend($1)", pid)
    await owner.execute(f"SELECT pg_advisory_unlock({_HELD})")
    done = await asyncio.gather(*asked)
    await check_posted_once(stage, cash, [each.body for each in done], 5)


async def test_lock_held_for_a_second_delays_and_loses_nothing(stage: Stage, owner: asyncpg.Connection) -> None:
    """Everyone who came meanwhile is answered when it is free."""
    cash, sales = await stage.accounts("asset", "revenue")
    async with owner.transaction():
        await owner.execute("SELECT 1 FROM feeds FOR UPDATE")
        asked = [asyncio.ensure_future(stage.submit(entry(cash, sales, 5))) for _ in range(50)]
        freed = time.monotonic() + 1.0
        await until(lambda: time.monotonic() > freed)
        assert not any(each.done() for each in asked)
    done = await asyncio.gather(*asked)
    await check_posted_once(stage, cash, [each.body for each in done], 5)
