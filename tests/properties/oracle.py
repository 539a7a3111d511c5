"""An oracle of the books, as simple as can be: entries in a list, balances added up from them whenever they are asked for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

Line = tuple[str, str, int]
"""Account, direction, amount."""
Totals = tuple[int, int, int, int]
"""Posted debits and credits, then pending ones."""


@dataclass(frozen=True, slots=True)
class Booked:
    """An entry as the oracle remembers it."""

    lines: tuple[Line, ...]
    status: str
    external_id: str | None = None
    reversed: bool = False


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

    currency: dict[str, str] = field(default_factory=dict)
    guarded: set[str] = field(default_factory=set)
    credit_normal: set[str] = field(default_factory=set)
    closed: set[str] = field(default_factory=set)
    entries: dict[str, Booked] = field(default_factory=dict)
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

    def totals(self, subject: str) -> Totals:
        """Add up both sides of an account, or of all accounts of a category."""
        inside = self.members(subject)
        sums = [0, 0, 0, 0]
        for entry in self.entries.values():
            shift = {"posted": 0, "pending": 2}.get(entry.status)
            if shift is None:
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

    def allows(self, after: dict[str, Booked]) -> bool:
        """Tell whether funds and limits let the entries become these."""
        subjects = [*self.guarded, *self.bounds]
        was = {subject: self.sides(subject) for subject in subjects}
        kept, self.entries = self.entries, after
        becomes = {subject: self.sides(subject) for subject in subjects}
        self.entries = kept
        for account in self.guarded:
            (came, went, _, going), (came2, went2, _, going2) = was[account], becomes[account]
            if came2 - went2 - going2 < min(0, came - went - going):
                return False
        return not any(
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

    def fits(self, lines: Iterable[Line]) -> bool:
        """Tell whether lines balance, in one currency, on open accounts."""
        names, sides = set(), Counter[str]()
        for name, side, amount in lines:
            names.add(name)
            sides[side] += amount
        one_currency = len({self.currency[name] for name in names}) == 1
        return one_currency and not names & self.closed and sides["debit"] == sides["credit"]

    def takes(self, new: Booked) -> bool:
        """Tell whether an entry would be accepted; if it would not, nothing has changed."""
        live = {each.external_id for each in self.entries.values() if each.status != "archived"} - {None}
        return self.fits(new.lines) and new.external_id not in live and self.allows({**self.entries, "trial": new})

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
