"""What commands have to know before they can be decided: the rows to read, gathered from a whole batch. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

ALONE: Final = 1_000_000
"""The weight of a command that is decided in a batch of its own: more than a batch takes."""


@dataclass(slots=True, kw_only=True)
class Needs:
    """The rows that a batch of commands has to read, gathered from all of them."""

    ledgers: set[str] = field(default_factory=set)
    accounts: set[str] = field(default_factory=set)
    account_external_ids: set[str] = field(default_factory=set)
    entries: set[str] = field(default_factory=set)
    entry_external_ids: set[str] = field(default_factory=set)
    facts: set[str] = field(default_factory=set)
    periods: bool = False
    """Whether the ledgers of the accounts are wanted too, to see up to when they are closed."""
    resources: dict[tuple[str, str], set[str]] = field(default_factory=dict)
    categories: set[str] = field(default_factory=set)
    links: list[tuple[str, str, bool]] = field(default_factory=list)

    def resource(self, kind: str, value: str, column: str = "id") -> None:
        """Ask for the resource of a kind that has this value, its id unless another unique column is named."""
        self.resources.setdefault((kind, column), set()).add(value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Light:
    """A command that touches a row or two."""

    def tell(self, needs: Needs) -> None:
        """Add the rows this command has to know."""

    @property
    def weight(self) -> int:
        """Return how many lines the command writes, roughly."""
        return 1
