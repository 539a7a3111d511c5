"""The SQL of the writer: what a batch reads before it is decided, and what it writes when it was."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Final, cast

from sqlalchemy import Connection, Table, select

from engine import category_store, idempotency, metadata_store
from engine.balances import Totals
from engine.books import Books, answers
from engine.changes import Changes
from engine.events import FeedEvent
from engine.feed import Head
from engine.fences import Fence, write_behind
from engine.idempotency import Remembered
from engine.needs import AccountsWith, Needs
from engine.rows import LIVE_STATUSES, AccountRow, EntryRow, LedgerRow, LineRow, ResourceRow
from engine.schema import (
    acceptances,
    account_categories,
    accounts,
    balance_monitors,
    balances,
    business_events,
    currencies,
    entities,
    entries,
    event_handlers,
    events,
    facts,
    feeds,
    fx_rates,
    holds,
    ledgers,
    lines,
    products,
)
from engine.sql import Insert, Update, among, write

_KEY: Final = ("site_id", "id")
_BALANCE: Final = ("site_id", "account_id", *Totals._fields)

RESOURCES: Final[Mapping[str, Table]] = {
    "acceptance": acceptances,
    "account_category": account_categories,
    "balance_monitor": balance_monitors,
    "fx_rate": fx_rates,
    "hold": holds,
    "business_event": business_events,
    "event_handler": event_handlers,
    "entity": entities,
    "currency": currencies,
    "product": products,
}
"""Where each kind of resource beside the books is kept, every table keyed by site and id."""

_DESCRIBED: Final = {
    kind: table.name for kind, table in {"ledger": ledgers, "account": accounts, "entry": entries, **RESOURCES}.items()
}


def load(conn: Connection, site_id: int, needs: Needs, books: Books | None = None) -> Books:
    """Read what the commands have to know; return it in these books, which may know something already."""
    books = books or Books()
    stored: list[tuple[EntryRow, list[LineRow]]] = []
    candidates: dict[AccountsWith, list[str]] = {}
    if needs.entries:
        stored = entries_by_id(conn, site_id, needs.entries)
        books.learn(entries=stored)
        for row, _ in stored:
            if row["fx_rate_id"] is not None:
                needs.exchange(row["fx_rate_id"])
    for (kind, column), values in needs.resources.items():
        table = RESOURCES[kind]
        query = select(table).where(table.c.site_id == site_id, among(table.c[column], values))
        books.learn(resources=[(kind, dict(row)) for row in conn.execute(query).mappings()])
    watched = category_store.subjects(books)
    wanted = needs.accounts.union((line["account_id"] for _, rows in stored for line in rows), watched["account"])
    if needs.account_external_ids:
        wanted = wanted.union(_named_accounts(conn, site_id, needs.account_external_ids))
    if needs.accounts_with:
        candidates = metadata_store.candidates(conn, site_id, needs.accounts_with)
        wanted = wanted.union(account_id for found in candidates.values() for account_id in found)
    found = accounts_by_id(conn, site_id, wanted)
    exchanging = needs.exchanging.union(account["ledger_id"] for account, _ in found if needs.purposeful)
    if exchanging:
        found += _purposeful(conn, site_id, exchanging)
    found += _coded(conn, site_id, needs, found)
    books.learn(accounts=found)
    for question, among_these in candidates.items():
        answering = [each for each in among_these if answers(books.account(each), question)]
        books.learn(told=[(question, answering[: question.limit])])
    wanted_ledgers = (
        needs.ledgers.union(account["ledger_id"] for account, _ in found) if needs.periods else needs.ledgers
    )
    if wanted_ledgers:
        query = select(ledgers).where(ledgers.c.site_id == site_id, among(ledgers.c.id, wanted_ledgers))
        books.learn(ledgers=[cast("LedgerRow", dict(row)) for row in conn.execute(query).mappings()])
    if needs.entry_external_ids:
        live = select(entries.c.external_id, entries.c.id).where(
            entries.c.site_id == site_id,
            among(entries.c.external_id, needs.entry_external_ids),
            among(entries.c.status, LIVE_STATUSES),
        )
        books.learn(live=[(row.external_id, row.id) for row in conn.execute(live)])
    if needs.facts:
        query = select(facts.c.key, facts.c.event_id).where(facts.c.site_id == site_id, among(facts.c.key, needs.facts))
        books.learn(facts=[(row.key, row.event_id) for row in conn.execute(query)])
    if needs.handled_names:
        books.learn(resources=[("event_handler", row) for row in _handlers_of(conn, site_id, needs.handled_names)])
    category_store.learn(conn, site_id, books, needs.categories | watched["account_category"], needs.links)
    return books


def due_holds(conn: Connection, site_id: int, now_us: int, limit: int) -> tuple[list[str], int | None]:
    """Return at most so many open holds whose time is over, and when the next one's is."""
    query = (
        select(holds.c.id, holds.c.expires_at)
        .where(holds.c.site_id == site_id, holds.c.status == "open")
        .order_by(holds.c.expires_at, holds.c.id)
        .limit(limit + 1)
    )
    rows = conn.execute(query).all()
    due = [row for row in rows[:limit] if row.expires_at <= now_us]
    return [row.id for row in due], rows[len(due)].expires_at if len(rows) > len(due) else None


