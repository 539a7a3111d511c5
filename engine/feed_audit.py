"""The audit of the feed: the events are those that were committed, none is missing, and their columns are what they say.

What entries, lines and everything else must be follows from them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, Row, Text, cast, func, select

from engine.events import Diagnostics, Resource, chain, genesis_hash
from engine.feed import Head, read_head
from engine.finding import Finding, readable
from engine.money import format_instant
from engine.pieces import Sequences
from engine.schema import events, feeds

PAGE: Final = 2_000
Progress = Callable[[int], None]


class _Seen(msgspec.Struct):
    """What an envelope says of itself."""

    id: str
    type: str
    sequence: int
    timestamp: str
    organization: str
    environment: str
    resource: Resource
    diagnostics: Diagnostics = Diagnostics()


_seen: Final = msgspec.json.Decoder(_Seen).decode


def verify_feed(conn: Connection, site_id: int, wanted: Sequences, progress: Progress) -> Finding | None:
    """Return the first thing that is wrong with this much of a site's feed: the rest is taken to be right."""
    head = read_head(conn, site_id)
    name = tuple(
        conn.execute(select(feeds.c.organization, feeds.c.environment).where(feeds.c.site_id == site_id)).one()
    )
    before = select(events.c.hash, events.c.created_at).where(
        events.c.site_id == site_id, events.c.sequence == wanted.after
    )
    found = conn.execute(before).first() if wanted.after else (genesis_hash(site_id, head.epoch), 0)
    if found is None:
        return Finding(table="events", row=f"sequence {wanted.after}", detail="the event is missing")
    sequence, (previous, last_at) = wanted.after, found
    for page in _pages(conn, site_id, wanted):
        for number, id_, type_, resource_id, created_at, correlation_id, body, digest in page:
            if number != sequence + 1:
                return Finding(table="events", row=f"sequence {sequence + 1}", detail="the event is missing")
            sequence = number
            if chain(previous, body) != digest:
                return _wrong_event(sequence, "the hash does not follow from the event before it")
            seen = _seen(body)
            at = readable(partial(format_instant, created_at))
            columns = (id_, type_, sequence, resource_id, at, correlation_id)
            told = seen.diagnostics.correlation_id
            if (seen.id, seen.type, seen.sequence, seen.resource.id, seen.timestamp, told) != columns:
                return _wrong_event(sequence, "the columns are not what the event says")
            if (seen.organization, seen.environment) != name:
                detail = "the site's name is not what its events say"
                return Finding(table="feeds", row=f"site {site_id}", detail=detail)
            if created_at < last_at:
                return _wrong_event(sequence, "the time is before the event before it")
            previous, last_at = digest, created_at
        progress(len(page))
    if sequence == wanted.until:
        return None
    if wanted.until is not None and _goes_on(conn, site_id, sequence):
        return Finding(table="events", row=f"sequence {sequence + 1}", detail="the event is missing")
    return _wrong_head(head, sequence, previous, last_at)


def _goes_on(conn: Connection, site_id: int, sequence: int) -> bool:
    last = select(func.max(events.c.sequence)).where(events.c.site_id == site_id)
    return (conn.execute(last).scalar() or 0) > sequence


def _wrong_event(sequence: int, detail: str) -> Finding:
    return Finding(table="events", row=f"sequence {sequence}", detail=detail)


def _wrong_head(head: Head, sequence: int, digest: bytes, last_at: int) -> Finding | None:
    if (sequence, digest) != (head.sequence, head.hash):
        return Finding(table="feeds", row=f"head {head.sequence}", detail=f"the feed ends at {sequence}")
    if sequence and head.last_at != last_at:
        return Finding(table="feeds", row=f"head {head.sequence}", detail="its time is not that of the last event")
    return None


def _pages(conn: Connection, site_id: int, wanted: Sequences) -> Iterator[Sequence[Row[*tuple[Any, ...]]]]:
    query = (
        select(
            events.c.sequence,
            cast(events.c.id, Text),
            events.c.type,
            cast(events.c.resource_id, Text),
            events.c.created_at,
            events.c.correlation_id,
            events.c.body,
            events.c.hash,
        )
        .where(events.c.site_id == site_id)
        .order_by(events.c.sequence)
        .limit(PAGE)
    )
    if wanted.until is not None:
        query = query.where(events.c.sequence <= wanted.until)
    # What stands before the first one is met too.
    page = conn.execute(query.where(events.c.sequence > wanted.after) if wanted.after else query).all()
    while page:
        yield page
        page = conn.execute(query.where(events.c.sequence > page[-1][0])).all()
