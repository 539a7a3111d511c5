"""Amounts and instants as numbers and as text: minor units, RFC 3339 times. Pure."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final

AMOUNT_MAX: Final = 9_223_372_036_854_775_807
"""The largest amount and the largest total: what a signed 64-bit column holds."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_INSTANT: Final = re.compile(
    r"(\d{4})-(\d{2})-(\d{2})[Tt](\d{2}):(\d{2}):(\d{2})(\.\d{1,9})?([Zz]|[+-]\d{2}:\d{2})\Z",
    re.ASCII,
)
INSTANT_MIN: Final = -62_135_596_800_000_000
INSTANT_MAX: Final = 253_402_300_799_999_999


@lru_cache(maxsize=1024)
def format_instant(at_us: int) -> str:
    """Return an instant as RFC 3339 text in UTC with six digits of a second."""
    moment = _EPOCH + timedelta(microseconds=at_us)
    return moment.isoformat(timespec="microseconds")[:-6] + "Z"


def parse_instant(text: str) -> int:
    """Read RFC 3339 text with an offset as microseconds since the epoch; finer digits are cut.

    Raises ValueError where the text is no such instant.
    """
    match = _INSTANT.match(text)
    if match is None:
        raise ValueError(text)
    year, month, day, hour, minute, second = (int(part) for part in match.groups()[:6])
    leap = second == 60
    moment = datetime(year, month, day, hour, minute, 59 if leap else second, tzinfo=UTC)
    micros = int((match.group(7) or ".0")[1:7].ljust(6, "0"))
    offset = match.group(8)
    shift = 0
    if offset not in {"Z", "z"}:
        hours, minutes = int(offset[1:3]), int(offset[4:6])
        if hours > 23 or minutes > 59:
            raise ValueError(text)
        shift = (hours * 60 + minutes) * 60_000_000 * (-1 if offset[0] == "-" else 1)
    whole = (moment - _EPOCH) // _MICROSECOND + (1_000_000 if leap else micros)
    at_us = whole - shift
    if not INSTANT_MIN <= at_us <= INSTANT_MAX:
        raise ValueError(text)
    return at_us
