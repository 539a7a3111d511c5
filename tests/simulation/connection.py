"""A connection between a stream's client and the product's own SSE or WebSocket code, which sees it as ASGI.

It is slow, holds back who writes to a client that does not read, breaks within a block, and at times goes dark: nothing gets
through any more, and nobody is told.
"""

from __future__ import annotations

import asyncio
from collections.abc import MutableMapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from auth.principal import Principal
from gateway.call import CUT
from gateway.frames import StreamFilter
from tests.simulation.world import World

Message = MutableMapping[str, Any]
HELD: Final = 3
"""So many messages are on their way to a client before whoever sends has to wait."""
BREAKS: Final = 0.6
DARK: Final = 0.4


class Broken(Exception):
    """The connection ended without a last word."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a client asks for when it connects."""

    kind: Literal["sse", "websocket"]
    principals: tuple[Principal, ...]
    """Who follows; server-sent events may be of several feeds, each by its own credential."""
    cursor: str | None
    begin: str | None
    filters: tuple[StreamFilter, ...]
    window: int | None = None

    @property
    def ends_at(self) -> int:
        """When the last credential runs out."""
        return max(each.expires_at for each in self.principals)


class Connection:
    """Both ends. `scope`, `receive` and `send` are the application's, the rest is the client's and the system's."""

    def __init__(self, world: World, wanted: Wanted) -> None:
        dice = world.dice
        self.wanted = wanted
        self.opened_s = world.loop.time()
        self.over = False
        """Whether the application's end is: it may not have been told yet."""
        self._world = world
        self._dark = False
        self._broken = False
        self._left = dice.randint(1, 20) if world.faults and dice.random() < BREAKS else None
        self._under_way = 0
        self._room = asyncio.Event()
        self._to_client: asyncio.Queue[tuple[float, Message | None]] = asyncio.Queue()
        self._to_server: asyncio.Queue[Message] = asyncio.Queue()
        self.scope: Message = {
            "type": "websocket" if wanted.kind == "websocket" else "http",
            "method": "GET",
            "path": "/",
            "headers": [],
            "state": {CUT: self._abort},
        }
        if wanted.kind == "websocket":
            self._to_server.put_nowait({"type": "websocket.connect"})

    async def receive(self) -> Message:
        """Wait for what the client says; the application's."""
        return await self._to_server.get()

    async def send(self, message: Message) -> None:
        """Send to the client, as a server does: it waits while too much is on its way; the application's."""
        await self._world.point()
        while self._under_way >= HELD and not self.over:
            self._room.clear()
            await self._room.wait()
        if self.over:
            if self.wanted.kind == "websocket":
                raise OSError("the connection is gone")
            return
        self._under_way += 1
        self._to_client.put_nowait((self._world.loop.time() + 0.05 * self._world.dice.random(), message))

    def end(self) -> None:
        """End the application's side: it returned, or its process died."""
        self.over = True
        self._room.set()
        if self._world.faults and self._world.dice.random() < DARK / 2:
            self._dark = True
        self._to_client.put_nowait((self._world.loop.time(), None))

    async def read(self, patience_s: float) -> Message:
        """Return the next message; the client's. Raises Broken, or TimeoutError after too long a silence."""
        if self._broken:
            raise Broken
        if self._dark:
            await asyncio.sleep(patience_s)
            raise TimeoutError
        async with asyncio.timeout(patience_s):
            at_s, message = await self._to_client.get()
            await asyncio.sleep(max(0.0, at_s - self._world.loop.time()))
        if message is None:
            raise Broken
        self._under_way -= 1
        self._room.set()
        if self._left is not None and self._world.faults:
            self._left -= 1
            if self._left <= 0:
                return self._break(message)
        return message

    def say(self, text: str) -> None:
        """Send a message; the client's."""
        if not self._dark:
            self._to_server.put_nowait({"type": "websocket.receive", "text": text})

    def leave(self) -> None:
        """Hang up; the client's. The application may never hear of it."""
        if not (self._dark or (self._world.faults and self._world.dice.random() < DARK / 2)):
            self._tell(0.1 * self._world.dice.random())
        self._dark = True

    def _break(self, message: Message) -> Message:
        """Break the connection within a message: the client has a part of it, or nothing more ever comes."""
        dice = self._world.dice
        self._broken = True
        if dice.random() < DARK:
            self._dark, self._broken = True, False
        else:
            self._tell(2 * dice.random())
        body = message.get("body", b"")
        if not body:
            raise Broken
        return {**message, "body": body[: dice.randrange(len(body))]}

    def _tell(self, after_s: float) -> None:
        self._world.loop.call_later(after_s, self._disconnect)

    def _abort(self) -> None:
        """Break the connection off, as the server's own transport does; the client hears of it, or does not."""
        self._dark = self._dark or (self._world.faults and self._world.dice.random() < DARK)
        self._to_client.put_nowait((self._world.loop.time(), None))
        self._disconnect()

    def _disconnect(self) -> None:
        if not self.over:
            self.over = True
            self._room.set()
            self._to_server.put_nowait({"type": f"{self.scope['type']}.disconnect", "code": 1006})
