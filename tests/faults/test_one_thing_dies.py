"""One thing dies or freezes at the worst moment while clients post; afterwards every promise is looked at.

What dies at any moment is in test_rounds.py.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import asyncpg
from sqlalchemy.engine import make_url

from delivery.breaker import WINDOW_NEW
from tests.fakes.receiver import Reply
from tests.faults.conftest import Stage
from tests.processes import END_TIMEOUT_S, children_of, is_alive, until
from tests.streams import open_stream

FROZEN_S: Final = 6.5
"""Longer than a session may be idle in a transaction."""
CATCH_TRIES: Final = 200
HELD_S: Final = 0.3
HOLDING: Final = """
    SELECT a.pid, a.xact_start FROM pg_stat_activity a JOIN pg_locks l ON l.pid = a.pid
    WHERE a.datname = current_database() AND a.state = 'idle in transaction'
      AND l.mode = 'RowShareLock' AND l.relation = to_regclass('feeds')
    LIMIT 1
"""
"""The session that has locked a site's row and whose process is deciding a batch."""


async def test_a_worker_killed_under_load_leaves_no_webhook_unsent(stage: Stage) -> None:
    """The leases of killed workers run out, and another sends what they had claimed."""
    answering = asyncio.Event()
    stage.receiver.script("/hook", Reply(hold=answering))
    async with stage.under_load():
        # As many requests as a new endpoint is sent at once are unanswered: nobody but their workers could settle them.
        await stage.receiver.wait_for_count(WINDOW_NEW)
        for worker in stage.workers:
            worker.kill()
        stage.receiver.script("/hook")
        answering.set()
        stage.workers[1].start()
        await stage.load.until(100)
    await stage.check()
    found = [request.headers["webhook-id"] for request in stage.receiver.received]
    assert len(found) > len(set(found)), "what was under way when its worker died was not sent again"


async def test_a_gateway_frozen_in_a_batch_does_not_keep_the_lock(stage: Stage) -> None:
    """A stopped process that holds the site's lock loses it after five seconds; woken up, it does no harm."""
    async with stage.under_load(), _watching(stage) as watcher:
        backend = await _freeze_in_a_batch(watcher, stage)
        began = time.monotonic()
        await stage.load.until(100)
        assert time.monotonic() - began < FROZEN_S + 5, "the others waited for the frozen process"

        async def session_broken() -> bool | None:
            left = await watcher.fetchval("SELECT count(*) FROM pg_stat_activity WHERE pid = $1", backend)
            return (not left and time.monotonic() - began > FROZEN_S) or None

        await until(session_broken, timeout_s=FROZEN_S + 5)
        stage.gateways[0].send(signal.SIGCONT)
        await stage.gateways[0].ready()
        await stage.load.until(100)
    await stage.check()


async def test_gateways_whose_first_process_is_killed_drain_and_leave_the_port(stage: Stage) -> None:
    """`--workers 2`, and kill -9 of the process that started them: streams hear why they end, and the port is free again."""
    gateway = stage.deployment.gateway("--workers", "2")
    await gateway.ready()
    children = children_of(gateway.pid)
    assert len(children) == 2
    bearer = {"authorization": f"Bearer {stage.load.credentials.api_key}"}
    async with open_stream(stage.http, gateway.url, bearer) as stream:
        await stream.event("ready")
        gateway.kill()
        assert (await stream.event("closing")).value["reason"] == "draining"

    async def ended() -> bool | None:
        return not any(is_alive(pid) for pid in children) or None

    await until(ended, timeout_s=END_TIMEOUT_S)
    gateway.start()
    await gateway.ready()
    assert await gateway.stop() == 0, gateway.tail()


async def _freeze_in_a_batch(watcher: asyncpg.Connection, stage: Stage) -> int:
    """Stop the first gateway while one of its sessions holds the site's lock; return that session's backend."""
    for _ in range(CATCH_TRIES):
        await stage.load.until(3)
        stage.gateways[0].send(signal.SIGSTOP)
        held = await watcher.fetchrow(HOLDING)
        deadline = time.monotonic() + HELD_S
        # Whoever is not stopped goes on: a transaction that stays the same for so long is the stopped one's.
        while held is not None and time.monotonic() < deadline:
            await asyncio.sleep(0.02)
            held = held if await watcher.fetchrow(HOLDING) == held else None
        if held is not None:
            backend: int = held["pid"]
            return backend
        stage.gateways[0].send(signal.SIGCONT)
    raise AssertionError(f"not caught in a batch in {CATCH_TRIES} tries")


@asynccontextmanager
async def _watching(stage: Stage) -> AsyncIterator[asyncpg.Connection]:
    """Connect to the sites' database as the role that sees every session."""
    url = make_url(stage.deployment.site_database.owner_url).set(drivername="postgresql")
    connection = await asyncpg.connect(url.render_as_string(hide_password=False))
    try:
        yield connection
    finally:
        await connection.close()
