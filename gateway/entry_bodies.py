"""The request bodies of entries, one struct per shape; each knows the command it stands for."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from engine.commands import (
    ArchiveEntry,
    BatchItem,
    Condition,
    LineDraft,
    LinePart,
    PostBatch,
    PostEntry,
    PostPart,
    PostPending,
    ReverseEntry,
    UpdateEntry,
)
from engine.errors import Fault
from engine.money import AMOUNT_MAX
from gateway.bodies import (
    AccountReference,
    Amount,
    Date,
    Description,
    ExternalId,
    Id,
    IdempotencyKeyText,
    Instant,
    LockVersion,
    Metadata,
)
from gateway.limit_bodies import BalanceAmount
from gateway.problems import invalid
from gateway.wire import amount_of, effective_at_of, signed_amount_of

BATCH_LINES_MAX: Final = 10_000
FxRateId = Annotated[
    str,
    Meta(
        pattern=r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$(?!\n)",
        description="The id of the rate at which an entry over two currencies is balanced.",
    ),
]
LocalId = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=100,
        pattern=r"^[A-Za-z0-9._-]+$(?!\n)",
        description="Letters, digits, `.`, `_` and `-`: how later items of the batch name the entry that this one makes.",
    ),
]
EntryReference = Annotated[
    str,
    Meta(
        pattern=r"^([0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|local:[A-Za-z0-9._-]{1,100})$(?!\n)",
        description="An entry's id, or `local:` and an earlier item's `local_id`.",
    ),
]
_NOT_TAKEN: Final = {
    "create": ("entry_id",),
    "post": ("lines", "status", "description", "external_id", "fx_rate_id", "metadata"),
    "archive": (
        "lines",
        "status",
        "description",
        "external_id",
        "fx_rate_id",
        "metadata",
        "effective_at",
        "effective_date",
    ),
    "reverse": ("lines", "status", "fx_rate_id"),
}

_Balance = Literal["available", "pending", "posted"]
_BALANCES: Final[tuple[_Balance, ...]] = ("available", "pending", "posted")
_OPERATORS: Final[tuple[Literal["gt", "gte", "lt", "lte", "eq"], ...]] = ("gt", "gte", "lt", "lte", "eq")


class BalanceCondition(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a balance has to be once the entry is made, in minor units; all that are given have to hold."""

    gt: BalanceAmount | None = None
    gte: BalanceAmount | None = None
    lt: BalanceAmount | None = None
    lte: BalanceAmount | None = None
    eq: BalanceAmount | None = None

    def conditions(self, balance: _Balance, pointer: str) -> list[Condition]:
        """Return what the books are to see to."""
        return [
            Condition(balance=balance, operator=operator, value=signed_amount_of(value, f"{pointer}/{operator}"))
            for operator in _OPERATORS
            if (value := getattr(self, operator)) is not None
        ]


