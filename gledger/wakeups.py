"""Wake-ups between processes over Redis pub/sub: hints that something is there to read, never what it is.

A lost one costs the receiver's poll interval. Publishing never waits: what was not sent yet is coalesced.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Final

import msgspec
import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from engine.databases import Site

CHANNEL: Final = "gledger:wakeups"
_AGAIN_S: Final = 0.5
_log = structlog.get_logger("gledger.wakeups")


class WakeUp(msgspec.Struct, frozen=True, array_like=True):
    """A site with the feed's head, an endpoint that has something due, or a replay to go on with."""

    site_id: int
    organization: str
    environment: str
    head: int | None = None
    endpoint_id: str | None = None
    replay: bool = False

    @property
    def site(self) -> Site:
        """Return the site."""
        return Site(id=self.site_id, organization=self.organization, environment=self.environment)


class WakeUps:
    """Sends and hears wake-ups."""

    def __init__(self, redis: Redis) -> None:
        """Take the Redis to use; nothing is sent before `run`."""
        self._redis = redis
        self._heads: dict[int, WakeUp] = {}
        self._due: dict[tuple[int, str], WakeUp] = {}
        self._replays: dict[int, WakeUp] = {}
        self._waiting = asyncio.Event()

    def head(self, site: Site, head: int) -> None:
        """Say that a feed reaches this far."""
        self._heads[site.id] = WakeUp(site.id, site.organization, site.environment, head=head)
        self._waiting.set()

    def due(self, site: Site, endpoint_id: str) -> None:
        """Say that an endpoint has something due."""
        self._due[site.id, endpoint_id] = WakeUp(site.id, site.organization, site.environment, endpoint_id=endpoint_id)
        self._waiting.set()

    def replay(self, site: Site) -> None:
        """Say that a replay of the site may have something to do."""
        self._replays[site.id] = WakeUp(site.id, site.organization, site.environment, replay=True)
        self._waiting.set()

    async def run(self) -> None:
        """Send what waits, until cancelled."""
        while True:
            await self._waiting.wait()
            self._waiting.clear()
            messages = [*self._heads.values(), *self._due.values(), *self._replays.values()]
            self._heads.clear()
            self._due.clear()
            self._replays.clear()
            try:
                pipeline = self._redis.pipeline(transaction=False)
                for message in messages:
                    pipeline.publish(CHANNEL, msgspec.json.encode(message))
                await pipeline.execute()
            except (RedisError, OSError) as error:
                _log.warning("wakeups.not_sent", count=len(messages), error=str(error))
                await asyncio.sleep(_AGAIN_S)

    async def listen(self, heard: Callable[[WakeUp], None]) -> None:
        """Hand over what is heard, until cancelled; a lost connection is made again."""
        while True:
            try:
                async with self._redis.pubsub(ignore_subscribe_messages=True) as channel:
                    await channel.subscribe(CHANNEL)
                    async for message in channel.listen():
                        with contextlib.suppress(msgspec.MsgspecError):
                            heard(msgspec.json.decode(message["data"], type=WakeUp))
            except (RedisError, OSError) as error:
                _log.warning("wakeups.not_heard", error=str(error))
            await asyncio.sleep(_AGAIN_S)
