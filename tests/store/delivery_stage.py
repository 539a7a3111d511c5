"""A site with a feed and everything that delivers it, over one real database: what the delivery tests stand on."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Final

import msgspec
from sqlalchemy import Connection

from delivery.dispatch import Dispatcher, DispatchSettings
from delivery.egress import EgressPolicy
from delivery.endpoints import Endpoints
from delivery.facts import FactSender
from delivery.log import DeliveryFilter, Log
from delivery.relay import Relay
from delivery.replay import Replay
from delivery.rows import Fact
from delivery.sender import Sender
from delivery.shapes import Attempt, Delivery, Endpoint, EndpointChange, EndpointCreate
from delivery.skip import Skip
from delivery.sweep import Sweeper
from engine import feed
from engine.databases import Database, Databases, Site
from engine.events import Diagnostics, EventDraft, chain, encode
from engine.feed import Head
from engine.schema import events
from engine.sql import insert_rows
from tests.fakes.clock import FakeClock, SequentialIds

SITE: Final = Site(id=7, organization="acme-corp", environment="sandbox")
PRIVATE: Final = EgressPolicy(allow_private=True)


class OneDatabase(Databases):
    """Every site lives in the database that the test was given; it may be out of reach for some calls."""

    def __init__(self, database: Database) -> None:
        super().__init__("", lambda _url: None)
        self._database = database
        self.failures = 0

    async def of(self, site: Site) -> Database:
        """Return the database, or fail as often as the test said."""
        if self.failures:
            self.failures -= 1
            raise ConnectionRefusedError(site)
        return self._database


class BoundVault:
    """A vault that checks what secrets are bound to and can be away; it hides nothing."""

    def __init__(self) -> None:
        self.away = False
        self.opened = 0

    async def seal(self, plaintext: bytes, *, table: str, column: str, row: str, site: str) -> bytes:
        """Return the secret beside the place it is bound to."""
        return msgspec.json.encode([table, column, row, site, plaintext.hex()])

    async def open(self, sealed: bytes, *, table: str, column: str, row: str, site: str) -> bytes:
        """Return the secret; raises where the place is another one, or the vault is away."""
        self.opened += 1
        *place, secret = msgspec.json.decode(sealed, type=list[str])
        if self.away or place != [table, column, row, site]:
            raise PermissionError(place)
        return bytes.fromhex(secret)


@dataclass(slots=True)
class Counted:
    """A meter that remembers."""

    outcomes: list[tuple[str, str | None]] = field(default_factory=list)
    latencies_s: list[float] = field(default_factory=list)
    heard: asyncio.Event = field(default_factory=asyncio.Event)

    def attempted(self, outcome: str, error_class: str | None, duration_s: float) -> None:
        """Remember an attempt."""
        self.outcomes.append((outcome, error_class))
        self.heard.set()

    async def until(self, count: int, *, timeout_s: float = 10) -> None:
        """Return when so many attempts were settled."""
        async with asyncio.timeout(timeout_s):
            while len(self.outcomes) < count:
                self.heard.clear()
                await self.heard.wait()

    def delivered(self, commit_to_delivered_s: float) -> None:
        """Remember how long a delivery took."""
        self.latencies_s.append(commit_to_delivered_s)


class Stage:
    """One site and its webhooks. A second `dispatcher()` or `relay()` is a second process on the same database."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.databases = OneDatabase(database)
        self.clock = FakeClock()
        self.ids = SequentialIds()
        self.vault = BoundVault()
        self.meter = Counted()
        self.scheduled: list[tuple[str, int]] = []
        self.settled: list[bool] = []
        self.endpoints = self.registry()
        self.log = Log(self.databases)
        self.skip = Skip(self.databases, clock=self.clock)
        self.replay = Replay(self.databases, clock=self.clock)
        self.sweeper = Sweeper(self.databases, clock=self.clock)
        self.facts = FactSender(self.databases, self.record)
        self._open: list[tuple[Dispatcher, Sender]] = []
        self._recorded: set[str] = set()

    def registry(self, **options: object) -> Endpoints:
        """Return the endpoints' use cases, private addresses allowed."""
        given = {"egress": PRIVATE, "record_fact": self.record, **options}
        return Endpoints(self.databases, clock=self.clock, ids=self.ids, vault=self.vault, **given)  # type: ignore[arg-type]

    def relay(self, *, page_events: int = 500) -> Relay:
        """Return a relay as one process has it."""
        return Relay(self.databases, clock=self.clock, ids=self.ids, page_events=page_events)

    def dispatcher(self, settings: DispatchSettings | None = None, policy: EgressPolicy = PRIVATE) -> Dispatcher:
        """Return a dispatcher as one process has it; jitter stands in the middle, where it changes nothing."""
        sender = Sender(policy)
        dispatcher = Dispatcher(
            self.databases,
            sender,
            self.vault,
            clock=self.clock,
            settings=settings,
            on_retry_scheduled=lambda _site, endpoint_id, due_at: self.scheduled.append((endpoint_id, due_at)),
            on_settled=lambda _site, settlement: self.settled.append(settlement.facts > 0),
            meter=self.meter,
            jitter=lambda: 0.5,
        )
        self._open.append((dispatcher, sender))
        return dispatcher

    async def commit(
        self, *types: str, resource_id: str | None = None, data: bytes = b"{}", correlation_id: str | None = None
    ) -> list[str]:
        """Put one event of each type into the feed, in one transaction; return their ids."""
        drafts = [
            EventDraft(
                id=self.ids.draw(self.clock.now_us()),
                type=event_type,
                resource_type={"endpoint": "endpoint", "delivery": "delivery"}.get(event_type.split(".")[0], "entry"),
                resource_id=resource_id or self.ids.draw(self.clock.now_us()),
                data=data,
            )
            for event_type in types
        ]
        await self.database.write(
            lambda conn: append(conn, drafts, self.clock.now_us(), correlation_id), site_id=SITE.id
        )
        return [draft.id for draft in drafts]

    async def record(self, _site: Site, fact: Fact) -> None:
        """Put a fact into the feed, as the engine does; a key that was seen already changes nothing."""
        if fact.key not in self._recorded:
            self._recorded.add(fact.key)
            await self.commit(fact.type, resource_id=fact.resource_id, data=fact.data)

    async def endpoint(self, url: str, *event_types: str, **options: object) -> Endpoint:
        """Register an endpoint, for every event type unless some are named."""
        draft = {"url": url, "event_types": list(event_types) or ["*"], **options}
        written = await self.endpoints.create(SITE, msgspec.convert(draft, EndpointCreate))
        return msgspec.json.decode(written.body, type=Endpoint)

    async def change(self, endpoint: Endpoint, **options: object) -> Endpoint:
        """Change options of an endpoint."""
        return await self.endpoints.change(SITE, endpoint.id, msgspec.convert(options, EndpointChange))

    async def relay_all(self, dispatcher: Dispatcher | None = None) -> frozenset[str]:
        """Relay until nothing waits; return who was woken. A dispatcher claims along with it and sends at once."""
        relay, woken, behind = self.relay(), frozenset[str](), True
        while behind:
            with nullcontext() if dispatcher is None else dispatcher.claiming(SITE) as claims:
                outcome = await relay.run(SITE, claims)
            woken, behind = woken | outcome.endpoints_woken, outcome.behind
        return woken

    async def deliver(self, dispatcher: Dispatcher | None = None) -> None:
        """Relay everything, send what is due now and come to rest."""
        dispatcher = dispatcher or self.dispatcher()
        await self.relay_all(dispatcher)
        for endpoint_id in (await self.sweeper.run(SITE)).endpoints:
            dispatcher.wake(SITE, endpoint_id)
        await dispatcher.idle()

    async def rows(self, endpoint_id: str, after: int = 0) -> list[Delivery]:
        """Return an endpoint's deliveries in their order."""
        matching = DeliveryFilter(endpoint_id=endpoint_id)
        return (await self.log.deliveries(SITE, matching, limit=1000, after=after)).data

    async def attempts(self, delivery: Delivery) -> list[Attempt]:
        """Return a delivery's attempts."""
        return await self.log.attempts(SITE, delivery.id)

    async def close(self) -> None:
        """End what was begun."""
        for dispatcher, sender in self._open:
            await dispatcher.drain(0)
            await sender.close()


