"""The feed over HTTP: as a list, one event, and as server-sent events (WHATWG HTML, server-sent events)."""

from __future__ import annotations

import msgspec
from msgspec import UNSET
from starlette.responses import Response

from engine.errors import NotFound, Unavailable
from gateway import lists, wire
from gateway.call import Call, site_of
from gateway.query import Asked
from gateway.sse import EventStream, Feed, come_back
from gateway.starting import feed_name, filter_asked, narrowed, starts_of
from gateway.tickets import admit_others


async def list_events(call: Call, asked: Asked) -> Response:
    """List events in the feed's order, from a cursor or from the start; the same bytes as on every channel.

    With a filter a page may hold few events, or none, while `has_more` is true: it looks only so far. Follow `next_cursor`.
    """
    wanted = filter_asked(asked)
    page = await call.services.engine.events_after(call.site, asked.get("after"), asked.get("limit") or 50, wanted)
    body = wire.encode(
        {
            "data": [msgspec.Raw(event.body) for event in page.events],
            "has_more": page.has_more,
            "next_cursor": page.next_cursor,
        },
    )
    headers = {lists.FEED_CURSOR: page.head_cursor}
    if page.has_more:
        headers["link"] = lists.next_link(call, "after", page.next_cursor)
    return wire.reply(body, headers=headers)


async def get_event(call: Call, _asked: Asked) -> Response:
    """Return one event."""
    event_id = call.path_id("event")
    found = await call.services.engine.event(call.site, event_id)
    if found is None:
        raise NotFound("event", event_id)
    return wire.reply(found.body)


async def stream_events(call: Call, asked: Asked) -> Response:
    """Follow the feed as server-sent events: `id` is the cursor, `event` the type, `data` the envelope.

    With several tickets these are the feeds of several sites, side by side; each word says of which feed it is.
    """
    services, wanted = call.services, filter_asked(asked)
    admitted = [(call.principal, call.within), *admit_others(call.request, call.services, call.principal)]
    cursor = call.request.headers.get("last-event-id", asked.get("cursor"))
    sites = [site_of(principal) for principal, _ in admitted]
    try:
        starts = await starts_of(services, sites, cursor, asked.get("from"), asked.get("on_expired"))
    except Unavailable:
        if asked.get("on_expired") != "reset":
            raise
        # An `EventSource` stops for good at a status that is not 200; at the end of an answer it comes back.
        return come_back(services)
    return EventStream(
        services,
        [
            Feed(
                principal=principal,
                start=start,
                wanted=narrowed(wanted, within),
                name=feed_name(start.site) if len(starts) > 1 else UNSET,
            )
            for (principal, within), start in zip(admitted, starts, strict=True)
        ],
    )
