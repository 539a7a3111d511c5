"""An endpoint that fails without a success between: when that is told, and when the endpoint is disabled for it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from delivery.retry import DEFAULT_SCHEDULE_S

FAILING_AT: Final = 4
"""The endpoint is called failing when a delivery to it failed so often, or was given up, with no success since."""

MARKS: Final = (50, 70, 90)
"""Per cent of the time after which it is disabled, at which it is warned of."""

FIRST: Final = 1
"""What was told at last where it is called failing and no mark is reached."""

DISABLE_AFTER_S: Final = 5 * 86_400


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What applies to endpoints that say nothing else."""

    retry_schedule_s: Sequence[int] = DEFAULT_SCHEDULE_S
    disable_after_s: int = DISABLE_AFTER_S


def percent_failed(failing_since: int, now_us: int, disable_after_s: int) -> int:
    """Return how much of the time has passed after which the endpoint is disabled, in per cent and at most 100."""
    return min(100, max(0, now_us - failing_since) * 100 // (disable_after_s * 1_000_000))


def next_warning(told: int, percent: int, *, failed_enough: bool) -> int | None:
    """Return what is to be told now: the highest mark reached that was not, `FIRST`, or nothing."""
    reached = max((mark for mark in MARKS if mark <= percent), default=0)
    if reached > told:
        return reached
    return FIRST if told == 0 and failed_enough else None