def append(conn: Connection, drafts: Sequence[EventDraft], now_us: int, correlation_id: str | None = None) -> None:
    """Put events behind the head of the feed."""
    head = feed.lock_head(conn, SITE.id)
    rows = []
    for draft in drafts:
        body = encode(
            draft,
            sequence=head.sequence + 1,
            at_us=now_us,
            organization=SITE.organization,
            environment=SITE.environment,
            diagnostics=Diagnostics(correlation_id=correlation_id),
        )
        head = Head(
            sequence=head.sequence + 1, hash=chain(head.hash, body), last_at=max(now_us, head.last_at), epoch=head.epoch
        )
        rows.append(
            {
                "site_id": SITE.id,
                "sequence": head.sequence,
                "id": draft.id,
                "type": draft.type,
                "resource_id": draft.resource_id,
                "created_at": now_us,
                "body": body,
                "hash": head.hash,
                "correlation_id": correlation_id,
            }
        )
    insert_rows(conn, events, rows)
    feed.move_head(conn, SITE.id, head)


async def make_stage(database: Database) -> Stage:
    """Return a stage on a fresh database."""
    stage = Stage(database)
    await database.write(
        lambda conn: feed.create_site(conn, SITE, "e1", stage.clock.now_us()),
        site_id=SITE.id,
    )
    return stage
