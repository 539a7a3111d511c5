"""The audit of entries and their lines: each beside its own events, whose last says to the byte what its rows must be.

Entries are read in the order of their ids, a stretch of ids at a time: what has such an id anywhere is read with it, so that
nothing has to be remembered from one stretch to the next, and what belongs to no entry is met on the way.
"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Final, NamedTuple
from typing import cast as as_type

import msgspec
from sqlalchemy import ColumnElement, Connection, Select, Table, Text, cast, func, select

from engine.balances import Direction, Totals, balances_of
from engine.columns import Id, Json
from engine.events import moves_lines
from engine.finding import RIGHT, Finding, readable
from engine.money import format_instant
from engine.rows import EntryRow, ResourceRow
from engine.schema import acceptances, entries, events, lines
from engine.shapes import Entry, Line, LineStatus, encode, entry_of

PAGE: Final = 1_000
ROWS: Final = 10_000
"""How many events and lines one page is to have about: entries with many come fewer at a time."""

Progress = Callable[[int], None]
_Row = dict[str, Any]


class _Event(NamedTuple):
    """An event of an entry."""

    resource_id: str
    created_at: int
    type: str
    body: bytes


class _Line(NamedTuple):
    """A version of a line as it is stored; its metadata is a text."""

    entry_id: str
    version: int
    position: int
    id: str
    account_id: str
    direction: Direction
    amount: int
    currency: str
    normal_balance: str
    status: LineStatus
    metadata: str
    posted_debits: int
    posted_credits: int
    pending_debits: int
    pending_credits: int
    account_lock_version: int
    effective_at: int
    created_at: int


class _Envelope(msgspec.Struct):
    """What an event says of its resource, not yet decoded."""

    data: msgspec.Raw
    previous: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class _Told(msgspec.Struct):
    """What an entry's event says that its lines are held against."""

    status: str
    effective_at: str
    lines: msgspec.Raw


class _Stored(NamedTuple):
    """An entry as it is stored: its row, all versions of its lines in order, and what it was accepted with."""

    row: EntryRow
    lines: Sequence[_Line]
    acceptance: ResourceRow | None

    def version(self, number: int) -> Sequence[_Line]:
        """Return a version of its lines."""
        if self.lines and self.lines[0].version == self.lines[-1].version == number:
            return self.lines
        return [line for line in self.lines if line.version == number]


class _At(NamedTuple):
    """When an entry took effect before an event and after it, and when its lines were made: None where it brought none.

    What they take back took effect when the entry did before.
    """

    before: str
    effective_at: str
    created_at: int | None


class _Page(NamedTuple):
    """All that is stored under a stretch of ids."""

    entries: Mapping[str, _Row]
    events: Mapping[str, Sequence[_Event]]
    lines: Mapping[str, Sequence[_Line]]
    acceptances: Mapping[str, _Row]


UNMOVED: Final = frozenset({"accepted", "rejected"})
_envelope: Final = msgspec.json.Decoder(_Envelope).decode
_told: Final = msgspec.json.Decoder(_Told).decode
_entry: Final = msgspec.json.Decoder(Entry).decode
_lines: Final = msgspec.json.Decoder(list[Line]).decode
_previous: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def verify_entries(conn: Connection, site_id: int, progress: Progress) -> Finding | None:
    """Return the first entry, in the order of ids, that is not what its events say, or whose lines are not."""
    for page in _pages(conn, site_id):
        for entry_id in sorted(page.entries.keys() | page.events.keys() | page.lines.keys()):
            found = readable(partial(_judge, page, entry_id))
            if found is not RIGHT:
                return found or _wrong_entry(entry_id, "what is stored of it cannot be read")
        progress(sum(map(len, page.lines.values())))
    return None


def _wrong_entry(entry_id: str, detail: str) -> Finding:
    return Finding(table="entries", row=entry_id, detail=detail)


def _wrong_lines(entry_id: str, version: int, detail: str) -> Finding:
    return Finding(table="lines", row=f"entry {entry_id} version {version}", detail=detail)


