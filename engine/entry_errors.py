"""What the books answer when an entry cannot become what it should: part of the tree that `engine.errors` draws."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from engine.errors import Fault, Refused, SeveralFaults
from engine.money import format_instant


class EntryNotPosted(Refused):
    """Only a posted entry can be reversed."""

    def __init__(self, entry_id: str, status: str) -> None:
        """Name the entry and its status."""
        super().__init__(f"Entry {entry_id} is {status}; only a posted entry is reversed.")
        self.entry_id = entry_id
        self.status = status


class EntryAlreadyReversed(Refused):
    """An entry is reversed once, whole or in part."""

    def __init__(self, entry_id: str, reversed_by: str) -> None:
        """Name the entry and the one that reversed it."""
        super().__init__(f"Entry {entry_id} was reversed by {reversed_by}.")
        self.entry_id = entry_id
        self.reversed_by = reversed_by


class LineNotFound(Refused):
    """The entry has no line of this id."""

    def __init__(self, line_id: str, *, pointer: str) -> None:
        """Name the line, and where it was named."""
        super().__init__(f"{line_id} is none of the entry's present lines.", pointer=pointer)
        self.line_id = line_id


class PartExceedsLine(Refused):
    """More of a line is wanted than it has."""

    def __init__(self, line_id: str, amount: int, *, pointer: str) -> None:
        """Name the line and its amount in minor units."""
        super().__init__(f"More is wanted than line {line_id} has; it has {amount}.", pointer=pointer)
        self.line_id = line_id
        self.amount = amount


class NothingToPost(Refused):
    """Of no line anything is wanted."""

    def __init__(self) -> None:
        """Need nothing."""
        super().__init__("Name at least one line and an amount of it.", pointer="/lines")


class PeriodClosed(Refused):
    """The ledger is closed for entries that take effect before a certain time."""

    def __init__(self, ledger_id: str, closed_until: int) -> None:
        """Name the ledger and the time up to which it is closed, in microseconds."""
        super().__init__(
            f"Ledger {ledger_id} is closed until {format_instant(closed_until)}: no entry takes effect before it.",
            pointer="/effective_at",
        )
        self.ledger_id = ledger_id
        self.closed_until = closed_until


class PeriodNotOver(Refused):
    """A ledger is closed up to a time that has come, never ahead of it."""

    def __init__(self, closed_until: int) -> None:
        """Name the time that was given, in microseconds."""
        super().__init__(f"{format_instant(closed_until)} has not come yet.", pointer="/closed_until")
        self.closed_until = closed_until


class EntryIsHold(Refused):
    """What a hold reserves is captured or released as a hold; its entry follows."""

    def __init__(self, entry_id: str) -> None:
        """Name the entry, whose id is the hold's."""
        super().__init__(f"Entry {entry_id} is a hold: capture or release /v1/holds/{entry_id}.")
        self.entry_id = entry_id


class HoldNotOpen(Refused):
    """A hold ends once: captured, released or expired."""

    def __init__(self, hold_id: str, status: str) -> None:
        """Name the hold and how it ended."""
        super().__init__(f"Hold {hold_id} is {status}.")
        self.hold_id = hold_id
        self.status = status


class CaptureExceeds(Refused):
    """More was to be captured than is still held."""

    def __init__(self, held: int, *, pointer: str) -> None:
        """Tell what is still held, in minor units, and where more was asked for."""
        super().__init__(f"Only {held} is still held.", pointer=pointer)
        self.held = held


class CaptureNeedsLines(Refused):
    """One amount says nothing of a hold of more than two lines."""

    def __init__(self) -> None:
        """Need nothing."""
        super().__init__("The hold has more than two lines: name the amount of each in `lines`.", pointer="/amount")


class HoldExpiryPast(Refused):
    """A hold expires later than it is made."""

    def __init__(self, expires_at: int) -> None:
        """Name the time that was given, in microseconds."""
        super().__init__(f"{format_instant(expires_at)} is over.", pointer="/expires_at")
        self.expires_at = expires_at


class LocalNameUnknown(Refused):
    """An item of a batch names an entry that no earlier item made."""

    def __init__(self, name: str) -> None:
        """Name it."""
        super().__init__(f"No earlier item of the batch made an entry named {name!r}.", pointer="/entry_id")
        self.name = name


class Unmet(NamedTuple):
    """A condition that does not hold: of which account and line, and what the balance would be, in minor units."""

    account_id: str
    position: int
    balance: str
    operator: str
    value: int
    resulting: int


class ConditionFailed(SeveralFaults):
    """Balances would not be what lines of the entry demand of them; every such condition is listed."""

    def __init__(self, unmet: Sequence[Unmet]) -> None:
        """Take all that do not hold."""
        super().__init__(
            [
                Fault(
                    code="condition_failed",
                    pointer=f"/lines/{each.position}/{each.balance}_balance_amount/{each.operator}",
                    detail=f"The {each.balance} balance of account {each.account_id} would be {each.resulting}; line "
                    f"{each.position} demands {each.operator} {each.value}.",
                )
                for each in unmet
            ]
        )


class LimitBroken(Refused):
    """A balance of an account or a category would pass its standing floor or ceiling."""

    def __init__(
        self, kind: str, resource_id: str, position: int, balance: str, bound: str, limit: int, resulting: int
    ) -> None:
        """Name what is limited, a line that moves it, the balance, the bound, and what it would come to."""
        words = bound.replace("_", " ")
        super().__init__(
            f"Line {position} would bring the {balance} balance of {kind} {resource_id} to {resulting}, with what is "
            f"pending counted against it; its limit is {words} {limit}.",
            pointer=f"/lines/{position}/amount",
        )
        self.resource_id = resource_id
        self.balance = balance
        self.resulting = resulting
