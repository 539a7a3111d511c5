"""What follows from an attempt: delivered, tried again and when, given up, or the endpoint is gone. Pure.

A schedule is the seconds to wait before each attempt, the first one included. Only failures that are the endpoint's fault
move along it; a failure of ours waits and takes nothing away.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Final

DEFAULT_SCHEDULE_S: Final = (0, 5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400)
JITTER: Final = 0.2
RETRY_AFTER_MIN_S: Final = 1
RETRY_AFTER_MAX_S: Final = 86_400
OUR_DELAY_MIN_S: Final = 5
OUR_DELAY_MAX_S: Final = 300

OUR_FAILURES: Final = frozenset(
    {"dns_unavailable", "proxy_unavailable", "secret_unavailable", "interrupted", "internal"}
)
"""Error classes that say nothing about the endpoint."""

ABORT: Final = "abort-message"
DISABLE: Final = "disable"
"""What the header webhook-delivery of an answer may say."""

BY_ENDPOINT: Final = "disabled_by_endpoint"

_SECOND_US: Final = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """The endpoint answered: the status, and the headers Retry-After and webhook-delivery as they came."""

    status: int
    retry_after: str | None = None
    directive: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """No answer came, for this reason."""

    error_class: str


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """What happened to a delivery before: attempts begun, and failures by the endpoint's fault."""

    attempts: int
    failures: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivered:
    """The endpoint has it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """Try again after so many microseconds; `charged` when the failure moved along the schedule."""

    after_us: int
    error_class: str
    charged: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Exhausted:
    """The last attempt of the schedule failed."""

    error_class: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Disabled:
    """The endpoint wants nothing more: 410 Gone, or it said so. The delivery itself is as `then` says, a retry once enabled."""

    error_class: str
    then: Delivered | Retry | Exhausted


Outcome = Delivered | Retry | Exhausted | Disabled


def judge(
    result: Reply | Failure,
    history: History,
    schedule_s: Sequence[int],
    *,
    now_us: int,
    chance: float,
) -> Outcome:
    """Return what follows from the result of an attempt; `history` is before it, `chance` is in [0, 1) and jitters."""
    match result:
        case Reply(status=status) if 200 <= status < 300:
            return Disabled(error_class=BY_ENDPOINT, then=Delivered()) if _says(result, DISABLE) else Delivered()
        case Reply(status=410):
            return Disabled(error_class="gone", then=_next(history, schedule_s, "gone", None, chance))
        case Reply(status=status) if _says(result, ABORT):
            return Exhausted(error_class="aborted_by_endpoint")
        case Reply(status=status) if _says(result, DISABLE):
            then = _next(history, schedule_s, f"http_{status // 100}xx", None, chance)
            return Disabled(error_class=BY_ENDPOINT, then=then)
        case Reply(status=status, retry_after=text):
            wait_s = None if text is None else parse_retry_after(text, now_us)
            return _next(history, schedule_s, f"http_{status // 100}xx", wait_s, chance)
        case Failure(error_class=error_class) if error_class in OUR_FAILURES:
            return our_failure(error_class, history, chance)
        case Failure(error_class=error_class):
            return _next(history, schedule_s, error_class, None, chance)


def error_of(outcome: Outcome) -> str | None:
    """Return the error class of an attempt; None for one that delivered."""
    match outcome:
        case Delivered() | Disabled(then=Delivered()):
            return None
        case _:
            return outcome.error_class


def asks_to_disable(reply: Reply) -> bool:
    """Tell whether an answer asks for nothing more to be sent."""
    return reply.status == 410 or _says(reply, DISABLE)


def our_failure(error_class: str, history: History, chance: float) -> Retry:
    """Return the retry after a failure of ours: soon, then less often, never used up."""
    ours = min(max(history.attempts - history.failures, 0), 10)
    delay_s = min(OUR_DELAY_MIN_S * 2**ours, OUR_DELAY_MAX_S)
    return Retry(after_us=jittered_us(delay_s, chance), error_class=error_class, charged=False)


def delay_s(schedule_s: Sequence[int], failures: int) -> int | None:
    """Return the seconds to wait before the attempt that follows so many failures, or None when there is none."""
    return schedule_s[failures] if failures < len(schedule_s) else None


def jittered_us(wait_s: float, chance: float) -> int:
    """Return the wait in microseconds, moved by up to a fifth either way; `chance` in [0, 1)."""
    return round(wait_s * _SECOND_US * (1 + JITTER * (2 * chance - 1)))


def parse_retry_after(text: str, now_us: int) -> int | None:
    """Read Retry-After (RFC 9110 §10.2.3), seconds or a date, as seconds from now between 1 s and 24 h; None if neither."""
    text = text.strip()
    if text.isascii() and text.isdecimal():
        # Longer than any number of seconds that matters, and never fed to int(): its cost grows with the square.
        seconds = RETRY_AFTER_MAX_S if len(text) > 9 else int(text)
    else:
        try:
            at = parsedate_to_datetime(text)
            seconds = -(-(round(at.timestamp() * _SECOND_US) - now_us) // _SECOND_US)
        except (TypeError, ValueError, IndexError, OverflowError):
            return None
    return min(max(seconds, RETRY_AFTER_MIN_S), RETRY_AFTER_MAX_S)


def _says(reply: Reply, directive: str) -> bool:
    return reply.directive is not None and reply.directive.strip().lower() == directive


def _next(
    history: History,
    schedule_s: Sequence[int],
    error_class: str,
    wait_s: int | None,
    chance: float,
) -> Retry | Exhausted:
    planned_s = delay_s(schedule_s, history.failures + 1)
    if planned_s is None:
        return Exhausted(error_class=error_class)
    # A wait that was asked for is kept to the second: coming early is what it forbids.
    after_us = jittered_us(planned_s, chance) if wait_s is None else wait_s * _SECOND_US
    return Retry(after_us=after_us, error_class=error_class, charged=True)
