"""The working copy of what a batch touches: read once, changed as commands are folded, written once. Pure.

A `Books` may stand on another one: an atomic batch folds its entries in a layer of its own, which is merged when all of
them went well and dropped when one did not.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from engine.balances import Totals
from engine.events import EventDraft
from engine.membership import Membership
from engine.needs import AccountsWith, Needs
from engine.rows import (
    LIVE_STATUSES,
    RESOURCE_GROUPS,
    RESOURCE_NAMES,
    AccountRow,
    EntryRow,
    LedgerRow,
    LineRow,
    ResourceRow,
)


class Decision(Struct, kw_only=True):
    """What a command amounts to: the rows as they will stand, the events, and the answer to whoever asked."""

    answer: bytes
    resource_id: str | None
    lock_version: int | None
    events: list[EventDraft]
    ledger: LedgerRow | None = None
    account: AccountRow | None = None
    opened: list[AccountRow] = []
    """Accounts that the books open for themselves."""
    entries: list[EntryRow] = []
    lines: list[LineRow] = []
    totals: dict[str, Totals] = {}
    fact: str | None = None
    resources: list[tuple[str, ResourceRow]] = []
    category_totals: dict[str, Totals] = {}
    placed: dict[tuple[str, str], bool] = {}
    linked: dict[tuple[str, str], bool] = {}

    def absorb(self, later: Decision) -> None:
        """Take in what was decided after this one and on top of it: the answer stays, all that happens is both."""
        self.events += later.events
        self.entries += later.entries
        self.opened += later.opened
        self.lines += later.lines
        self.totals |= later.totals
        self.resources += later.resources
        self.category_totals |= later.category_totals


class Books:
    """Accounts, totals, entries and ledgers by id, as they stand after the commands folded so far."""

    def __init__(self, below: Books | None = None) -> None:
        """Start empty, on top of another working copy where one is given."""
        self._below = below
        self._ledgers: dict[str, LedgerRow] = {}
        self._accounts: dict[str, AccountRow] = {}
        self._totals: dict[str, Totals] = {}
        self._account_of: dict[str, str] = {}
        self._account_by_code: dict[tuple[str, str], str] = {}
        self._entries: dict[str, EntryRow] = {}
        self._lines: dict[str, list[LineRow]] = {}
        self._entry_of: dict[str, str | None] = {}
        self._facts: dict[str, str] = {}
        self._accepted: int | None = None
        self._purposeful: dict[tuple[str, str, str, int], str] = {}
        self._resources: dict[tuple[str, str], ResourceRow] = {}
        self._resource_of: dict[tuple[str, str, str], str] = {}
        self._groups: dict[tuple[str, str], dict[str, None]] = {}
        self.membership: Membership = Membership() if below is None else below.membership.layer()
        self._told: dict[AccountsWith, list[str]] = {}
        self._changed_accounts: set[str] = set()
        self._read = Needs()

    def found_below(self, loaded: Books, needs: Needs) -> None:
        """Take in what was read later, at the same state of the database: what commands have changed since stays."""
        if self._below is None:
            self._below = loaded
            self.membership.found_below(loaded.membership)
            loaded.note(needs)
        else:
            self._below.found_below(loaded, needs)

    def note(self, needs: Needs) -> None:
        """Remember that this was read, whether it was there or not, and whatever came with it."""
        self._read.add(needs)
        self._read.accounts.update(self._accounts)
        if needs.purposeful:
            self._read.exchanging.update(account["ledger_id"] for account in self._accounts.values())

    def unread(self, needs: Needs) -> Needs:
        """Return what of the needs was not noted as read."""
        rest = needs.beyond(self._read)
        return rest if self._below is None else self._below.unread(rest)

    def learn(
        self,
        *,
        ledgers: Iterable[LedgerRow] = (),
        accounts: Iterable[tuple[AccountRow, Totals]] = (),
        entries: Iterable[tuple[EntryRow, list[LineRow]]] = (),
        live: Iterable[tuple[str, str]] = (),
        facts: Iterable[tuple[str, str]] = (),
        resources: Iterable[tuple[str, ResourceRow]] = (),
        told: Iterable[tuple[AccountsWith, list[str]]] = (),
        accepted: int | None = None,
    ) -> None:
        """Take in rows as they stand in the database.

        `live` pairs external ids with entries, `facts` keys with events, `resources` kinds with rows, `told` questions
        with the accounts that answer them.
        """
        for ledger in ledgers:
            self._ledgers[ledger["id"]] = ledger
        for account, totals in accounts:
            self._put_account(account)
            self._totals[account["id"]] = totals
        for entry, lines in entries:
            self._entries[entry["id"]] = entry
            self._lines[entry["id"]] = lines
        self._entry_of.update(live)
        self._facts.update(facts)
        self._accepted = self._accepted if accepted is None else accepted
        for kind, row in resources:
            self._put_resource(kind, row)
        self._told.update(told)

    def ledger(self, ledger_id: str) -> LedgerRow | None:
        """Return a ledger."""
        found = self._ledgers.get(ledger_id)
        return found if found is not None or self._below is None else self._below.ledger(ledger_id)

    def account(self, account_id: str) -> AccountRow | None:
        """Return an account."""
        found = self._accounts.get(account_id)
        return found if found is not None or self._below is None else self._below.account(account_id)

    def account_named(self, external_id: str) -> str | None:
        """Return the id of the account that has this external id."""
        found = self._account_of.get(external_id)
        return found if found is not None or self._below is None else self._below.account_named(external_id)

    def account_coded(self, ledger_id: str, code: str) -> str | None:
        """Return the id of the account of a ledger that has this code."""
        found = self._account_by_code.get((ledger_id, code))
        if found is None and self._below is not None:
            found = self._below.account_coded(ledger_id, code)
        # Who had the code when that was noted may have given it up since.
        account = None if found is None else self.account(found)
        return found if account is not None and account["code"] == code else None

    def purposeful(self, ledger_id: str, purpose: str, currency: str, exponent: int) -> str | None:
        """Return the account of a ledger that the books use for a purpose of theirs in a currency."""
        found = self._purposeful.get((ledger_id, purpose, currency, exponent))
        if found is None and self._below is not None:
            return self._below.purposeful(ledger_id, purpose, currency, exponent)
        return found

    def totals(self, account_id: str) -> Totals:
        """Return the running totals of an account that is known."""
        found = self._totals.get(account_id)
        if found is None:
            if self._below is None:
                raise KeyError(account_id)
            return self._below.totals(account_id)
        return found

    def entry(self, entry_id: str) -> EntryRow | None:
        """Return an entry."""
        found = self._entries.get(entry_id)
        return found if found is not None or self._below is None else self._below.entry(entry_id)

    def lines(self, entry_id: str) -> list[LineRow]:
        """Return the present version of an entry's lines, in order, without what it took back."""
        found = self._lines.get(entry_id)
        if found is None:
            return [] if self._below is None else self._below.lines(entry_id)
        return found

    def live_entry(self, external_id: str) -> str | None:
        """Return the accepted, pending or posted entry that has this external id."""
        if external_id in self._entry_of or self._below is None:
            return self._entry_of.get(external_id)
        return self._below.live_entry(external_id)

    def fact(self, key: str) -> str | None:
        """Return the event that recorded a fact under this key."""
        found = self._facts.get(key)
        return found if found is not None or self._below is None else self._below.fact(key)

    @property
    def accepted(self) -> int:
        """Return how many entries were ever accepted: the last one's position."""
        if self._accepted is None:
            return 0 if self._below is None else self._below.accepted
        return self._accepted

    def resource(self, kind: str, resource_id: str) -> ResourceRow | None:
        """Return a resource of a kind beside the books."""
        found = self._resources.get((kind, resource_id))
        return found if found is not None or self._below is None else self._below.resource(kind, resource_id)

    def resource_named(self, kind: str, column: str, value: str) -> ResourceRow | None:
        """Return the resource of a kind that has this value in a unique column."""
        found = self._resource_of.get((kind, column, value))
        if found is None:
            return None if self._below is None else self._below.resource_named(kind, column, value)
        return self.resource(kind, found)

    def accounts(self) -> Iterable[AccountRow]:
        """Return the accounts that this working copy itself knows."""
        return self._accounts.values()

    def ledgers(self) -> Iterable[LedgerRow]:
        """Return the ledgers that this working copy itself knows."""
        return self._ledgers.values()

    def moved(self) -> Iterable[tuple[str, Totals]]:
        """Return the accounts whose totals this working copy itself knows, by id."""
        return self._totals.items()

    def known(self, kind: str) -> list[ResourceRow]:
        """Return the resources of a kind that this working copy itself knows."""
        return [row for (each, _), row in self._resources.items() if each == kind]

    def group(self, kind: str, owner_id: str) -> list[ResourceRow]:
        """Return the resources of a kind that belong to one thing, as many as are known."""
        found = {} if self._below is None else {row["id"]: row for row in self._below.group(kind, owner_id)}
        for resource_id in self._groups.get((kind, owner_id), ()):
            found[resource_id] = self._resources[kind, resource_id]
        return list(found.values())

    def every(self, kind: str) -> list[ResourceRow]:
        """Return all resources of a kind that are known, here or below."""
        found = {} if self._below is None else {row["id"]: row for row in self._below.every(kind)}
        found.update((row["id"], row) for row in self.known(kind))
        return list(found.values())

    def told(self, question: AccountsWith) -> list[str]:
        """Return the accounts by which the database answers a question that was read."""
        found = self._told.get(question)
        if found is not None:
            return found
        return [] if self._below is None else self._below.told(question)

    def accounts_with(self, question: AccountsWith) -> list[str]:
        """Return the accounts that answer a question now: what was told, but for those that commands have changed since."""
        changed = self.changed_accounts()
        answering = [each for each in changed if answers(self.account(each), question)]
        return [*(each for each in self.told(question) if each not in changed), *sorted(answering)]

    def changed_accounts(self) -> set[str]:
        """Return the accounts that commands have opened or changed, but for their totals."""
        below = set() if self._below is None else self._below.changed_accounts()
        return self._changed_accounts | below

    def apply(self, decision: Decision) -> None:
        """Let the decision have happened."""
        if decision.ledger is not None:
            self._ledgers[decision.ledger["id"]] = decision.ledger
        if decision.account is not None:
            self._put_account(decision.account)
            self._changed_accounts.add(decision.account["id"])
        for account in decision.opened:
            self._put_account(account)
            self._changed_accounts.add(account["id"])
        self._totals.update(decision.totals)
        for entry in decision.entries:
            self._entries[entry["id"]] = entry
            if entry["external_id"] is not None:
                if entry["status"] in LIVE_STATUSES:
                    self._entry_of[entry["external_id"]] = entry["id"]
                elif self.live_entry(entry["external_id"]) == entry["id"]:
                    # Only its holder gives a name up: by now it may be another entry's.
                    self._entry_of[entry["external_id"]] = None
        if decision.lines:
            fresh: dict[str, list[LineRow]] = {}
            for line in decision.lines:
                kept = fresh.setdefault(line["entry_id"], [])
                if line["status"] != "discarded":
                    kept.append(line)
            self._lines.update(fresh)
        if decision.fact is not None:
            self._facts[decision.fact] = decision.events[0].id
        for kind, row in decision.resources:
            if kind == "acceptance" and row["position"] > self.accepted:
                self._accepted = row["position"]
            self._put_resource(kind, row)
        self.membership.apply(decision.category_totals, decision.placed)

    def _put_account(self, account: AccountRow) -> None:
        self._accounts[account["id"]] = account
        if account["purpose"] is not None:
            place = (account["ledger_id"], account["purpose"], account["currency"], account["currency_exponent"])
            self._purposeful[place] = account["id"]
        if account["external_id"] is not None:
            self._account_of[account["external_id"]] = account["id"]
        if account["code"] is not None:
            self._account_by_code[account["ledger_id"], account["code"]] = account["id"]

    def _put_resource(self, kind: str, row: ResourceRow) -> None:
        self._resources[kind, row["id"]] = row
        if kind in RESOURCE_GROUPS:
            self._groups.setdefault((kind, row[RESOURCE_GROUPS[kind]]), {})[row["id"]] = None
        for column in RESOURCE_NAMES[kind]:
            if row[column] is not None:
                self._resource_of[kind, column, row[column]] = row["id"]


def answers(account: AccountRow | None, question: AccountsWith) -> bool:
    """Tell whether an account is one of those that a question is about."""
    if account is None or account["status"] != "open" or question.ledger_id not in {None, account["ledger_id"]}:
        return False
    return all(account["metadata"].get(key) == value for key, value in question.pairs)
