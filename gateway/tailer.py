"""One reader of a site's feed per process, for all its streams.

New events are read once and framed once; a connection holds only its position. Whoever falls out of the ring reads the
database, by the same function. A wake-up only says "look"; a lost one costs the poll's interval.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import structlog

from engine.cursors import feed_cursor
from engine.databases import Site
from engine.events import FeedEvent
from engine.ledger import Engine

RING_BYTES_MAX: Final = 16 * 1024 * 1024
RING_EVENTS_MAX: Final = 20_000
PAGE: Final = 500
CHUNK_BYTES: Final = 64 * 1024
CHUNK_EVENTS: Final = 256
POLL_S: Final = 0.25
_LINGER_S: Final = 30.0
_log = structlog.get_logger("gateway.tailer")


@dataclass(frozen=True, slots=True)
class Frame:
    """An event ready to be written: its place, its type, its cursor, the bytes of the SSE block and of the envelope."""

    sequence: int
    type: str
    cursor: str
    sse: bytes
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """Frames that match, the position after all that was looked at, and that position's cursor where events were seen."""

    frames: list[Frame]
    position: int
    cursor: str | None


def frame(epoch: str, event: FeedEvent) -> Frame:
    """Return an event as streams write it."""
    cursor = feed_cursor(epoch, event.sequence, event.hash)
    sse = b"id: %s\nevent: %s\ndata: %s\n\n" % (cursor.encode(), event.type.encode(), event.body)
    return Frame(event.sequence, event.type, cursor, sse, event.body)


