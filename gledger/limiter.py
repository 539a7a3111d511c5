"""How often a credential may call: a token bucket per credential and process, as its theoretical arrival time (GCRA)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Final

CREDENTIALS_MAX: Final = 100_000
WINDOW_S: Final = 1


class RateLimiter:
    """Lets each credential make `limit` requests a second, all at once if it likes; 0 lets any number through."""

    def __init__(self, limit: int, monotonic_s: Callable[[], float]) -> None:
        """Take the limit and a clock that never steps back."""
        self.limit = limit
        self.window_s = WINDOW_S
        self._interval_s = WINDOW_S / limit if limit else 0.0
        self._monotonic_s = monotonic_s
        self._arrivals: OrderedDict[str, float] = OrderedDict()

    def take(self, credential: str) -> tuple[int, float]:
        """Return how many requests are left and when one more is, in seconds; a negative number refuses this one."""
        now = self._monotonic_s()
        arrival = max(self._arrivals.get(credential, now), now) + self._interval_s
        over = arrival - now - self.window_s
        if over > 1e-9:
            return -1, over
        self._arrivals[credential] = arrival
        self._arrivals.move_to_end(credential)
        if len(self._arrivals) > CREDENTIALS_MAX:
            self._arrivals.popitem(last=False)
        return int((self.window_s - (arrival - now)) / self._interval_s + 1e-6), self._interval_s
