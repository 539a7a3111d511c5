"""The request bodies of the ledger's operations, one struct per shape; each knows the command it stands for."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from engine.commands import (
    CreateAccount,
    CreateLedger,
    UpdateAccount,
    UpdateLedger,
)
from gateway.limit_bodies import LimitList, limits_of
from gateway.wire import instant_of

_CLEAN = {"pattern": "^[^\\u0000]*$"}

Name = Annotated[str, Meta(min_length=1, max_length=200, extra_json_schema=_CLEAN)]
Description = Annotated[str, Meta(max_length=1000, extra_json_schema=_CLEAN)]
ExternalId = Annotated[str, Meta(min_length=1, max_length=180, extra_json_schema=_CLEAN)]
AccountCode = Annotated[str, Meta(min_length=1, max_length=100, extra_json_schema=_CLEAN)]
MetadataKey = Annotated[str, Meta(min_length=1, max_length=100, extra_json_schema=_CLEAN)]
MetadataValue = Annotated[str, Meta(max_length=500, extra_json_schema=_CLEAN)]
Metadata = Annotated[dict[MetadataKey, MetadataValue], Meta(max_length=50)]
Currency = Annotated[
    str,
    Meta(
        pattern=r"^[A-Z][A-Z0-9_]{2,15}$(?!\n)",
        description="A code of ISO 4217 or of your own: 3 to 16 capital letters, digits or `_`, a letter first.",
    ),
]
Exponent = Annotated[int, Meta(ge=0, le=18, description="How many digits the minor unit has.")]
Amount = (
    Annotated[int, Meta(ge=1, le=9_223_372_036_854_775_807, description="Minor units.")]
    | Annotated[str, Meta(pattern=r"^(?!0+$)[0-9]{1,19}$(?!\n)", description="Minor units as a string of digits.")]
)
Date = Annotated[
    str,
    Meta(
        pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$(?!\n)",
        extra_json_schema={"format": "date"},
        description="A day of UTC, as in 2026-11-21.",
    ),
]
Instant = Annotated[str, Meta(max_length=40, extra_json_schema={"format": "date-time"})]
Id = Annotated[
    str,
    Meta(
        pattern=r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$(?!\n)",
        extra_json_schema={"format": "uuid"},
        description="The id of a resource, in lower case.",
    ),
]
AccountReference = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=192,
        pattern="^([0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|external_id:[^\\u0000]+)$",
        description="An account's id, or `external_id:` and its external id.",
    ),
]
IdempotencyKeyText = Annotated[
    str,
    Meta(
        min_length=1, max_length=255, pattern=r"^[\x21-\x7e]+$(?!\n)", description="1 to 255 visible ASCII characters."
    ),
]
LockVersion = Annotated[int, Meta(ge=0, le=9_223_372_036_854_775_807)]


class LedgerCreate(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What opens a ledger."""

    name: Name
    entity_id: Id | None = None
    description: Description | None = None
    metadata: Metadata = {}

    def command(self) -> CreateLedger:
        """Return what the books are to do."""
        return CreateLedger(
            name=self.name, entity_id=self.entity_id, description=self.description, metadata=self.metadata
        )


class LedgerChange(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What changes about a ledger; what is left out stays, metadata is given whole."""

    name: Name | UnsetType = UNSET
    description: Description | UnsetType | None = UNSET
    metadata: Metadata | UnsetType = UNSET
    closed_until: Instant | UnsetType | None = UNSET
    entity_id: Id | UnsetType | None = UNSET

    def command(self, ledger_id: str, if_match: int | None) -> UpdateLedger:
        """Return what the books are to do."""
        return UpdateLedger(
            ledger_id=ledger_id,
            if_match=if_match,
            name=None if self.name is UNSET else self.name,
            description=None if self.description is UNSET else self.description,
            clear_description=self.description is None,
            metadata=None if self.metadata is UNSET else self.metadata,
            closed_until=None if self.closed_until is UNSET else instant_of(self.closed_until, "/closed_until"),
            reopen=self.closed_until is None,
            entity_id=None if self.entity_id is UNSET else self.entity_id,
            clear_entity=self.entity_id is None,
        )


class AccountCreate(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What opens an account; the normal balance follows the type, the entity the ledger, unless it is given."""

    ledger_id: Id
    name: Name
    type: Literal["asset", "liability", "equity", "revenue", "expense"]
    currency: Currency
    currency_exponent: Exponent | None = None
    normal_balance: Literal["debit", "credit"] | None = None
    description: Description | None = None
    code: AccountCode | None = None
    external_id: ExternalId | None = None
    entity_id: Id | None = None
    allow_negative: bool = True
    limits: LimitList = []
    metadata: Metadata = {}

    def command(self) -> CreateAccount:
        """Return what the books are to do."""
        return CreateAccount(
            ledger_id=self.ledger_id,
            name=self.name,
            type=self.type,
            currency=self.currency,
            currency_exponent=self.currency_exponent,
            normal_balance=self.normal_balance,
            description=self.description,
            code=self.code,
            external_id=self.external_id,
            entity_id=self.entity_id,
            allow_negative=self.allow_negative,
            limits=limits_of(self.limits),
            metadata=self.metadata,
        )


class AccountChange(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What changes about an account; what is left out stays, metadata is given whole."""

    name: Name | UnsetType = UNSET
    description: Description | UnsetType | None = UNSET
    code: AccountCode | UnsetType | None = UNSET
    entity_id: Id | UnsetType | None = UNSET
    allow_negative: bool | UnsetType = UNSET
    limits: LimitList | UnsetType = UNSET
    metadata: Metadata | UnsetType = UNSET

    def command(self, account_id: str, if_match: int | None) -> UpdateAccount:
        """Return what the books are to do."""
        return UpdateAccount(
            account_id=account_id,
            if_match=if_match,
            name=None if self.name is UNSET else self.name,
            description=None if self.description is UNSET else self.description,
            clear_description=self.description is None,
            code=None if self.code is UNSET else self.code,
            clear_code=self.code is None,
            entity_id=None if self.entity_id is UNSET else self.entity_id,
            clear_entity=self.entity_id is None,
            allow_negative=None if self.allow_negative is UNSET else self.allow_negative,
            limits=None if self.limits is UNSET else limits_of(self.limits),
            metadata=None if self.metadata is UNSET else self.metadata,
        )


class ApiKeyCreate(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What creates an API key: at most its creator's scopes, for at most 90 days."""

    name: Name
    scopes: Annotated[list[Annotated[str, Meta(max_length=40)]], Meta(max_length=20)] | None = None
    expires_at: Instant | None = None
