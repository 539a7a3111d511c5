"""Spans: what stretches of an account's lines come to, so that a balance at any time is found without adding up all lines. Pure.

A span of level 0 covers 64 versions of an account, one of level k covers 16 of the level below. Lines never change, so neither
does a span: it is made once, when all its versions are there, and is right for ever. It knows the sum of its lines and the first and
the last effective time among them: a span that lies wholly before a time counts with its sum, one wholly after it not at all. Where
lines were not booked in the order of their effective times, a span's parts hold its lines in that order with running sums.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Final, NamedTuple

SPAN_BITS: Final = 6
FAN_BITS: Final = 4
PARTS_LEVEL_MAX: Final = 3
"""Spans above this level have no parts: they would be too many lines to put in order at once."""
PART_LINES: Final = 64

_FIELDS: Final = 5
Range = tuple[int, int]


class Sums(NamedTuple):
    """What lines moved, by total; unlike totals they may be negative."""

    posted_debits: int
    posted_credits: int
    pending_debits: int
    pending_credits: int

    def plus(self, other: Sums) -> Sums:
        """Return both together."""
        return Sums(
            self.posted_debits + other.posted_debits,
            self.posted_credits + other.posted_credits,
            self.pending_debits + other.pending_debits,
            self.pending_credits + other.pending_credits,
        )


NOTHING: Final = Sums(0, 0, 0, 0)


class Moved(NamedTuple):
    """A line as spans see it: the account's version, its effective time in microseconds, what it moved."""

    version: int
    effective_at: int
    sums: Sums


class Span(NamedTuple):
    """A span: its place, what its lines come to, and between which effective times; None where it has no lines."""

    level: int
    number: int
    first_at: int | None
    last_at: int | None
    sums: Sums
    parted: bool


class Part(NamedTuple):
    """Some lines of a span in the order of their effective times, each as its time and the span's sums up to it."""

    first_at: int
    place: int
    body: bytes


def bits(level: int) -> int:
    """Return how many bits of a version lie within a span of this level."""
    return SPAN_BITS + FAN_BITS * level


def top_level(version: int) -> int:
    """Return the highest level at which a span can be full by this version."""
    return max(0, (version.bit_length() - 1 - SPAN_BITS) // FAN_BITS)


def moved(direction: str, posted: int, pending: int) -> Sums:
    """Return what a line moved of the four totals."""
    return Sums(posted, 0, pending, 0) if direction == "debit" else Sums(0, posted, 0, pending)


def span_of_lines(number: int, lines: Sequence[Moved]) -> Span:
    """Return the span of level 0 that consists of these lines."""
    sums = NOTHING
    for line in lines:
        sums = sums.plus(line.sums)
    times = [line.effective_at for line in lines]
    return Span(0, number, min(times, default=None), max(times, default=None), sums, parted=False)


def span_of_spans(level: int, number: int, below: Sequence[Span], *, parted: bool) -> Span:
    """Return the span that consists of the spans of the level below."""
    sums = NOTHING
    for span in below:
        sums = sums.plus(span.sums)
    firsts = [span.first_at for span in below if span.first_at is not None]
    lasts = [span.last_at for span in below if span.last_at is not None]
    return Span(level, number, min(firsts, default=None), max(lasts, default=None), sums, parted)


def in_order(spans: Iterable[Span]) -> bool:
    """Tell whether each span ends before the next one begins: then no time lies within more than one."""
    full = [span for span in spans if span.first_at is not None]
    return all((one.last_at or 0) <= (other.first_at or 0) for one, other in pairwise(full))


def parts_of(lines: Iterable[Moved]) -> list[Part]:
    """Return the parts of a span with these lines."""
    ordered = sorted(lines, key=lambda line: (line.effective_at, line.version))
    parts: list[Part] = []
    sums = NOTHING
    for start in range(0, len(ordered), PART_LINES):
        numbers: list[int] = []
        for line in ordered[start : start + PART_LINES]:
            sums = sums.plus(line.sums)
            numbers += (line.effective_at, *sums)
        parts.append(Part(numbers[0], len(parts), struct.pack(f"<{len(numbers)}q", *numbers)))
    return parts


def sums_in_part(body: bytes, at: int) -> Sums:
    """Return a span's sums up to and including a time, from the last of its parts that begins by then."""
    numbers = struct.unpack(f"<{len(body) // 8}q", body)
    times = numbers[::_FIELDS]
    place = (bisect_right(times, at) - 1) * _FIELDS
    return Sums(*numbers[place + 1 : place + _FIELDS])


def joined(ranges: Iterable[Range]) -> list[Range]:
    """Return half-open ranges in their order, those that touch as one, empty ones left out."""
    found: list[Range] = []
    for low, high in sorted(ranges):
        if low >= high:
            continue
        if found and low <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], high))
        else:
            found.append((low, high))
    return found
