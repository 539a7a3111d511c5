"""UUIDv7: the form of RFC 9562, in order within a process whatever the clock does."""

from __future__ import annotations

import uuid
from itertools import pairwise

import pytest

from engine.ids import Ids, is_id, uuid7
from tests.fakes.clock import START_US


def test_fields_stand_where_rfc_9562_puts_them() -> None:
    """Version 7, variant 2, 48 bits of milliseconds in front, and every bit of counter and chance comes back."""
    made = uuid.UUID(uuid7(0x0123456789AB, 0x3FFFF, 0xFFFFFFFFFFFFFF))
    assert (made.version, made.variant) == (7, uuid.RFC_4122)
    assert made.int >> 80 == 0x0123456789AB
    assert made.int & ((1 << 62) - 1) == (1 << 62) - 1
    least = uuid.UUID(uuid7(0x0123456789AB, 0, 0))
    assert (least.version, least.variant, least.int & ((1 << 62) - 1), (least.int >> 64) & 0xFFF) == (
        7, uuid.RFC_4122, 0, 0,
    )  # fmt: skip


def test_counter_orders_ids_whatever_chance_says() -> None:
    """A larger counter is a larger id, across the gap that the variant makes."""
    drawn = [
        uuid7(1, counter, chance) for counter, chance in ((0, 2**56 - 1), (1, 0), (63, 2**56 - 1), (64, 0), (65, 0))
    ]
    assert drawn == sorted(drawn)


@pytest.mark.parametrize(
    "steps", [(0,), (1,), (1_000,), (-5_000_000,), (700, -900, 3), (86_400_000_000, -86_400_000_000)]
)
def test_ids_increase_even_when_the_clock_stands_or_steps_back(steps: tuple[int, ...]) -> None:
    """Lists are ordered by id: what was drawn later is larger."""
    ids, now, drawn = Ids(), START_US, []
    for number in range(2_000):
        drawn.append(ids.draw(now))
        now += steps[number % len(steps)]
    assert all(one < other for one, other in pairwise(drawn))


def test_full_counter_borrows_the_next_millisecond() -> None:
    """After 2¹⁸ ids of one millisecond the order still holds."""
    ids = Ids(entropy=bytes)
    drawn = [ids.draw(START_US) for _ in range(2**18 + 2)]
    assert drawn[2**18 - 1][:13] == drawn[0][:13] < drawn[2**18][:13]
    assert all(one < other for one, other in pairwise(drawn))


def test_same_millisecond_in_two_processes_gives_different_ids() -> None:
    """Chance keeps apart what two processes draw at the same moment."""
    one, other = Ids(), Ids()
    drawn = [source.draw(START_US) for source in (one, other) for _ in range(500)]
    assert len(set(drawn)) == 1_000


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        (uuid7(1, 2, 3), True),
        ("00000000-0000-0000-0000-000000000000", True),
        (uuid7(2**48 - 1, 2, 3).upper(), False),
        (uuid7(1, 2, 3).replace("-", ""), False),
        ("{" + uuid7(1, 2, 3) + "}", False),
        (uuid7(1, 2, 3) + "\n", False),
        ("", False),
    ],
)
def test_only_lower_case_hyphenated_text_is_an_id(text: str, is_one: bool) -> None:
    """One spelling: what SQLite compares as text and PostgreSQL as a UUID is the same."""
    assert is_id(text) is is_one
