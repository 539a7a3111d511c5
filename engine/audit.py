"""Replaying the books: the hash chain, every row against the events, every line's totals, every balance.

The first bad row is named. It only reads, in pages, and trusts nothing that it can work out again: the chained events say
what every ledger, account, entry and line must be.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, Generic, NamedTuple, TypeVar, cast

import msgspec
from sqlalchemy import ColumnElement, Connection, Table, and_, or_, select

from engine.balances import EMPTY, Totals
from engine.category_audit import verify_categories
from engine.event_audit import verify_business_events
from engine.events import ENTRY_TYPES, Resource, chain, genesis_hash, moves_lines
from engine.feed import read_after, read_head
from engine.finding import Finding
from engine.money import format_instant
from engine.rows import AccountRow, EntryRow, LedgerRow, ResourceRow
from engine.schema import accounts, balances, entries, events, feeds, ledgers, lines
from engine.shapes import Account, Entry, Ledger, account_of, entry_of, ledger_of, line_of
from engine.shown import SHOWN
from engine.sql import among
from engine.store import RESOURCES, acceptances_of

T = TypeVar("T")

PAGE: Final = 1_000
Progress = Callable[[int], None]
_ACCOUNT_TYPES: Final = ("account.created", "account.updated")
_LEDGER_TYPES: Final = ("ledger.created", "ledger.updated")


class _Seen(msgspec.Struct):
    """What an envelope says of itself."""

    id: str
    type: str
    sequence: int
    timestamp: str
    organization: str
    environment: str
    resource: Resource


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
    versions: dict[str, int] = {}
    return (
        _verify_feed(conn, site_id, progress)
        or _verify_ledgers(conn, site_id, progress)
        or _verify_accounts(conn, site_id, progress, versions)
        or _verify_entries(conn, site_id, progress)
        or _verify_resources(conn, site_id, progress)
        or _verify_absent(conn, site_id)
        or _verify_lines(conn, site_id, progress, versions)
        or verify_categories(conn, site_id, progress)
        or verify_business_events(conn, site_id, progress)
    )


def _verify_feed(conn: Connection, site_id: int, progress: Progress) -> Finding | None:
    head = read_head(conn, site_id)
    name = conn.execute(select(feeds.c.organization, feeds.c.environment).where(feeds.c.site_id == site_id)).one()
    sequence, previous, last_at = 0, genesis_hash(site_id, head.epoch), 0
    while True:
        page = read_after(conn, site_id, sequence, PAGE)
        if not page:
            break
        for event in page:
            if event.sequence != sequence + 1:
                return Finding(table="events", row=f"sequence {sequence + 1}", detail="the event is missing")
            sequence = event.sequence
            row = f"sequence {sequence}"
            if chain(previous, event.body) != event.hash:
                return Finding(table="events", row=row, detail="the hash does not follow from the event before it")
            seen = msgspec.json.decode(event.body, type=_Seen)
            columns = (event.id, event.type, event.sequence, event.resource_id, format_instant(event.created_at))
            if (seen.id, seen.type, seen.sequence, seen.resource.id, seen.timestamp) != columns:
                return Finding(table="events", row=row, detail="the columns are not what the event says")
            if (seen.organization, seen.environment) != tuple(name):
                return Finding(
                    table="feeds", row=f"site {site_id}", detail="the site's name is not what its events say"
                )
            if event.created_at < last_at:
                return Finding(table="events", row=row, detail="the time is before the event before it")
            previous, last_at = event.hash, event.created_at
        progress(len(page))
    if (sequence, previous) != (head.sequence, head.hash):
        return Finding(table="feeds", row=f"head {head.sequence}", detail=f"the feed ends at {sequence}")
    if sequence and head.last_at != last_at:
        return Finding(table="feeds", row=f"head {head.sequence}", detail="its time is not that of the last event")
    return None


def _verify_ledgers(conn: Connection, site_id: int, progress: Progress) -> Finding | None:
    for page in _pages(conn, ledgers, site_id):
        told = _told(conn, site_id, page, _LEDGER_TYPES, Ledger)
        for row in page:
            if not told[row["id"]]:
                return Finding(table="ledgers", row=row["id"], detail="no event tells of it")
            if ledger_of(cast("LedgerRow", row)) != told[row["id"]][-1].data:
                return Finding(table="ledgers", row=row["id"], detail="it is not what its last event says")
        progress(len(page))
    return None


def _verify_accounts(
    conn: Connection,
    site_id: int,
    progress: Progress,
    versions: dict[str, int],
) -> Finding | None:
    """Compare accounts with their last events, and gather how often each was opened or changed."""
    for page in _pages(conn, accounts, site_id):
        told = _told(conn, site_id, page, _ACCOUNT_TYPES, Account)
        for row in page:
            if not told[row["id"]]:
                return Finding(table="accounts", row=row["id"], detail="no event tells of it")
            last = told[row["id"]][-1].data
            stored = account_of(cast("AccountRow", row), EMPTY)
            if msgspec.structs.replace(stored, balances=last.balances, lock_version=last.lock_version) != last:
                return Finding(table="accounts", row=row["id"], detail="it is not what its last event says")
            versions[row["id"]] = len(told[row["id"]])
        progress(len(page))
    return None


def _verify_entries(conn: Connection, site_id: int, progress: Progress) -> Finding | None:
    """Compare every entry and every version of its lines with its events, and check that debits are credits."""
    for page in _pages(conn, entries, site_id):
        told = _told(conn, site_id, page, ENTRY_TYPES, Entry)
        stored: dict[str, dict[int, list[Any]]] = {row["id"]: {} for row in page}
        query = (
            select(lines)
            .where(lines.c.site_id == site_id, among(lines.c.entry_id, stored))
            .order_by(lines.c.entry_id, lines.c.version, lines.c.position)
        )
        for line in conn.execute(query).mappings():
            stored[line["entry_id"]].setdefault(line["version"], []).append(line)
        accepted = acceptances_of(
            conn, site_id, [row["id"] for row in page if row["status"] in {"accepted", "rejected"}]
        )
        for row in page:
            found = _wrong_entry(row, stored[row["id"]], told[row["id"]], accepted.get(row["id"]))
            if found is not None:
                return found
        progress(len(page))
    return None


def _verify_resources(conn: Connection, site_id: int, progress: Progress) -> Finding | None:
    """Compare what stands beside the books with the last event that tells of it."""
    for kind, shown in SHOWN.items():
        for page in _pages(conn, RESOURCES[kind], site_id):
            told = _told(conn, site_id, page, shown.types, shown.shape)
            for row in page:
                if not told[row["id"]]:
                    return Finding(table=RESOURCES[kind].name, row=row["id"], detail="no event tells of it")
                if shown.show(dict(row)) != told[row["id"]][-1].data:
                    return Finding(
                        table=RESOURCES[kind].name, row=row["id"], detail="it is not what its last event says"
                    )
            progress(len(page))
    return None


def _wrong_entry(
    row: Any, versions: dict[int, list[Any]], told: list[_Told[Entry]], acceptance: ResourceRow | None
) -> Finding | None:
    entry_id, version = row["id"], 0
    before = ""
    if not told:
        return Finding(table="entries", row=entry_id, detail="no event tells of it")
    for event in told:
        fresh = moves_lines(event.type, event.data.status, event.previous)
        version += fresh
        present = versions.get(version, [])
        moved = [] if event.data.status in {"accepted", "rejected"} else event.data.lines
        if [line_of(line) for line in present if line["status"] != "discarded"] != moved:
            return _wrong_lines(entry_id, version, "they are not what the event says")
        for position, line in enumerate(present):
            if line["position"] != position:
                return _wrong_lines(entry_id, version, "their places are not in order")
            at = before if line["status"] == "discarded" else event.data.effective_at
            if fresh and format_instant(line["effective_at"]) != at:
                return _wrong_lines(entry_id, version, "their times are not the entry's")
            if fresh and line["created_at"] != event.created_at:
                return _wrong_lines(entry_id, version, "their time is not that of their event")
        if version and not _balanced([line for line in present if line["status"] != "discarded"]):
            return Finding(table="entries", row=entry_id, detail="its debits and credits differ")
        before = event.data.effective_at
    if len(versions) != version:
        return _wrong_lines(entry_id, max(versions), "no event tells of them")
    if (
        row["lines_version"] != version
        or entry_of(cast("EntryRow", row), versions.get(version, []), acceptance) != told[-1].data
    ):
        return Finding(table="entries", row=entry_id, detail="it is not what its last event says")
    return None


def _wrong_lines(entry_id: str, version: int, detail: str) -> Finding:
    return Finding(table="lines", row=f"entry {entry_id} version {version}", detail=detail)


def _balanced(present: Sequence[Any]) -> bool:
    sums: dict[str, int] = {}
    for line in present:
        signed = line["amount"] if line["direction"] == "debit" else -line["amount"]
        sums[line["currency"]] = sums.get(line["currency"], 0) + signed
    return bool(present) and not any(sums.values())


def _verify_absent(conn: Connection, site_id: int) -> Finding | None:
    """Look for events and lines of what is not there."""
    beside = ((RESOURCES[kind], shown.types) for kind, shown in SHOWN.items())
    for table, types in ((ledgers, _LEDGER_TYPES), (accounts, _ACCOUNT_TYPES), (entries, ENTRY_TYPES), *beside):
        query = (
            select(events.c.resource_id)
            .outerjoin(table, and_(table.c.site_id == events.c.site_id, table.c.id == events.c.resource_id))
            .where(events.c.site_id == site_id, among(events.c.type, types), table.c.id.is_(None))
        )
        missing = conn.execute(query.limit(1)).scalar()
        if missing is not None:
            return Finding(table=table.name, row=missing, detail="the feed tells of it, and it is not there")
    query = (
        select(lines.c.entry_id)
        .outerjoin(entries, and_(entries.c.site_id == lines.c.site_id, entries.c.id == lines.c.entry_id))
        .where(lines.c.site_id == site_id, entries.c.id.is_(None))
    )
    stray = conn.execute(query.limit(1)).scalar()
    return None if stray is None else Finding(table="lines", row=f"entry {stray}", detail="there is no such entry")


def _verify_lines(
    conn: Connection,
    site_id: int,
    progress: Progress,
    versions: dict[str, int],
) -> Finding | None:
    """Work every account's totals out again from its lines and compare them, line by line, then with its balance."""
    stored = {
        row.account_id: Totals(
            row.posted_debits,
            row.posted_credits,
            row.pending_debits,
            row.pending_credits,
            row.lock_version,
        )
        for row in conn.execute(select(balances).where(balances.c.site_id == site_id))
    }
    reached: dict[str, Totals] = {}
    for line in _lines_by_account(conn, site_id, progress):
        account_id = line["account_id"]
        row = f"entry {line['entry_id']} line {line['position']} version {line['version']}"
        if account_id not in versions:
            return Finding(table="lines", row=row, detail=f"there is no account {account_id}")
        if not _moves_its_amount(line):
            return Finding(table="lines", row=row, detail="what it moved is not its amount")
        before = reached.get(account_id, EMPTY)
        after = before.add(line["direction"], line["posted_moved"], line["pending_moved"])._replace(
            lock_version=line["account_lock_version"]
        )
        told = Totals(
            line["posted_debits"],
            line["posted_credits"],
            line["pending_debits"],
            line["pending_credits"],
            line["account_lock_version"],
        )
        if told != after or told.lock_version <= before.lock_version:
            return Finding(table="lines", row=row, detail=f"the resulting totals are {told[:4]}, not {after[:4]}")
        reached[account_id] = after
        versions[account_id] += 1
    return _wrong_balance(stored, reached, versions)


