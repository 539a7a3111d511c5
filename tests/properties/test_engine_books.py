"""Any sequence of commands, against the oracle: the engine's own batch on a real database, and the audit after it.

The machine runs batches through `run_batch` on SQLite in memory, with the migrations applied: what is decided, what is
written and what is read back are all in play.
"""

from __future__ import annotations

import hashlib
import sqlite3
import tempfile
from collections import defaultdict
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, multiple, precondition, rule
from sqlalchemy import Connection, create_engine, event
from sqlalchemy.pool import StaticPool

from engine import audit, feed
from engine.batch import BatchRun, Committed, Outcome, Submission, run_batch
from engine.commands import (
    ArchiveEntry,
    CloseAccount,
    Command,
    CreateAccount,
    CreateLedger,
    LineDraft,
    PostBatch,
    PostEntry,
    PostPending,
    UpdateEntry,
)
from engine.errors import AccountNotEmpty, EntryNotPending, IdempotencyKeyReused, Refused
from engine.events import Diagnostics
from engine.idempotency import IdempotencyKey
from engine.needs import Needs
from engine.store import load
from gledger.migrations import upgrade
from tests.fakes.clock import FakeClock, SequentialIds
from tests.properties.oracle import Booked, Line, Oracle
from tests.store.engine_stage import EPOCH, SITE, all_rows

# Accounts 0 to 3 are in one currency, 4 and 5 in another; one pair in many is over both.
PAIRS = [(one, other) for one in range(4) for other in range(4)] + [(4, 5), (5, 4), (4, 4), (3, 4)]
ENTRIES = st.tuples(
    st.lists(
        # The last part makes one entry in many unbalanced.
        st.tuples(st.sampled_from(PAIRS), st.integers(1, 60), st.sampled_from([False] * 20 + [True])),
        min_size=1,
        max_size=3,
    ),
    st.sampled_from(["posted", "pending"]),
    st.sampled_from([None] * 6 + ["x", "y"]),
)


