"""The audit of the feed, and of entries and lines against it, in one pass: each event is read once, beside its entry as it is stored.

The hash chain says that the events are what was committed; an entry's last event then says to the byte what its rows must be.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Final, NamedTuple
from typing import cast as as_type

import msgspec
from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    Table,
    Text,
    and_,
    case,
    cast,
    func,
    literal_column,
    select,
    type_coerce,
)
from sqlalchemy.dialects.postgresql import aggregate_order_by
from sqlalchemy.types import TypeEngine

from engine.columns import Json
from engine.events import ENTRY_TYPES, Diagnostics, Resource, chain, genesis_hash, moves_lines
from engine.feed import Head, read_head
from engine.finding import RIGHT, Finding, readable
from engine.money import format_instant
from engine.rows import EntryRow, LineRow, ResourceRow
from engine.schema import acceptances, entries, events, feeds, lines
from engine.shapes import Entry, encode, entry_of
from engine.sql import among

PAGE: Final = 500
Progress = Callable[[int], None]


class _Seen(msgspec.Struct):
    """What an envelope says of itself, its resource not yet decoded."""

    id: str
    type: str
    sequence: int
    timestamp: str
    organization: str
    environment: str
    resource: Resource
    data: msgspec.Raw
    previous: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    diagnostics: Diagnostics = Diagnostics()


class _Reached(NamedTuple):
    """How far the events of an entry were followed: the version of its lines, and the effective time before it."""

    version: int
    effective_at: str


class _Status(msgspec.Struct):
    """The status of an entry in its event."""

    status: str


UNMOVED: Final = frozenset({"accepted", "rejected"})
_DOCUMENTS: Final = {
    table.name: tuple(column.name for column in table.c if column.type is Json)
    for table in (entries, lines, acceptances)
}
_status: Final = msgspec.json.Decoder(_Status).decode
_seen: Final = msgspec.json.Decoder(_Seen).decode
_told: Final = msgspec.json.Decoder(Entry).decode
_row: Final = msgspec.json.Decoder(dict[str, Any]).decode
_rows: Final = msgspec.json.Decoder(list[dict[str, Any]]).decode


def verify_feed(conn: Connection, site_id: int, progress: Progress) -> Finding | None:
    """Return the first thing that is wrong with a site's feed, or with an entry or a line that it tells of."""
    head = read_head(conn, site_id)
    name = conn.execute(select(feeds.c.organization, feeds.c.environment).where(feeds.c.site_id == site_id)).one()
    books = _Entries()
    sequence, previous, last_at = 0, genesis_hash(site_id, head.epoch), 0
    for page in _pages(conn, site_id):
        for event in page:
            if event.sequence != sequence + 1:
                return Finding(table="events", row=f"sequence {sequence + 1}", detail="the event is missing")
            sequence = event.sequence
            body, digest = bytes(event.body), bytes(event.hash)
            if chain(previous, body) != digest:
                return _wrong_event(sequence, "the hash does not follow from the event before it")
            seen = _seen(body)
            at = readable(partial(format_instant, event.created_at))
            columns = (event.id, event.type, sequence, event.resource_id, at, event.correlation_id)
            told = seen.diagnostics.correlation_id
            if (seen.id, seen.type, seen.sequence, seen.resource.id, seen.timestamp, told) != columns:
                return _wrong_event(sequence, "the columns are not what the event says")
            if (seen.organization, seen.environment) != tuple(name):
                detail = "the site's name is not what its events say"
                return Finding(table="feeds", row=f"site {site_id}", detail=detail)
            if event.created_at < last_at:
                return _wrong_event(sequence, "the time is before the event before it")
            previous, last_at = digest, event.created_at
            found = readable(partial(books.follow, event, seen)) if event.type in ENTRY_TYPES else RIGHT
            if found is not RIGHT:
                return found or _wrong_entry(event.resource_id, "what is stored of it cannot be read")
        progress(len(page))
    return _wrong_head(head, sequence, previous, last_at) or books.end(conn, site_id)


def _wrong_event(sequence: int, detail: str) -> Finding:
    return Finding(table="events", row=f"sequence {sequence}", detail=detail)


def _wrong_head(head: Head, sequence: int, digest: bytes, last_at: int) -> Finding | None:
    if (sequence, digest) != (head.sequence, head.hash):
        return Finding(table="feeds", row=f"head {head.sequence}", detail=f"the feed ends at {sequence}")
    if sequence and head.last_at != last_at:
        return Finding(table="feeds", row=f"head {head.sequence}", detail="its time is not that of the last event")
    return None


