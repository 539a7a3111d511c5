"""Amounts and instants as text: RFC 3339 in, microseconds inside, RFC 3339 out; exponents as ISO 4217 has them."""

from __future__ import annotations

import pytest

from engine.money import INSTANT_MAX, INSTANT_MIN, format_instant, parse_instant

NOON = 1_763_726_400_000_000  # 2025-11-21T12:00:00Z


@pytest.mark.parametrize(
    ("text", "at_us"),
    [
        ("2025-11-21T12:00:00Z", NOON),
        ("2025-11-21t12:00:00z", NOON),
        ("2025-11-21T12:00:00.5Z", NOON + 500_000),
        ("2025-11-21T12:00:00.000001Z", NOON + 1),
        ("2025-11-21T12:00:00.0000019Z", NOON + 1),
        ("2025-11-21T12:00:00.123456789Z", NOON + 123_456),
        ("2025-11-21T13:30:00+01:30", NOON),
        ("2025-11-21T06:15:00-05:45", NOON),
        ("2025-11-22T11:59:00+23:59", NOON),
        ("2025-11-21T12:00:00-00:00", NOON),
        ("1969-12-31T23:59:59.999999Z", -1),
        ("2024-02-29T00:00:00Z", 1_709_164_800_000_000),
        ("0001-01-01T00:00:00Z", INSTANT_MIN),
        ("9999-12-31T23:59:59.999999Z", INSTANT_MAX),
    ],
)
def test_instant_is_read_to_the_microsecond(text: str, at_us: int) -> None:
    """Offsets are taken away, finer digits are cut, both ends of the calendar are in range."""
    assert parse_instant(text) == at_us


@pytest.mark.parametrize("text", ["2016-12-31T23:59:60Z", "2016-12-31T23:59:60.9Z", "2017-01-01T00:59:60+01:00"])
def test_leap_second_is_told_as_the_start_of_the_next_second(text: str) -> None:
    """RFC 3339 allows it, a count of microseconds has no room for it."""
    assert format_instant(parse_instant(text)) == "2017-01-01T00:00:00.000000Z"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2025-11-21",
        "2025-11-21T12:00:00",
        "2025-11-21 12:00:00Z",
        "2025-11-21T12:00Z",
        "2025-11-21T12:00:00.Z",
        "2025-11-21T12:00:00.1234567890Z",
        "2025-11-21T12:00:00,5Z",
        "2025-11-21T24:00:00Z",
        "2025-11-21T12:60:00Z",
        "2025-11-21T12:00:61Z",
        "2025-02-29T12:00:00Z",
        "2025-13-01T12:00:00Z",
        "2025-11-00T12:00:00Z",
        "0000-01-01T00:00:00Z",
        "2025-11-21T12:00:00+24:00",
        "2025-11-21T12:00:00+01:60",
        "2025-11-21T12:00:00+0100",
        "2025-11-21T12:00:00Z\n",
        " 2025-11-21T12:00:00Z",
        "２０２５-11-21T12:00:00Z",  # digits, but not ASCII ones
        "0001-01-01T00:00:00+00:01",
        "9999-12-31T23:59:59-00:01",
        "9999-12-31T23:59:60Z",
    ],
)
def test_text_that_is_no_instant_is_refused(text: str) -> None:
    """Nothing is guessed: no missing offset, no day that is not in the calendar, nothing beyond it."""
    with pytest.raises(ValueError):
        parse_instant(text)


@pytest.mark.parametrize(
    ("at_us", "text"),
    [
        (0, "1970-01-01T00:00:00.000000Z"),
        (-1, "1969-12-31T23:59:59.999999Z"),
        (NOON + 123_456, "2025-11-21T12:00:00.123456Z"),
        (INSTANT_MIN, "0001-01-01T00:00:00.000000Z"),
        (INSTANT_MAX, "9999-12-31T23:59:59.999999Z"),
    ],
)
def test_instant_is_told_with_six_digits_of_a_second(at_us: int, text: str) -> None:
    """The form never varies, so that texts sort as the instants do."""
    assert format_instant(at_us) == text
    assert parse_instant(text) == at_us
