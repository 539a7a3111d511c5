"""One reader of a site's feed per process, for all its streams.

New events are read once, framed once and, where a filter asks, decoded once; a connection holds only its position. What many
connections at one place want is put together once. Whoever falls out of the ring reads the database, by the same function. A
wake-up only says "look"; a lost one costs the poll's interval.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from dataclasses import dataclass
from functools import cached_property
from typing import Final, Protocol

import structlog
from msgspec import Struct

from engine.cursors import feed_cursor
from engine.databases import Site
from engine.errors import Unavailable
from engine.events import FeedEvent, chain
from engine.filters import About, EventFilter, about
from engine.ledger import Engine

_CUTS_MAX: Final = 64
_Cut = tuple[int, int, EventFilter | None]
"""After which position, how many events at most, and which of them."""
_log = structlog.get_logger("gateway.tailer")


class Bounds(Struct, frozen=True, kw_only=True):
    """How much a process keeps of a feed, reads of it at once and writes of it at once, and how often it looks unasked."""

    ring_bytes: int = 16 * 1024 * 1024
    ring_events: int = 20_000
    page_events: int = 500
    chunk_bytes: int = 64 * 1024
    chunk_events: int = 256
    skipped_events: int = 1_000
    """After so many events that a filter passed over, a stream says how far it has come."""
    poll_s: float = 0.25


@dataclass(slots=True)
class Frame:
    """An event ready to be written: its place, its type, its cursor, the bytes of its SSE block, which end in the envelope."""

    sequence: int
    type: str
    cursor: str
    sse: bytes
    body_at: int
    _about: About | None = None

    @property
    def body(self) -> bytes:
        """The envelope's bytes."""
        return self.sse[self.body_at : -2]

    def among(self, before: bytes, after: bytes) -> bytes:
        """Return the SSE block with a cursor that holds places in other feeds too: so much before this one's, so much behind it."""
        return b"id: %s%s%s%s" % (before, self.cursor.encode(), after, self.sse[len("id: ") + len(self.cursor) :])

    def about(self) -> About:
        """Return what the event is about, decoded at the first question."""
        found = self._about
        if found is None:
            found = self._about = about(self.body)
        return found


@dataclass(kw_only=True)
class Taken:
    """Frames that match, the place after all that was looked at, and how much was passed over behind the last frame.

    Many connections share one: what is joined from the frames is joined once.
    """

    frames: list[Frame]
    position: int
    cursor: str
    skipped: int

    @cached_property
    def sse(self) -> bytes:
        """The frames as server-sent events."""
        return b"".join([each.sse for each in self.frames])

    @cached_property
    def array(self) -> str:
        """The envelopes as a JSON array."""
        return "[" + b",".join([each.body for each in self.frames]).decode() + "]"


class Listener(Protocol):
    """Somebody who waits for the feed to move."""

    def nudge(self) -> None:
        """Look up: there may be something."""


def frame(epoch: str, event: FeedEvent) -> Frame:
    """Return an event as streams write it."""
    cursor = feed_cursor(epoch, event.sequence, event.hash)
    head = b"id: %s\nevent: %s\ndata: " % (cursor.encode(), event.type.encode())
    return Frame(event.sequence, event.type, cursor, b"%s%s\n\n" % (head, event.body), len(head))


