"""The tailers of a process by site, and the one ticker that looks at all its streams."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, Protocol

import structlog

from engine.clock import Clock
from engine.databases import Site
from engine.ledger import Engine
from gateway.tailer import Bounds, Listener, Tailer

TICK_S: Final = 1.0
_log = structlog.get_logger("gateway.tailers")


class Watched(Listener, Protocol):
    """A stream: it waits for the feed to move, and is looked at by the clock."""

    def look(self, now: float, now_us: int) -> None:
        """Find out whether something is due; `now` is the loop's time."""


class Tailers:
    """The tailers of this process by site."""

    def __init__(self, engine: Engine, clock: Clock, bounds: Bounds = Bounds()) -> None:
        """Take whose feeds they read, and the time that credentials run out by."""
        self.bounds: Final = bounds
        self._engine = engine
        self._clock = clock
        self._tailers: dict[int, Tailer] = {}
        self._streams: dict[Watched, None] = {}
        self._ticker: asyncio.Task[None] | None = None
        self._quiet = asyncio.Event()
        self._quiet.set()
        self.draining: Final = asyncio.Event()

    def wake(self, site: Site, head: int) -> None:
        """Take the hint that a site's feed reaches this far."""
        tailer = self._tailers.get(site.id)
        if tailer is not None:
            tailer.wake(head)

    def of(self, site: Site) -> Tailer:
        """Return the site's tailer."""
        tailer = self._tailers.get(site.id)
        if tailer is None or tailer.restored:
            tailer = self._tailers[site.id] = Tailer(self._engine, site, self.bounds)
        return tailer

    async def sweep(self) -> None:
        """Stop the tailers that nobody listens to."""
        for site_id, tailer in list(self._tailers.items()):
            if tailer.idle:
                del self._tailers[site_id]
                await tailer.stop()

    @contextmanager
    def watching(self, stream: Watched) -> Iterator[None]:
        """Look at a stream for as long as the block runs."""
        self._streams[stream] = None
        self._quiet.clear()
        if self._ticker is None:
            self._ticker = asyncio.get_running_loop().create_task(self._tick())
        try:
            yield
        finally:
            del self._streams[stream]
            if not self._streams:
                self._quiet.set()

    def drain(self) -> None:
        """Tell every stream to end: the process is going down."""
        self.draining.set()
        for stream in self._streams:
            stream.nudge()

    async def quiet(self, timeout_s: float) -> None:
        """Return when every stream has said its last word, at the latest after this many seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._quiet.wait()

    async def close(self) -> None:
        """Stop every tailer and the ticker."""
        ticker, self._ticker = self._ticker, None
        if ticker is not None:
            ticker.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await ticker
        for tailer in self._tailers.values():
            await tailer.stop()
        self._tailers.clear()

    async def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(TICK_S)
            now, now_us = loop.time(), self._clock.now_us()
            for stream in list(self._streams):
                try:
                    stream.look(now, now_us)
                except Exception:  # noqa: BLE001 - said below
                    # One stream's trouble is its own: without the ticker no other would ever end.
                    _log.exception("streams.look_failed")
