"""What every process is made of: databases, the books, credentials, the delivery registry, put together from settings.

Gateway, worker and `gledger dev` add their own loops to these parts; nothing here runs by itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from redis.asyncio import Redis
from sqlalchemy.engine import make_url

from auth.authority import Authority
from delivery.egress import EgressPolicy
from delivery.endpoints import Defaults, Endpoints
from delivery.facts import Fact
from delivery.log import Log
from delivery.replay import Replay
from delivery.replay_jobs import Replays
from delivery.skip import Skip
from engine.clock import SystemClock
from engine.commands import RecordFact
from engine.databases import Database, Databases, Site
from engine.events import Diagnostics
from engine.ids import Ids
from engine.ledger import Engine, Limits
from gateway.problems import refusal_teller
from gledger.errors import SettingsError
from gledger.migrations import upgrade
from gledger.settings import Settings
from gledger.wakeups import WakeUps

_QUEUED_SHARE: Final = 0.2


@dataclass(slots=True, kw_only=True)
class Listeners:
    """Who in this process wants to hear of a new head, of something due at an endpoint, of a replay to go on with."""

    head: list[Callable[[Site, int], None]]
    due: list[Callable[[Site, str], None]]
    replay: list[Callable[[Site], None]]

    def on_head(self, site: Site, head: int) -> None:
        """Tell everyone of a new head."""
        for listener in self.head:
            listener(site, head)

    def on_due(self, site: Site, endpoint_id: str) -> None:
        """Tell everyone that an endpoint has something due."""
        for listener in self.due:
            listener(site, endpoint_id)

    def on_replay(self, site: Site) -> None:
        """Tell everyone that a replay of the site may have something to do."""
        for listener in self.replay:
            listener(site)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The parts of one process."""

    settings: Settings
    clock: SystemClock
    ids: Ids
    registry: CollectorRegistry
    control: Database
    databases: Databases
    engine: Engine
    authority: Authority
    endpoints: Endpoints
    log: Log
    replay: Replay
    replays: Replays
    skip: Skip
    egress: EgressPolicy
    redis: Redis
    wakeups: WakeUps
    listeners: Listeners

    async def record_fact(self, site: Site, fact: Fact) -> None:
        """Put a fact of delivery's into the site's feed."""
        await record_fact(self.engine, site, fact)

    async def sites(self) -> list[Site]:
        """Return every active site."""
        found = await self.authority.clients.list_sites()
        return [
            Site(id=each.id, organization=each.organization, environment=each.environment)
            for each in found
            if each.state == "active"
        ]


async def record_fact(engine: Engine, site: Site, fact: Fact) -> None:
    """Have the books record a fact; its key makes it one event however often it is handed over."""
    command = RecordFact(
        key=fact.key,
        type=fact.type,
        resource_type=fact.resource_type,
        resource_id=fact.resource_id,
        data=fact.data,
    )
    await engine.submit(site, command, diagnostics=Diagnostics())


def open_databases(settings: Settings, *, writer: bool = True) -> Databases:
    """Return the sites' databases; SQLite files are migrated as they are opened."""
    return Databases(
        settings.database_url,
        lambda url: upgrade(url, "site"),
        writer=writer,
        pool_size=settings.database_pool_size,
    )


def open_control(settings: Settings, *, writer: bool = True) -> Database:
    """Return the control database, a SQLite file migrated first."""
    url = make_url(settings.control_database_url)
    if url.get_backend_name() == "sqlite" and writer:
        Path(url.database or "").parent.mkdir(parents=True, exist_ok=True)
        upgrade(settings.control_database_url, "control")
    return Database.open(
        settings.control_database_url, writer=writer, pool_size=max(2, settings.database_pool_size // 2)
    )


@asynccontextmanager
async def open_parts(settings: Settings) -> AsyncIterator[Parts]:
    """Open the parts of a process that serves, and close them at the end."""
    if settings.master_key is None:
        raise SettingsError(("GLEDGER_MASTER_KEY must be set: 32 random bytes in base64",))
    if not settings.redis_url:
        raise SettingsError(("GLEDGER_REDIS_URL must be set: redis://host:port/0",))
    clock, ids = SystemClock(), Ids()
    registry = CollectorRegistry()
    for collect in (ProcessCollector, PlatformCollector, GCCollector):
        collect(registry=registry)
    keepalive = {} if settings.redis_url.startswith("unix:") else {"socket_keepalive": True}
    redis = Redis.from_url(settings.redis_url, socket_connect_timeout=2, **keepalive)
    control = open_control(settings)
    databases = open_databases(settings)
    listeners = Listeners(head=[], due=[], replay=[])
    limits = Limits(
        idempotency_days=settings.idempotency_days,
        feed_retention_days=settings.feed_retention_days or None,
    )
    engine = Engine(databases, clock, ids, listeners.on_head, limits, refusal_teller(settings.public_url))
    authority = Authority.over(
        control,
        master_key=settings.master_key,
        public_url=settings.public_url,
        ids=ids,
        token_lifetime_s=settings.token_ttl_s,
    )
    egress = EgressPolicy(allow_private=settings.webhook_allow_private, own_url=settings.public_url)

    endpoints = _open_endpoints(settings, databases, engine, authority, egress, listeners, clock, ids)
    try:
        await authority.start(now_us=clock.now_us())
        yield Parts(
            settings=settings,
            clock=clock,
            ids=ids,
            registry=registry,
            control=control,
            databases=databases,
            engine=engine,
            authority=authority,
            endpoints=endpoints,
            log=Log(databases),
            replay=Replay(databases, clock=clock, on_due=listeners.on_due),
            replays=Replays(databases, clock=clock, ids=ids, on_replay=listeners.on_replay),
            skip=Skip(databases, clock=clock, on_due=listeners.on_due),
            egress=egress,
            redis=redis,
            wakeups=WakeUps(redis),
            listeners=listeners,
        )
    finally:
        # A database that is away must not keep the process: who waits is not answered, and asks again with its key.
        with suppress(TimeoutError):
            async with asyncio.timeout(settings.drain_timeout_s * _QUEUED_SHARE):
                await engine.drain()
        await databases.close()
        await control.close()
        await redis.aclose()


def _open_endpoints(
    settings: Settings,
    databases: Databases,
    engine: Engine,
    authority: Authority,
    egress: EgressPolicy,
    listeners: Listeners,
    clock: SystemClock,
    ids: Ids,
) -> Endpoints:
    async def record(site: Site, fact: Fact) -> None:
        await record_fact(engine, site, fact)

    return Endpoints(
        databases,
        clock=clock,
        ids=ids,
        vault=authority.vault,
        egress=egress,
        record_fact=record,
        defaults=Defaults(
            timeout_s=int(settings.webhook_timeout_s),
            retry_schedule_s=settings.webhook_retry_schedule,
            disable_after_s=settings.webhook_disable_after_s,
        ),
        on_due=listeners.on_due,
    )
