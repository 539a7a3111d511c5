"""Building spans off the hot path: it follows the feed, and makes the spans of the accounts that have grown by one.

A span follows from lines that never change, so two builders make the same one, and a builder that dies leaves nothing wrong. How far
the feed was looked at is only remembered so as not to look again.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, Final

import msgspec
from msgspec import Struct
from sqlalchemy import Connection, func, select, update
from sqlalchemy.dialects import postgresql, sqlite

from engine.databases import Database, Databases, Site
from engine.events import ENTRY_TYPES
from engine.feed import read_after
from engine.history import spans_of
from engine.schema import balances, lines, span_parts, span_places, spans
from engine.spans import (
    FAN_BITS,
    PARTS_LEVEL_MAX,
    SPAN_BITS,
    Moved,
    Part,
    Span,
    bits,
    in_order,
    moved,
    parts_of,
    span_of_lines,
    span_of_spans,
)
from engine.sql import Insert

EVENTS: Final = 200
_SPANS_AT_ONCE: Final = 64
_LINES_AT_ONCE: Final = 4_096
_PARTS_AT_ONCE: Final = 256


class _Touch(msgspec.Struct):
    account_id: str
    account_lock_version: int | None


class _Resource(msgspec.Struct):
    lines: list[_Touch] = []


class _Event(msgspec.Struct):
    data: _Resource


class _Page(Struct, frozen=True, kw_only=True):
    """Where the feed was looked at up to, up to where it is now, and the accounts that have a span to be made."""

    place: int | None
    reached: int
    accounts: Sequence[str] = ()


class SpanBuilder:
    """Makes the spans of a site's accounts, a page of the feed at a time."""

    def __init__(self, databases: Databases) -> None:
        """Take where sites live."""
        self._databases = databases

    async def run(self, site: Site) -> bool:
        """Look at the next events and make the spans that they fill; return whether more events wait."""
        database = await self._databases.of(site)
        page = await database.read(lambda conn: _next_page(conn, site.id), site_id=site.id)
        for account_id in page.accounts:
            await self.extend(site, account_id)
        if page.reached != page.place:
            await database.write(lambda conn: _move(conn, site.id, page), site_id=site.id)
        return page.reached != page.place

    async def extend(self, site: Site, account_id: str) -> None:
        """Make all the spans that an account has filled and that are not there yet."""
        database = await self._databases.of(site)
        more = True
        while more:
            more = await _extend_once(database, site.id, account_id)


async def _extend_once(database: Database, site_id: int, account_id: str) -> bool:
    made, parts = await database.read(lambda conn: next_spans(conn, site_id, account_id), site_id=site_id)
    # Parts first, some at a time: a span that is there has them all.
    while parts:
        some, parts = parts[:_PARTS_AT_ONCE], parts[_PARTS_AT_ONCE:]
        await database.write(partial(_put_parts, site_id, account_id, made[0], some), site_id=site_id)
    if made:
        await database.write(partial(_put_spans, site_id, account_id, made), site_id=site_id)
    return bool(made)


def next_spans(conn: Connection, site_id: int, account_id: str) -> tuple[list[Span], list[Part]]:
    """Return the next spans that an account has filled, the lowest first, and the parts of the first one."""
    version = conn.execute(
        select(balances.c.lock_version).where(balances.c.site_id == site_id, balances.c.account_id == account_id)
    ).scalar_one()
    level, ready = 0, version >> SPAN_BITS
    while ready:
        built = _built(conn, site_id, account_id, level)
        if built < ready:
            if level:
                return _raised(conn, site_id, account_id, level, built)
            return _grounded(conn, site_id, account_id, built, min(ready, built + _SPANS_AT_ONCE)), []
        level, ready = level + 1, ready >> FAN_BITS
    return [], []


