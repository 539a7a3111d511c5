"""Spans: what stretches of lines come to, and the parts of one whose lines are in no order."""

from __future__ import annotations

import struct
from itertools import accumulate, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.spans import (
    NOTHING,
    PART_LINES,
    PARTS_LEVEL_MAX,
    Moved,
    Part,
    Span,
    Sums,
    bits,
    in_order,
    joined,
    moved,
    parts_of,
    span_of_lines,
    span_of_spans,
    sums_in_part,
    top_level,
)

SUMS = st.tuples(*[st.integers(-(10**6), 10**6)] * 4).map(lambda each: Sums(*each))
LINES = st.lists(st.tuples(st.integers(-50, 50), SUMS), max_size=200).map(
    lambda drawn: [Moved(version, at, sums) for version, (at, sums) in enumerate(drawn, 1)]
)


def added(*sums: Sums) -> Sums:
    """Add sums up, column by column."""
    return Sums(*(sum(column) for column in zip(*sums, strict=True))) if sums else NOTHING


def span(first: int | None, last: int | None, sums: Sums = NOTHING) -> Span:
    """Return a span between two times."""
    return Span(0, 0, first, last, sums, parted=False)


def test_a_span_covers_64_versions_and_each_above_it_sixteen_times_as_many() -> None:
    """Spans are stored: another size would be another meaning of what is there."""
    assert [1 << bits(level) for level in range(5)] == [64, 1_024, 16_384, 262_144, 4_194_304]
    assert (PART_LINES, PARTS_LEVEL_MAX) == (64, 3)


@pytest.mark.parametrize(
    ("version", "level"),
    [(0, 0), (1, 0), (64, 0), (1_023, 0), (1_024, 1), (16_383, 1), (16_384, 2), (262_143, 2), (262_144, 3)],
)
def test_the_top_level_is_the_highest_that_can_be_full(version: int, level: int) -> None:
    """Not one sooner, not one later."""
    assert top_level(version) == level


def test_a_line_moves_one_side() -> None:
    """Posted and pending apart."""
    assert moved("debit", 3, -4) == Sums(3, 0, -4, 0)
    assert moved("credit", 3, -4) == Sums(0, 3, 0, -4)


@given(LINES, st.integers(0, 9))
def test_a_span_of_lines_is_their_sum_between_their_times(lines: list[Moved], number: int) -> None:
    """In whatever order they came."""
    times = [line.effective_at for line in lines]
    first, last = (min(times), max(times)) if times else (None, None)
    assert span_of_lines(number, lines) == Span(0, number, first, last, added(*(line.sums for line in lines)), False)


@given(st.lists(LINES, max_size=5), st.booleans())
def test_a_span_of_spans_is_the_span_of_all_their_lines(groups: list[list[Moved]], parted: bool) -> None:
    """Empty ones among them say nothing of the time."""
    below = [span_of_lines(number, group) for number, group in enumerate(groups)]
    whole = span_of_lines(0, [line for group in groups for line in group])
    assert span_of_spans(2, 7, below, parted=parted) == Span(2, 7, whole.first_at, whole.last_at, whole.sums, parted)


@pytest.mark.parametrize(
    ("spans", "ordered"),
    [
        ([], True),
        ([span(5, 9)], True),
        ([span(1, 2), span(2, 3)], True),
        ([span(1, 2), span(None, None), span(3, 3)], True),
        ([span(1, 3), span(None, None), span(2, 4)], False),
        ([span(1, 3), span(2, 4)], False),
        ([span(0, 0), span(-1, 5)], False),
        ([span(-5, -3), span(0, 0), span(0, 2)], True),
    ],
)
def test_spans_are_in_order_where_no_time_is_within_two(spans: list[Span], ordered: bool) -> None:
    """Touching is no overlap: both end there."""
    assert in_order(spans) == ordered


@given(LINES)
def test_parts_hold_the_lines_in_the_order_of_time_with_running_sums(lines: list[Moved]) -> None:
    """64 in each; lines of one time in the order of their versions; each part begins where its first line is."""
    ordered = sorted(lines, key=lambda line: (line.effective_at, line.version))
    running = list(accumulate((line.sums for line in ordered), added))
    numbers = [[line.effective_at, *sums] for line, sums in zip(ordered, running, strict=True)]
    expected = [
        Part(
            numbers[start][0],
            start // 64,
            b"".join(struct.pack("<5q", *each) for each in numbers[start : start + 64]),
        )
        for start in range(0, len(numbers), 64)
    ]
    assert parts_of(reversed(lines)) == expected


@given(LINES.filter(bool), st.integers(0, 10))
def test_a_part_tells_the_sums_up_to_a_time(lines: list[Moved], after: int) -> None:
    """Lines of that very time included."""
    parts = parts_of(lines)
    for at in {line.effective_at + after for line in lines}:
        within = [part for part in parts if part.first_at <= at]
        told = sums_in_part(within[-1].body, at)
        assert told == added(*(line.sums for line in lines if line.effective_at <= at))


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=8))
def test_joined_ranges_cover_the_same_and_do_not_touch(ranges: list[tuple[int, int]]) -> None:
    """As few as can be, in order."""
    found = joined(ranges)
    assert {place for low, high in found for place in range(low, high)} == {
        place for low, high in ranges for place in range(low, high)
    }
    assert all(low < high for low, high in found)
    assert all(one[1] < other[0] for one, other in pairwise(found))
