"""`gledger doctor`: what is in force, secrets masked, and whether every part answers."""

from __future__ import annotations

import asyncio
import platform
import sqlite3
from collections.abc import Awaitable, Callable

from redis.asyncio import Redis
from sqlalchemy import text

from gledger.migrations import Kind, pending
from gledger.parts import open_control
from gledger.settings import Settings


async def examine(settings: Settings) -> int:
    """Print the settings and try every part; return 0 where all answer, else 1."""
    for name, value in settings.masked().items():
        print(f"{name}={value}")
    print(f"python {platform.python_version()}, sqlite {sqlite3.sqlite_version}")
    checks: list[tuple[str, Callable[[], Awaitable[str]]]] = [
        ("control database", lambda: _control(settings)),
        ("migrations", lambda: _migrations(settings)),
    ]
    if settings.redis_url:
        checks.append(("redis", lambda: _redis(settings)))
    else:
        print("redis: embedded while `gledger dev` runs")
    failed = 0
    for name, check in checks:
        try:
            async with asyncio.timeout(10):
                print(f"{name}: {await check()}")
        except Exception as error:  # noqa: BLE001 - whatever it is, it is what the doctor came for
            failed += 1
            print(f"{name}: FAILED: {str(error).splitlines()[0] if str(error) else type(error).__name__}")
    return 1 if failed else 0


async def _control(settings: Settings) -> str:
    control = open_control(settings, writer=False)
    try:
        count = await control.read(lambda conn: conn.execute(text("SELECT count(*) FROM sites")).scalar())
    finally:
        await control.close()
    return f"answers, {count} sites"


async def _migrations(settings: Settings) -> str:
    kinds: list[tuple[str, Kind]] = [(settings.migration_control_database_url, "control")]
    if "{" not in settings.migration_database_url:
        kinds.append((settings.migration_database_url, "site"))
    waiting = [f"{kind} {each}" for url, kind in kinds for each in await asyncio.to_thread(pending, url, kind)]
    if waiting:
        raise RuntimeError(f"{', '.join(waiting)} not applied: run gledger migrate")
    return "all applied"


async def _redis(settings: Settings) -> str:
    redis = Redis.from_url(settings.redis_url, socket_connect_timeout=2)
    try:
        version = (await redis.info("server")).get("redis_version", "?")
    finally:
        await redis.aclose()
    return f"answers, version {version}"
