"""The request bodies of holds; each knows the command it stands for."""

from __future__ import annotations

from msgspec import Struct

from engine.commands import CaptureHold, CreateHold, PostEntry
from engine.errors import Fault
from gateway.bodies import Amount, Date, Description, ExternalId, IdempotencyKeyText, Instant, Metadata
from gateway.entry_bodies import FxRateId, Lines, Parts, drafts_of, parts_of
from gateway.problems import invalid
from gateway.wire import amount_of, effective_at_of, instant_of


class HoldCreate(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a hold reserves, and until when: a week from now unless given."""

    lines: Lines
    expires_at: Instant | None = None
    description: Description | None = None
    effective_at: Instant | None = None
    effective_date: Date | None = None
    external_id: ExternalId | None = None
    fx_rate_id: FxRateId | None = None
    metadata: Metadata = {}
    idempotency_key: IdempotencyKeyText | None = None

    def command(self) -> CreateHold:
        """Return what the books are to do."""
        entry = PostEntry(
            lines=drafts_of(self.lines),
            status="pending",
            description=self.description,
            effective_at=effective_at_of(self.effective_at, self.effective_date),
            external_id=self.external_id,
            fx_rate_id=self.fx_rate_id,
            metadata=self.metadata,
            held=True,
        )
        return CreateHold(entry=entry, expires_at=instant_of(self.expires_at, "/expires_at"))


class HoldCapture(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How much is captured: all that is held, one `amount` of a hold of two lines, or `lines`. `final` frees the rest.

    It takes effect when it is captured unless a time is given.
    """

    amount: Amount | None = None
    lines: Parts | None = None
    final: bool = False
    description: Description | None = None
    effective_at: Instant | None = None
    effective_date: Date | None = None
    metadata: Metadata = {}

    def command(self, hold_id: str, if_match: int | None) -> CaptureHold:
        """Return what the books are to do; raises the problem of a capture that says twice how much."""
        if self.amount is not None and self.lines is not None:
            detail = "Give one amount, or the amount of each line."
            raise invalid([Fault(code="validation.invalid_value", pointer="/lines", detail=detail)])
        return CaptureHold(
            hold_id=hold_id,
            if_match=if_match,
            amount=None if self.amount is None else amount_of(self.amount, "/amount"),
            parts=None if self.lines is None else parts_of(self.lines),
            final=self.final,
            description=self.description,
            effective_at=effective_at_of(self.effective_at, self.effective_date),
            metadata=self.metadata,
        )
