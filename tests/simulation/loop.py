"""An event loop whose time is virtual and whose order is drawn from a seed: the same seed, the same run."""

from __future__ import annotations

import asyncio
import random
from typing import Any


class Stuck(Exception):
    """Nothing is left that could ever happen."""


class SimulatedLoop(asyncio.BaseEventLoop):
    """Runs what is ready in a drawn order; when nothing is, time jumps to the next timer. It has no files and no sockets."""

    def __init__(self, dice: random.Random) -> None:
        super().__init__()
        self._dice = dice
        self._passed_s = 0.0
        self._selector: Any = self

    def time(self) -> float:
        """Return the seconds that have passed in the simulation."""
        return self._passed_s

    def select(self, timeout: float | None) -> list[Any]:
        """Let the time pass that the loop would have waited; the loop takes this for its selector."""
        if timeout is None:
            raise Stuck
        self._passed_s += max(timeout, 0)
        return []

    def _process_events(self, _events: list[Any]) -> None:
        pass

    def _write_to_self(self) -> None:
        pass

    def _run_once(self) -> None:
        # asyncio's own queue of what runs next, and one round of asyncio's own.
        ready: Any = self._ready  # type: ignore[attr-defined]
        if len(ready) > 1:
            drawn = list(ready)
            self._dice.shuffle(drawn)
            ready.clear()
            ready.extend(drawn)
        super()._run_once()  # type: ignore[misc]
