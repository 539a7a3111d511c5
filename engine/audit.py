"""Replaying the books: sequences, the hash chain, every line's totals, every balance; the first bad row is named.

It only reads, in pages, and trusts nothing that it can work out again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, select, tuple_

from engine.balances import EMPTY, Totals
from engine.events import chain, genesis_hash
from engine.feed import read_after, read_head
from engine.schema import balances, entries, lines

PAGE: Final = 2_000
Progress = Callable[[int], None]


class _Seen(msgspec.Struct):
    """What an envelope says of itself."""

    id: str
    type: str
    sequence: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """The first thing that is wrong: which row of which table, and how."""

    table: str
    row: str
    detail: str


def verify(conn: Connection, site_id: int, progress: Progress) -> Finding | None:
    """Return the first thing that is wrong with a site's books, or None; `progress` is told of rows looked at."""
    return (
        _verify_feed(conn, site_id, progress)
        or _verify_entries(conn, site_id, progress)
        or _verify_lines(conn, site_id, progress)
    )


def _verify_feed(conn: Connection, site_id: int, progress: Progress) -> Finding | None:
    head = read_head(conn, site_id)
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
            if (seen.id, seen.type, seen.sequence) != (event.id, event.type, event.sequence):
                return Finding(table="events", row=row, detail="the columns are not what the event says")
            if event.created_at < last_at:
                return Finding(table="events", row=row, detail="the time is before the event before it")
            previous, last_at = event.hash, event.created_at
        progress(len(page))
    if (sequence, previous) != (head.sequence, head.hash):
        return Finding(table="feeds", row=f"head {head.sequence}", detail=f"the feed ends at {sequence}")
    return None


def _verify_entries(conn: Connection, site_id: int, progress: Progress) -> Finding | None:
    """Check that the present lines of every entry are there, carry its status, and balance by currency."""
    last = ""
    while True:
        query = select(entries).where(entries.c.site_id == site_id).order_by(entries.c.id).limit(PAGE)
        page = list(conn.execute(query.where(entries.c.id > last) if last else query).mappings())
        if not page:
            return None
        last = page[-1]["id"]
        wanted = {(row["id"], row["lines_version"]): row for row in page}
        sums: dict[tuple[str, int], dict[str, int]] = {key: {} for key in wanted}
        present = select(
            lines.c.entry_id, lines.c.version, lines.c.direction, lines.c.amount, lines.c.currency, lines.c.status,
        ).where(lines.c.site_id == site_id, lines.c.entry_id >= page[0]["id"], lines.c.entry_id <= last)
        for line in conn.execute(present).mappings():
            key = (line["entry_id"], line["version"])
            if key not in wanted:
                continue
            if line["status"] != wanted[key]["status"]:
                return Finding(table="entries", row=key[0], detail="its status is not that of its lines")
            signed = line["amount"] if line["direction"] == "debit" else -line["amount"]
            sums[key][line["currency"]] = sums[key].get(line["currency"], 0) + signed
        for (entry_id, _), by_currency in sums.items():
            if not by_currency:
                return Finding(table="entries", row=entry_id, detail="it has no lines")
            if any(by_currency.values()):
                return Finding(table="entries", row=entry_id, detail="its debits and credits differ")
        progress(len(page))


def _verify_lines(conn: Connection, site_id: int, progress: Progress) -> Finding | None:
    """Work every account's totals out again from its lines and compare them, line by line, then with its balance."""
    stored = {
        row.account_id: Totals(
            row.posted_debits, row.posted_credits, row.pending_debits, row.pending_credits, row.lock_version,
        )
        for row in conn.execute(select(balances).where(balances.c.site_id == site_id))
    }
    reached: dict[str, Totals] = {}
    for line in _lines_by_account(conn, site_id, progress):
        account_id = line["account_id"]
        row = f"entry {line['entry_id']} line {line['position']} version {line['version']}"
        if account_id not in stored:
            return Finding(table="lines", row=row, detail=f"there is no balance of account {account_id}")
        before = reached.get(account_id, EMPTY)
        posted, pending = _moved(line)
        after = before.add(line["direction"], posted, pending)._replace(lock_version=line["account_lock_version"])
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
    for account_id, totals in stored.items():
        found = reached.get(account_id, EMPTY)
        if found[:4] != totals[:4] or found.lock_version > totals.lock_version:
            return Finding(
                table="balances", row=account_id, detail=f"the totals are {totals[:4]}, the lines come to {found[:4]}",
            )
    return None


def _moved(line: Any) -> tuple[int, int]:
    """Return what a line moved of the posted and of the pending total of its direction."""
    amount = line["amount"]
    if line["status"] == "pending":
        return 0, amount
    if line["status"] == "archived":
        return 0, -amount
    return amount, -amount if line["version"] > 1 else 0


def _lines_by_account(conn: Connection, site_id: int, progress: Progress) -> Iterator[Any]:
    last: tuple[str, int] | None = None
    while True:
        query = (
            select(lines)
            .where(lines.c.site_id == site_id)
            .order_by(lines.c.account_id, lines.c.account_lock_version)
            .limit(PAGE)
        )
        if last is not None:
            query = query.where(tuple_(lines.c.account_id, lines.c.account_lock_version) > tuple_(*last))
        page = list(conn.execute(query).mappings())
        if not page:
            return
        yield from page
        progress(len(page))
        last = (page[-1]["account_id"], page[-1]["account_lock_version"])
