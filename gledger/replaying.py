"""Going on with replays in this process: one loop a site while it has a running one, woken or found by the sweep."""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import math
from collections import deque
from collections.abc import Callable, Collection
from typing import Final, NamedTuple

import structlog

from delivery.giving_way import GivingWay
from delivery.replay_run import AHEAD_US, PAUSED_US, ReplayRunner
from engine.clock import Clock
from engine.databases import Site

_AGAIN_S: Final = 1.0
_GATHER_S: Final = 0.25
"""How long to wait for more room after something was settled: a step is a transaction."""

_LONG_S: Final = 2 * PAUSED_US / 1e6
"""Nothing but an order has a replay wait so long."""
_END_S: Final = 5.0
_RESTS_S: Final = 0.1
_TELL_S: Final = 0.05
"""How late an endpoint is told that something came due: what else goes to it may take that along, and several are told together."""

_log = structlog.get_logger("gledger.replays")


class _Due(NamedTuple):
    """When something comes due: by the loop's time, and in micros."""

    at: float
    at_us: int


class Replaying:
    """Takes the steps of running replays when they are due."""

    def __init__(
        self,
        runner: ReplayRunner,
        clock: Clock,
        on_due: Callable[[Site, str], None],
        giving_way: GivingWay,
    ) -> None:
        """`on_due` is told every endpoint at which something came due that nobody has claimed; `giving_way` slows all down."""
        self._runner = runner
        self._clock = clock
        self._on_due = on_due
        self._giving_way = giving_way
        self._loops: dict[int, asyncio.Task[None]] = {}
        self._woken: dict[int, asyncio.Event] = {}
        self._later: dict[int, dict[str, deque[_Due]]] = {}
        self._settled: dict[int, set[str]] = {}
        self._stopping = False
        self._held: set[int] = set()
        self._gathering: set[int] = set()

    def wake(self, site: Site) -> None:
        """Say that the site may have a replay to go on with."""
        self._woken.setdefault(site.id, asyncio.Event()).set()
        if site.id not in self._loops:
            self._loops[site.id] = asyncio.get_running_loop().create_task(self._run(site), name=f"replay-{site.id}")

    def settled(self, site: Site, replay_ids: set[str]) -> None:
        """Say that something of replays came to an end, so that there may be room for more of them."""
        if not replay_ids or site.id not in self._loops:
            return
        self._settled.setdefault(site.id, set()).update(replay_ids)
        self._gather(site)

    def claimed(self, site: Site, endpoint_ids: Collection[str], now_us: int) -> None:
        """Say that was claimed at endpoints what was due there at an instant: they need not be told of it."""
        later = self._later.get(site.id, {})
        for endpoint_id in later.keys() & set(endpoint_ids):
            while later[endpoint_id] and later[endpoint_id][0].at_us <= now_us:
                later[endpoint_id].popleft()
            if not later[endpoint_id]:
                del later[endpoint_id]

    async def sweep(self, site: Site) -> None:
        """Wake the site if a step is due that nobody was woken for."""
        if site.id not in self._loops and await self._runner.next_at(site) is not None:
            self.wake(site)

    async def stop(self) -> None:
        """End every loop; a step under way is taken to its end, so that what it claimed is sent or given back."""
        self._stopping = True
        for woken in self._woken.values():
            woken.set()
        loops = list(self._loops.values())
        if loops:
            _, late = await asyncio.wait(loops, timeout=_END_S)
            for loop in late:
                loop.cancel()
            await asyncio.gather(*loops, return_exceptions=True)

    async def _run(self, site: Site) -> None:
        woken, later = self._woken[site.id], self._later.setdefault(site.id, {})
        try:
            while not self._stopping:
                woken.clear()
                now_us = self._clock.now_us()
                share = self._giving_way.share(now_us)
                if not share:
                    await self._wait(site, _RESTS_S)
                    continue
                try:
                    outcome = await self._runner.step(
                        site,
                        self._settled.pop(site.id, set()),
                        share=share,
                        ahead_us=min(AHEAD_US, self._giving_way.until_rest(now_us)),
                    )
                except Exception as error:  # noqa: BLE001 - the database is away: everything about a replay is in it
                    _log.warning("replay.interrupted", site_id=site.id, error=str(error))
                    await asyncio.sleep(_AGAIN_S)
                    continue
                now_us, now = self._clock.now_us(), asyncio.get_running_loop().time()
                for endpoint_id, instants in outcome.due.items():
                    dues = (_Due(at=now + (at_us - now_us) / 1e6, at_us=at_us) for at_us in instants)
                    # Another replay may have something due between them.
                    later[endpoint_id] = deque(heapq.merge(later.get(endpoint_id, ()), dues))
                # Always a moment: a step that another process takes is due here too until it is over.
                wait_s = None if outcome.next_at is None else max((outcome.next_at - now_us) / 1e6, 0.02)
                await self._wait_for_step(site, wait_s)
                if wait_s is None and not woken.is_set():
                    return
        finally:
            self._loops.pop(site.id, None)
            self._woken.pop(site.id, None)
            self._later.pop(site.id, None)
            self._settled.pop(site.id, None)

    async def _wait_for_step(self, site: Site, wait_s: float | None) -> None:
        """Wait; where the wait is long, what was settled and what is settled meanwhile ends it."""
        if wait_s is None or wait_s < _LONG_S:
            await self._wait(site, wait_s)
            return
        self._held.add(site.id)
        try:
            if self._settled.get(site.id):
                self._gather(site)
            await self._wait(site, wait_s)
        finally:
            self._held.discard(site.id)

    def _gather(self, site: Site) -> None:
        if site.id in self._held and site.id not in self._gathering:
            self._gathering.add(site.id)
            asyncio.get_running_loop().call_later(_GATHER_S, self._gathered, site.id)

    def _gathered(self, site_id: int) -> None:
        self._gathering.discard(site_id)
        if site_id in self._woken:
            self._woken[site_id].set()

    async def _wait(self, site: Site, wait_s: float | None) -> None:
        """Wait so long, or until woken, and tell meanwhile what comes due of the last steps; None: for that alone."""
        woken, later, loop = self._woken[site.id], self._later[site.id], asyncio.get_running_loop()
        ends = math.inf if wait_s is None else loop.time() + wait_s
        while not woken.is_set() and loop.time() < ends and (later or wait_s is not None):
            first = min((dues[0].at for dues in later.values()), default=math.inf)
            until = min(ends, first + _TELL_S)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(None if until == math.inf else until):
                    await woken.wait()
            self._tell(site, loop.time())

    def _tell(self, site: Site, now: float) -> None:
        later = self._later[site.id]
        for endpoint_id, dues in list(later.items()):
            if dues[0].at <= now:
                self._on_due(site, endpoint_id)
            while dues and dues[0].at <= now:
                dues.popleft()
            if not dues:
                del later[endpoint_id]
