"""The lines of all ledgers: what moved which accounts, across accounts, entities and ledgers.

Every version of a line is listed once and never changes, so that pages stay what they were; of status `posted` each line has one.
The order is that of entries, then of versions and positions; of one account it is that of its versions. A page looks at a bounded
number of lines: where few match it may hold few of them, or none, and still say that there is more.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Final, cast

from msgspec import Struct
from sqlalchemy import ColumnElement, Connection, Select, and_, select, true

from engine import listing, store
from engine.cursors import LinePlace, line_cursor, parse_line_cursor
from engine.listing import Order
from engine.queries import BOUNDS, Page
from engine.rows import LineRow
from engine.schema import accounts, entries, lines
from engine.shapes import LedgerLine, ledger_line_of

_KEY: Final = ("entry_id", "version", "position")


class LineSelection(Struct, frozen=True, kw_only=True):
    """Which lines are wanted: of which accounts, and which of theirs.

    `equals` are columns of a line, `bounds` map its amount, effective_at and created_at to operators and their values.
    """

    limit: int = 50
    cursor: str | None = None
    ascending: bool = False
    account_id: str | None = None
    entity_id: str | None = None
    ledger_id: str | None = None
    account_metadata: Mapping[str, str] = {}
    equals: Mapping[str, str] = {}
    bounds: Mapping[str, Mapping[str, int]] = {}

    def matching(self, columns: Any) -> list[ColumnElement[bool]]:
        """Return the conditions on lines that are looked at."""
        found = [columns[name] == value for name, value in self.equals.items()]
        for name, bounds in self.bounds.items():
            found += [BOUNDS[operator](columns[name], value) for operator, value in bounds.items()]
        return found

    @property
    def order(self) -> Order:
        """Return the order of lines."""
        return Order(
            key=_KEY if self.account_id is None else ("account_lock_version",),
            ascending=self.ascending,
        )


def list_lines(conn: Connection, site_id: int, wanted: LineSelection) -> Page[LedgerLine]:
    """Return a page of lines."""
    order = wanted.order
    place = None if wanted.cursor is None else parse_line_cursor(wanted.cursor, len(order.key))
    if wanted.account_id is not None and conn.execute(_owners(conn, site_id, wanted)).first() is None:
        return Page(items=[], next_cursor=None)
    matching = wanted.matching if wanted.equals or wanted.bounds else None
    following = partial(_next, conn, site_id, wanted)
    rows, place = listing.looked_through(conn, order, following, matching, place, wanted.limit)
    shown = [cast("LineRow", row) for row in rows]
    owners = {row["id"]: row for row, _ in store.accounts_by_id(conn, site_id, {row["account_id"] for row in shown})}
    items = [ledger_line_of(row, owners[row["account_id"]]) for row in shown]
    return Page(items=items, next_cursor=None if place is None else line_cursor(place))


def _next(conn: Connection, site_id: int, wanted: LineSelection, place: LinePlace | None, limit: int) -> Select[Any]:
    """Return the query of the next lines of the wanted accounts, each way by its index."""
    columns, order = lines.c, wanted.order
    here = (columns.site_id == site_id, *order.after(columns, place))
    postgresql = conn.dialect.name == "postgresql"
    if wanted.account_id is not None:
        query = select(lines).where(*here, columns.account_id == wanted.account_id)
    elif wanted.entity_id is not None or wanted.account_metadata:
        # Apart from their order, lest they be looked for in it.
        of_them = select(lines).where(*here, listing.within(columns.account_id, _owners(conn, site_id, wanted)))
        found = of_them.offset(0).subquery() if postgresql else of_them.subquery()
        return select(found).order_by(*order.by(found.c)).limit(limit)
    elif wanted.ledger_id is not None:
        entry = select(entries.c.id).where(entries.c.site_id == site_id, entries.c.ledger_id == wanted.ledger_id)
        if place is not None:
            entry = entry.where(entries.c.id >= place[0] if wanted.ascending else entries.c.id <= place[0])
        booked = entry.order_by(listing.ordered(entries.c.id, ascending=wanted.ascending)).subquery()
        if postgresql:
            of_each = select(lines).where(*here, columns.entry_id == booked.c.id).order_by(*order.by(columns))
            line = of_each.offset(0).lateral()
            query, of_line = select(line).select_from(booked.join(line, true())), line.c
        else:
            joined = booked.join(lines, and_(columns.site_id == site_id, columns.entry_id == booked.c.id))
            query, of_line = select(lines).select_from(joined).where(*here), columns
        first = listing.ordered(booked.c.id, ascending=wanted.ascending)
        return query.order_by(first, *order.by(of_line)[1:]).limit(limit)
    else:
        query = select(lines).where(*here)
    return query.order_by(*order.by(columns)).limit(limit)


def _owners(conn: Connection, site_id: int, wanted: LineSelection) -> Select[Any]:
    """Return the ids of the accounts whose lines are wanted."""
    query = select(accounts.c.id).where(accounts.c.site_id == site_id)
    if wanted.account_id is not None:
        query = query.where(accounts.c.id == wanted.account_id)
    if wanted.entity_id is not None:
        query = query.where(accounts.c.entity_id == wanted.entity_id)
    if wanted.ledger_id is not None:
        query = query.where(accounts.c.ledger_id == wanted.ledger_id)
    if wanted.account_metadata:
        described = listing.described(conn, accounts, site_id, wanted.account_metadata)
        query = query.where(listing.within(accounts.c.id, described))
    return query
