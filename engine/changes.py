"""All that a batch comes to, gathered decision by decision: the rows to write, as they stand at its end. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from engine.balances import Totals
from engine.books import Books, Decision
from engine.events import FeedEvent
from engine.rows import AccountRow, EntryRow, LedgerRow, LineRow, ResourceRow


@dataclass(slots=True, kw_only=True)
class Changes:
    """All that a batch writes, each row as it stands at the end of the batch."""

    new_ledgers: dict[str, LedgerRow] = field(default_factory=dict)
    changed_ledgers: dict[str, LedgerRow] = field(default_factory=dict)
    new_accounts: dict[str, AccountRow] = field(default_factory=dict)
    changed_accounts: dict[str, AccountRow] = field(default_factory=dict)
    new_entries: dict[str, EntryRow] = field(default_factory=dict)
    changed_entries: dict[str, EntryRow] = field(default_factory=dict)
    described: dict[tuple[str, str], tuple[Mapping[str, str], Mapping[str, str]]] = field(default_factory=dict)
    """By kind and id, the metadata that something had before the batch, and has after it."""
    lines: list[LineRow] = field(default_factory=list)
    totals: dict[str, Totals] = field(default_factory=dict)
    facts: list[tuple[str, str]] = field(default_factory=list)
    events: list[FeedEvent] = field(default_factory=list)
    new_resources: dict[str, dict[str, ResourceRow]] = field(default_factory=dict)
    changed_resources: dict[str, dict[str, ResourceRow]] = field(default_factory=dict)
    new_category_totals: dict[str, Totals] = field(default_factory=dict)
    category_totals: dict[str, Totals] = field(default_factory=dict)
    placed: dict[tuple[str, str], tuple[bool, bool]] = field(default_factory=dict)
    linked: dict[tuple[str, str], bool] = field(default_factory=dict)

    def add(self, decision: Decision, known: Books) -> None:
        """Take in a decision; `known` are the books before it, which tell what is new."""
        if decision.ledger is not None:
            ledger = known.ledger(decision.ledger["id"])
            _put(decision.ledger, ledger is None, self.new_ledgers, self.changed_ledgers)
            self._describe("ledger", decision.ledger, ledger)
        if decision.account is not None:
            before = known.account(decision.account["id"])
            _put(decision.account, before is None, self.new_accounts, self.changed_accounts)
            self._describe("account", decision.account, before)
        self.new_accounts.update((account["id"], account) for account in decision.opened)
        for entry in decision.entries:
            earlier = known.entry(entry["id"])
            _put(entry, earlier is None, self.new_entries, self.changed_entries)
            self._describe("entry", entry, earlier)
        self.lines += decision.lines
        self.totals.update(decision.totals)
        if decision.fact is not None:
            self.facts.append((decision.fact, decision.events[0].id))
        for kind, row in decision.resources:
            inserted, changed = self.new_resources.setdefault(kind, {}), self.changed_resources.setdefault(kind, {})
            stood = known.resource(kind, row["id"])
            _put(row, stood is None, inserted, changed)
            if "metadata" in row:
                self._describe(kind, row, stood)
        for category_id, totals in decision.category_totals.items():
            new = known.resource("account_category", category_id) is None or category_id in self.new_category_totals
            (self.new_category_totals if new else self.category_totals)[category_id] = totals
        for place, inside in decision.placed.items():
            self.placed[place] = (self.placed.get(place, (not inside, inside))[0], inside)
        self.linked |= decision.linked

    def _describe(self, kind: str, row: Mapping[str, Any], before: Mapping[str, Any] | None) -> None:
        owner, now = (kind, row["id"]), row["metadata"]
        was: Mapping[str, str] = {} if before is None else before["metadata"]
        if owner in self.described:
            self.described[owner] = (self.described[owner][0], now)
        elif was != now:
            self.described[owner] = (was, now)


def _put(row: Any, new: bool, inserted: dict[str, Any], changed: dict[str, Any]) -> None:
    target = inserted if new or row["id"] in inserted else changed
    target[row["id"]] = row
