"""Rounds of harm: in each, one of the processes is killed or frozen under load, and everything is held to what was promised.

One deployment lives through all rounds. What a round adds to the feed, to the followers and to the partner is looked at after it.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final

import aiohttp
import asyncpg
import msgspec
from sqlalchemy.engine import make_url
from standardwebhooks import Webhook

from tests.faults.conftest import Stage
from tests.faults.partner import Arrival, Partner
from tests.faults.promises import SETTLE_S
from tests.processes import GatewayProgram, WorkerProgram, children_of, until

DOWN_S: Final = (0.2, 3.0)
"""For how long what was killed is away."""
FROZEN_S: Final = (1.0, 6.5)
"""Up to longer than a session may be idle in a transaction, and than any lease here."""
PATIENCE: Final = aiohttp.ClientTimeout(total=10)
COUNTS: Final = """
    SELECT coalesce(sum(attempts), 0), count(*) FILTER (WHERE state = 'delivered'), count(*)
    FROM deliveries WHERE endpoint_id = $1
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """What a round came to."""

    number: int
    fault: str
    lasted_s: float
    posted: int
    delivered: int
    lost: int
    duplicated: int
    in_flight: int
    """Attempts whose answer nobody settled: what was under way when something died, or was made while nobody answered."""
    first_again_s: float | None

    def __str__(self) -> str:
        again = "-" if self.first_again_s is None else f"{self.first_again_s:.1f} s"
        return (
            f"round {self.number:>3}  {self.fault:<18} {self.lasted_s:4.1f} s  posted {self.posted:>5}  delivered "
            f"{self.delivered:>5}  lost {self.lost}  duplicated {self.duplicated:>3} of {self.in_flight:>3} in flight  "
            f"first redelivery {again}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Something that is done to a process, and undone."""

    name: str
    strike: Callable[[], Awaitable[None]]
    heal: Callable[[], Awaitable[None]]
    seconds: tuple[float, float]


class _Page(msgspec.Struct):
    data: list[msgspec.Raw]
    next_cursor: str | None


@dataclass(slots=True, kw_only=True)
class Rounds:
    """All rounds of one deployment."""

    stage: Stage
    partner: Partner
    endpoint: dict[str, Any]
    counting: asyncpg.Connection
    chance: random.Random
    feed: list[bytes] = field(default_factory=list)
    done: list[Round] = field(default_factory=list)
    _cursor: str | None = None
    _posted: set[str] = field(default_factory=set)
    _events: dict[int, tuple[str, bytes]] = field(default_factory=dict)
    _attempts: set[tuple[int, int]] = field(default_factory=set)
    _received: set[int] = field(default_factory=set)
    _checked: int = 0
    _unsettled: int = 0

    async def run(self, number: int) -> Round:
        """Do the harm of a round under load, and check what there is afterwards; raises AssertionError or TimeoutError."""
        faults = self._faults(number)
        fault = faults[(number - 1) % len(faults)]
        posted, lasted_s = len(self.stage.load.acknowledged), self.chance.uniform(*fault.seconds)
        for gateway, worker in zip(self.stage.gateways, self.stage.workers, strict=True):
            await gateway.ready()
            await worker.ready()
        async with self.stage.under_load() as posting:
            struck_s = time.time()
            await fault.strike()
            await asyncio.wait({posting}, timeout=lasted_s)
            await fault.heal()
        await self._check_feed()
        fresh, duplicated = await self._check_partner()
        again = [each.at_s - struck_s for each in fresh if each.attempt > 1 and each.at_s > struck_s]
        attempts, delivered, rows = await (await self._connected()).fetchrow(COUNTS, self.endpoint["id"])
        assert delivered == rows == len(self._events), f"{rows} deliveries, {delivered} of them delivered"
        unsettled, self._unsettled = attempts - delivered - self._unsettled, attempts - delivered
        assert duplicated <= unsettled, "more arrived twice than was in flight"
        made = Round(
            number=number, fault=fault.name, lasted_s=lasted_s, posted=len(self.stage.load.acknowledged) - posted,
            delivered=len(fresh) - duplicated, lost=len(self.stage.load.acknowledged.keys() - self._posted),
            duplicated=duplicated, in_flight=unsettled, first_again_s=min(again, default=None),
        )  # fmt: skip
        self.done.append(made)
        return made

    def summary(self) -> str:
        """Return all rounds in a few lines."""
        lines = []
        for name in dict.fromkeys(each.fault for each in self.done):
            of = [each for each in self.done if each.fault == name]
            again = [each.first_again_s for each in of if each.first_again_s is not None]
            lines.append(
                f"{name:<18} {len(of):>3} rounds: posted {sum(each.posted for each in of)}, lost "
                f"{sum(each.lost for each in of)}, duplicated {sum(each.duplicated for each in of)} of "
                f"{sum(each.in_flight for each in of)} in flight, first redelivery at most "
                + (f"{max(again):.1f} s" if again else "-")
            )
        return "\n".join(lines)

    def _faults(self, number: int) -> list[Fault]:
        """Return the ten faults; which of the gateways is hit alternates, and whether all workers are, or one."""
        stage, turn = self.stage, (number - 1) // 10 % 2
        gateway, workers = stage.gateways[turn], stage.workers[: 2 - turn]

        async def start_redis() -> None:
            await asyncio.to_thread(stage.valkey.start)

        async def start_postgres() -> None:
            await asyncio.to_thread(stage.postgres.start)

        async def kill_partner() -> None:
            self.partner.kill()

        async def kill_redis() -> None:
            stage.valkey.kill()

        return [
            _killed("gateway", gateway),
            _killed("worker", *workers),
            Fault(name="redis killed", strike=kill_redis, heal=start_redis, seconds=DOWN_S),
            Fault(name="postgresql killed", strike=self._kill_postgres, heal=start_postgres, seconds=DOWN_S),
            Fault(name="receiver killed", strike=kill_partner, heal=self.partner.start, seconds=DOWN_S),
            _frozen("gateway", lambda: [gateway.pid]),
            _frozen("worker", lambda: [each.pid for each in workers]),
            _frozen("redis", lambda: [stage.valkey.pid or 0]),
            _frozen("postgresql", self._postgres),
            _frozen("receiver", lambda: [self.partner.pid]),
        ]

    def _postgres(self) -> list[int]:
        """Return the server's processes, the first before those that it would start again."""
        first = self.stage.postgres.pid
        assert first is not None
        return [first, *children_of(first)]

    async def _kill_postgres(self) -> None:
        _send(self._postgres(), signal.SIGKILL)
        await asyncio.to_thread(self.stage.postgres.kill)
        self.counting.terminate()

    async def _check_feed(self) -> None:
        """Read on where the last round ended: numbers without a gap, every entry once, every follower the same bytes."""
        stage = self.stage
        while (page := await until(self._page, timeout_s=SETTLE_S)).data:
            for raw in page.data:
                self._take(bytes(raw))
            self._cursor = page.next_cursor
        assert self._posted == stage.load.acknowledged.keys(), "what was acknowledged is not what was posted"
        for follower in stage.followers:
            await follower.until(len(self.feed), timeout_s=SETTLE_S)
            assert follower.bodies[self._checked :] == self.feed[self._checked :], (
                f"{follower.url} did not see the feed"
            )
        self._checked = len(self.feed)

    async def _page(self) -> _Page | None:
        """Return a page of the feed as it is sent, if a gateway answers."""
        after = "" if self._cursor is None else f"&after={self._cursor}"
        url = f"{self.stage.load.gateways[0]}/v1/events?limit=1000{after}"
        headers = {"authorization": f"Bearer {self.stage.load.credentials.api_key}"}
        try:
            async with self.stage.http.get(url, headers=headers, timeout=PATIENCE) as answer:
                raw = await answer.read()
        except (aiohttp.ClientError, TimeoutError):
            return None
        return msgspec.json.decode(raw, type=_Page) if answer.status == 200 else None

    def _take(self, body: bytes) -> None:
        envelope = msgspec.json.decode(body)
        self.feed.append(body)
        assert envelope["sequence"] == len(self.feed), "the feed has a gap"
        if envelope["type"] == "entry.posted":
            key = envelope["data"]["metadata"]["key"]
            assert key not in self._posted, f"{key} was posted twice"
            assert self.stage.load.acknowledged.get(key) == envelope["data"]["id"]
            self._posted.add(key)
        if envelope["type"].startswith("entry."):
            self._events[len(self._events) + 1] = (envelope["id"], body)

    async def _check_partner(self) -> tuple[list[Arrival], int]:
        """Wait until the partner has everything; return what is new there and how much of that came twice."""
        fresh: list[Arrival] = []
        signed = Webhook(self.endpoint["secret"])
        duplicated = 0

        async def everything() -> bool | None:
            nonlocal duplicated
            for each in self.partner.read():
                fresh.append(each)
                signed.verify(each.body, each.headers)
                assert (each.headers["webhook-id"], each.body.encode()) == self._events[each.number]
                assert (each.number, each.attempt) not in self._attempts, f"attempt {each.attempt} was made twice"
                self._attempts.add((each.number, each.attempt))
                duplicated += each.number in self._received
                self._received.add(each.number)
            settled = await self._connected()
            counts = await settled.fetchrow(COUNTS, self.endpoint["id"])
            return (len(self._received) == len(self._events) == counts[1]) or None

        try:
            await until(everything, timeout_s=SETTLE_S)
        except TimeoutError:
            missing = sorted(self._events.keys() - self._received)
            raise TimeoutError(f"{len(missing)} of {len(self._events)} never arrived: {missing[:20]}") from None
        return fresh, duplicated

    async def _connected(self) -> asyncpg.Connection:
        if self.counting.is_closed():
            self.counting = await watch(self.stage)
        return self.counting


async def watch(stage: Stage) -> asyncpg.Connection:
    """Connect to the sites' database as the role that sees every row."""
    url = make_url(stage.deployment.site_database.owner_url).set(drivername="postgresql")
    return await asyncpg.connect(url.render_as_string(hide_password=False))


def _killed(name: str, *programs: GatewayProgram | WorkerProgram) -> Fault:
    async def strike() -> None:
        for program in programs:
            program.kill()

    async def heal() -> None:
        for program in programs:
            program.start()
        for program in programs:
            await program.ready()

    return Fault(name=f"{name} killed", strike=strike, heal=heal, seconds=DOWN_S)


def _frozen(name: str, pids: Callable[[], list[int]]) -> Fault:
    stopped: list[int] = []

    async def strike() -> None:
        stopped.extend(pids())
        _send(stopped, signal.SIGSTOP)

    async def heal() -> None:
        _send(stopped, signal.SIGCONT)

    return Fault(name=f"{name} frozen", strike=strike, heal=heal, seconds=FROZEN_S)


def _send(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue
