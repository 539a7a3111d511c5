"""The arithmetic of balances: four running totals per account, three balances read off them. Pure.

posted    what posted lines add up to.
pending   posted plus what pending entries would add.
available posted minus what pending entries would take out.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import msgspec

from engine.money import AMOUNT_MAX

Direction = Literal["debit", "credit"]
BalanceName = Literal["available", "pending", "posted"]


class Totals(NamedTuple):
    """An account's running totals in minor units, pending ones apart from posted ones, and its version."""

    posted_debits: int
    posted_credits: int
    pending_debits: int
    pending_credits: int
    lock_version: int

    def add(self, direction: str, posted: int, pending: int) -> Totals:
        """Return the totals after a line moved these amounts; either may be negative, and the version goes up by one."""
        if direction == "debit":
            return Totals(
                self.posted_debits + posted,
                self.posted_credits,
                self.pending_debits + pending,
                self.pending_credits,
                self.lock_version + 1,
            )
        return Totals(
            self.posted_debits,
            self.posted_credits + posted,
            self.pending_debits,
            self.pending_credits + pending,
            self.lock_version + 1,
        )

    def shift(self, before: Totals, after: Totals) -> Totals:
        """Return these totals, of a sum, after one of its parts moved; the version stays."""
        return Totals(
            self.posted_debits + after.posted_debits - before.posted_debits,
            self.posted_credits + after.posted_credits - before.posted_credits,
            self.pending_debits + after.pending_debits - before.pending_debits,
            self.pending_credits + after.pending_credits - before.pending_credits,
            self.lock_version,
        )

    def bump(self) -> Totals:
        """Return the same totals one version later: the account itself changed."""
        return self._replace(lock_version=self.lock_version + 1)

    def in_range(self) -> bool:
        """Tell whether every total, and each posted total with its pending one, fits 64 bits."""
        return (
            self.posted_debits + self.pending_debits <= AMOUNT_MAX
            and self.posted_credits + self.pending_credits <= AMOUNT_MAX
        )

    def available(self, normal_balance: str) -> int:
        """Return the available balance in minor units: posted minus outgoing pending."""
        if normal_balance == "credit":
            return self.posted_credits - self.posted_debits - self.pending_debits
        return self.posted_debits - self.posted_credits - self.pending_credits

    def posted(self, normal_balance: str) -> int:
        """Return the posted balance in minor units."""
        difference = self.posted_credits - self.posted_debits
        return difference if normal_balance == "credit" else -difference

    def pending(self, normal_balance: str) -> int:
        """Return the pending balance in minor units: posted, and what is pending both ways."""
        difference = self.posted_credits + self.pending_credits - self.posted_debits - self.pending_debits
        return difference if normal_balance == "credit" else -difference

    def empty(self) -> bool:
        """Tell whether the posted balance is zero and nothing is pending."""
        return self.posted_debits == self.posted_credits and not self.pending_debits and not self.pending_credits


EMPTY = Totals(0, 0, 0, 0, 0)


class Balance(msgspec.Struct, frozen=True):
    """One balance: both sums and, in the account's normal direction, their difference."""

    debits: int
    credits: int
    amount: int


class Limit(msgspec.Struct, frozen=True):
    """A standing floor, ceiling or both under one balance, in minor units."""

    balance: BalanceName
    at_least: int | None
    at_most: int | None


class Balances(msgspec.Struct, frozen=True):
    """The three balances of an account."""

    posted: Balance
    pending: Balance
    available: Balance


def balances_of(totals: Totals, normal_balance: str) -> Balances:
    """Return the balances that the totals amount to for an account of this normal balance."""
    debits, credits_, pending_debits, pending_credits, _ = totals
    if normal_balance == "credit":
        return Balances(
            Balance(debits, credits_, credits_ - debits),
            Balance(
                debits + pending_debits,
                credits_ + pending_credits,
                credits_ + pending_credits - debits - pending_debits,
            ),
            Balance(debits + pending_debits, credits_, credits_ - debits - pending_debits),
        )
    return Balances(
        Balance(debits, credits_, debits - credits_),
        Balance(
            debits + pending_debits,
            credits_ + pending_credits,
            debits + pending_debits - credits_ - pending_credits,
        ),
        Balance(debits, credits_ + pending_credits, debits - credits_ - pending_credits),
    )
