"""The feed under many writers at once: every reader sees 1, 2, 3, … in order, which an ordinary serial column cannot give."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import asyncpg
import pytest
from msgspec.structs import replace
from sqlalchemy.engine import make_url
from structlog.testing import capture_logs

from engine.databases import Database
from engine.ledger import Engine
from tests.databases import PostgresDatabase
from tests.store.engine_stage import OTHER, SITE, OneDatabase, Stage, entry, make_stage, outcomes

WRITERS = 4
READERS = 3
ROUNDS = 25


@pytest.fixture(autouse=True)
def logs() -> Iterator[None]:
    """What is logged, kept instead of printed."""
    with capture_logs():
        yield


@pytest.fixture
async def stage(postgres_database: PostgresDatabase) -> AsyncIterator[Stage]:
    """A site whose commits take a random while."""
    database = Database.open(postgres_database.runtime_url)
    made = await make_stage(database)
    async with connection_of(postgres_database.owner_url) as owner:
        await owner.execute(
            "CREATE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql AS $$ "
            "BEGIN PERFORM pg_sleep(random() * 0.01); RETURN NULL; END $$; "
            "CREATE CONSTRAINT TRIGGER dawdle AFTER INSERT ON events DEFERRABLE INITIALLY DEFERRED "
            "FOR EACH ROW EXECUTE FUNCTION dawdle()",
        )
    yield made
    await database.close()


class connection_of:  # noqa: N801 - read as a phrase
    """A session of its own for the time of a block."""

    def __init__(self, url: str) -> None:
        self._url = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)

    async def __aenter__(self) -> asyncpg.Connection:
        self._connection = await asyncpg.connect(self._url)
        return self._connection

    async def __aexit__(self, *_: object) -> None:
        await self._connection.close()


async def test_every_reader_sees_every_event_in_order(stage: Stage, postgres_database: PostgresDatabase) -> None:
    """Four processes write, some of it refused and some rolled back; three readers tail meanwhile."""
    cash, sales = await stage.accounts("asset", "revenue")
    pools = [Database.open(postgres_database.runtime_url, pool_size=2) for _ in range(WRITERS)]
    engines = [Engine(OneDatabase(pool), stage.clock, stage.ids, lambda *_: None) for pool in pools]
    good = entry(cash, sales, 1)
    refused = entry(cash, stage.ledger_id, 1)
    rolled_back = replace(good, lines=tuple(replace(each, amount=0) for each in good.lines))
    first = (await stage.engine.head(SITE)).sequence
    done = asyncio.Event()

    async def write(engine: Engine) -> int:
        made = 0
        for number in range(ROUNDS):
            command = (good, good, rolled_back, refused)[number % 4]
            [answer] = await outcomes(engine.submit(SITE, command))
            made += not isinstance(answer, BaseException)
        return made

    async def tail(engine: Engine) -> list[int]:
        seen: list[int] = []
        at = first
        while True:
            ended = done.is_set()
            events, _ = await engine.read_after(SITE, at, 7)
            seen += [event.sequence for event in events]
            if events:
                at = events[-1].sequence
            elif ended:
                return seen

    readers = [asyncio.ensure_future(tail(engines[number % WRITERS])) for number in range(READERS)]
    try:
        made = sum(await asyncio.gather(*(write(engine) for engine in engines for _ in range(2))))
        done.set()
        seen = await asyncio.gather(*readers)
    finally:
        for pool in pools:
            await pool.close()
    assert made >= WRITERS * 2 * ROUNDS // 2
    assert seen == [list(range(first + 1, first + made + 1))] * READERS
    assert await stage.verify() is None


async def test_serial_column_read_by_id_loses_events(postgres_database: PostgresDatabase) -> None:
    """The control: the same delays and rollbacks on a BIGSERIAL table, tailed by `id > last`, lose what commits late."""
    writers = WRITERS * 2
    done = asyncio.Event()

    async def write(number: int) -> int:
        made = 0
        async with connection_of(postgres_database.owner_url) as connection:
            for each in range(ROUNDS):
                transaction = connection.transaction()
                await transaction.start()
                await connection.execute("INSERT INTO plain DEFAULT VALUES")
                await connection.execute("SELECT pg_sleep(random() * 0.01)")
                if (number + each) % 4 == 2:
                    await transaction.rollback()
                else:
                    await transaction.commit()
                    made += 1
        return made

    async def tail() -> list[int]:
        seen: list[int] = []
        async with connection_of(postgres_database.owner_url) as connection:
            while True:
                ended = done.is_set()
                last = seen[-1] if seen else 0
                rows = await connection.fetch("SELECT id FROM plain WHERE id > $1 ORDER BY id LIMIT 7", last)
                seen += [row["id"] for row in rows]
                if ended and not rows:
                    return seen

    async with connection_of(postgres_database.owner_url) as owner:
        await owner.execute("CREATE TABLE plain (id bigserial PRIMARY KEY)")
    reading = asyncio.ensure_future(tail())
    made = sum(await asyncio.gather(*(write(number) for number in range(writers))))
    done.set()
    seen = await reading
    assert len(seen) < made, "the control found nothing: this workload proves nothing"


async def test_long_transaction_of_somebody_else_stalls_nothing(
    stage: Stage, postgres_database: PostgresDatabase
) -> None:
    """A writer that stays open on another site, with a transaction id older than everything after it."""
    cash, sales = await stage.accounts("asset", "revenue")
    other = await make_stage(stage.database, OTHER)
    async with connection_of(postgres_database.owner_url) as slow, slow.transaction():
        # The owner of a test server may be a superuser, whom no policy keeps to one site.
        await slow.execute("SELECT set_config('gledger.site_id', $1, true)", str(OTHER.id))
        await slow.execute("UPDATE feeds SET last_at = last_at WHERE site_id = $1", OTHER.id)
        await slow.execute("UPDATE ledgers SET name = 'slow' WHERE site_id = $1", OTHER.id)
        start = await stage.engine.head(SITE)
        for _ in range(3):
            await stage.submit(entry(cash, sales, 1))
        page = await stage.engine.events_after(SITE, start.cursor(), 10)
        assert [event.sequence for event in page.events] == [start.sequence + each for each in (1, 2, 3)]
    assert await other.verify() is not None  # the name changed behind the books' back, and is found
