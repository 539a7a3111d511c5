"""Fresh databases for tests: real SQLite files and real PostgreSQL databases, all migrations applied.

Migrations run once per kind and session, into a template; every test gets a copy of that. On PostgreSQL a test connects
as a role that owns nothing, as the product does.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import secrets
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

import asyncpg
import pytest
from sqlalchemy.engine import URL, make_url

from engine.databases import Database
from gledger.embedded import Valkey
from gledger.migrations import Kind, upgrade
from tests.servers import Postgres

Dialect = Literal["sqlite", "postgresql"]

DIALECTS: Final = ("sqlite", "postgresql")
GROUP_ROLE: Final = "gledger_runtime"
RUNTIME_ROLE: Final = "gledger_runtime_test"
_NUMBERS = itertools.count(1)
_ADVISORY_LOCK: Final = 8_134_512


@dataclass(frozen=True, slots=True, kw_only=True)
class PostgresAddress:
    """A PostgreSQL server: its owner's URL, and the database names made from a prefix that is this session's own."""

    owner: URL
    prefix: str

    def owner_url(self, database: str) -> str:
        """Return the URL of a database for the role that owns everything."""
        return self.owner.set(database=database).render_as_string(hide_password=False)

    def runtime_url(self, database: str) -> str:
        """Return the URL of a database for the role that owns nothing."""
        runtime = self.owner.set(database=database, username=RUNTIME_ROLE, password=RUNTIME_ROLE)
        return runtime.render_as_string(hide_password=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class PostgresDatabase:
    """One fresh PostgreSQL database, as its owner and as the runtime role."""

    name: str
    owner_url: str
    runtime_url: str


@dataclass(frozen=True, slots=True)
class Templates:
    """The migrated databases of this session, made when they are first asked for."""

    folder: Path
    made: set[str] = field(default_factory=set)
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def sqlite(self, kind: Kind) -> Path:
        """Return the migrated file of a kind."""
        path = self.folder / f"template-{kind}.sqlite3"
        async with self.turn:
            if str(path) not in self.made:
                await asyncio.to_thread(upgrade, f"sqlite+aiosqlite:///{path}", kind)
                self.made.add(str(path))
        return path

    async def postgres(self, address: PostgresAddress, kind: Kind) -> str:
        """Return the name of the migrated database of a kind."""
        name = f"{address.prefix}_template_{kind}"
        async with self.turn:
            if name not in self.made:
                async with owner_connection(address) as owner:
                    await owner.execute(f"CREATE DATABASE {name}")
                await asyncio.to_thread(upgrade, address.owner_url(name), kind)
                self.made.add(name)
        return name


@asynccontextmanager
async def owner_connection(address: PostgresAddress, database: str | None = None) -> AsyncIterator[asyncpg.Connection]:
    """Connect as the owner, to the server's own database unless another is named."""
    target = address.owner if database is None else address.owner.set(database=database)
    connection = await asyncpg.connect(target.set(drivername="postgresql").render_as_string(hide_password=False))
    try:
        yield connection
    finally:
        await connection.close()


async def make_runtime_role(address: PostgresAddress) -> None:
    """Make the role tests connect as, a member of the group that migrations grant to; other sessions may do so too."""
    async with owner_connection(address) as owner, owner.transaction():
        await owner.execute("SELECT pg_advisory_xact_lock($1)", _ADVISORY_LOCK)
        for role, options in ((GROUP_ROLE, "NOLOGIN"), (RUNTIME_ROLE, f"LOGIN PASSWORD '{RUNTIME_ROLE}'")):
            if not await owner.fetchval("SELECT 1 FROM pg_roles WHERE rolname = $1", role):
                await owner.execute(f"CREATE ROLE {role} {options}")
        await owner.execute(f"GRANT {GROUP_ROLE} TO {RUNTIME_ROLE}")


@asynccontextmanager
async def fresh_postgres(address: PostgresAddress, templates: Templates, kind: Kind) -> AsyncIterator[PostgresDatabase]:
    """Copy the template of a kind for the time of the block."""
    template = await templates.postgres(address, kind)
    name = f"{address.prefix}_{kind}_{next(_NUMBERS)}"
    async with owner_connection(address) as owner:
        await owner.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
    try:
        yield PostgresDatabase(name=name, owner_url=address.owner_url(name), runtime_url=address.runtime_url(name))
    finally:
        async with owner_connection(address) as owner:
            await owner.execute(f"DROP DATABASE {name} WITH (FORCE)")


