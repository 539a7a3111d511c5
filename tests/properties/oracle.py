"""An oracle of the books, as simple as can be: entries in a list, balances added up from them whenever they are asked for."""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction

Line = tuple[str, str, int]
"""Account, direction, amount."""
Totals = tuple[int, int, int, int]
"""Posted debits and credits, then pending ones."""
_COMPARED = {"gt": operator.gt, "gte": operator.ge, "lt": operator.lt, "lte": operator.le, "eq": operator.eq}


@dataclass(frozen=True, slots=True)
class Demand:
    """What a line wants a balance to be after the entry."""

    account: str
    balance: str
    operator: str
    value: int


@dataclass(frozen=True, slots=True)
class Rate:
    """What one whole unit of a currency is in another one, until a time."""

    base: str
    quote: str
    price: Fraction
    until: int | None


@dataclass(frozen=True, slots=True)
class Booked:
    """An entry as the oracle remembers it; `at` is when it takes effect, None for when it is booked."""

    lines: tuple[Line, ...]
    status: str
    external_id: str | None = None
    at: int | None = None
    rate: str | None = None
    demands: tuple[Demand, ...] = ()
    reversed: bool = False
    whole: bool = False
    """Whether these are all its lines, so that none are added to exchange one currency for another."""


@dataclass(frozen=True, slots=True)
class Bound:
    """A standing limit: of which balance, and where its floor and its ceiling are."""

    balance: str
    floor: int | None
    ceiling: int | None


