"""Attempts counted by endpoint and hour: what figures and plots are made of without looking at the attempts. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

HOUR_US: Final = 3_600_000_000

BOUNDS_MS: Final = (10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 15000)
"""An attempt counts in the first class whose bound it does not exceed; the last class has no bound."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """What was attempted at an endpoint in an hour (hours since the epoch); `durations` are counts by BOUNDS_MS.

    Of all endpoints together where it names none.
    """

    endpoint_id: str | None
    hour: int
    attempts: int
    delivered: int
    durations: tuple[int, ...]

    @property
    def failed(self) -> int:
        """How many attempts did not deliver."""
        return self.attempts - self.delivered


def tally(endpoint_id: str, now_us: int, results: Iterable[tuple[bool, int]]) -> Tally:
    """Count attempts that are settled now: whether each delivered, and its milliseconds."""
    durations = [0] * (len(BOUNDS_MS) + 1)
    attempts = delivered = 0
    for success, duration_ms in results:
        attempts += 1
        delivered += success
        durations[next((at for at, bound in enumerate(BOUNDS_MS) if duration_ms <= bound), len(BOUNDS_MS))] += 1
    return Tally(
        endpoint_id=endpoint_id,
        hour=now_us // HOUR_US,
        attempts=attempts,
        delivered=delivered,
        durations=tuple(durations),
    )


def quantile_ms(durations: Iterable[int], share: float) -> int | None:
    """Return the bound of the class in which a share of all attempts is reached; None where there are none.

    The last class has no bound: twice the last bound stands for it.
    """
    counts = list(durations)
    needed = sum(counts) * share
    if not needed:
        return None
    reached = 0
    for count, bound in zip(counts, (*BOUNDS_MS, 2 * BOUNDS_MS[-1]), strict=True):
        reached += count
        if reached >= needed:
            return bound
    return None
