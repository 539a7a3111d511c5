"""The rules of the chart of accounts: opening, changing and closing ledgers and accounts. Pure."""

from __future__ import annotations

from typing import Any, Final, cast

from msgspec import structs

from engine import effects, resources
from engine.balances import EMPTY, Direction, Totals
from engine.books import Books, Decision
from engine.commands import CloseAccount, CreateAccount, CreateLedger, UpdateAccount, UpdateLedger
from engine.currencies import exponent_of
from engine.entry_errors import PeriodNotOver
from engine.errors import (
    AccountClosed,
    AccountNotEmpty,
    AlreadyTaken,
    NotFound,
    PreconditionFailed,
)
from engine.events import EventDraft
from engine.occasion import Occasion
from engine.opening import account_row
from engine.reference_errors import AccountCodeTaken
from engine.rows import AccountRow, LedgerRow, ResourceRow
from engine.shapes import account_of, encode, ledger_of

NORMAL_BALANCE: Final[dict[str, Direction]] = {
    "asset": "debit",
    "expense": "debit",
    "liability": "credit",
    "equity": "credit",
    "revenue": "credit",
}


def create_ledger(command: CreateLedger, books: Books, occasion: Occasion) -> Decision:
    """Decide a new ledger."""
    _check_entity(command.entity_id, books)
    ledger: LedgerRow = {
        "site_id": occasion.site_id,
        "id": occasion.draw(),
        "entity_id": command.entity_id,
        "name": command.name,
        "description": command.description,
        "status": "active",
        "closed_until": None,
        "metadata": command.metadata,
        "lock_version": 1,
        "created_at": occasion.now_us,
        "updated_at": occasion.now_us,
    }
    return _decided_ledger(ledger, "ledger.created", occasion)


def update_ledger(command: UpdateLedger, books: Books, occasion: Occasion) -> Decision:
    """Decide a change of a ledger; the event tells what was there before."""
    ledger = books.ledger(command.ledger_id)
    if ledger is None:
        raise NotFound("ledger", command.ledger_id)
    _check_version(command.if_match, ledger["lock_version"])
    changes: dict[str, Any] = {}
    if command.name is not None:
        changes["name"] = command.name
    if command.clear_description or command.description is not None:
        changes["description"] = None if command.clear_description else command.description
    if command.metadata is not None:
        changes["metadata"] = command.metadata
    if command.reopen or command.closed_until is not None:
        changes["closed_until"] = None if command.reopen else command.closed_until
        if command.closed_until is not None and command.closed_until > occasion.now_us:
            raise PeriodNotOver(command.closed_until)
    if command.clear_entity or command.entity_id is not None:
        _check_entity(command.entity_id, books)
        changes["entity_id"] = None if command.clear_entity else command.entity_id
    row, previous = resources.changed(cast("ResourceRow", ledger), changes, occasion)
    changed = cast("LedgerRow", row)
    if not previous:
        answer = encode(ledger_of(changed))
        return Decision(answer=answer, resource_id=ledger["id"], lock_version=ledger["lock_version"], events=[])
    if "closed_until" in previous:
        previous["closed_until"] = ledger_of(ledger).closed_until
    return _decided_ledger(changed, "ledger.updated", occasion, encode(previous))


def create_account(command: CreateAccount, books: Books, occasion: Occasion) -> Decision:
    """Decide a new account: its ledger exists, its names are free, its currency has an exponent."""
    ledger = books.ledger(command.ledger_id)
    if ledger is None:
        raise NotFound("ledger", command.ledger_id, pointer="/ledger_id")
    if command.external_id is not None:
        holder = books.account_named(command.external_id)
        if holder is not None:
            raise AlreadyTaken("account", command.external_id, holder)
    _check_code(command.ledger_id, command.code, None, books)
    _check_entity(command.entity_id, books)
    exponent = exponent_of(command.currency, command.currency_exponent, books)
    normal = command.normal_balance or NORMAL_BALANCE[command.type]
    account = account_row(command.ledger_id, command.name, command.type, normal, command.currency, exponent, occasion)
    account["entity_id"] = ledger["entity_id"] if command.entity_id is None else command.entity_id
    account["description"] = command.description
    account["code"] = command.code
    account["external_id"] = command.external_id
    account["allow_negative"] = command.allow_negative
    account["limits"] = [structs.asdict(limit) for limit in command.limits]
    account["metadata"] = command.metadata
    return _decided_account(account, EMPTY.bump(), books, "account.created", occasion)


