"""What SSE and WebSocket share: one connection's position, and the one way it moves over the feed.

History and live are the same reading; only the wait between differs. Nothing here runs by a timer of its own: one ticker looks
at all followings of the process once a second and nudges those that have something to say though nothing came.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import structlog
from msgspec import UNSET, UnsetType

from auth.principal import Principal
from engine.databases import Site
from engine.errors import EngineError, Unavailable
from engine.filters import EventFilter
from engine.money import format_instant
from gateway.call import Services
from gateway.frames import Checkpoint, Closing, ClosingReason, Expiring, Ready
from gateway.starting import Start
from gateway.tailer import Tailer, Taken

WARNED_BEFORE_US: Final = 30_000_000
"""How long before its credential runs out a stream says so."""

_AGAIN_S: Final = 0.5
_DRAIN_JITTER: Final = 4.0
_RECONNECT: Final[dict[ClosingReason, bool]] = {
    "draining": True,
    "lifetime": True,
    "unavailable": True,
    "auth.expired": False,
    "auth.revoked": False,
}

_log = structlog.get_logger("gateway.following")

Step = Taken | Checkpoint | Expiring | Closing


class Following:
    """A place in a site's feed that moves: `step` says what is next to be written, `allowance` how many events may be."""

    __slots__ = (
        "_born", "_epoch", "_poked", "_services", "_skipped", "_spoken", "_tailer", "_waiter", "_warned", "_writing_since",
        "allowance", "cursor", "cut", "ended", "muted", "name", "position", "principal", "site", "wanted",
    )  # fmt: skip

    def __init__(
        self,
        services: Services,
        principal: Principal,
        start: Start,
        wanted: EventFilter | None,
        name: str | UnsetType = UNSET,
    ) -> None:
        """Take the place to start at."""
        self._services = services
        self._tailer: Tailer | None = None
        self._epoch = start.head.epoch
        self._waiter: asyncio.Future[None] | None = None
        self._poked = self._warned = False
        self._born = self._spoken = asyncio.get_running_loop().time()
        self._writing_since: float | None = None
        self._skipped = 0
        self.site: Site = start.site
        self.principal = principal
        self.wanted = wanted
        self.name = name
        self.position, self.cursor = start.position, start.cursor
        self.allowance: int | None = None
        self.ended = self.muted = False
        self.cut: Callable[[], None] = self.end
        """What is called where the client takes nothing for too long."""

    def ready(self, start: Start) -> Ready:
        """Return the stream's first word."""
        return Ready(
            subscription=self.name,
            cursor=start.cursor,
            head=start.head.cursor(),
            organization=self.site.organization,
            environment="production" if self.site.environment == "production" else "sandbox",
            expires_at=format_instant(self.principal.expires_at),
        )

    async def step(self) -> Step | None:
        """Wait for what is next and return it: events, a checkpoint, a warning, a last word; None when the client is gone."""
        try:
            while not self.ended:
                self._poked = False
                word = self._word()
                if word is not None:
                    return word
                taken = await self._take()
                if taken is None:
                    if not self._poked:
                        await self._wait()
                    continue
                self.position, self.cursor = taken.position, taken.cursor
                self._skipped = taken.skipped if taken.frames else self._skipped + taken.skipped
                if taken.frames:
                    self._spoken = asyncio.get_running_loop().time()
                    return taken
                if self._skipped >= self._services.tailers.bounds.skipped_events:
                    return self._checkpoint()
                await asyncio.sleep(0)
        except EngineError:
            return self._closing("unavailable")
        except Exception:  # noqa: BLE001 - said below
            # Whatever it is, the client is told to come back: a stream that falls silent would never be noticed.
            _log.exception("stream.failed", site_id=self.site.id, cursor=self.cursor)
            return self._closing("unavailable")
        return None

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Be looked at and nudged for as long as the block runs."""
        with self._services.tailers.watching(self):
            try:
                yield
            finally:
                if self._tailer is not None:
                    self._tailer.leave(self)

    def writing(self, now: float | None) -> None:
        """Say since when something is being written; None when it is."""
        self._writing_since = now

    def refresh(self, principal: Principal) -> None:
        """Go on with another credential of the same site."""
        self.principal = principal
        self._warned = False
        self.nudge()

    def mute(self) -> None:
        """Say nothing more but warnings and a last word."""
        self.muted = True

    def end(self) -> None:
        """Take note that the client is gone."""
        self.ended = True
        self.nudge()

    def nudge(self) -> None:
        """Look up: there may be something."""
        self._poked = True
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def look(self, now: float, now_us: int) -> None:
        """Take the ticker's look: let go of a client that takes nothing, wake up where a word is due."""
        if self._writing_since is not None:
            if now - self._writing_since > self._services.stream.send_timeout_s:
                self.cut()
        elif self._waiter is not None and (
            (now - self._spoken >= self._services.stream.idle_checkpoint_s and not self.muted)
            or now - self._born >= self._services.stream.lifetime_s
            or now_us >= self.principal.expires_at - (0 if self._warned else WARNED_BEFORE_US)
            or self._services.authenticator.revoked(self.principal)
        ):
            self.nudge()

    async def _take(self) -> Taken | None:
        """Return what may be written next, None where nothing is; while the feed cannot be read, the stream waits for it.

        Raises Unavailable where it is another feed by now.
        """
        limit = self._limit()
        if limit <= 0:
            return None
        # One that was asked for earlier might be one that nobody looks after any more.
        tailer = self._tailer or self._services.tailers.of(self.site)
        try:
            if self._tailer is None:
                await tailer.join(self, self._epoch)
                self._tailer = tailer
            return await tailer.take(self.position, self.wanted, limit)
        except Unavailable:
            if not tailer.follows(self._epoch):
                raise
        await asyncio.sleep(_AGAIN_S * (0.5 + random.random()))
        self._poked = True
        return None

    def _limit(self) -> int:
        """Return how many events may be written."""
        if self.muted:
            return 0
        most = self._services.tailers.bounds.chunk_events
        return most if self.allowance is None else min(self.allowance, most)

    def _word(self) -> Step | None:
        """Return what is to be said though nothing came."""
        services, now = self._services, asyncio.get_running_loop().time()
        now_us = services.clock.now_us()
        if services.tailers.draining.is_set():
            return self._closing("draining")
        if services.authenticator.revoked(self.principal):
            return self._closing("auth.revoked")
        if now_us >= self.principal.expires_at:
            return self._closing("auth.expired")
        if now - self._born >= services.stream.lifetime_s:
            return self._closing("lifetime")
        if not self._warned and now_us >= self.principal.expires_at - WARNED_BEFORE_US:
            self._warned = True
            at = format_instant(self.principal.expires_at)
            return Expiring(subscription=self.name, expires_at=at, cursor=self.cursor)
        if now - self._spoken >= services.stream.idle_checkpoint_s and not self.muted:
            return self._checkpoint()
        return None

    def _checkpoint(self) -> Checkpoint:
        self._spoken, self._skipped = asyncio.get_running_loop().time(), 0
        return Checkpoint(subscription=self.name, cursor=self.cursor)

    def _closing(self, reason: ClosingReason) -> Closing:
        """Say why the stream ends."""
        return Closing(
            subscription=self.name,
            reason=reason,
            reconnect=_RECONNECT[reason],
            cursor=self.cursor,
            retry_ms=spread_ms(self._services),
        )

    async def _wait(self) -> None:
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None


def spread_ms(services: Services) -> int:
    """Return when to come back, in milliseconds: spread out, so that not all do at once."""
    return int(services.stream.retry_ms * (1 + random.random() * _DRAIN_JITTER))
