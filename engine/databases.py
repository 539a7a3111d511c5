"""Where a site's rows live: a site maps to a database, a database runs a function in one transaction.

SQLite: one file per site, exactly one connection that writes, readers that cannot. PostgreSQL: a pool, row-level
security by a transaction-local setting. The functions it runs are synchronous and speak SQLAlchemy Core; it knows none of
the tables.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

import asyncpg
import msgspec
from msgspec import Struct
from sqlalchemy import Connection, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry

T = TypeVar("T")

OPEN_FILES_MAX: Final = 256
_SET_SITE: Final = "SELECT set_config('gledger.site_id', '{:d}', true);"
_STAY_IN_SITE: Final = "SELECT set_config('gledger.site_id', $1, false)"
_SESSION_SETTINGS: Final = {
    "application_name": "gledger",
    "lock_timeout": "10s",
    "statement_timeout": "30s",
    "idle_in_transaction_session_timeout": "5s",
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
    # A fresh database's statistics say that every table is empty; a scan chosen on that word would stay cached.
    "plan_cache_mode": "force_custom_plan",
    "enable_seqscan": "off",
    "jit": "off",
}
# For statements that look up by whole keys alone: planning them again would cost more than running them.
_SINGLE_SETTINGS: Final = _SESSION_SETTINGS | {"plan_cache_mode": "force_generic_plan"}
_STAYS_IN: Final = "gledger.site_id"

# SQLSTATE classes: connection exception, insufficient resources, operator intervention, transaction rollback.
_OUTAGE_CLASSES: Final = frozenset({"08", "53", "57", "40"})
# SQLite's primary result codes: busy, locked, I/O error, disk full, cannot open.
_SQLITE_OUTAGES: Final = frozenset({5, 6, 10, 13, 14})
# Lock not available; idle-in-transaction session timeout.
_OUTAGE_STATES: Final = frozenset({"55P03", "25P03"})


class Site(Struct, frozen=True, kw_only=True):
    """One organization in one environment: the unit of isolation."""

    id: int
    organization: str
    environment: str


class Database:
    """One database: runs functions over a connection, each in a transaction of its own."""

    def __init__(
        self,
        dialect: Literal["sqlite", "postgresql"],
        writer: AsyncEngine,
        reader: AsyncEngine,
        single: AsyncEngine | None = None,
    ) -> None:
        """Use `Database.open`."""
        self.dialect: Final = dialect
        self._writer = writer
        self._reader = reader
        self._single = single
        # SQLite has one writing connection: whoever waits for it waits here, in order, without a timeout.
        self._turn = asyncio.Lock() if dialect == "sqlite" else None

    @classmethod
    def open(cls, url: str, *, writer: bool = True, pool_size: int = 10) -> Database:
        """Open a database by its SQLAlchemy URL; no connection is made yet.

        `writer=False` opens SQLite for reading only, for a process that does not own the file.
        """
        parsed = make_url(url)
        if parsed.get_backend_name() == "sqlite":
            read = _sqlite_engine(url, pool_size=4, query_only=True)
            return cls("sqlite", _sqlite_engine(url, pool_size=1, query_only=False) if writer else read, read)
        engine = _postgresql_engine(parsed, pool_size, pool_size, _SESSION_SETTINGS)
        reader = engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        single = _postgresql_engine(parsed, max(2, pool_size // 2), 0, _SINGLE_SETTINGS)
        return cls("postgresql", engine, reader, single.execution_options(isolation_level="AUTOCOMMIT"))

    async def read(self, run: Callable[[Connection], T], *, site_id: int | None = None) -> T:
        """Run a function that only reads, over one snapshot."""
        async with self._reader.connect() as connection:
            return await connection.run_sync(self._inside, run, site_id)

    async def write(self, run: Callable[[Connection], T], *, site_id: int | None = None) -> T:
        """Run a function in one transaction: committed when it returns, rolled back when it raises."""
        if self._turn is None:
            return await self._write(run, site_id)
        async with self._turn:
            return await self._write(run, site_id)

    async def write_once(self, run: Callable[[Connection], T], *, site_id: int) -> T:
        """Run a function that makes one statement, which is a transaction of its own: one journey instead of four.

        The statement has to be right whatever the statistics say: it is planned once for a connection. The connections stay in
        the site they were last used for.
        """
        if self._single is None:
            return await self.write(run, site_id=site_id)
        async with self._single.connect() as connection:
            return await connection.run_sync(_stay, run, site_id)

    async def read_once(self, run: Callable[[Connection], T], *, site_id: int) -> T:
        """Run a function that makes one statement, which only reads: it is a snapshot of its own. As `write_once` else."""
        if self._single is None:
            return await self.read(run, site_id=site_id)
        async with self._single.connect() as connection:
            return await connection.run_sync(_stay, run, site_id)

    async def close(self) -> None:
        """Close every connection."""
        await self._writer.dispose()
        await self._reader.dispose()
        if self._single is not None:
            await self._single.dispose()

    async def _write(self, run: Callable[[Connection], T], site_id: int | None) -> T:
        async with self._writer.begin() as connection:
            return await connection.run_sync(self._inside, run, site_id)

    def _inside(self, connection: Connection, run: Callable[[Connection], T], site_id: int | None) -> T:
        """Run the function in a transaction that begins in the site."""
        if self.dialect == "postgresql":
            _driver(connection).begins_with = "" if site_id is None else _SET_SITE.format(site_id)
        return run(connection)


class Databases:
    """Maps each site to its database and keeps the open ones, the least recently used file closed first."""

    def __init__(
        self,
        template: str,
        migrate: Callable[[str], None],
        *,
        writer: bool = True,
        pool_size: int = 10,
    ) -> None:
        """Take the URL with `{organization}` and `{environment}`, and what brings a SQLite file to the newest schema."""
        self._template = template
        self._migrate = migrate
        self._writer = writer
        self._pool_size = pool_size
        self._open: OrderedDict[str, Database] = OrderedDict()
        # Whoever held on to a database whose file was closed opens the same one again: a file never has two that write.
        self._known: dict[str, Database] = {}
        self._opening: dict[str, asyncio.Lock] = {}
        # Alembic keeps its present migration in a module of its own: one at a time in a process.
        self._migrating = asyncio.Lock()

    def url_of(self, site: Site) -> str:
        """Return the URL of the site's database."""
        return self._template.replace("{organization}", site.organization).replace("{environment}", site.environment)

    async def of(self, site: Site) -> Database:
        """Return the site's database, opening and migrating its file first where that is needed."""
        url = self.url_of(site)
        database = self._open.get(url)
        if database is not None:
            self._open.move_to_end(url)
            return database
        async with self._opening.setdefault(url, asyncio.Lock()):
            if url not in self._open:
                await self._open_one(url)
            return self._open[url]

    async def close(self) -> None:
        """Close every database, those too that somebody who held on to them opened again."""
        self._open.clear()
        while self._known:
            _, database = self._known.popitem()
            await database.close()

    async def _open_one(self, url: str) -> None:
        parsed = make_url(url)
        if parsed.get_backend_name() == "sqlite" and self._writer and url not in self._known:
            Path(parsed.database or "").parent.mkdir(parents=True, exist_ok=True)
            async with self._migrating:
                await asyncio.to_thread(self._migrate, url)
        while len(self._open) >= OPEN_FILES_MAX:
            _, oldest = self._open.popitem(last=False)
            await oldest.close()
        if url not in self._known:
            self._known[url] = Database.open(url, writer=self._writer, pool_size=self._pool_size)
        self._open[url] = self._known[url]


