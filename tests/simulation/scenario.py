"""A story that a seed decides: entries are posted, followed and delivered while everything fails; then calm, then the promises.

The promises are those of the product: what was acknowledged is there once (1), books balance (2), the feed has no gap and no
duplicate, for those too who follow it (3), every endpoint gets all of what it subscribed to, numbered without a gap, in order where it asked
for order, never with more at once than it allows (4); and nothing but the database is needed to go on (5): there are no wake-ups here.
"""

from __future__ import annotations

import asyncio
import gc
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, Row, select
from structlog.testing import capture_logs

from delivery.dispatch import Dispatcher
from delivery.egress import EgressPolicy
from delivery.endpoints import Endpoints
from delivery.facts import FactSender
from delivery.relay import Relay
from delivery.rows import Fact
from delivery.schema import deliveries, outgoing_facts
from delivery.shapes import EndpointCreate
from delivery.store.deliveries import read_position
from delivery.sweep import Sweeper
from engine import feed
from engine.commands import CreateAccount, CreateLedger, LineDraft, PostEntry
from engine.databases import Site
from engine.idempotency import IdempotencyKey
from engine.ids import Ids
from engine.ledger import Engine
from engine.schema import events, lines
from gledger.parts import record_fact
from tests.simulation.followers import Follower, audience
from tests.simulation.gateway import Ask, Gateways
from tests.simulation.loop import SimulatedLoop
from tests.simulation.world import (
    SITE,
    Books,
    Process,
    SimulatedDatabase,
    SimulatedDatabases,
    SimulatedSender,
    World,
)
from tests.store.delivery_stage import BoundVault

