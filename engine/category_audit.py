"""The audit of categories and monitors: every row against the events, every sum against its accounts, every state against both.

It takes the accounts' own balances as they are: the audit of lines has worked those out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, Final

import msgspec
from sqlalchemy import ColumnElement, Connection, Table, select

from engine import category_store, store
from engine.balances import EMPTY, Totals
from engine.category_shapes import AccountCategory, BalanceMonitor, CategoryMember, category_of, monitor_of
from engine.feed import read_after
from engine.finding import Finding
from engine.rows import ResourceRow
from engine.schema import (
    account_categories,
    accounts,
    balance_monitors,
    category_accounts,
    category_balances,
    category_links,
)
from engine.thresholds import observe

_PAGE: Final = 1_000
_MEMBERS: Final = ("account_category.member_added", "account_category.member_removed")
_CATEGORIES: Final = ("account_category.created", "account_category.updated")
_MONITORS: Final = (
    "balance_monitor.created",
    "balance_monitor.updated",
    "balance.threshold_crossed",
    "balance.threshold_recovered",
)
Place = tuple[str, str]


class _Told:
    """What the feed says last of every category, place and monitor."""

    def __init__(self) -> None:
        self.categories: dict[str, AccountCategory] = {}
        self.versions: dict[str, int] = {}
        self.accounts: set[Place] = set()
        self.links: set[Place] = set()
        self.monitors: dict[str, BalanceMonitor] = {}

    def hear(self, kind: str, body: bytes) -> None:
        """Take in one event."""
        data = msgspec.json.decode(body, type=_Data).data
        if kind in _CATEGORIES:
            category = msgspec.json.decode(data, type=AccountCategory)
            self.categories[category.id] = category
            self.versions[category.id] = category.lock_version
        elif kind in _MEMBERS:
            member = msgspec.json.decode(data, type=CategoryMember)
            places = self.accounts if member.member_type == "account" else self.links
            change = places.add if member.is_member else places.discard
            change((member.account_category_id, member.member_id))
            self.versions[member.account_category_id] = member.lock_version
        else:
            monitor = msgspec.json.decode(data, type=BalanceMonitor)
            self.monitors[monitor.id] = monitor


class _Data(msgspec.Struct):
    """The resource in an envelope, not yet decoded."""

    data: msgspec.Raw


def verify_categories(conn: Connection, site_id: int, progress: Callable[[int], None]) -> Finding | None:
    """Return the first thing that is wrong with a site's categories and monitors, or None."""
    told = _Told()
    after = 0
    while page := read_after(conn, site_id, after, _PAGE, (*_CATEGORIES, *_MEMBERS, *_MONITORS)):
        for event in page:
            told.hear(event.type, event.body)
        after = page[-1].sequence
        progress(len(page))
    rows = {row["id"]: row for row in _rows(conn, account_categories, site_id)}
    return (
        _wrong_categories(rows, told)
        or _wrong_places(conn, category_accounts, site_id, told.accounts)
        or _wrong_places(conn, category_links, site_id, told.links)
        or _wrong_sums(conn, site_id, rows, told)
        or _wrong_monitors(conn, site_id, rows, told)
        or _wrong_counters(conn, site_id, rows, told)
    )


def _wrong_categories(rows: dict[str, ResourceRow], told: _Told) -> Finding | None:
    for category_id in sorted(rows.keys() | told.categories.keys()):
        row, said = rows.get(category_id), told.categories.get(category_id)
        if row is None or said is None:
            detail = "no event tells of it" if said is None else "the feed tells of it, and it is not there"
            return Finding(table="account_categories", row=category_id, detail=detail)
        shown = msgspec.structs.replace(category_of(row, EMPTY), balances=said.balances, lock_version=said.lock_version)
        if shown != said:
            return Finding(table="account_categories", row=category_id, detail="it is not what its last event says")
    return None


def _wrong_places(conn: Connection, table: Table, site_id: int, told: set[Place]) -> Finding | None:
    _, above, below = table.primary_key.columns
    query = select(above, below).where(table.c.site_id == site_id)
    stored = {(category_id, member_id) for category_id, member_id in conn.execute(query)}
    for category_id, member_id in sorted(stored ^ told):
        detail = (
            "no event put it there"
            if (category_id, member_id) in stored
            else "the feed tells of it, and it is not there"
        )
        return Finding(table=table.name, row=f"category {category_id} member {member_id}", detail=detail)
    return None


