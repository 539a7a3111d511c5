"""Standing floors and ceilings of balances: when an entry would pass one. Pure.

A limit is judged on the resulting balance, once for an entry, and only where the entry makes it worse: a floor when more goes
out, a ceiling when more comes in. A balance is judged as it would be if what is pending and speaks against it were posted, so
that posting what was reserved never has to be refused; and giving up what was reserved never is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from engine.balances import Totals


class Broken(NamedTuple):
    """A limit that would be passed: of which balance, on which side, where it stands, and what the balance would be."""

    balance: str
    bound: Literal["at_least", "at_most"]
    limit: int
    resulting: int


class _Sides(NamedTuple):
    """What came in and went out in the normal direction: posted, and what pending entries would add."""

    incoming: int
    outgoing: int
    pending_in: int
    pending_out: int

    def lowest(self, balance: str) -> int:
        """Return the balance with what is pending to go out counted against it."""
        low = self.incoming - self.outgoing - self.pending_out
        return low + self.pending_in if balance == "pending" else low

    def highest(self, balance: str) -> int:
        """Return the balance with what is pending to come in counted against it."""
        high = self.incoming + self.pending_in - self.outgoing
        return high if balance == "posted" else high - self.pending_out


def broken(limits: Sequence[Mapping[str, Any]], normal_balance: str, before: Totals, after: Totals) -> Broken | None:
    """Return the first limit that the way from one state to the other would break, if there is one."""
    was, becomes = _sides(before, normal_balance), _sides(after, normal_balance)
    more_out = becomes.outgoing + becomes.pending_out > was.outgoing + was.pending_out
    more_in = becomes.incoming + becomes.pending_in > was.incoming + was.pending_in
    for limit in limits:
        balance, floor, ceiling = limit["balance"], limit["at_least"], limit["at_most"]
        if floor is not None and more_out:
            low = becomes.lowest(balance)
            if low < floor and low < was.lowest(balance):
                return Broken(balance, "at_least", floor, low)
        if ceiling is not None and more_in:
            high = becomes.highest(balance)
            if high > ceiling and high > was.highest(balance):
                return Broken(balance, "at_most", ceiling, high)
    return None


def _sides(totals: Totals, normal_balance: str) -> _Sides:
    if normal_balance == "credit":
        return _Sides(totals.posted_credits, totals.posted_debits, totals.pending_credits, totals.pending_debits)
    return _Sides(totals.posted_debits, totals.posted_credits, totals.pending_debits, totals.pending_credits)
