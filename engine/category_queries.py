"""What can be asked of categories and monitors: each a function over one snapshot, returning what the API shows."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, select

from engine import category_store, listing, store
from engine.balances import EMPTY
from engine.category_shapes import (
    AccountCategory,
    BalanceMonitor,
    CategoryBalance,
    category_balance_of,
    category_of,
    monitor_of,
)
from engine.cursors import parse_page_cursor
from engine.errors import NotFound
from engine.history import NOW, Moment, totals_of_several
from engine.queries import Page, Selection, page_of, selected
from engine.rows import ResourceRow
from engine.schema import account_categories, balance_monitors, category_accounts, category_links
from engine.shapes import Account, account_of


def category(conn: Connection, site_id: int, category_id: str) -> AccountCategory:
    """Return a category with its balances; raises NotFound."""
    [found] = _shown(conn, site_id, [_category(conn, site_id, category_id)])
    return found


def category_balance(conn: Connection, site_id: int, category_id: str, moment: Moment = NOW) -> CategoryBalance:
    """Return a category's balances at a moment, of the accounts that are in it now; raises NotFound."""
    row = _category(conn, site_id, category_id)
    present = category_store.totals_of(conn, site_id, [category_id])[category_id]
    if moment == NOW:
        return category_balance_of(row, present)
    members = category_store.balances_below(conn, site_id, category_id)
    totals = EMPTY._replace(lock_version=present.lock_version)
    for each in totals_of_several(conn, site_id, members, moment).values():
        totals = totals.shift(EMPTY, each)
    return category_balance_of(row, totals)


def list_categories(
    conn: Connection,
    site_id: int,
    wanted: Selection,
    parent_id: str | None = None,
    account_id: str | None = None,
) -> Page[AccountCategory]:
    """Return a page of categories: only those directly in one, only those an account was put into."""
    narrowed = []
    if parent_id is not None:
        inside = select(category_links.c.child_id).where(
            category_links.c.site_id == site_id, category_links.c.parent_id == parent_id
        )
        narrowed.append(account_categories.c.id.in_(inside))
    if account_id is not None:
        holding = select(category_accounts.c.category_id).where(
            category_accounts.c.site_id == site_id, category_accounts.c.account_id == account_id
        )
        narrowed.append(account_categories.c.id.in_(holding))
    query = selected(conn, account_categories, site_id, wanted, *narrowed)
    return page_of(_shown(conn, site_id, [dict(row) for row in conn.execute(query).mappings()]), wanted)


def list_subcategories(conn: Connection, site_id: int, category_id: str, wanted: Selection) -> Page[AccountCategory]:
    """Return a page of the categories directly in a category; raises NotFound."""
    _category(conn, site_id, category_id)
    return list_categories(conn, site_id, wanted, parent_id=category_id)


def list_category_accounts(conn: Connection, site_id: int, category_id: str, wanted: Selection) -> Page[Account]:
    """Return a page of the accounts directly in a category; raises NotFound."""
    _category(conn, site_id, category_id)
    places = category_accounts.c
    after = None if wanted.cursor is None else parse_page_cursor(wanted.cursor)
    query = select(places.account_id).where(
        places.site_id == site_id,
        places.category_id == category_id,
        *listing.beyond(places.account_id, after, ascending=wanted.ascending),
    )
    query = query.order_by(listing.ordered(places.account_id, ascending=wanted.ascending)).limit(wanted.limit + 1)
    ids = list(conn.execute(query).scalars())
    found = {row["id"]: account_of(row, totals) for row, totals in store.accounts_by_id(conn, site_id, ids)}
    return page_of([found[account_id] for account_id in ids], wanted)


def monitor(conn: Connection, site_id: int, monitor_id: str) -> BalanceMonitor:
    """Return a monitor; raises NotFound."""
    query = select(balance_monitors).where(balance_monitors.c.site_id == site_id, balance_monitors.c.id == monitor_id)
    row = conn.execute(query).mappings().first()
    if row is None:
        raise NotFound("balance monitor", monitor_id)
    return monitor_of(dict(row))


def list_monitors(
    conn: Connection, site_id: int, wanted: Selection, subject_ids: Sequence[str] = ()
) -> Page[BalanceMonitor]:
    """Return a page of monitors, only those of the account and of the category that are named."""
    watching = [balance_monitors.c.subject_id == subject_id for subject_id in subject_ids]
    query = selected(conn, balance_monitors, site_id, wanted, *watching)
    return page_of([monitor_of(dict(row)) for row in conn.execute(query).mappings()], wanted)


def _category(conn: Connection, site_id: int, category_id: str) -> ResourceRow:
    query = select(account_categories).where(
        account_categories.c.site_id == site_id, account_categories.c.id == category_id
    )
    row = conn.execute(query).mappings().first()
    if row is None:
        raise NotFound("account category", category_id)
    return dict(row)


def _shown(conn: Connection, site_id: int, rows: list[ResourceRow]) -> list[AccountCategory]:
    totals = category_store.totals_of(conn, site_id, [row["id"] for row in rows])
    return [category_of(row, totals[row["id"]]) for row in rows]
