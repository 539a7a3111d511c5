"""Giving way: how much of its rate a replay takes, so that what is live does not feel it. Pure.

Whoever relays notes how long a page took. Beside live traffic replays rest now and then, in all processes at the same time by
the clock: what is noted then is how long it takes without them, whatever else this machine does at that time. Where it takes longer while they work,
they slow down; where it does not, they gather speed again, up to their own rates.
"""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Iterable
from typing import Final

WORKS_US: Final = 8_000_000
RESTS_US: Final = 1_500_000
"""For how long they work between two rests, and how long those are."""
SETTLES_US: Final = 300_000
"""What was queued before a rest began is still felt for so long, and after it it takes so long to be felt: that is not counted."""
QUIET_US: Final = 2_000_000
"""Nothing live for so long: there is nobody to give way to."""
LOOKS_US: Final = 2_000_000
AGE_US: Final = 60_000_000
"""For how long something that was noted says anything."""
LEAST: Final = 30
"""How many must have been noted to say anything of them."""
KEPT: Final = 200
BEGINS: Final = 0.1
SMALLEST: Final = 0.02
FASTER: Final = 1.5
SLOWER: Final = 0.5
FELT: Final = 1.05
"""How many times as long it takes where replays are felt: by the longest quarter of what was noted, which feels them first."""


class GivingWay:
    """Says for one process what share of their rates replays take now; all instants are microseconds of one clock."""

    def __init__(self) -> None:
        self._rested: deque[tuple[int, int]] = deque(maxlen=KEPT)
        self._worked: deque[tuple[int, int]] = deque(maxlen=KEPT)
        self._share = BEGINS
        self._looked_at = 0
        self._alone = False
        self._asked_at: int | None = None
        self._live_at: int | None = None

    def live(self, now_us: int) -> None:
        """Say that something is live, whoever relays it."""
        self._live_at = now_us

    def note(self, took_us: int, now_us: int) -> None:
        """Say that a page took so long to relay, and that none waits behind it."""
        place = now_us % _CYCLE_US
        if self._asked_at is None or now_us - self._asked_at > QUIET_US or SETTLES_US <= place < _RESTED_US:
            # No replay works here: so long it takes without one.
            self._rested.append((now_us, took_us))
        elif place >= _RESTED_US + SETTLES_US:
            self._worked.append((now_us, took_us))

    def share(self, now_us: int) -> float:
        """Return the share of its rate that a replay takes now, from 0 (it rests) to 1."""
        begins = self._alone or self._asked_at is None or now_us - self._asked_at > QUIET_US
        self._asked_at = now_us
        self._alone = self._live_at is None or now_us - self._live_at > QUIET_US
        if self._alone:
            self._set(1.0, now_us)
            return self._share
        if begins:
            self._set(min(self._share, BEGINS), now_us)
        elif now_us - self._looked_at >= LOOKS_US:
            self._look(now_us)
        return 0.0 if now_us % _CYCLE_US < _RESTED_US else self._share

    def until_rest(self, now_us: int) -> int:
        """Return how many micros it is until replays rest: what they queue should not come due then."""
        return AGE_US if self._alone else _CYCLE_US - now_us % _CYCLE_US

    def _look(self, now_us: int) -> None:
        worked, rested = (
            [took for at, took in noted if now_us - at <= AGE_US] for noted in (self._worked, self._rested)
        )
        if min(len(worked), len(rested)) >= LEAST:
            felt = _longer(worked) > FELT * _longer(rested)
            self._set(max(self._share * SLOWER, SMALLEST) if felt else min(self._share * FASTER, 1.0), now_us)

    def _set(self, share: float, now_us: int) -> None:
        self._share, self._looked_at = share, now_us
        # What was noted of another share says nothing of this one.
        self._worked.clear()


def _longer(took: Iterable[int]) -> float:
    return statistics.quantiles(took, n=4)[2]


_RESTED_US: Final = SETTLES_US + RESTS_US
_CYCLE_US: Final = _RESTED_US + WORKS_US
