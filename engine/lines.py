"""The mechanics of lines: finding their accounts, moving totals, checking what must hold. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from engine import opening
from engine.balances import EMPTY, Totals
from engine.books import Books
from engine.commands import EXTERNAL, Condition, LineDraft, LinePart
from engine.entry_errors import ConditionFailed, LineNotFound, PartExceedsLine, PeriodClosed, Unmet
from engine.errors import (
    AccountClosed,
    AccountNotFound,
    AmountOutOfRange,
    InsufficientFunds,
    LockVersionConflict,
    SeveralLedgers,
    UnbalancedEntry,
)
from engine.events import EventDraft
from engine.fx import Leg
from engine.occasion import Occasion
from engine.rows import AccountRow, EntryRow, LineRow


class Moves:
    """What one command moves: its lines as they come about, and the totals of the accounts they touch."""

    def __init__(self, books: Books, occasion: Occasion) -> None:
        """Start with nothing moved."""
        self.books = books
        self.occasion = occasion
        self.before: dict[str, Totals] = {}
        self.totals: dict[str, Totals] = {}
        self.lines: list[LineRow] = []
        self.opened: list[AccountRow] = []
        self.events: list[EventDraft] = []

    def account_for(self, leg: Leg, ledger_id: str) -> AccountRow:
        """Return the account of the ledger that an exchange passes through, opened here where there is none yet."""
        account, event = opening.account_for(leg, ledger_id, self.books, self.occasion)
        if event is not None:
            self.opened.append(account)
            self.events.append(event)
            self.before[account["id"]] = self.totals[account["id"]] = EMPTY.bump()
        return account

    def present(self, account_id: str) -> Totals:
        """Return an account's totals after the moves so far."""
        found = self.totals.get(account_id)
        if found is None:
            found = self.before[account_id] = self.totals[account_id] = self.books.totals(account_id)
        return found

    def add(
        self,
        entry: EntryRow,
        position: int,
        line_id: str,
        account: AccountRow,
        direction: Literal["debit", "credit"],
        amount: int,
        metadata: dict[str, str],
        status: Literal["pending", "posted", "archived", "discarded"],
        posted: int,
        pending: int,
        effective_at: int,
    ) -> None:
        """Move the account's totals by `posted` and `pending`, and keep the line with what they are after it.

        It is a line of the entry's present version. Raises AmountOutOfRange.
        """
        account_id = account["id"]
        after = self.totals[account_id] = self.present(account_id).add(direction, posted, pending)
        if not after.in_range():
            raise AmountOutOfRange(account_id, position)
        self.lines.append(
            {
                "site_id": entry["site_id"],
                "entry_id": entry["id"],
                "version": entry["lines_version"],
                "position": position,
                "id": line_id,
                "account_id": account_id,
                "direction": direction,
                "amount": amount,
                "currency": account["currency"],
                "normal_balance": account["normal_balance"],
                "status": status,
                "metadata": metadata,
                "posted_moved": posted,
                "pending_moved": pending,
                "account_lock_version": after.lock_version,
                "posted_debits": after.posted_debits,
                "posted_credits": after.posted_credits,
                "pending_debits": after.pending_debits,
                "pending_credits": after.pending_credits,
                "effective_at": effective_at,
                "created_at": self.occasion.now_us,
            },
        )

    def discard(self, entry: EntryRow, position: int, line: LineRow, account: AccountRow, effective_at: int) -> None:
        """Take back what a pending line reserves, at the time it was reserved for."""
        amount = line["amount"]
        self.add(
            entry,
            position,
            line["id"],
            account,
            line["direction"],
            amount,
            line["metadata"],
            "discarded",
            0,
            -amount,
            effective_at,
        )


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
        raise AccountNotFound(missing)
    for position, account in enumerate(found):
        if account["status"] == "closed":
            raise AccountClosed(account["id"], pointer=f"/lines/{position}/account_id")
    return found


