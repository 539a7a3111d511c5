"""Bringing a database to the newest schema: one line of migrations for sites, one for the control database.

SQLite files are migrated by the standard library's driver, PostgreSQL by asyncpg as the role that owns the tables.
"""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any, Final, Literal

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, MetaData, create_engine
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from auth.schema import control
from delivery.schema import metadata as delivery_metadata
from engine.schema import metadata as engine_metadata

Kind = Literal["site", "control"]

_FOLDER: Final = Path(__file__).parent
# One lock for all who migrate the same PostgreSQL database: the second waits, and finds nothing left to do.
_LOCK: Final = 0x676C6564676572
# Alembic keeps what it works on in module globals: one upgrade at a time in a process.
_TURN: Final = threading.Lock()


def tables_of(kind: Kind) -> list[MetaData]:
    """Return the metadata that a migrated database of this kind must equal."""
    return [engine_metadata, delivery_metadata] if kind == "site" else [control]


def version_table(kind: Kind) -> str:
    """Return the table that holds how far a database was migrated; both kinds may share one database."""
    return f"alembic_version_{kind}"


def upgrade(url: str, kind: Kind) -> None:
    """Bring the database to the newest schema; doing it again changes nothing."""
    with _TURN:
        _run(url, lambda connection: command.upgrade(_config(kind, connection), "head"))


def pending(url: str, kind: Kind) -> list[str]:
    """Return the migrations that the database has not seen, the oldest first."""
    found: list[str] = []

    def look(connection: Connection) -> None:
        context = MigrationContext.configure(connection, opts={"version_table": version_table(kind)})
        present = context.get_current_revision()
        script = ScriptDirectory.from_config(_config(kind, connection))
        found.extend(each.revision for each in script.iterate_revisions("head", present or "base"))

    _run(url, look)
    return found[::-1]


def _config(kind: Kind, connection: Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", str(_FOLDER / kind))
    config.attributes["connection"] = connection
    config.attributes["kind"] = kind
    return config


def _run(url: str, act: Any) -> None:
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        engine = create_engine(parsed.set(drivername="sqlite"), poolclass=NullPool)
        with engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA journal_mode=WAL")
            act(connection)
            connection.commit()
        engine.dispose()
        return
    asyncio.run(_run_postgresql(parsed.set(drivername="postgresql+asyncpg"), act))


async def _run_postgresql(url: Any, act: Any) -> None:
    engine = create_async_engine(url, poolclass=NullPool)
    async with engine.begin() as connection:
        await connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK})")
        await connection.run_sync(act)
    await engine.dispose()
