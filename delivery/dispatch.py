"""Dispatch, resident in a worker: claim what is due, send it with no transaction open, settle what came of it.

One loop a site takes turns: in one transaction it settles everything that finished meanwhile and claims for every endpoint
that was woken; with neither to do it waits for a signal. What the relay makes is claimed along with it, as far as there is
room. So batches grow with the load and nothing waits for a timer. A request runs in a task of its own; nobody waits for a
partner but that task. The database is the truth: what this process forgets is found by the sweep when its lease has run out.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

import structlog
from sqlalchemy import Connection

from delivery.attempts import Attempts, batches, interrupted
from delivery.bodies import Bodies
from delivery.claim import Claim, Claimed, claim
from delivery.failing import Policy
from delivery.lane import Along, Lane
from delivery.order import PARALLEL
from delivery.report import Meter, Report
from delivery.rows import DeliveryRow, EndpointRow
from delivery.sender import Sender
from delivery.settle import Finished, Settlement, judge_apart, settle_apart
from delivery.turn import Turn, take_turn
from delivery.vault import Vault
from engine.clock import Clock
from engine.databases import Database, Databases, Site

ENDPOINTS_A_TURN: Final = 64
ATTEMPTS_A_TURN: Final = 500

log = structlog.get_logger("gledger.delivery")


@dataclass(frozen=True, slots=True, kw_only=True)
class DispatchSettings:
    """`in_flight_total` requests at once in this process; a lease lasts an endpoint's timeout and `settle_margin_s`.

    `after_trouble_s` is waited when the database failed a turn.
    """

    in_flight_total: int = 1000
    settle_margin_s: float = 10.0
    after_trouble_s: float = 1.0
    policy: Policy = field(default_factory=Policy)


class Dispatcher:
    """Claims, sends and settles for every site that is woken."""

    def __init__(
        self,
        databases: Databases,
        sender: Sender,
        vault: Vault,
        *,
        clock: Clock,
        on_retry_scheduled: Callable[[Site, str, int], None],
        on_settled: Callable[[Site, Settlement], None] | None = None,
        on_claimed: Callable[[Site, Collection[str], int], None] | None = None,
        settings: DispatchSettings | None = None,
        meter: Meter | None = None,
        jitter: Callable[[], float] = random.random,
        bodies: Bodies | None = None,
    ) -> None:
        """`on_retry_scheduled` is told site, endpoint and when (micros); `on_settled` what was settled; `on_claimed` where, and when."""
        self._databases = databases
        self._clock = clock
        self._settings = settings or DispatchSettings()
        # A lease that was spent on waiting for us might not outlast the request: then the request is not made.
        self._attempts = Attempts(sender, vault, late_s=self._settings.settle_margin_s / 2)
        self._on_retry_scheduled = on_retry_scheduled
        self._on_settled = on_settled
        self._on_claimed = on_claimed
        self._report = Report(meter)
        self._jitter = jitter
        self._bodies = bodies or Bodies()
        self._lanes: dict[int, Lane] = {}
        self._loops: set[asyncio.Task[None]] = set()
        self._timers: dict[tuple[int, str], asyncio.TimerHandle] = {}
        self._apart: set[int] = set()
        self._out = 0
        self._stopping = False
        self._quiet = asyncio.Event()
        self._quiet.set()

    def wake(self, site: Site, endpoint_id: str) -> None:
        """Say that the endpoint may have something due; returns at once, many wakes become one."""
        if self._stopping:
            return
        lane = self._lane(site)
        lane.woken[endpoint_id] = None
        lane.signal.set()

    @contextmanager
    def claiming(self, site: Site) -> Iterator[Along]:
        """Claim for this process in the transaction that makes what is due, which is committed in the block; send at the block's end.

        Where the block fails, what was claimed is nobody's until its lease has run out, and the next block of the site claims nothing.
        """
        along = Along(site, self._claim)
        try:
            yield along
        except BaseException:
            # Whatever it was: what the block makes is not to wait for what can be claimed of it.
            self._apart.add(site.id)
            raise
        finally:
            self._out -= along.places
            self._feed_starved()
        if along.got is not None:
            lane = self._lane(site)
            # A turn that went on meanwhile may not have known that there is more: the next one looks.
            lane.woken.update(dict.fromkeys([*along.got.unserved, *sorted(along.got.more)]))
            lane.signal.set()
            self._out += len(along.got.claimed)
            self._begin_claimed(lane, along.got, along.began, along.now_us)

    def _claim(
        self,
        along: Along,
        conn: Connection,
        endpoint_ids: Collection[str],
        locked: Mapping[str, EndpointRow],
        fresh: Sequence[DeliveryRow],
        now_us: int,
    ) -> tuple[Claim | None, frozenset[str]]:
        lane = self._lanes.get(along.site.id)
        free = self._settings.in_flight_total - self._out
        if self._stopping or free <= 0 or along.site.id in self._apart or (lane is not None and lane.narrow):
            self._apart.discard(along.site.id)
            return None, frozenset(endpoint_ids)
        busy = frozenset[str]() if lane is None else lane.full | lane.more
        chosen = sorted(endpoint_id for endpoint_id in endpoint_ids if endpoint_id not in busy)[:ENDPOINTS_A_TURN]
        if chosen:
            along.places = max(1, free // 2)
            self._out += along.places
            # Locks may have been waited for since then: leases and slots count from here.
            now_us = max(self._clock.now_us(), now_us)
            along.began, along.now_us = asyncio.get_running_loop().time(), now_us
            along.got = claim(
                conn,
                along.site.id,
                chosen,
                locked,
                self._bodies,
                now_us=now_us,
                free=along.places,
                settle_margin_us=round(self._settings.settle_margin_s * 1_000_000),
                fresh=fresh,
            )
        return along.got, frozenset(endpoint_ids).difference(chosen)

    def _lane(self, site: Site) -> Lane:
        lane = self._lanes.get(site.id)
        if lane is None:
            lane = self._lanes[site.id] = Lane(site=site)
            self._quiet.clear()
            loop = asyncio.create_task(self._run(lane), name=f"dispatch-{site.id}")
            self._loops.add(loop)
            loop.add_done_callback(self._loops.discard)
        return lane

    async def idle(self) -> None:
        """Return when nothing is woken, in flight or unsettled."""
        await self._quiet.wait()

    async def drain(self, timeout_s: float) -> None:
        """Stop claiming, let requests finish for so long, give back what is left, and settle.

        What cannot be settled either, because the database is away, is found by its lease.
        """
        self._stopping = True
        for timer in self._timers.values():
            timer.cancel()
        for lane in self._lanes.values():
            lane.signal.set()
        try:
            async with asyncio.timeout(timeout_s):
                await self.idle()
        except TimeoutError:
            for lane in list(self._lanes.values()):
                for task in lane.out:
                    task.cancel()
        try:
            async with asyncio.timeout(self._settings.settle_margin_s):
                await self.idle()
        except TimeoutError:
            for loop in list(self._loops):
                loop.cancel()
            await asyncio.gather(*self._loops, return_exceptions=True)

    async def _run(self, lane: Lane) -> None:
        try:
            database = None
            while True:
                lane.signal.clear()
                try:
                    database = database or await self._databases.of(lane.site)
                    left = await self._settle_apart(lane, database)
                    await self._take_turn(lane, database, left)
                except Exception:
                    # Ours, whatever it is: nothing is lost, the same work is tried again.
                    log.exception("delivery.dispatch_trouble", site_id=lane.site.id)
                    await asyncio.sleep(self._settings.after_trouble_s)
                    continue
                waiting = bool(lane.woken) and not lane.starved and not self._stopping
                if lane.finished or waiting:
                    continue
                if not lane.out and (self._stopping or not lane.woken):
                    return
                await lane.signal.wait()
        finally:
            del self._lanes[lane.site.id]
            if not self._lanes:
                self._quiet.set()

    async def _settle_apart(self, lane: Lane, database: Database) -> int:
        """Settle what needs no endpoint's lock, where nothing is to be claimed; return how many attempts are a turn's to settle."""
        if lane.narrow:
            return 1
        finished = lane.finished[:ATTEMPTS_A_TURN]
        if lane.woken or any(_frees(lane, one.claimed) for one in finished):
            return ATTEMPTS_A_TURN
        now_us = self._clock.now_us()
        try:
            apart = judge_apart(finished, lane.endpoints, now_us=now_us, policy=self._settings.policy)
            if not apart.settled:
                return ATTEMPTS_A_TURN
            done = await database.write_once(
                lambda conn: settle_apart(conn, lane.site.id, apart, now_us), site_id=lane.site.id
            )
        except Exception:
            self._put_aside(lane, Turn(finished=finished, endpoint_ids=[], free=0), now_us)
            raise
        if not done:
            return len(finished)
        over = {id(one) for one, _ in apart.settled}
        lane.finished = [one for one in lane.finished if id(one) not in over]
        self._tell(lane.site, apart.settlement)
        return len(finished) - len(over)

    async def _take_turn(self, lane: Lane, database: Database, most: int) -> None:
        """Settle what finished, at most so many, and claim for whom there may be something, in one transaction; then send."""
        finished = lane.finished[:most]
        freed = {one.claimed.endpoint.id for one in finished if _frees(lane, one.claimed)}
        free = self._settings.in_flight_total - self._out
        lane.starved = free <= 0
        # Or an endpoint that hangs would be locked and read again at every event, at the expense of the others.
        for endpoint_id in lane.full.intersection(lane.woken):
            del lane.woken[endpoint_id]
            lane.more.add(endpoint_id)
        chosen = list(dict.fromkeys([*lane.woken, *sorted(freed)]))[: 1 if lane.narrow else ENDPOINTS_A_TURN]
        if lane.starved or self._stopping or (lane.narrow and finished):
            chosen = []
        if not finished and not chosen:
            return
        # Half of what is free is taken before the transaction: sites that claim at the same time share it.
        free = max(1, free // 2) if chosen else 0
        self._out += free
        began = asyncio.get_running_loop().time()
        now_us = self._clock.now_us()
        turn = Turn(finished=finished, endpoint_ids=chosen, free=free)
        claimed: list[Claimed] = []
        # Before, not after: whoever is woken during the transaction may have what it did not see.
        for endpoint_id in chosen:
            lane.woken.pop(endpoint_id, None)
        try:
            settlement, got = await database.write(
                lambda conn: take_turn(
                    conn,
                    lane.site.id,
                    turn,
                    self._bodies,
                    now_us=now_us,
                    policy=self._settings.policy,
                    settle_margin_us=round(self._settings.settle_margin_s * 1_000_000),
                    chance=self._jitter,
                ),
                site_id=lane.site.id,
            )
            claimed = got.claimed
        except Exception:
            self._put_aside(lane, turn, now_us)
            raise
        finally:
            self._out += len(claimed) - free
            self._feed_starved()
        del lane.finished[: len(finished)]
        lane.narrow = max(lane.narrow - 1, 0)
        lane.woken.update(dict.fromkeys([*got.unserved, *sorted(freed.difference(chosen))]))
        lane.more = (lane.more - freed) | got.more
        lane.endpoints.update(settlement.endpoints)
        self._begin_claimed(lane, got, began, now_us)
        self._tell(lane.site, settlement)

    def _wake_later(self, site: Site, endpoint_id: str, wait_s: float) -> None:
        """Wake an endpoint when its rate lets the next request begin; the sweep finds it if this process ends before."""

        def wake() -> None:
            del self._timers[site.id, endpoint_id]
            self.wake(site, endpoint_id)

        if (site.id, endpoint_id) not in self._timers and not self._stopping:
            timer = asyncio.get_running_loop().call_later(max(wait_s, 0), wake)
            self._timers[site.id, endpoint_id] = timer

    def _put_aside(self, lane: Lane, turn: Turn, now_us: int) -> None:
        # Put last, so that others go first; an attempt whose lease has run out is nobody's to settle for certain.
        lane.narrow = len(turn.finished) + len(turn.endpoint_ids)
        lane.woken.update(dict.fromkeys(turn.endpoint_ids))
        still = [one for one in turn.finished if (one.claimed.delivery.due_at or 0) > now_us]
        lane.finished = [*lane.finished[len(turn.finished) :], *still]

    def _begin_claimed(self, lane: Lane, got: Claim, began: float, now_us: int) -> None:
        for together in batches(got.claimed):
            self._begin(lane, together, began)
        if self._on_claimed is not None and got.claimed:
            self._on_claimed(lane.site, {one.endpoint.id for one in got.claimed}, now_us)
        for endpoint_id, at_us in got.later.items():
            self._wake_later(lane.site, endpoint_id, (at_us - now_us) / 1_000_000)

    def _begin(self, lane: Lane, together: Sequence[Claimed], began: float) -> None:
        """Send deliveries of one endpoint in one request, of which more than one are a batch."""
        at_us = self._clock.now_us()
        task = asyncio.create_task(self._attempts.send(lane.site, together, at_us, began))
        lane.out.add(task)
        endpoint = lane.endpoints[together[0].endpoint.id] = together[0].endpoint
        lane.busy[endpoint.id] += len(together)
        if lane.busy[endpoint.id] >= endpoint.circuit.limit(endpoint.max_in_flight, at_us):
            lane.full.add(endpoint.id)

        def come_back(task: asyncio.Task[list[Finished]]) -> None:
            # A task that is cancelled before it ran leaves nothing else behind than this call.
            over = interrupted(together, at_us) if task.cancelled() else task.result()
            lane.out.discard(task)
            lane.busy[endpoint.id] -= len(together)
            lane.full.discard(endpoint.id)
            lane.finished += over
            self._out -= len(together)
            lane.signal.set()
            self._feed_starved()

        task.add_done_callback(come_back)

    def _tell(self, site: Site, settlement: Settlement) -> None:
        """Say what was settled, to whoever reports it, schedules retries or submits facts."""
        self._report.settled(site, settlement)
        for endpoint_id, due_at in settlement.retries.items():
            self._on_retry_scheduled(site, endpoint_id, due_at)
        if self._on_settled is not None and settlement.settled:
            self._on_settled(site, settlement)

    def _feed_starved(self) -> None:
        if self._out < self._settings.in_flight_total:
            for lane in self._lanes.values():
                if lane.starved:
                    lane.signal.set()


def _frees(lane: Lane, claimed: Claimed) -> bool:
    """Tell whether the end of an attempt may let another begin at its endpoint."""
    # Where order is kept, or a ping was sent, the next is let go by the very settling of this one.
    endpoint = claimed.endpoint
    return endpoint.id in lane.more or endpoint.ordering != PARALLEL or endpoint.status != "active"
