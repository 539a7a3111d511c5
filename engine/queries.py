"""What the books can be asked: each a function over one snapshot, returning resources as the API shows them.

Lists are newest first by id, or oldest first, in keyset pages that stay stable while others write.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import ge, gt, le, lt
from typing import Any, Final, Generic, TypeVar, cast

from sqlalchemy import ColumnElement, Connection, RowMapping, Select, Table, select

from engine import listing, store
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

    `bounds` maps a column to operators among gt, gte, lt, lte and their instants in microseconds. `account_metadata` are pairs
    that one of the accounts has which a thing has lines on.
    """

    limit: int = 50
    cursor: str | None = None
    equals: Mapping[str, str] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)
    bounds: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    account_metadata: Mapping[str, str] = field(default_factory=dict)
    ascending: bool = False
    """Whether the oldest come first."""


def ledger(conn: Connection, site_id: int, ledger_id: str) -> Ledger:
    """Return a ledger; raises NotFound."""
    query = select(ledgers).where(ledgers.c.site_id == site_id, ledgers.c.id == ledger_id)
    row = conn.execute(query).mappings().first()
    if row is None:
        raise NotFound("ledger", ledger_id)
    return ledger_of(cast("LedgerRow", row))


def list_ledgers(conn: Connection, site_id: int, wanted: Selection) -> Page[Ledger]:
    """Return a page of ledgers."""
    query = selected(conn, ledgers, site_id, wanted)
    found = [ledger_of(cast("LedgerRow", row)) for row in conn.execute(query).mappings()]
    return page_of(found, wanted)


def account(conn: Connection, site_id: int, account_id: str) -> Account:
    """Return an account with its balances; raises NotFound."""
    return account_of(*account_row(conn, site_id, account_id))


def list_accounts(conn: Connection, site_id: int, wanted: Selection, category_id: str | None = None) -> Page[Account]:
    """Return a page of accounts, only those that count in a category where one is given."""
    inside = [] if category_id is None else [accounts.c.id.in_(accounts_below(site_id, [category_id]))]
    ids = [row["id"] for row in conn.execute(selected(conn, accounts, site_id, wanted, *inside)).mappings()]
    found = {row["id"]: account_of(row, totals) for row, totals in store.accounts_by_id(conn, site_id, ids)}
    return page_of([found[account_id] for account_id in ids], wanted)


def accounts_named(conn: Connection, site_id: int, account_ids: Sequence[str]) -> list[Account]:
    """Return the accounts with these ids that there are."""
    return [account_of(row, totals) for row, totals in store.accounts_by_id(conn, site_id, account_ids)]


def account_lines(conn: Connection, site_id: int, account_id: str, wanted: Selection) -> Page[AccountLine]:
    """Return a page of an account's lines, the newest version of the account first; raises NotFound."""
    account_row(conn, site_id, account_id)
    query = select(lines).where(lines.c.site_id == site_id, lines.c.account_id == account_id)
    rows, next_cursor = numbered(conn, query, lines.c.account_lock_version, wanted)
    return Page(items=[account_line_of(cast("LineRow", row)) for row in rows], next_cursor=next_cursor)


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
    lists = touching(conn, site_id, wanted, account_id, category_id)
    return page_of(_entries(conn, site_id, selected(conn, entries, site_id, wanted, touching=lists)), wanted)


def touching(
    conn: Connection, site_id: int, wanted: Selection, account_id: str | None = None, category_id: str | None = None
) -> list[Select[Any]]:
    """Return what narrows a list to things with lines on certain accounts: for each condition the ids of its accounts."""
    found: list[Select[Any]] = []
    if account_id is not None:
        found.append(select(accounts.c.id).where(accounts.c.site_id == site_id, accounts.c.id == account_id))
    if wanted.account_metadata:
        found.append(listing.described(conn, accounts, site_id, wanted.account_metadata))
    if category_id is not None:
        found.append(accounts_below(site_id, [category_id]))
    return found


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
    table: Table,
    site_id: int,
    wanted: Selection,
    *narrowed: ColumnElement[bool],
    touching: Sequence[Select[Any]] = (),
) -> Select[Any]:
    """Return the query of a page of a table; one row more than the page tells whether there is another.

    `touching` are accounts: only what has lines on one of each is wanted, by its own id among those of entries.
    """
    conditions: list[ColumnElement[bool]] = [table.c[name] == value for name, value in wanted.equals.items()]
    for name, bounds in wanted.bounds.items():
        conditions += [BOUNDS[operator](table.c[name], value) for operator, value in bounds.items()]
    return listing.page(
        conn,
        table,
        site_id,
        [*conditions, *narrowed],
        after=None if wanted.cursor is None else parse_page_cursor(wanted.cursor),
        ascending=wanted.ascending,
        limit=wanted.limit + 1,
        pairs=wanted.metadata,
        touching=touching,
    )


BOUNDS: Final[Mapping[str, Callable[[Any, int], ColumnElement[bool]]]] = {"gt": gt, "gte": ge, "lt": lt, "lte": le}
BOUND_OPERATORS: Final = tuple(BOUNDS)


def numbered(
    conn: Connection, query: Select[Any], number: ColumnElement[int], wanted: Selection
) -> tuple[Sequence[RowMapping], str | None]:
    """Return the rows of a page of a list that is ordered by a number, and the cursor of the next one."""
    after = None if wanted.cursor is None else parse_position_cursor(wanted.cursor)
    query = query.where(*listing.beyond(number, after, ascending=wanted.ascending))
    query = query.order_by(listing.ordered(number, ascending=wanted.ascending)).limit(wanted.limit + 1)
    rows = conn.execute(query).mappings().all()
    shown = rows[: wanted.limit]
    return shown, page_cursor(str(shown[-1][number])) if len(rows) > wanted.limit else None


def page_of(found: Sequence[Any], wanted: Selection) -> Page[Any]:
    """Return what was found as a page: one more than its limit says that there is another."""
    more = len(found) > wanted.limit
    items = list(found[: wanted.limit])
    return Page(items=items, next_cursor=page_cursor(items[-1].id) if more else None)
