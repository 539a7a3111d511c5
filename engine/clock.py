"""The edge where time enters: everything else is handed an instant."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Tells the time of day in microseconds since the epoch, UTC."""

    def now_us(self) -> int:
        """Return the present instant."""


class SystemClock:
    """The machine's clock."""

    def now_us(self) -> int:
        """Return the present instant in microseconds since the epoch."""
        return time.time_ns() // 1000
