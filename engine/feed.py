"""A site's feed as SQL: its head under lock, its events in order, the place a cursor means.

Everything that follows a site reads `read_after`: streams, webhooks, lists, replays. It never begins or commits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final

from msgspec import Struct
from sqlalchemy import Connection, Integer, Row, Select, bindparam, insert, select, update

from engine.cursors import feed_cursor, parse_feed_cursor
from engine.databases import Site
from engine.errors import CursorExpired, CursorInvalid, SiteUnknown
from engine.events import FeedEvent, genesis_hash
from engine.filters import EventFilter, about
from engine.lookups import lookup
from engine.schema import events, feeds
from engine.sql import among, contains

SEARCHED_EVENTS: Final = 5_000
"""How many bodies one statement searches at most."""
SEARCHED_PLACES: Final = 15
"""How many places of the feed one step of a search by time looks at: a million events take five steps."""

HEAD: Final = feeds.c[
    "head", "head_hash", "last_at", "epoch", "state", "holds_due_at", "accepted", "accepted_done", "fence"
]
"""The columns that `head_of` reads."""
_HEAD = select(*HEAD)
_EVENT = select(
    events.c.sequence,
    events.c.id,
    events.c.type,
    events.c.resource_id,
    events.c.created_at,
    events.c.body,
    events.c.hash,
)


_BY_SEQUENCE: Final = lookup([*_EVENT.selected_columns], events.c.sequence)
# Made once: to make a statement, and what it is found again by, costs as much as to run it.
_AFTER: Final = (
    _EVENT.where(events.c.site_id == bindparam("site"), events.c.sequence > bindparam("after"))
    .order_by(events.c.sequence)
    .limit(bindparam("most", type_=Integer))
)


class Head(Struct, frozen=True, kw_only=True):
    """Where a feed ends: its last sequence, that event's hash and time, and the feed's epoch.

    No hold of the site expires before `holds_due_at`; so many entries were accepted, so many of them dealt with. What was
    decided on a head can be written as long as it is the same, `fence` included.
    """

    sequence: int
    hash: bytes
    last_at: int
    epoch: str
    holds_due_at: int | None = None
    accepted: int = 0
    accepted_done: int = 0
    fence: int = 0

    def cursor(self) -> str:
        """Return the cursor that stands after everything there is."""
        return feed_cursor(self.epoch, self.sequence, self.hash)


def create_site(conn: Connection, site: Site, epoch: str, now_us: int) -> None:
    """Make the site's row with an empty feed, if it is not there."""
    found = conn.execute(select(feeds.c.site_id).where(feeds.c.site_id == site.id)).first()
    if found is None:
        row = {
            "site_id": site.id,
            "organization": site.organization,
            "environment": site.environment,
            "epoch": epoch,
            "state": "active",
            "head": 0,
            "head_hash": genesis_hash(site.id, epoch),
            "last_at": now_us,
            "accepted": 0,
            "accepted_done": 0,
            "fence": 0,
            "created_at": now_us,
        }
        conn.execute(insert(feeds).values(row))


def read_head(conn: Connection, site_id: int) -> Head:
    """Return the feed's head as of this snapshot; raises SiteUnknown."""
    return head_of(conn.execute(_HEAD.where(feeds.c.site_id == site_id)).first(), site_id)


def lock_head(conn: Connection, site_id: int) -> Head:
    """Lock the site's row until the transaction ends and return the head; raises SiteUnknown.

    It is a statement of its own: only a later one sees what the lock's previous holder committed.
    """
    return head_of(conn.execute(_HEAD.where(feeds.c.site_id == site_id).with_for_update()).first(), site_id)


def move_head(conn: Connection, site_id: int, head: Head) -> None:
    """Store where the feed ends now."""
    conn.execute(
        update(feeds)
        .where(feeds.c.site_id == site_id)
        .values(head=head.sequence, head_hash=head.hash, last_at=head.last_at),
    )


