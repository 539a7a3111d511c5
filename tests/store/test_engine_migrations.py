"""Migrations from nothing give exactly the tables that the program speaks of, and running them again gives nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, MetaData, inspect, text

from engine.databases import Database
from gledger.migrations import Kind, pending, tables_of, upgrade, version_table
from tests.databases import DIALECTS, PostgresAddress, Templates, fresh_postgres, fresh_sqlite

KINDS: tuple[Kind, ...] = ("site", "control")


@pytest.fixture(params=[(kind, dialect) for kind in KINDS for dialect in DIALECTS], ids="-".join)
async def migrated(
    request: pytest.FixtureRequest, templates: Templates, tmp_path: Path, postgres_with_roles: PostgresAddress
) -> AsyncIterator[tuple[Kind, str]]:
    """A database of a kind, from its migrations, and its URL for the owner."""
    kind, dialect = request.param
    async with AsyncExitStack() as stack:
        if dialect == "sqlite":
            yield kind, await fresh_sqlite(tmp_path, templates, kind)
        else:
            yield (
                kind,
                (await stack.enter_async_context(fresh_postgres(postgres_with_roles, templates, kind))).owner_url,
            )


def is_compared(kind: Kind) -> Any:
    """Return the filter that leaves out what no metadata speaks of: the version table and the partitions."""
    return lambda name, type_, _parents: (
        not (
            type_ == "table"
            and name is not None
            and (name == version_table(kind) or name.startswith("idempotency_keys_"))
        )
    )


def differences(conn: Connection, kind: Kind) -> list[Any]:
    """Return what a new migration would have to do."""
    merged = MetaData()
    for each in tables_of(kind):
        for table in each.tables.values():
            table.to_metadata(merged)
    options = {"include_name": is_compared(kind), "compare_type": True, "compare_server_default": True}
    return list(compare_metadata(MigrationContext.configure(conn, opts=options), merged))


async def test_migrated_database_equals_the_metadata(migrated: tuple[Kind, str]) -> None:
    """Tables, columns, types, keys, indexes: a difference is a migration that somebody forgot."""
    kind, url = migrated
    database = Database.open(url)
    try:
        assert await database.read(lambda conn: differences(conn, kind)) == []
        tables = await database.read(lambda conn: set(inspect(conn).get_table_names()))
    finally:
        await database.close()
    assert {name for each in tables_of(kind) for name in each.tables} <= tables


async def test_comparison_would_notice(migrated: tuple[Kind, str]) -> None:
    """A table that is not in the metadata is a difference: the test above can fail."""
    kind, url = migrated
    database = Database.open(url)
    try:
        await database.write(lambda conn: conn.execute(text("CREATE TABLE forgotten (id int)")))
        assert [change[0] for change in await database.read(lambda conn: differences(conn, kind))] == ["remove_table"]
    finally:
        await database.close()


async def test_upgrading_again_changes_nothing(migrated: tuple[Kind, str]) -> None:
    """Twice more: nothing is pending, nothing is different."""
    kind, url = migrated
    for _ in range(2):
        await asyncio.to_thread(upgrade, url, kind)
    assert await asyncio.to_thread(pending, url, kind) == []


async def test_fresh_database_is_told_what_is_pending(tmp_path: Path) -> None:
    """The names of the migrations it has not seen, then none."""
    url = f"sqlite+aiosqlite:///{tmp_path / 'new.sqlite3'}"
    assert await asyncio.to_thread(pending, url, "site") != []
    await asyncio.to_thread(upgrade, url, "site")
    assert await asyncio.to_thread(pending, url, "site") == []
