"""Machines that do more to the books than post and resolve: each another part of the product, and one that does it all."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from typing import Any

import msgspec
from hypothesis import strategies as st
from hypothesis.stateful import multiple, precondition, rule

from engine import feed
from engine.balances import Limit
from engine.category_commands import (
    ArchiveMonitor,
    CreateMonitor,
    LinkCategory,
    PlaceAccount,
    UpdateCategory,
)
from engine.commands import (
    AcceptEntry,
    ArchiveEntry,
    CaptureHold,
    CloseAccount,
    Command,
    CreateHold,
    LinePart,
    PostBatch,
    PostPart,
    PostPending,
    ReleaseHold,
    ReverseEntry,
    Tend,
    UpdateAccount,
    UpdateEntry,
    UpdateLedger,
)
from engine.definitions import Definition
from engine.entry_errors import CaptureExceeds, ConditionFailed, EntryAlreadyReversed, HoldNotOpen, PeriodClosed
from engine.errors import (
    AccountNotEmpty,
    CategoryCycle,
    EntryNotPending,
    IdempotencyKeyReused,
    LockVersionConflict,
    Refused,
)
from engine.event_commands import (
    CreateEventHandler,
    PostBusinessEvent,
    SwitchEventHandler,
    TryEventHandler,
    UpdateEventHandler,
)
from engine.event_errors import NoHandlerMatches, SeveralHandlersMatch
from engine.fold import Committed
from engine.fx_commands import CreateFxRate
from tests.properties.model import BALANCES, ENTRIES, HOUR, MOVES, BooksMachine, drafts, key_of
from tests.properties.oracle import Booked, Bound, Demand, Line, Rate, Watch

OFFSETS = st.none() | st.sampled_from([0, 1, 10, 60])
# How far below and above where a balance is now its limits are.
BOUNDS = st.lists(st.tuples(BALANCES, OFFSETS, OFFSETS), max_size=2, unique_by=lambda bound: bound[0])
# Where accounts come and go while entries are posted.
PLACES = st.tuples(st.sampled_from([0, 3]), st.sampled_from([1, 3]), st.booleans())
OPPOSITE = {"debit": "credit", "credit": "debit"}


class EntriesMachine(BooksMachine):
    """What becomes of entries: in part, in other words, of another time, mirrored, on a condition, repeated, final."""

    entries = BooksMachine.entries

    @rule(target=entries, all_drawn=st.lists(ENTRIES, min_size=2, max_size=5))
    def post_several(self, all_drawn: list[Any]) -> Any:
        """Several commands of one batch, each for itself, in their order."""
        wanted = [self.booked(drawn) for drawn in all_drawn]
        outcomes = self.submit(*((self.command(new), None) for new in wanted))
        made = []
        for new, outcome in zip(wanted, outcomes, strict=True):
            made += self.book(new, outcome)
        return multiple(*made)

    @rule(target=entries, all_drawn=st.lists(ENTRIES, min_size=1, max_size=4))
    def post_atomically(self, all_drawn: list[Any]) -> Any:
        """All or nothing: the oracle takes them one after the other, and forgets all where it refuses one."""
        kept, wanted = self.oracle.entries, [self.booked(drawn) for drawn in all_drawn]
        command = PostBatch(entries=tuple(self.command(new) for new in wanted))
        steps: list[Booked] = []
        for number, new in enumerate(wanted):
            full = self.oracle.takes(new)
            if full is None:
                break
            self.oracle.entries = {**self.oracle.entries, f"trial {number}": full}
            steps.append(full)
        self.oracle.entries = kept
        done = self.foretold(command, fine=len(steps) == len(wanted))
        shown = [] if done is None else msgspec.json.decode(done.body)["data"]
        for each, full in zip(shown, steps, strict=False):
            self.keep(each["id"], full, each["lines"])
        return multiple(*(each["id"] for each in shown))

    @rule(
        target=entries,
        drawn=ENTRIES,
        which=st.integers(0, 5),
        balance=BALANCES,
        operator=st.sampled_from(["gt", "gte", "lt", "lte", "eq"]),
        offset=st.integers(-2, 2),
        behind=st.sampled_from([0, 0, 0, 1, -1]) | st.none(),
    )
    def post_on_condition(
        self, drawn: Any, which: int, balance: str, operator: str, offset: int, behind: int | None
    ) -> Any:
        """An entry that demands a balance close to what it comes to, and that its account is where somebody has seen it."""
        new = self.booked(drawn)
        account = new.lines[which % len(new.lines)][0]
        kept = self.oracle.entries
        full = self.oracle.completed(new)
        self.oracle.entries = kept if full is None else {**kept, "trial": full}
        value = self.oracle.amount(account, balance) + offset
        self.oracle.entries = kept
        wanted = replace(new, demands=(Demand(account, balance, operator, value),))
        seen = None if behind is None else self.loaded().totals(new.lines[0][0]).lock_version + behind
        command, fine = self.command(wanted, seen), self.oracle.takes(wanted) is not None
        if fine and behind:
            self.foretold(command, fine=False, kind=LockVersionConflict)
            return multiple()
        failed = ConditionFailed if not fine and not behind and self.oracle.takes(new) else Refused
        done = self.foretold(command, fine=fine, kind=failed)
        return multiple() if done is None else multiple(*self.book(wanted, done))

    @rule(hours=st.none() | st.integers(0, 60))
    def close_the_past(self, hours: int | None) -> None:
        """The books take nothing any more that takes effect before a time; or again everything."""
        until = None if hours is None else self.clock.now_us() - hours * HOUR
        self.one(UpdateLedger(ledger_id=self.ledger_id, closed_until=until, reopen=until is None))
        self.oracle.closed_until = until

    @rule(drawn=ENTRIES, twice=st.booleans(), other=st.booleans())
    def repeat_a_key(self, drawn: Any, *, twice: bool, other: bool) -> None:
        """The same key has one effect, in one batch or in two; with another request it has none."""
        new = self.booked(drawn)
        if self.oracle.takes(new) is None:
            return
        name, command = f"k{next(self.numbers)}", self.command(new)
        key = key_of(name)
        if twice:
            first, again = self.submit((command, key), (command, key))
        else:
            [first], [again] = self.submit((command, key)), self.submit((command, key))
        assert isinstance(first, Committed)
        assert again == msgspec.structs.replace(first, replayed=True)
        at = self.oracle.now if twice else self.oracle.now - 7
        self.book(replace(new, at=at), first)
        self.remember(name, command, first)
        if other:
            before = self.rows()
            [refused] = self.submit((command, key_of(name, b"other")))
            assert isinstance(refused, IdempotencyKeyReused)
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
        part = replace(entry, lines=taken, status="posted")
        fine = bool(taken) and self.oracle.completed(part) is not None and self.oracle.opens(entry.at)
        done = self.tried(PostPart(entry_id=entry_id, parts=parts, release_rest=release), fine=fine)
        if done is None:
            return multiple()
        if release:
            self.oracle.become({**self.oracle.entries, entry_id: part})
            return multiple()
        rest = tuple((*line[:2], line[2] - n) for line, n in zip(entry.lines, amounts, strict=True))
        made = done.resource_id or ""
        self.oracle.become(
            {
                **self.oracle.entries,
                entry_id: replace(entry, lines=rest),
                made: replace(part, external_id=None),
            }
        )
        return multiple(made)

    @precondition(lambda self: bool(self.of_status("pending")))
    @rule(data=st.data(), moves=MOVES)
    def change_lines(self, data: st.DataObject, moves: Any) -> None:
        """A pending entry reserves something else, where the accounts can take it."""
        entry_id = data.draw(st.sampled_from(self.of_status("pending")))
        entry = self.oracle.entries[entry_id]
        full = self.oracle.completed(replace(entry, lines=self.lines_of(moves), whole=False))
        changed = {**self.oracle.entries, entry_id: entry if full is None else full}
        fine = full is not None and self.oracle.opens(entry.at) and self.oracle.allows(changed)
        done = self.tried(UpdateEntry(entry_id=entry_id, lines=drafts(self.lines_of(moves))), fine=fine)
        if done is not None and full is not None:
            self.keep(entry_id, full, msgspec.json.decode(done.body)["lines"])

    @precondition(lambda self: bool(self.of_status("pending")))
    @rule(data=st.data(), hours=st.integers(-50, 50))
    def move_in_time(self, data: st.DataObject, hours: int) -> None:
        """A pending entry takes effect at another time, where that is open; that moves no balance of now."""
        entry_id = data.draw(st.sampled_from(self.of_status("pending")))
        at = self.clock.now_us() + hours * HOUR
        fine = self.oracle.opens(at)
        if self.tried(UpdateEntry(entry_id=entry_id, effective_at=at), fine=fine, kind=PeriodClosed):
            entries = self.oracle.entries
            self.oracle.become({**entries, entry_id: replace(entries[entry_id], at=at)})

    @rule(target=entries, entry_id=entries, again=st.booleans())
    def reverse(self, entry_id: str, *, again: bool) -> Any:
        """A posted entry has one mirror image at most."""
        entry, command = self.oracle.entries[entry_id], ReverseEntry(entry_id=entry_id)
        mirrored = tuple((name, OPPOSITE[side], amount) for name, side, amount in entry.lines)
        mirror = Booked(mirrored, "posted", whole=True)
        if entry.reversed:
            self.refused(command, EntryAlreadyReversed)
            return multiple()
        done = self.tried(command, fine=entry.status == "posted" and self.oracle.takes(mirror) is not None)
        if done is None:
            return multiple()
        made, booked = done.resource_id or "", replace(mirror, at=self.oracle.now)
        self.oracle.become({**self.oracle.entries, entry_id: replace(entry, reversed=True), made: booked})
        if again:
            self.refused(command, EntryAlreadyReversed)
        return multiple(made)

    @rule(entry_id=entries, post=st.booleans())
    def resolve_what_is_final(self, entry_id: str, *, post: bool) -> None:
        """Nothing leads out of posted and archived, and nobody but the books out of accepted."""
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
        super().furnish()
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
        """Something is reserved, where the accounts can take it; now and then a part is captured right after."""
        new = self.booked(([(pair, amount, False)], "pending", None))
        until = self.clock.now_us() + hours * HOUR
        command, full = CreateHold(entry=self.command(new), expires_at=until), self.oracle.takes(new)
        made = self.foretold(command, fine=full is not None)
        if made is None or full is None:
            return
        hold_id = made.resource_id or ""
        self.oracle.become({**self.oracle.entries, hold_id: replace(full, at=self.oracle.now)})
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
        posted = replace(entry, lines=lines, status="posted", at=self.oracle.now)
        if final or taken == left:
            self.oracle.become({**self.oracle.entries, hold_id: posted})
            del self.open_until[hold_id]
            self.refused(command, HoldNotOpen)
            return
        rest = tuple((account, side, left - taken) for account, side, _ in entry.lines)
        made = msgspec.json.decode(done.body)["captures"][-1]
        self.oracle.become({**self.oracle.entries, hold_id: replace(entry, lines=rest), made: posted})

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
        due = self.due()
        new = self.booked(drawn)
        self.book(new, self.submit((self.command(new), None))[0])
        for hold_id in due:
            self.refused(CaptureHold(hold_id=hold_id), HoldNotOpen)

    def let_an_hour_pass(self) -> None:
        """What is due by then expires with whatever happens next."""
        super().let_an_hour_pass()
        self.due()

    def due(self) -> list[str]:
        """Let the oracle know which holds have expired by now."""
        due = sorted((until, name) for name, until in self.open_until.items() if until <= self.clock.now_us())
        for _, hold_id in due:
            del self.open_until[hold_id]
            self.oracle.ends(hold_id, "archived")
        return [hold_id for _, hold_id in due]

    @rule(target=entries, all_drawn=st.lists(ENTRIES, min_size=2, max_size=4))
    def post_independently(self, all_drawn: list[Any]) -> Any:
        """Each entry of one request stands or falls alone, seeing those before it that stand."""
        wanted = [self.booked(drawn) for drawn in all_drawn]
        command = PostBatch(entries=tuple(self.command(new) for new in wanted), mode="independent")
        made: list[str] = []
        for new, outcome in zip(wanted, msgspec.json.decode(self.one(command).body)["data"], strict=True):
            full, entry = self.oracle.takes(new), outcome["entry"]
            assert (outcome["status"] == "committed") == (full is not None), outcome
            if entry is not None and full is not None:
                made.append(entry["id"])
                self.keep(entry["id"], full, entry["lines"])
        return multiple(*made)


class LaterMachine(BooksMachine):
    """Accepts entries, and posts or rejects them later in the order in which they were accepted."""

    entries = BooksMachine.entries

    @rule(
        target=entries,
        drawn=ENTRIES,
        hours=st.none() | st.integers(-50, 50),
        balance=BALANCES,
        floor=st.none() | st.integers(-150, 150),
    )
    def accept(self, drawn: Any, hours: int | None, balance: str, floor: int | None) -> Any:
        """What can be told without balances holds; not one of them moves."""
        at = None if hours is None else self.clock.now_us() + hours * HOUR
        new = self.booked((drawn[0], "posted", drawn[2]), at=at)
        if floor is not None:
            new = replace(new, demands=(Demand(new.lines[0][0], balance, "gte", floor),))
        return multiple(*self.accepted(new))

    def accepted(self, new: Booked) -> list[str]:
        """Have an entry accepted, where it can be."""
        done = self.tried(AcceptEntry(entry=self.command(new)), fine=self.oracle.accepts(new) is not None)
        if done is None:
            return []
        entry_id, then = done.resource_id or "", self.oracle.now if new.at is None else new.at
        self.oracle.become({**self.oracle.entries, entry_id: replace(new, status="accepted", at=then)})
        return [entry_id]

    @rule(drawn=ENTRIES, first=st.booleans())
    def tend(self, drawn: Any, *, first: bool) -> None:
        """All that was accepted is dealt with, before whatever else is in the batch that does so; nothing is done twice."""
        new = self.booked(drawn)
        asked: list[Any] = [(self.command(new), None), (Tend(), None)]
        site_id, waiting = self.site.id, self.of_status("accepted")
        head = self.way.ask(lambda conn: feed.read_head(conn, site_id)).sequence
        outcomes = self.submit(*(asked if first else asked[::-1]))
        told = self.way.ask(lambda conn: feed.read_after(conn, site_id, head, 10**6))
        assert [each.resource_id for each in told if each.resource_id in waiting] == waiting
        for entry_id in waiting:
            entry = self.oracle.entries[entry_id]
            full = self.oracle.completed(replace(entry, status="posted")) if self.oracle.opens(entry.at) else None
            if full is None or not self.oracle.allows({**self.oracle.entries, entry_id: full}, entry.demands):
                self.oracle.become({**self.oracle.entries, entry_id: replace(entry, status="rejected")})
                continue
            shown = self.loaded().lines(entry_id)
            assert shown, (entry_id, full)
            self.keep(entry_id, full, shown)
        self.book(new, outcomes[0 if first else 1])
        before = self.rows()
        self.submit((Tend(), None))
        assert self.rows() == before

    @rule()
    def see_what_became_of_them(self) -> None:
        """Every entry is what the oracle says: none is posted that was to be rejected, and none waits that was dealt with."""
        loaded = self.loaded()
        found = {entry_id: loaded.entry(entry_id)["status"] for entry_id in self.oracle.entries}
        assert found == {entry_id: entry.status for entry_id, entry in self.oracle.entries.items()}


class ExchangeMachine(LaterMachine):
    """Rates, some of which run out, and entries that exchange one currency for another at them, now or later."""

    entries = BooksMachine.entries

    def furnish(self) -> None:
        """Two rates are there, one of which runs out."""
        super().furnish()
        self.note_rate(("EUR", "JPY"), "163.25", None)
        self.note_rate(("JPY", "EUR"), "0.0067", 1)

    @rule(
        pair=st.sampled_from([("EUR", "JPY"), ("EUR", "JPY"), ("JPY", "EUR"), ("EUR", "USD")]),
        rate=st.sampled_from(["163.25", "0.92345", "1", "0.0067", "1000000.000001"]),
        hours=st.none() | st.integers(1, 3),
    )
    def rate(self, pair: tuple[str, str], rate: str, hours: int | None) -> None:
        """A rate is noted, for ever or for a time."""
        self.note_rate(pair, rate, hours)

    def note_rate(self, pair: tuple[str, str], rate: str, hours: int | None) -> None:
        """Note a rate, and let the oracle know."""
        until = None if hours is None else self.clock.now_us() + hours * HOUR
        made = self.one(CreateFxRate(base=pair[0], quote=pair[1], rate=rate, valid_until=until)).resource_id or ""
        self.oracle.rates[made] = Rate(*pair, Fraction(rate), until)

    @rule()
    def let_rates_run_out(self) -> None:
        """Time passes, for entries that were accepted at them too."""
        self.let_an_hour_pass()

    @rule(
        target=entries,
        data=st.data(),
        direction=st.sampled_from([((2, 3), (4, 5)), ((4, 5), (2, 3)), ((0, 1), (4, 5)), ((4, 5), (0, 1))]),
        paid=st.lists(st.integers(1, 40_000), min_size=1, max_size=2),
        places=st.lists(st.integers(0, 1), min_size=2, max_size=4),
        off=st.sampled_from([0] * 8 + [1, -1, -2, 3]),
        status=st.sampled_from(["posted", "posted", "pending"]),
        named=st.sampled_from([True] * 8 + [False]),
        later=st.sampled_from([False, False, True]),
    )
    def exchange(
        self,
        data: st.DataObject,
        direction: Any,
        paid: list[int],
        places: list[int],
        off: int,
        status: str,
        *,
        named: bool,
        later: bool,
    ) -> Any:
        """Amounts of one currency are paid for amounts of the other, about as much as the rate says."""
        rate_id = data.draw(st.sampled_from(list(self.oracle.rates)))
        bought = self.bought(rate_id, direction, paid, places[1:], off)
        lines: list[Line] = [
            *((self.accounts[direction[0][(places[0] + n) % 2]], "debit", amount) for n, amount in enumerate(paid)),
            *((self.accounts[direction[1][place]], "credit", amount) for place, amount in bought),
        ]
        new = Booked(tuple(lines), "posted" if later else status, rate=rate_id if named else None)
        return multiple(*(self.accepted if later else self.try_booking)(new))

    def bought(
        self, rate_id: str, direction: Any, paid: list[int], places: list[int], off: int
    ) -> Iterator[tuple[int, int]]:
        """Return what each of some accounts gets for what was paid: its share, rounded down; the first one is off by so much."""
        rate = self.oracle.rates[rate_id]
        price = rate.price if self.oracle.currency[self.accounts[direction[0][0]]] == rate.base else 1 / rate.price
        digits = [self.oracle.digits[self.oracle.currency[self.accounts[pair[0]]]] for pair in direction]
        share = sum(paid) * price * Fraction(10) ** (digits[1] - digits[0]) / len(places)
        for number, place in enumerate(places):
            yield place, max(1, int(share) + (0 if number else off))


class HandlersMachine(BooksMachine):
    """Event handlers that come, change and go, and business events that exactly one of them turns into entries."""

    entries = BooksMachine.entries

    def furnish(self) -> None:
        """One handler is there: of each its bound, its percentage, what its second entry takes, and whether it is active."""
        super().furnish()
        self.handlers: dict[str, tuple[int, int, int, bool]] = {}
        self.events: set[str] = set()
        self.note_handler(0, 25, 5)

    @rule(
        bound=st.sampled_from([0, 30, 60]),
        percent=st.sampled_from([0, 2, 25, 50]),
        tip=st.sampled_from([0, 0, 5, 45]),
    )
    def make_handler(self, bound: int, percent: int, tip: int) -> None:
        """A handler of payments of so much at least, which keeps a share, and pays a tip where there is one."""
        self.note_handler(bound, percent, tip)

    def note_handler(self, bound: int, percent: int, tip: int) -> None:
        """Make a handler, and remember it."""
        definition = handled(bound, percent, tip)
        made = self.one(CreateEventHandler(name=f"from {bound}", definition=definition)).resource_id or ""
        self.handlers[made] = (bound, percent, tip, True)

    @rule(data=st.data(), active=st.booleans(), percent=st.sampled_from([0, 10, 50]))
    def change_handler(self, data: st.DataObject, *, active: bool, percent: int) -> None:
        """A handler keeps another share from now on, and matches nothing for a while or again."""
        handler_id = data.draw(st.sampled_from(list(self.handlers)))
        bound, _, tip, _ = self.handlers[handler_id]
        entries = handled(bound, percent, tip)
        changes = {"variables": entries.variables, "entries": entries.entries}
        self.submit(
            (UpdateEventHandler(handler_id=handler_id, definition=changes), None),
            (SwitchEventHandler(handler_id=handler_id, status="active" if active else "archived"), None),
        )
        self.handlers[handler_id] = (bound, percent, tip, active)

    def planned(self, handler: tuple[int, int, int, bool], amount: int, names: tuple[int, int]) -> list[Booked]:
        """Return the entries that a handler is to make: the share is rounded, half of a unit to the even one."""
        _, percent, tip, _ = handler
        payer, payee = (self.accounts[name] for name in names)
        keeper = self.accounts[3]
        share, odd = divmod(amount * percent, 100)
        share += odd > 50 or (odd == 50 and share % 2 == 1)
        lines = [(payer, "debit", amount), (payee, "credit", amount - share), (keeper, "credit", share)]
        entries = [Booked(tuple(line for line in lines if line[2]), "posted")]
        if tip:
            entries.append(Booked(((payer, "debit", tip), (payee, "credit", tip)), "pending"))
        return entries

    @rule(
        target=entries,
        amount=st.integers(1, 90),
        names=st.sampled_from([(1, 0), (0, 1), (2, 1), (1, 3), (1, 1), (1, 4)]),
        external_id=st.sampled_from([None, None, "one", "two"]),
        trial=st.booleans(),
    )
    def happen(self, amount: int, names: tuple[int, int], external_id: str | None, *, trial: bool) -> Any:
        """An event is turned into its entries, all of them or none, by the one handler that matches."""
        data = {"amount": str(amount), "payer": f"a{names[0]}", "payee": str(names[1])}
        command = PostBusinessEvent(name="Paid", custom_data=data, external_id=external_id)
        matching = [each for each in self.handlers.values() if each[3] and amount >= each[0]]
        if len(matching) != 1:
            self.foretold(command, fine=False, kind=SeveralHandlersMatch if matching else NoHandlerMatches)
            return multiple()
        if trial:
            self.tried_alone(command, matching[0])
        kept, steps = self.oracle.entries, []
        for number, new in enumerate(self.planned(matching[0], amount, names)):
            full = self.oracle.takes(new)
            self.oracle.entries = {**self.oracle.entries, **({} if full is None else {f"trial {number}": full})}
            steps.append(full)
        self.oracle.entries = kept
        whole = [full for full in steps if full is not None]
        done = self.foretold(command, fine=len(whole) == len(steps) and external_id not in self.events)
        if done is None:
            return multiple()
        if external_id is not None:
            self.events.add(external_id)
        shown = msgspec.json.decode(done.body)["entries"]
        for each, full in zip(shown, whole, strict=True):
            self.keep(each["id"], full, each["lines"])
        return multiple(*(each["id"] for each in shown))

    def tried_alone(self, command: PostBusinessEvent, handler: tuple[int, int, int, bool]) -> None:
        """Try the event on a handler like the one that matches, which is there not."""
        definition = handled(*handler[:3])
        before = self.rows()
        made = CreateEventHandler(name="like it", definition=definition)
        self.submit((TryEventHandler(handler=made, event=command), None))
        assert self.rows() == before


def handled(bound: int, percent: int, tip: int) -> Definition:
    """Return the definition of a handler of payments."""
    paid = {"field": "event.name", "operator": "equals", "value": "Paid"}
    enough = {"field": "event.amount", "operator": "gte", "value": bound}
    payer = {"type": "account", "query": {"field": "external_id", "operator": "equals", "value": "{{ event.payer }}"}}
    payee = {
        "type": "account",
        "query": {"field": "metadata", "operator": "contains", "value": {"number": "{{ event.payee }}"}},
    }
    shared = [
        {"account_id": "{{ payer.id }}", "direction": "debit", "amount": "{{ event.amount }}"},
        {"account_id": "{{ payee.id }}", "direction": "credit", "amount": "{{ event.amount - share }}"},
        {"account_id": "external_id:a3", "direction": "credit", "amount": "{{ variables.share }}"},
    ]
    tipped = [
        {"account_id": "{{ payer.id }}", "direction": "debit", "amount": tip},
        {"account_id": "{{ payee.id }}", "direction": "credit", "amount": str(tip)},
    ]
    entries: list[Any] = [{"lines": shared}, *([{"lines": tipped, "status": "pending"}] if tip else [])]
    share = {"type": "amount", "value": f"{{{{ event.amount * {percent} / 100 }}}}"}
    given = {
        "conditions": {"and": [paid, enough]},
        "variables": {"payer": payer, "payee": payee, "share": share},
        "entries": entries,
    }
    return msgspec.convert(given, Definition)


class GroupsMachine(BooksMachine):
    """What stands around accounts: categories in categories, limits, monitors."""

    entries = BooksMachine.entries

    def furnish(self) -> None:
        """A diamond of categories over two accounts, watched and limited from the start."""
        super().furnish()
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
            else self.command(self.booked(each))
            for each in steps
        ]
        made: list[str] = []
        for each, outcome in zip(steps, self.submit(*((command, None) for command in commands)), strict=True):
            if isinstance(each[0], int):
                assert isinstance(outcome, Committed)
                self.placed(*each)
            else:
                made += self.book(self.booked(each), outcome)
        return multiple(*made)

    def placed(self, where: int, number: int, inside: bool) -> None:
        """Let the oracle know of an account that came or went."""
        holding = self.oracle.holding[self.categories[where]]
        (holding.add if inside else holding.discard)(self.accounts[number])
        self.oracle.look()


class EverythingMachine(EntriesMachine, HoldsMachine, ExchangeMachine, HandlersMachine, GroupsMachine):
    """All that the others do, in any order."""

    entries = BooksMachine.entries


MACHINES = (
    EntriesMachine,
    HoldsMachine,
    LaterMachine,
    ExchangeMachine,
    HandlersMachine,
    GroupsMachine,
    EverythingMachine,
)
