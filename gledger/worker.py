"""The worker: relays feeds into deliveries, dispatches what is due, sweeps up what no wake-up covered.

arq carries the deferred retries and the sweep; the database is the truth, so whatever Redis forgets is found by the
sweep. A job only wakes the resident dispatcher and returns: no job ever awaits a partner.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
import structlog
from arq import Worker as ArqWorker
from arq import cron, func
from arq.connections import ArqRedis
from redis.asyncio import ConnectionPool
from redis.exceptions import RedisError

from delivery.bodies import Bodies
from delivery.dispatch import Dispatcher, DispatchSettings
from delivery.facts import FactSender
from delivery.failing import Policy
from delivery.giving_way import GivingWay
from delivery.relay import Relay
from delivery.replay_run import ReplayRunner
from delivery.sender import Sender
from delivery.settle import Settlement
from delivery.sweep import Sweeper
from engine.databases import Site
from gledger.housekeeping import keep_house, keep_spans
from gledger.meters import DeliveryMeter
from gledger.parts import Parts
from gledger.replaying import Replaying
from gledger.tending import Tending
from gledger.wakeups import WakeUp

POLL_S: Final = 0.25
HOT_S: Final = 60.0
SWEEP_S: Final = 5
LONE_SWEEP_S: Final = 10.0
_AGAIN_S: Final = 1.0
_QUEUE: Final = "gledger:arq"
# Of the seconds a process has to end: for requests under way, and for those and their settling together.
_REQUESTS_SHARE: Final = 0.6
_DRAIN_SHARE: Final = 0.75
_log = structlog.get_logger("gledger.worker")


class DeliveryWorker:
    """Everything that turns committed events into delivered webhooks, in one process."""

    def __init__(self, parts: Parts) -> None:
        """Put relay, dispatcher and sweeper together; nothing runs before `run`."""
        self._parts = parts
        settings = parts.settings
        schedule = settings.webhook_retry_schedule
        self._sender = Sender(parts.egress, proxy=settings.egress_proxy or None)
        bodies = Bodies()
        self._relay = Relay(parts.databases, clock=parts.clock, ids=parts.ids, retry_schedule_s=schedule, bodies=bodies)
        self._facts = FactSender(parts.databases, parts.record_fact)
        self._sweeper = Sweeper(parts.databases, clock=parts.clock)
        self._dispatcher = Dispatcher(
            parts.databases,
            self._sender,
            parts.authority.vault,
            clock=parts.clock,
            on_retry_scheduled=self._schedule,
            on_settled=self._settled,
            on_claimed=self._claimed,
            settings=DispatchSettings(
                policy=Policy(retry_schedule_s=schedule, disable_after_s=settings.webhook_disable_after_s),
            ),
            meter=DeliveryMeter(parts.registry),
            bodies=bodies,
        )
        self._giving_way = GivingWay()
        runner = ReplayRunner(parts.databases, clock=parts.clock, ids=parts.ids, bodies=bodies)
        self._replaying = Replaying(runner, parts.clock, self.due, self._giving_way)
        self._tending = Tending(parts.engine, parts.clock)
        self._sites: dict[int, _Followed] = {}
        self._retries: dict[tuple[int, str], tuple[Site, int]] = {}
        self._retry_waits = asyncio.Event()
        self._timers: set[asyncio.TimerHandle] = set()
        self._planned: set[tuple[int, int]] = set()

    def wake(self, site: Site, _head: int = 0) -> None:
        """Say that the site's feed has moved."""
        self._giving_way.live(self._parts.clock.now_us())
        self._followed(site).wake()
        self._tending.wake(site)

    def due(self, site: Site, endpoint_id: str) -> None:
        """Say that an endpoint has something due."""
        self._dispatcher.wake(site, endpoint_id)

    def replay(self, site: Site) -> None:
        """Say that a replay of the site may have something to do."""
        self._replaying.wake(site)

    def heard(self, message: WakeUp) -> None:
        """Take a wake-up from another process."""
        if message.endpoint_id is not None:
            self.due(message.site, message.endpoint_id)
        elif message.replay:
            self.replay(message.site)
        else:
            self.wake(message.site)

    async def run(self, stop: asyncio.Event) -> None:
        """Work until told to stop, then let requests under way finish, settle them and give the rest back."""
        tasks = [
            asyncio.create_task(each)
            for each in (
                self._run_arq(),
                self._sweep_alone(),
                self._send_retries(),
                keep_house(self._parts),
                keep_spans(self._parts),
            )
        ]
        try:
            await stop.wait()
        finally:
            for task in tasks:
                task.cancel()
            for followed in self._sites.values():
                followed.stop()
            await self._replaying.stop()
            await self._tending.stop()
            await asyncio.gather(*tasks, *(each.task for each in self._sites.values()), return_exceptions=True)
            for timer in self._timers:
                timer.cancel()
            # Leases that cannot be given back because the database is away run out by themselves.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._parts.settings.drain_timeout_s * _DRAIN_SHARE):
                    await self._dispatcher.drain(self._parts.settings.drain_timeout_s * _REQUESTS_SHARE)
            await self._sender.close()

    async def sweep(self) -> None:
        """Look at every site: relay what waits, dispatch what is due, hand over facts, plan what is due soon."""
        for site in await self._parts.sites():
            # A look, no news: a site where nothing happens is looked at by sweeps alone.
            self._followed(site).look()
            self._tending.wake(site)
            due = await self._sweeper.run(site)
            for endpoint_id in due.endpoints:
                self._dispatcher.wake(site, endpoint_id)
            if due.next_due_at is not None:
                self._plan(site, due.next_due_at)
            await self._facts.run(site)
            await self._replaying.sweep(site)

    def _followed(self, site: Site) -> _Followed:
        found = self._sites.get(site.id)
        if found is None:
            found = self._sites[site.id] = _Followed(self._follow_once, site)
        return found

    async def _follow_once(self, site: Site) -> bool:
        """Relay a page, and send what is due of it; return whether more waits."""
        began = time.monotonic()
        with self._dispatcher.claiming(site) as claims:
            outcome = await self._relay.run(site, claims)
        if outcome.moved:
            self._followed(site).stay()
            now_us = self._parts.clock.now_us()
            self._giving_way.live(now_us)
            if not outcome.behind:
                self._giving_way.note(round((time.monotonic() - began) * 1e6), now_us)
        for endpoint_id in outcome.endpoints_woken:
            self._dispatcher.wake(site, endpoint_id)
        if outcome.next_due_at is not None:
            self._plan(site, outcome.next_due_at)
        return outcome.behind

    def _claimed(self, site: Site, endpoint_ids: Collection[str], now_us: int) -> None:
        self._replaying.claimed(site, endpoint_ids, now_us)

    def _settled(self, site: Site, settlement: Settlement) -> None:
        self._replaying.settled(site, settlement.replays)
        if settlement.facts:
            task = asyncio.get_running_loop().create_task(self._hand_over(site))
            task.add_done_callback(lambda done: done.cancelled() or done.exception())

    async def _hand_over(self, site: Site) -> None:
        try:
            await self._facts.run(site)
        except Exception as error:  # noqa: BLE001 - the facts are stored: the sweep hands them over
            _log.warning("facts.not_sent", site_id=site.id, error=str(error))

    def _plan(self, site: Site, due_at: int) -> None:
        """Look at the site again when something is due, if that is before the next sweep."""
        wait_s = (due_at - self._parts.clock.now_us()) / 1e6
        place = (site.id, due_at)
        if wait_s > LONE_SWEEP_S + SWEEP_S or place in self._planned:
            return
        self._planned.add(place)
        loop = asyncio.get_running_loop()

        def look() -> None:
            self._timers.discard(timer)
            self._planned.discard(place)
            task = loop.create_task(self._dispatch_due(site))
            task.add_done_callback(lambda done: done.cancelled() or done.exception())

        timer = loop.call_later(max(wait_s, 0.001), look)
        self._timers.add(timer)

    async def _dispatch_due(self, site: Site) -> None:
        try:
            for endpoint_id in (await self._sweeper.run(site)).endpoints:
                self._dispatcher.wake(site, endpoint_id)
        except Exception as error:  # noqa: BLE001 - the sweep comes by again
            _log.warning("due.not_read", site_id=site.id, error=str(error))

    def _schedule(self, site: Site, endpoint_id: str, due_at: int) -> None:
        """Have an endpoint looked at when its retry is due; the earliest of what is not sent yet stands for all."""
        waiting = self._retries.get((site.id, endpoint_id))
        if waiting is None or due_at < waiting[1]:
            self._retries[site.id, endpoint_id] = (site, due_at)
        self._plan(site, due_at)
        self._retry_waits.set()

    async def _send_retries(self) -> None:
        """Hand deferred wake-ups to arq; every job id is new, because arq refuses one that is queued or deferred."""
        pool = ArqRedis(
            connection_pool=self._parts.redis.connection_pool,
            job_serializer=_serialize,
            default_queue_name=_QUEUE,
        )
        while True:
            await self._retry_waits.wait()
            self._retry_waits.clear()
            waiting, self._retries = self._retries, {}
            for (_, endpoint_id), (site, due_at) in waiting.items():
                job_id = f"dispatch:{endpoint_id}:{due_at // 1000}:{random.getrandbits(48):x}"
                at = datetime.fromtimestamp(due_at / 1e6, UTC)
                try:
                    await pool.enqueue_job(
                        "dispatch",
                        site.id,
                        site.organization,
                        site.environment,
                        endpoint_id,
                        _job_id=job_id,
                        _defer_until=at,
                    )
                except (RedisError, OSError) as error:
                    _log.warning("retry.not_scheduled", endpoint_id=endpoint_id, error=str(error))

    async def _run_arq(self) -> None:
        """Run arq's worker, again after Redis went away."""

        async def dispatch(
            _context: dict[Any, Any], site_id: int, organization: str, environment: str, endpoint: str
        ) -> None:
            self._dispatcher.wake(Site(id=site_id, organization=organization, environment=environment), endpoint)

        async def sweep(_context: dict[Any, Any]) -> None:
            await self.sweep()

        while True:
            worker = ArqWorker(
                functions=[func(dispatch, name="dispatch", keep_result=0)],  # type: ignore[arg-type]
                cron_jobs=[cron(sweep, name="sweep", second=set(range(0, 60, SWEEP_S)), keep_result=0, timeout=30)],  # type: ignore[arg-type]
                queue_name=_QUEUE,
                # A pool of its own, because arq closes it: wake-ups go on while the worker drains.
                redis_pool=ArqRedis(
                    connection_pool=ConnectionPool.from_url(self._parts.settings.redis_url),
                    job_serializer=_serialize,
                    job_deserializer=_deserialize,
                    default_queue_name=_QUEUE,
                ),
                job_serializer=_serialize,
                job_deserializer=_deserialize,
                handle_signals=False,
                poll_delay=0.05,
                keep_result=0,
                job_timeout=30,
                max_jobs=50,
                max_tries=3,
                health_check_interval=60,
            )
            try:
                await worker.async_run()
            except asyncio.CancelledError:
                await _quietly(worker.close)
                raise
            except Exception as error:  # noqa: BLE001 - Redis went away: the lone sweep goes on meanwhile
                _log.warning("arq.interrupted", error=str(error))
            await asyncio.sleep(_AGAIN_S)

    async def _sweep_alone(self) -> None:
        """Sweep without Redis too: at the start, and in long intervals."""
        while True:
            try:
                await self.sweep()
            except Exception as error:  # noqa: BLE001 - the database is away: the next sweep finds everything
                _log.warning("sweep.failed", error=str(error))
            await asyncio.sleep(LONE_SWEEP_S * (0.5 + random.random()))


