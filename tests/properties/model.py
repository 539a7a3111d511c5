"""A machine that does anything to the books in any order, and holds them against the oracle after every step.

It runs batches through the engine's own `run_batch` on a real database: what is decided, what is written and what is read
back are all in play. Where it runs is handed to it.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

import msgspec
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, multiple, precondition, rule
from sqlalchemy import Connection

from engine import audit, category_store, feed
from engine.balances import Limit
from engine.batch import run_batch
from engine.category_commands import (
    ArchiveMonitor,
    CreateCategory,
    CreateMonitor,
    LinkCategory,
    PlaceAccount,
    UpdateCategory,
)
from engine.commands import (
    ArchiveEntry,
    CaptureHold,
    CloseAccount,
    Command,
    CreateAccount,
    CreateHold,
    CreateLedger,
    LineDraft,
    LinePart,
    PostBatch,
    PostEntry,
    PostPart,
    PostPending,
    ReleaseHold,
    ReverseEntry,
    UpdateAccount,
    UpdateEntry,
)
from engine.databases import Site
from engine.entry_errors import CaptureExceeds, EntryAlreadyReversed, HoldNotOpen
from engine.errors import AccountNotEmpty, CategoryCycle, EntryNotPending, IdempotencyKeyReused, Refused
from engine.events import Diagnostics
from engine.fold import BatchRun, Committed, Outcome, Submission
from engine.idempotency import IdempotencyKey
from engine.needs import Needs
from engine.store import load
from tests.fakes.clock import FakeClock, SequentialIds
from tests.properties.oracle import Booked, Bound, Line, Oracle, Watch
from tests.store.engine_stage import EPOCH, all_rows

T = TypeVar("T")
Transact = Callable[[Callable[[Connection], T]], T]

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
OFFSETS = st.none() | st.sampled_from([0, 1, 10, 60])
# How far below and above where a balance is now its limits are.
BOUNDS = st.lists(st.tuples(BALANCES, OFFSETS, OFFSETS), max_size=2, unique_by=lambda bound: bound[0])
# Where accounts come and go while entries are posted.
PLACES = st.tuples(st.sampled_from([0, 3]), st.sampled_from([1, 3]), st.booleans())
HOUR = 3_600_000_000


class BooksMachine(RuleBasedStateMachine):
    """Posts, reserves and resolves; what else a machine does stands in those made of it."""

    entries = Bundle("entries")

    def __init__(self, transact: Transact[Any], site: Site) -> None:
        super().__init__()
        self.transact = transact
        self.site = site
        self.clock = FakeClock()
        self.run_of = BatchRun(site=site, ids=SequentialIds(), idempotency_days=7)
        self.oracle = Oracle()
        self.accounts: list[str] = []
        self.categories: list[str] = []
        self.answered: dict[str, tuple[PostEntry, bytes]] = {}
        self.numbers = iter(range(10**9))

    @initialize()
    def open_books(self) -> None:
        """A ledger; accounts of two currencies, both normal balances, guarded and not; and categories to put them in."""
        self.transact(lambda conn: feed.create_site(conn, self.site, EPOCH, self.clock.now_us()))
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

    def funding(self, debit: int, credit: int) -> tuple[Any, Outcome]:
        """Put something on two accounts, so that it can be spent."""
        drawn = ([((debit, credit), 100, False)], "posted", None)
        return drawn, self.submit((self.command(drawn), None))[0]

    def submit(self, *submissions: tuple[Command, IdempotencyKey | None]) -> list[Outcome]:
        """Run one batch in one transaction."""
        self.clock.advance(micros=7)
        given = [Submission(command=command, key=key, diagnostics=Diagnostics()) for command, key in submissions]
        outcomes: list[Outcome] = self.transact(lambda conn: run_batch(conn, self.run_of, given, self.clock).outcomes)
        return outcomes

    def one(self, command: Command) -> Committed:
        """Run a command that must be accepted."""
        [outcome] = self.submit((command, None))
        assert isinstance(outcome, Committed), (command, outcome)
        return outcome

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

    def rows(self) -> dict[str, list[Any]]:
        """Return every row there is."""
        found: dict[str, list[Any]] = self.transact(all_rows)
        return found

    def loaded(self) -> Any:
        """Return the whole working copy as a batch would read it."""
        needs = Needs(accounts=set(self.accounts), entries=set(self.oracle.entries))
        return self.transact(lambda conn: load(conn, self.site.id, needs))

    def books(self) -> bytes:
        """Return the whole working copy as bytes."""
        loaded = self.loaded()
        totals = {name: list(each) for name, each in loaded._totals.items()}
        return msgspec.json.encode([loaded._accounts, totals, loaded._entries, loaded._lines], order="sorted")

    def lines_of(self, drawn: Any) -> tuple[Line, ...]:
        """Return the lines of what was drawn; now and then they do not balance."""
        lines: list[Line] = []
        for (debit, credit), amount, slip in drawn[0]:
            lines += [(self.accounts[debit], "debit", amount), (self.accounts[credit], "credit", amount + slip)]
        return tuple(lines)

    def command(self, drawn: Any) -> PostEntry:
        """Return what was drawn as a command."""
        return PostEntry(lines=drafts(self.lines_of(drawn)), status=drawn[1], external_id=drawn[2])

    def booked(self, drawn: Any) -> Booked:
        """Return what was drawn as the oracle takes it."""
        return Booked(self.lines_of(drawn), drawn[1], drawn[2])

    def book(self, drawn: Any, outcome: Outcome) -> list[str]:
        """Hold an outcome against the oracle, and let it remember."""
        new = self.booked(drawn)
        assert isinstance(outcome, Committed) == self.oracle.takes(new), (new, outcome)
        if not isinstance(outcome, Committed):
            return []
        entry_id = outcome.resource_id or ""
        self.oracle.become({**self.oracle.entries, entry_id: new})
        return [entry_id]

    @rule(target=entries, drawn=ENTRIES, hours=st.none() | st.integers(-50, 50))
    def post(self, drawn: Any, hours: int | None) -> Any:
        """One entry alone, of now or of another time."""
        at = None if hours is None else self.clock.now_us() + hours * HOUR
        command = replace(self.command(drawn), effective_at=at)
        if not self.oracle.takes(self.booked(drawn)):
            self.refused(command)
            return multiple()
        return multiple(*self.book(drawn, self.submit((command, None))[0]))

    @rule(target=entries, all_drawn=st.lists(ENTRIES, min_size=2, max_size=5))
    def post_several(self, all_drawn: list[Any]) -> Any:
        """Several commands of one batch, each for itself, in their order."""
        outcomes = self.submit(*((self.command(drawn), None) for drawn in all_drawn))
        made = []
        for drawn, outcome in zip(all_drawn, outcomes, strict=True):
            made += self.book(drawn, outcome)
        return multiple(*made)

    @rule(target=entries, all_drawn=st.lists(ENTRIES, min_size=1, max_size=4))
    def post_atomically(self, all_drawn: list[Any]) -> Any:
        """All or nothing: the oracle takes them one after the other, and forgets all where it refuses one."""
        kept, command = self.oracle.entries, PostBatch(entries=tuple(self.command(drawn) for drawn in all_drawn))
        steps = []
        for number, drawn in enumerate(all_drawn):
            new = self.booked(drawn)
            if not self.oracle.takes(new):
                self.oracle.entries = kept
                self.refused(command)
                return multiple()
            self.oracle.entries = {**self.oracle.entries, f"trial {number}": new}
            steps.append(new)
        self.oracle.entries = kept
        made = [each["id"] for each in msgspec.json.decode(self.one(command).body)["data"]]
        for entry_id, new in zip(made, steps, strict=True):
            self.oracle.become({**self.oracle.entries, entry_id: new})
        return multiple(*made)

    def of_status(self, status: str) -> list[str]:
        """Return the entries of a status, the oldest first."""
        return [entry_id for entry_id, entry in self.oracle.entries.items() if entry.status == status]

    @precondition(lambda self: bool(self.of_status("pending")))
    @rule(data=st.data(), end=st.sampled_from(["posted", "archived"]), again=st.booleans())
    def resolve(self, data: st.DataObject, end: str, *, again: bool) -> None:
        """A pending entry ends, once, whatever the balances and the limits are by now."""
        entry_id = data.draw(st.sampled_from(self.of_status("pending")))
        command: Command = PostPending(entry_id=entry_id) if end == "posted" else ArchiveEntry(entry_id=entry_id)
        self.one(command)
        self.oracle.ends(entry_id, end)
        if again:
            self.refused(command, EntryNotPending)

    @invariant()
    def totals_are_those_of_the_oracle(self) -> None:
        """Every account and category; each currency sums to nothing."""
        if not self.accounts:
            return
        loaded = self.loaded()
        found = self.transact(lambda conn: category_store.totals_of(conn, self.site.id, self.categories))
        sums: dict[str, int] = defaultdict(int)
        for account in self.accounts:
            totals = loaded.totals(account)
            assert totals[:4] == self.oracle.totals(account)
            sums[self.oracle.currency[account]] += totals.posted_debits - totals.posted_credits
            sums[self.oracle.currency[account] + " pending"] += totals.pending_debits - totals.pending_credits
        assert not any(sums.values())
        for category in self.categories:
            assert found[category][:4] == self.oracle.totals(category)

    @invariant()
    def feed_and_lines_rebuild_the_books(self) -> None:
        """The audit finds nothing, and the feed alone, as a partner has it, tells every balance and every edge."""
        if not self.accounts:
            return
        site_id = self.site.id
        assert self.transact(lambda conn: audit.verify(conn, site_id, lambda _rows: None)) is None
        told = self.transact(lambda conn: feed.read_after(conn, site_id, 0, 10**6))
        balances, edges = rebuilt([msgspec.json.decode(each.body) for each in told])
        for account in self.accounts:
            assert balances[account] == list(self.oracle.totals(account))
        assert dict(edges) == {name: watch.edges for name, watch in self.oracle.watches.items() if watch.edges}


class EntriesMachine(BooksMachine):
    """What becomes of entries: in part, in other words, of another time, mirrored, repeated, final."""

    entries = BooksMachine.entries

    @rule(drawn=ENTRIES, twice=st.booleans(), other=st.booleans())
    def repeat_a_key(self, drawn: Any, *, twice: bool, other: bool) -> None:
        """The same key has one effect, in one batch or in two; with another request it has none."""
        command = self.command(drawn)
        if not self.oracle.takes(self.booked(drawn)):
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

    @precondition(lambda self: bool(self.of_status("pending")))
    @rule(target=entries, data=st.data(), numerator=st.integers(1, 3), release=st.booleans())
    def post_a_part(self, data: st.DataObject, numerator: int, *, release: bool) -> Any:
        """So many quarters of every line are posted, where that comes out even; the rest stays or is released."""
        entry_id = data.draw(st.sampled_from(self.of_status("pending")))
        entry = self.oracle.entries[entry_id]
        amounts = [amount * numerator // 4 for _, _, amount in entry.lines]
        parts = tuple(
            LinePart(line_id=line["id"], amount=amount)
            for line, amount in zip(self.loaded().lines(entry_id), amounts, strict=True)
            if amount
        )
        taken = tuple((*line[:2], amount) for line, amount in zip(entry.lines, amounts, strict=True) if amount)
        fine = bool(taken) and sum(n if side == "debit" else -n for _, side, n in taken) == 0
        done = self.tried(PostPart(entry_id=entry_id, parts=parts, release_rest=release), fine=fine)
        if done is None:
            return multiple()
        if release:
            self.oracle.become({**self.oracle.entries, entry_id: replace(entry, lines=taken, status="posted")})
            return multiple()
        rest = tuple((*line[:2], line[2] - n) for line, n in zip(entry.lines, amounts, strict=True))
        made = done.resource_id or ""
        self.oracle.become({**self.oracle.entries, entry_id: replace(entry, lines=rest), made: Booked(taken, "posted")})
        return multiple(made)

    @precondition(lambda self: bool(self.of_status("pending")))
    @rule(data=st.data(), moves=MOVES)
    def change_lines(self, data: st.DataObject, moves: Any) -> None:
        """A pending entry reserves something else, where the accounts can take it."""
        entry_id = data.draw(st.sampled_from(self.of_status("pending")))
        lines = self.lines_of((moves,))
        changed = {**self.oracle.entries, entry_id: replace(self.oracle.entries[entry_id], lines=lines)}
        fine = self.oracle.fits(lines) and self.oracle.allows(changed)
        if self.tried(UpdateEntry(entry_id=entry_id, lines=drafts(lines)), fine=fine):
            self.oracle.become(changed)

    @precondition(lambda self: bool(self.of_status("pending")))
    @rule(data=st.data(), hours=st.integers(-50, 50))
    def move_in_time(self, data: st.DataObject, hours: int) -> None:
        """A pending entry takes effect at another time; that moves no balance of now."""
        entry_id = data.draw(st.sampled_from(self.of_status("pending")))
        self.one(UpdateEntry(entry_id=entry_id, effective_at=self.clock.now_us() + hours * HOUR))

    @rule(target=entries, entry_id=entries, again=st.booleans())
    def reverse(self, entry_id: str, *, again: bool) -> Any:
        """A posted entry has one mirror image at most."""
        entry, command = self.oracle.entries[entry_id], ReverseEntry(entry_id=entry_id)
        mirror = Booked(
            tuple((name, {"debit": "credit", "credit": "debit"}[side], amount) for name, side, amount in entry.lines),
            "posted",
        )
        if entry.reversed:
            self.refused(command, EntryAlreadyReversed)
            return multiple()
        done = self.tried(command, fine=entry.status == "posted" and self.oracle.takes(mirror))
        if done is None:
            return multiple()
        made = done.resource_id or ""
        self.oracle.become({**self.oracle.entries, entry_id: replace(entry, reversed=True), made: mirror})
        if again:
            self.refused(command, EntryAlreadyReversed)
        return multiple(made)

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


class HoldsMachine(BooksMachine):
    """Reserves for a time, captures in parts, releases, lets time run out; and batches whose entries stand alone."""

    entries = BooksMachine.entries

    def furnish(self) -> None:
        """No hold is open yet."""
        self.open_until: dict[str, int] = {}

    def of_status(self, status: str) -> list[str]:
        """Return the entries of a status that are no open holds, the oldest first."""
        return [entry_id for entry_id in super().of_status(status) if entry_id not in self.open_until]

    @rule(
        pair=st.sampled_from([(0, 1), (3, 1), (1, 3), (2, 3), (1, 1)]),
        amount=st.integers(1, 60),
        hours=st.integers(1, 3),
        at_once=st.sampled_from([None, None, 1, 7]),
    )
    def hold(self, pair: tuple[int, int], amount: int, hours: int, at_once: int | None) -> None:
        """Something is reserved, where the accounts can take it; now and then a part is captured in the same batch."""
        drawn = ([(pair, amount, False)], "pending", None)
        until = self.clock.now_us() + hours * HOUR
        command = CreateHold(entry=self.command(drawn), expires_at=until)
        made = self.tried(command, fine=self.oracle.takes(self.booked(drawn)))
        if made is None:
            return
        hold_id = made.resource_id or ""
        self.oracle.become({**self.oracle.entries, hold_id: self.booked(drawn)})
        self.open_until[hold_id] = until
        if at_once is not None:
            self.captured(hold_id, at_once, final=False)

    @precondition(lambda self: bool(self.open_until))
    @rule(data=st.data(), amount=st.none() | st.integers(1, 60), final=st.booleans())
    def capture(self, data: st.DataObject, amount: int | None, *, final: bool) -> None:
        """A part or all of a hold is posted, whatever the balances are by now."""
        self.captured(data.draw(st.sampled_from(list(self.open_until))), amount, final=final)

    def captured(self, hold_id: str, amount: int | None, *, final: bool) -> None:
        """Capture, and let the oracle know."""
        entry = self.oracle.entries[hold_id]
        left = entry.lines[0][2]
        taken = left if amount is None else amount
        command = CaptureHold(hold_id=hold_id, amount=amount, final=final)
        done = self.tried(command, fine=taken <= left, kind=CaptureExceeds)
        if done is None:
            return
        lines = tuple((account, side, taken) for account, side, _ in entry.lines)
        if final or taken == left:
            self.oracle.become({**self.oracle.entries, hold_id: replace(entry, lines=lines, status="posted")})
            del self.open_until[hold_id]
            self.refused(command, HoldNotOpen)
            return
        rest = tuple((account, side, left - taken) for account, side, _ in entry.lines)
        made = msgspec.json.decode(done.body)["captures"][-1]
        self.oracle.become(
            {**self.oracle.entries, hold_id: replace(entry, lines=rest), made: Booked(lines, "posted")},
        )

    @precondition(lambda self: bool(self.open_until))
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        """A hold is given up, once."""
        hold_id = data.draw(st.sampled_from(list(self.open_until)))
        self.one(ReleaseHold(hold_id=hold_id))
        del self.open_until[hold_id]
        self.oracle.ends(hold_id, "archived")
        self.refused(ReleaseHold(hold_id=hold_id), HoldNotOpen)

    @rule(drawn=ENTRIES)
    def wait(self, drawn: Any) -> None:
        """An hour passes: the next batch begins by freeing what is due, and what it posts sees that."""
        self.clock.advance(micros=HOUR)
        due = [hold_id for hold_id, until in self.open_until.items() if until <= self.clock.now_us()]
        for hold_id in due:
            del self.open_until[hold_id]
            self.oracle.ends(hold_id, "archived")
        self.book(drawn, self.submit((self.command(drawn), None))[0])
        for hold_id in due:
            self.refused(CaptureHold(hold_id=hold_id), HoldNotOpen)

    @rule(target=entries, all_drawn=st.lists(ENTRIES, min_size=2, max_size=4))
    def post_independently(self, all_drawn: list[Any]) -> Any:
        """Each entry of one request stands or falls alone, seeing those before it that stand."""
        command = PostBatch(entries=tuple(self.command(drawn) for drawn in all_drawn), mode="independent")
        made: list[str] = []
        for drawn, outcome in zip(all_drawn, msgspec.json.decode(self.one(command).body)["data"], strict=True):
            new = self.booked(drawn)
            assert (outcome["status"] == "committed") == self.oracle.takes(new), outcome
            if outcome["entry"] is not None:
                made.append(outcome["entry"]["id"])
                self.oracle.become({**self.oracle.entries, made[-1]: new})
        return multiple(*made)


class GroupsMachine(BooksMachine):
    """What stands around accounts: categories in categories, limits, monitors."""

    entries = BooksMachine.entries

    def furnish(self) -> None:
        """A diamond of categories over two accounts, watched and limited from the start."""
        top, left, right, low = range(4)
        for parent, child in ((top, left), (top, right), (left, low), (right, low)):
            self.link(parent, child, inside=True)
        for account in (1, 3):
            self.place(low, account, inside=True)
        for number in (1, 6):
            self.watch(number, "available", -10)
        self.limit(9, [("available", 60, 60)])

    @rule(number=st.sampled_from([1, 3, 6, 9]), offsets=BOUNDS)
    def limit(self, number: int, offsets: list[Any]) -> None:
        """An account or a category gets other limits, close to where its balance is."""
        subject = [*self.accounts, *self.categories][number]
        if subject in self.oracle.closed:
            return
        bounds = [
            Bound(balance, None if low is None else here - low, None if high is None else here + high)
            for balance, low, high in offsets
            for here in (self.oracle.amount(subject, balance),)
        ]
        limits = tuple(Limit(balance=each.balance, at_least=each.floor, at_most=each.ceiling) for each in bounds)  # type: ignore[arg-type]
        change = UpdateAccount(account_id=subject, limits=limits)
        self.one(change if number < 6 else UpdateCategory(category_id=subject, limits=limits))
        self.oracle.bounds[subject] = bounds

    @rule(where=st.integers(0, 3), number=st.integers(0, 3), inside=st.booleans())
    def place(self, where: int, number: int, *, inside: bool) -> None:
        """An account is put into a category, or taken out, as often as one likes."""
        category, account = self.categories[where], self.accounts[number]
        self.one(PlaceAccount(category_id=category, account_id=account, inside=inside))
        self.placed(where, number, inside)

    @rule(where=st.integers(0, 3), number=st.integers(0, 3), inside=st.booleans())
    def link(self, where: int, number: int, *, inside: bool) -> None:
        """A category is put into another, never into itself, or taken out."""
        parent, child = self.categories[where], self.categories[number]
        known = child in self.oracle.nested[parent]
        fine = known or not inside or parent not in self.oracle.below(child)
        if self.tried(LinkCategory(category_id=parent, child_id=child, inside=inside), fine=fine, kind=CategoryCycle):
            (self.oracle.nested[parent].add if inside else self.oracle.nested[parent].discard)(child)
            self.oracle.look()

    @rule(number=st.sampled_from([0, 1, 3, 6, 7, 9]), balance=BALANCES, offset=st.sampled_from([-10, -1, 0, 10]))
    def watch(self, number: int, balance: Any, offset: int) -> None:
        """A monitor begins to look, close to where a balance is; what it sees first is its state and no edge."""
        subject = [*self.accounts, *self.categories][number]
        above = self.oracle.amount(subject, balance) + offset
        made = self.one(
            CreateMonitor(
                subject="account" if number < 6 else "account_category",
                subject_id=subject,
                field=balance,
                operator="gt",
                value=above,
            ),
        )
        self.oracle.watches[made.resource_id or ""] = Watch(
            subject, balance, above, self.oracle.amount(subject, balance) > above
        )

    @precondition(lambda self: any(watch.on for watch in self.oracle.watches.values()))
    @rule(data=st.data())
    def stop_watching(self, data: st.DataObject) -> None:
        """A monitor is archived and never tells anything again."""
        name = data.draw(st.sampled_from([name for name, watch in self.oracle.watches.items() if watch.on]))
        self.one(ArchiveMonitor(monitor_id=name))
        self.oracle.watches[name].on = False

    @rule(target=entries, steps=st.lists(ENTRIES | PLACES, min_size=3, max_size=8))
    def mix(self, steps: list[Any]) -> Any:
        """Entries between accounts that come and go, in one batch: each sees what those before it did."""
        commands: list[Command] = [
            PlaceAccount(category_id=self.categories[each[0]], account_id=self.accounts[each[1]], inside=each[2])
            if isinstance(each[0], int)
            else self.command(each)
            for each in steps
        ]
        made: list[str] = []
        for each, outcome in zip(steps, self.submit(*((command, None) for command in commands)), strict=True):
            if isinstance(each[0], int):
                assert isinstance(outcome, Committed)
                self.placed(*each)
            else:
                made += self.book(each, outcome)
        return multiple(*made)

    def placed(self, where: int, number: int, inside: bool) -> None:
        """Let the oracle know of an account that came or went."""
        holding = self.oracle.holding[self.categories[where]]
        (holding.add if inside else holding.discard)(self.accounts[number])
        self.oracle.look()


def drafts(lines: tuple[Line, ...]) -> tuple[LineDraft, ...]:
    """Return lines as a command takes them."""
    return tuple(LineDraft(account=a, direction=d, amount=n, metadata={}) for a, d, n in lines)  # type: ignore[arg-type]


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
