"""An oracle of the books, as simple as can be: entries in a list, balances added up from them whenever they are asked for."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

Line = tuple[str, str, int]
"""Account, direction, amount."""


@dataclass(slots=True)
class Booked:
    """An entry as the oracle remembers it."""

    lines: list[Line]
    status: str
    external_id: str | None


@dataclass(slots=True)
class Oracle:
    """What was booked. It shares no line with the product, and is far too slow to be one."""

    currency: dict[str, str] = field(default_factory=dict)
    guarded: set[str] = field(default_factory=set)
    credit_normal: set[str] = field(default_factory=set)
    closed: set[str] = field(default_factory=set)
    entries: dict[str, Booked] = field(default_factory=dict)

    def sum(self, account: str, direction: str, status: str) -> int:
        """Add up one side of an account."""
        return sum(
            amount
            for entry in self.entries.values()
            if entry.status == status
            for name, side, amount in entry.lines
            if (name, side) == (account, direction)
        )

    def totals(self, account: str) -> tuple[int, int, int, int]:
        """Return posted debits and credits, then pending ones."""
        return (
            self.sum(account, "debit", "posted"),
            self.sum(account, "credit", "posted"),
            self.sum(account, "debit", "pending"),
            self.sum(account, "credit", "pending"),
        )

    def available(self, account: str) -> int:
        """Return what can be spent: posted in its normal direction, less what is reserved to go out."""
        debits, credits_, pending_debits, pending_credits = self.totals(account)
        if account in self.credit_normal:
            return credits_ - debits - pending_debits
        return debits - credits_ - pending_credits

    def takes(self, lines: list[Line], external_id: str | None, status: str) -> bool:
        """Tell whether an entry would be accepted; if it would not, nothing has changed."""
        names = {name for name, _, _ in lines}
        if names & self.closed or len({self.currency[name] for name in names}) > 1:
            return False
        sides: Counter[str] = Counter()
        for _, side, amount in lines:
            sides[side] += amount
        live = {each.external_id for each in self.entries.values() if each.status != "archived"}
        if sides["debit"] != sides["credit"] or (external_id is not None and external_id in live):
            return False
        before = {name: self.available(name) for name in names}
        self.entries["trial"] = Booked(lines, status, None)
        after = {name: self.available(name) for name in names}
        del self.entries["trial"]
        return not any(name in self.guarded and after[name] < 0 and after[name] < before[name] for name in names)
