"""Pages that change by themselves, over server-sent events: each message is what to show, its id where to go on.

Deliveries are read again when the site's mark says that something happened; events follow the feed from the cursor that the
browser holds, so that a cut connection goes on without a gap.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Final

import msgspec
from sse_starlette.sse import EventSourceResponse
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from engine.filters import EventFilter
from gateway.portal import deliveries as listed
from gateway.portal import door
from gateway.portal.events import FILTERS, rows_of
from gateway.portal.home import endpoint_urls
from gateway.portal.rendering import fragment
from gateway.portal.visit import Visit
from gateway.query import CURSOR, Parameter

BEAT_S: Final = 0.25
UNFINISHED_S: Final = 2.0
SESSION_S: Final = 5.0
HEARD_S: Final = 4.0
"""How often a page hears something, so that it can tell a quiet site from a connection that is cut without a word."""
RETRY_MS: Final = 1000
EVENTS_AT_ONCE: Final = 100
_BEAT: Final = b"event: beat\ndata: {}\n\n"
_UNFINISHED: Final = frozenset({"pending", "in_flight", "retrying"})


class _Message(msgspec.Struct, frozen=True):
    html: str


async def deliveries(visit: Visit) -> Response:
    """Follow a list of deliveries: the rows of its first page, whenever they are others."""
    asked = visit.asked(*listed.FILTERS)
    last = visit.request.headers.get("last-event-id", "")

    async def blocks() -> AsyncIterator[bytes]:
        shown, mark, looked_at = last, (-1, -1), 0.0
        unfinished = True
        loop = asyncio.get_running_loop()
        yield b"retry: %d\n\n" % RETRY_MS
        async for beat in _beats(visit):
            if beat:
                yield _BEAT
            now = await visit.services.figures.mark(visit.site, visit.now_us)
            if now == mark and not (unfinished and loop.time() - looked_at >= UNFINISHED_S):
                continue
            mark, looked_at = now, loop.time()
            found, _ = await listed.read(visit, asked, None)
            unfinished = any(each.status in _UNFINISHED for each in found)
            digest = hashlib.sha256(msgspec.json.encode(found)).hexdigest()[:16]
            if digest != shown:
                shown = digest
                html = fragment("rows.html", "deliveries", found, await endpoint_urls(visit, found))
                yield _block("rows", digest, html)

    return _Live(_closing(visit, blocks()))


async def events(visit: Visit) -> Response:
    """Follow the feed from a cursor: rows in the feed's order."""
    asked = visit.asked(*FILTERS, CURSOR, Parameter(name="last_event_id", kind="cursor", meaning="Where to go on."))
    engine, site = visit.services.engine, visit.site
    given = visit.request.headers.get("last-event-id") or asked.get("last_event_id") or asked.get("cursor")
    if given is None:
        given = (await engine.head(site)).cursor()
    position, _ = await engine.resolve(site, given)
    chosen = asked.get("type")
    wanted = EventFilter(types=None if chosen is None else frozenset({chosen}), resource_id=asked.get("resource_id"))

    async def blocks(position: int) -> AsyncIterator[bytes]:
        yield b"retry: %d\nid: %s\nevent: ready\ndata: {}\n\n" % (RETRY_MS, given.encode())
        async for beat in _beats(visit):
            if beat:
                yield _BEAT
            more = True
            while more:
                found, _, place = await engine.read_matching(site, position, EVENTS_AT_ONCE, wanted)
                more, position = len(found) == EVENTS_AT_ONCE, place.sequence
                if found:
                    yield _block("rows", place.cursor, fragment("rows.html", "events", list(reversed(rows_of(found)))))

    return _Live(_closing(visit, blocks(position)))


async def _beats(visit: Visit) -> AsyncIterator[bool]:
    """Return at once and again in short turns, for as long as the visitor may look; true where it is time to be heard."""
    loop = asyncio.get_running_loop()
    asked_at = heard_at = loop.time()
    while not visit.services.tailers.draining.is_set():
        beat = loop.time() - heard_at >= HEARD_S
        if beat:
            heard_at = loop.time()
        yield beat
        if loop.time() - asked_at >= SESSION_S:
            asked_at = loop.time()
            caller = await door.caller_of(visit.request, visit.services, active=False)
            if caller is None or caller.session.site != visit.session.site:
                return
        await asyncio.sleep(BEAT_S)


async def _closing(visit: Visit, blocks: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
    """Say at the end whether to come back: a server that goes down is not a session that ended."""
    async for block in blocks:
        yield block
    again = visit.services.tailers.draining.is_set()
    yield b"event: closing\ndata: %s\n\n" % (b'{"again":true}' if again else b'{"again":false}')


class _Live(EventSourceResponse):
    """A stream of ready bytes; a browser that takes none for too long is let go without a log's page."""

    def __init__(self, blocks: AsyncGenerator[bytes, None]) -> None:
        headers = {"cache-control": "no-store, no-transform", "x-accel-buffering": "no"}
        super().__init__(blocks, ping=3600, send_timeout=30, headers=headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        except* (TimeoutError, ConnectionError):
            pass


def _block(name: str, place: str, html: str) -> bytes:
    return b"id: %s\nevent: %s\ndata: %s\n\n" % (place.encode(), name.encode(), msgspec.json.encode(_Message(html)))
