"""The request bodies of business events and their handlers; each knows the command it stands for."""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from engine.conditions import inner, too_many
from engine.definitions import (
    CONDITIONS_DEPTH_MAX,
    ENTRIES_MAX,
    VARIABLES_MAX,
    Definition,
    EntryTemplate,
    EventCondition,
    Variable,
    VariableName,
)
from engine.errors import Fault
from engine.event_commands import (
    CreateEventHandler,
    PostBusinessEvent,
    TryEventHandler,
    UpdateEventHandler,
)
from engine.expressions import Rounding
from gateway.bodies import Date, Description, ExternalId, Id, IdempotencyKeyText, Instant, Metadata, Name
from gateway.problems import invalid
from gateway.wire import effective_at_of, encode

CUSTOM_DATA_BYTES_MAX: Final = 65_536
CUSTOM_DATA_DEPTH_MAX: Final = 16

CustomData = Annotated[
    dict[str, Any],
    Meta(
        description=f"What templates refer to: at most {CUSTOM_DATA_BYTES_MAX} bytes of JSON, "
        f"nested at most {CUSTOM_DATA_DEPTH_MAX} deep.",
    ),
]
_PARTS: Final = tuple(each.name for each in msgspec.structs.fields(Definition))


class EventHandlerCreate(Definition, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What makes an event handler, which is active from then on."""

    name: Name
    description: Description | None = None
    metadata: Metadata = msgspec.field(default_factory=dict)

    def command(self) -> CreateEventHandler:
        """Return what the books are to do."""
        _check_depth(self.conditions)
        return CreateEventHandler(
            name=self.name,
            description=self.description,
            metadata=self.metadata,
            definition=Definition(**{name: getattr(self, name) for name in _PARTS}),
        )


class EventHandlerChange(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What changes about an event handler; what is left out stays, metadata is given whole."""

    name: Name | UnsetType = UNSET
    description: Description | UnsetType | None = UNSET
    ledger_id: Id | UnsetType | None = UNSET
    conditions: EventCondition | UnsetType = UNSET
    variables: Annotated[dict[VariableName, Variable], Meta(max_length=VARIABLES_MAX)] | UnsetType = UNSET
    entries: Annotated[list[EntryTemplate], Meta(min_length=1, max_length=ENTRIES_MAX)] | UnsetType = UNSET
    rounding: Rounding | UnsetType = UNSET
    metadata: Metadata | UnsetType = UNSET

    def command(self, handler_id: str, if_match: int | None) -> UpdateEventHandler:
        """Return what the books are to do."""
        if self.conditions is not UNSET:
            _check_depth(self.conditions)
        return UpdateEventHandler(
            handler_id=handler_id,
            if_match=if_match,
            name=self.name,
            description=self.description,
            metadata=self.metadata,
            definition={name: value for name in _PARTS if (value := getattr(self, name)) is not UNSET},
        )


class BusinessEventDraft(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Something that happened in your product."""

    name: Name
    custom_data: CustomData = {}
    description: Description | None = None
    effective_at: Instant | None = None
    effective_date: Date | None = None
    external_id: ExternalId | None = None
    metadata: Metadata = {}

    def event(self, pointer: str = "") -> PostBusinessEvent:
        """Return what the books are to do; `pointer` is where the event stands in the request."""
        _check_size(self.custom_data, f"{pointer}/custom_data")
        return PostBusinessEvent(
            name=self.name,
            custom_data=self.custom_data,
            description=self.description,
            effective_at=effective_at_of(self.effective_at, self.effective_date, pointer),
            external_id=self.external_id,
            metadata=self.metadata,
        )


class BusinessEventCreate(BusinessEventDraft, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A business event that the one active handler which matches turns into entries."""

    idempotency_key: IdempotencyKeyText | None = None


class EventHandlerTry(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An event handler to be checked, and a sample event to be tried on it alone."""

    event_handler: EventHandlerCreate
    business_event: BusinessEventDraft | None = None

    def command(self) -> TryEventHandler:
        """Return what the books are to say."""
        sample = None if self.business_event is None else self.business_event.event("/business_event")
        return TryEventHandler(handler=self.event_handler.command(), event=sample)


def _check_depth(conditions: EventCondition) -> None:
    """Check here what would be too deep to be written down again further in, where less of the stack is left."""
    level = [conditions]
    for _ in range(CONDITIONS_DEPTH_MAX):
        level = [below for each in level for below, _ in inner(each)]
    if level:
        raise invalid([too_many("/conditions")])


def _check_size(data: dict[str, Any], pointer: str) -> None:
    if len(encode(data)) > CUSTOM_DATA_BYTES_MAX:
        raise _too_large(pointer, f"custom_data has at most {CUSTOM_DATA_BYTES_MAX} bytes of JSON.")
    level: list[Any] = [data]
    depth = 0
    while level:
        depth += 1
        if depth > CUSTOM_DATA_DEPTH_MAX:
            raise _too_large(pointer, f"custom_data is nested at most {CUSTOM_DATA_DEPTH_MAX} deep.")
        below = [inner for each in level for inner in (each.values() if isinstance(each, dict) else each)]
        level = [each for each in below if isinstance(each, dict | list)]


def _too_large(pointer: str, detail: str) -> Exception:
    return invalid([Fault(code="validation.out_of_range", pointer=pointer, detail=detail)])