class Tailer:
    """Follows one site's feed while anybody listens."""

    def __init__(self, engine: Engine, site: Site, bounds: Bounds = Bounds()) -> None:
        """Start at no place: the first listener gives one."""
        self._bounds = bounds
        self._engine = engine
        self._site = site
        self._ring: deque[Frame] = deque()
        self._ring_bytes = 0
        self._cuts: dict[_Cut, Taken] = {}
        self._histories: dict[_Cut, asyncio.Task[Taken | None]] = {}
        self._known = 0
        self._epoch = ""
        self._hash = b""
        self._woken = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._listeners: dict[Listener, None] = {}
        self._history_events = bounds.chunk_events
        self.read = 0
        self.restored = False
        """Whether the feed is another one now: it was restored to an earlier state. Nothing more comes from here."""

    def wake(self, head: int) -> None:
        """Take the hint that the feed reaches this far."""
        if head > self._known:
            self._known = head
            self._woken.set()

    async def join(self, listener: Listener, epoch: str) -> None:
        """Begin to listen to the feed of an epoch; the tailer runs while somebody does. Raises Unavailable."""
        self._listeners[listener] = None
        try:
            await self._begin(epoch)
        except BaseException:
            self.leave(listener)
            raise

    def follows(self, epoch: str) -> bool:
        """Tell whether this is the feed of that epoch, as far as is known: what cannot be read now can be again."""
        return not self.restored and self._epoch in {"", epoch}

    def leave(self, listener: Listener) -> None:
        """Stop listening."""
        self._listeners.pop(listener, None)

    def stir(self) -> None:
        """Have everyone who waits look up."""
        for listener in self._listeners:
            listener.nudge()

    @property
    def idle(self) -> bool:
        """Tell whether nobody listens."""
        return not self._listeners

    async def stop(self) -> None:
        """Stop following."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def take(self, position: int, wanted: EventFilter | None, limit: int) -> Taken | None:
        """Return what follows a position, at most a chunk and at most so many events; None where nothing does.

        Raises Unavailable.
        """
        if self.restored:
            raise Unavailable("The feed was restored to another state.")
        if position >= self.read:
            return None
        if not self._ring or self._ring[0].sequence > position + 1:
            return await self._history((position, limit, wanted))
        cut = self._cuts.get((position, limit, wanted))
        if cut is None:
            start = position + 1 - self._ring[0].sequence
            stop = min(len(self._ring), start + self._bounds.chunk_events)
            cut = self._chunk([self._ring[index] for index in range(start, stop)], wanted, limit)
            if len(self._cuts) >= _CUTS_MAX:
                self._cuts.clear()
            self._cuts[position, limit, wanted] = cut
        return cut

    async def _begin(self, epoch: str) -> None:
        if self._task is None:
            head = await self._engine.head(self._site)
            if self._task is None:
                self._forget()
                self._epoch, self._hash = head.epoch, head.hash
                self.read = self._known = head.sequence
                self._task = asyncio.get_running_loop().create_task(self._follow())
        if self._epoch != epoch:
            raise Unavailable("The feed was restored to another state.")

    async def _history(self, cut: _Cut) -> Taken | None:
        """Return what the database holds behind a position; whoever comes to the same one meanwhile shares the reading."""
        reading = self._histories.get(cut)
        if reading is None:
            position, limit, wanted = cut
            reading = self._histories[cut] = asyncio.create_task(self._from_database(position, wanted, limit))
            reading.add_done_callback(lambda done: self._read_history(cut, done))
        return await asyncio.shield(reading)

    def _read_history(self, cut: _Cut, done: asyncio.Task[Taken | None]) -> None:
        del self._histories[cut]
        if not done.cancelled():
            # Whoever asked may be gone: an error is theirs, and nobody else's.
            done.exception()

    async def _from_database(self, position: int, wanted: EventFilter | None, limit: int) -> Taken | None:
        limit = min(limit, self._history_events)
        found, head, place = await self._engine.read_matching(self._site, position, limit, wanted or EventFilter())
        if head.epoch != self._epoch:
            self._restore()
        if not found:
            passed = place.sequence - position
            return (
                Taken(frames=[], position=place.sequence, cursor=place.cursor, skipped=passed) if passed > 0 else None
            )
        # What does not fit the write is read again: the next page is about as many events as a few writes hold.
        size = sum(len(event.body) for event in found) // len(found) + 1
        self._history_events = max(1, min(self._bounds.chunk_events, 2 * self._bounds.chunk_bytes // size))
        taken = self._chunk([frame(head.epoch, event) for event in found], None, limit)
        if len(taken.frames) < len(found):
            return taken
        passed = place.sequence - taken.position
        return Taken(frames=taken.frames, position=place.sequence, cursor=place.cursor, skipped=passed)

    async def _follow(self) -> None:
        while not self.restored:
            try:
                await self._read_new()
            except Exception as error:  # noqa: BLE001 - a stream outlives whatever the database does
                _log.warning("tailer.read_failed", site_id=self._site.id, error=str(error))
                await asyncio.sleep(self._bounds.poll_s)
                continue
            self._woken.clear()
            if self._known > self.read:
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._bounds.poll_s):
                    await self._woken.wait()

    async def _read_new(self) -> None:
        page = self._bounds.page_events
        while True:
            events, head = await self._engine.read_after(self._site, self.read, page)
            if head.epoch != self._epoch or head.sequence < self.read:
                self._restore()
            for event in events:
                self._append(event)
            self._known = max(head.sequence, self.read)
            if events:
                self._cuts.clear()
                self.stir()
            if len(events) < page:
                return

    def _append(self, event: FeedEvent) -> None:
        if chain(self._hash, event.body) != event.hash:
            self._restore()
        each = frame(self._epoch, event)
        self._ring.append(each)
        self._ring_bytes += len(each.sse)
        self._hash = event.hash
        self.read = each.sequence
        while self._ring_bytes > self._bounds.ring_bytes or len(self._ring) > self._bounds.ring_events:
            self._ring_bytes -= len(self._ring.popleft().sse)

    def _restore(self) -> None:
        """End: this is not the feed that was followed so far, and no cursor of that one may go on in this one."""
        self.restored = True
        self._forget()
        self.stir()
        raise Unavailable("The feed was restored to another state.")

    def _forget(self) -> None:
        self._ring.clear()
        self._ring_bytes = 0
        self._cuts.clear()

    def _chunk(self, frames: list[Frame], wanted: EventFilter | None, limit: int) -> Taken:
        """Return the frames that fit one write; the place goes past what does not match, and no further than was taken."""
        taken: list[Frame] = []
        size = skipped = 0
        last = frames[0]
        for each in frames:
            if wanted is None or wanted.matches(each.type, each.about):
                if taken and (size + len(each.sse) > self._bounds.chunk_bytes or len(taken) >= limit):
                    break
                taken.append(each)
                size += len(each.sse)
                skipped = 0
            else:
                skipped += 1
            last = each
        return Taken(frames=taken, position=last.sequence, cursor=last.cursor, skipped=skipped)
