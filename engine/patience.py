"""How long anybody waits for an answer: one timer for all who wait, since who came first loses patience first."""

from __future__ import annotations

import asyncio
from typing import Any


class OutOfPatience(Exception):
    """What was waited for did not come in time."""


class Patience:
    """Ends the waiting for futures, each after the same time; for one event loop."""

    def __init__(self, wait_s: float) -> None:
        """Take how long anything is waited for."""
        self._wait_s = wait_s
        self._until: dict[asyncio.Future[Any], float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, future: asyncio.Future[Any], loop: asyncio.AbstractEventLoop) -> None:
        """Let a future of this loop be waited for from now on; OutOfPatience comes of it when its time is over."""
        self._until[future] = loop.time() + self._wait_s
        if self._timer is None:
            self._timer = loop.call_later(self._wait_s, self._end_late)

    def end(self, future: asyncio.Future[Any]) -> None:
        """Wait no more for a future."""
        del self._until[future]
        if not self._until and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _end_late(self) -> None:
        loop = asyncio.get_running_loop()
        now, self._timer = loop.time(), None
        for future, until in self._until.items():
            if until > now:
                self._timer = loop.call_at(until, self._end_late)
                return
            if not future.done():
                future.set_exception(OutOfPatience())
