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
from engine.rows import AccountRow, LedgerRow
from engine.schema import acceptances, accounts, balances, entries, events, holds, ledgers
from engine.shapes import Account, Ledger, account_of, ledger_of
from engine.shown import SHOWN
from engine.span_audit import verify_spans
from engine.sql import among
from engine.store import RESOURCES

T = TypeVar("T")

PAGE: Final = 1_000
Progress = Callable[[int], None]
Part = Callable[[Connection, int, Progress], Finding | None]
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
    for part in PARTS:
        found = part(conn, site_id, progress)
        if found is not None:
            return found
    return None


def verify_beside(conn: Connection, site_id: int, _: Progress) -> Finding | None:
    """Return the first thing that is wrong with ledgers, resources and what is searched by."""
    return (
        _verify_ledgers(conn, site_id)
        or _verify_resources(conn, site_id)
        or _verify_due(conn, site_id)
        or _verify_accepted(conn, site_id)
        or _verify_absent(conn, site_id)
        or verify_categories(conn, site_id, lambda _rows: None)
        or verify_business_events(conn, site_id, lambda _rows: None)
        or verify_metadata(conn, site_id)
    )


def verify_accounts(conn: Connection, site_id: int, progress: Progress) -> Finding | None:
    """Return the first thing that is wrong with accounts, with lines along them, or with the spans made of those."""
    known: dict[str, Known] = {}
    return (
        _verify_accounts(conn, site_id, known)
        or verify_lines(conn, site_id, progress, known)
        or verify_spans(conn, site_id)
    )


PARTS: Final[Sequence[Part]] = (verify_feed, verify_entries, verify_beside, verify_accounts)
"""Each holds by itself, over a snapshot of its own: whoever has several connections runs them at once."""


def rows_to_look_at(conn: Connection, site_id: int) -> int:
    """Return how many rows `verify` will tell of: events, and lines, which it looks at twice, as the balances tell their number."""
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
    known: dict[str, Known],
) -> Finding | None:
    """Compare accounts with their last events, and gather what their lines have to fit."""
    for page in _pages(conn, accounts, site_id):
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
    head = read_head(conn, site_id)
    counted = select(func.count(), func.coalesce(func.max(acceptances.c.position), 0))
    if conn.execute(counted.where(acceptances.c.site_id == site_id)).one() != (head.accepted, head.accepted):
        return Finding(
            table="acceptances", row=f"site {site_id}", detail=f"they are not those from 1 to {head.accepted}"
        )
    beside = and_(entries.c.site_id == acceptances.c.site_id, entries.c.id == acceptances.c.id)
    query = select(acceptances.c.id).join(entries, beside).where(acceptances.c.site_id == site_id).limit(1)
    passed = query.where(acceptances.c.position <= head.accepted_done, entries.c.status == "accepted")
    if conn.execute(passed).first() is not None or head.accepted_done > head.accepted:
        return Finding(table="feeds", row=f"site {site_id}", detail="accepted entries were passed over")
    entry_id = conn.execute(query.where(acceptances.c.rejection.is_not(None), entries.c.status != "rejected")).scalar()
    if entry_id is not None:
        return Finding(table="acceptances", row=entry_id, detail="it tells why the entry was rejected, and it was not")
    return None


def _verify_absent(conn: Connection, site_id: int) -> Finding | None:
    """Look for events of what is not there."""
    beside = ((RESOURCES[kind], shown.types) for kind, shown in SHOWN.items())
    for table, types in ((ledgers, _LEDGER_TYPES), (accounts, _ACCOUNT_TYPES), *beside):
        query = (
            select(events.c.resource_id)
            .outerjoin(table, and_(table.c.site_id == events.c.site_id, table.c.id == events.c.resource_id))
            .where(events.c.site_id == site_id, among(events.c.type, types), table.c.id.is_(None))
        )
        missing = conn.execute(query.limit(1)).scalar()
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


def _pages(conn: Connection, table: Table, site_id: int) -> Iterator[list[Any]]:
    """Return a table's rows in the order of their ids."""
    query = select(table).where(table.c.site_id == site_id).order_by(table.c.id).limit(PAGE)
    page = list(conn.execute(query).mappings())
    while page:
        yield page
        page = list(conn.execute(query.where(table.c.id > page[-1]["id"])).mappings())
