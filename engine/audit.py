"""Replaying the books: the hash chain, every row against the events, every line's totals, every balance.

The first bad row is named. It only reads, in pages, and trusts nothing that it can work out again: the chained events say
what every ledger, account, entry and line must be.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Final, Generic, NamedTuple, TypeVar, cast

import msgspec
from sqlalchemy import Connection, Table, and_, func, select

from engine.balances import EMPTY
from engine.category_audit import verify_categories
from engine.entry_audit import verify_entries
from engine.event_audit import verify_business_events
from engine.feed import read_head
from engine.feed_audit import verify_feed
from engine.finding import Finding, readable
from engine.line_audit import Known, verify_lines
from engine.metadata_audit import verify_metadata
from engine.money import format_instant
from engine.pieces import Ids, Piece, Rest, Sequences, absent, cut, within
from engine.rows import AccountRow, LedgerRow
from engine.schema import acceptances, accounts, balances, entries, events, holds, ledgers
from engine.shapes import Account, Ledger, account_of, ledger_of
from engine.shown import SHOWN
from engine.span_audit import verify_spans
from engine.sql import among
from engine.store import RESOURCES

T = TypeVar("T")

PAGE: Final = 1_000
ACCEPTED: Final = 10_000
"""How many acceptances one statement looks at."""
Progress = Callable[[int], None]
_ACCOUNT_TYPES: Final = ("account.created", "account.updated")
_LEDGER_TYPES: Final = ("ledger.created", "ledger.updated")


class _Told(NamedTuple, Generic[T]):
    """What one event says of its resource."""

    type: str
    created_at: int
    data: T
    previous: dict[str, Any]


class _Data(msgspec.Struct):
    """The resource in an envelope, not yet decoded."""

    data: msgspec.Raw
    previous: dict[str, Any] = {}


def verify(conn: Connection, site_id: int, progress: Progress) -> Finding | None:
    """Return the first thing that is wrong with a site's books, or None; `progress` is told of rows looked at."""
    _, pieces = plan(conn, site_id)
    found = (verify_piece(conn, site_id, each, progress) for each in pieces)
    return next(filter(None, found), None)


def plan(conn: Connection, site_id: int) -> tuple[int, list[Piece]]:
    """Return how many rows will be told of, and the pieces to look at: of all that find something the first one counts."""
    return rows_to_look_at(conn, site_id), cut(conn, site_id, read_head(conn, site_id).sequence)


def verify_piece(conn: Connection, site_id: int, piece: Piece, progress: Progress) -> Finding | None:
    """Return the first thing that is wrong with a piece of a site's books, or None; it holds over a snapshot of its own."""
    match piece:
        case Sequences():
            return verify_feed(conn, site_id, piece, progress)
        case Ids(of="entries"):
            return verify_entries(conn, site_id, piece, progress)
        case Ids():
            return _verify_chart(conn, site_id, piece, progress)
        case Rest(what="beside"):
            return _verify_beside(conn, site_id)
        case Rest():
            return verify_metadata(conn, site_id)


def _verify_beside(conn: Connection, site_id: int) -> Finding | None:
    """Look at ledgers, at resources, and at what is due or missing."""
    return (
        _verify_ledgers(conn, site_id)
        or _verify_resources(conn, site_id)
        or _verify_due(conn, site_id)
        or _verify_accepted(conn, site_id)
        or _verify_absent(conn, site_id)
        or verify_categories(conn, site_id, lambda _rows: None)
        or verify_business_events(conn, site_id, lambda _rows: None)
    )


def _verify_chart(conn: Connection, site_id: int, ids: Ids, progress: Progress) -> Finding | None:
    """Look at accounts, at lines along them, and at the spans made of those."""
    known: dict[str, Known] = {}
    return (
        _verify_accounts(conn, site_id, ids, known)
        or verify_lines(conn, site_id, ids, progress, known)
        or verify_spans(conn, site_id, ids)
    )


def rows_to_look_at(conn: Connection, site_id: int) -> int:
    """Return how many rows `verify` tells of: events, and lines, which it looks at twice, as the balances tell their number."""
    changes = select(func.sum(balances.c.lock_version)).where(balances.c.site_id == site_id)
    of_accounts = select(func.count()).where(balances.c.site_id == site_id)
    told = int(conn.execute(changes).scalar() or 0) - conn.execute(of_accounts).scalar_one()
    return read_head(conn, site_id).sequence + 2 * told


def _verify_ledgers(conn: Connection, site_id: int) -> Finding | None:
    for page in _pages(conn, ledgers, site_id):
        told = _told(conn, site_id, page, _LEDGER_TYPES, Ledger)
        for row in page:
            if not told[row["id"]]:
                return Finding(table="ledgers", row=row["id"], detail="no event tells of it")
            if (
                row["status"] != "active"
                or readable(partial(ledger_of, cast("LedgerRow", row))) != told[row["id"]][-1].data
            ):
                return Finding(table="ledgers", row=row["id"], detail="it is not what its last event says")
    return None