def _wrong_balance(
    stored: dict[str, Totals],
    reached: dict[str, Totals],
    versions: dict[str, int],
) -> Finding | None:
    for account_id in stored.keys() | versions.keys():
        if account_id not in stored or account_id not in versions:
            absent = "account" if account_id in stored else "balance"
            return Finding(table="balances", row=account_id, detail=f"there is no {absent} of this id")
        totals, found = stored[account_id], reached.get(account_id, EMPTY)
        if found[:4] != totals[:4]:
            return Finding(
                table="balances",
                row=account_id,
                detail=f"the totals are {totals[:4]}, the lines come to {found[:4]}",
            )
        if totals.lock_version != versions[account_id]:
            return Finding(
                table="balances",
                row=account_id,
                detail=f"lock_version is {totals.lock_version} after {versions[account_id]} lines and changes",
            )
    return None


def _moves_its_amount(line: Any) -> bool:
    match line["status"]:
        case "posted":
            return bool(line["posted_moved"] == line["amount"])
        case "pending":
            return bool(line["posted_moved"] == 0)
        case _:
            return bool((line["posted_moved"], line["pending_moved"]) == (0, -line["amount"]))


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


def _lines_by_account(conn: Connection, site_id: int, progress: Progress) -> Iterator[Any]:
    query = (
        select(lines)
        .where(lines.c.site_id == site_id)
        .order_by(lines.c.account_id, lines.c.account_lock_version)
        .limit(PAGE)
    )
    page = list(conn.execute(query).mappings())
    while page:
        yield from page
        progress(len(page))
        page = list(conn.execute(query.where(_behind(page[-1]))).mappings())


def _behind(line: Any) -> ColumnElement[bool]:
    # Not as one comparison of rows: PostgreSQL would be handed the id as text there, and compares no UUID with one.
    same = and_(
        lines.c.account_id == line["account_id"],
        lines.c.account_lock_version > line["account_lock_version"],
    )
    return or_(lines.c.account_id > line["account_id"], same)
