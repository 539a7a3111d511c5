"""Instants, ids, cursors and balances, over all that they may be given."""

from __future__ import annotations

import string
from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone

from hypothesis import given
from hypothesis import strategies as st

from engine.balances import EMPTY, Totals, balances_of
from engine.cursors import feed_cursor, page_cursor, parse_feed_cursor, parse_page_cursor
from engine.errors import CursorInvalid
from engine.ids import Ids, is_id
from engine.money import INSTANT_MAX, INSTANT_MIN, format_instant, parse_instant

INSTANTS = st.integers(INSTANT_MIN, INSTANT_MAX)
SOME_TEXT = st.text(string.digits + string.ascii_lowercase + "-+:.TZtz \n" + "٣", max_size=40)


@given(INSTANTS, INSTANTS)
def test_instant_survives_its_text_and_sorts_like_it(one: int, other: int) -> None:
    """To the microsecond, over the whole calendar."""
    assert parse_instant(format_instant(one)) == one
    assert (format_instant(one) < format_instant(other)) is (one < other)


@given(st.datetimes(datetime(2, 1, 1), datetime(9998, 1, 1)), st.integers(-1439, 1439))  # noqa: DTZ001 - the offset is drawn apart
def test_offset_is_read_as_the_standard_library_reads_it(moment: datetime, minutes: int) -> None:
    """An independent reading of the same text."""
    told = moment.replace(tzinfo=timezone(timedelta(minutes=minutes)))
    expected = (told - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    assert parse_instant(told.isoformat(timespec="microseconds")) == expected


@given(SOME_TEXT)
def test_text_is_an_instant_or_a_value_error(text: str) -> None:
    """Nothing else comes out, whatever goes in."""
    with suppress(ValueError):
        assert INSTANT_MIN <= parse_instant(text) <= INSTANT_MAX


@given(st.lists(st.integers(-(10**7), 10**7), min_size=1, max_size=60))
def test_ids_increase_under_every_clock(steps: list[int]) -> None:
    """Standing, running, stepping back by seconds."""
    ids, now, drawn = Ids(), 1_760_000_000_000_000, []
    for step in steps:
        now += step
        drawn.append(ids.draw(now))
    assert drawn == sorted(set(drawn))
    assert all(is_id(each) for each in drawn)


@given(
    st.text("0123456789abcdef", min_size=1, max_size=16), st.integers(0, 2**63 - 1), st.binary(min_size=32, max_size=32)
)
def test_feed_cursor_survives_its_text(epoch: str, sequence: int, chained: bytes) -> None:
    """Every place has one, and it is read as that place."""
    assert parse_feed_cursor(feed_cursor(epoch, sequence, chained)) == (epoch, sequence, chained.hex()[:12])


@given(st.text(max_size=60))
def test_text_is_a_cursor_or_refused(text: str) -> None:
    """What is read as a place is exactly what that place would be written as."""
    with suppress(CursorInvalid):
        place = parse_feed_cursor(text)
        assert feed_cursor(place.epoch, place.sequence, bytes.fromhex(place.digits)) == text
    with suppress(CursorInvalid):
        assert page_cursor(parse_page_cursor(text)) == text


@given(
    st.lists(
        st.tuples(st.sampled_from(["debit", "credit"]), st.integers(0, 10**6), st.integers(0, 10**6)),
        max_size=30,
    ),
)
def test_balances_mirror_each_other_in_both_normal_directions(moves: list[tuple[str, int, int]]) -> None:
    """Posted and pending only change sign; what is available never counts what is only promised."""
    totals: Totals = EMPTY
    for direction, posted, pending in moves:
        totals = totals.add(direction, posted, pending)
    debit, credit = balances_of(totals, "debit"), balances_of(totals, "credit")
    assert totals.lock_version == len(moves)
    assert (debit.posted.amount, debit.pending.amount) == (-credit.posted.amount, -credit.pending.amount)
    for normal, balances in (("debit", debit), ("credit", credit)):
        assert balances.available.amount == totals.available(normal) <= balances.posted.amount
        for each in (balances.posted, balances.pending, balances.available):
            assert each.amount == (1 if normal == "debit" else -1) * (each.debits - each.credits)