def _next_page(conn: Connection, site_id: int) -> _Page:
    place = conn.execute(select(span_places.c.sequence).where(span_places.c.site_id == site_id)).scalar()
    found = read_after(conn, site_id, place or 0, EVENTS)
    seen: dict[str, tuple[int, int]] = {}
    for event in found:
        if event.type in ENTRY_TYPES:
            for line in msgspec.json.decode(event.body, type=_Event).data.lines:
                version = line.account_lock_version
                if version is None:
                    # It is accepted and has moved nothing.
                    continue
                low, high = seen.get(line.account_id, (version, 0))
                seen[line.account_id] = (min(low, version), max(high, version))
    full = [each for each, (low, high) in seen.items() if (low - 1) >> SPAN_BITS != high >> SPAN_BITS]
    return _Page(place=place, reached=found[-1].sequence if found else place or 0, accounts=full)


def _move(conn: Connection, site_id: int, page: _Page) -> None:
    if page.place is None:
        _insert_missing(conn, Insert(table=span_places, rows=[{"site_id": site_id, "sequence": page.reached}]))
        return
    conn.execute(
        update(span_places)
        .where(span_places.c.site_id == site_id, span_places.c.sequence == page.place)
        .values(sequence=page.reached)
    )


def _built(conn: Connection, site_id: int, account_id: str, level: int) -> int:
    query = select(func.max(spans.c.number)).where(
        spans.c.site_id == site_id, spans.c.account_id == account_id, spans.c.level == level
    )
    last = conn.execute(query).scalar()
    return 0 if last is None else last + 1


def _grounded(conn: Connection, site_id: int, account_id: str, first: int, end: int) -> list[Span]:
    held: dict[int, list[Moved]] = {number: [] for number in range(first, end)}
    for line in lines_of(conn, site_id, account_id, first << SPAN_BITS, end << SPAN_BITS):
        held[(line.version - 1) >> SPAN_BITS].append(line)
    return [span_of_lines(number, found) for number, found in held.items()]


def _raised(conn: Connection, site_id: int, account_id: str, level: int, number: int) -> tuple[list[Span], list[Part]]:
    first = number << FAN_BITS
    found = spans_of(conn, site_id, account_id, level - 1, [(first, first + (1 << FAN_BITS))])
    below = [found[each] for each in sorted(found)]
    parted = level <= PARTS_LEVEL_MAX and not in_order(below)
    span = span_of_spans(level, number, below, parted=parted)
    if not parted:
        return [span], []
    low, high = number << bits(level), (number + 1) << bits(level)
    return [span], parts_of(lines_of(conn, site_id, account_id, low, high))


def lines_of(conn: Connection, site_id: int, account_id: str, above: int, upto: int) -> list[Moved]:
    """Return what an account's lines above a version and up to another moved."""
    found: list[Moved] = []
    for low in range(above, upto, _LINES_AT_ONCE):
        query = select(
            lines.c.account_lock_version,
            lines.c.effective_at,
            lines.c.direction,
            lines.c.posted_moved,
            lines.c.pending_moved,
        ).where(
            lines.c.site_id == site_id,
            lines.c.account_id == account_id,
            lines.c.account_lock_version > low,
            lines.c.account_lock_version <= min(upto, low + _LINES_AT_ONCE),
        )
        found += [Moved(row[0], row[1], moved(*row[2:])) for row in conn.execute(query)]
    return found


def _put_spans(site_id: int, account_id: str, made: Sequence[Span], conn: Connection) -> None:
    rows = [
        {
            "site_id": site_id,
            "account_id": account_id,
            "level": span.level,
            "number": span.number,
            "first_at": span.first_at,
            "last_at": span.last_at,
            **span.sums._asdict(),
            "parted": span.parted,
        }
        for span in made
    ]
    _insert_missing(conn, Insert(table=spans, rows=rows))


def _put_parts(site_id: int, account_id: str, span: Span, parts: Sequence[Part], conn: Connection) -> None:
    place = {"site_id": site_id, "account_id": account_id, "level": span.level, "number": span.number}
    _insert_missing(conn, Insert(table=span_parts, rows=[{**place, **part._asdict()} for part in parts]))


def _insert_missing(conn: Connection, change: Insert) -> None:
    """Insert the rows that are not there yet: another builder may have been faster."""
    insert: Any = postgresql.insert if conn.dialect.name == "postgresql" else sqlite.insert
    conn.execute(insert(change.table).on_conflict_do_nothing(), change.rows)