def update_account(command: UpdateAccount, books: Books, occasion: Occasion) -> Decision:
    """Decide a change of what an account is called or may come to; a closed one stays as it is."""
    account, totals = _account(command.account_id, command.if_match, books)
    if account["status"] == "closed":
        raise AccountClosed(account["id"])
    changes: dict[str, Any] = {}
    if command.name is not None:
        changes["name"] = command.name
    if command.clear_description or command.description is not None:
        changes["description"] = None if command.clear_description else command.description
    if command.clear_code or command.code is not None:
        changes["code"] = None if command.clear_code else command.code
        _check_code(account["ledger_id"], changes["code"], account["id"], books)
    if command.clear_entity or command.entity_id is not None:
        _check_entity(command.entity_id, books)
        changes["entity_id"] = None if command.clear_entity else command.entity_id
    if command.allow_negative is not None:
        changes["allow_negative"] = command.allow_negative
    if command.limits is not None:
        changes["limits"] = [structs.asdict(limit) for limit in command.limits]
    if command.metadata is not None:
        changes["metadata"] = command.metadata
    previous = {name: account[name] for name in changes if changes[name] != account[name]}  # type: ignore[literal-required]
    if not previous:
        return Decision(
            answer=encode(account_of(account, totals)),
            resource_id=account["id"],
            lock_version=totals.lock_version,
            events=[],
        )
    changed: AccountRow = {**account, **changes}  # type: ignore[typeddict-item]
    changed["updated_at"] = occasion.now_us
    return _decided_account(changed, totals.bump(), books, "account.updated", occasion, encode(previous))


def close_account(command: CloseAccount, books: Books, occasion: Occasion) -> Decision:
    """Decide to close an account: its posted balance is zero and nothing is pending on it."""
    account, totals = _account(command.account_id, command.if_match, books)
    if account["status"] == "closed":
        raise AccountClosed(account["id"])
    if not totals.empty():
        posted = abs(totals.posted_debits - totals.posted_credits)
        raise AccountNotEmpty(account["id"], posted, totals.pending_debits + totals.pending_credits)
    changed: AccountRow = account.copy()
    changed["status"] = "closed"
    changed["updated_at"] = occasion.now_us
    return _decided_account(changed, totals.bump(), books, "account.updated", occasion, encode({"status": "open"}))


def _check_code(ledger_id: str, code: str | None, own_id: str | None, books: Books) -> None:
    holder = None if code is None else books.account_coded(ledger_id, code)
    if code is not None and holder not in {None, own_id}:
        raise AccountCodeTaken(ledger_id, code, str(holder))


def _check_entity(entity_id: str | None, books: Books) -> None:
    if entity_id is not None and books.resource("entity", entity_id) is None:
        raise NotFound("entity", entity_id, pointer="/entity_id")


def _account(account_id: str, if_match: int | None, books: Books) -> tuple[AccountRow, Totals]:
    account = books.account(account_id)
    if account is None:
        raise NotFound("account", account_id)
    totals = books.totals(account_id)
    _check_version(if_match, totals.lock_version)
    return account, totals


def _check_version(if_match: int | None, lock_version: int) -> None:
    if if_match is not None and if_match != lock_version:
        raise PreconditionFailed(lock_version)


def _decided_ledger(ledger: LedgerRow, event_type: str, occasion: Occasion, previous: bytes | None = None) -> Decision:
    answer = encode(ledger_of(ledger))
    event = EventDraft(
        id=occasion.draw(),
        type=event_type,
        resource_type="ledger",
        resource_id=ledger["id"],
        data=answer,
        previous=previous,
    )
    return Decision(
        answer=answer,
        resource_id=ledger["id"],
        lock_version=ledger["lock_version"],
        events=[event],
        ledger=ledger,
    )


def _decided_account(
    account: AccountRow,
    totals: Totals,
    books: Books,
    event_type: str,
    occasion: Occasion,
    previous: bytes | None = None,
) -> Decision:
    answer = encode(account_of(account, totals))
    event = EventDraft(
        id=occasion.draw(),
        type=event_type,
        resource_type="account",
        resource_id=account["id"],
        data=answer,
        previous=previous,
    )
    decision = Decision(
        answer=answer,
        resource_id=account["id"],
        lock_version=totals.lock_version,
        events=[event],
        account=account,
        totals={account["id"]: totals},
    )
    return effects.follow(decision, books, occasion)
