"""How fast an endpoint is sent to: every request has a slot of its own, evenly spaced, whoever sends it. Pure.

The endpoint's row remembers when its next slot is free, and whoever claims takes slots under that row's lock: so the rate is
exact over all processes. Slots are taken a little ahead of time, and each request waits for its own, so that a high rate does not
cost a transaction for each request.
"""

from __future__ import annotations

from typing import Final

AHEAD_US: Final = 250_000
"""How far ahead slots are taken."""

_SECOND_US: Final = 1_000_000


def spacing_us(rate_per_s: int) -> int:
    """Return the microseconds between two slots: in no second do more begin than the rate says."""
    return -(-_SECOND_US // rate_per_s)


def free_slots(next_at: int | None, rate_per_s: int, now_us: int) -> list[int]:
    """Return the slots (micros) that may be taken now, of an endpoint whose next slot is free at `next_at`."""
    first = max(next_at or 0, now_us)
    return list(range(first, now_us + AHEAD_US + 1, spacing_us(rate_per_s)))


def after_slot(slot: int, rate_per_s: int) -> int:
    """Return when the slot after this one is free."""
    return slot + spacing_us(rate_per_s)
