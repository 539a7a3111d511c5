"""The audit of entries and their lines: each beside its own events, whose last says to the byte what its rows must be.

Entries are read in the order of their ids, a stretch of ids at a time: what has such an id anywhere is read with it, so that
nothing has to be remembered from one stretch to the next, and what belongs to no entry is met on the way.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import groupby
from operator import itemgetter
from typing import Any, Final, NamedTuple
from typing import cast as as_type

import msgspec
from sqlalchemy import ColumnElement, Connection, Select, Table, Text, cast, func, select

from engine.balances import Totals, balances_of
from engine.columns import Id, Json
from engine.events import moves_lines
from engine.finding import RIGHT, Finding, readable
from engine.money import format_instant
from engine.pieces import Ids, within
from engine.rows import EntryRow, ResourceRow
from engine.schema import acceptances, entries, events, lines
from engine.shapes import Entry, Line, encode, entry_of

PAGE: Final = 2_500
ROWS: Final = 10_000
"""How many events and lines one page is to have about: entries with many come fewer at a time."""

Progress = Callable[[int], None]
_Row = dict[str, Any]


_Event = Any
"""A row of `_EVENTS`: millions are read, and a row of the database's own is the quickest."""
_Line = Any
"""A row of `_LINES`: a version of a line as it is stored, its metadata a text."""


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
        if self.lines and self.lines[0][_VERSION] == self.lines[-1][_VERSION] == number:
            return self.lines
        return [line for line in self.lines if line[_VERSION] == number]


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


def verify_entries(conn: Connection, site_id: int, ids: Ids, progress: Progress) -> Finding | None:
    """Return the first entry among these, in the order of ids, that is not what its events say, or whose lines are not."""
    for page in _pages(conn, site_id, ids):
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
        _, created_at, kind, body = event
        last = number == len(told)
        seen = _envelope(body)
        # What an entry's last event says is read only where it is not what is stored.
        said = None if last and kind == "entry.posted" else _told(seen.data)
        fresh = said is None or _is_fresh(kind, said, seen)
        version += fresh
        present, since = stored.version(version), created_at if fresh else None
        effective_at = format_instant(stored.row["effective_at"]) if said is None else said.effective_at
        shown, detail = _read(present, before, effective_at, since)
        same = last and _is_last(stored, shown, seen)
        if said is None and not same:
            said = _told(seen.data)
            shown, detail = _read(present, before, said.effective_at, since)
        if detail is None and version > 1 and not _taken_back(present, stored.lines):
            detail = "what they take back was not there"
        if said is not None and not same:
            if detail is None and said.status not in UNMOVED and not _are(shown, said.lines):
                detail = "they are not what the event says"
            if detail is None and said.status == "accepted" and _accepted(stored) != _lines(said.lines):
                return _wrong_entry(stored.row["id"], "what it was accepted with is not what the event says")
        if detail is not None:
            return _wrong_lines(stored.row["id"], version, detail)
        before = effective_at
    return _wrong_at_last(stored, version, same=same)


def _is_last(stored: _Stored, present: Sequence[Line], seen: _Envelope) -> bool:
    """Tell whether an event says what is stored of the entry, with these lines."""
    unmoved = stored.row["status"] in UNMOVED
    shown = entry_of(stored.row, (), stored.acceptance if unmoved else None)
    if not unmoved:
        shown.lines.extend(present)
    # The bytes of a row are the event's; metadata of several pairs may be in another order.
    return encode(shown) == bytes(seen.data) or shown == _entry(seen.data)


def _are(shown: Sequence[Line], told: msgspec.Raw) -> bool:
    """Tell whether lines are those that an event tells of."""
    return encode(shown) == bytes(told) or shown == _lines(told)


def _is_fresh(kind: str, said: _Told, seen: _Envelope) -> bool:
    """Tell whether an event came with a version of the entry's lines."""
    previous = {}
    if kind == "entry.updated" and not isinstance(seen.previous, msgspec.UnsetType):
        previous = _previous(seen.previous)
    return moves_lines(kind, said.status, previous)