class Tailer:
    """Follows one site's feed while anybody listens."""

    def __init__(self, engine: Engine, site: Site) -> None:
        """Start at no place: the first listener gives one."""
        self._engine = engine
        self._site = site
        self._ring: deque[Frame] = deque()
        self._ring_bytes = 0
        self._read = 0
        self._known = 0
        self._epoch = ""
        self._changed: asyncio.Event = asyncio.Event()
        self._woken = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._listeners = 0
        self._history_events = CHUNK_EVENTS

    def wake(self, head: int) -> None:
        """Take the hint that the feed reaches this far."""
        if head > self._known:
            self._known = head
            self._woken.set()

    async def join(self) -> None:
        """Begin to listen; the tailer runs while somebody does."""
        self._listeners += 1
        if self._task is None:
            head = await self._engine.head(self._site)
            if self._task is None:
                if head.epoch != self._epoch:
                    self._ring.clear()
                    self._ring_bytes = 0
                self._epoch = head.epoch
                self._read = self._known = head.sequence
                self._ring.clear()
                self._ring_bytes = 0
                self._task = asyncio.get_running_loop().create_task(self._follow())

    def leave(self) -> None:
        """Stop listening."""
        self._listeners -= 1

    def stir(self) -> None:
        """Have everyone who waits look up, though the feed did not move."""
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    @property
    def idle(self) -> bool:
        """Tell whether nobody listens."""
        return self._listeners == 0

    async def stop(self) -> None:
        """Stop following."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def take(self, position: int, wanted: Callable[[str], bool]) -> Taken:
        """Return what follows a position, at most a chunk; nothing where nothing does."""
        if position >= self._read:
            return Taken(frames=[], position=position, cursor=None)
        if self._ring and self._ring[0].sequence <= position + 1:
            start = position + 1 - self._ring[0].sequence
            stop = min(len(self._ring), start + CHUNK_EVENTS)
            return _chunk([self._ring[index] for index in range(start, stop)], wanted)
        found, head = await self._engine.read_after(self._site, position, self._history_events)
        if not found:
            return Taken(frames=[], position=position, cursor=None)
        # What does not fit the write is read again: the next page is about as many events as a few writes hold.
        size = sum(len(event.body) for event in found) // len(found) + 1
        self._history_events = max(1, min(CHUNK_EVENTS, 2 * CHUNK_BYTES // size))
        return _chunk([frame(head.epoch, event) for event in found], wanted)

    async def wait(self, position: int, timeout_s: float) -> bool:
        """Wait until the feed is past a position; return whether it is, after at most this many seconds."""
        if position < self._read:
            return True
        changed = self._changed
        try:
            async with asyncio.timeout(timeout_s):
                await changed.wait()
        except TimeoutError:
            return position < self._read
        return True

    async def _follow(self) -> None:
        while True:
            try:
                await self._read_new()
            except Exception as error:  # noqa: BLE001 - a stream outlives whatever the database does
                _log.warning("tailer.read_failed", site_id=self._site.id, error=str(error))
                await asyncio.sleep(POLL_S)
                continue
            self._woken.clear()
            if self._known > self._read:
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(POLL_S):
                    await self._woken.wait()

    async def _read_new(self) -> None:
        while True:
            events, head = await self._engine.read_after(self._site, self._read, PAGE)
            for event in events:
                self._append(frame(self._epoch, event))
            self._known = max(head.sequence, self._read)
            if events:
                self.stir()
            if len(events) < PAGE:
                return

    def _append(self, each: Frame) -> None:
        self._ring.append(each)
        self._ring_bytes += len(each.sse) + len(each.body)
        self._read = each.sequence
        while self._ring_bytes > RING_BYTES_MAX or len(self._ring) > RING_EVENTS_MAX:
            oldest = self._ring.popleft()
            self._ring_bytes -= len(oldest.sse) + len(oldest.body)


class Tailers:
    """The tailers of this process by site."""

    def __init__(self, engine: Engine) -> None:
        """Take whose feeds they read."""
        self._engine = engine
        self._tailers: dict[int, Tailer] = {}
        self._streams = 0
        self._quiet = asyncio.Event()
        self._quiet.set()
        self.draining: Final = asyncio.Event()

    def wake(self, site: Site, head: int) -> None:
        """Take the hint that a site's feed reaches this far."""
        tailer = self._tailers.get(site.id)
        if tailer is not None:
            tailer.wake(head)

    def of(self, site: Site) -> Tailer:
        """Return the site's tailer."""
        tailer = self._tailers.get(site.id)
        if tailer is None:
            tailer = self._tailers[site.id] = Tailer(self._engine, site)
        return tailer

    async def sweep(self) -> None:
        """Stop the tailers that nobody listens to."""
        for site_id, tailer in list(self._tailers.items()):
            if tailer.idle:
                del self._tailers[site_id]
                await tailer.stop()

    @asynccontextmanager
    async def listening(self, site: Site) -> AsyncIterator[Tailer]:
        """Be a stream of the site for as long as the block runs; raises Unavailable where the feed cannot be read."""
        tailer = self.of(site)
        self._streams += 1
        self._quiet.clear()
        try:
            await tailer.join()
            yield tailer
        finally:
            tailer.leave()
            self._streams -= 1
            if not self._streams:
                self._quiet.set()

    def drain(self) -> None:
        """Tell every stream to end: the process is going down."""
        self.draining.set()
        for tailer in self._tailers.values():
            tailer.stir()

    async def quiet(self, timeout_s: float) -> None:
        """Return when every stream has said its last word, at the latest after this many seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._quiet.wait()

    async def close(self) -> None:
        """Stop every tailer."""
        for tailer in self._tailers.values():
            await tailer.stop()
        self._tailers.clear()


def _chunk(frames: list[Frame], wanted: Callable[[str], bool]) -> Taken:
    """Return the frames that fit one write; the position goes past what does not match, and no further than was taken."""
    taken: list[Frame] = []
    size = 0
    last = frames[0]
    for each in frames:
        if wanted(each.type):
            if taken and size + len(each.sse) > CHUNK_BYTES:
                break
            taken.append(each)
            size += len(each.sse)
        last = each
    return Taken(frames=taken, position=last.sequence, cursor=last.cursor)