def move_fence(conn: Connection, site_id: int) -> None:
    """Shut out whatever was decided on the present head and is not written yet: somebody records a key, or a fate is settled."""
    conn.execute(update(feeds).where(feeds.c.site_id == site_id).values(fence=feeds.c.fence + 1))


def read_after(
    conn: Connection,
    site_id: int,
    after: int,
    limit: int,
    types: Sequence[str] | None = None,
    until: int | None = None,
) -> list[FeedEvent]:
    """Return at most `limit` events with a larger sequence, in order; only the given types where some are given.

    `until` is the last sequence that counts: it bounds how far a search for rare types goes.
    """
    query = _AFTER
    if types is not None:
        query = query.where(among(events.c.type, types))
    if until is not None:
        query = query.where(events.c.sequence <= until)
    return [_event(row) for row in conn.execute(query, {"site": site_id, "after": after, "most": limit})]


def read_matching(
    conn: Connection,
    site_id: int,
    head: Head,
    after: int,
    limit: int,
    wanted: EventFilter,
    *,
    searched: int = SEARCHED_EVENTS,
) -> tuple[list[FeedEvent], int]:
    """Return at most `limit` matching events after a sequence, and the sequence up to which was looked.

    What columns say is looked up by its index over the whole feed; what only bodies say is searched in a stretch of it, of
    at most `searched` events, so that one statement stays short however rare a match is.
    """
    query = _after(site_id, after, limit)
    end = head.sequence
    for part in wanted.parts():
        if part.types is not None:
            query = query.where(among(events.c.type, sorted(part.types)))
        if part.resource_id is not None:
            query = query.where(events.c.resource_id == part.resource_id)
        elif needles := part.needles():
            end = min(end, after + searched)
            query = query.where(*(contains(events.c.body, each) for each in needles))
    rows = [_event(row) for row in conn.execute(query.where(events.c.sequence <= end))]
    looked = rows[-1].sequence if len(rows) == limit else end
    return [each for each in rows if wanted.matches(each.type, partial(about, each.body))], looked


def read_before(
    conn: Connection,
    site_id: int,
    before: int,
    limit: int,
    *,
    type_: str | None = None,
    resource_id: str | None = None,
    correlation_id: str | None = None,
) -> list[FeedEvent]:
    """Return at most `limit` events with a smaller sequence, the newest first; of one type, resource, correlation if given."""
    query = (
        _EVENT.where(events.c.site_id == site_id, events.c.sequence < before)
        .order_by(events.c.sequence.desc())
        .limit(limit)
    )
    if type_ is not None:
        query = query.where(events.c.type == type_)
    if resource_id is not None:
        query = query.where(events.c.resource_id == resource_id)
    if correlation_id is not None:
        query = query.where(events.c.correlation_id == correlation_id)
    return [_event(row) for row in conn.execute(query)]


def read_bodies(conn: Connection, site_id: int, sequences: Sequence[int]) -> dict[int, FeedEvent]:
    """Return the events with these sequences."""
    return {row.sequence: _event(row) for row in _BY_SEQUENCE.rows(conn, site_id, sequences)}


def read_event(conn: Connection, site_id: int, event_id: str) -> FeedEvent | None:
    """Return the event with this id."""
    row = conn.execute(_EVENT.where(events.c.site_id == site_id, events.c.id == event_id)).first()
    return None if row is None else _event(row)


def floor(conn: Connection, site_id: int, head: Head, oldest_at: int | None) -> int:
    """Return the sequence after which the feed is served: 0, or the last event before an instant."""
    return 0 if oldest_at is None else place_at(conn, site_id, head, oldest_at)


def place_at(conn: Connection, site_id: int, head: Head, at_us: int) -> int:
    """Return the sequence of the last event before an instant."""
    return places_at(conn, site_id, head, [at_us])[0]


