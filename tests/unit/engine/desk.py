"""A desk with pure books on it: commands are decided and applied in memory, with ids and a time that a test can tell."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from engine.books import Books, Decision
from engine.business_events import Unread
from engine.commands import Command, CreateAccount, CreateLedger, LineDraft, PostBatch, PostEntry
from engine.occasion import Occasion
from engine.posting import decide
from tests.fakes.clock import START_US, SequentialIds

SITE_ID: Final = 7


class Desk:
    """Books in memory with one ledger, and what it takes to decide commands against them."""

    def __init__(self) -> None:
        self.books = Books()
        self.ids = SequentialIds()
        self.now_us = START_US
        self.ledger_id = self.run(CreateLedger(name="Main")).resource_id or ""

    def decide(self, command: Command) -> Decision:
        """Decide a command and leave the books as they are; what is read in steps is all here already."""
        occasion = Occasion(site_id=SITE_ID, now_us=self.now_us, ids=self.ids)
        while True:
            try:
                return decide(command, self.books, occasion)
            except Unread as unread:
                self.books.note(unread.needs)

    def run(self, command: Command) -> Decision:
        """Decide a command and let it have happened."""
        decision = self.decide(command)
        self.books.apply(decision)
        return decision

    def account(self, account_type: Any = "asset", currency: str = "EUR", **options: Any) -> str:
        """Open an account and return its id."""
        given = {
            "ledger_id": self.ledger_id,
            "name": account_type,
            "type": account_type,
            "currency": currency,
            **options,
        }
        return self.run(CreateAccount(**given)).resource_id or ""

    def post(self, debit: str, credit: str, amount: int, **options: Any) -> str:
        """Post an entry of two lines and return its id."""
        return self.run(entry(debit, credit, amount, **options)).resource_id or ""

    def totals(self, account_id: str) -> tuple[int, int, int, int]:
        """Return an account's posted debits and credits, then the pending ones."""
        return self.books.totals(account_id)[:4]

    def version(self, account_id: str) -> int:
        """Return an account's version."""
        return self.books.totals(account_id).lock_version


def line(account: str, direction: Any, amount: int, lock_version: int | None = None) -> LineDraft:
    """Return a line without metadata."""
    return LineDraft(account=account, direction=direction, amount=amount, metadata={}, lock_version=lock_version)


def entry(debit: str, credit: str, amount: int, **options: Any) -> PostEntry:
    """Return the command that posts one amount from one account to another."""
    return PostEntry(lines=(line(debit, "debit", amount), line(credit, "credit", amount)), **options)


def batch(*entries: PostEntry) -> PostBatch:
    """Return the command that posts all entries or none."""
    return PostBatch(entries=entries)


def told(decision: Decision) -> Any:
    """Return the answer of a decision as JSON."""
    return msgspec.json.decode(decision.answer)
