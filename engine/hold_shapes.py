"""Holds as the API shows them. Pure."""

from __future__ import annotations

from typing import Literal

import msgspec

from engine.balances import Balances, Direction
from engine.money import format_instant
from engine.rows import LineRow, ResourceRow
from engine.shapes import resulting_of

HoldStatus = Literal["open", "captured", "released", "expired"]


class HoldLine(msgspec.Struct, frozen=True):
    """A line of a hold, in minor units: what it was made over, what was captured of it, what it still reserves.

    The balances are those right after the hold last moved the account.
    """

    id: str
    account_id: str
    direction: Direction
    currency: str
    amount: int
    captured: int
    held: int
    account_lock_version: int
    resulting_balances: Balances


class Hold(msgspec.Struct, frozen=True):
    """A pending entry that reserves funds until it is captured, released or expires; its id is the entry's."""

    id: str
    entry_id: str
    ledger_id: str
    status: HoldStatus
    description: str | None
    external_id: str | None
    metadata: dict[str, str]
    lines: list[HoldLine]
    captures: list[str]
    expires_at: str
    lock_version: int
    created_at: str
    updated_at: str


def hold_of(row: ResourceRow) -> Hold:
    """Return a hold as the API shows it."""
    return Hold(
        id=row["id"],
        entry_id=row["id"],
        ledger_id=row["ledger_id"],
        status=row["status"],
        description=row["description"],
        external_id=row["external_id"],
        metadata=row["metadata"],
        lines=[msgspec.convert(line, HoldLine) for line in row["lines"]],
        captures=row["captures"],
        expires_at=format_instant(row["expires_at"]),
        lock_version=row["lock_version"],
        created_at=format_instant(row["created_at"]),
        updated_at=format_instant(row["updated_at"]),
    )


def hold_line_of(line: LineRow) -> HoldLine:
    """Return a new hold's line."""
    return HoldLine(
        id=line["id"],
        account_id=line["account_id"],
        direction=line["direction"],
        currency=line["currency"],
        amount=line["amount"],
        captured=0,
        held=line["amount"],
        account_lock_version=line["account_lock_version"],
        resulting_balances=resulting_of(line),
    )


def with_balances(line: HoldLine, moved: LineRow) -> HoldLine:
    """Return a hold's line with its account's balances as they are after a line that moved it."""
    return msgspec.structs.replace(
        line,
        account_lock_version=moved["account_lock_version"],
        resulting_balances=resulting_of(moved),
    )
