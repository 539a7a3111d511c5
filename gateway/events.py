"""The feed over HTTP: as a list, one event, and as server-sent events (WHATWG HTML, server-sent events)."""

from __future__ import annotations

import msgspec
from starlette.responses import Response

from engine.errors import NotFound
from gateway import lists, wire
from gateway.call import Call
from gateway.query import Asked
from gateway.sse import EventStream
from gateway.starting import filter_asked, narrowed, start_of


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
    """Follow the feed as server-sent events: `id` is the cursor, `event` the type, `data` the envelope."""
    wanted = narrowed(filter_asked(asked), call.within)
    cursor = call.request.headers.get("last-event-id", asked.get("cursor"))
    start = await start_of(call.services, call.site, cursor, asked.get("from"), asked.get("on_expired"))
    return EventStream(call.services, call.principal, start, wanted)