def acceptances_of(conn: Connection, site_id: int, entry_ids: Collection[str]) -> dict[str, ResourceRow]:
    """Return what entries were accepted with, by entry id."""
    query = select(acceptances).where(acceptances.c.site_id == site_id, among(acceptances.c.id, entry_ids))
    return {row["id"]: dict(row) for row in conn.execute(query).mappings()}


def accepted_after(conn: Connection, site_id: int, position: int, limit: int) -> list[ResourceRow]:
    """Return what was accepted after a position, in order."""
    query = (
        select(acceptances)
        .where(acceptances.c.site_id == site_id, acceptances.c.position > position)
        .order_by(acceptances.c.position)
        .limit(limit)
    )
    return [dict(row) for row in conn.execute(query).mappings()]


def save(
    conn: Connection,
    site_id: int,
    changes: Changes,
    remembered: Sequence[Remembered],
    head: Head,
) -> None:
    """Write everything that the batch came to, the answers to remember and the new head, in one go."""
    # First and by itself: an entry that was archived gives up the external id that a new one may have taken since.
    write(conn, [Update(table=entries, keys=_KEY, rows=list(changes.changed_entries.values()))])
    moved = Update(table=feeds, keys=("site_id",), rows=[{"site_id": site_id, **_feed_row(changes, head)}])
    write(conn, [*_written(site_id, changes, remembered, head), moved])
    metadata_store.drop(conn, site_id, metadata_store.dropped(_described(changes)))
    category_store.save_places(conn, site_id, changes.placed, changes.linked)


def save_ahead(
    conn: Connection,
    site_id: int,
    changes: Changes,
    remembered: Sequence[Remembered],
    known: Head,
    head: Head,
    idempotency_days: int,
) -> bool:
    """Write all that a batch came to which was decided on this known head, if it still is; tell whether it was.

    Not if one of its idempotency keys is known already, either. Raises IntegrityError where an entry's external id is taken.
    """
    fence = Fence(
        table=feeds,
        keys={"site_id": site_id},
        expected={
            "head": known.sequence,
            "head_hash": known.hash,
            "holds_due_at": known.holds_due_at,
            "accepted": known.accepted,
            "accepted_done": known.accepted_done,
            "fence": known.fence,
            "state": "active",
        },
        row=_feed_row(changes, head),
        unless=idempotency.unused(site_id, [each.key.key for each in remembered], head.last_at, idempotency_days),
    )
    return write_behind(conn, fence, _written(site_id, changes, remembered, head))


def can_save_ahead(changes: Changes) -> bool:
    """Tell whether all that a batch came to is written by one statement."""
    gone = metadata_store.dropped(_described(changes))
    return not (changes.changed_entries or gone or changes.placed or changes.linked)


def _feed_row(changes: Changes, head: Head) -> dict[str, Any]:
    row: dict[str, Any] = {
        "holds_due_at": head.holds_due_at,
        "accepted": head.accepted,
        "accepted_done": head.accepted_done,
        "fence": head.fence,
    }
    if changes.events:
        row |= {"head": head.sequence, "head_hash": head.hash, "last_at": head.last_at}
    return row


def _written(site_id: int, changes: Changes, remembered: Sequence[Remembered], head: Head) -> list[Insert | Update]:
    opened = changes.new_accounts
    totals = [
        dict(zip(_BALANCE, (site_id, account_id, *each), strict=True)) for account_id, each in changes.totals.items()
    ]
    return [
        Insert(table=ledgers, rows=list(changes.new_ledgers.values())),
        Update(table=ledgers, keys=_KEY, rows=list(changes.changed_ledgers.values())),
        Insert(table=accounts, rows=list(changes.new_accounts.values())),
        Update(table=accounts, keys=_KEY, rows=list(changes.changed_accounts.values())),
        Insert(table=balances, rows=[row for row in totals if row["account_id"] in opened]),
        Update(
            table=balances,
            keys=("site_id", "account_id"),
            rows=[row for row in totals if row["account_id"] not in opened],
        ),
        Insert(table=entries, rows=list(changes.new_entries.values())),
        Insert(table=lines, rows=changes.lines),
        Insert(
            table=facts,
            rows=[{"site_id": site_id, "key": key, "event_id": event_id} for key, event_id in changes.facts],
        ),
        Insert(table=events, rows=[_event_row(site_id, event) for event in changes.events]),
        *(Insert(table=RESOURCES[kind], rows=list(rows.values())) for kind, rows in changes.new_resources.items()),
        *(
            Update(table=RESOURCES[kind], keys=_KEY, rows=list(rows.values()))
            for kind, rows in changes.changed_resources.items()
        ),
        metadata_store.added(site_id, _described(changes)),
        *category_store.moved(site_id, changes.new_category_totals, changes.category_totals),
        idempotency.records(site_id, remembered, head.last_at),
    ]


