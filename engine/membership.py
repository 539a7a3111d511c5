"""Which categories an account counts in, and what they come to, as they stand after the commands folded so far. Pure.

Only what a batch touches is known. How categories stand in each other is fixed while a batch is decided: a command that changes
it is decided alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from engine.balances import Totals

_NOWHERE: frozenset[str] = frozenset()


class Membership:
    """The direct categories of accounts, everything above a category, and the categories' totals."""

    def __init__(self, below: Membership | None = None) -> None:
        """Start empty, on top of another one where one is given."""
        self._below = below
        self._direct: dict[str, frozenset[str]] = {}
        self._above: dict[str, frozenset[str]] = {}
        self._totals: dict[str, Totals] = {}
        self._links: dict[tuple[str, str], bool] = {}
        self._unions: dict[str, Totals] = {}

    def layer(self) -> Membership:
        """Return a copy that stands on this one: what it is told changes nothing here."""
        return Membership(self)

    def found_below(self, loaded: Membership) -> None:
        """Take in what was read later, at the same state of the database: what is known already stays."""
        self._below = loaded

    def learn(
        self,
        *,
        direct: Iterable[tuple[str, str]] = (),
        above: Iterable[tuple[str, str]] = (),
        totals: Iterable[tuple[str, Totals]] = (),
        links: Iterable[tuple[tuple[str, str], bool]] = (),
        unions: Iterable[tuple[str, Totals]] = (),
    ) -> None:
        """Take in what the database says.

        `direct` pairs accounts with categories, `above` categories with those above them and themselves, `links` parent and
        child with whether they are linked, `unions` categories with what their accounts will come to when a link changed.
        """
        for account_id, category_id in direct:
            self._direct[account_id] = self._direct.get(account_id, _NOWHERE) | {category_id}
        gathered: dict[str, set[str]] = {}
        for low, high in above:
            gathered.setdefault(low, set()).add(high)
        self._above.update((low, frozenset(high)) for low, high in gathered.items())
        self._totals.update(totals)
        self._links.update(links)
        self._unions.update(unions)

    def direct(self, account_id: str) -> frozenset[str]:
        """Return the categories that an account was put into itself."""
        found = self._direct.get(account_id)
        if found is None:
            return _NOWHERE if self._below is None else self._below.direct(account_id)
        return found

    def above(self, category_id: str) -> frozenset[str]:
        """Return a category and all it stands in, at any distance."""
        found = self._above.get(category_id)
        if found is None:
            return frozenset((category_id,)) if self._below is None else self._below.above(category_id)
        return found

    def reach(self, direct: Iterable[str]) -> frozenset[str]:
        """Return every category that an account in these counts in: once each, by however many ways."""
        return frozenset().union(*(self.above(category_id) for category_id in direct))

    def totals(self, category_id: str) -> Totals:
        """Return what the accounts of a category add up to."""
        found = self._totals.get(category_id)
        if found is None:
            if self._below is None:
                raise KeyError(category_id)
            return self._below.totals(category_id)
        return found

    def linked(self, parent_id: str, child_id: str) -> bool:
        """Tell whether a category stands directly in another; known where a command asked for it."""
        return self._links.get((parent_id, child_id), False)

    def union(self, category_id: str) -> Totals:
        """Return what a category will come to when the link of the command that asked for it has changed."""
        return self._unions[category_id]

    def apply(self, totals: Mapping[str, Totals], placed: Mapping[tuple[str, str], bool]) -> None:
        """Let categories have moved, and accounts have been put in and taken out."""
        self._totals.update(totals)
        for (category_id, account_id), inside in placed.items():
            direct = self.direct(account_id)
            self._direct[account_id] = direct | {category_id} if inside else direct - {category_id}