def _judge(page: _Page, entry_id: str) -> Finding:
    row, told = page.entries.get(entry_id), page.events.get(entry_id)
    if row is None:
        if told is None:
            return Finding(table="lines", row=f"entry {entry_id}", detail="there is no such entry")
        return _wrong_entry(entry_id, "the feed tells of it, and it is not there")
    if told is None:
        return _wrong_entry(entry_id, "no event tells of it")
    acceptance = page.acceptances.get(entry_id)
    return _follow(_Stored(as_type("EntryRow", row), page.lines.get(entry_id, ()), acceptance), told)


def _follow(stored: _Stored, told: Sequence[_Event]) -> Finding:
    """Compare what each event says with the version of the lines that it came with, and what the last one says with all."""
    version, before, same = 0, "", False
    for number, event in enumerate(told, start=1):
        seen = _envelope(event.body)
        said = _told(seen.data)
        fresh = _is_fresh(event, said, seen)
        version += fresh
        present = stored.version(version)
        same = number == len(told) and _is_last(stored, present, seen)
        at = _At(before, said.effective_at, event.created_at if fresh else None)
        detail = _wrong_among(present, at)
        if detail is None and version > 1 and not _taken_back(present, stored.lines):
            detail = "what they take back was not there"
        if detail is None and not same and said.status not in UNMOVED and not _are(present, said.lines):
            detail = "they are not what the event says"
        if detail is not None:
            return _wrong_lines(stored.row["id"], version, detail)
        if not same and said.status == "accepted" and _accepted(stored) != _lines(said.lines):
            return _wrong_entry(stored.row["id"], "what it was accepted with is not what the event says")
        before = said.effective_at
    return _wrong_at_last(stored, version, same=same)


def _is_last(stored: _Stored, present: Sequence[_Line], seen: _Envelope) -> bool:
    """Tell whether an event says what is stored of the entry, with this version of its lines."""
    unmoved = stored.row["status"] in UNMOVED
    shown = entry_of(stored.row, (), stored.acceptance if unmoved else None)
    if not unmoved:
        shown.lines.extend(_shown(present))
    # The bytes of a row are the event's; metadata of several pairs may be in another order.
    return encode(shown) == bytes(seen.data) or shown == _entry(seen.data)


def _are(present: Sequence[_Line], told: msgspec.Raw) -> bool:
    """Tell whether lines are those that an event tells of."""
    shown = _shown(present)
    return encode(shown) == bytes(told) or shown == _lines(told)


def _is_fresh(event: _Event, said: _Told, seen: _Envelope) -> bool:
    """Tell whether an event came with a version of the entry's lines."""
    previous = {}
    if event.type == "entry.updated" and not isinstance(seen.previous, msgspec.UnsetType):
        previous = _previous(seen.previous)
    return moves_lines(event.type, said.status, previous)


def _shown(present: Sequence[_Line]) -> list[Line]:
    """Return a version of an entry's lines as its event shows them."""
    return [
        Line(
            line.id,
            line.account_id,
            line.direction,
            line.amount,
            line.currency,
            line.status,
            {} if line.metadata == "{}" else _document(line.metadata),
            line.account_lock_version,
            # The totals stand side by side.
            balances_of(Totals(*line[11:16]), line.normal_balance),
        )
        for line in present
        if line.status != "discarded"
    ]


def _wrong_at_last(stored: _Stored, version: int, *, same: bool) -> Finding:
    """Tell what is wrong with an entry after its last event, when it had this version of its lines."""
    row, versions = stored.row, stored.lines
    if versions and (versions[-1].version != version or versions[0].version < 1):
        return _wrong_lines(row["id"], versions[-1].version, "no event tells of them")
    if not same or row["lines_version"] != version:
        return _wrong_entry(row["id"], "it is not what its last event says")
    return RIGHT


def _accepted(stored: _Stored) -> list[Line]:
    """Return an entry's lines as they were when it was accepted."""
    then = stored.row.copy()
    then["status"] = "accepted"
    return entry_of(then, [], stored.acceptance).lines


def _wrong_among(present: Sequence[_Line], at: _At) -> str | None:
    sums: dict[str, int] = {}
    for position, line in enumerate(present):
        discarded = line.status == "discarded"
        if line.position != position:
            return "their places are not in order"
        if at.created_at is not None:
            if format_instant(line.effective_at) != (at.before if discarded else at.effective_at):
                return "their times are not the entry's"
            if line.created_at != at.created_at:
                return "their time is not that of their event"
        if not discarded:
            signed = line.amount if line.direction == "debit" else -line.amount
            sums[line.currency] = sums.get(line.currency, 0) + signed
    return "their debits and credits differ" if any(sums.values()) else None


