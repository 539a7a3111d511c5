"""Cursors: opaque places, in the feed and in lists. Pure.

A feed cursor carries a version, the feed's epoch, a sequence and the first digits of that event's chain hash, so that the
cursor of another site, of a feed restored to an earlier state, or of the future is recognised and never misread.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from engine.errors import CursorInvalid
from engine.ids import is_id
from engine.money import AMOUNT_MAX, INSTANT_MAX, INSTANT_MIN

HASH_DIGITS: Final = 12
_FEED: Final = re.compile(r"v1\.([0-9a-f]{1,16})\.(0|[1-9][0-9]{0,18})\.([0-9a-f]{12})\Z")
_PAGE: Final = "p1."
_CODE: Final = "c1."
_CODE_FORM: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.]{1,63}\Z")
_LINE: Final = "l1."
_PLACE: Final = re.compile(r"(0|[1-9][0-9]{0,17})\Z")
_EFFECTIVE: Final = "e1."
_STATEMENT: Final = "s1."
_TRIAL_BALANCE: Final = "t1."
_NUMBER: Final = re.compile(r"-?(0|[1-9][0-9]{0,18})\Z")
_SUM: Final = re.compile(r"([A-Z][A-Z0-9_]{2,15})" + r"-([0-9]{1,2})" + r"-([0-9]{1,39})" * 4 + r"\Z")


class FeedPlace(NamedTuple):
    """What a feed cursor says: after which event, of which epoch, with which hash."""

    epoch: str
    sequence: int
    digits: str


def feed_cursor(epoch: str, sequence: int, event_hash: bytes) -> str:
    """Return the cursor that stands right after an event; sequence 0 and the genesis hash are the feed's start."""
    return f"v1.{epoch}.{sequence}.{event_hash[: HASH_DIGITS // 2].hex()}"


def parse_feed_cursor(text: str) -> FeedPlace:
    """Read a feed cursor; raises CursorInvalid where the text is none."""
    match = _FEED.match(text)
    if match is None:
        raise CursorInvalid("it is malformed")
    epoch, sequence, digits = match.groups()
    return FeedPlace(epoch, int(sequence), digits)


def page_cursor(last_id: str) -> str:
    """Return the cursor of the list page that follows the resource with this id."""
    return _PAGE + last_id


def parse_page_cursor(text: str) -> str:
    """Read a list cursor as the id of the last resource of the page before; raises CursorInvalid."""
    last_id = text.removeprefix(_PAGE)
    if not text.startswith(_PAGE) or not is_id(last_id):
        raise CursorInvalid("it is no cursor of a list")
    return last_id


def code_cursor(code: str) -> str:
    """Return the cursor of the list page that follows what has this code, in a list that is ordered by codes."""
    return _CODE + code


def parse_code_cursor(text: str) -> str:
    """Read the cursor of a list that is ordered by codes; raises CursorInvalid."""
    code = text.removeprefix(_CODE)
    if not text.startswith(_CODE) or not _CODE_FORM.match(code):
        raise CursorInvalid("it is no cursor of this list")
    return code


LinePlace = tuple[Any, ...]
"""Where a page of lines ends: a line's entry, version and position; along one account the account's version."""


def line_cursor(place: LinePlace) -> str:
    """Return the cursor of the page of lines that follows this place."""
    return _LINE + ".".join(map(str, place))


def parse_line_cursor(text: str, length: int) -> LinePlace:
    """Read the cursor of a list of lines, whose places have so many parts; raises CursorInvalid."""
    parts = text.removeprefix(_LINE).split(".")
    numbers = parts if length == 1 else parts[1:]
    if (
        not text.startswith(_LINE)
        or len(parts) != length
        or not all(_PLACE.match(number) for number in numbers)
        or (numbers is not parts and not is_id(parts[0]))
    ):
        raise CursorInvalid("it is no cursor of this list")
    return (*parts[: length - len(numbers)], *map(int, numbers))


def effective_cursor(effective_at: int, last_id: str) -> str:
    """Return the cursor of the page, in a list by effective times, that follows the resource of this time and id."""
    return f"{_EFFECTIVE}{effective_at}.{last_id}"


def parse_effective_cursor(text: str) -> tuple[int, str]:
    """Read the cursor of a list by effective times; raises CursorInvalid."""
    number, _, last_id = text.removeprefix(_EFFECTIVE).partition(".")
    if (
        not text.startswith(_EFFECTIVE)
        or not _NUMBER.match(number)
        or not INSTANT_MIN <= int(number) <= INSTANT_MAX
        or not is_id(last_id)
    ):
        raise CursorInvalid("it is no cursor of a list by effective times")
    return int(number), last_id


class StatementPlace(NamedTuple):
    """Where a statement's page ends: its last line's effective time and version, the totals after it, the books' version."""

    at: int
    version: int
    posted_debits: int
    posted_credits: int
    pending_debits: int
    pending_credits: int
    upto: int


def statement_cursor(place: StatementPlace) -> str:
    """Return the cursor of the page of a statement that follows this place."""
    return _STATEMENT + ".".join(map(str, place))


def parse_statement_cursor(text: str) -> StatementPlace:
    """Read the cursor of a statement; raises CursorInvalid."""
    numbers = text.removeprefix(_STATEMENT).split(".")
    if (
        not text.startswith(_STATEMENT)
        or len(numbers) != len(StatementPlace._fields)
        or not all(map(_is_stored_number, numbers))
    ):
        raise CursorInvalid("it is no cursor of a statement")
    return StatementPlace(*map(int, numbers))


class TrialBalancePlace(NamedTuple):
    """Where a trial balance's page ends: its last account, the time that its books were known at, the sums so far.

    The sums stand by currency and exponent: debits, credits, debit balances, credit balances.
    """

    last_id: str
    known_at: int
    sums: Mapping[tuple[str, int], tuple[int, int, int, int]]


def trial_balance_cursor(place: TrialBalancePlace) -> str:
    """Return the cursor of the page of a trial balance that follows this place."""
    sums = ["-".join(map(str, (*key, *value))) for key, value in place.sums.items()]
    return ".".join((_TRIAL_BALANCE + place.last_id, str(place.known_at), *sums))


def parse_trial_balance_cursor(text: str) -> TrialBalancePlace:
    """Read the cursor of a trial balance; raises CursorInvalid."""
    last_id, *rest = text.removeprefix(_TRIAL_BALANCE).split(".")
    sums = [_SUM.match(each) for each in rest[1:]]
    if not text.startswith(_TRIAL_BALANCE) or not is_id(last_id) or not rest or not _is_stored_number(rest[0]):
        raise CursorInvalid("it is no cursor of a trial balance")
    found: dict[tuple[str, int], tuple[int, int, int, int]] = {}
    for match in sums:
        if match is None:
            raise CursorInvalid("it is no cursor of a trial balance")
        exponent, debits, credits_, debit, credit = map(int, match.groups()[1:])
        found[match.group(1), exponent] = (debits, credits_, debit, credit)
    return TrialBalancePlace(last_id, int(rest[0]), found)


def _is_stored_number(text: str) -> bool:
    """Tell whether the text is a number that a column can hold: one of 64 bits."""
    return _NUMBER.match(text) is not None and -AMOUNT_MAX - 1 <= int(text) <= AMOUNT_MAX


def parse_position_cursor(text: str) -> int:
    """Read the cursor of a list that is ordered by a number; raises CursorInvalid."""
    number = text.removeprefix(_PAGE)
    if not text.startswith(_PAGE) or not number.isdecimal() or len(number) > 18:
        raise CursorInvalid("it is no cursor of this list")
    return int(number)
