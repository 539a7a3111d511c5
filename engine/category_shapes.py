"""Categories and monitors as the API shows them. Pure."""

from __future__ import annotations

from typing import Literal

import msgspec

from engine.balances import Balance, Balances, Direction, Limit, Totals, balances_of
from engine.category_commands import MonitorField, Operator
from engine.money import format_instant
from engine.rows import ResourceRow


class AccountCategory(msgspec.Struct, frozen=True):
    """A category of accounts and of other categories, with what its accounts add up to, each counted once."""

    id: str
    ledger_id: str | None
    name: str
    description: str | None
    normal_balance: Direction
    currency: str
    currency_exponent: int
    external_id: str | None
    limits: list[Limit]
    metadata: dict[str, str]
    balances: Balances
    lock_version: int
    created_at: str
    updated_at: str


class CategoryBalance(msgspec.Struct, frozen=True):
    """What the accounts of a category add up to, each counted once; `held` is what outgoing pending entries reserve."""

    account_category_id: str
    currency: str
    currency_exponent: int
    lock_version: int
    posted: Balance
    pending: Balance
    available: Balance
    held: int


class CategoryMember(msgspec.Struct, frozen=True):
    """Whether an account or a category stands directly in a category, with what that category comes to."""

    account_category_id: str
    member_type: Literal["account", "account_category"]
    member_id: str
    is_member: bool
    balances: Balances
    lock_version: int


class MonitorCondition(msgspec.Struct, frozen=True):
    """What a monitor watches for: an amount in minor units, or a version, compared with a value."""

    field: MonitorField
    operator: Operator
    value: int


class BalanceMonitor(msgspec.Struct, frozen=True):
    """A condition on a balance; `triggered` tells whether it holds, `observed` what the field was when that was decided."""

    id: str
    account_id: str | None
    account_category_id: str | None
    description: str | None
    condition: MonitorCondition
    status: Literal["active", "archived"]
    triggered: bool
    observed: int
    metadata: dict[str, str]
    lock_version: int
    created_at: str
    updated_at: str


def category_of(row: ResourceRow, totals: Totals) -> AccountCategory:
    """Return a category as the API shows it."""
    return AccountCategory(
        id=row["id"],
        ledger_id=row["ledger_id"],
        name=row["name"],
        description=row["description"],
        normal_balance=row["normal_balance"],
        currency=row["currency"],
        currency_exponent=row["currency_exponent"],
        external_id=row["external_id"],
        limits=[Limit(**limit) for limit in row["limits"]],
        metadata=row["metadata"],
        balances=balances_of(totals, row["normal_balance"]),
        lock_version=totals.lock_version,
        created_at=format_instant(row["created_at"]),
        updated_at=format_instant(row["updated_at"]),
    )


def category_balance_of(row: ResourceRow, totals: Totals) -> CategoryBalance:
    """Return a category's balances as the API shows them."""
    balances = balances_of(totals, row["normal_balance"])
    return CategoryBalance(
        account_category_id=row["id"],
        currency=row["currency"],
        currency_exponent=row["currency_exponent"],
        lock_version=totals.lock_version,
        posted=balances.posted,
        pending=balances.pending,
        available=balances.available,
        held=balances.posted.amount - balances.available.amount,
    )


def member_of(
    row: ResourceRow,
    totals: Totals,
    member_type: Literal["account", "account_category"],
    member_id: str,
    *,
    inside: bool,
) -> CategoryMember:
    """Return a place in a category as the API shows it."""
    return CategoryMember(
        account_category_id=row["id"],
        member_type=member_type,
        member_id=member_id,
        is_member=inside,
        balances=balances_of(totals, row["normal_balance"]),
        lock_version=totals.lock_version,
    )


def monitor_of(row: ResourceRow) -> BalanceMonitor:
    """Return a monitor as the API shows it."""
    on_account = row["subject"] == "account"
    return BalanceMonitor(
        id=row["id"],
        account_id=row["subject_id"] if on_account else None,
        account_category_id=None if on_account else row["subject_id"],
        description=row["description"],
        condition=MonitorCondition(field=row["field"], operator=row["operator"], value=row["value"]),
        status=row["status"],
        triggered=row["triggered"],
        observed=row["observed"],
        metadata=row["metadata"],
        lock_version=row["lock_version"],
        created_at=format_instant(row["created_at"]),
        updated_at=format_instant(row["updated_at"]),
    )
