"""The rules of double entry: a command and what it touches in, a decision or a refusal out. Pure.

It changes nothing it is given, reads no clock, draws no ids but from its arguments. What it refuses, it refuses before
anything was decided.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal, cast

import msgspec

from engine import chart
from engine.balances import Totals
from engine.books import Books, Decision
from engine.commands import (
    EXTERNAL,
    ArchiveEntry,
    CloseAccount,
    Command,
    CreateAccount,
    CreateLedger,
    LineDraft,
    PostBatch,
    PostEntry,
    PostPending,
    RecordFact,
    UpdateAccount,
    UpdateEntry,
    UpdateLedger,
)
from engine.errors import (
    AccountClosed,
    AccountNotFound,
    AmountOutOfRange,
    DuplicateEntry,
    EntryNotPending,
    FxRateRequired,
    InsufficientFunds,
    LockVersionConflict,
    NotFound,
    PreconditionFailed,
    Refused,
    SeveralLedgers,
    UnbalancedEntry,
)
from engine.events import BatchPlace, EventDraft
from engine.occasion import Occasion
from engine.rows import AccountRow, EntryRow, LineRow
from engine.shapes import EntryBatch, encode, entry_of

_EVENT_OF: Final = {"pending": "entry.created", "posted": "entry.posted", "archived": "entry.archived"}


def decide(command: Command, books: Books, occasion: Occasion) -> Decision:
    """Decide a command against the books; raises a Refused and leaves everything as it was."""
    match command:
        case PostEntry():
            return post_entry(command, books, occasion)
        case PostBatch():
            return post_batch(command, books, occasion)
        case PostPending():
            return _resolve(command, "posted", books, occasion)
        case ArchiveEntry():
            return _resolve(command, "archived", books, occasion)
        case UpdateEntry():
            return update_entry(command, books, occasion)
        case CreateLedger():
            return chart.create_ledger(command, occasion)
        case UpdateLedger():
            return chart.update_ledger(command, books, occasion)
        case CreateAccount():
            return chart.create_account(command, books, occasion)
        case UpdateAccount():
            return chart.update_account(command, books, occasion)
        case CloseAccount():
            return chart.close_account(command, books, occasion)
        case RecordFact():
            return record_fact(command, books, occasion)


def post_entry(
    command: PostEntry,
    books: Books,
    occasion: Occasion,
    place: BatchPlace | None = None,
) -> Decision:
    """Decide a new entry: its lines balance, its accounts can take it."""
    accounts = _accounts(command.lines, books)
    _check_ledger(accounts)
    _check_balanced(command.lines, accounts)
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
    totals = _check_versions(command.lines, accounts, books)
    before = dict(totals)
    pending = command.status == "pending"
    lines: list[LineRow] = []
    for position, (draft, account) in enumerate(zip(command.lines, accounts, strict=True)):
        amount = draft.amount
        lines.append(
            _line(
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
    _check_funds(before, totals, lines, accounts)
    return _decided(entry, lines, totals, occasion, place=place)


def post_batch(command: PostBatch, books: Books, occasion: Occasion) -> Decision:
    """Decide several entries, each seeing what those before it did; one refusal refuses all, saying which."""
    layer = Books(books)
    batch_id = occasion.draw()
    count = len(command.entries)
    merged = Decision(answer=b"", resource_id=batch_id, lock_version=None, events=[])
    answers = []
    for index, entry in enumerate(command.entries):
        try:
            decision = post_entry(entry, layer, occasion, BatchPlace(batch_id, index + 1, count))
        except Refused as refused:
            refused.within(f"/entries/{index}")
            raise
        layer.apply(decision)
        answers.append(msgspec.Raw(decision.answer))
        merged.events += decision.events
        merged.entries += decision.entries
        merged.lines += decision.lines
        merged.totals.update(decision.totals)
    merged.answer = encode(EntryBatch(batch_id, "atomic", answers))
    return merged


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
    decision = _decided(changed, lines, {}, occasion, event_type="entry.updated", previous=encode(previous))
    decision.lines = []
    return decision


def record_fact(command: RecordFact, books: Books, occasion: Occasion) -> Decision:
    """Decide to put a fact into the feed, once for its key."""
    recorded = books.fact(command.key)
    if recorded is not None:
        return Decision(answer=command.data, resource_id=recorded, lock_version=None, events=[])
    event = EventDraft(
        id=occasion.draw(),
        type=command.type,
        resource_type=command.resource_type,
        resource_id=command.resource_id,
        data=command.data,
    )
    return Decision(
        answer=command.data,
        resource_id=event.id,
        lock_version=None,
        events=[event],
        fact=command.key,
    )


def _resolve(
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
        _line(changed, version, line["position"], line["id"], account, line["direction"], line["amount"],
              line["metadata"], totals, posted=line["amount"] if status == "posted" else 0, pending=-line["amount"],
              now=now)
        for line, account in zip(reserved, accounts, strict=True)
    ]  # fmt: skip
    return _decided(changed, lines, totals, occasion)


def _entry(entry_id: str, if_match: int | None, books: Books) -> EntryRow:
    entry = books.entry(entry_id)
    if entry is None:
        raise NotFound("entry", entry_id)
    if if_match is not None and if_match != entry["lock_version"]:
        raise PreconditionFailed(entry["lock_version"])
    return entry


def _accounts(lines: Sequence[LineDraft], books: Books) -> list[AccountRow]:
    found: list[AccountRow] = []
    missing: list[tuple[int, str]] = []
    for position, line in enumerate(lines):
        named = line.account.startswith(EXTERNAL)
        account_id = books.account_named(line.account[len(EXTERNAL) :]) if named else line.account
        account = None if account_id is None else books.account(account_id)
        if account is None:
            missing.append((position, line.account))
        else:
            found.append(account)
    if missing:
        raise AccountNotFound(tuple(missing))
    for position, account in enumerate(found):
        if account["status"] == "closed":
            raise AccountClosed(account["id"], pointer=f"/lines/{position}/account_id")
    return found


def _check_ledger(accounts: Sequence[AccountRow]) -> None:
    ledger_id = accounts[0]["ledger_id"]
    for position, account in enumerate(accounts):
        if account["ledger_id"] != ledger_id:
            raise SeveralLedgers(position, ledger_id, account["ledger_id"])


def _check_balanced(lines: Sequence[LineDraft], accounts: Sequence[AccountRow]) -> None:
    currency = accounts[0]["currency"]
    debits = credits_ = 0
    for line, account in zip(lines, accounts, strict=True):
        if account["currency"] != currency or account["currency_exponent"] != accounts[0]["currency_exponent"]:
            raise FxRateRequired(tuple(sorted({each["currency"] for each in accounts})))
        if line.direction == "debit":
            debits += line.amount
        else:
            credits_ += line.amount
    if debits != credits_:
        raise UnbalancedEntry(currency, debits, credits_)


def _check_versions(
    lines: Sequence[LineDraft],
    accounts: Sequence[AccountRow],
    books: Books,
) -> dict[str, Totals]:
    totals: dict[str, Totals] = {}
    for position, (line, account) in enumerate(zip(lines, accounts, strict=True)):
        account_id = account["id"]
        present = totals.get(account_id)
        if present is None:
            present = totals[account_id] = books.totals(account_id)
        if line.lock_version is not None and line.lock_version != present.lock_version:
            raise LockVersionConflict(account_id, position, line.lock_version, present.lock_version)
    return totals


def _line(
    entry: EntryRow,
    version: int,
    position: int,
    line_id: str,
    account: AccountRow,
    direction: Literal["debit", "credit"],
    amount: int,
    metadata: dict[str, str],
    totals: dict[str, Totals],
    *,
    posted: int,
    pending: int,
    now: int,
) -> LineRow:
    """Move the account's totals, and return the line with what they are after it."""
    account_id = account["id"]
    after = totals[account_id] = totals[account_id].add(direction, posted, pending)
    if not after.in_range():
        raise AmountOutOfRange(account_id, position)
    return {
        "site_id": entry["site_id"],
        "entry_id": entry["id"],
        "version": version,
        "position": position,
        "id": line_id,
        "account_id": account_id,
        "direction": direction,
        "amount": amount,
        "currency": account["currency"],
        "normal_balance": account["normal_balance"],
        "status": entry["status"],
        "metadata": metadata,
        "account_lock_version": after.lock_version,
        "posted_debits": after.posted_debits,
        "posted_credits": after.posted_credits,
        "pending_debits": after.pending_debits,
        "pending_credits": after.pending_credits,
        "effective_at": entry["effective_at"],
        "created_at": now,
    }


def _check_funds(
    before: dict[str, Totals],
    after: dict[str, Totals],
    lines: Sequence[LineRow],
    accounts: Sequence[AccountRow],
) -> None:
    for line, account in zip(lines, accounts, strict=True):
        if account["allow_negative"]:
            continue
        account_id, normal = account["id"], account["normal_balance"]
        resulting = after[account_id].available(normal)
        available = before[account_id].available(normal)
        if resulting < 0 and resulting < available and line["direction"] != normal:
            raise InsufficientFunds(account_id, line["position"], available, resulting)


def _decided(
    entry: EntryRow,
    lines: list[LineRow],
    totals: dict[str, Totals],
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
    return Decision(
        answer=answer,
        resource_id=entry["id"],
        lock_version=entry["lock_version"],
        events=[event],
        entries=[entry],
        lines=lines,
        totals=totals,
    )
