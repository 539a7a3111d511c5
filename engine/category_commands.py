"""What categories and monitors can be asked to do, as values. Pure."""

from __future__ import annotations

from typing import Literal

from msgspec import field as default

from engine.balances import Direction, Limit
from engine.needs import ALONE, Light, Needs, tell_currency

MonitorField = Literal["available", "pending", "posted", "lock_version"]
Operator = Literal["lt", "lte", "eq", "gte", "gt"]


class CreateCategory(Light, frozen=True, kw_only=True):
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


class UpdateCategory(Light, frozen=True, kw_only=True):
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


class PlaceAccount(Light, frozen=True, kw_only=True):
    """Put an account into a category, or take it out."""

    category_id: str
    account_id: str
    inside: bool
    if_match: int | None = None

    def tell(self, needs: Needs) -> None:
        """Add the rows this command has to know."""
        needs.categories.add(self.category_id)
        needs.accounts.add(self.account_id)


class LinkCategory(Light, frozen=True, kw_only=True):
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


class CreateMonitor(Light, frozen=True, kw_only=True):
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


class _OnMonitor(Light, frozen=True, kw_only=True):
    monitor_id: str
    if_match: int | None = None

    def tell(self, needs: Needs) -> None:
        """Add the rows this command has to know."""
        needs.resource("balance_monitor", self.monitor_id)


class UpdateMonitor(_OnMonitor, frozen=True, kw_only=True):
    """Change what a monitor watches for or is called; None leaves a thing as it is."""

    field: MonitorField | None = None
    operator: Operator | None = None
    value: int | None = None
    description: str | None = None
    clear_description: bool = False
    metadata: dict[str, str] | None = None


class ArchiveMonitor(_OnMonitor, frozen=True, kw_only=True):
    """Stop watching, for good."""
