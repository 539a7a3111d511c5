"""The resources as the API shows them, and their one encoder. Pure.

The same bytes are the answer to a request, the `data` of an event and the item of a list.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Literal

import msgspec

from engine.balances import Balance, Balances, Direction, Limit, Totals, balances_of
from engine.money import format_instant
from engine.rows import AccountRow, EntryRow, LedgerRow, LineRow, ResourceRow

AccountType = Literal["asset", "liability", "equity", "revenue", "expense"]
EntryStatus = Literal["accepted", "pending", "posted", "archived", "rejected"]
LineStatus = Literal["accepted", "pending", "posted", "archived", "rejected", "discarded"]

encode: Final = msgspec.json.Encoder().encode


class Ledger(msgspec.Struct, frozen=True):
    """A book of accounts."""

    id: str
    entity_id: str | None
    name: str
    description: str | None
    status: Literal["active"]
    closed_until: str | None
    metadata: dict[str, str]
    lock_version: int
    created_at: str
    updated_at: str


class Account(msgspec.Struct, frozen=True):
    """An account with its balances; amounts are in minor units of its currency."""

    id: str
    ledger_id: str
    entity_id: str | None
    name: str
    description: str | None
    type: AccountType
    normal_balance: Direction
    currency: str
    currency_exponent: int
    code: str | None
    external_id: str | None
    allow_negative: bool
    purpose: Literal["fx_clearing", "fx_rounding"] | None
    limits: list[Limit]
    status: Literal["open", "closed"]
    metadata: dict[str, str]
    balances: Balances
    lock_version: int
    created_at: str
    updated_at: str


class AccountBalance(msgspec.Struct, frozen=True):
    """The balances of one account; `held` is what outgoing pending entries reserve."""

    account_id: str
    currency: str
    currency_exponent: int
    lock_version: int
    posted: Balance
    pending: Balance
    available: Balance
    held: int


class Line(msgspec.Struct, frozen=True):
    """One line of an entry, with its account's balances right after it: none while it has moved no balance."""

    id: str
    account_id: str
    direction: Direction
    amount: int
    currency: str
    status: LineStatus
    metadata: dict[str, str]
    account_lock_version: int | None
    resulting_balances: Balances | None


class Rejection(msgspec.Struct, frozen=True):
    """Why an accepted entry could not be posted: the problem that posting it at once would have been answered with."""

    code: str
    detail: str
    errors: list[dict[str, str]] = []


class AccountLine(msgspec.Struct, frozen=True):
    """A line seen from its account: which entry it belongs to, and the balances right after it.

    Every version of a line is listed; a `discarded` one took back what a pending one had reserved.
    """

    id: str
    entry_id: str
    account_id: str
    direction: Direction
    amount: int
    currency: str
    status: LineStatus
    metadata: dict[str, str]
    account_lock_version: int
    resulting_balances: Balances
    effective_at: str
    created_at: str


class LedgerLine(AccountLine, frozen=True):
    """A line among those of all ledgers: whose account it is on, too."""

    ledger_id: str
    entity_id: str | None


class Entry(msgspec.Struct, frozen=True):
    """A balanced journal entry."""

    id: str
    ledger_id: str
    status: EntryStatus
    description: str | None
    external_id: str | None
    metadata: dict[str, str]
    lines: list[Line]
    effective_at: str
    effective_date: str
    posted_at: str | None
    reverses: str | None
    reversed_by: str | None
    partially_posts: str | None
    fx_rate_id: str | None
    hold_id: str | None
    rejection: Rejection | None
    business_event_id: str | None
    lock_version: int
    created_at: str
    updated_at: str


class BatchOutcome(msgspec.Struct, frozen=True):
    """What one entry of an independent batch came to: the entry as it stands, or the problem it was refused with."""

    index: int
    status: Literal["committed", "refused"]
    entry: msgspec.Raw | None
    problem: msgspec.Raw | None


class EntryBatch(msgspec.Struct, frozen=True):
    """What the entries of one request came to, in its order: entries of an atomic batch, outcomes of an independent one."""

    id: str
    mode: Literal["atomic", "independent"]
    data: list[msgspec.Raw | BatchOutcome]


class EntryVersion(msgspec.Struct, frozen=True):
    """What an entry was right after one of its events."""

    event_id: str
    event_type: str
    sequence: int
    recorded_at: str
    entry: msgspec.Raw


class AccountImpact(msgspec.Struct, frozen=True):
    """What an entry or event moved of an account's balances, and what they were right after it."""

    account_id: str
    currency: str
    account_lock_version: int
    moved: Balances
    resulting_balances: Balances


class BalanceImpact(msgspec.Struct, frozen=True):
    """What an entry, one event of it, or all entries of a business event did to balances; each account once."""

    entry_id: str | None
    event_id: str | None
    business_event_id: str | None
    accounts: list[AccountImpact]


