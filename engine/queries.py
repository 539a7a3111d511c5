"""What the books can be asked: each a function over one snapshot, returning resources as the API shows them.

Lists are newest first by id, in keyset pages that stay stable while others write.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar, cast

from sqlalchemy import ColumnElement, Connection, Select, Table, select

from engine import store
from engine.balances import Totals
from engine.category_store import accounts_below
from engine.cursors import page_cursor, parse_page_cursor, parse_position_cursor
from engine.errors import NotFound
from engine.rows import AccountRow, EntryRow, LedgerRow, LineRow
from engine.schema import accounts, entries, ledgers, lines
from engine.shapes import (
    Account,
    AccountLine,
    Entry,
    Ledger,
    account_line_of,
    account_of,
    entry_of,
    ledger_of,
)

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Page(Generic[T]):
    """Some of a list, and the cursor of the next page where there is one."""

    items: list[T]
    next_cursor: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """What of a list is wanted: exact values by column, metadata pairs, bounds on instants, a page.

    `bounds` maps a column to operators among gt, gte, lt, lte and their instants in microseconds.
    """

    limit: int = 50
    cursor: str | None = None
    equals: Mapping[str, str] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)
    bounds: Mapping[str, Mapping[str, int]] = field(default_factory=dict)


def ledger(conn: Connection, site_id: int, ledger_id: str) -> Ledger:
    """Return a ledger; raises NotFound."""
    query = select(ledgers).where(ledgers.c.site_id == site_id, ledgers.c.id == ledger_id)
    row = conn.execute(query).mappings().first()
    if row is None:
        raise NotFound("ledger", ledger_id)
    return ledger_of(cast("LedgerRow", row))


def list_ledgers(conn: Connection, site_id: int, wanted: Selection) -> Page[Ledger]:
    """Return a page of ledgers."""
    query = selected(conn, select(ledgers), ledgers, site_id, wanted)
    found = [ledger_of(cast("LedgerRow", row)) for row in conn.execute(query).mappings()]
    return page_of(found, wanted)


def account(conn: Connection, site_id: int, account_id: str) -> Account:
    """Return an account with its balances; raises NotFound."""
    return account_of(*account_row(conn, site_id, account_id))


def list_accounts(conn: Connection, site_id: int, wanted: Selection, category_id: str | None = None) -> Page[Account]:
    """Return a page of accounts, only those that count in a category where one is given."""
    query = selected(conn, select(accounts.c.id), accounts, site_id, wanted)
    if category_id is not None:
        query = query.where(accounts.c.id.in_(accounts_below(site_id, [category_id])))
    ids = list(conn.execute(query).scalars())
    found = {row["id"]: account_of(row, totals) for row, totals in store.accounts_by_id(conn, site_id, ids)}
    return page_of([found[account_id] for account_id in ids], wanted)


def accounts_named(conn: Connection, site_id: int, account_ids: Sequence[str]) -> list[Account]:
    """Return the accounts with these ids that there are."""
    return [account_of(row, totals) for row, totals in store.accounts_by_id(conn, site_id, account_ids)]


def account_lines(conn: Connection, site_id: int, account_id: str, wanted: Selection) -> Page[AccountLine]:
    """Return a page of an account's lines, the newest version of the account first; raises NotFound."""
    account_row(conn, site_id, account_id)
    query = (
        select(lines)
        .where(lines.c.site_id == site_id, lines.c.account_id == account_id)
        .order_by(lines.c.account_lock_version.desc())
        .limit(wanted.limit + 1)
    )
    if wanted.cursor is not None:
        query = query.where(lines.c.account_lock_version < parse_position_cursor(wanted.cursor))
    rows = [cast("LineRow", row) for row in conn.execute(query).mappings()]
    more = len(rows) > wanted.limit
    rows = rows[: wanted.limit]
    next_cursor = page_cursor(str(rows[-1]["account_lock_version"])) if more else None
    return Page(items=[account_line_of(row) for row in rows], next_cursor=next_cursor)


def entry(conn: Connection, site_id: int, entry_id: str) -> Entry:
    """Return an entry with the present version of its lines; raises NotFound."""
    query = select(entries).where(entries.c.site_id == site_id, entries.c.id == entry_id)
    found = _entries(conn, site_id, query)
    if not found:
        raise NotFound("entry", entry_id)
    return found[0]


def list_entries(
    conn: Connection,
    site_id: int,
    wanted: Selection,
    account_id: str | None = None,
    category_id: str | None = None,
) -> Page[Entry]:
    """Return a page of entries, only those with a line on an account, or in a category, where one is given."""
    query = selected(conn, select(entries), entries, site_id, wanted)
    if account_id is not None:
        touching = select(lines.c.entry_id).where(lines.c.site_id == site_id, lines.c.account_id == account_id)
        query = query.where(entries.c.id.in_(touching))
    if category_id is not None:
        inside = accounts_below(site_id, [category_id])
        touching = select(lines.c.entry_id).where(lines.c.site_id == site_id, lines.c.account_id.in_(inside))
        query = query.where(entries.c.id.in_(touching))
    return page_of(_entries(conn, site_id, query), wanted)


def account_row(conn: Connection, site_id: int, account_id: str) -> tuple[AccountRow, Totals]:
    """Return an account as it is stored, with its totals; raises NotFound."""
    found = store.accounts_by_id(conn, site_id, [account_id])
    if not found:
        raise NotFound("account", account_id)
    return found[0]


def _entries(conn: Connection, site_id: int, query: Select[Any]) -> list[Entry]:
    rows = [cast("EntryRow", row) for row in conn.execute(query).mappings()]
    found = store.lines_of_entries(conn, site_id, ((row["id"], row["lines_version"]) for row in rows)) if rows else {}
    unmoved = [row["id"] for row in rows if row["status"] in {"accepted", "rejected"}]
    accepted = store.acceptances_of(conn, site_id, unmoved) if unmoved else {}
    return [entry_of(row, found[row["id"]], accepted.get(row["id"])) for row in rows]


def selected(
    conn: Connection,
    query: Select[Any],
    table: Table,
    site_id: int,
    wanted: Selection,
) -> Select[Any]:
    """Narrow a query to a page of the selection; one row more than the page tells whether there is another."""
    conditions: list[ColumnElement[bool]] = [table.c.site_id == site_id]
    conditions += [table.c[name] == value for name, value in wanted.equals.items()]
    conditions += [store.metadata_is(conn, table, key, value) for key, value in wanted.metadata.items()]
    for name, bounds in wanted.bounds.items():
        conditions += [_BOUNDS[operator](table.c[name], value) for operator, value in bounds.items()]
    if wanted.cursor is not None:
        conditions.append(table.c.id < parse_page_cursor(wanted.cursor))
    return query.where(*conditions).order_by(table.c.id.desc()).limit(wanted.limit + 1)


_BOUNDS = {
    "gt": lambda column, value: column > value,
    "gte": lambda column, value: column >= value,
    "lt": lambda column, value: column < value,
    "lte": lambda column, value: column <= value,
}
BOUND_OPERATORS = tuple(_BOUNDS)


def page_of(found: Sequence[Any], wanted: Selection) -> Page[Any]:
    """Return what was found as a page: one more than its limit says that there is another."""
    more = len(found) > wanted.limit
    items = list(found[: wanted.limit])
    return Page(items=items, next_cursor=page_cursor(items[-1].id) if more else None)
