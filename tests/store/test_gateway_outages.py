"""A site's database goes away under its streams: they wait for it, the other feeds of a connection go on, and nothing is missing."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import cast

import pytest
from structlog.testing import capture_logs

from engine.databases import Database, Databases, Site
from engine.ledger import Engine
from gateway.sse import EventStream, Feed
from gateway.starting import PLACES, start_of
from gateway.tailers import Tailers
from tests.databases import PostgresAddress, PostgresDatabase, Templates, fresh_sqlite, owner_connection
from tests.store.engine_stage import OTHER, SITE, Stage, entry, make_stage
from tests.stream_services import follower, stream_services


class Placed(Databases):
    """Every site has a database of its own."""

    def __init__(self, placed: dict[Site, Database]) -> None:
        super().__init__("", lambda _url: None)
        self._placed = placed

    async def of(self, site: Site) -> Database:
        """Return the site's."""
        return self._placed[site]


@pytest.fixture(autouse=True)
def logs() -> Iterator[None]:
    """What is logged, kept instead of printed."""
    with capture_logs():
        yield


@pytest.fixture
async def stages(
    postgres_database: PostgresDatabase, templates: Templates, tmp_path: Path
) -> AsyncIterator[dict[Site, Stage]]:
    """Two sites with events, each in a database of its own."""
    databases = {
        SITE: Database.open(postgres_database.runtime_url),
        OTHER: Database.open(await fresh_sqlite(tmp_path, templates, "site")),
    }
    made: dict[Site, Stage] = {}
    for site, database in databases.items():
        made[site] = stage = await make_stage(database, site)
        cash, sales = await stage.accounts("asset", "revenue")
        for _ in range(3):
            await stage.run(entry(cash, sales))
    yield made
    for database in databases.values():
        await database.close()


async def go_away(server: PostgresAddress, database: PostgresDatabase, *, back: bool = False) -> None:
    """Let nobody connect to a database and end who is, or let them connect again."""
    async with owner_connection(server) as owner:
        await owner.execute(f"ALTER DATABASE {database.name} CONNECTION LIMIT {-1 if back else 0}")
        if not back:
            await owner.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", database.name
            )


async def read_events(blocks: AsyncGenerator[bytes, None], count: int) -> list[tuple[str, bytes]]:
    """Return the next events, each with the id of its block; a stream that ends before is a failure."""
    found: list[tuple[str, bytes]] = []
    async for written in blocks:
        for block in written.rstrip(b"\n").split(b"\n\n"):
            fields = dict(line.split(b": ", 1) for line in block.split(b"\n"))
            assert fields[b"event"] != b"closing", block
            if b"." in fields[b"event"]:
                found.append((fields[b"id"].decode(), fields[b"data"]))
        if len(found) >= count:
            return found
    raise AssertionError("the stream ended")


@pytest.mark.parametrize("several", [False, True])
async def test_a_stream_waits_for_a_feed_that_is_away(
    stages: dict[Site, Stage], postgres_with_roles: PostgresAddress, postgres_database: PostgresDatabase, several: bool
) -> None:
    """What is behind reads nothing while the database is away, the feed beside it is whole meanwhile, then it goes on where it was."""
    clock = stages[SITE].clock
    engine = Engine(
        Placed({site: stage.database for site, stage in stages.items()}), clock, stages[SITE].ids, lambda *_: None
    )
    tailers = Tailers(engine, clock)
    services = stream_services(engine, tailers, clock)
    sites = [SITE, OTHER] if several else [SITE]
    feeds = [
        Feed(
            principal=follower(site, site.organization, clock.now_us() + 600_000_000),
            start=await start_of(services, site, None, "start", None),
            wanted=None,
            name=f"{site.organization}.{site.environment}",
        )
        for site in sites
    ]
    expected = {site: [event.body for event in await stages[site].events()] for site in sites}
    await go_away(postgres_with_roles, postgres_database)
    body = cast("AsyncGenerator[bytes, None]", EventStream(services, feeds).body_iterator)
    async with aclosing(body) as blocks:
        if several:
            others = await read_events(blocks, len(expected[OTHER]))
            assert [event for _, event in others] == expected[OTHER]
            assert {each.split(PLACES)[0] for each, _ in others} == {feeds[0].start.cursor}
        else:
            assert b"event: ready" in await anext(blocks)
        await go_away(postgres_with_roles, postgres_database, back=True)
        assert [event for _, event in await read_events(blocks, len(expected[SITE]))] == expected[SITE]
    await tailers.close()
