"""Followings as server-sent events: the blocks, and the response that writes them (WHATWG HTML, server-sent events).

One feed's blocks are bytes that all its streams share. Several feeds over one connection move each by itself, and take turns; the
`id` of every block then holds the place in each of them, so that whoever comes back with it has all of all.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import ExitStack, aclosing
from typing import Final, cast

from msgspec import UNSET, Struct, UnsetType
from msgspec.structs import replace
from sse_starlette.sse import EventSourceResponse
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from auth.principal import Principal
from engine.filters import EventFilter
from gateway import wire
from gateway.call import CUT, Services
from gateway.following import Following, Step, spread_ms
from gateway.frames import Checkpoint, Closing, Expiring, ServerFrame
from gateway.starting import PLACES, Start
from gateway.tailer import Taken

_HEADERS: Final = {"cache-control": "no-store, no-transform", "referrer-policy": "no-referrer"}


class Feed(Struct, frozen=True, kw_only=True):
    """A feed to be followed: for whom, from where, what of it; its name where it is one of several."""

    principal: Principal
    start: Start
    wanted: EventFilter | None
    name: str | UnsetType = UNSET


class EventStream(EventSourceResponse):
    """A stream whose blocks are bytes already, written by the request's own task; another one notices that the client left.

    The library's ping, its deadline for each write and its watch for the end of the process do not run: the one ticker of
    the process does all three for every stream (`Following.look`).
    """

    def __init__(self, services: Services, feeds: Sequence[Feed]) -> None:
        self._services = services
        self._places = [Following(services, each.principal, each.start, each.wanted, each.name) for each in feeds]
        starts = [each.start for each in feeds]
        super().__init__(self._blocks(starts[0]) if len(starts) == 1 else self._joined(starts), headers=_HEADERS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Write until the stream has said its last word or the client is gone."""
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        if scope["method"] != "HEAD":
            loop = asyncio.get_running_loop()
            for place in self._places:
                place.cut = scope.get("state", {}).get(CUT, self._end)
            leaving = loop.create_task(self._notice_end(receive))
            try:
                async with aclosing(cast("AsyncGenerator[bytes, None]", self.body_iterator)) as blocks:
                    async for block in blocks:
                        self._writing(loop.time())
                        await send({"type": "http.response.body", "body": block, "more_body": True})
                        self._writing(None)
            finally:
                leaving.cancel()
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    def _writing(self, now: float | None) -> None:
        for place in self._places:
            place.writing(now)

    def _end(self) -> None:
        for place in self._places:
            place.end()

    async def _notice_end(self, receive: Receive) -> None:
        """Wait beside every write until the client is gone."""
        while (await receive())["type"] != "http.disconnect":
            pass
        self._end()

    async def _blocks(self, start: Start) -> AsyncGenerator[bytes, None]:
        services, place = self._services, self._places[0]
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

    async def _joined(self, starts: Sequence[Start]) -> AsyncGenerator[bytes, None]:
        """Write several feeds: whatever each has next, in turns, so that none waits for another."""
        services, told = self._services, _Told([each.cursor for each in starts])
        services.metrics.streams.labels("sse").inc()
        try:
            with ExitStack() as watched:
                first = b"retry: %d\n" % services.stream.retry_ms
                for place, start in zip(self._places, starts, strict=True):
                    watched.enter_context(place.watched())
                    if start.reset is not None:
                        first += _block(replace(start.reset, subscription=place.name), told.cursor())
                    first += _block(place.ready(start), told.cursor())
                yield first
                async with aclosing(self._steps()) as steps:
                    async for at, step, last in steps:
                        if not isinstance(step, Closing):
                            yield self._said(at, step, told)
                            continue
                        # What ends for its credential ends alone; all else is the connection's end.
                        alone = not step.reconnect
                        cursor = told.move(at, step.cursor)
                        if alone:
                            yield _block(step, cursor)
                        if last or not alone:
                            whole = replace(step, subscription=UNSET, cursor=cursor)
                            yield b"retry: %d\n" % step.retry_ms + _block(whole, whole.cursor)
                            return
        finally:
            services.metrics.streams.labels("sse").dec()

    async def _steps(self) -> AsyncGenerator[tuple[int, Step, bool], None]:
        """Return what is next in each feed: of which it is, and whether it is the last that goes on; ends with the client.

        What comes next in a feed is asked for when what came before is written.
        """
        loop = asyncio.get_running_loop()
        steps = {loop.create_task(place.step()): at for at, place in enumerate(self._places)}
        try:
            while steps:
                done, _ = await asyncio.wait(steps, return_when=asyncio.FIRST_COMPLETED)
                for task in sorted(done, key=steps.__getitem__):
                    at, step = steps.pop(task), task.result()
                    if step is None:
                        return
                    yield at, step, not steps
                    if not isinstance(step, Closing):
                        steps[loop.create_task(self._places[at].step())] = at
        finally:
            for task in steps:
                task.cancel()
            await asyncio.gather(*steps, return_exceptions=True)

    def _said(self, at: int, step: Taken | Checkpoint | Expiring, told: _Told) -> bytes:
        """Return what one of several feeds has next, and note how far the client is in it then."""
        if isinstance(step, Taken):
            self._services.metrics.streamed.labels("sse").inc(len(step.frames))
            return told.take(at, step)
        return _block(step, told.move(at, step.cursor))


def come_back(services: Services) -> Response:
    """Return a stream that ends at once, and says when to ask again; whoever does has the place he had."""
    body = b": unavailable\nretry: %d\n\n" % spread_ms(services)
    return Response(body, media_type="text/event-stream", headers=_HEADERS)


class _Told:
    """How far a client was told it is in each of several feeds; in what is taken but not yet written it is not."""

    def __init__(self, cursors: list[str]) -> None:
        self._cursors = cursors

    def cursor(self) -> str:
        """Return the places in all feeds as one cursor."""
        return PLACES.join(self._cursors)

    def move(self, at: int, cursor: str) -> str:
        """Go on in one feed."""
        self._cursors[at] = cursor
        return self.cursor()

    def take(self, at: int, taken: Taken) -> bytes:
        """Return the events of one feed, each with the place in all of them behind it."""
        before = "".join([each + PLACES for each in self._cursors[:at]]).encode()
        after = "".join([PLACES + each for each in self._cursors[at + 1 :]]).encode()
        self._cursors[at] = taken.cursor
        return b"".join([each.among(before, after) for each in taken.frames])


def _block(word: ServerFrame, cursor: str) -> bytes:
    kind = type(word).__struct_config__.tag
    return b"id: %s\nevent: %s\ndata: %s\n\n" % (cursor.encode(), str(kind).encode(), wire.encode(word))
