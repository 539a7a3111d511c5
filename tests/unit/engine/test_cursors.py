"""Cursors: made from a place, read back as that place, and nothing else is one."""

from __future__ import annotations

import re

import pytest

from engine.cursors import (
    FeedPlace,
    StatementPlace,
    effective_cursor,
    feed_cursor,
    page_cursor,
    parse_effective_cursor,
    parse_feed_cursor,
    parse_page_cursor,
    parse_position_cursor,
    parse_statement_cursor,
    parse_trial_balance_cursor,
    statement_cursor,
)
from engine.errors import CursorInvalid
from engine.events import genesis_hash
from engine.ids import uuid7
from engine.money import INSTANT_MAX, INSTANT_MIN


@pytest.mark.parametrize("sequence", [0, 1, 42, 2**63 - 1])
def test_feed_cursor_is_read_back_as_the_place_it_was_made_from(sequence: int) -> None:
    """Epoch, sequence and the first digits of the hash come back; the text is safe in URLs and headers."""
    chained = genesis_hash(7, "e1")
    text = feed_cursor("e1", sequence, chained)
    assert parse_feed_cursor(text) == FeedPlace("e1", sequence, chained.hex()[:12])
    assert re.fullmatch(r"[A-Za-z0-9._-]+", text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "v1",
        "v1.e1.5",
        "v2.e1.5.0123456789ab",
        "v1.e1.05.0123456789ab",
        "v1.e1.-5.0123456789ab",
        "v1.e1.٥.0123456789ab",
        "v1.e1.5.0123456789AB",
        "v1.e1.5.0123456789abc",
        "v1.g.5.0123456789ab",
        "v1.e1.99999999999999999999.0123456789ab",
        "v1.e1.5.0123456789ab\n",
        page_cursor(uuid7(1, 2, 3)),
    ],
)
def test_anything_else_is_no_feed_cursor(text: str) -> None:
    """A cursor is recognised or refused, never misread."""
    with pytest.raises(CursorInvalid):
        parse_feed_cursor(text)


def test_page_cursor_is_read_back() -> None:
    """By id, and by number."""
    last = uuid7(1, 2, 3)
    assert parse_page_cursor(page_cursor(last)) == last
    assert parse_position_cursor(page_cursor("17")) == 17


@pytest.mark.parametrize(
    "text", ["", "p1.", "p1.17", uuid7(1, 2, 3), "p2." + uuid7(1, 2, 3), "p1." + uuid7(1, 2, 3) + "\n"]
)
def test_anything_else_is_no_page_cursor(text: str) -> None:
    """A list by id takes no number, and no bare id."""
    with pytest.raises(CursorInvalid):
        parse_page_cursor(text)


@pytest.mark.parametrize("text", ["", "p1.", "17", "p1.-1", "p1.1e3", "p1." + "9" * 19, page_cursor(uuid7(1, 2, 3))])
def test_anything_else_is_no_position_cursor(text: str) -> None:
    """A list by number takes no id, and no number that no column holds."""
    with pytest.raises(CursorInvalid):
        parse_position_cursor(text)


@pytest.mark.parametrize("at", [INSTANT_MIN, -1, 0, 1_795_277_363_595_481, INSTANT_MAX])
def test_cursor_of_a_list_by_effective_times_is_read_back(at: int) -> None:
    """The time and the id, of any instant there is."""
    last = uuid7(1, 2, 3)
    assert parse_effective_cursor(effective_cursor(at, last)) == (at, last)


@pytest.mark.parametrize(
    "text",
    ["", "e1.", "e1.1", "e1.1.", "e1.1.x", f"p1.{uuid7(1, 2, 3)}", f"e1.{uuid7(1, 2, 3)}", f"1.{uuid7(1, 2, 3)}",
     f"e1.01.{uuid7(1, 2, 3)}", f"e1.{INSTANT_MAX + 1}.{uuid7(1, 2, 3)}", f"e1.{INSTANT_MIN - 1}.{uuid7(1, 2, 3)}",
     f"e1.1.{uuid7(1, 2, 3)}.2"],
)  # fmt: skip
def test_anything_else_is_no_cursor_of_a_list_by_effective_times(text: str) -> None:
    """Of another list, without a part, beyond any instant."""
    with pytest.raises(CursorInvalid):
        parse_effective_cursor(text)


@pytest.mark.parametrize("number", ["9" * 19, str(2**63), str(-(2**63) - 1), "", "1e3", "٣"])
def test_number_that_no_column_can_hold_is_in_no_cursor(number: str) -> None:
    """A database would refuse it with words of its own."""
    place = StatementPlace(2**63 - 1, -(2**63), 0, 0, 0, 0, 1)
    assert parse_statement_cursor(statement_cursor(place)) == place
    for index in range(len(place)):
        parts = [str(each) for each in place]
        parts[index] = number
        with pytest.raises(CursorInvalid):
            parse_statement_cursor("s1." + ".".join(parts))
    with pytest.raises(CursorInvalid):
        parse_trial_balance_cursor(f"t1.{uuid7(1, 2, 3)}.{number}")
