"""Cursors: opaque places, in the feed and in lists. Pure.

A feed cursor carries a version, the feed's epoch, a sequence and the first digits of that event's chain hash, so that the
cursor of another site, of a feed restored to an earlier state, or of the future is recognised and never misread.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, NamedTuple

from engine.errors import CursorInvalid
from engine.ids import is_id

HASH_DIGITS: Final = 12
_FEED: Final = re.compile(r"v1\.([0-9a-f]{1,16})\.(0|[1-9][0-9]{0,18})\.([0-9a-f]{12})\Z")
_PAGE: Final = "p1."
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
        or not all(_NUMBER.match(number) for number in numbers)
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
    if not text.startswith(_TRIAL_BALANCE) or not is_id(last_id) or not rest or not _NUMBER.match(rest[0]):
        raise CursorInvalid("it is no cursor of a trial balance")
    found: dict[tuple[str, int], tuple[int, int, int, int]] = {}
    for match in sums:
        if match is None:
            raise CursorInvalid("it is no cursor of a trial balance")
        exponent, debits, credits_, debit, credit = map(int, match.groups()[1:])
        found[match.group(1), exponent] = (debits, credits_, debit, credit)
    return TrialBalancePlace(last_id, int(rest[0]), found)


def parse_position_cursor(text: str) -> int:
    """Read the cursor of a list that is ordered by a number; raises CursorInvalid."""
    number = text.removeprefix(_PAGE)
    if not text.startswith(_PAGE) or not number.isdecimal() or len(number) > 18:
        raise CursorInvalid("it is no cursor of this list")
    return int(number)
