"""What the books say of a stretch of time: statements, series of balances, trial balances, as the API shows them. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any, Final, Literal

import msgspec

from engine.balances import Balance, Balances, Direction, Totals, balances_of
from engine.money import format_instant
from engine.rows import AccountRow, LineRow

Interval = Literal["hour", "day", "month"]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


class StatementLine(msgspec.Struct, frozen=True):
    """A line of a statement, with the account's balances after it in the order of effective times."""

    id: str
    entry_id: str
    description: str | None
    direction: Direction
    amount: int
    status: str
    metadata: dict[str, str]
    account_lock_version: int
    effective_at: str
    created_at: str
    balances: Balances


class Statement(msgspec.Struct, frozen=True):
    """An account from one effective time to another: `from` is within it, `to` is not.

    `lock_version` is the account's version whose books it shows, on every page the same.
    """

    account_id: str
    currency: str
    currency_exponent: int
    normal_balance: Direction
    from_: str = msgspec.field(name="from")
    to: str
    lock_version: int
    opening_balances: Balances
    closing_balances: Balances
    data: list[StatementLine]
    has_more: bool
    next_cursor: str | None


class BalancePoint(msgspec.Struct, frozen=True):
    """The balances at the end of an interval: of all that took effect before `to`."""

    from_: str = msgspec.field(name="from")
    to: str
    posted: Balance
    pending: Balance
    available: Balance


class BalanceHistory(msgspec.Struct, frozen=True):
    """An account's balances interval by interval, in UTC."""

    account_id: str
    currency: str
    currency_exponent: int
    interval: Interval
    data: list[BalancePoint]
    has_more: bool
    next_cursor: str | None


class TrialBalanceAccount(msgspec.Struct, frozen=True):
    """An account in a trial balance: all it was debited and credited with, and the difference on the side that it is on."""

    account_id: str
    name: str
    code: str | None
    type: str
    currency: str
    currency_exponent: int
    debits: int
    credits: int
    debit_balance: int
    credit_balance: int


class TrialBalanceSum(msgspec.Struct, frozen=True):
    """What the accounts in one currency come to, up to and including this page; on the last page both sides agree."""

    currency: str
    currency_exponent: int
    debits: int
    credits: int
    debit_balance: int
    credit_balance: int


class TrialBalance(msgspec.Struct, frozen=True):
    """What the accounts of a ledger come to, posted lines only; `known_at` is the same on every page."""

    ledger_id: str
    as_of: str | None
    known_at: str
    data: list[TrialBalanceAccount]
    sums: list[TrialBalanceSum]
    has_more: bool
    next_cursor: str | None


SumKey = tuple[str, int]
"""A currency and its exponent."""
SumValue = tuple[int, int, int, int]
"""Debits, credits, debit balances, credit balances."""


def statement_line_of(row: LineRow, description: str | None, after: Totals) -> StatementLine:
    """Return a line as a statement shows it."""
    return StatementLine(
        id=row["id"],
        entry_id=row["entry_id"],
        description=description,
        direction=row["direction"],
        amount=row["amount"],
        status=row["status"],
        metadata=row["metadata"],
        account_lock_version=row["account_lock_version"],
        effective_at=format_instant(row["effective_at"]),
        created_at=format_instant(row["created_at"]),
        balances=balances_of(after, row["normal_balance"]),
    )


def trial_balance_account_of(row: AccountRow, totals: Totals) -> TrialBalanceAccount:
    """Return an account as a trial balance shows it."""
    net = totals.posted_debits - totals.posted_credits
    return TrialBalanceAccount(
        account_id=row["id"],
        name=row["name"],
        code=row["code"],
        type=row["type"],
        currency=row["currency"],
        currency_exponent=row["currency_exponent"],
        debits=totals.posted_debits,
        credits=totals.posted_credits,
        debit_balance=max(net, 0),
        credit_balance=max(-net, 0),
    )


def carried(before: Mapping[SumKey, SumValue], found: Sequence[TrialBalanceAccount]) -> dict[SumKey, SumValue]:
    """Return the sums after these accounts, given those before them."""
    sums = dict(before)
    for each in found:
        key = (each.currency, each.currency_exponent)
        debits, credits_, debit, credit = sums.get(key, (0, 0, 0, 0))
        sums[key] = (
            debits + each.debits,
            credits_ + each.credits,
            debit + each.debit_balance,
            credit + each.credit_balance,
        )
    return dict(sorted(sums.items()))


def sums_of(sums: Mapping[SumKey, SumValue]) -> list[TrialBalanceSum]:
    """Return the sums of a trial balance as the API shows them."""
    return [TrialBalanceSum(*key, *value) for key, value in sums.items()]


def intervals(interval: Interval, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Return the whole intervals of UTC that touch the time from `start` to before `end`, in microseconds."""

    def edges() -> Iterator[int]:
        at = _floor(interval, start)
        while at is not None:
            yield at
            if at >= end:
                return
            at = _next(interval, at)

    return pairwise(edges())


def _floor(interval: Interval, at_us: int) -> Any:
    moment = (_EPOCH + timedelta(microseconds=at_us)).replace(minute=0, second=0, microsecond=0)
    match interval:
        case "hour":
            pass
        case "day":
            moment = moment.replace(hour=0)
        case "month":
            moment = moment.replace(day=1, hour=0)
    return (moment - _EPOCH) // _MICROSECOND


def _next(interval: Interval, at_us: int) -> int | None:
    """Return the start of the next interval; None where the calendar ends."""
    moment = _EPOCH + timedelta(microseconds=at_us)
    try:
        match interval:
            case "hour":
                moment += timedelta(hours=1)
            case "day":
                moment += timedelta(days=1)
            case "month":
                moment = (moment + timedelta(days=31)).replace(day=1)
    except OverflowError:
        return None
    return (moment - _EPOCH) // _MICROSECOND