def check_ledger(accounts: Sequence[AccountRow], ledger_id: str) -> None:
    """Check that all accounts are in one ledger."""
    for position, account in enumerate(accounts):
        if account["ledger_id"] != ledger_id:
            raise SeveralLedgers(position, ledger_id, account["ledger_id"])


def check_open(accounts: Sequence[AccountRow]) -> None:
    """Check that no account is closed."""
    for account in accounts:
        if account["status"] == "closed":
            raise AccountClosed(account["id"])


def check_period(ledger_id: str, effective_at: int, books: Books) -> None:
    """Check that a ledger still takes entries of this time; a ledger that was not asked for is open."""
    ledger = books.ledger(ledger_id)
    closed_until = None if ledger is None else ledger["closed_until"]
    if closed_until is not None and effective_at < closed_until:
        raise PeriodClosed(ledger_id, closed_until)


def check_balanced(lines: Iterable[tuple[str, str, int]]) -> None:
    """Check that debits equal credits in every currency; a line is its currency, direction and amount."""
    sums: dict[str, list[int]] = {}
    for currency, direction, amount in lines:
        both = sums.setdefault(currency, [0, 0])
        both[direction == "credit"] += amount
    for currency, (debits, credits_) in sums.items():
        if debits != credits_:
            raise UnbalancedEntry(currency, debits, credits_)


def check_versions(lines: Sequence[LineDraft], accounts: Sequence[AccountRow], moves: Moves) -> None:
    """Check, before anything moves, that every account is at the version that its lines demand."""
    for position, (line, account) in enumerate(zip(lines, accounts, strict=True)):
        if line.lock_version is not None:
            present = moves.present(account["id"])
            if line.lock_version != present.lock_version:
                raise LockVersionConflict(account["id"], position, line.lock_version, present.lock_version)


def check_funds(moves: Moves, accounts: Sequence[AccountRow], directions: Sequence[str]) -> None:
    """Check that no account falls below zero that must not, unless it is better off than before."""
    for position, (account, direction) in enumerate(zip(accounts, directions, strict=True)):
        if account["allow_negative"]:
            continue
        account_id, normal = account["id"], account["normal_balance"]
        resulting = moves.totals[account_id].available(normal)
        available = moves.before[account_id].available(normal)
        if resulting < 0 and resulting < available and direction != normal:
            raise InsufficientFunds(account_id, position, available, resulting)


def check_conditions(lines: Sequence[LineDraft], accounts: Sequence[AccountRow], totals: Mapping[str, Totals]) -> None:
    """Check the balances that the entry results in against what its lines demand of them."""
    unmet: list[Unmet] = []
    for position, (line, account) in enumerate(zip(lines, accounts, strict=True)):
        for condition in line.conditions:
            amount = _amount(condition, totals[account["id"]], account["normal_balance"])
            if not condition.holds(amount):
                told = (condition.balance, condition.operator, condition.value)
                unmet.append(Unmet(account["id"], position, *told, amount))
    if unmet:
        raise ConditionFailed(unmet)


def parts(wanted: Sequence[LinePart], lines: Sequence[LineRow], *, pointer: str = "/lines") -> list[int]:
    """Return how much of each line is wanted, none of those not named; raises LineNotFound and PartExceedsLine."""
    place = {line["id"]: index for index, line in enumerate(lines)}
    found = [0] * len(lines)
    for position, part in enumerate(wanted):
        index = place.get(part.line_id)
        if index is None:
            raise LineNotFound(part.line_id, pointer=f"{pointer}/{position}/id")
        found[index] += part.amount
        if found[index] > lines[index]["amount"]:
            raise PartExceedsLine(part.line_id, lines[index]["amount"], pointer=f"{pointer}/{position}/amount")
    return found


def _amount(condition: Condition, totals: Totals, normal_balance: str) -> int:
    match condition.balance:
        case "available":
            return totals.available(normal_balance)
        case "pending":
            return totals.pending(normal_balance)
        case "posted":
            return totals.posted(normal_balance)
