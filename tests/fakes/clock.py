"""A clock that stands still until a test moves it, and ids that come in order."""

from __future__ import annotations

from engine.ids import uuid7

START_US = 1_760_000_000_000_000


class FakeClock:
    """An `engine.clock.Clock` that a test moves by hand."""

    def __init__(self, now_us: int = START_US) -> None:
        self._now_us = now_us

    def now_us(self) -> int:
        """Return the instant the test has set, in microseconds since the epoch."""
        return self._now_us

    def advance(self, *, seconds: float = 0, micros: int = 0) -> int:
        """Move forward (or back, to see what a stepping clock does) and return the new instant."""
        self._now_us += round(seconds * 1_000_000) + micros
        return self._now_us


class SequentialIds:
    """An `engine.ids.IdSource` whose ids are the same in every run: the instant, then a count from 1."""

    def __init__(self) -> None:
        self.drawn = 0

    def draw(self, now_us: int) -> str:
        """Return the next id."""
        self.drawn += 1
        return uuid7(now_us // 1000, 0, self.drawn)
