"""Going on with replays in this process: one loop a site while it has a running one, woken or found by the sweep."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import Final

import structlog

from delivery.claim import Claims
from delivery.giving_way import GivingWay
from delivery.replay_run import ReplayRunner
from engine.clock import Clock
from engine.databases import Site

_AGAIN_S: Final = 1.0
_GATHER_S: Final = 0.25
"""How long to wait for more room after something was settled: a step is a transaction."""

_RESTS_S: Final = 0.1
_TELL_S: Final = 0.05
"""How often is told that something comes due: in time for what else goes to the endpoint it goes with that."""

_log = structlog.get_logger("gledger.replays")


class Replaying:
    """Takes the steps of running replays when they are due."""

    def __init__(
        self,
        runner: ReplayRunner,
        clock: Clock,
        on_due: Callable[[Site, str], None],
        claiming: Callable[[Site], AbstractContextManager[Claims]],
        giving_way: GivingWay,
    ) -> None:
        """`on_due` is told every endpoint for which something was queued that `claiming` did not take; `giving_way` slows all down."""
        self._runner = runner
        self._clock = clock
        self._on_due = on_due
        self._claiming = claiming
        self._giving_way = giving_way
        self._loops: dict[int, asyncio.Task[None]] = {}
        self._woken: dict[int, asyncio.Event] = {}
        self._settled: dict[int, set[str]] = {}

    def wake(self, site: Site) -> None:
        """Say that the site may have a replay to go on with."""
        self._woken.setdefault(site.id, asyncio.Event()).set()
        if site.id not in self._loops:
            self._loops[site.id] = asyncio.get_running_loop().create_task(self._run(site), name=f"replay-{site.id}")

    def settled(self, site: Site, replay_ids: set[str]) -> None:
        """Say that something of replays came to an end, so that there may be room for more of them."""
        if not replay_ids or site.id not in self._loops:
            return
        gathered = self._settled.get(site.id)
        if gathered is None:
            gathered = self._settled[site.id] = set()
            asyncio.get_running_loop().call_later(_GATHER_S, self._woken[site.id].set)
        gathered |= replay_ids

    async def sweep(self, site: Site) -> None:
        """Wake the site if a step is due that nobody was woken for."""
        if site.id not in self._loops and await self._runner.next_at(site) is not None:
            self.wake(site)

    async def stop(self) -> None:
        """End every loop; a step under way is a transaction, and is taken whole or not at all."""
        loops: Iterable[asyncio.Task[None]] = list(self._loops.values())
        for loop in loops:
            loop.cancel()
        await asyncio.gather(*loops, return_exceptions=True)

    async def _run(self, site: Site) -> None:
        woken = self._woken[site.id]
        later: dict[str, float] = {}
        try:
            while True:
                woken.clear()
                share = self._giving_way.share(self._clock.now_us())
                if not share:
                    await self._wait(site, _RESTS_S, later)
                    continue
                try:
                    with self._claiming(site) as claims:
                        outcome = await self._runner.step(site, self._settled.pop(site.id, set()), claims, share)
                except Exception as error:  # noqa: BLE001 - the database is away: everything about a replay is in it
                    _log.warning("replay.interrupted", site_id=site.id, error=str(error))
                    await asyncio.sleep(_AGAIN_S)
                    continue
                for endpoint_id in outcome.woken:
                    self._on_due(site, endpoint_id)
                now_us, now = self._clock.now_us(), asyncio.get_running_loop().time()
                later |= {one: now + (until - now_us) / 1e6 for one, until in outcome.later.items()}
                # Always a moment: a step that another process takes is due here too until it is over.
                wait_s = None if outcome.next_at is None else max((outcome.next_at - now_us) / 1e6, 0.02)
                await self._wait(site, wait_s, later)
                if wait_s is None and not woken.is_set():
                    return
        finally:
            self._loops.pop(site.id, None)
            self._woken.pop(site.id, None)
            self._settled.pop(site.id, None)

    async def _wait(self, site: Site, wait_s: float | None, later: dict[str, float]) -> None:
        """Wait for the next step, or until woken, and tell meanwhile what comes due of the last ones; None: for that alone."""
        woken, loop = self._woken[site.id], asyncio.get_running_loop()
        ends = math.inf if wait_s is None else loop.time() + wait_s
        while not woken.is_set() and loop.time() < ends and (later or wait_s is not None):
            left_s = ends - loop.time()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(left_s, _TELL_S) if later else left_s):
                    await woken.wait()
            for endpoint_id, until in list(later.items()):
                self._on_due(site, endpoint_id)
                if until <= loop.time():
                    del later[endpoint_id]
