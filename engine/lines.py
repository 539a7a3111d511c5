"""The mechanics of lines: finding their accounts, moving totals, checking what must hold. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from engine.balances import Totals
from engine.books import Books
from engine.commands import EXTERNAL, LineDraft
from engine.errors import (
    AccountClosed,
    AccountNotFound,
    AmountOutOfRange,
    FxRateRequired,
    InsufficientFunds,
    LockVersionConflict,
    SeveralLedgers,
    UnbalancedEntry,
)
from engine.rows import AccountRow, EntryRow, LineRow


def accounts(lines: Sequence[LineDraft], books: Books) -> list[AccountRow]:
    """Return the account of every line; raises AccountNotFound for all that are missing, and AccountClosed."""
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


def check_ledger(accounts: Sequence[AccountRow]) -> None:
    """Check that all accounts are in one ledger."""
    ledger_id = accounts[0]["ledger_id"]
    for position, account in enumerate(accounts):
        if account["ledger_id"] != ledger_id:
            raise SeveralLedgers(position, ledger_id, account["ledger_id"])


def check_balanced(lines: Sequence[LineDraft], accounts: Sequence[AccountRow]) -> None:
    """Check that debits equal credits."""
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


def check_versions(
    lines: Sequence[LineDraft],
    accounts: Sequence[AccountRow],
    books: Books,
) -> dict[str, Totals]:
    """Return the present totals of the accounts; raises LockVersionConflict where a line demands another version."""
    totals: dict[str, Totals] = {}
    for position, (line, account) in enumerate(zip(lines, accounts, strict=True)):
        account_id = account["id"]
        present = totals.get(account_id)
        if present is None:
            present = totals[account_id] = books.totals(account_id)
        if line.lock_version is not None and line.lock_version != present.lock_version:
            raise LockVersionConflict(account_id, position, line.lock_version, present.lock_version)
    return totals


def move(
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


def check_funds(
    before: dict[str, Totals],
    after: dict[str, Totals],
    lines: Sequence[LineRow],
    accounts: Sequence[AccountRow],
) -> None:
    """Check that no account falls below zero that must not, unless it is better off than before."""
    for line, account in zip(lines, accounts, strict=True):
        if account["allow_negative"]:
            continue
        account_id, normal = account["id"], account["normal_balance"]
        resulting = after[account_id].available(normal)
        available = before[account_id].available(normal)
        if resulting < 0 and resulting < available and line["direction"] != normal:
            raise InsufficientFunds(account_id, line["position"], available, resulting)
