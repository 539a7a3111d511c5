"""A wire between the engine and PostgreSQL that is cut at a chosen moment of a transaction."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Self

from sqlalchemy.engine import make_url

# Not everything that a client says is answered.
ANSWER_S = 0.2

Cut = Callable[[bytes], bool]


@dataclass(slots=True)
class Wire:
    """A TCP relay in front of a server.

    `cut_before` and `cut_after` are asked of each message from the client whether to cut there, once: before the server
    hears of it, or after it has done it and before the client is told.
    """

    url: str
    cut_before: Cut | None = None
    cut_after: Cut | None = None
    cuts: int = 0
    _server: asyncio.Server | None = None
    _streams: list[asyncio.StreamWriter] = field(default_factory=list)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for stream in self._streams:
            stream.transport.abort()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def relayed_url(self) -> str:
        """The server's URL through the wire."""
        assert self._server is not None
        port = self._server.sockets[0].getsockname()[1]
        return make_url(self.url).set(host="127.0.0.1", port=port).render_as_string(hide_password=False)

    async def _serve(self, client_in: asyncio.StreamReader, client_out: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        target = make_url(self.url)
        server_in, server_out = await asyncio.open_connection(target.host, target.port)
        self._streams += [client_out, server_out]
        answers = asyncio.create_task(self._copy(server_in, client_out))
        self._tasks.add(answers)
        with suppress(OSError):
            while chunk := await client_in.read(65_536):
                if self.cut_before is not None and self.cut_before(chunk):
                    self.cut_before = None
                    break
                if self.cut_after is not None and self.cut_after(chunk):
                    self.cut_after = None
                    # The server does as it is told; nobody hears of it.
                    answers.cancel()
                    await asyncio.gather(answers, return_exceptions=True)
                    server_out.write(chunk)
                    with suppress(TimeoutError):
                        await asyncio.wait_for(server_in.read(65_536), ANSWER_S)
                    break
                server_out.write(chunk)
                await server_out.drain()
            else:
                self.cuts -= 1
        self.cuts += 1
        answers.cancel()
        client_out.transport.abort()
        server_out.transport.abort()

    async def _copy(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while chunk := await source.read(65_536):
                target.write(chunk)
                await target.drain()
        # A server that hangs up is heard of at once.
        target.close()