def ledger_of(row: LedgerRow) -> Ledger:
    """Return a ledger as the API shows it."""
    return Ledger(
        id=row["id"],
        entity_id=row["entity_id"],
        name=row["name"],
        description=row["description"],
        status="active",
        closed_until=None if row["closed_until"] is None else format_instant(row["closed_until"]),
        metadata=row["metadata"],
        lock_version=row["lock_version"],
        created_at=format_instant(row["created_at"]),
        updated_at=format_instant(row["updated_at"]),
    )


def account_of(row: AccountRow, totals: Totals) -> Account:
    """Return an account as the API shows it."""
    return Account(
        id=row["id"],
        ledger_id=row["ledger_id"],
        entity_id=row["entity_id"],
        name=row["name"],
        description=row["description"],
        type=row["type"],
        normal_balance=row["normal_balance"],
        currency=row["currency"],
        currency_exponent=row["currency_exponent"],
        code=row["code"],
        external_id=row["external_id"],
        allow_negative=row["allow_negative"],
        purpose=row["purpose"],
        limits=[Limit(**limit) for limit in row["limits"]],
        status=row["status"],
        metadata=row["metadata"],
        balances=balances_of(totals, row["normal_balance"]),
        lock_version=totals.lock_version,
        created_at=format_instant(row["created_at"]),
        updated_at=format_instant(row["updated_at"]),
    )


def account_balance_of(row: AccountRow, totals: Totals) -> AccountBalance:
    """Return an account's balances as the API shows them."""
    balances = balances_of(totals, row["normal_balance"])
    return AccountBalance(
        account_id=row["id"],
        currency=row["currency"],
        currency_exponent=row["currency_exponent"],
        lock_version=totals.lock_version,
        posted=balances.posted,
        pending=balances.pending,
        available=balances.available,
        held=balances.posted.amount - balances.available.amount,
    )


def line_of(row: LineRow) -> Line:
    """Return a line as the API shows it inside its entry."""
    return Line(
        row["id"],
        row["account_id"],
        row["direction"],
        row["amount"],
        row["currency"],
        row["status"],
        row["metadata"],
        row["account_lock_version"],
        resulting_of(row),
    )


def account_line_of(row: LineRow) -> AccountLine:
    """Return a line as the API shows it in its account's list."""
    return AccountLine(**_along_account(row))


def ledger_line_of(row: LineRow, account: AccountRow) -> LedgerLine:
    """Return a line of an account as the API shows it among those of all ledgers."""
    return LedgerLine(**_along_account(row), ledger_id=account["ledger_id"], entity_id=account["entity_id"])


def _along_account(row: LineRow) -> dict[str, Any]:
    return {
        "id": row["id"],
        "entry_id": row["entry_id"],
        "account_id": row["account_id"],
        "direction": row["direction"],
        "amount": row["amount"],
        "currency": row["currency"],
        "status": row["status"],
        "metadata": row["metadata"],
        "account_lock_version": row["account_lock_version"],
        "resulting_balances": resulting_of(row),
        "effective_at": format_instant(row["effective_at"]),
        "created_at": format_instant(row["created_at"]),
    }


def entry_of(row: EntryRow, lines: Sequence[LineRow], acceptance: ResourceRow | None = None) -> Entry:
    """Return an entry as the API shows it, with the present version of its lines in order.

    One that is only accepted, or was rejected, has the lines it was accepted with.
    """
    unmoved = acceptance is not None and row["status"] in {"accepted", "rejected"}
    effective_at = format_instant(row["effective_at"])
    return Entry(
        row["id"],
        row["ledger_id"],
        row["status"],
        row["description"],
        row["external_id"],
        row["metadata"],
        _accepted_lines(row, acceptance)
        if acceptance is not None and unmoved
        else [line_of(line) for line in lines if line["status"] != "discarded"],
        effective_at,
        effective_at[:10],
        None if row["posted_at"] is None else format_instant(row["posted_at"]),
        row["reverses"],
        row["reversed_by"],
        row["partially_posts"],
        row["fx_rate_id"],
        row["id"] if row["held"] else None,
        None if acceptance is None or acceptance["rejection"] is None else _rejection(acceptance["rejection"]),
        row["business_event_id"],
        row["lock_version"],
        format_instant(row["created_at"]),
        format_instant(row["updated_at"]),
    )


def _accepted_lines(row: EntryRow, acceptance: ResourceRow) -> list[Line]:
    return [
        Line(
            line["id"],
            line["account"],
            line["direction"],
            line["amount"],
            line["currency"],
            "accepted" if row["status"] == "accepted" else "rejected",
            line["metadata"],
            None,
            None,
        )
        for line in acceptance["lines"]
    ]


def _rejection(problem: dict[str, Any]) -> Rejection:
    return Rejection(code=problem["code"], detail=problem["detail"], errors=problem["errors"])


def resulting_of(row: LineRow) -> Balances:
    """Return a line's account's balances right after it."""
    totals = Totals(
        row["posted_debits"],
        row["posted_credits"],
        row["pending_debits"],
        row["pending_credits"],
        row["account_lock_version"],
    )
    return balances_of(totals, row["normal_balance"])
