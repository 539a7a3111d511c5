"""What the books have to do of themselves, done in time: one loop a site while it has something to come.

Woken by the feed, found by the sweep. Several workers may tend the same site: the books do each thing once.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final

import structlog

from engine.clock import Clock
from engine.databases import Site
from engine.errors import EngineError
from engine.ledger import Engine

REST_S: Final = 0.1
"""Between two looks at a site whose feed keeps moving."""
LOOK_S: Final = 60.0
_log = structlog.get_logger("gledger.tending")


class Tending:
    """Has the books of every site that is woken tended."""

    def __init__(self, engine: Engine, clock: Clock) -> None:
        """Nothing runs before a site is woken."""
        self._engine = engine
        self._clock = clock
        self._woken: dict[int, asyncio.Event] = {}
        self._loops: dict[int, asyncio.Task[None]] = {}

    def wake(self, site: Site) -> None:
        """Say that the site's books may have something to do, now or later."""
        self._woken.setdefault(site.id, asyncio.Event()).set()
        if site.id not in self._loops:
            self._loops[site.id] = asyncio.get_running_loop().create_task(self._run(site), name=f"tend-{site.id}")

    async def stop(self) -> None:
        """End every loop; what a command was about to do is done by whoever tends the site next."""
        loops = list(self._loops.values())
        for loop in loops:
            loop.cancel()
        await asyncio.gather(*loops, return_exceptions=True)

    async def _run(self, site: Site) -> None:
        woken = self._woken[site.id]
        try:
            while True:
                woken.clear()
                try:
                    due_at = await self._engine.tend(site)
                except EngineError as error:
                    _log.warning("tending.interrupted", site_id=site.id, error=str(error))
                    await asyncio.sleep(REST_S * 10)
                    continue
                if due_at is None and not woken.is_set():
                    return
                await asyncio.sleep(REST_S)
                if due_at is not None:
                    wait_s = min((due_at - self._clock.now_us()) / 1e6, LOOK_S)
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(max(wait_s, 0)):
                            await woken.wait()
        finally:
            self._loops.pop(site.id, None)
            self._woken.pop(site.id, None)