def places_at(conn: Connection, site_id: int, head: Head, instants: Sequence[int]) -> list[int]:
    """Return for each instant the sequence of the last event before it, 0 where there is none.

    Times never run backwards along a feed, so each is a search by sequence, of which a statement makes one step: it looks at
    so many places between the bounds. All of them go on together, however many instants there are.
    """
    bounds = [(0, head.sequence)] * len(instants)
    while True:
        looked = {each for bound in bounds for each in _between(bound)}
        if not looked:
            return [low for low, _ in bounds]
        query = select(events.c.sequence, events.c.created_at)
        query = query.where(events.c.site_id == site_id, among(events.c.sequence, sorted(looked)))
        times = {row.sequence: row.created_at for row in conn.execute(query)}
        bounds = [_narrowed(bound, at_us, times) for bound, at_us in zip(bounds, instants, strict=True)]


def _between(bound: tuple[int, int]) -> list[int]:
    """Return the places to look at, evenly over what is above the lower bound; none where there is nothing."""
    low, high = bound
    if high - low <= SEARCHED_PLACES:
        return list(range(low + 1, high + 1))
    return [low + (high - low) * step // (SEARCHED_PLACES + 1) for step in range(1, SEARCHED_PLACES + 1)]


def _narrowed(bound: tuple[int, int], at_us: int, times: Mapping[int, int]) -> tuple[int, int]:
    low, high = bound
    for place in _between(bound):
        # What is not there any more was there before everything that is.
        if times.get(place, -1) >= at_us:
            return low, place - 1
        low = place
    return low, high


def cursor_at(conn: Connection, site_id: int, head: Head, sequence: int) -> str:
    """Return the cursor that stands right after a sequence of this feed."""
    return feed_cursor(head.epoch, sequence, _hash_at(conn, site_id, head, sequence))


def resolve_cursor(conn: Connection, site_id: int, head: Head, text: str, floor_sequence: int) -> int:
    """Return the sequence a cursor stands after.

    Raises CursorInvalid for a cursor of another feed, of another history or of the future, CursorExpired for one that
    stands before what is still served.
    """
    place = parse_feed_cursor(text)
    if place.epoch != head.epoch:
        raise CursorInvalid("it belongs to another feed")
    if place.sequence > head.sequence:
        raise CursorInvalid("it is ahead of the feed")
    if place.sequence < floor_sequence:
        raise CursorExpired(cursor_at(conn, site_id, head, floor_sequence), head.cursor())
    if not _hash_at(conn, site_id, head, place.sequence).hex().startswith(place.digits):
        raise CursorInvalid("it belongs to another history of this feed")
    return place.sequence


def _after(site_id: int, after: int, limit: int) -> Select[*tuple[Any, ...]]:
    return _EVENT.where(events.c.site_id == site_id, events.c.sequence > after).order_by(events.c.sequence).limit(limit)


def _hash_at(conn: Connection, site_id: int, head: Head, sequence: int) -> bytes:
    if sequence == 0:
        return genesis_hash(site_id, head.epoch)
    if sequence == head.sequence:
        return head.hash
    found = conn.execute(
        select(events.c.hash).where(events.c.site_id == site_id, events.c.sequence == sequence),
    ).scalar_one()
    return bytes(found)


def head_of(row: Row[*tuple[Any, ...]] | None, site_id: int) -> Head:
    """Return the head that a row of `HEAD` tells; raises SiteUnknown where there is none, or of a site that is not active."""
    if row is None or row.state != "active":
        raise SiteUnknown(site_id)
    return Head(
        sequence=row.head,
        hash=bytes(row.head_hash),
        last_at=row.last_at,
        epoch=row.epoch,
        holds_due_at=row.holds_due_at,
        accepted=row.accepted,
        accepted_done=row.accepted_done,
        fence=row.fence,
    )


def _event(row: Row[*tuple[Any, ...]]) -> FeedEvent:
    return FeedEvent(
        sequence=row.sequence,
        id=row.id,
        type=row.type,
        resource_id=row.resource_id,
        created_at=row.created_at,
        body=bytes(row.body),
        hash=bytes(row.hash),
    )
