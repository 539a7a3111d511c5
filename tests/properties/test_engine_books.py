"""Any sequence of commands, against the oracle: the engine's own batch on both databases, and the audit after every step."""

from __future__ import annotations

import asyncio
import itertools
import sqlite3
import tempfile
from collections.abc import AsyncIterator
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test
from sqlalchemy import create_engine, event
from sqlalchemy.pool import StaticPool

from engine.databases import Database, Site
from gledger.migrations import upgrade
from tests.databases import PostgresDatabase
from tests.properties.model import BooksMachine, EntriesMachine, GroupsMachine, HoldsMachine
from tests.store.engine_stage import SITE

MACHINES = (EntriesMachine, HoldsMachine, GroupsMachine)
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

            super().__init__(transact, SITE)

        def teardown(self) -> None:
            self.engine.dispose()

    return InMemory


def any_order(examples: int, steps: int) -> settings:
    """Return how many runs of how many steps."""
    return settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        print_blob=True,
    )


@pytest.mark.parametrize("kind", MACHINES)
def test_the_books_are_those_of_the_oracle_on_sqlite(kind: type[BooksMachine]) -> None:
    """Whatever is done in whatever order."""
    run_state_machine_as_test(in_memory(kind), settings=any_order(15, 25))


@pytest.fixture
async def transact(postgres_database: PostgresDatabase) -> AsyncIterator[tuple[asyncio.AbstractEventLoop, Database]]:
    """A PostgreSQL database as the program has it, and the loop that runs what it does."""
    database = Database.open(postgres_database.runtime_url)
    yield asyncio.get_running_loop(), database
    await database.close()


@pytest.mark.parametrize("kind", MACHINES)
def test_the_books_are_those_of_the_oracle_on_postgresql(
    transact: tuple[asyncio.AbstractEventLoop, Database], kind: type[BooksMachine]
) -> None:
    """Every run on a site of its own, in one database that fills with the others."""
    loop, database = transact

    class Stored(kind):  # type: ignore[misc,valid-type]
        """The machine on that database."""

        def __init__(self) -> None:
            site = Site(id=next(_SITES), organization="acme-corp", environment="sandbox")
            super().__init__(lambda run: loop.run_until_complete(database.write(run, site_id=site.id)), site)

    run_state_machine_as_test(Stored, settings=any_order(4, 15))