CLIENTS: Final = 3
ENTRIES: Final = 4
"""For each client."""
ACCOUNTS: Final = 4
BEFORE_ENDPOINTS: Final = 1 + ACCOUNTS
"""Events that were committed before any endpoint existed."""
PATIENCE_S: Final = 12.0
CALM_S: Final = 7200.0
STREAMS_S: Final = 240.0
SCHEDULE: Final = [0, 1, 1, 1, 2, 2, 2, 4, 4, 4, *[8] * 22]
ENDPOINTS: Final[dict[str, dict[str, Any]]] = {
    "parallel": {"max_in_flight": 2, "event_types": ["entry.*"]},
    "ordered": {"ordering": "ordered", "max_in_flight": 8, "event_types": ["*"]},
    "account": {"ordering": "ordered_by", "ordering_key": "account", "event_types": ["entry.*"]},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of a seed: promises that were broken, a digest of all that happened, and how much that was."""

    seed: int
    broken: list[str]
    digest: str
    kills: int
    requests: int


class Scenario:
    """The product's processes and its users in one world."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.databases = SimulatedDatabases(world)
        self.database = SimulatedDatabase(world)
        self.acknowledged: dict[str, str] = {}
        self.followed: list[list[tuple[int, str]]] = [[], []]
        self._gateways = Gateways(world, self.databases)
        self._audience: list[Follower] = []
        self._vault = BoundVault()
        self._paths: dict[str, str] = {}
        self._posting = True

    async def run(self) -> None:
        """Tell the story to its end; what went wrong is in `world.broken`."""
        world = self.world
        world.faults = False
        accounts = await self._set_up()
        world.faults = True
        for name in ("gateway-1", "gateway-2"):
            world.start(name, self._gateways.run)
        for name in ("worker-1", "worker-2"):
            world.start(name, self._worker)
        await asyncio.sleep(0.1)
        self._audience = audience(world, self._gateways.connect, accounts)
        followers = [asyncio.create_task(self._follow(into)) for into in self.followed]
        followers += [asyncio.create_task(each.run()) for each in self._audience]
        operator = asyncio.create_task(self._operate())
        await asyncio.gather(*(self._client(number, accounts) for number in range(CLIENTS)))
        self._posting = False
        await operator
        world.faults = False
        # Whoever died last may not have been followed by another.
        world.start("gateway-3", self._gateways.run)
        world.start("worker-3", self._worker)
        await self._come_to_rest()
        for follower in followers:
            follower.cancel()
        await asyncio.gather(*followers, return_exceptions=True)
        await world.end()
        with world.books.begin() as connection:
            self._check(connection)

    async def _set_up(self) -> list[str]:
        ids = Ids(self.world.dice.randbytes)
        await self.database.write(lambda conn: feed.create_site(conn, SITE, "e1", self.world.now_us()))
        engine = Engine(self.databases, self.world, ids, lambda _site, _head: None)
        ledger = await engine.submit(SITE, CreateLedger(name="Main"))
        accounts = []
        for number in range(ACCOUNTS):
            made = await engine.submit(
                SITE, CreateAccount(ledger_id=str(ledger.resource_id), name=f"{number}", type="asset", currency="EUR")
            )
            accounts.append(str(made.resource_id))
        registry = self._registry(ids, engine)
        for name, options in ENDPOINTS.items():
            url = f"http://10.0.0.1/{name}"
            given = {"url": url, "timeout_s": 3, "retry_schedule": SCHEDULE, **options}
            written = await registry.create(SITE, msgspec.convert(given, EndpointCreate))
            self._paths[written.resource_id] = name
            self.world.limits[url] = 1 if options.get("ordering") == "ordered" else options.get("max_in_flight", 16)
        return accounts

    def _registry(self, ids: Ids, engine: Engine) -> Endpoints:
        async def record(site: Site, fact: Fact) -> None:
            await record_fact(engine, site, fact)

        return Endpoints(
            self.databases,
            clock=self.world,
            ids=ids,
            vault=self._vault,
            egress=EgressPolicy(allow_private=True),
            record_fact=record,
            entropy=self.world.dice.randbytes,
        )

    async def _worker(self, _process: Process) -> None:
        """Relay, dispatch, sweep and hand over facts, as the worker does without any wake-up from outside."""
        ids = Ids(self.world.dice.randbytes)
        engine = Engine(self.databases, self.world, ids, self._gateways.wake)

        async def record(site: Site, fact: Fact) -> None:
            await record_fact(engine, site, fact)

        relay = Relay(self.databases, clock=self.world, ids=ids, page_events=4)
        facts, sweeper = FactSender(self.databases, record), Sweeper(self.databases, clock=self.world)
        dispatcher = Dispatcher(
            self.databases,
            SimulatedSender(self.world),
            self._vault,
            clock=self.world,
            on_retry_scheduled=lambda _site, _endpoint_id, _due_at: None,
            jitter=self.world.dice.random,
        )
        while True:
            try:
                woken = set((await sweeper.run(SITE)).endpoints)
                with dispatcher.claiming(SITE) as claims:
                    outcome = await relay.run(SITE, claims)
                for endpoint_id in sorted(woken | outcome.endpoints_woken):
                    dispatcher.wake(SITE, endpoint_id)
                await facts.run(SITE)
            except Exception:  # noqa: BLE001 - the database is away: everything is in it
                await asyncio.sleep(0.5)
            await asyncio.sleep(0.5 + self.world.dice.random())

    async def _ask(self, ask: Ask) -> Any:
        """Ask one gateway after the other until one answers."""
        while True:
            try:
                return await asyncio.wait_for(self._gateways.ask(ask), PATIENCE_S)
            except Exception:  # noqa: BLE001 - it died, or the database was away: the same again elsewhere
                await asyncio.sleep(self.world.dice.random())

    async def _client(self, number: int, accounts: list[str]) -> None:
        for count in range(ENTRIES):
            one, other = self.world.dice.sample(accounts, 2)
            halves = (("debit", one), ("credit", other))
            drafts = tuple(
                LineDraft(account=account, direction=direction, amount=100, metadata={})  # type: ignore[arg-type]
                for direction, account in halves
            )
            name = f"{number}-{count}"
            key = IdempotencyKey(key=name, fingerprint=name.encode().ljust(32))
            command = PostEntry(lines=drafts, metadata={"name": name})
            done = await self._ask(_posting(command, key))
            self.acknowledged[name] = done.resource_id
            await asyncio.sleep(2 * self.world.dice.random())

    async def _follow(self, into: list[tuple[int, str]]) -> None:
        """Follow the feed by its cursor, over whichever gateway answers."""
        cursor: str | None = None
        while True:
            limit = self.world.dice.randint(1, 6)
            page = await self._ask(_reading(cursor, limit))
            into += [(each.sequence, each.id) for each in page.events]
            cursor = page.next_cursor
            if not page.has_more:
                await asyncio.sleep(1 + self.world.dice.random())

    async def _operate(self) -> None:
        """Pause and resume endpoints, and take back credentials, while all this goes on."""
        ids = Ids(self.world.dice.randbytes)
        engine = Engine(self.databases, self.world, ids, lambda _site, _head: None)
        registry = self._registry(ids, engine)
        while self._posting:
            await asyncio.sleep(3 * self.world.dice.random())
            self._gateways.revoke()
            endpoint_id = self.world.dice.choice(sorted(self._paths))
            for use in (registry.pause, registry.resume):
                while True:
                    try:
                        await use(SITE, endpoint_id)
                        break
                    except ConnectionError:
                        await asyncio.sleep(0.1)
                await asyncio.sleep(2 * self.world.dice.random())

    async def _come_to_rest(self) -> None:
        calm_s = self.world.loop.time()
        while (passed_s := self.world.loop.time() - calm_s) < CALM_S:
            await asyncio.sleep(10)
            with self.world.books.begin() as connection:
                waiting = connection.execute(select(deliveries.c.id).where(deliveries.c.due_at.is_not(None))).first()
                facts = connection.execute(select(outgoing_facts.c.key)).first()
                head = feed.read_head(connection, SITE.id).sequence
                relayed = read_position(connection, SITE.id)
                behind = any(len(each) < head for each in self.followed)
                # Whoever follows has what there is after seconds, or never.
                behind |= passed_s < STREAMS_S and self._streams_behind(connection)
            if waiting is None and facts is None and not behind and relayed == head:
                return
        self.world.broken.append("not at rest two hours after the last fault")

    def _streams_behind(self, conn: Connection) -> bool:
        stored = conn.execute(select(events).order_by(events.c.sequence)).all()
        return any(len(track.got) < len(track.expected(stored)) for each in self._audience for track in each.tracks)

    def _check(self, conn: Connection) -> None:
        stored = conn.execute(select(events).order_by(events.c.sequence)).all()
        posted = [msgspec.json.decode(row.body)["data"] for row in stored if row.type == "entry.posted"]
        names = Counter(entry["metadata"]["name"] for entry in posted)
        self._hold(
            names == Counter(list(self.acknowledged)), f"posted {names}, acknowledged {sorted(self.acknowledged)}"
        )
        ids = {entry["metadata"]["name"]: entry["id"] for entry in posted}
        self._hold(ids == self.acknowledged, "an acknowledged entry is another than the one that was posted")
        sums: Counter[str] = Counter()
        for line in conn.execute(select(lines.c.direction, lines.c.amount)):
            sums[line.direction] += line.amount
        self._hold(sums["debit"] == sums["credit"], f"debits and credits differ: {sums}")
        whole = [(row.sequence, row.id) for row in stored]
        self._hold([number for number, _ in whole] == list(range(1, len(whole) + 1)), "the feed has a gap")
        for each in self.followed:
            self._hold(each == whole, f"a follower saw {[number for number, _ in each]}")
        for listener in self._audience:
            for track in listener.tracks:
                got, expected = ([number for number, _ in some] for some in (track.got, track.expected(stored)))
                self._hold(track.got == track.expected(stored), f"{listener.name} saw {got} and not {expected}")
        self._hold(not self._gateways.overdue(), "a stream outlived its credential or its time")
        for endpoint_id, name in self._paths.items():
            self._check_endpoint(conn, endpoint_id, name, stored)

    def _check_endpoint(self, conn: Connection, endpoint_id: str, name: str, stored: list[Row[Any]] | Any) -> None:
        url = f"http://10.0.0.1/{name}"
        query = select(deliveries).where(deliveries.c.endpoint_id == endpoint_id)
        rows = conn.execute(query.order_by(deliveries.c.endpoint_sequence)).all()
        numbers = [row.endpoint_sequence for row in rows]
        self._hold(numbers == list(range(1, len(rows) + 1)), f"{name}: numbers {numbers}")
        everything = ENDPOINTS[name]["event_types"] == ["*"]
        about = f'"endpoint_id":"{endpoint_id}"'.encode()
        wanted = [
            row.id
            for row in stored[BEFORE_ENDPOINTS:]
            if row.type.startswith("entry.")
            or (
                everything
                and row.resource_id != endpoint_id
                and not (row.type.startswith("delivery.") and about in row.body)
            )
        ]
        self._hold([row.event_id for row in rows] == wanted, f"{name}: {len(rows)} deliveries for {len(wanted)} events")
        self._hold({row.state for row in rows} <= {"delivered"}, f"{name}: {Counter(row.state for row in rows)}")
        missing = set(numbers) - self.world.answered[url]
        self._hold(not missing, f"{name}: never received {missing}")
        accounts = {}
        bodies = {row.id: row.body for row in stored}
        for row in rows:
            data = msgspec.json.decode(bodies[row.event_id])["data"]
            accounts[row.endpoint_sequence] = {line["account_id"] for line in data.get("lines", [])}
        self._check_order(url, name, accounts)

    def _check_order(self, url: str, name: str, accounts: dict[int, set[str]]) -> None:
        ordering = ENDPOINTS[name].get("ordering")
        if ordering is None:
            return
        had: set[int] = set()
        for arrival in self.world.arrivals:
            if arrival.path != url:
                continue
            before = [
                number
                for number in range(1, arrival.number)
                if number not in had and (ordering == "ordered" or accounts[number] & accounts[arrival.number])
            ]
            self._hold(not before, f"{name}: {arrival.number} came before {before}")
            if arrival.status == 200:
                had.add(arrival.number)

    def _hold(self, promise: bool, otherwise: str) -> None:
        if not promise:
            self.world.broken.append(otherwise)


def _posting(command: PostEntry, key: IdempotencyKey) -> Ask:
    return lambda engine: engine.submit(SITE, command, key=key)


def _reading(cursor: str | None, limit: int) -> Ask:
    return lambda engine: engine.events_after(SITE, cursor, limit)


def simulate(seed: int, books: Books) -> Outcome:
    """Run the story of one seed."""
    # What the product draws for itself, so that not all come back at once, is a part of the story too.
    drawn_before = random.getstate()
    random.seed(seed)
    dice = random.Random(seed)
    loop = SimulatedLoop(dice)
    world = World(loop, dice, books.fresh())
    loop.set_task_factory(world.factory)
    try:
        with capture_logs():
            loop.run_until_complete(Scenario(world).run())
    finally:
        asyncio.set_event_loop(None)
        loop.close()
        random.setstate(drawn_before)
    return Outcome(
        seed=seed, broken=world.broken, digest=world.digest(), kills=world.kills, requests=len(world.arrivals)
    )


def explore(seeds: Sequence[int]) -> list[Outcome]:
    """Run seeds one after the other."""
    books = Books()
    # A story leaves little behind; to look through everything again and again would take a tenth of the time.
    gc.disable()
    try:
        return [simulate(seed, books) for seed in seeds]
    finally:
        gc.enable()
        gc.collect()
        books.close()
