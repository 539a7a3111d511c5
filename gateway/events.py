"""The feed over HTTP: as a list, one event, and as server-sent events (WHATWG HTML, server-sent events)."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Final

import msgspec
from sse_starlette.sse import EventSourceResponse
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from engine.errors import NotFound
from gateway import lists, wire
from gateway.call import Call
from gateway.following import Checkpoint, Closing, Events, Start, expand_types, follow, start_of, types_wanted
from gateway.query import Asked

_DRAIN_JITTER: Final = 4.0


async def list_events(call: Call, asked: Asked) -> Response:
    """List events in the feed's order, from a cursor or from the start; the same bytes as on every channel."""
    types = asked.get("types")
    chosen = tuple(sorted(expand_types(types))) if types not in {None, "*"} else None
    page = await call.services.engine.events_after(call.site, asked.get("after"), asked.get("limit") or 50, chosen)
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
    wanted = types_wanted(asked.get("types"))
    start = await start_of(call.services, call.site, asked, call.request)
    return _Stream(_blocks(call, start, wanted), call)


class _Stream(EventSourceResponse):
    """A stream whose blocks are bytes already; a reader that takes none for too long is let go without a log's page."""

    def __init__(self, blocks: AsyncGenerator[bytes, None], call: Call) -> None:
        super().__init__(
            blocks,
            ping=3600,
            send_timeout=call.services.stream.send_timeout_s,
            headers={"cache-control": "no-store, no-transform", "x-accel-buffering": "no"},
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        except* (TimeoutError, ConnectionError):
            pass


async def _blocks(call: Call, start: Start, wanted: Callable[[str], bool]) -> AsyncGenerator[bytes, None]:
    services = call.services
    stream = follow(services, call.site, call.principal, start, wanted, asyncio.Event())
    services.metrics.streams.labels("sse").inc()
    written = services.metrics.streamed.labels("sse")
    try:
        yield b"retry: %d\nid: %s\nevent: ready\ndata: %s\n\n" % (
            services.stream.retry_ms,
            start.cursor.encode(),
            wire.encode({"cursor": start.cursor, "head": start.head.cursor()}),
        )
        async with aclosing(stream) as steps:
            async for step in steps:
                match step:
                    case Events(frames=frames):
                        yield frames[0].sse if len(frames) == 1 else b"".join([each.sse for each in frames])
                        written.inc(len(frames))
                    case Checkpoint(cursor=cursor):
                        yield _block(b"checkpoint", cursor, {"cursor": cursor})
                    case Closing():
                        yield _last_block(step, services.stream.retry_ms)
    finally:
        services.metrics.streams.labels("sse").dec()


def _block(name: bytes, cursor: str, data: object) -> bytes:
    return b"id: %s\nevent: %s\ndata: %s\n\n" % (cursor.encode(), name, wire.encode(data))


def _last_block(closing: Closing, retry_ms: int) -> bytes:
    """Say why the stream ends; who may come back is told when, spread out so that not all do at once."""
    told = {"reason": closing.reason, "reconnect": closing.reconnect, "cursor": closing.cursor}
    wait_ms = int(retry_ms * (1 + random.random() * _DRAIN_JITTER))
    return b"retry: %d\n" % wait_ms + _block(b"closing", closing.cursor, told)