class _Entries:
    """Follows entries through their events; what no event accounts for is found at the end, by its number."""

    def __init__(self) -> None:
        self._open: dict[str, _Reached] = {}
        self._entries = 0
        self._lines = 0

    def follow(self, event: Row[Any], seen: _Seen) -> Finding:
        """Compare what an event says of its entry with the version of its lines that it came with, and at last with its row."""
        entry_id = event.resource_id
        if event.entry is None:
            return _wrong_entry(entry_id, "the feed tells of it, and it is not there")
        row = as_type("EntryRow", _read(entries, event.entry))
        stored = [as_type("LineRow", _documents(lines, line)) for line in _rows(event.lines or "[]")]
        acceptance = None if event.acceptance is None else _read(acceptances, event.acceptance)
        reached = self._open.pop(entry_id, _Reached(0, ""))
        status = "posted" if event.type == "entry.posted" else _status(seen.data).status
        previous = {} if isinstance(seen.previous, msgspec.UnsetType) else _row(seen.previous)
        fresh = moves_lines(event.type, status, previous)
        version = reached.version + fresh
        present = [line for line in stored if line["version"] == version]
        # The bytes of a row that the event is the last of are the event's; metadata of several pairs may be in another order.
        told = None if encode(_shown(row, present, acceptance)) == bytes(seen.data) else _told(seen.data)
        effective_at = format_instant(row["effective_at"]) if told is None else told.effective_at
        found = _wrong_lines(present, reached, effective_at, event.created_at if fresh else None)
        if found is None and version > 1 and not _taken_back(present, stored):
            found = "what they take back was not there"
        if found is None and told is not None and status not in UNMOVED and _shown(row, present).lines != told.lines:
            found = "they are not what the event says"
        if found is not None:
            return Finding(table="lines", row=f"entry {entry_id} version {version}", detail=found)
        if told is not None and status == "accepted" and _accepted(row, acceptance).lines != told.lines:
            return _wrong_entry(entry_id, "what it was accepted with is not what the event says")
        if told is None or told.lock_version >= row["lock_version"]:
            return self._finish(row, stored, version, told, acceptance)
        self._open[entry_id] = _Reached(version, effective_at)
        return RIGHT

    def _finish(
        self, row: EntryRow, stored: list[LineRow], version: int, told: Entry | None, acceptance: ResourceRow | None
    ) -> Finding:
        """Compare an entry with its last event."""
        present = [line for line in stored if line["version"] == version]
        if stored and (stored[-1]["version"] != version or stored[0]["version"] < 1):
            beyond = max(line["version"] for line in stored)
            return Finding(table="lines", row=f"entry {row['id']} version {beyond}", detail="no event tells of them")
        if row["lines_version"] != version or (told is not None and _shown(row, present, acceptance) != told):
            return _wrong_entry(row["id"], "it is not what its last event says")
        self._entries += 1
        self._lines += len(stored)
        return RIGHT

    def end(self, conn: Connection, site_id: int) -> Finding | None:
        """Return what the events did not account for: an entry's last change, an entry, a line."""
        for entry_id in self._open:
            return _wrong_entry(entry_id, "it is not what its last event says")
        told = and_(
            events.c.site_id == entries.c.site_id,
            events.c.resource_id == entries.c.id,
            among(events.c.type, ENTRY_TYPES),
        )
        if self._entries != _count(conn, entries, site_id):
            unknown = select(entries.c.id).where(entries.c.site_id == site_id, ~select(1).where(told).exists())
            return _wrong_entry(str(conn.execute(unknown.limit(1)).scalar()), "no event tells of it")
        if self._lines != _count(conn, lines, site_id):
            owner = and_(entries.c.site_id == lines.c.site_id, entries.c.id == lines.c.entry_id)
            stray = select(lines.c.entry_id).where(lines.c.site_id == site_id, ~select(1).where(owner).exists())
            owner_id = conn.execute(stray.limit(1)).scalar()
            return Finding(table="lines", row=f"entry {owner_id}", detail="there is no such entry")
        return None


def _wrong_entry(entry_id: str, detail: str) -> Finding:
    return Finding(table="entries", row=entry_id, detail=detail)


def _shown(row: EntryRow, present: Sequence[LineRow], acceptance: ResourceRow | None = None) -> Entry:
    """Return an entry as it is stored; what it was accepted with counts as long as it has moved nothing."""
    return entry_of(row, present, acceptance if row["status"] in UNMOVED else None)


def _accepted(row: EntryRow, acceptance: ResourceRow | None) -> Entry:
    """Return an entry as it was when it was accepted."""
    then = row.copy()
    then["status"] = "accepted"
    return entry_of(then, [], acceptance)