def _verify_accounts(
    conn: Connection,
    site_id: int,
    ids: Ids,
    known: dict[str, Known],
) -> Finding | None:
    """Compare accounts with their last events, and gather what their lines have to fit."""
    for page in _pages(conn, accounts, site_id, ids.after, ids.until):
        told = _told(conn, site_id, page, _ACCOUNT_TYPES, Account)
        for row in page:
            if not told[row["id"]]:
                return Finding(table="accounts", row=row["id"], detail="no event tells of it")
            last = told[row["id"]][-1].data
            stored = readable(partial(account_of, cast("AccountRow", row), EMPTY))
            if stored is None or last != msgspec.structs.replace(
                stored, balances=last.balances, lock_version=last.lock_version
            ):
                return Finding(table="accounts", row=row["id"], detail="it is not what its last event says")
            known[row["id"]] = Known(len(told[row["id"]]), row["currency"], row["normal_balance"])
    return None


def _verify_resources(conn: Connection, site_id: int) -> Finding | None:
    """Compare what stands beside the books with the last event that tells of it."""
    for kind, shown in SHOWN.items():
        for page in _pages(conn, RESOURCES[kind], site_id):
            told = _told(conn, site_id, page, shown.types, shown.shape)
            for row in page:
                if not told[row["id"]]:
                    return Finding(table=RESOURCES[kind].name, row=row["id"], detail="no event tells of it")
                if readable(partial(shown.show, dict(row))) != told[row["id"]][-1].data:
                    return Finding(
                        table=RESOURCES[kind].name, row=row["id"], detail="it is not what its last event says"
                    )
    return None


def _verify_due(conn: Connection, site_id: int) -> Finding | None:
    """Look for a hold that would expire before anybody looks."""
    earliest = select(func.min(holds.c.expires_at)).where(holds.c.site_id == site_id, holds.c.status == "open")
    expires_at = conn.execute(earliest).scalar()
    due_at = read_head(conn, site_id).holds_due_at
    if expires_at is not None and (due_at is None or due_at > expires_at):
        return Finding(table="feeds", row=f"site {site_id}", detail=f"a hold expires at {format_instant(expires_at)}")
    return None


def _verify_accepted(conn: Connection, site_id: int) -> Finding | None:
    """Look for an accepted entry that nobody would ever post."""
    head, position = read_head(conn, site_id), acceptances.c.position
    counted = select(func.count()).where(acceptances.c.site_id == site_id)
    beyond = counted.where((position < 1) | (position > head.accepted))
    beside = and_(entries.c.site_id == acceptances.c.site_id, entries.c.id == acceptances.c.id)
    query = select(acceptances.c.id).join(entries, beside).where(acceptances.c.site_id == site_id).limit(1)
    passed = query.where(position <= head.accepted_done, entries.c.status == "accepted")
    told = query.where(acceptances.c.rejection.is_not(None), entries.c.status != "rejected")
    absent, over, wrong = conn.execute(beyond).scalar_one() > 0, head.accepted_done > head.accepted, None
    for after in range(0, head.accepted, ACCEPTED):
        until = min(after + ACCEPTED, head.accepted)
        here = (position > after, position <= until)
        absent = absent or conn.execute(counted.where(*here)).scalar_one() != until - after
        over = over or conn.execute(passed.where(*here)).first() is not None
        wrong = wrong or conn.execute(told.where(*here)).scalar()
    if absent:
        detail = f"they are not those from 1 to {head.accepted}"
        return Finding(table="acceptances", row=f"site {site_id}", detail=detail)
    if over:
        return Finding(table="feeds", row=f"site {site_id}", detail="accepted entries were passed over")
    if wrong is not None:
        return Finding(table="acceptances", row=wrong, detail="it tells why the entry was rejected, and it was not")
    return None


def _verify_absent(conn: Connection, site_id: int) -> Finding | None:
    """Look for events of what is not there."""
    beside = ((RESOURCES[kind], shown.types) for kind, shown in SHOWN.items())
    for table, types in ((ledgers, _LEDGER_TYPES), (accounts, _ACCOUNT_TYPES), *beside):
        missing = absent(conn, site_id, table, types)
        if missing is not None:
            return Finding(table=table.name, row=missing, detail="the feed tells of it, and it is not there")
    return None


def _told(
    conn: Connection,
    site_id: int,
    page: Sequence[Any],
    types: tuple[str, ...],
    resource: type[T],
) -> dict[str, list[_Told[T]]]:
    """Return what the events of these types say of each row, in their order."""
    told: dict[str, list[_Told[T]]] = {row["id"]: [] for row in page}
    query = (
        select(events.c.resource_id, events.c.type, events.c.created_at, events.c.body)
        .where(events.c.site_id == site_id, among(events.c.resource_id, told), among(events.c.type, types))
        .order_by(events.c.sequence)
    )
    for row in conn.execute(query):
        seen = msgspec.json.decode(row.body, type=_Data)
        data = msgspec.json.decode(seen.data, type=resource)
        told[row.resource_id].append(_Told(row.type, row.created_at, data, seen.previous))
    return told


def _pages(
    conn: Connection, table: Table, site_id: int, after: str | None = None, until: str | None = None
) -> Iterator[list[Any]]:
    """Return a table's rows in the order of their ids, those with ids after one and up to another where they are given."""
    query = select(table).order_by(table.c.id).limit(PAGE)
    while page := list(conn.execute(within(query, table, table.c.id, site_id, after, until)).mappings()):
        yield page
        after = page[-1]["id"]
