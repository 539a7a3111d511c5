"""A following as server-sent events: the blocks, and the response that writes them (WHATWG HTML, server-sent events)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import cast

from sse_starlette.sse import EventSourceResponse
from starlette.types import Receive, Scope, Send

from auth.principal import Principal
from engine.filters import EventFilter
from gateway import wire
from gateway.call import CUT, Services
from gateway.following import Following
from gateway.frames import Closing, ServerFrame
from gateway.starting import Start
from gateway.tailer import Taken


class EventStream(EventSourceResponse):
    """A stream whose blocks are bytes already, written by the request's own task; another one notices that the client left.

    The library's ping, its deadline for each write and its watch for the end of the process do not run: the one ticker of
    the process does all three for every stream (`Following.look`).
    """

    def __init__(self, services: Services, principal: Principal, start: Start, wanted: EventFilter | None) -> None:
        self._services = services
        self._place = Following(services, principal, start, wanted)
        headers = {"cache-control": "no-store, no-transform", "referrer-policy": "no-referrer"}
        super().__init__(self._blocks(start), headers=headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Write until the stream has said its last word or the client is gone."""
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        if scope["method"] != "HEAD":
            place, loop = self._place, asyncio.get_running_loop()
            place.cut = scope.get("state", {}).get(CUT, place.end)
            leaving = loop.create_task(_notice_end(receive, place))
            try:
                async with aclosing(cast("AsyncGenerator[bytes, None]", self.body_iterator)) as blocks:
                    async for block in blocks:
                        place.writing(loop.time())
                        await send({"type": "http.response.body", "body": block, "more_body": True})
                        place.writing(None)
            finally:
                leaving.cancel()
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _blocks(self, start: Start) -> AsyncGenerator[bytes, None]:
        services, place = self._services, self._place
        services.metrics.streams.labels("sse").inc()
        written = services.metrics.streamed.labels("sse")
        try:
            with place.watched():
                first = b"retry: %d\n" % services.stream.retry_ms
                if start.reset is not None:
                    first += _block(start.reset, start.cursor)
                yield first + _block(place.ready(start), start.cursor)
                while (step := await place.step()) is not None:
                    if isinstance(step, Taken):
                        yield step.sse
                        written.inc(len(step.frames))
                        continue
                    if isinstance(step, Closing):
                        yield b"retry: %d\n" % step.retry_ms + _block(step, step.cursor)
                        return
                    yield _block(step, step.cursor)
        finally:
            services.metrics.streams.labels("sse").dec()


async def _notice_end(receive: Receive, place: Following) -> None:
    """Wait beside every write until the client is gone."""
    while (await receive())["type"] != "http.disconnect":
        pass
    place.end()


def _block(word: ServerFrame, cursor: str) -> bytes:
    kind = type(word).__struct_config__.tag
    return b"id: %s\nevent: %s\ndata: %s\n\n" % (cursor.encode(), str(kind).encode(), wire.encode(word))
