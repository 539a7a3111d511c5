"""What the books can be asked to do about ledgers and accounts, as values. Pure."""

from __future__ import annotations

from typing import Literal

from msgspec import field

from engine.balances import Direction, Limit
from engine.needs import Light, Needs, tell_currency


class CreateLedger(Light, frozen=True, kw_only=True):
    """Open a ledger."""

    name: str
    entity_id: str | None = None
    description: str | None = None
    metadata: dict[str, str] = field(default_factory=dict)

    def tell(self, needs: Needs) -> None:
        """Add the rows this command has to know."""
        _tell_entity(needs, self.entity_id)


class UpdateLedger(Light, frozen=True, kw_only=True):
    """Change a ledger's name, description or metadata; None leaves them as they are."""

    ledger_id: str
    name: str | None = None
    description: str | None = None
    clear_description: bool = False
    metadata: dict[str, str] | None = None
    closed_until: int | None = None
    reopen: bool = False
    entity_id: str | None = None
    clear_entity: bool = False
    if_match: int | None = None

    def tell(self, needs: Needs) -> None:
        """Add the rows this command has to know."""
        needs.ledgers.add(self.ledger_id)
        _tell_entity(needs, self.entity_id)


class CreateAccount(Light, frozen=True, kw_only=True):
    """Open an account in a ledger; the normal balance follows the type, the entity the ledger, where none is given."""

    ledger_id: str
    name: str
    type: Literal["asset", "liability", "equity", "revenue", "expense"]
    currency: str
    currency_exponent: int | None = None
    normal_balance: Direction | None = None
    description: str | None = None
    code: str | None = None
    external_id: str | None = None
    entity_id: str | None = None
    allow_negative: bool = True
    limits: tuple[Limit, ...] = ()
    metadata: dict[str, str] = field(default_factory=dict)

    def tell(self, needs: Needs) -> None:
        """Add the rows this command has to know."""
        needs.ledgers.add(self.ledger_id)
        if self.external_id is not None:
            needs.account_external_ids.add(self.external_id)
        if self.code is not None:
            needs.account_codes.add((self.ledger_id, self.code))
        tell_currency(needs, self.currency)
        _tell_entity(needs, self.entity_id)


class UpdateAccount(Light, frozen=True, kw_only=True):
    """Change what an account is called and what it may come to; None leaves a thing as it is."""

    account_id: str
    name: str | None = None
    description: str | None = None
    clear_description: bool = False
    code: str | None = None
    clear_code: bool = False
    entity_id: str | None = None
    clear_entity: bool = False
    allow_negative: bool | None = None
    limits: tuple[Limit, ...] | None = None
    metadata: dict[str, str] | None = None
    if_match: int | None = None

    def tell(self, needs: Needs) -> None:
        """Add the rows this command has to know."""
        needs.accounts.add(self.account_id)
        if self.code is not None:
            needs.codes_beside.add((self.account_id, self.code))
        _tell_entity(needs, self.entity_id)


class CloseAccount(Light, frozen=True, kw_only=True):
    """Close an account that is empty: it takes no more lines."""

    account_id: str
    if_match: int | None = None

    def tell(self, needs: Needs) -> None:
        """Add the rows this command has to know."""
        needs.accounts.add(self.account_id)


def _tell_entity(needs: Needs, entity_id: str | None) -> None:
    if entity_id is not None:
        needs.resource("entity", entity_id)
