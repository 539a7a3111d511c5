"""Any sequence of commands, against the oracle: on both databases, by every way to the books, and the audit after every step."""

from __future__ import annotations

import asyncio
import itertools
import sqlite3
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test
from sqlalchemy import create_engine, event
from sqlalchemy.pool import StaticPool

from engine import feed
from engine.databases import Database, Site
from engine.fold import BatchRun
from engine.memory import Memory
from gledger.migrations import upgrade
from tests.databases import DIALECTS, Dialect, PostgresAddress, Templates, open_fresh
from tests.fakes.clock import FakeClock, SequentialIds
from tests.properties.machines import MACHINES, EverythingMachine
from tests.properties.model import BooksMachine
from tests.properties.ways import Plain, Told, Way, Written
from tests.store.engine_stage import EPOCH, SITE, all_rows

WAYS = ("behind", "ahead")
"""What `Ground` begins beside the plain way."""
_SITES = itertools.count(100)


@cache
def migrated() -> bytes:
    """Return the bytes of a migrated, empty database."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "template.sqlite3"
        upgrade(f"sqlite:///{path}", "site")
        with sqlite3.connect(path) as source:
            source.execute("PRAGMA journal_mode=DELETE")
        source.close()
        return path.read_bytes()


def in_memory(kind: type[BooksMachine]) -> type[BooksMachine]:
    """Return the machine on a SQLite database in memory, fresh for every run."""

    class InMemory(kind):  # type: ignore[misc,valid-type]
        """The machine there."""

        def __init__(self) -> None:
            self.engine = create_engine(
                "sqlite://",
                poolclass=StaticPool,
                connect_args={"isolation_level": None},
                json_serializer=lambda value: msgspec.json.encode(value).decode(),
            )
            event.listen(self.engine, "connect", lambda connection, _record: connection.deserialize(migrated()))
            event.listen(self.engine, "begin", lambda conn: conn.exec_driver_sql("BEGIN"))

            def transact(run: Any) -> Any:
                with self.engine.begin() as conn:
                    return run(conn)

            def begin(run: BatchRun, clock: FakeClock) -> Way:
                transact(lambda conn: feed.create_site(conn, SITE, EPOCH, clock.now_us()))
                return Plain(transact, run, clock)

            super().__init__(begin, SITE)

        def teardown(self) -> None:
            self.engine.dispose()

    return InMemory


def run(machine: Any, examples: int, steps: int) -> None:
    """Run a machine so many times with so many steps each, in any order."""
    order = settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        print_blob=True,
    )
    run_state_machine_as_test(machine, settings=order)


@pytest.mark.parametrize("kind", MACHINES)
def test_the_books_are_those_of_the_oracle_on_sqlite(kind: type[BooksMachine]) -> None:
    """Whatever is done in whatever order."""
    run(in_memory(kind), examples=12, steps=30)


class Ground:
    """Two databases of one kind, and the loop that what is done there runs on."""

    def __init__(self, databases: list[Database]) -> None:
        self.loop = asyncio.get_running_loop()
        self.databases = databases

    def plain(self, run: BatchRun, clock: FakeClock, database: int = 0) -> Way:
        """Begin the plain way for a new site."""
        site_id, chosen = run.site.id, self.databases[database]
        self._create(run, clock, chosen)
        return Plain(lambda function: self.loop.run_until_complete(chosen.write(function, site_id=site_id)), run, clock)

    def behind(self, run: BatchRun, clock: FakeClock, database: int = 0) -> Way:
        """Begin the writer's way for a new site, every batch decided behind the site's lock."""
        return self._written(run, clock, database, None)

    def ahead(self, run: BatchRun, clock: FakeClock, database: int = 0) -> Way:
        """Begin the writer's way for a new site, batches decided ahead of the lock on what it remembers."""
        return self._written(run, clock, database, Memory())

    def _written(self, run: BatchRun, clock: FakeClock, database: int, memory: Memory | None) -> Way:
        self._create(run, clock, self.databases[database])
        return Written(self.loop, self.databases[database], run, clock, memory)

    def _create(self, run: BatchRun, clock: FakeClock, database: Database) -> None:
        made = database.write(lambda conn: feed.create_site(conn, run.site, EPOCH, clock.now_us()), site_id=run.site.id)
        self.loop.run_until_complete(made)


@pytest.fixture(params=DIALECTS)
async def ground(
    request: pytest.FixtureRequest, templates: Templates, tmp_path: Path, postgres_with_roles: PostgresAddress
) -> AsyncIterator[Ground]:
    """Two databases as the program has them: SQLite, and PostgreSQL."""
    dialect: Dialect = request.param
    async with AsyncExitStack() as stack:
        databases = []
        for name in ("one", "other"):
            (tmp_path / name).mkdir()
            opened = open_fresh(dialect, "site", templates, tmp_path / name, postgres_with_roles)
            databases.append(await stack.enter_async_context(opened))
        yield Ground(databases)


def new_site() -> Site:
    """Return a site of a run's own, in a database that fills with the others."""
    return Site(id=next(_SITES), organization="acme-corp", environment="sandbox")


@pytest.mark.parametrize("kind", MACHINES)
@pytest.mark.parametrize("ground", ["postgresql"], indirect=True)
def test_the_books_are_those_of_the_oracle_on_postgresql(ground: Ground, kind: type[BooksMachine]) -> None:
    """What the one database does otherwise than the other."""
    run(lambda: kind(ground.plain, new_site()), examples=3, steps=15)


@pytest.mark.parametrize("way", WAYS)
def test_the_writer_keeps_the_books_of_the_oracle(ground: Ground, way: str) -> None:
    """The way that requests take, with all that a machine can do."""
    run(lambda: EverythingMachine(getattr(ground, way), new_site()), examples=4, steps=20)


@pytest.mark.parametrize("way", WAYS)
def test_every_way_writes_the_same_rows(ground: Ground, way: str) -> None:
    """The same commands at the same times come to the same bytes, in every row of every table."""

    class Compared(EverythingMachine):
        """The machine on the plain way; in the end the other one is told what it did."""

        def __init__(self) -> None:
            super().__init__(lambda run, clock: Told(ground.plain(run, clock), clock), new_site())

        def teardown(self) -> None:
            assert isinstance(self.way, Told)
            clock = FakeClock()
            begun = BatchRun(site=self.site, ids=SequentialIds(), idempotency_days=7)
            other: Way = getattr(ground, way)(begun, clock, database=1)
            self.way.tell(other, clock)
            for table, rows in other.ask(all_rows).items():
                mine = [row for row in self.rows()[table] if row[0] == self.site.id]
                assert [row for row in rows if row[0] == self.site.id] == mine, table

    run(Compared, examples=4, steps=20)
