"""The audit of business events and their handlers: all is as told."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, Table, select

from engine.conditions import demanded_name
from engine.event_shapes import EventHandler, definition_of, event_handler_of
from engine.finding import Finding, readable
from engine.money import format_instant
from engine.pieces import absent
from engine.rows import ResourceRow
from engine.schema import business_events, event_handlers, events
from engine.shapes import encode
from engine.sql import among

_PAGE: Final = 500
_HANDLER_TYPES: Final = ("event_handler.created", "event_handler.updated")
_RIGHT: Final = "right"
_EVENT_TYPES: Final = ("business_event.created",)


class _Named(msgspec.Struct, frozen=True):
    """An entry, of which only the id matters here: its own events say the rest."""

    id: str


class _BusinessEvent(msgspec.Struct, frozen=True):
    """What the feed says of a business event."""

    id: str
    name: str
    description: str | None
    custom_data: msgspec.Raw
    external_id: str | None
    metadata: dict[str, str]
    effective_at: str
    event_handler_id: str
    event_handler_version: int
    entries: list[_Named]
    lock_version: int
    created_at: str
    updated_at: str


class _Data(msgspec.Struct):
    """The resource in an envelope, not yet decoded."""

    data: msgspec.Raw


def verify_business_events(conn: Connection, site_id: int, progress: Callable[[int], None]) -> Finding | None:
    """Return the first thing that is wrong with a site's business events and event handlers, or None."""
    for table, types, wrong in (
        (event_handlers, _HANDLER_TYPES, _wrong_handler),
        (business_events, _EVENT_TYPES, _wrong_event),
    ):
        for page in _pages(conn, table, site_id):
            told = _told(conn, site_id, [row["id"] for row in page], types)
            for row in page:
                judged = readable(partial(wrong, row, told[row["id"]])) if told[row["id"]] else "no event tells of it"
                if judged != _RIGHT:
                    return Finding(table=table.name, row=row["id"], detail=judged or "it cannot be read")
            progress(len(page))
        missing = absent(conn, site_id, table, types)
        if missing is not None:
            return Finding(table=table.name, row=missing, detail="the feed tells of it, and it is not there")
    return None


def _wrong_handler(row: ResourceRow, told: list[msgspec.Raw]) -> str:
    versions = [msgspec.json.decode(each, type=EventHandler) for each in told]
    definition = definition_of(row["definition"])
    if event_handler_of(row) != versions[-1] or encode(definition).decode() != row["definition"]:
        return "it is not what its last event says"
    if [each.lock_version for each in versions] != list(range(1, row["lock_version"] + 1)):
        return "not every version was told of"
    if row["event_name"] != (demanded_name(definition.conditions) or ""):
        return "it is found by another name than its conditions demand"
    return _RIGHT


def _wrong_event(row: ResourceRow, told: list[msgspec.Raw]) -> str:
    shown = row | {name: format_instant(row[name]) for name in ("effective_at", "created_at", "updated_at")}
    shown |= {
        "custom_data": msgspec.Raw(row["custom_data"].encode()),
        "entries": [_Named(each) for each in row["entries"]],
    }
    del shown["site_id"]
    same = [msgspec.structs.asdict(msgspec.json.decode(each, type=_BusinessEvent)) for each in told] == [shown]
    return _RIGHT if same else "it is not what its event says"


def _told(conn: Connection, site_id: int, ids: list[str], types: tuple[str, ...]) -> dict[str, list[msgspec.Raw]]:
    """Return what the events of these types say of each resource, in their order."""
    told: dict[str, list[msgspec.Raw]] = {each: [] for each in ids}
    query = (
        select(events.c.resource_id, events.c.body)
        .where(events.c.site_id == site_id, among(events.c.resource_id, ids), among(events.c.type, types))
        .order_by(events.c.sequence)
    )
    for row in conn.execute(query):
        told[row.resource_id].append(msgspec.json.decode(row.body, type=_Data).data)
    return told


def _pages(conn: Connection, table: Table, site_id: int) -> Iterator[list[Any]]:
    query = select(table).where(table.c.site_id == site_id).order_by(table.c.id).limit(_PAGE)
    page = [dict(row) for row in conn.execute(query).mappings()]
    while page:
        yield page
        page = [dict(row) for row in conn.execute(query.where(table.c.id > page[-1]["id"])).mappings()]