def is_outage(error: BaseException) -> bool:
    """Tell a database that went away or did not answer in time from one that refused what it was told."""
    if not isinstance(error, DBAPIError):
        return isinstance(error, OSError | TimeoutError | PoolTimeoutError)
    code = getattr(error.orig, "sqlite_errorcode", None)
    if code is not None:
        return code & 0xFF in _SQLITE_OUTAGES
    if isinstance(error, OperationalError | InterfaceError):
        return True
    state = getattr(error.orig, "sqlstate", None) or ""
    return error.connection_invalidated or state[:2] in _OUTAGE_CLASSES or state in _OUTAGE_STATES


def begin_with(connection: Connection, settings: str) -> None:
    """Let the transaction have settings, by a statement of PostgreSQL's with its semicolon.

    Where it has not begun yet it begins with them, which costs no journey of its own.
    """
    driver = _driver(connection)
    if driver.is_in_transaction():
        connection.exec_driver_sql(settings)
    else:
        driver.begins_with += settings


def _driver(connection: Connection) -> _Connection:
    driver: _Connection = connection.connection.driver_connection  # type: ignore[assignment] # what the engine was told to make
    return driver


class _Connection(asyncpg.Connection):  # type: ignore[misc] # asyncpg has no types
    """A connection whose transactions begin with more than BEGIN, in one journey.

    SQLAlchemy begins a transaction with its first statement, and asyncpg by `execute`, which takes several statements. One that did
    not begin as it should ends the connection: both would take it for one without a transaction, and asyncpg its next one for a
    savepoint, which begins with nothing.
    """

    begins_with: str = ""

    async def execute(self, query: str, *arguments: Any, timeout: float | None = None) -> str:
        """Run a statement; what begins a transaction brings along what it begins with."""
        done: str
        if not query.startswith("BEGIN"):
            done = await super().execute(query, *arguments, timeout=timeout)
            return done
        query, self.begins_with = query + self.begins_with, ""
        try:
            done = await super().execute(query, timeout=timeout)
        except BaseException:
            self.terminate()
            raise
        return done


