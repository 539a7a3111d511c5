"""What the books can be asked: each a function over one snapshot, returning resources as the API shows them.

Lists are newest first by id, or oldest first, in keyset pages that stay stable while others write.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from operator import ge, gt, le, lt
from typing import Any, Final, Generic, TypeVar, cast

from msgspec import Struct
from sqlalchemy import ColumnElement, Connection, RowMapping, Select, Table, func, literal, select, union_all

from engine import listing, store
from engine.balances import Totals
from engine.category_store import accounts_below
from engine.cursors import (
    effective_cursor,
    page_cursor,
    parse_effective_cursor,
    parse_page_cursor,
    parse_position_cursor,
)
from engine.errors import NotFound
from engine.listing import Order, Place
from engine.rows import LIVE_STATUSES, AccountRow, EntryRow, LedgerRow, LineRow
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
from engine.sql import among

T = TypeVar("T")


class Page(Struct, Generic[T], frozen=True, kw_only=True):
    """Some of a list, and the cursor of the next page where there is one."""

    items: list[T]
    next_cursor: str | None


class Selection(Struct, frozen=True, kw_only=True):
    """What of a list is wanted: exact values by column, metadata pairs, bounds on instants, a page.

    `bounds` maps a column to operators among gt, gte, lt, lte and their instants in microseconds. `account_metadata` are pairs
    that one of the accounts has which a thing has lines on.
    """

    limit: int = 50
    cursor: str | None = None
    equals: Mapping[str, str] = {}
    metadata: Mapping[str, str] = {}
    bounds: Mapping[str, Mapping[str, int]] = {}
    account_metadata: Mapping[str, str] = {}
    ascending: bool = False
    """Whether the oldest come first."""
    by_effect: bool = False
    """Whether the order is that of effective times: of entries only."""


_ACCOUNTS_BY: Final = (("external_id",), ("code",), ("ledger_id",), ("entity_id",))


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


def list_accounts(conn: Connection, site_id: int, wanted: Selection, category_id: str | None = None) -> Page[Account]:
    """Return a page of accounts, only those that count in a category where one is given."""
    if category_id is None:
        rows, next_cursor = looked_up(conn, accounts, site_id, wanted, _ACCOUNTS_BY)
    else:
        inside = accounts.c.id.in_(accounts_below(site_id, [category_id]))
        rows, next_cursor = _page_rows(conn, selected(conn, accounts, site_id, wanted, inside), wanted)
    ids = [row["id"] for row in rows]
    found = {row["id"]: account_of(row, totals) for row, totals in store.accounts_by_id(conn, site_id, ids)}
    return Page(items=[found[account_id] for account_id in ids], next_cursor=next_cursor)


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
    """Return a page of entries, only those with a line on an account, or in a category, where one is given.

    What no index narrows is looked for among a bounded number of entries, so that a page may hold few and say that there is more.
    Those of one account come in the order in which they came to it.
    """
    elsewhere = category_id is not None or wanted.by_effect or wanted.metadata or wanted.account_metadata
    if account_id is not None and not elsewhere and not _narrowing(wanted) & {"external_id", "partially_posts"}:
        ids, next_cursor = of_account(conn, site_id, wanted, account_id, entries)
        query = select(entries).where(entries.c.site_id == site_id, among(entries.c.id, ids))
        found = {each.id: each for each in _entries(conn, site_id, query)} if ids else {}
        return Page(items=[found[each] for each in ids], next_cursor=next_cursor)
    lists = touching(conn, site_id, wanted, account_id, category_id)
    if not wanted.by_effect and (wanted.metadata or lists):
        return page_of(_entries(conn, site_id, selected(conn, entries, site_id, wanted, touching=lists)), wanted)
    place: Place | None = None
    if wanted.cursor is not None:
        place = parse_effective_cursor(wanted.cursor) if wanted.by_effect else (parse_page_cursor(wanted.cursor),)
    go_on = partial(following, conn, site_id, wanted, lists)
    unnarrowed = {*wanted.equals, *wanted.bounds} - _narrowing(wanted)
    matching = partial(_conditions, wanted) if unnarrowed else None
    rows, end = listing.looked_through(conn, order_of(wanted), go_on, matching, place, wanted.limit)
    items = _shown(conn, site_id, [cast("EntryRow", row) for row in rows])
    if end is None:
        return Page(items=items, next_cursor=None)
    return Page(items=items, next_cursor=effective_cursor(*end) if wanted.by_effect else page_cursor(*end))


def of_account(
    conn: Connection, site_id: int, wanted: Selection, account_id: str, table: Table
) -> tuple[list[str], str | None]:
    """Return the ids of a page of the entries of an account, or of its holds, and the cursor of the next one.

    An account may have any number of them: its lines are walked, each entry is met at its first.
    """
    order = Order(key=("account_lock_version",), ascending=wanted.ascending)
    others, conditions = lines.alias(), _conditions(wanted, table.c)

    def after(place: Place | None, limit: int) -> Select[Any]:
        here = (lines.c.site_id == site_id, lines.c.account_id == account_id, *order.after(lines.c, place))
        return select(lines).where(*here).order_by(*order.by(lines.c)).limit(limit)

    def matching(columns: Any) -> list[ColumnElement[bool]]:
        # Each a value of its own, lest the planner join tables as a whole. The account is told by no column that has an index,
        # lest the lines of an entry be looked for among those of the account.
        on_it = func.coalesce(others.c.account_id, others.c.account_id) == account_id
        of_it = (others.c.site_id == site_id, others.c.entry_id == columns.entry_id, on_it)
        first = (
            select(others.c.account_lock_version).where(*of_it).order_by(others.c.version, others.c.position).limit(1)
        )
        is_it = (table.c.site_id == site_id, table.c.id == columns.entry_id, *conditions)
        wanted_too = select(literal(1)).where(*is_it).scalar_subquery() == 1
        return [columns.account_lock_version == first.scalar_subquery(), wanted_too]

    place = None if wanted.cursor is None else (parse_position_cursor(wanted.cursor),)
    rows, end = listing.looked_through(conn, order, after, matching, place, wanted.limit)
    return [row["entry_id"] for row in rows], None if end is None else page_cursor(str(end[0]))


_DEAD: Final = ("archived", "rejected")


def _narrowing(wanted: Selection) -> set[str]:
    """Return what of a selection of entries an index narrows, in its order."""
    for name in ("external_id", "partially_posts"):
        if name in wanted.equals:
            return {name}
    if wanted.by_effect:
        return {"effective_at"}
    return {"status"} if wanted.equals.get("status", "posted") != "posted" else {"ledger_id"}


def order_of(wanted: Selection) -> Order:
    """Return the order of a list of entries."""
    return Order(key=("effective_at", "id") if wanted.by_effect else ("id",), ascending=wanted.ascending)


def following(
    conn: Connection,
    site_id: int,
    wanted: Selection,
    touching: Sequence[Select[Any]],
    place: Place | None,
    limit: int,
) -> Select[Any]:
    """Return the query of so many entries after a place, each way by its index."""
    columns, order, by = entries.c, order_of(wanted), _narrowing(wanted)
    here = [columns.site_id == site_id, *order.after(columns, place)]
    gathered = bool(touching or wanted.metadata)
    if "external_id" in by:
        of_them = (columns.site_id == site_id, columns.external_id == wanted.equals["external_id"])
        named = (select(columns.id).where(*of_them, columns.status.in_(some)) for some in (LIVE_STATUSES, _DEAD))
        here.append(listing.within(columns.id, union_all(*named)))
        gathered = True
    elif "partially_posts" in by:
        here.append(columns.partially_posts == wanted.equals["partially_posts"])
        gathered |= wanted.by_effect
    elif "status" in by:
        here += (columns.status == wanted.equals["status"], columns.status != "posted")
    elif "ledger_id" in by and "ledger_id" in wanted.equals:
        here.append(columns.ledger_id == wanted.equals["ledger_id"])
    elif "effective_at" in by:
        here += [
            BOUNDS[operator](columns.effective_at, at) for operator, at in wanted.bounds.get("effective_at", {}).items()
        ]
    here += (listing.has_line(entries, site_id, accounts_) for accounts_ in touching)
    if wanted.metadata:
        here.append(listing.within(columns.id, listing.described(conn, entries, site_id, wanted.metadata)))
    if not gathered:
        return select(entries).where(*here).order_by(*order.by(columns)).limit(limit)
    # Found by themselves and then ordered, lest they be looked for in the order.
    some = select(entries).where(*here)
    found = (some.offset(0) if conn.dialect.name == "postgresql" else some).subquery()
    return select(found).order_by(*order.by(found.c)).limit(limit)


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
    return _shown(conn, site_id, [cast("EntryRow", row) for row in conn.execute(query).mappings()])


def _shown(conn: Connection, site_id: int, rows: Sequence[EntryRow]) -> list[Entry]:
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
    return listing.page(
        conn,
        table,
        site_id,
        [*_conditions(wanted, table.c), *narrowed],
        after=None if wanted.cursor is None else parse_page_cursor(wanted.cursor),
        ascending=wanted.ascending,
        limit=wanted.limit + 1,
        pairs=wanted.metadata,
        touching=touching,
    )


def looked_up(
    conn: Connection,
    table: Table,
    site_id: int,
    wanted: Selection,
    indexed: Sequence[tuple[str, ...]],
    touching: Sequence[Select[Any]] = (),
) -> tuple[list[dict[str, Any]], str | None]:
    """Return the rows of a page of a table that may be large, and the cursor of the next one.

    It is read in the order of ids by the first of the `indexed` columns that have to have values. What is narrowed by something
    else is looked for among a bounded number of rows, so that a page may hold few and say that there is more.
    """
    by = next((names for names in indexed if wanted.equals.keys() >= set(names)), ())
    if wanted.metadata or touching or not {*wanted.equals, *wanted.bounds} - {*by}:
        return _page_rows(conn, selected(conn, table, site_id, wanted, touching=touching), wanted)
    order = Order(key=("id",), ascending=wanted.ascending)

    def after(place: Place | None, limit: int) -> Select[Any]:
        narrowed = [table.c[name] == wanted.equals[name] for name in by]
        here = (table.c.site_id == site_id, *narrowed, *order.after(table.c, place))
        return select(table).where(*here).order_by(*order.by(table.c)).limit(limit)

    place = None if wanted.cursor is None else (parse_page_cursor(wanted.cursor),)
    rows, end = listing.looked_through(conn, order, after, partial(_conditions, wanted), place, wanted.limit)
    return rows, None if end is None else page_cursor(*end)


def _page_rows(conn: Connection, query: Select[Any], wanted: Selection) -> tuple[list[dict[str, Any]], str | None]:
    rows = [dict(row) for row in conn.execute(query).mappings()]
    shown = rows[: wanted.limit]
    return shown, page_cursor(shown[-1]["id"]) if len(rows) > wanted.limit else None


def _conditions(wanted: Selection, columns: Any) -> list[ColumnElement[bool]]:
    found: list[ColumnElement[bool]] = [columns[name] == value for name, value in wanted.equals.items()]
    for name, bounds in wanted.bounds.items():
        found += [BOUNDS[operator](columns[name], value) for operator, value in bounds.items()]
    return found


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
