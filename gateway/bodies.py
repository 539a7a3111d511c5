"""The request bodies of the ledger's operations, one struct per shape; each knows the command it stands for."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from engine.commands import (
    CreateAccount,
    CreateLedger,
    LineDraft,
    PostBatch,
    PostEntry,
    UpdateAccount,
    UpdateEntry,
    UpdateLedger,
)
from engine.errors import Fault
from gateway.limit_bodies import LimitList, limits_of
from gateway.problems import invalid
from gateway.wire import amount_of, instant_of

BATCH_LINES_MAX: Final = 10_000

_CLEAN = {"pattern": "^[^\\u0000]*$"}

Name = Annotated[str, Meta(min_length=1, max_length=200, extra_json_schema=_CLEAN)]
Description = Annotated[str, Meta(max_length=1000, extra_json_schema=_CLEAN)]
ExternalId = Annotated[str, Meta(min_length=1, max_length=180, extra_json_schema=_CLEAN)]
AccountCode = Annotated[str, Meta(min_length=1, max_length=100, extra_json_schema=_CLEAN)]
MetadataKey = Annotated[str, Meta(min_length=1, max_length=100, extra_json_schema=_CLEAN)]
MetadataValue = Annotated[str, Meta(max_length=500, extra_json_schema=_CLEAN)]
Metadata = Annotated[dict[MetadataKey, MetadataValue], Meta(max_length=50)]
Currency = Annotated[str, Meta(pattern=r"^[A-Z][A-Z0-9_]{2,15}$(?!\n)", description="ISO 4217, or a code of your own.")]
Exponent = Annotated[int, Meta(ge=0, le=18, description="How many digits the minor unit has.")]
Amount = (
    Annotated[int, Meta(ge=1, le=9_223_372_036_854_775_807, description="Minor units.")]
    | Annotated[str, Meta(pattern=r"^(?!0+$)[0-9]{1,19}$(?!\n)", description="Minor units as a string of digits.")]
)
Instant = Annotated[str, Meta(max_length=40, extra_json_schema={"format": "date-time"})]
Id = Annotated[
    str, Meta(pattern=r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$(?!\n)", extra_json_schema={"format": "uuid"})
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
IdempotencyKeyText = Annotated[str, Meta(min_length=1, max_length=255, pattern=r"^[\x21-\x7e]+$(?!\n)")]
LockVersion = Annotated[int, Meta(ge=0, le=9_223_372_036_854_775_807)]


class LedgerCreate(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What opens a ledger."""

    name: Name
    description: Description | None = None
    metadata: Metadata = {}

    def command(self) -> CreateLedger:
        """Return what the books are to do."""
        return CreateLedger(name=self.name, description=self.description, metadata=self.metadata)


class LedgerChange(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What changes about a ledger; what is left out stays."""

    name: Name | UnsetType = UNSET
    description: Description | UnsetType | None = UNSET
    metadata: Metadata | UnsetType = UNSET

    def command(self, ledger_id: str, if_match: int | None) -> UpdateLedger:
        """Return what the books are to do."""
        return UpdateLedger(
            ledger_id=ledger_id,
            if_match=if_match,
            name=None if self.name is UNSET else self.name,
            description=None if self.description is UNSET else self.description,
            clear_description=self.description is None,
            metadata=None if self.metadata is UNSET else self.metadata,
        )


class AccountCreate(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What opens an account; the normal balance follows the type unless it is given."""

    ledger_id: Id
    name: Name
    type: Literal["asset", "liability", "equity", "revenue", "expense"]
    currency: Currency
    currency_exponent: Exponent | None = None
    normal_balance: Literal["debit", "credit"] | None = None
    description: Description | None = None
    code: AccountCode | None = None
    external_id: ExternalId | None = None
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
            allow_negative=self.allow_negative,
            limits=limits_of(self.limits),
            metadata=self.metadata,
        )


class AccountChange(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What changes about an account; what is left out stays."""

    name: Name | UnsetType = UNSET
    description: Description | UnsetType | None = UNSET
    code: AccountCode | UnsetType | None = UNSET
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
            allow_negative=None if self.allow_negative is UNSET else self.allow_negative,
            limits=None if self.limits is UNSET else limits_of(self.limits),
            metadata=None if self.metadata is UNSET else self.metadata,
        )


class LineCreate(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A line of an entry to be posted; `lock_version` demands that the account is at this version."""

    account_id: AccountReference
    direction: Literal["debit", "credit"]
    amount: Amount
    metadata: Metadata = {}
    lock_version: LockVersion | None = None


class EntryDraft(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An entry of a batch: debits equal credits, all lines in one ledger."""

    lines: Annotated[list[LineCreate], Meta(min_length=2, max_length=1000)]
    status: Literal["posted", "pending"] = "posted"
    description: Description | None = None
    effective_at: Instant | None = None
    external_id: ExternalId | None = None
    metadata: Metadata = {}

    def command(self, pointer: str = "") -> PostEntry:
        """Return what the books are to do; `pointer` is where the entry stands in the request."""
        return PostEntry(
            lines=tuple(
                LineDraft(
                    account=line.account_id,
                    direction=line.direction,
                    amount=amount_of(line.amount, f"{pointer}/lines/{position}/amount"),
                    metadata=line.metadata,
                    lock_version=line.lock_version,
                )
                for position, line in enumerate(self.lines)
            ),
            status=self.status,
            description=self.description,
            effective_at=instant_of(self.effective_at, f"{pointer}/effective_at"),
            external_id=self.external_id,
            metadata=self.metadata,
        )


class EntryCreate(EntryDraft, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What posts an entry, or reserves it as pending."""

    idempotency_key: IdempotencyKeyText | None = None


class EntryBatchCreate(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Several entries, posted all or none, in this order; at most 10,000 lines in all."""

    entries: Annotated[list[EntryDraft], Meta(min_length=1, max_length=1000)]
    mode: Literal["atomic"] = "atomic"
    idempotency_key: IdempotencyKeyText | None = None

    def command(self) -> PostBatch:
        """Return what the books are to do; raises the problem of a batch that would hold the books up for too long."""
        lines = sum(len(entry.lines) for entry in self.entries)
        if lines > BATCH_LINES_MAX:
            detail = f"The entries have {lines} lines; a batch has at most {BATCH_LINES_MAX}."
            raise invalid([Fault(code="validation.out_of_range", pointer="/entries", detail=detail)])
        return PostBatch(
            entries=tuple(entry.command(f"/entries/{index}") for index, entry in enumerate(self.entries)),
        )


class EntryChange(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What changes about an entry, whatever its status; what is left out stays."""

    description: Description | UnsetType | None = UNSET
    metadata: Metadata | UnsetType = UNSET

    def command(self, entry_id: str, if_match: int | None) -> UpdateEntry:
        """Return what the books are to do."""
        return UpdateEntry(
            entry_id=entry_id,
            if_match=if_match,
            description=None if self.description is UNSET else self.description,
            clear_description=self.description is None,
            metadata=None if self.metadata is UNSET else self.metadata,
        )


class ApiKeyCreate(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What creates an API key: at most its creator's scopes, for at most 90 days."""

    name: Name
    scopes: Annotated[list[Annotated[str, Meta(max_length=40)]], Meta(max_length=20)] | None = None
    expires_at: Instant | None = None
