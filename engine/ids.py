"""UUIDv7 identifiers (RFC 9562 §5.7): a millisecond, then a counter that keeps one process's ids in order, then chance."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from functools import lru_cache
from typing import Final, Protocol

_SHAPE: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\Z")
_COUNTER_BITS: Final = 18
_CHANCE_BYTES: Final = 7
_DRAWN_AT_ONCE: Final = 256


class IdSource(Protocol):
    """Where the core gets the ids of what it is about to create."""

    def draw(self, now_us: int) -> str:
        """Return the next id, never one that was drawn before."""


def uuid7(milliseconds: int, counter: int, chance: int) -> str:
    """Return the UUIDv7 of a millisecond, an 18-bit counter and 56 random bits, in its 36-character form."""
    digits = f"{chance:014x}"
    return f"{_time(milliseconds)}{_place(counter)}{digits[:2]}-{digits[2:]}"


def _time(milliseconds: int) -> str:
    """Return how the ids of a millisecond begin."""
    return f"{milliseconds >> 16:08x}-{milliseconds & 0xFFFF:04x}-"


@lru_cache(maxsize=4096)
def _place(counter: int) -> str:
    """Return the version, the variant and the counter, as they stand between the time and what is random."""
    return f"{0x7000 | (counter >> 6) & 0xFFF:04x}-{0x80 | (counter & 0x3F):02x}"


def is_id(text: str) -> bool:
    """Tell whether the text has the form of an id: a lower-case hyphenated UUID."""
    return _SHAPE.match(text) is not None


class Ids:
    """Draws ids that increase within the process even when the clock stands still or steps back."""

    def __init__(self, entropy: Callable[[int], bytes] = os.urandom) -> None:
        """Take the source of randomness: a function from a number of bytes to that many."""
        self._entropy = entropy
        self._millisecond = 0
        self._time = _time(0)
        self._counter = 0
        self._chance = ""
        self._at = 0

    def draw(self, now_us: int) -> str:
        """Return the next id for an instant in microseconds."""
        millisecond = now_us // 1000
        if millisecond > self._millisecond:
            self._begin(millisecond)
        else:
            self._counter += 1
            if self._counter >> _COUNTER_BITS:
                self._begin(self._millisecond + 1)
        at = self._at
        if at >= len(self._chance):
            self._chance, at = self._entropy(_CHANCE_BYTES * _DRAWN_AT_ONCE).hex(), 0
        self._at = at + 2 * _CHANCE_BYTES
        # Put together from texts: an id is drawn five times for a posting, and numbers cost four times as much to format.
        return f"{self._time}{_place(self._counter)}{self._chance[at : at + 2]}-{self._chance[at + 2 : self._at]}"

    def _begin(self, millisecond: int) -> None:
        self._millisecond, self._time, self._counter = millisecond, _time(millisecond), 0
