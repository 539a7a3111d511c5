"""The feed for people: newest first, live, one event with its payload; and the stream console."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec
from msgspec import Struct
from starlette.responses import Response

from engine.errors import NotFound
from engine.events import EVENT_TYPES, Envelope, FeedEvent
from gateway import wire
from gateway.frames import StreamFilter
from gateway.origins import origin_of
from gateway.portal.origin import began_at, diagnostics_of
from gateway.portal.rendering import page
from gateway.portal.story import story_of
from gateway.portal.visit import Visit
from gateway.query import Parameter
from gateway.starting import filter_of
from gateway.tickets import SCOPE

ROWS: Final = 50
FILTERS: Final = (
    Parameter(name="type", kind="choice", choices=tuple(sorted(EVENT_TYPES)), meaning="Only of this type."),
    Parameter(name="resource_id", kind="id", meaning="Only about this resource."),
)
_BEFORE: Final = Parameter(name="before", kind="integer", maximum=10**17, meaning="Only before this sequence.")
_envelope: Final = msgspec.json.Decoder(Envelope)
# Where the portal shows a resource.
PLACES: Final = {
    "entry": "/portal/entries/",
    # A hold's id is its entry's.
    "hold": "/portal/entries/",
    "account": "/portal/accounts/",
    "ledger": "/portal/books/",
    "endpoint": "/portal/endpoints/",
    "delivery": "/portal/deliveries/",
}


class EventShown(Struct, frozen=True, kw_only=True):
    """An event as a row shows it."""

    id: str
    sequence: int
    type: str
    timestamp: str
    resource_type: str
    resource_id: str
    place: str | None
    correlation_id: str | None


def rows_of(found: Sequence[FeedEvent]) -> list[EventShown]:
    """Return events as rows."""
    return [_row(_envelope.decode(each.body)) for each in found]


async def list_page(visit: Visit) -> Response:
    """List the feed, the newest first; the filter is in the address."""
    asked = visit.asked(*FILTERS, _BEFORE)
    before = asked.get("before")
    found, head = await visit.services.engine.events_before(
        visit.site, before, ROWS + 1, type_=asked.get("type"), resource_id=asked.get("resource_id")
    )
    live = visit.same_page_with(cursor=head.cursor()).replace("/portal/events", "/portal/events/live", 1)
    more = len(found) > ROWS
    found = found[:ROWS]
    return page(
        visit,
        "events.html",
        events=rows_of(found),
        asked=asked,
        types=sorted(EVENT_TYPES),
        next_page=visit.same_page_with(before=str(found[-1].sequence)) if more else None,
        live_url=live if before is None else None,
        head=head.sequence,
    )


async def event_page(visit: Visit) -> Response:
    """Show one event: its payload, where it came from, what it is about."""
    event_id = visit.path_id("event")
    found = await visit.services.engine.event(visit.site, event_id)
    if found is None:
        raise NotFound("event", event_id)
    envelope = _envelope.decode(found.body)
    return page(
        visit,
        "event.html",
        event=_row(envelope),
        envelope=envelope,
        story=await story_of(visit, envelope),
        start=began_at(envelope),
        body=found.body,
        hash=found.hash.hex(),
    )


async def console_page(visit: Visit) -> Response:
    """Show the stream console."""
    head = await visit.services.engine.head(visit.site)
    return page(visit, "console.html", head=head.sequence, cursor=head.cursor(), types=sorted(EVENT_TYPES))


async def console_ticket(visit: Visit) -> Response:
    """Make a stream ticket for the console's page: it ends, and is revoked, with the session."""
    services, chosen = visit.services, visit.form.text("types")
    wanted = StreamFilter(types=[chosen]) if chosen else StreamFilter()
    filter_of(wanted)
    ticket, _ = services.authenticator.issue_ticket(
        visit.principal,
        scopes=frozenset({SCOPE}),
        filter_json=wire.encode(wanted),
        origin=origin_of(services.public_url),
        now_us=visit.now_us,
    )
    return wire.reply(wire.encode({"ticket": ticket}))


def _row(envelope: Envelope) -> EventShown:
    resource = envelope.resource
    place = PLACES.get(resource.type)
    diagnostics = diagnostics_of(envelope)
    return EventShown(
        id=envelope.id,
        sequence=envelope.sequence,
        type=envelope.type,
        timestamp=envelope.timestamp,
        resource_type=resource.type,
        resource_id=resource.id,
        place=None if place is None else place + resource.id,
        correlation_id=None if diagnostics is None else diagnostics.correlation_id,
    )
