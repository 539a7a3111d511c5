"""What categories and monitors can be asked to do, as values. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from dataclasses import field as default
from typing import Literal

from engine.balances import Direction, Limit
from engine.needs import ALONE, Light, Needs, tell_currency

MonitorField = Literal["available", "pending", "posted", "lock_version"]
Operator = Literal["lt", "lte", "eq", "gte", "gt"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateCategory(Light):
    """Open a category of accounts in one currency, of one ledger only where one is named."""

    name: str
    currency: str
    normal_balance: Direction
    currency_exponent: int | None = None
    ledger_id: str | None = None
    description: str | None = None
    external_id: str | None = None
    limits: tuple[Limit, ...] = ()
    metadata: dict[str, str] = default(default_factory=dict)

    def tell(self, needs: Needs) -> None:
        """Add the rows this command has to know."""
        if self.ledger_id is not None:
            needs.ledgers.add(self.ledger_id)
        if self.external_id is not None:
            needs.resource("account_category", self.external_id, "external_id")
        tell_currency(needs, self.currency)


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateCategory(Light):
    """Change what a category is called and what it may come to; None leaves a thing as it is."""

    category_id: str
    name: str | None = None
    description: str | None = None
    clear_description: bool = False
    limits: tuple[Limit, ...] | None = None
    metadata: dict[str, str] | None = None
    if_match: int | None = None

    def tell(self, needs: Needs) -> None:
        """Add the rows this command has to know."""
        needs.categories.add(self.category_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaceAccount(Light):
    """Put an account into a category, or take it out."""

    category_id: str
    account_id: str
    inside: bool
    if_match: int | None = None

    def tell(self, needs: Needs) -> None:
        """Add the rows this command has to know."""
        needs.categories.add(self.category_id)
        needs.accounts.add(self.account_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkCategory(Light):
    """Put a category with all that is in it into another, or take it out."""

    category_id: str
    child_id: str
    inside: bool
    if_match: int | None = None

    def tell(self, needs: Needs) -> None:
        """Add the rows this command has to know."""
        needs.categories |= {self.category_id, self.child_id}
        needs.links.append((self.category_id, self.child_id, self.inside))

    @property
    def weight(self) -> int:
        """Return more than a batch takes: what accounts add up to is read, not followed, so nothing may come before it."""
        return ALONE


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateMonitor(Light):
    """Watch a balance, or the version, of an account or of a category."""

    subject: Literal["account", "account_category"]
    subject_id: str
    field: MonitorField
    operator: Operator
    value: int
    description: str | None = None
    metadata: dict[str, str] = default(default_factory=dict)

    def tell(self, needs: Needs) -> None:
        """Add the rows this command has to know."""
        (needs.accounts if self.subject == "account" else needs.categories).add(self.subject_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class _OnMonitor(Light):
    monitor_id: str
    if_match: int | None = None

    def tell(self, needs: Needs) -> None:
        """Add the rows this command has to know."""
        needs.resource("balance_monitor", self.monitor_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateMonitor(_OnMonitor):
    """Change what a monitor watches for or is called; None leaves a thing as it is."""

    field: MonitorField | None = None
    operator: Operator | None = None
    value: int | None = None
    description: str | None = None
    clear_description: bool = False
    metadata: dict[str, str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveMonitor(_OnMonitor):
    """Stop watching, for good."""
