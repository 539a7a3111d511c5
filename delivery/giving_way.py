"""Giving way: how much of its rate a replay takes, so that what is live does not feel it. Pure.

Whoever relays notes how long after its commit an event was relayed. Beside live traffic a replay rests now and then: what is
noted while it rests is how long it takes without the replay, whatever else this machine does at that time. Where it takes longer while the
replay works, the replay slows down; where it does not, it gathers speed again, up to its own rate.
"""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Sequence
from typing import Final

WORKS_US: Final = 8_000_000
RESTS_US: Final = 1_500_000
"""For how long it works between two rests, and how long those are."""
SETTLES_US: Final = 300_000
"""What was queued before a rest began, or ended, is still felt for so long: it is not counted."""
QUIET_US: Final = 2_000_000
"""Nothing live for so long: there is nobody to give way to."""
LOOKS_US: Final = 2_000_000
LEAST: Final = 30
"""How many must have been noted to say anything of them."""
KEPT: Final = 200
"""How many are kept of rests: those of the last one where much is live, of several where it is little."""
BEGINS: Final = 0.25
SMALLEST: Final = 0.02
FASTER: Final = 0.15
SLOWER: Final = 0.5
FELT: Final = 1.05
"""How many times as long it takes where the replay is felt: by the longest quarter of what was noted, which feels it first."""


class GivingWay:
    """Says for one process what share of its rate a replay takes now; all instants are microseconds of one clock."""

    def __init__(self) -> None:
        self._rested: deque[int] = deque(maxlen=KEPT)
        self._worked: list[int] = []
        self._share = BEGINS
        self._rests = True
        self._since = self._looked_at = 0
        self._asked_at: int | None = None
        self._noted_at: int | None = None

    def note(self, lag_us: int, now_us: int) -> None:
        """Say that an event was relayed so long after it was committed."""
        self._noted_at = now_us
        if self._asked_at is None or now_us - self._asked_at > QUIET_US:
            # No replay works: so long it takes without one.
            self._rested.append(lag_us)
        elif now_us - self._since >= SETTLES_US:
            (self._rested if self._rests else self._worked).append(lag_us)

    def share(self, now_us: int) -> float:
        """Return the share of its rate, from 0 (it rests) to 1."""
        begins = self._asked_at is None or now_us - self._asked_at > QUIET_US
        self._asked_at = now_us
        if self._noted_at is None or now_us - self._noted_at > QUIET_US:
            self._share = 1.0
            self._turn(now_us, rests=False)
        elif begins:
            self._share, self._looked_at = min(self._share, BEGINS), now_us
            self._worked.clear()
            self._turn(now_us, rests=len(self._rested) < LEAST)
        elif self._rests:
            if now_us - self._since >= SETTLES_US + RESTS_US:
                self._turn(now_us, rests=False)
        elif now_us - self._since >= WORKS_US:
            self._turn(now_us, rests=True)
        elif now_us - self._looked_at >= LOOKS_US and min(len(self._worked), len(self._rested)) >= LEAST:
            self._look(now_us)
        return 0.0 if self._rests else self._share

    def _turn(self, now_us: int, *, rests: bool) -> None:
        self._rests, self._since = rests, now_us

    def _look(self, now_us: int) -> None:
        felt = _longer(self._worked) > FELT * _longer(self._rested)
        self._share = max(self._share * SLOWER, SMALLEST) if felt else min(self._share + FASTER, 1.0)
        self._worked.clear()
        self._looked_at = now_us


def _longer(lags: Sequence[int]) -> float:
    return statistics.quantiles(lags, n=4)[2]
