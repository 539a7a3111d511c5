"""Cursors: opaque places, in the feed and in lists. Pure.

A feed cursor carries a version, the feed's epoch, a sequence and the first digits of that event's chain hash, so that the
cursor of another site, of a feed restored to an earlier state, or of the future is recognised and never misread.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from engine.errors import CursorInvalid
from engine.ids import is_id

HASH_DIGITS: Final = 12
_FEED: Final = re.compile(r"v1\.([0-9a-f]{1,16})\.(0|[1-9][0-9]{0,18})\.([0-9a-f]{12})\Z")
_PAGE: Final = "p1."


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


def parse_position_cursor(text: str) -> int:
    """Read the cursor of a list that is ordered by a number; raises CursorInvalid."""
    number = text.removeprefix(_PAGE)
    if not text.startswith(_PAGE) or not number.isdecimal() or len(number) > 18:
        raise CursorInvalid("it is no cursor of this list")
    return int(number)
