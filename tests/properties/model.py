"""A machine that posts, reserves and resolves in any order, and holds the books against the oracle after every step.

What else a machine does stands in `machines.py`. How its commands reach the books is handed to it (`ways.py`).
"""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from dataclasses import replace
from typing import Any

import msgspec
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, multiple, precondition, rule

from engine import audit, category_store, feed, history
from engine.category_commands import CreateCategory
from engine.commands import (
    ArchiveEntry,
    Command,
    Condition,
    CreateAccount,
    CreateLedger,
    LineDraft,
    PostEntry,
    PostPending,
    UpdateLedger,
    Validate,
)
from engine.databases import Site
from engine.errors import EntryNotPending, Refused
from engine.events import Diagnostics
from engine.fold import BatchRun, Committed, Outcome, Submission
from engine.history import Moment
from engine.idempotency import IdempotencyKey
from engine.needs import Needs
from engine.store import load
from tests.fakes.clock import FakeClock, SequentialIds
from tests.properties.oracle import Booked, Demand, Line, Oracle
from tests.properties.ways import Begin
from tests.store.engine_stage import all_rows

# Accounts 0 to 3 are in one currency, 4 and 5 in another; one pair in many is over both.
PAIRS = [(one, other) for one in range(4) for other in range(4)] + [(4, 5), (5, 4), (4, 4), (3, 4)]
MOVES = st.lists(
    # The last part makes one entry in many unbalanced.
    st.tuples(st.sampled_from(PAIRS), st.integers(1, 60), st.sampled_from([False] * 20 + [True])),
    min_size=1,
    max_size=3,
)
ENTRIES = st.tuples(MOVES, st.sampled_from(["posted", "pending"]), st.sampled_from([None] * 6 + ["x", "y"]))
BALANCES = st.sampled_from(["available", "pending", "posted"])
HOUR = 3_600_000_000
KEYS_KEPT = 12
_ID = re.compile(rb"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_INSTANT = re.compile(rb"\d{4}-\d\d-\d\dT[0-9:.]+Z")


class BooksMachine(RuleBasedStateMachine):
    """Posts, reserves and resolves."""

    entries = Bundle("entries")

    def __init__(self, begin: Begin, site: Site) -> None:
        super().__init__()
        self.site = site
        self.clock = FakeClock()
        self.way = begin(BatchRun(site=site, ids=SequentialIds(), idempotency_days=7), self.clock)
        self.oracle = Oracle(digits={"EUR": 2, "JPY": 0})
        self.ledger_id = ""
        self.accounts: list[str] = []
        self.own: dict[str, str] = {}
        self.categories: list[str] = []
        self.answered: dict[str, tuple[Command, bytes]] = {}
        self.numbers = iter(range(10**9))

    @initialize()
    def open_books(self) -> None:
        """A ledger; accounts of two currencies, both normal balances, guarded and not; and categories to put them in."""
        self.ledger_id = self.one(CreateLedger(name="Main")).resource_id or ""
        for number, (kind, currency, free) in enumerate(
            (
                ("asset", "EUR", False),
                ("liability", "EUR", False),
                ("asset", "EUR", True),
                ("revenue", "EUR", True),
                ("asset", "JPY", True),
                ("liability", "JPY", False),
            )
        ):
            command = CreateAccount(
                ledger_id=self.ledger_id,
                name=kind,
                type=kind,  # type: ignore[arg-type]
                currency=currency,
                allow_negative=free,
                external_id=f"a{number}",
                metadata={"number": str(number)},
            )
            account = self.one(command).resource_id or ""
            self.accounts.append(account)
            self.oracle.currency[account] = currency
            if not free:
                self.oracle.guarded.add(account)
            if kind != "asset":
                self.oracle.credit_normal.add(account)
        for currency in ("EUR", "JPY"):
            for purpose in ("fx_clearing", "fx_rounding"):
                self.oracle.currency[f"{purpose} {currency}"] = currency
        for name in ("top", "left", "right", "low"):
            made = self.one(CreateCategory(name=name, currency="EUR", normal_balance="credit")).resource_id or ""
            self.categories.append(made)
            self.oracle.credit_normal.add(made)
            self.oracle.holding[made], self.oracle.nested[made] = set(), set()
        self.book(*self.funding(0, 3))
        self.book(*self.funding(2, 1))
        self.furnish()

    def furnish(self) -> None:
        """Put something onto the books before anything is done."""

    def funding(self, debit: int, credit: int) -> tuple[Booked, Outcome]:
        """Put something on two accounts, so that it can be spent."""
        new = self.booked(([((debit, credit), 100, False)], "posted", None))
        return new, self.submit((self.command(new), None))[0]

    def submit(self, *submissions: tuple[Command, IdempotencyKey | None]) -> list[Outcome]:
        """Commit what is submitted at once."""
        self.oracle.now = self.clock.advance(micros=7)
        return self.way.submit(
            [Submission(command=each, key=key, diagnostics=Diagnostics()) for each, key in submissions]
        )

    def one(self, command: Command) -> Committed:
        """Run a command that must be accepted, under a key of its own."""
        name = f"one-{next(self.numbers)}"
        [outcome] = self.submit((command, key_of(name)))
        assert isinstance(outcome, Committed), (command, outcome)
        self.remember(name, command, outcome)
        return outcome

    def remember(self, name: str, command: Command, outcome: Committed) -> None:
        """Remember what a key was answered, of the last few."""
        self.answered[name] = (command, outcome.body)
        if len(self.answered) > KEYS_KEPT:
            del self.answered[next(iter(self.answered))]

    def refused(self, command: Command, kind: type[Refused] = Refused) -> None:
        """Run a command that must be refused, and see that not one row and not one number has changed."""
        before, books = self.rows(), self.books()
        [outcome] = self.submit((command, None))
        assert isinstance(outcome, kind), (command, outcome)
        assert (self.rows(), self.books()) == (before, books)

    def tried(self, command: Command, *, fine: bool, kind: type[Refused] = Refused) -> Committed | None:
        """Run a command that is accepted where the oracle says so, and refused where it does not."""
        if fine:
            return self.one(command)
        self.refused(command, kind)
        return None

    def foretold(self, command: Any, *, fine: bool, kind: type[Refused] = Refused) -> Committed | None:
        """Run a command that a dry run comes first of: it says the same, but for ids and times, and leaves all as it is."""
        before = self.rows()
        [trial] = self.submit((Validate(command=command), None))
        assert self.rows() == before
        done = self.tried(command, fine=fine, kind=kind)
        if done is None:
            assert isinstance(trial, kind), trial
        else:
            assert isinstance(trial, Committed), trial
            assert alike(trial.body, self.accounts) == alike(done.body, self.accounts)
        return done

    def rows(self) -> dict[str, list[Any]]:
        """Return every row there is."""
        return self.way.ask(all_rows)

    def loaded(self) -> Any:
        """Return the whole working copy as a batch would read it."""
        needs = Needs(accounts={*self.accounts, *self.own.values()}, entries=set(self.oracle.entries))
        return self.way.ask(lambda conn: load(conn, self.site.id, needs))

    def books(self) -> bytes:
        """Return the whole working copy as bytes."""
        loaded = self.loaded()
        totals = {name: list(each) for name, each in loaded._totals.items()}
        return msgspec.json.encode([loaded._accounts, totals, loaded._entries, loaded._lines], order="sorted")

    def lines_of(self, moves: Any) -> tuple[Line, ...]:
        """Return the lines of what was drawn; now and then they do not balance."""
        lines: list[Line] = []
        for (debit, credit), amount, slip in moves:
            lines += [(self.accounts[debit], "debit", amount), (self.accounts[credit], "credit", amount + slip)]
        return tuple(lines)

    def booked(self, drawn: Any, **more: Any) -> Booked:
        """Return what was drawn as the oracle takes it."""
        moves, status, external_id = drawn
        return Booked(self.lines_of(moves), status, external_id, **more)

    def command(self, new: Booked, lock_version: int | None = None) -> PostEntry:
        """Return the command that books an entry; a version is demanded of its first line's account."""
        return PostEntry(
            lines=drafts(new.lines, new.demands, lock_version),
            status=new.status,  # type: ignore[arg-type]
            external_id=new.external_id,
            effective_at=new.at,
            fx_rate_id=new.rate,
        )

    def book(self, new: Booked, outcome: Outcome) -> list[str]:
        """Hold an outcome against the oracle, and let it remember."""
        full = self.oracle.takes(new)
        assert isinstance(outcome, Committed) == (full is not None), (new, outcome)
        if not isinstance(outcome, Committed) or full is None:
            return []
        self.keep(outcome.resource_id or "", full, msgspec.json.decode(outcome.body)["lines"])
        return [outcome.resource_id or ""]

    def keep(self, entry_id: str, full: Booked, shown: list[Any]) -> None:
        """Remember an entry that was booked, and which accounts the books have opened for it."""
        for (name, side, amount), line in zip(full.lines, shown, strict=True):
            assert (line["direction"], line["amount"]) == (side, amount)
            if name not in self.accounts:
                assert self.own.setdefault(name, line["account_id"]) == line["account_id"]
                assert line["currency"] == self.oracle.currency[name]
                self.oracle.credit_normal.add(name)
            else:
                assert line["account_id"] == name
        at = self.oracle.now if full.at is None else full.at
        self.oracle.become({**self.oracle.entries, entry_id: replace(full, at=at)})

    def try_booking(self, new: Booked) -> list[str]:
        """Book an entry where the oracle takes it, after a dry run; it must be refused where it does not."""
        done = self.foretold(self.command(new), fine=self.oracle.takes(new) is not None)
        return [] if done is None else self.book(new, done)

    @rule(target=entries, drawn=ENTRIES, hours=st.none() | st.integers(-50, 50))
    def post(self, drawn: Any, hours: int | None) -> Any:
        """One entry alone, of now or of another time."""
        at = None if hours is None else self.clock.now_us() + hours * HOUR
        return multiple(*self.try_booking(self.booked(drawn, at=at)))

    def let_an_hour_pass(self) -> None:
        """Let it be an hour later, and something happen then, so that what is due is done."""
        self.clock.advance(micros=HOUR)
        self.one(UpdateLedger(ledger_id=self.ledger_id, name=f"Main {next(self.numbers)}"))

    def of_status(self, status: str) -> list[str]:
        """Return the entries of a status, the oldest first."""
        return [entry_id for entry_id, entry in self.oracle.entries.items() if entry.status == status]

    @precondition(lambda self: bool(self.of_status("pending")))
    @rule(data=st.data(), end=st.sampled_from(["posted", "archived"]), again=st.booleans())
    def resolve(self, data: st.DataObject, end: str, *, again: bool) -> None:
        """A pending entry ends, once, whatever the balances and the limits are by now; posted only where its time is open."""
        entry_id = data.draw(st.sampled_from(self.of_status("pending")))
        command: Command = PostPending(entry_id=entry_id) if end == "posted" else ArchiveEntry(entry_id=entry_id)
        fine = end == "archived" or self.oracle.opens(self.oracle.entries[entry_id].at)
        if self.tried(command, fine=fine) is None:
            return
        self.oracle.ends(entry_id, end)
        if again:
            self.refused(command, EntryNotPending)

    @rule()
    def repeat_every_key(self) -> None:
        """However much later and whatever it was: the first answer to the byte, and not one row more."""
        before = self.rows()
        given = [(command, key_of(name)) for name, (command, _) in self.answered.items()]
        for again, (_, answer) in zip(self.submit(*given), self.answered.values(), strict=True):
            assert isinstance(again, Committed)
            assert (again.body, again.replayed) == (answer, True)
        assert self.rows() == before

    @rule(number=st.integers(0, 5), hours=st.integers(-60, 60))
    def look_back(self, number: int, hours: int) -> None:
        """A balance as of any time is that of what takes effect by then, whenever it was booked."""
        account, at = self.accounts[number], self.clock.now_us() + hours * HOUR
        present = self.loaded().totals(account)
        found = self.way.ask(
            lambda conn: history.totals_at(conn, self.site.id, account, present, Moment(as_of=at)),
        )
        assert found[:4] == self.oracle.totals(account, at)

    def named(self) -> dict[str, str]:
        """Return every account by what the oracle calls it."""
        return {**{account: account for account in self.accounts}, **self.own}

    @invariant()
    def totals_are_those_of_the_oracle(self) -> None:
        """Every account and category; each currency sums to nothing."""
        if not self.accounts:
            return
        loaded = self.loaded()
        found = self.way.ask(lambda conn: category_store.totals_of(conn, self.site.id, self.categories))
        sums: dict[str, int] = defaultdict(int)
        for name, account in self.named().items():
            totals = loaded.totals(account)
            assert totals[:4] == self.oracle.totals(name)
            sums[self.oracle.currency[name]] += totals.posted_debits - totals.posted_credits
            sums[self.oracle.currency[name] + " pending"] += totals.pending_debits - totals.pending_credits
        assert not any(sums.values())
        for category in self.categories:
            assert found[category][:4] == self.oracle.totals(category)

    @invariant()
    def feed_and_lines_rebuild_the_books(self) -> None:
        """The audit finds nothing, and the feed alone, as a partner has it, tells every balance and every edge."""
        if not self.accounts:
            return
        site_id = self.site.id
        assert self.way.ask(lambda conn: audit.verify(conn, site_id, lambda _rows: None)) is None
        told = self.way.ask(lambda conn: feed.read_after(conn, site_id, 0, 10**6))
        balances, edges = rebuilt([msgspec.json.decode(each.body) for each in told])
        for name, account in self.named().items():
            assert balances[account] == list(self.oracle.totals(name))
        assert dict(edges) == {name: watch.edges for name, watch in self.oracle.watches.items() if watch.edges}


def key_of(name: str, request: bytes | None = None) -> IdempotencyKey:
    """Return an idempotency key; its request is its name unless another one is given."""
    return IdempotencyKey(key=name, fingerprint=hashlib.sha256(request or name.encode()).digest())


def drafts(
    lines: tuple[Line, ...], demands: tuple[Demand, ...] = (), lock_version: int | None = None
) -> tuple[LineDraft, ...]:
    """Return lines as a command takes them, each with what is demanded of its account."""
    return tuple(
        LineDraft(
            account=account,
            direction=side,  # type: ignore[arg-type]
            amount=amount,
            metadata={},
            lock_version=None if number else lock_version,
            conditions=tuple(
                Condition(balance=each.balance, operator=each.operator, value=each.value)  # type: ignore[arg-type]
                for each in demands
                if each.account == account
            ),
        )
        for number, (account, side, amount) in enumerate(lines)
    )


def alike(body: bytes, accounts: list[str]) -> bytes:
    """Return an answer with times and the ids of what was made left out, those of accounts kept."""
    known = {account.encode() for account in accounts}
    kept = _ID.sub(lambda found: found[0] if found[0] in known else b"id", body)
    return _INSTANT.sub(b"then", kept)


def rebuilt(events: list[Any]) -> tuple[dict[str, list[int]], dict[str, list[str]]]:
    """Rebuild every account's totals and every monitor's edges from what the events say, and from nothing else."""
    entries: dict[str, Any] = {}
    edges: dict[str, list[str]] = defaultdict(list)
    for number, event in enumerate(events, 1):
        assert event["sequence"] == number
        if event["type"].startswith("entry."):
            entries[event["data"]["id"]] = event["data"]
        elif event["type"].startswith("balance.threshold_"):
            edges[event["data"]["id"]].append(event["type"].rpartition("_")[2])
    totals: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    for entry in entries.values():
        shift = {"posted": 0, "pending": 2}.get(entry["status"])
        for line in entry["lines"] if shift is not None else ():
            totals[line["account_id"]][(shift or 0) + (line["direction"] == "credit")] += line["amount"]
    return totals, edges