class _Followed:
    """A site that this worker relays: woken at once, and polled for a while after its feed moved."""

    def __init__(self, follow: Callable[[Site], Awaitable[bool]], site: Site) -> None:
        self._follow = follow
        self._site = site
        self._woken = asyncio.Event()
        self._moved = -HOT_S
        self._stopping = False
        self.task = asyncio.get_running_loop().create_task(self._run(), name=f"relay-{site.id}")

    def wake(self) -> None:
        self.stay()
        self.look()

    def look(self) -> None:
        self._woken.set()

    def stay(self) -> None:
        self._moved = time.monotonic()

    def stop(self) -> None:
        self._stopping = True
        self._woken.set()

    async def _run(self) -> None:
        while not self._stopping:
            try:
                while await self._follow(self._site):
                    pass
            except Exception as error:  # noqa: BLE001 - the database is away: the position is stored, nothing is lost
                _log.warning("relay.failed", site_id=self._site.id, error=str(error))
                await asyncio.sleep(_AGAIN_S)
            hot = time.monotonic() - self._moved < HOT_S
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(POLL_S if hot else None):
                    await self._woken.wait()
            self._woken.clear()


async def _quietly(close: Callable[[], Awaitable[None]]) -> None:
    with contextlib.suppress(RedisError, OSError, asyncio.CancelledError):
        await close()


def _serialize(job: Mapping[str, Any]) -> bytes:
    return msgspec.json.encode(job)


def _deserialize(data: bytes) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.json.decode(data)
    return found