def _wrong_lines(
    present: Sequence[LineRow], reached: _Reached, effective_at: str, created_at: int | None
) -> str | None:
    """Return what is wrong with a version of an entry's lines; `created_at` is None where the event brought no new one."""
    sums: dict[str, int] = {}
    for position, line in enumerate(present):
        discarded = line["status"] == "discarded"
        if line["position"] != position:
            return "their places are not in order"
        if created_at is not None:
            at = reached.effective_at if discarded else effective_at
            if format_instant(line["effective_at"]) != at:
                return "their times are not the entry's"
            if line["created_at"] != created_at:
                return "their time is not that of their event"
        if not discarded:
            signed = line["amount"] if line["direction"] == "debit" else -line["amount"]
            sums[line["currency"]] = sums.get(line["currency"], 0) + signed
    return "their debits and credits differ" if any(sums.values()) else None


def _taken_back(present: Sequence[LineRow], stored: Sequence[LineRow]) -> bool:
    """Tell whether every line that takes one back is of the version before, and is that line."""

    def what(line: LineRow) -> tuple[Any, ...]:
        return tuple(line[name] for name in ("id", "account_id", "direction", "amount", "metadata"))

    back = [line for line in present if line["status"] == "discarded"]
    before = [what(line) for line in stored if back and line["version"] == back[0]["version"] - 1]
    return all(what(line) in before for line in back)


def _count(conn: Connection, table: Table, site_id: int) -> int:
    return conn.execute(select(func.count()).select_from(table).where(table.c.site_id == site_id)).scalar_one()


def _pages(conn: Connection, site_id: int) -> Iterator[Sequence[Row[Any]]]:
    """Return the feed in pages, each entry's event with the entry's row and all its lines as JSON."""
    entry, its_lines, acceptance = _as_json(conn.dialect.name)
    of_entry = among(events.c.type, ENTRY_TYPES)
    unposted = and_(of_entry, events.c.type != "entry.posted")
    query = (
        select(
            events.c.sequence,
            cast(events.c.id, Text).label("id"),
            events.c.type,
            cast(events.c.resource_id, Text).label("resource_id"),
            events.c.created_at,
            events.c.correlation_id,
            events.c.body,
            events.c.hash,
            case((of_entry, entry)).label("entry"),
            case((of_entry, its_lines)).label("lines"),
            case((unposted, acceptance)).label("acceptance"),
        )
        .where(events.c.site_id == site_id)
        .order_by(events.c.sequence)
        .limit(PAGE)
    )
    page = conn.execute(query).all()
    while page:
        yield page
        page = conn.execute(query.where(events.c.sequence > page[-1].sequence)).all()


def _as_json(dialect: str) -> tuple[ColumnElement[Any], ColumnElement[Any], ColumnElement[Any]]:
    """Return an event's entry, the entry's lines in order, and what it was accepted with: each row an object by column."""
    entry, acceptance = (
        and_(table.c.site_id == events.c.site_id, table.c.id == events.c.resource_id)
        for table in (entries, acceptances)
    )
    its_lines = and_(lines.c.site_id == events.c.site_id, lines.c.entry_id == events.c.resource_id)
    if dialect == "postgresql":
        in_order = aggregate_order_by(lines.table_valued(), lines.c.version, lines.c.position)
        return (
            select(cast(func.row_to_json(entries.table_valued()), Text)).where(entry).scalar_subquery(),
            select(cast(func.json_agg(in_order), Text)).where(its_lines).scalar_subquery(),
            select(cast(func.row_to_json(acceptances.table_valued()), Text)).where(acceptance).scalar_subquery(),
        )
    ordered = (
        select(_object(lines).label("line"))
        .where(its_lines)
        .order_by(lines.c.version, lines.c.position)
        .correlate(events)
        .subquery()
    )
    return (
        select(_object(entries)).where(entry).scalar_subquery(),
        select(func.json_group_array(func.json(ordered.c.line))).scalar_subquery(),
        select(_object(acceptances)).where(acceptance).scalar_subquery(),
    )


def _object(table: Table) -> ColumnElement[Any]:
    # Documents as the texts that they are: one that is no JSON any more is a finding, not a failure.
    pairs: list[ColumnElement[Any]] = []
    for column in table.c:
        pairs += literal_column(f"'{column.name}'"), type_coerce(column, _plain(column))
    return func.json_object(*pairs)


def _plain(column: ColumnElement[Any]) -> TypeEngine[Any]:
    return Text() if column.type is Json else column.type


def _read(table: Table, text: str) -> dict[str, Any]:
    return _documents(table, _row(text))


def _documents(table: Table, row: dict[str, Any]) -> dict[str, Any]:
    """Read the documents of a row that came as texts."""
    for name in _DOCUMENTS[table.name]:
        if isinstance(row[name], str):
            with contextlib.suppress(msgspec.DecodeError):
                row[name] = msgspec.json.decode(row[name])
    return row
