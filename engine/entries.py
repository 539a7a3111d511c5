"""The rules of entries: posting, reserving, resolving, changing what they are called. Pure."""

from __future__ import annotations

from typing import Final, Literal, cast

from engine import effects
from engine import lines as mechanics
from engine.balances import Totals
from engine.books import Books, Decision
from engine.commands import ArchiveEntry, PostEntry, PostPending, UpdateEntry
from engine.errors import DuplicateEntry, EntryNotPending, NotFound, PreconditionFailed
from engine.events import BatchPlace, EventDraft
from engine.occasion import Occasion
from engine.rows import AccountRow, EntryRow, LineRow
from engine.shapes import encode, entry_of

_EVENT_OF: Final = {"pending": "entry.created", "posted": "entry.posted", "archived": "entry.archived"}


def post_entry(
    command: PostEntry,
    books: Books,
    occasion: Occasion,
    place: BatchPlace | None = None,
) -> Decision:
    """Decide a new entry: its lines balance, its accounts can take it."""
    accounts = mechanics.accounts(command.lines, books)
    mechanics.check_ledger(accounts)
    mechanics.check_balanced(command.lines, accounts)
    if command.external_id is not None:
        holder = books.live_entry(command.external_id)
        if holder is not None:
            raise DuplicateEntry(command.external_id, holder)
    now = occasion.now_us
    entry: EntryRow = {
        "site_id": occasion.site_id,
        "id": occasion.draw(),
        "ledger_id": accounts[0]["ledger_id"],
        "status": command.status,
        "description": command.description,
        "external_id": command.external_id,
        "metadata": command.metadata,
        "effective_at": now if command.effective_at is None else command.effective_at,
        "posted_at": now if command.status == "posted" else None,
        "lines_version": 1,
        "lock_version": 1,
        "reverses": None,
        "reversed_by": None,
        "business_event_id": None,
        "created_at": now,
        "updated_at": now,
    }
    totals = mechanics.check_versions(command.lines, accounts, books)
    before = dict(totals)
    pending = command.status == "pending"
    lines: list[LineRow] = []
    for position, (draft, account) in enumerate(zip(command.lines, accounts, strict=True)):
        amount = draft.amount
        lines.append(
            mechanics.move(
                entry,
                1,
                position,
                occasion.draw(),
                account,
                draft.direction,
                amount,
                draft.metadata,
                totals,
                posted=0 if pending else amount,
                pending=amount if pending else 0,
                now=now,
            ),
        )
    mechanics.check_funds(before, totals, lines, accounts)
    return _decided(entry, lines, totals, books, occasion, place=place)


def update_entry(command: UpdateEntry, books: Books, occasion: Occasion) -> Decision:
    """Decide a change of description or metadata; the event tells what they were."""
    entry = _entry(command.entry_id, command.if_match, books)
    changed: EntryRow = entry.copy()
    previous: dict[str, object] = {}
    if command.clear_description or command.description is not None:
        description = None if command.clear_description else command.description
        if description != entry["description"]:
            previous["description"] = entry["description"]
            changed["description"] = description
    if command.metadata is not None and command.metadata != entry["metadata"]:
        previous["metadata"] = entry["metadata"]
        changed["metadata"] = command.metadata
    lines = books.lines(entry["id"])
    if not previous:
        return Decision(
            answer=encode(entry_of(entry, lines)),
            resource_id=entry["id"],
            lock_version=entry["lock_version"],
            events=[],
        )
    changed["lock_version"] += 1
    changed["updated_at"] = occasion.now_us
    decision = _decided(changed, lines, {}, books, occasion, event_type="entry.updated", previous=encode(previous))
    decision.lines = []
    return decision


def resolve_entry(
    command: PostPending | ArchiveEntry,
    status: Literal["posted", "archived"],
    books: Books,
    occasion: Occasion,
) -> Decision:
    """Post a pending entry or give it up: what was reserved moves or is free. It never fails for balance reasons."""
    entry = _entry(command.entry_id, command.if_match, books)
    if entry["status"] != "pending":
        raise EntryNotPending(entry["id"], entry["status"])
    now = occasion.now_us
    changed: EntryRow = entry.copy()
    changed["status"] = status
    changed["posted_at"] = now if status == "posted" else None
    changed["lines_version"] += 1
    changed["lock_version"] += 1
    changed["updated_at"] = now
    reserved = books.lines(entry["id"])
    accounts = [cast("AccountRow", books.account(line["account_id"])) for line in reserved]
    totals = {account["id"]: books.totals(account["id"]) for account in accounts}
    version = changed["lines_version"]
    lines = [
        mechanics.move(changed, version, line["position"], line["id"], account, line["direction"], line["amount"],
              line["metadata"], totals, posted=line["amount"] if status == "posted" else 0, pending=-line["amount"],
              now=now)
        for line, account in zip(reserved, accounts, strict=True)
    ]  # fmt: skip
    return _decided(changed, lines, totals, books, occasion)


def _entry(entry_id: str, if_match: int | None, books: Books) -> EntryRow:
    entry = books.entry(entry_id)
    if entry is None:
        raise NotFound("entry", entry_id)
    if if_match is not None and if_match != entry["lock_version"]:
        raise PreconditionFailed(entry["lock_version"])
    return entry


def _decided(
    entry: EntryRow,
    lines: list[LineRow],
    totals: dict[str, Totals],
    books: Books,
    occasion: Occasion,
    *,
    event_type: str | None = None,
    previous: bytes | None = None,
    place: BatchPlace | None = None,
) -> Decision:
    answer = encode(entry_of(entry, lines))
    event = EventDraft(
        id=occasion.draw(),
        type=_EVENT_OF[entry["status"]] if event_type is None else event_type,
        resource_type="entry",
        resource_id=entry["id"],
        data=answer,
        previous=previous,
        batch=place,
    )
    decision = Decision(
        answer=answer,
        resource_id=entry["id"],
        lock_version=entry["lock_version"],
        events=[event],
        entries=[entry],
        lines=lines,
        totals=totals,
    )
    return effects.follow(decision, books)