def _wrong_sums(conn: Connection, site_id: int, rows: dict[str, ResourceRow], told: _Told) -> Finding | None:
    stored = category_store.totals_of(
        conn, site_id, [row["category_id"] for row in _rows(conn, category_balances, site_id)]
    )
    for category_id in sorted(rows.keys() | stored.keys()):
        if category_id not in rows or category_id not in stored:
            absent = "category" if category_id in stored else "balance"
            return Finding(table="category_balances", row=category_id, detail=f"there is no {absent} of this id")
        totals, found = stored[category_id], category_store.sum_below(conn, site_id, [category_id])
        if totals[:4] != found[:4]:
            return Finding(
                table="category_balances",
                row=category_id,
                detail=f"the totals are {totals[:4]}, its accounts come to {found[:4]}",
            )
        if totals.lock_version < told.versions[category_id]:
            return Finding(
                table="category_balances", row=category_id, detail="its version is before that of its last event"
            )
    return None


def _wrong_monitors(conn: Connection, site_id: int, rows: dict[str, ResourceRow], told: _Told) -> Finding | None:
    monitors = {row["id"]: row for row in _rows(conn, balance_monitors, site_id)}
    sums = category_store.totals_of(conn, site_id, rows)
    watched = {row["subject_id"] for row in monitors.values() if row["subject"] == "account"}
    known = {row["id"]: (row["normal_balance"], totals) for row, totals in store.accounts_by_id(conn, site_id, watched)}
    known |= {row["id"]: (row["normal_balance"], sums[row["id"]]) for row in rows.values()}
    for monitor_id in sorted(monitors.keys() | told.monitors.keys()):
        row, said = monitors.get(monitor_id), told.monitors.get(monitor_id)
        if row is None or said is None:
            detail = "no event tells of it" if said is None else "the feed tells of it, and it is not there"
            return Finding(table="balance_monitors", row=monitor_id, detail=detail)
        if monitor_of(row) != said:
            return Finding(table="balance_monitors", row=monitor_id, detail="it is not what its last event says")
        subject = known.get(row["subject_id"])
        if row["status"] == "active" and (subject is None or _is_stale(row, subject)):
            return Finding(table="balance_monitors", row=monitor_id, detail="its state is not that of what it watches")
    return None


def _is_stale(row: ResourceRow, subject: tuple[Any, Totals]) -> bool:
    return bool(observe(row, *subject)["triggered"] != row["triggered"])


def _wrong_counters(conn: Connection, site_id: int, rows: dict[str, ResourceRow], told: _Told) -> Finding | None:
    """Compare the counters by which postings know where to look further."""
    placed = Counter(account_id for _, account_id in told.accounts)
    watching = Counter(
        each.account_id or each.account_category_id or "" for each in told.monitors.values() if each.status == "active"
    )
    for row in rows.values():
        if row["monitors"] != watching[row["id"]]:
            return Finding(table="account_categories", row=row["id"], detail=f"{watching[row['id']]} monitors watch it")
    counted = (accounts.c.categories != 0) | (accounts.c.monitors != 0)
    columns = select(accounts.c.id, accounts.c.categories, accounts.c.monitors).where(accounts.c.site_id == site_id)
    found = {row.id: (row.categories, row.monitors) for row in conn.execute(columns.where(counted))}
    for account_id in sorted(found.keys() | placed.keys() | watching.keys() - rows.keys()):
        if found.get(account_id, (0, 0)) != (placed[account_id], watching[account_id]):
            detail = f"it is in {placed[account_id]} categories and {watching[account_id]} monitors watch it"
            return Finding(table="accounts", row=account_id, detail=detail)
    return None


def _rows(conn: Connection, table: Table, site_id: int) -> Iterator[ResourceRow]:
    """Return a table's rows in the order of its key, read in pages."""
    key: ColumnElement[Any] = list(table.primary_key.columns)[1]
    query = select(table).where(table.c.site_id == site_id).order_by(key).limit(_PAGE)
    page = [dict(row) for row in conn.execute(query).mappings()]
    while page:
        yield from page
        page = [dict(row) for row in conn.execute(query.where(key > page[-1][key.name])).mappings()]