def _stay(connection: Connection, run: Callable[[Connection], T], site_id: int) -> T:
    """Enter the site if the session is not in it yet, and run the function."""
    if connection.info.get(_STAYS_IN) != site_id:
        connection.info.pop(_STAYS_IN, None)
        connection.exec_driver_sql(_STAY_IN_SITE, (str(site_id),))
        connection.info[_STAYS_IN] = site_id
    return run(connection)


def _postgresql_engine(url: URL, pool_size: int, overflow: int, settings: dict[str, str]) -> AsyncEngine:
    return create_async_engine(
        url.set(drivername="postgresql+asyncpg"),
        pool_size=pool_size,
        max_overflow=overflow,
        pool_timeout=10,
        pool_pre_ping=False,
        # The connection used last is the likeliest to be in the site already, and to know its statements.
        pool_use_lifo=True,
        json_serializer=_encode_json,
        json_deserializer=msgspec.json.decode,
        connect_args={
            "server_settings": settings,
            "timeout": 5,
            "command_timeout": 35,
            "connection_class": _Connection,
        },
    )


def _sqlite_engine(url: str, *, pool_size: int, query_only: bool) -> AsyncEngine:
    engine = create_async_engine(
        make_url(url).set(drivername="sqlite+aiosqlite"),
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=30,
        json_serializer=_encode_json,
        json_deserializer=msgspec.json.decode,
        # Autocommit for the driver: transactions begin where we say, and at once as writers.
        connect_args={"isolation_level": None, "timeout": 30},
    )

    @event.listens_for(engine.sync_engine, "connect")
    def configure(connection: DBAPIConnection, _record: ConnectionPoolEntry) -> None:
        cursor = connection.cursor()
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute("PRAGMA synchronous=FULL")
        cursor.execute("PRAGMA foreign_keys=ON")
        cursor.execute("PRAGMA cache_size=-32000")
        if query_only:
            cursor.execute("PRAGMA wal_autocheckpoint=0")
            cursor.execute("PRAGMA query_only=ON")
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN" if query_only else "BEGIN IMMEDIATE")

    return engine


def _encode_json(value: object) -> str:
    return msgspec.json.encode(value).decode()
