"""A TCP proxy between a client and the server that cuts connections off in mid-stream, or stops forwarding without a word."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

_PIECE = 1_024


@dataclass(slots=True, kw_only=True)
class Cutter:
    """Forwards bytes to `upstream`; after some bytes of an answer, chosen by `chance`, it cuts the connection."""

    upstream: str
    chance: random.Random
    cuts_left: int
    least: int = 4_000
    most: int = 40_000
    url: str = ""
    cuts: int = 0
    connections: int = 0
    _flowing: asyncio.Event = field(default_factory=asyncio.Event)
    _frozen: list[asyncio.Event] = field(default_factory=list)
    _open: set[asyncio.StreamWriter] = field(default_factory=set)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Forward one connection until one side ends it or it is cut."""
        self.connections += 1
        address = urlsplit(self.upstream)
        try:
            up_reader, up_writer = await asyncio.open_connection(address.hostname, address.port)
        except OSError:
            writer.transport.abort()
            return
        self._open |= {writer, up_writer}
        budget = self.chance.randrange(self.least, self.most) if self.cuts_left > 0 else None
        flowing = self._flowing
        sending = asyncio.create_task(self._forward(reader, up_writer, None, flowing))
        if await self._forward(up_reader, writer, budget, flowing):
            self.cuts += 1
            self.cuts_left -= 1
        self._open -= {writer, up_writer}
        writer.transport.abort()
        up_writer.transport.abort()
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)

    async def _forward(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, budget: int | None, flowing: asyncio.Event
    ) -> bool:
        """Forward one way; return whether the budget ran out, at whatever byte that is."""
        with contextlib.suppress(ConnectionError):
            while piece := await reader.read(_PIECE):
                await flowing.wait()
                sent = piece if budget is None else piece[:budget]
                writer.write(sent)
                await writer.drain()
                if budget is not None:
                    budget -= len(sent)
                    if budget <= 0:
                        return True
        return False

    def freeze(self) -> None:
        """Forward nothing more on the connections there are, and close none: both sides see silence. New ones flow."""
        self._flowing.clear()
        self._frozen.append(self._flowing)
        self.begin()

    def begin(self) -> None:
        """Let connections from here on flow."""
        self._flowing = asyncio.Event()
        self._flowing.set()

    def stop(self) -> None:
        """Cut everything off."""
        for each in self._frozen:
            each.set()
        for writer in self._open:
            writer.transport.abort()


@asynccontextmanager
async def cutting(upstream: str, chance: random.Random, cuts: int) -> AsyncIterator[Cutter]:
    """Run a proxy in front of a server for the block."""
    cutter = Cutter(upstream=upstream, chance=chance, cuts_left=cuts)
    cutter.begin()
    server = await asyncio.start_server(cutter.serve, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    cutter.url = f"http://{host}:{port}"
    try:
        yield cutter
    finally:
        server.close()
        cutter.stop()
