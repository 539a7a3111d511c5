"""What can be asked of business events and their handlers: each a function over one snapshot, as `engine.queries` are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, select

from engine import store
from engine.errors import NotFound
from engine.event_shapes import BusinessEvent, EventHandler, business_event_of, event_handler_of
from engine.queries import Page, Selection, looked_up, numbered, page_of, selected
from engine.schema import business_events, event_handlers, events
from engine.shapes import entry_of


class _Version(msgspec.Struct):
    """What an envelope says of its resource."""

    data: EventHandler


def event_handler(conn: Connection, site_id: int, handler_id: str) -> EventHandler:
    """Return an event handler; raises NotFound."""
    query = select(event_handlers).where(event_handlers.c.site_id == site_id, event_handlers.c.id == handler_id)
    row = conn.execute(query).mappings().first()
    if row is None:
        raise NotFound("event handler", handler_id)
    return event_handler_of(dict(row))


def list_event_handlers(conn: Connection, site_id: int, wanted: Selection) -> Page[EventHandler]:
    """Return a page of event handlers."""
    query = selected(conn, event_handlers, site_id, wanted)
    return page_of([event_handler_of(dict(row)) for row in conn.execute(query).mappings()], wanted)


def event_handler_versions(conn: Connection, site_id: int, handler_id: str, wanted: Selection) -> Page[EventHandler]:
    """Return a page of the versions of an event handler, the newest first; raises NotFound.

    A version is what the event of its change says: there is no second record that could differ from it.
    """
    event_handler(conn, site_id, handler_id)
    query = select(events.c.sequence, events.c.body).where(
        events.c.site_id == site_id, events.c.resource_id == handler_id
    )
    rows, next_cursor = numbered(conn, query, events.c.sequence, wanted)
    return Page(items=[msgspec.json.decode(row["body"], type=_Version).data for row in rows], next_cursor=next_cursor)


def business_event(conn: Connection, site_id: int, event_id: str) -> BusinessEvent:
    """Return a business event with its entries as they stand; raises NotFound."""
    query = select(business_events).where(business_events.c.site_id == site_id, business_events.c.id == event_id)
    row = conn.execute(query).mappings().first()
    if row is None:
        raise NotFound("business event", event_id)
    return _with_entries(conn, site_id, [dict(row)])[0]


def list_business_events(conn: Connection, site_id: int, wanted: Selection) -> Page[BusinessEvent]:
    """Return a page of business events with their entries as they stand."""
    rows, next_cursor = looked_up(conn, business_events, site_id, wanted, (("external_id",), ("event_handler_id",)))
    return Page(items=_with_entries(conn, site_id, rows), next_cursor=next_cursor)


def _with_entries(conn: Connection, site_id: int, rows: Sequence[Any]) -> list[BusinessEvent]:
    wanted = {entry_id for row in rows for entry_id in row["entries"]}
    found = {row["id"]: entry_of(row, lines) for row, lines in store.entries_by_id(conn, site_id, wanted)}
    return [business_event_of(row, [found[entry_id] for entry_id in row["entries"]]) for row in rows]