@dataclass(slots=True)
class Watch:
    """A monitor: what it watches, for what, whether that holds, and every edge there was."""

    subject: str
    balance: str
    above: int
    holds: bool
    on: bool = True
    edges: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Oracle:
    """What was booked. It shares no line with the product, and is far too slow to be one."""

    now: int = 0
    digits: dict[str, int] = field(default_factory=dict)
    currency: dict[str, str] = field(default_factory=dict)
    guarded: set[str] = field(default_factory=set)
    credit_normal: set[str] = field(default_factory=set)
    closed: set[str] = field(default_factory=set)
    closed_until: int | None = None
    entries: dict[str, Booked] = field(default_factory=dict)
    rates: dict[str, Rate] = field(default_factory=dict)
    bounds: dict[str, list[Bound]] = field(default_factory=dict)
    holding: dict[str, set[str]] = field(default_factory=dict)
    nested: dict[str, set[str]] = field(default_factory=dict)
    watches: dict[str, Watch] = field(default_factory=dict)

    def members(self, subject: str) -> set[str]:
        """Return the accounts that count in a category, by whatever way; of an account, itself."""
        if subject not in self.holding:
            return {subject}
        found = set(self.holding[subject])
        for each in self.nested[subject]:
            found |= self.members(each)
        return found

    def below(self, category: str) -> set[str]:
        """Return a category and everything in it that is one."""
        return {category}.union(*(self.below(each) for each in self.nested[category]))

    def totals(self, subject: str, by: int | None = None) -> Totals:
        """Add up both sides of an account, or of all accounts of a category; of what takes effect by a time, if one is given."""
        inside = self.members(subject)
        sums = [0, 0, 0, 0]
        for entry in self.entries.values():
            shift = {"posted": 0, "pending": 2}.get(entry.status)
            if shift is None or (by is not None and (entry.at or 0) > by):
                continue
            for account, side, amount in entry.lines:
                if account in inside:
                    sums[shift + (side == "credit")] += amount
        return sums[0], sums[1], sums[2], sums[3]

    def sides(self, subject: str) -> Totals:
        """Return what came in and what went out, then what is pending to: in the direction that is normal there."""
        debits, credits_, pending_debits, pending_credits = self.totals(subject)
        if subject in self.credit_normal:
            return credits_, debits, pending_credits, pending_debits
        return debits, credits_, pending_debits, pending_credits

    def amount(self, subject: str, balance: str) -> int:
        """Return a balance."""
        came, went, coming, going = self.sides(subject)
        return came - went + {"posted": 0, "pending": coming - going, "available": -going}[balance]

    def allows(self, after: dict[str, Booked], demands: Iterable[Demand] = ()) -> bool:
        """Tell whether funds and limits let the entries become these, and what is demanded of them then holds."""
        subjects = [*self.guarded, *self.bounds]
        was = {subject: self.sides(subject) for subject in subjects}
        kept, self.entries = self.entries, after
        becomes = {subject: self.sides(subject) for subject in subjects}
        met = all(_COMPARED[each.operator](self.amount(each.account, each.balance), each.value) for each in demands)
        self.entries = kept
        for account in self.guarded:
            (came, went, _, going), (came2, went2, _, going2) = was[account], becomes[account]
            if came2 - went2 - going2 < min(0, came - went - going):
                return False
        return met and not any(
            passes(bound, was[each], becomes[each]) for each, bounds in self.bounds.items() for bound in bounds
        )

    def become(self, entries: dict[str, Booked]) -> None:
        """Let the entries be these, and the monitors see it."""
        self.entries = entries
        self.look()

    def look(self) -> None:
        """Let every monitor look at what it watches."""
        for watch in self.watches.values():
            holds = self.amount(watch.subject, watch.balance) > watch.above
            if watch.on and holds != watch.holds:
                watch.holds = holds
                watch.edges.append("crossed" if holds else "recovered")

    def completed(self, new: Booked) -> Booked | None:
        """Return an entry with all its lines, those that exchange included, or None where they cannot be."""
        if {name for name, _, _ in new.lines} & self.closed:
            return None
        over = Counter[str]()
        for name, side, amount in new.lines:
            over[self.currency[name]] += amount if side == "debit" else -amount
        if new.whole or len(over) == 1:
            return None if any(over.values()) else replace(new, whole=True)
        added = self.exchanged(new, over)
        return None if added is None else replace(new, lines=(*new.lines, *added), whole=True)

    def exchanged(self, new: Booked, over: Mapping[str, int]) -> tuple[Line, ...] | None:
        """Return the lines by which what is over in one currency pays for what lacks in the other; None where it does not."""
        rate = self.rates.get(new.rate or "")
        if rate is None or {rate.base, rate.quote} != set(over) or (rate.until is not None and rate.until <= self.now):
            return None
        if not any(over.values()):
            return ()
        (paid, more), (bought, lacks) = sorted(over.items(), key=lambda each: -each[1])
        if not more > 0 > lacks:
            return None
        price = (rate.price if paid == rate.base else 1 / rate.price) * Fraction(10) ** (
            self.digits[bought] - self.digits[paid]
        )
        counted = Counter(self.currency[name] for name, _, _ in new.lines)
        worth, wanted = int(more * price), -lacks
        # Every line of a currency may be off by less than one unit, in favour of the books.
        if wanted > worth or (worth - wanted >= counted[bought] and int((more - counted[paid]) * price) >= wanted):
            return None
        lines = [(f"fx_clearing {paid}", "credit", more), (f"fx_clearing {bought}", "debit", worth)]
        return *lines, *[(f"fx_rounding {bought}", "credit", worth - wanted)] * (worth > wanted)

    def opens(self, at: int | None) -> bool:
        """Tell whether the books take what takes effect at a time."""
        return at is None or self.closed_until is None or at >= self.closed_until

    def accepts(self, new: Booked) -> Booked | None:
        """Return an entry as it would be accepted, for later or for now as far as can be told without balances."""
        live = {each.external_id for each in self.entries.values() if each.status not in {"archived", "rejected"}}
        if not self.opens(new.at) or new.external_id in live - {None}:
            return None
        return self.completed(new)

    def takes(self, new: Booked) -> Booked | None:
        """Return an entry as it would be booked, or None: if it would not, nothing has changed."""
        full = self.accepts(new)
        return full if full is not None and self.allows({**self.entries, "trial": full}, new.demands) else None

    def ends(self, entry_id: str, status: str) -> None:
        """Let a pending entry be posted or archived."""
        self.become({**self.entries, entry_id: replace(self.entries[entry_id], status=status)})


def passes(bound: Bound, was: Totals, becomes: Totals) -> bool:
    """Tell whether a limit would be passed by more going out, or coming in, than before."""

    def lowest(came: int, went: int, coming: int, going: int) -> int:
        return came - went - going + (coming if bound.balance == "pending" else 0)

    def highest(came: int, went: int, coming: int, going: int) -> int:
        return came - went + coming - (0 if bound.balance == "posted" else going)

    more_out = becomes[1] + becomes[3] > was[1] + was[3]
    more_in = becomes[0] + becomes[2] > was[0] + was[2]
    too_low = bound.floor is not None and lowest(*becomes) < min(bound.floor, lowest(*was))
    too_high = bound.ceiling is not None and highest(*becomes) > max(bound.ceiling, highest(*was))
    return (more_out and too_low) or (more_in and too_high)
