"""What an entry, one event of it, or a business event did to balances; and what an entry was, version by version."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, select

from engine import feed
from engine.balances import Totals, balances_of
from engine.errors import NotFound
from engine.events import ENTRY_TYPES, moves_lines
from engine.money import format_instant
from engine.queries import Page, Selection, numbered
from engine.schema import business_events, entries, events, lines
from engine.shapes import AccountImpact, BalanceImpact, EntryVersion
from engine.sql import among


class _Line(msgspec.Struct):
    account_id: str
    account_lock_version: int | None


class _Data(msgspec.Struct):
    id: str
    status: str = ""
    lines: list[_Line] = []


class _Told(msgspec.Struct):
    data: _Data
    previous: dict[str, Any] = {}


class _Raw(msgspec.Struct):
    data: msgspec.Raw


def entry_impact(conn: Connection, site_id: int, entry_id: str) -> BalanceImpact:
    """Return what an entry has done to its accounts' balances until now; raises NotFound."""
    _check_entry(conn, site_id, entry_id)
    accounts = _impact(_moved(conn, site_id, [entry_id]))
    return BalanceImpact(entry_id=entry_id, event_id=None, business_event_id=None, accounts=accounts)


def business_event_impact(conn: Connection, site_id: int, event_id: str) -> BalanceImpact:
    """Return what the entries of a business event have done to balances until now; raises NotFound."""
    made = conn.execute(
        select(business_events.c.entries).where(business_events.c.site_id == site_id, business_events.c.id == event_id)
    ).first()
    if made is None:
        raise NotFound("business event", event_id)
    accounts = _impact(_moved(conn, site_id, made.entries))
    return BalanceImpact(entry_id=None, event_id=None, business_event_id=event_id, accounts=accounts)


def event_impact(conn: Connection, site_id: int, event_id: str) -> BalanceImpact:
    """Return what one event did to balances: nothing, unless it moved an entry's lines; raises NotFound."""
    event = feed.read_event(conn, site_id, event_id)
    if event is None:
        raise NotFound("event", event_id)
    if event.type not in ENTRY_TYPES:
        return BalanceImpact(entry_id=None, event_id=event_id, business_event_id=None, accounts=[])
    told = msgspec.json.decode(event.body, type=_Told)
    rows: Iterable[Row[Any]] = []
    if told.data.lines and moves_lines(event.type, told.data.status, told.previous):
        first = told.data.lines[0]
        version = conn.execute(
            select(lines.c.version).where(
                lines.c.site_id == site_id,
                lines.c.account_id == first.account_id,
                lines.c.account_lock_version == first.account_lock_version,
            )
        ).scalar()
        rows = [row for row in _moved(conn, site_id, [told.data.id]) if row.version == version]
    return BalanceImpact(entry_id=told.data.id, event_id=event_id, business_event_id=None, accounts=_impact(rows))


def entry_versions(conn: Connection, site_id: int, entry_id: str, wanted: Selection) -> Page[EntryVersion]:
    """Return what an entry was after each of its events, the newest first; raises NotFound."""
    _check_entry(conn, site_id, entry_id)
    query = select(events.c.sequence, events.c.id, events.c.type, events.c.created_at, events.c.body).where(
        events.c.site_id == site_id, events.c.resource_id == entry_id, among(events.c.type, ENTRY_TYPES)
    )
    rows, next_cursor = numbered(conn, query, events.c.sequence, wanted)
    found = [
        EntryVersion(
            event_id=row["id"],
            event_type=row["type"],
            sequence=row["sequence"],
            recorded_at=format_instant(row["created_at"]),
            entry=msgspec.json.decode(row["body"], type=_Raw).data,
        )
        for row in rows
    ]
    return Page(items=found, next_cursor=next_cursor)


def _check_entry(conn: Connection, site_id: int, entry_id: str) -> None:
    query = select(entries.c.id).where(entries.c.site_id == site_id, entries.c.id == entry_id)
    if conn.execute(query).first() is None:
        raise NotFound("entry", entry_id)


def _moved(conn: Connection, site_id: int, entry_ids: Sequence[str]) -> Sequence[Row[Any]]:
    query = (
        select(lines)
        .where(lines.c.site_id == site_id, among(lines.c.entry_id, entry_ids))
        .order_by(lines.c.entry_id, lines.c.version, lines.c.position)
    )
    return conn.execute(query).all()


def _impact(rows: Iterable[Row[Any]]) -> list[AccountImpact]:
    moved: dict[str, Totals] = {}
    last: dict[str, Row[Any]] = {}
    for row in rows:
        before = moved.get(row.account_id, Totals(0, 0, 0, 0, 0))
        moved[row.account_id] = before.add(row.direction, row.posted_moved, row.pending_moved)
        if row.account_id not in last or row.account_lock_version > last[row.account_id].account_lock_version:
            last[row.account_id] = row
    return [
        AccountImpact(
            account_id=account_id,
            currency=row.currency,
            account_lock_version=row.account_lock_version,
            moved=balances_of(moved[account_id], row.normal_balance),
            resulting_balances=balances_of(
                Totals(row.posted_debits, row.posted_credits, row.pending_debits, row.pending_credits, 0),
                row.normal_balance,
            ),
        )
        for account_id, row in last.items()
    ]