async def fresh_sqlite(folder: Path, templates: Templates, kind: Kind) -> str:
    """Copy the template file of a kind into a folder and return the copy's URL."""
    path = folder / f"{kind}.sqlite3"
    shutil.copyfile(await templates.sqlite(kind), path)
    return f"sqlite+aiosqlite:///{path}"


@pytest.fixture(scope="session")
def postgres_server(worker_id: str) -> Iterator[PostgresAddress]:
    """A PostgreSQL server: the one of `TEST_DATABASE_URL` (its owner's URL), else one of this session's own."""
    prefix = f"gledger_test_{secrets.token_hex(4)}_{worker_id}"
    given = os.environ.get("TEST_DATABASE_URL")
    if given:
        yield PostgresAddress(owner=make_url(given).set(drivername="postgresql+asyncpg"), prefix=prefix)
        return
    with Postgres() as server:
        yield PostgresAddress(owner=make_url(server.url()), prefix=prefix)


@pytest.fixture(scope="session")
async def postgres_with_roles(postgres_server: PostgresAddress) -> AsyncIterator[PostgresAddress]:
    """The server with the runtime role; what this session made there is removed at its end."""
    await make_runtime_role(postgres_server)
    yield postgres_server
    async with owner_connection(postgres_server) as owner:
        for row in await owner.fetch(
            "SELECT datname FROM pg_database WHERE starts_with(datname, $1)", f"{postgres_server.prefix}_"
        ):
            await owner.execute(f"DROP DATABASE {row['datname']} WITH (FORCE)")


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a Redis: the one of `TEST_REDIS_URL`, else an embedded Valkey of this session's own."""
    given = os.environ.get("TEST_REDIS_URL")
    if given:
        yield given
        return
    with Valkey(tmp_path_factory.mktemp("valkey")) as server:
        yield server.url


@pytest.fixture(scope="session")
def templates(tmp_path_factory: pytest.TempPathFactory) -> Templates:
    """The session's migrated databases."""
    return Templates(tmp_path_factory.mktemp("templates"))


@pytest.fixture
async def postgres_database(
    postgres_with_roles: PostgresAddress, templates: Templates
) -> AsyncIterator[PostgresDatabase]:
    """A fresh PostgreSQL database for sites."""
    async with fresh_postgres(postgres_with_roles, templates, "site") as database:
        yield database


@pytest.fixture
async def postgres_control_database(
    postgres_with_roles: PostgresAddress, templates: Templates
) -> AsyncIterator[PostgresDatabase]:
    """A fresh PostgreSQL control database."""
    async with fresh_postgres(postgres_with_roles, templates, "control") as database:
        yield database


@asynccontextmanager
async def open_fresh(
    dialect: Dialect, kind: Kind, templates: Templates, folder: Path, server: PostgresAddress
) -> AsyncIterator[Database]:
    """Open a fresh database of a dialect, on PostgreSQL as the runtime role."""
    async with AsyncExitStack() as stack:
        if dialect == "sqlite":
            url = await fresh_sqlite(folder, templates, kind)
        else:
            url = (await stack.enter_async_context(fresh_postgres(server, templates, kind))).runtime_url
        database = Database.open(url)
        stack.push_async_callback(database.close)
        yield database


@pytest.fixture(params=DIALECTS)
async def site_database(
    request: pytest.FixtureRequest, templates: Templates, tmp_path: Path, postgres_with_roles: PostgresAddress
) -> AsyncIterator[Database]:
    """A fresh, open database for sites: the same test on SQLite and on PostgreSQL."""
    async with open_fresh(request.param, "site", templates, tmp_path, postgres_with_roles) as database:
        yield database


@pytest.fixture(params=DIALECTS)
async def control_database(
    request: pytest.FixtureRequest, templates: Templates, tmp_path: Path, postgres_with_roles: PostgresAddress
) -> AsyncIterator[Database]:
    """A fresh, open control database: the same test on SQLite and on PostgreSQL."""
    async with open_fresh(request.param, "control", templates, tmp_path, postgres_with_roles) as database:
        yield database