@cache
def migrated() -> bytes:
    """Return the bytes of a migrated, empty database."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "template.sqlite3"
        upgrade(f"sqlite:///{path}", "site")
        with sqlite3.connect(path) as source:
            source.execute("PRAGMA journal_mode=DELETE")
        source.close()
        return path.read_bytes()


class BooksMachine(RuleBasedStateMachine):
    """Posts, reserves, resolves, repeats and refuses; after every step the books are what the oracle adds up."""

    entries = Bundle("entries")

    def __init__(self) -> None:
        super().__init__()
        self.engine = create_engine(
            "sqlite://",
            poolclass=StaticPool,
            connect_args={"isolation_level": None},
            json_serializer=lambda value: msgspec.json.encode(value).decode(),
        )
        event.listen(self.engine, "connect", lambda connection, _record: connection.deserialize(migrated()))
        event.listen(self.engine, "begin", lambda conn: conn.exec_driver_sql("BEGIN"))
        self.clock = FakeClock()
        self.run_of = BatchRun(site=SITE, ids=SequentialIds(), idempotency_days=7)
        self.oracle = Oracle()
        self.accounts: list[str] = []
        self.answered: dict[str, tuple[PostEntry, bytes]] = {}
        self.numbers = iter(range(10**9))

    def teardown(self) -> None:
        self.engine.dispose()

    @initialize()
    def open_books(self) -> None:
        """A ledger, and accounts of two currencies, both normal balances, guarded and not."""
        with self.engine.begin() as conn:
            feed.create_site(conn, SITE, EPOCH, self.clock.now_us())
        ledger_id = self.one(CreateLedger(name="Main")).resource_id or ""
        for kind, currency, free in (
            ("asset", "EUR", False),
            ("liability", "EUR", False),
            ("asset", "EUR", True),
            ("revenue", "EUR", True),
            ("asset", "JPY", True),
            ("liability", "JPY", False),
        ):
            command = CreateAccount(ledger_id=ledger_id, name=kind, type=kind, currency=currency, allow_negative=free)  # type: ignore[arg-type]
            account = self.one(command).resource_id or ""
            self.accounts.append(account)
            self.oracle.currency[account] = currency
            if not free:
                self.oracle.guarded.add(account)
            if kind != "asset":
                self.oracle.credit_normal.add(account)
        self.book(*self.funding(0, 3))
        self.book(*self.funding(2, 1))

    def funding(self, debit: int, credit: int) -> tuple[Any, Outcome]:
        """Put something on two accounts, so that it can be spent."""
        drawn = ([((debit, credit), 100, False)], "posted", None)
        return drawn, self.submit((self.command(drawn)[0], None))[0]

    def submit(self, *submissions: tuple[Command, IdempotencyKey | None]) -> list[Outcome]:
        """Run one batch in one transaction."""
        self.clock.advance(micros=7)
        given = [Submission(command=command, key=key, diagnostics=Diagnostics()) for command, key in submissions]
        with self.engine.begin() as conn:
            return run_batch(conn, self.run_of, given, self.clock).outcomes

    def one(self, command: Command) -> Committed:
        """Run a command that must be accepted."""
        [outcome] = self.submit((command, None))
        assert isinstance(outcome, Committed), outcome
        return outcome

    def refused(self, command: Command, kind: type[Refused] = Refused) -> None:
        """Run a command that must be refused, and see that not one row and not one number has changed."""
        before, books = self.rows(), self.books()
        [outcome] = self.submit((command, None))
        assert isinstance(outcome, kind), (command, outcome)
        assert (self.rows(), self.books()) == (before, books)

    def rows(self) -> dict[str, list[Any]]:
        """Return every row there is."""
        with self.engine.begin() as conn:
            return all_rows(conn)

    def books(self) -> bytes:
        """Return the whole working copy as a batch would read it."""
        with self.engine.begin() as conn:
            loaded = load(conn, SITE.id, Needs(accounts=set(self.accounts), entries=set(self.oracle.entries)))
        return msgspec.json.encode(
            [
                loaded._accounts,
                {name: list(each) for name, each in loaded._totals.items()},
                loaded._entries,
                loaded._lines,
            ],
            order="sorted",
        )

    def command(self, drawn: Any) -> tuple[PostEntry, list[Line]]:
        """Return what was drawn as a command, and as the oracle takes it; now and then it does not balance."""
        moves, status, external_id = drawn
        lines: list[Line] = []
        for (debit, credit), amount, slip in moves:
            lines += [(self.accounts[debit], "debit", amount), (self.accounts[credit], "credit", amount + slip)]
        drafts = tuple(LineDraft(account=a, direction=d, amount=n, metadata={}) for a, d, n in lines)  # type: ignore[arg-type]
        return PostEntry(lines=drafts, status=status, external_id=external_id), lines

    def book(self, drawn: Any, outcome: Outcome) -> list[str]:
        """Hold an outcome against the oracle, and let it remember."""
        command, lines = self.command(drawn)
        takes = self.oracle.takes(lines, command.external_id, command.status)
        assert isinstance(outcome, Committed) == takes, (command, outcome)
        if not isinstance(outcome, Committed):
            return []
        entry_id = outcome.resource_id or ""
        self.oracle.entries[entry_id] = Booked(lines, command.status, command.external_id)
        return [entry_id]

    @rule(target=entries, drawn=ENTRIES)
    def post(self, drawn: Any) -> Any:
        """One entry alone."""
        command, lines = self.command(drawn)
        if not self.oracle.takes(lines, command.external_id, command.status):
            self.refused(command)
            return multiple()
        return multiple(*self.book(drawn, self.submit((command, None))[0]))

    @rule(target=entries, all_drawn=st.lists(ENTRIES, min_size=2, max_size=5))
    def post_several(self, all_drawn: list[Any]) -> Any:
        """Several commands of one batch, each for itself, in their order."""
        outcomes = self.submit(*((self.command(drawn)[0], None) for drawn in all_drawn))
        made = []
        for drawn, outcome in zip(all_drawn, outcomes, strict=True):
            made += self.book(drawn, outcome)
        return multiple(*made)

    @rule(target=entries, all_drawn=st.lists(ENTRIES, min_size=1, max_size=4))
    def post_atomically(self, all_drawn: list[Any]) -> Any:
        """All or nothing: the oracle takes them one after the other, and forgets all where it refuses one."""
        kept = dict(self.oracle.entries)
        taken: list[str] = []
        for number, drawn in enumerate(all_drawn):
            command, lines = self.command(drawn)
            if not self.oracle.takes(lines, command.external_id, command.status):
                self.oracle.entries = kept
                self.refused(PostBatch(entries=tuple(self.command(each)[0] for each in all_drawn)))
                return multiple()
            self.oracle.entries[f"trial {number}"] = Booked(lines, command.status, command.external_id)
            taken.append(f"trial {number}")
        answer = self.one(PostBatch(entries=tuple(self.command(each)[0] for each in all_drawn))).body
        made = [each["id"] for each in msgspec.json.decode(answer)["data"]]
        for entry_id, trial in zip(made, taken, strict=True):
            self.oracle.entries[entry_id] = self.oracle.entries.pop(trial)
        return multiple(*made)

    @rule(drawn=ENTRIES, twice=st.booleans(), other=st.booleans())
    def repeat_a_key(self, drawn: Any, *, twice: bool, other: bool) -> None:
        """The same key has one effect, in one batch or in two; with another request it has none."""
        command, lines = self.command(drawn)
        if not self.oracle.takes(lines, command.external_id, command.status):
            return
        name = f"k{next(self.numbers)}"
        key = IdempotencyKey(key=name, fingerprint=hashlib.sha256(name.encode()).digest())
        if twice:
            first, again = self.submit((command, key), (command, key))
        else:
            [first], [again] = self.submit((command, key)), self.submit((command, key))
        self.book(drawn, first)
        assert isinstance(first, Committed)
        assert again == replace(first, replayed=True)
        self.answered[name] = (command, first.body)
        if other:
            before = self.rows()
            [refused] = self.submit((command, replace(key, fingerprint=b"other")))
            assert isinstance(refused, IdempotencyKeyReused)
            assert self.rows() == before

    @rule()
    def repeat_every_key(self) -> None:
        """However much later: the first answer to the byte, and not one row more."""
        before = self.rows()
        for name, (command, answer) in self.answered.items():
            key = IdempotencyKey(key=name, fingerprint=hashlib.sha256(name.encode()).digest())
            [again] = self.submit((command, key))
            assert isinstance(again, Committed)
            assert (again.body, again.replayed) == (answer, True)
        assert self.rows() == before

    def pending(self) -> list[str]:
        """Return the entries that wait, the oldest first."""
        return [entry_id for entry_id, entry in self.oracle.entries.items() if entry.status == "pending"]

    @precondition(lambda self: bool(self.pending()))
    @rule(data=st.data(), end=st.sampled_from(["posted", "archived"]), again=st.booleans())
    def resolve(self, data: st.DataObject, end: str, *, again: bool) -> None:
        """A pending entry ends, once, whatever the balances are by now."""
        entry_id = data.draw(st.sampled_from(self.pending()))
        command: Command = PostPending(entry_id=entry_id) if end == "posted" else ArchiveEntry(entry_id=entry_id)
        self.one(command)
        self.oracle.entries[entry_id].status = end
        if again:
            self.refused(command, EntryNotPending)

    @rule(entry_id=entries, post=st.booleans())
    def resolve_what_is_final(self, entry_id: str, *, post: bool) -> None:
        """Nothing leads out of posted and archived."""
        if self.oracle.entries[entry_id].status != "pending":
            self.refused(PostPending(entry_id=entry_id) if post else ArchiveEntry(entry_id=entry_id), EntryNotPending)

    @rule(entry_id=entries, text=st.sampled_from(["a", "b"]))
    def describe(self, entry_id: str, text: str) -> None:
        """A description moves no money."""
        self.one(UpdateEntry(entry_id=entry_id, description=text, metadata={"t": text}))

    @rule(number=st.integers(0, 5))
    def close(self, number: int) -> None:
        """An account with nothing on it is closed for good; one with something stays open."""
        account = self.accounts[number]
        debits, credits_, *pending = self.oracle.totals(account)
        if account in self.oracle.closed or not self.oracle.entries:
            return
        if debits == credits_ and not any(pending):
            if len(self.oracle.closed) < 2:
                self.one(CloseAccount(account_id=account))
                self.oracle.closed.add(account)
        else:
            self.refused(CloseAccount(account_id=account), AccountNotEmpty)

    @invariant()
    def totals_are_those_of_the_oracle(self) -> None:
        """Every account; available is never below zero where it must not be; each currency sums to nothing."""
        with self.engine.begin() as conn:
            loaded = load(conn, SITE.id, Needs(accounts=set(self.accounts)))
        sums: dict[str, int] = defaultdict(int)
        for account in self.accounts:
            totals = loaded.totals(account)
            assert totals[:4] == self.oracle.totals(account)
            assert account not in self.oracle.guarded or self.oracle.available(account) >= 0
            sums[self.oracle.currency[account]] += totals.posted_debits - totals.posted_credits
            sums[self.oracle.currency[account] + " pending"] += totals.pending_debits - totals.pending_credits
        assert not any(sums.values())

    @invariant()
    def feed_and_lines_rebuild_the_books(self) -> None:
        """The audit finds nothing, and the feed alone, as a partner has it, tells every balance."""
        if not self.accounts:
            return
        with self.engine.begin() as conn:
            assert audit.verify(conn, SITE.id, lambda _rows: None) is None
            told = balances_told(conn)
        for account in self.accounts:
            assert told[account] == list(self.oracle.totals(account))


def balances_told(conn: Connection) -> dict[str, list[int]]:
    """Rebuild every account's totals from the bodies of the events, and from nothing else."""
    totals: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    reserved: set[str] = set()
    for number, each in enumerate(feed.read_after(conn, SITE.id, 0, 10**6), 1):
        told = msgspec.json.decode(each.body)
        assert told["sequence"] == each.sequence == number
        kind, data = told["type"], told["data"]
        if kind not in {"entry.created", "entry.posted", "entry.archived"}:
            continue
        for line in data["lines"]:
            side = ("debit", "credit").index(line["direction"])
            account = totals[line["account_id"]]
            account[side] += line["amount"] * (kind == "entry.posted")
            account[side + 2] += line["amount"] * ((kind == "entry.created") - (data["id"] in reserved))
            assert line["resulting_balances"]["posted"]["debits"] >= 0
        reserved.symmetric_difference_update(
            {data["id"]} if kind == "entry.created" or data["id"] in reserved else set()
        )
    return totals


BooksMachine.TestCase.settings = settings(
    max_examples=25,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    print_blob=True,
)


TestBooks = BooksMachine.TestCase