def _taken_back(present: Sequence[_Line], stored: Sequence[_Line]) -> bool:
    """Tell whether every line that takes one back is of the version before, and is that line."""

    def what(line: _Line) -> tuple[Any, ...]:
        return line.id, line.account_id, line.direction, line.amount, line.metadata

    back = [line for line in present if line.status == "discarded"]
    before = [what(line) for line in stored if back and line.version == back[0].version - 1]
    return all(what(line) in before for line in back)


def _plain(table: Table, *without: str) -> Select[Any]:
    """Return the query of a table's columns, ids and documents as the texts that they are: one that is no JSON is a finding."""
    return select(*(_text(column) for column in table.c if column.name not in without))


def _text(column: ColumnElement[Any]) -> ColumnElement[Any]:
    return cast(column, Text).label(column.name) if column.type is Id or column.type is Json else column


_ENTRIES: Final = _plain(entries, "site_id")
_LINES: Final = select(*(_text(column) for column in lines.c[_Line._fields]))
_ACCEPTANCES: Final = _plain(acceptances, "site_id")
_EVENTS: Final = select(*(_text(column) for column in events.c[_Event._fields]))
# By a part of the type, which no index is of: all events of a stretch of ids are next to each other in the index by resource.
_OF_ENTRY: Final = func.substr(events.c.type, 1, 6) == "entry."


def _pages(conn: Connection, site_id: int) -> Iterator[_Page]:
    """Return what is stored of entries: all ids are in one of the stretches, from the smallest to the largest."""
    after: str | None = None
    size = PAGE
    while True:
        query = _within(_ENTRIES, entries, entries.c.id, site_id, after, None)
        found = {row["id"]: row for row in _rows(conn, query.order_by(entries.c.id).limit(size), entries)}
        until = next(reversed(found)) if len(found) == size else None
        page = _stretch(conn, site_id, found, after, until)
        yield page
        if until is None:
            return
        rows = sum(map(len, page.lines.values())) + sum(map(len, page.events.values()))
        size, after = max(1, min(PAGE, size * ROWS // max(rows, 1))), until


def _stretch(conn: Connection, site_id: int, found: Mapping[str, _Row], after: str | None, until: str | None) -> _Page:
    told: dict[str, list[_Event]] = defaultdict(list)
    query = _within(_EVENTS, events, events.c.resource_id, site_id, after, until).where(_OF_ENTRY)
    for event in map(_Event._make, conn.execute(query.order_by(events.c.resource_id, events.c.sequence))):
        told[event.resource_id].append(event)
    its_lines: dict[str, list[_Line]] = defaultdict(list)
    query = _within(_LINES, lines, lines.c.entry_id, site_id, after, until)
    for line in map(_Line._make, conn.execute(query.order_by(lines.c.entry_id, lines.c.version, lines.c.position))):
        its_lines[line.entry_id].append(line)
    query = _within(_ACCEPTANCES, acceptances, acceptances.c.id, site_id, after, until)
    accepted = {row["id"]: row for row in _rows(conn, query, acceptances)}
    return _Page(found, told, its_lines, accepted)


def _within(
    query: Select[Any], table: Table, column: ColumnElement[Any], site_id: int, after: str | None, until: str | None
) -> Select[Any]:
    query = query.where(table.c.site_id == site_id)
    if after is not None:
        query = query.where(column > after)
    return query if until is None else query.where(column <= until)


def _rows(conn: Connection, query: Select[Any], table: Table) -> Iterator[_Row]:
    documents = [column.name for column in table.c if column.type is Json]
    result = conn.execute(query)
    names = tuple(result.keys())
    for values in result:
        row = dict(zip(names, values, strict=True))
        for name in documents:
            row[name] = _document(row[name])
        yield row


def _document(text: Any) -> Any:
    if text == "{}":
        return {}
    with contextlib.suppress(msgspec.DecodeError, TypeError):
        return msgspec.json.decode(text)
    return text