def _described(changes: Changes) -> metadata_store.Described:
    return {(_DESCRIBED[kind], id_): pairs for (kind, id_), pairs in changes.described.items()}


def _event_row(site_id: int, event: FeedEvent) -> dict[str, Any]:
    return {
        "site_id": site_id,
        "sequence": event.sequence,
        "id": event.id,
        "type": event.type,
        "resource_id": event.resource_id,
        "created_at": event.created_at,
        "body": event.body,
        "hash": event.hash,
        "correlation_id": event.correlation_id,
    }


def lines_of_entries(conn: Connection, site_id: int, wanted: Iterable[tuple[str, int]]) -> dict[str, list[LineRow]]:
    """Return the lines of entries by entry id, in order; each entry is asked for with its lines' version.

    What a version took back is not among them.
    """
    versions = dict(wanted)
    query = (
        select(lines)
        .where(lines.c.site_id == site_id, among(lines.c.entry_id, versions))
        .order_by(lines.c.entry_id, lines.c.position)
    )
    found: dict[str, list[LineRow]] = {entry_id: [] for entry_id in versions}
    for row in conn.execute(query).mappings():
        if row["version"] == versions[row["entry_id"]] and row["status"] != "discarded":
            found[row["entry_id"]].append(cast("LineRow", dict(row)))
    return found


def entries_by_id(conn: Connection, site_id: int, wanted: Iterable[str]) -> list[tuple[EntryRow, list[LineRow]]]:
    """Return entries with the present version of their lines, those of the ids that exist, in no order."""
    query = select(entries).where(entries.c.site_id == site_id, among(entries.c.id, wanted))
    rows = [cast("EntryRow", dict(row)) for row in conn.execute(query).mappings()]
    if not rows:
        return []
    found = lines_of_entries(conn, site_id, ((row["id"], row["lines_version"]) for row in rows))
    return [(row, found[row["id"]]) for row in rows]


def accounts_by_id(conn: Connection, site_id: int, wanted: Collection[str]) -> list[tuple[AccountRow, Totals]]:
    """Return accounts with their totals, those of the ids that exist, in no order.

    Each table is asked by its key: joined, one of them might be read whole where the planner takes a site for small.
    """
    if not wanted:
        return []
    rows = conn.execute(select(accounts).where(accounts.c.site_id == site_id, among(accounts.c.id, wanted))).mappings()
    totals = conn.execute(
        select(
            balances.c.account_id,
            balances.c.posted_debits,
            balances.c.posted_credits,
            balances.c.pending_debits,
            balances.c.pending_credits,
            balances.c.lock_version,
        ).where(balances.c.site_id == site_id, among(balances.c.account_id, wanted)),
    )
    totals_of = {account_id: Totals(*found) for account_id, *found in totals}
    return [(cast("AccountRow", dict(row)), totals_of[row["id"]]) for row in rows]


def _purposeful(conn: Connection, site_id: int, ledger_ids: Collection[str]) -> list[tuple[AccountRow, Totals]]:
    """Return the accounts of ledgers that the books use for themselves."""
    query = select(accounts.c.id).where(
        accounts.c.site_id == site_id, among(accounts.c.ledger_id, ledger_ids), accounts.c.purpose.is_not(None)
    )
    return accounts_by_id(conn, site_id, list(conn.execute(query).scalars()))


def _named_accounts(conn: Connection, site_id: int, external_ids: Collection[str]) -> list[str]:
    query = select(accounts.c.id).where(accounts.c.site_id == site_id, among(accounts.c.external_id, external_ids))
    return list(conn.execute(query).scalars())


def _coded(
    conn: Connection, site_id: int, needs: Needs, known: Sequence[tuple[AccountRow, Totals]]
) -> list[tuple[AccountRow, Totals]]:
    """Return the accounts that have codes in the ledgers in which it matters, but for those that are known."""
    ledger_of = {account["id"]: account["ledger_id"] for account, _ in known}
    beside = {(ledger_of[account_id], code) for account_id, code in needs.codes_beside if account_id in ledger_of}
    wanted = needs.account_codes | beside
    if not wanted:
        return []
    query = select(accounts.c.id).where(
        accounts.c.site_id == site_id,
        among(accounts.c.code, {code for _, code in wanted}),
        among(accounts.c.ledger_id, {ledger_id for ledger_id, _ in wanted}),
    )
    return accounts_by_id(conn, site_id, [each for each in conn.execute(query).scalars() if each not in ledger_of])


def _handlers_of(conn: Connection, site_id: int, names: Collection[str]) -> list[ResourceRow]:
    """Return the active handlers that may match an event of one of the names: those that demand it, or none."""
    query = select(event_handlers).where(
        event_handlers.c.site_id == site_id,
        event_handlers.c.status == "active",
        among(event_handlers.c.event_name, {"", *names}),
    )
    return [dict(row) for row in conn.execute(query).mappings()]
