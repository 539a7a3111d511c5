"""What a writer remembers of its site from batch to batch, so that it need not be read again: true while the head is. Pure.

Whoever changes the books moves the head. So what was true when the writer left it is true as long as the head in the database
is the one remembered here; who finds another one has to forget everything. While a batch is written that was decided ahead, it
is remembered as if it were: the next one is decided on it, and is written after it or not at all.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from copy import copy
from typing import Final

from engine.balances import Totals
from engine.books import Books
from engine.feed import Head
from engine.needs import Needs
from engine.rows import AccountRow, LedgerRow

ACCOUNTS_MAX: Final = 50_000
"""How many accounts of a site are remembered at most, twice over: those used lately, and those used before them."""
TOGETHER_MAX: Final = 100_000
"""How many accounts of all sites are remembered by a process: some 1.4 KB each."""


class Memory:
    """The head that the site's last known batch left, and the ledgers and accounts as they stood then.

    An account that is in a category or under a monitor is not remembered: what follows from moving it has to be read.
    """

    def __init__(self, accounts_max: int = ACCOUNTS_MAX, used: Callable[[Memory], None] | None = None) -> None:
        """Start without knowing anything; `used` is told after each batch."""
        self._used = used
        self.head: Head | None = None
        self._accounts_max = accounts_max
        self._young: dict[str, tuple[AccountRow, Totals]] = {}
        self._old: dict[str, tuple[AccountRow, Totals]] = {}
        self._named: dict[str, str] = {}
        self._ledgers: dict[str, LedgerRow] = {}

    def __len__(self) -> int:
        """Return how many accounts are remembered, those twice that are in both generations."""
        return len(self._young) + len(self._old)

    def forget(self) -> None:
        """Know nothing any more."""
        self.head = None
        self._young, self._old, self._named, self._ledgers = {}, {}, {}, {}

    def recall(self, needs: Needs, books: Books | None = None) -> tuple[Books, Needs]:
        """Return what is remembered of the needs, and the needs that are left to read.

        It is told to books where some are given; what they know already of accounts stays as it is there.
        """
        # What is left has sets of its own wherever they differ: most needs are an entry's, and all of them remembered.
        books, left = books or Books(), copy(needs)
        wanted = needs.accounts
        if needs.account_external_ids:
            named = {each: self._named[each] for each in needs.account_external_ids if each in self._named}
            left.account_external_ids = needs.account_external_ids.difference(named)
            wanted = wanted.union(named.values())
        left.accounts = set()
        found, rows = [], []
        for account_id in wanted:
            row = books.account(account_id)
            if row is None:
                known = self._account(account_id)
                if known is None:
                    left.accounts.add(account_id)
                    continue
                found.append(known)
                row = known[0]
            rows.append(row)
        ledgers = needs.ledgers
        if needs.periods:
            ledgers = ledgers.union([row["ledger_id"] for row in rows])
        remembered = [self._ledgers[each] for each in ledgers if each in self._ledgers]
        left.ledgers = ledgers.difference(self._ledgers) if ledgers else ledgers
        if found or remembered:
            books.learn(accounts=found, ledgers=remembered)
        return books, left

    def learn(self, books: Books, known: Head, head: Head) -> None:
        """Remember the books of a batch that is committed: the head it was decided on, and the one it left."""
        if self.head != known:
            self.forget()
        self.head = head
        for ledger in books.ledgers():
            self._ledgers[ledger["id"]] = ledger
        for account_id, totals in books.moved():
            account = books.account(account_id)
            before = self._young.get(account_id)
            if before is None or before[0] is not account:
                self._drop(account_id)
            if account is not None and not (account["categories"] or account["monitors"]):
                self._young[account_id] = (account, totals)
                if account["external_id"] is not None:
                    self._named[account["external_id"]] = account_id
        if len(self._young) > self._accounts_max or len(self._ledgers) > self._accounts_max:
            self._young, self._old, self._ledgers = {}, self._young, {}
            self._named = {name: each for name, each in self._named.items() if each in self._old}
        if self._used is not None:
            self._used(self)

    def _account(self, account_id: str) -> tuple[AccountRow, Totals] | None:
        found = self._young.get(account_id)
        if found is None:
            found = self._old.get(account_id)
            if found is not None:
                self._young[account_id] = found
        return found

    def _drop(self, account_id: str) -> None:
        for generation in (self._young, self._old):
            known = generation.pop(account_id, None)
            if known is not None and known[0]["external_id"] is not None:
                self._named.pop(known[0]["external_id"], None)


class Memories:
    """The memories of a process: when they hold too much together, the site that wrote longest ago is forgotten."""

    def __init__(self, together_max: int = TOGETHER_MAX) -> None:
        """Start without any."""
        self._together_max = together_max
        self._sizes: OrderedDict[Memory, int] = OrderedDict()
        self._together = 0

    def open(self, accounts_max: int = ACCOUNTS_MAX) -> Memory:
        """Return a memory for one more site."""
        return Memory(accounts_max, self.used)

    def used(self, memory: Memory) -> None:
        """Take note that a site has written, and of how much is remembered of it."""
        self._together += len(memory) - self._sizes.pop(memory, 0)
        self._sizes[memory] = len(memory)
        while self._together > self._together_max and len(self._sizes) > 1:
            oldest, size = self._sizes.popitem(last=False)
            oldest.forget()
            self._together -= size
