"""Event handlers and business events as the API shows them. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Final, Literal

import msgspec

from engine.definitions import Definition, EntryTemplate, EventCondition, Variable
from engine.expressions import Rounding
from engine.money import format_instant
from engine.rows import ResourceRow
from engine.shapes import Entry

_decode: Final = msgspec.json.Decoder(Definition).decode


class EventHandler(msgspec.Struct, frozen=True):
    """What turns business events into entries; each change of it makes a version, which `lock_version` counts."""

    id: str
    name: str
    description: str | None
    status: Literal["active", "archived"]
    ledger_id: str | None
    conditions: EventCondition
    variables: dict[str, Variable]
    entries: list[EntryTemplate]
    rounding: Rounding
    metadata: dict[str, str]
    lock_version: int
    created_at: str
    updated_at: str


class BusinessEvent(msgspec.Struct, frozen=True):
    """Something that happened in your product, and the entries that a version of an event handler made of it."""

    id: str
    name: str
    description: str | None
    custom_data: msgspec.Raw
    external_id: str | None
    metadata: dict[str, str]
    effective_at: str
    event_handler_id: str
    event_handler_version: int
    entries: list[Entry]
    lock_version: int
    created_at: str
    updated_at: str


class EventHandlerTrial(msgspec.Struct, frozen=True):
    """A handler as it would be made, and what it would make of the sample event where one was given. Nothing is stored."""

    event_handler: EventHandler
    business_event: BusinessEvent | None


@lru_cache(maxsize=256)
def definition_of(text: str) -> Definition:
    """Return a stored definition."""
    return _decode(text)


def event_handler_of(row: ResourceRow) -> EventHandler:
    """Return an event handler as the API shows it."""
    definition = definition_of(row["definition"])
    return EventHandler(
        id=row["id"],
        name=row["name"],
        description=row["description"],
        status=row["status"],
        ledger_id=definition.ledger_id,
        conditions=definition.conditions,
        variables=definition.variables,
        entries=definition.entries,
        rounding=definition.rounding,
        metadata=row["metadata"],
        lock_version=row["lock_version"],
        created_at=format_instant(row["created_at"]),
        updated_at=format_instant(row["updated_at"]),
    )


def business_event_of(row: ResourceRow, entries: Sequence[Entry]) -> BusinessEvent:
    """Return a business event as the API shows it, with its entries in their order."""
    return BusinessEvent(
        id=row["id"],
        name=row["name"],
        description=row["description"],
        custom_data=msgspec.Raw(row["custom_data"].encode()),
        external_id=row["external_id"],
        metadata=row["metadata"],
        effective_at=format_instant(row["effective_at"]),
        event_handler_id=row["event_handler_id"],
        event_handler_version=row["event_handler_version"],
        entries=list(entries),
        lock_version=row["lock_version"],
        created_at=format_instant(row["created_at"]),
        updated_at=format_instant(row["updated_at"]),
    )