class LineCreate(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A line of an entry to be posted.

    `lock_version` demands that the account is at this version before the entry; the conditions are on its balances after
    the whole entry, whatever its effective time.
    """

    account_id: AccountReference
    direction: Literal["debit", "credit"]
    amount: Amount
    metadata: Metadata = {}
    lock_version: LockVersion | None = None
    available_balance_amount: BalanceCondition | None = None
    pending_balance_amount: BalanceCondition | None = None
    posted_balance_amount: BalanceCondition | None = None

    def draft(self, pointer: str, position: int) -> LineDraft:
        """Return the line as the books take it; `pointer` is where its entry stands in the request."""
        amount = self.amount
        if not (type(amount) is int and 1 <= amount <= AMOUNT_MAX):
            amount = amount_of(amount, f"{pointer}/lines/{position}/amount")
        return LineDraft(
            account=self.account_id,
            direction=self.direction,
            amount=amount,
            metadata=self.metadata,
            lock_version=self.lock_version,
            conditions=self._conditions(f"{pointer}/lines/{position}") if self._is_conditional() else (),
        )

    def _is_conditional(self) -> bool:
        return not (
            self.available_balance_amount is None
            and self.pending_balance_amount is None
            and self.posted_balance_amount is None
        )

    def _conditions(self, pointer: str) -> tuple[Condition, ...]:
        conditions: list[Condition] = []
        for balance in _BALANCES:
            name = f"{balance}_balance_amount"
            wanted = getattr(self, name)
            if wanted is not None:
                conditions += wanted.conditions(balance, f"{pointer}/{name}")
        return tuple(conditions)


class PartCreate(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """So much of one of the entry's lines."""

    id: Id
    amount: Amount


Lines = Annotated[list[LineCreate], Meta(min_length=2, max_length=1000)]
Parts = Annotated[
    list[PartCreate], Meta(min_length=1, max_length=1000, description="A line that is not named has none.")
]


class EntryCreate(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What posts an entry, or reserves it as pending: debits equal credits, all lines in one ledger.

    `effective_date` is short for its first instant in UTC as `effective_at`.
    """

    lines: Lines
    status: Literal["posted", "pending"] = "posted"
    description: Description | None = None
    effective_at: Instant | None = None
    effective_date: Date | None = None
    external_id: ExternalId | None = None
    fx_rate_id: FxRateId | None = None
    metadata: Metadata = {}
    idempotency_key: IdempotencyKeyText | None = None

    def command(self) -> PostEntry:
        """Return what the books are to do."""
        return PostEntry(
            lines=drafts_of(self.lines),
            status=self.status,
            description=self.description,
            effective_at=effective_at_of(self.effective_at, self.effective_date),
            external_id=self.external_id,
            fx_rate_id=self.fx_rate_id,
            metadata=self.metadata,
        )


class BatchItemCreate(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An item of a batch: an entry to make, or what becomes of one that there is.

    `post`, `archive` and `reverse` take an `entry_id`: an id, or `local:` and the `local_id` of an earlier item of the batch.
    """

    operation: Literal["create", "post", "archive", "reverse"] = "create"
    local_id: LocalId | None = None
    entry_id: EntryReference | None = None
    lines: Lines | None = None
    status: Literal["posted", "pending"] | None = None
    description: Description | None = None
    effective_at: Instant | None = None
    effective_date: Date | None = None
    external_id: ExternalId | None = None
    fx_rate_id: FxRateId | None = None
    metadata: Metadata = {}

    def command(self, pointer: str) -> BatchItem:
        """Return what the books are to do; raises the problem of fields that this operation does not take, or lacks."""
        self._check(pointer)
        at = effective_at_of(self.effective_at, self.effective_date, pointer)
        entry_id = self.entry_id or ""
        match self.operation:
            case "create":
                return PostEntry(
                    lines=drafts_of(self.lines or [], pointer),
                    status=self.status or "posted",
                    description=self.description,
                    effective_at=at,
                    external_id=self.external_id,
                    fx_rate_id=self.fx_rate_id,
                    metadata=self.metadata,
                )
            case "post":
                return PostPending(entry_id=entry_id, effective_at=at)
            case "archive":
                return ArchiveEntry(entry_id=entry_id)
            case "reverse":
                return ReverseEntry(
                    entry_id=entry_id,
                    description=self.description,
                    effective_at=at,
                    external_id=self.external_id,
                    metadata=self.metadata,
                )

    def _check(self, pointer: str) -> None:
        needed = "lines" if self.operation == "create" else "entry_id"
        if getattr(self, needed) is None:
            detail = f"Field {needed!r} is required."
            raise invalid(
                [Fault(code="validation.required_field_missing", pointer=f"{pointer}/{needed}", detail=detail)]
            )
        for name in _NOT_TAKEN[self.operation]:
            if getattr(self, name):
                detail = f"The operation {self.operation} takes no {name!r}."
                raise invalid([Fault(code="validation.unknown_field", pointer=f"{pointer}/{name}", detail=detail)])


class EntryBatchCreate(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Several entries, in this order; at most 10,000 lines in all.

    `atomic`: all of it or nothing. `independent`: each for itself, with an outcome for each.
    """

    entries: Annotated[list[BatchItemCreate], Meta(min_length=1, max_length=1000)]
    mode: Literal["atomic", "independent"] = "atomic"
    idempotency_key: IdempotencyKeyText | None = None

    def command(self) -> PostBatch:
        """Return what the books are to do; raises the problem of a batch that would hold the books up for too long."""
        lines = sum(len(item.lines or ()) for item in self.entries)
        if lines > BATCH_LINES_MAX:
            detail = f"The entries have {lines} lines; a batch has at most {BATCH_LINES_MAX}."
            raise invalid([Fault(code="validation.out_of_range", pointer="/entries", detail=detail)])
        names = tuple(item.local_id for item in self.entries)
        twice = {name for name in names if name is not None and names.count(name) > 1} if any(names) else set()
        if twice:
            index = max(index for index, name in enumerate(names) if name in twice)
            detail = f"Two items have the local_id {names[index]!r}."
            raise invalid([Fault(code="validation.not_unique", pointer=f"/entries/{index}/local_id", detail=detail)])
        return PostBatch(
            entries=tuple(item.command(f"/entries/{index}") for index, item in enumerate(self.entries)),
            names=names,
            mode=self.mode,
        )


class EntryChange(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What changes about an entry; what is left out stays. Lines and effective time change while it is pending only.

    Lines and metadata are given whole: they take the place of those there were.
    """

    description: Description | UnsetType | None = UNSET
    metadata: Metadata | UnsetType = UNSET
    lines: Lines | UnsetType = UNSET
    effective_at: Instant | None = None
    effective_date: Date | None = None

    def command(self, entry_id: str, if_match: int | None) -> UpdateEntry:
        """Return what the books are to do."""
        return UpdateEntry(
            entry_id=entry_id,
            if_match=if_match,
            description=None if self.description is UNSET else self.description,
            clear_description=self.description is None,
            metadata=None if self.metadata is UNSET else self.metadata,
            lines=None if self.lines is UNSET else drafts_of(self.lines),
            effective_at=effective_at_of(self.effective_at, self.effective_date),
        )


class EntryPost(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When a pending entry that is posted takes effect, if not at the time it was reserved for."""

    effective_at: Instant | None = None
    effective_date: Date | None = None

    def command(self, entry_id: str, if_match: int | None) -> PostPending:
        """Return what the books are to do."""
        effective_at = effective_at_of(self.effective_at, self.effective_date)
        return PostPending(entry_id=entry_id, if_match=if_match, effective_at=effective_at)


class EntryPartialPost(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How much of each line of a pending entry is posted, and whether the rest stays `pending` or is released.

    It takes effect when the entry would unless a time is given.
    """

    lines: Parts
    rest: Literal["pending", "released"] = "pending"
    description: Description | None = None
    effective_at: Instant | None = None
    effective_date: Date | None = None
    metadata: Metadata = {}

    def command(self, entry_id: str, if_match: int | None) -> PostPart:
        """Return what the books are to do."""
        return PostPart(
            entry_id=entry_id,
            if_match=if_match,
            parts=parts_of(self.lines),
            release_rest=self.rest == "released",
            description=self.description,
            effective_at=effective_at_of(self.effective_at, self.effective_date),
            metadata=self.metadata,
        )


class EntryReverse(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The mirror image of a posted entry: of all its lines, or of so much of some; it takes effect now unless told."""

    lines: Parts | None = None
    description: Description | None = None
    effective_at: Instant | None = None
    effective_date: Date | None = None
    external_id: ExternalId | None = None
    metadata: Metadata = {}

    def command(self, entry_id: str, if_match: int | None) -> ReverseEntry:
        """Return what the books are to do."""
        return ReverseEntry(
            entry_id=entry_id,
            if_match=if_match,
            parts=None if self.lines is None else parts_of(self.lines),
            description=self.description,
            effective_at=effective_at_of(self.effective_at, self.effective_date),
            external_id=self.external_id,
            metadata=self.metadata,
        )


def drafts_of(lines: list[LineCreate], pointer: str = "") -> tuple[LineDraft, ...]:
    """Return lines as the books take them; `pointer` is where their entry stands in the request."""
    return tuple([line.draft(pointer, position) for position, line in enumerate(lines)])


def parts_of(parts: list[PartCreate]) -> tuple[LinePart, ...]:
    """Return parts of lines as the books take them."""
    return tuple(
        LinePart(line_id=part.id, amount=amount_of(part.amount, f"/lines/{position}/amount"))
        for position, part in enumerate(parts)
    )
