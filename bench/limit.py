"""How fast the database alone takes batches: the very statements of the program, recorded and written again.

Two copies of one site: the program posts batches into the first while its writing statements are recorded; the second
is given the same statements with the same arrays, prepared, from one connection, one transaction a batch. What it holds in
the end are right books, and they are verified like any other.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

import asyncpg
from sqlalchemy import event
from sqlalchemy.engine import Engine as SqlEngine
from sqlalchemy.engine import make_url

from bench.entries import BULK
from bench.ground import Ground, verify
from engine.commands import CreateAccount, CreateLedger, LineDraft, PostBatch, PostEntry
from engine.databases import Site
from engine.idempotency import IdempotencyKey
from engine.ledger import Engine
from gledger.parts import open_parts
from gledger.settings import Settings

ACCOUNTS = 200
BATCHES = 300
_WRITES = ("WITH part_0 AS (", "WITH fence AS (")
_SESSION = {"enable_seqscan": "off", "jit": "off"}

Statement = tuple[str, tuple[Any, ...]]


def batch_limit(base: Ground) -> float:
    """Return postings a second that the database takes; no other process may be connected to it."""
    accounts, site_id = asyncio.run(_open_accounts(_settings(base.environment)))
    recorded_in, written_to = _with_database(base, "recorded"), _with_database(base, "written")
    asyncio.run(_copy(base, ["recorded", "written"]))
    statements = asyncio.run(_record(_settings(recorded_in), accounts))
    rate = asyncio.run(_write(written_to["GLEDGER_DATABASE_URL"], site_id, statements))
    verify(written_to)
    return rate


def _with_database(base: Ground, name: str) -> dict[str, str]:
    renamed = {key: value for key, value in base.environment.items() if key.endswith("DATABASE_URL")}
    urls = {
        key: make_url(value).set(database=name).render_as_string(hide_password=False) for key, value in renamed.items()
    }
    return {**base.environment, **urls}


def _settings(environment: dict[str, str]) -> Settings:
    return Settings.from_env(environment)


async def _open_accounts(settings: Settings) -> tuple[list[str], int]:
    async with open_parts(settings) as parts:
        site = (await parts.sites())[0]
        ledger = await _made(parts.engine, site, CreateLedger(name="Limit"))
        return [
            await _made(
                parts.engine,
                site,
                CreateAccount(ledger_id=ledger, name=f"{number}", type="asset", currency="USD"),
            )
            for number in range(ACCOUNTS)
        ], site.id


async def _made(engine: Engine, site: Site, command: CreateLedger | CreateAccount) -> str:
    done = await engine.submit(site, command)
    assert done.resource_id is not None
    return done.resource_id


async def _copy(base: Ground, names: list[str]) -> None:
    connection = await asyncpg.connect(base.postgres.url().replace("+asyncpg", ""))
    try:
        # A backend whose client has just left may still be there, and a template must have none.
        while await connection.fetchval("SELECT count(*) FROM pg_stat_activity WHERE datname = 'gledger'"):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        for name in names:
            await connection.execute(f"CREATE DATABASE {name} TEMPLATE gledger")
    finally:
        await connection.close()


async def _record(settings: Settings, accounts: list[str]) -> list[Statement]:
    """Post batches one after the other and return the statement that wrote each."""
    recorded: list[Statement] = []

    def note(_conn: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if statement.startswith(_WRITES):
            recorded.append((statement, tuple(parameters)))

    half = ACCOUNTS // 2
    command = PostBatch(
        entries=tuple(_entry(accounts[each % half], accounts[half + each % half]) for each in range(BULK))
    )
    async with open_parts(settings) as parts:
        site = (await parts.sites())[0]
        event.listen(SqlEngine, "before_cursor_execute", note)
        try:
            for number in range(BATCHES):
                key = IdempotencyKey(key=f"limit-{number}", fingerprint=bytes(32))
                await parts.engine.submit(site, command, key=key)
        finally:
            event.remove(SqlEngine, "before_cursor_execute", note)
    assert len(recorded) == BATCHES, f"{len(recorded)} statements wrote {BATCHES} batches"
    return recorded


def _entry(debit: str, credit: str) -> PostEntry:
    return PostEntry(
        lines=(
            LineDraft(account=debit, direction="debit", amount=1, metadata={}),
            LineDraft(account=credit, direction="credit", amount=1, metadata={}),
        ),
    )


async def _write(url: str, site_id: int, statements: list[Statement]) -> float:
    """Write the statements again and return postings a second."""
    connection = await asyncpg.connect(url.replace("+asyncpg", ""), server_settings=_SESSION)
    try:
        prepared = {text: await connection.prepare(text) for text in {text for text, _ in statements}}
        enter = await connection.prepare("SELECT set_config('gledger.site_id', $1, true)")
        started = time.perf_counter()
        for text, arrays in statements:
            async with connection.transaction():
                await enter.fetchval(str(site_id))
                await prepared[text].fetch(*arrays)
        return len(statements) * BULK / (time.perf_counter() - started)
    finally:
        await connection.close()