def _read(
    present: Sequence[_Line], before: str, effective_at: str, created_at: int | None
) -> tuple[list[Line], str | None]:
    """Return a version of an entry's lines as its event shows them, and what is wrong among them.

    `created_at` is None where the event brought no new one. What they take back took effect when the entry did before.
    """
    shown: list[Line] = []
    sums: dict[str, int] = {}
    wrong: str | None = None
    for position, line in enumerate(present):
        (_, _, place, id_, account_id, direction, amount, currency, normal_balance, status, metadata,
         posted_debits, posted_credits, pending_debits, pending_credits, version, at, made_at) = line  # fmt: skip
        discarded = status == "discarded"
        if place != position:
            wrong = wrong or "their places are not in order"
        if created_at is not None:
            if format_instant(at) != (before if discarded else effective_at):
                wrong = wrong or "their times are not the entry's"
            if made_at != created_at:
                wrong = wrong or "their time is not that of their event"
        if not discarded:
            sums[currency] = sums.get(currency, 0) + (amount if direction == "debit" else -amount)
            totals = Totals(posted_debits, posted_credits, pending_debits, pending_credits, version)
            balances = balances_of(totals, normal_balance)
            pairs = {} if metadata == "{}" else _document(metadata)
            shown.append(Line(id_, account_id, direction, amount, currency, status, pairs, version, balances))
    if wrong is None and any(sums.values()):
        wrong = "their debits and credits differ"
    return shown, wrong


def _wrong_at_last(stored: _Stored, version: int, *, same: bool) -> Finding:
    """Tell what is wrong with an entry after its last event, when it had this version of its lines."""
    row, versions = stored.row, stored.lines
    if versions and (versions[-1][_VERSION] != version or versions[0][_VERSION] < 1):
        return _wrong_lines(row["id"], versions[-1][_VERSION], "no event tells of them")
    if not same or row["lines_version"] != version:
        return _wrong_entry(row["id"], "it is not what its last event says")
    return RIGHT


def _accepted(stored: _Stored) -> list[Line]:
    """Return an entry's lines as they were when it was accepted."""
    then = stored.row.copy()
    then["status"] = "accepted"
    return entry_of(then, [], stored.acceptance).lines


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
_LINES: Final = select(*(_text(column) for column in lines.c[
    "entry_id", "version", "position", "id", "account_id", "direction", "amount", "currency", "normal_balance", "status", "metadata",
    "posted_debits", "posted_credits", "pending_debits", "pending_credits", "account_lock_version", "effective_at", "created_at"
]))  # fmt: skip
_VERSION: Final = 1
_ACCEPTANCES: Final = _plain(acceptances, "site_id")
_EVENTS: Final = select(*(_text(column) for column in events.c["resource_id", "created_at", "type", "body"]))
# By a part of the type, which no index is of: all events of a stretch of ids are next to each other in the index by resource.
_OF_ENTRY: Final = func.substr(events.c.type, 1, 6) == "entry."


def _pages(conn: Connection, site_id: int, ids: Ids) -> Iterator[_Page]:
    """Return what is stored of entries: each of the ids is on one of the pages, from the smallest to the largest."""
    after, size = ids.after, PAGE
    while True:
        query = within(_ENTRIES, entries, entries.c.id, site_id, after, ids.until)
        found = {row["id"]: row for row in _rows(conn, query.order_by(entries.c.id).limit(size), entries)}
        until = next(reversed(found)) if len(found) == size else ids.until
        page = _page(conn, site_id, found, after, until)
        yield page
        if until == ids.until:
            return
        rows = sum(map(len, page.lines.values())) + sum(map(len, page.events.values()))
        size, after = max(1, min(PAGE, size * ROWS // max(rows, 1))), until


def _page(conn: Connection, site_id: int, found: Mapping[str, _Row], after: str | None, until: str | None) -> _Page:
    query = within(_EVENTS, events, events.c.resource_id, site_id, after, until).where(_OF_ENTRY)
    told = conn.execute(query.order_by(events.c.resource_id, events.c.sequence)).all()
    query = within(_LINES, lines, lines.c.entry_id, site_id, after, until)
    of_them = conn.execute(query.order_by(lines.c.entry_id, lines.c.version, lines.c.position)).all()
    query = within(_ACCEPTANCES, acceptances, acceptances.c.id, site_id, after, until)
    accepted = {row["id"]: row for row in _rows(conn, query, acceptances)}
    return _Page(found, _by_entry(told), _by_entry(of_them), accepted)


def _by_entry(rows: Sequence[Any]) -> dict[str, list[Any]]:
    """Return rows that are in the order of their entries, which they begin with, by entry."""
    return {entry_id: list(group) for entry_id, group in groupby(rows, itemgetter(0))}


def _rows(conn: Connection, query: Select[Any], table: Table) -> Iterator[_Row]:
    documents = [column.name for column in table.c if column.type is Json]
    result = conn.execute(query)
    names = tuple(result.keys())
    for values in result.all():
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
