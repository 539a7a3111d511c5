"""A partner's receiver: a real HTTP server on loopback that answers as a test scripts it and remembers what it got."""

from __future__ import annotations

import asyncio
import ssl
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Self

from aiohttp import web

BODY_BYTES_MAX = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """One request as it came: raw bytes, header names in lower case, and the loop's time of its arrival."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes
    at_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """How one request is answered."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    hold: asyncio.Event | None = None
    """Answer only when this is set: a receiver that hangs for as long as the test likes."""
    drop: bool = False
    """Close the connection without an answer."""
    endless: bool = False
    """Send body after body until the sender has enough."""


OK = Reply()
SERVER_ERROR = Reply(status=500, body=b"no")
GONE = Reply(status=410)
DROPPED = Reply(drop=True)


def too_many(retry_after: str) -> Reply:
    """Return a 429 that asks for a pause: seconds or an HTTP date."""
    return Reply(status=429, headers={"Retry-After": retry_after})


def moved(location: str) -> Reply:
    """Return a redirect, which a sender must not follow."""
    return Reply(status=302, headers={"Location": location})


class Receiver:
    """The server. Answers of a path are used up in order, the last of them for ever; a path without a script says 200.

    It may be stopped and started again on the same port, what it received stays. Used as an async context manager it
    runs for the block.
    """

    def __init__(self, *, tls: ssl.SSLContext | None = None) -> None:
        self.received: list[Received] = []
        self._replies: dict[str, list[Reply]] = defaultdict(lambda: [OK])
        self._changed = asyncio.Condition()
        self._tls = tls
        self._port = 0
        self._runner: web.ServerRunner | None = None

    def url(self, path: str = "/") -> str:
        """Return the address of a path."""
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self._port}{path}"

    @property
    def port(self) -> int:
        """The port, which stays the same over restarts."""
        return self._port

    def script(self, path: str, *replies: Reply) -> None:
        """Answer the path's next requests with these, and all further ones with the last."""
        self._replies[path] = list(replies) or [OK]

    def at(self, path: str) -> list[Received]:
        """Return what the path received, in order of arrival."""
        return [request for request in self.received if request.path == path]

    async def start(self) -> None:
        """Listen; the second time on the port of the first."""
        # As it came, compressed or not: that is what was signed.
        server = web.Server(self._answer, auto_decompress=False)
        self._runner = web.ServerRunner(server, shutdown_timeout=0.1, handler_cancellation=True)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self._port, ssl_context=self._tls, reuse_address=True)
        await site.start()
        self._port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Close the port and every connection, as a receiver that is down."""
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    async def wait_for(self, holds: Callable[[Receiver], bool], *, timeout_s: float = 10) -> None:
        """Return when the condition holds, looked at on every arrival; raises `TimeoutError` with what did arrive."""
        try:
            async with asyncio.timeout(timeout_s), self._changed:
                await self._changed.wait_for(lambda: holds(self))
        except TimeoutError:
            arrived = ", ".join(f"{request.method} {request.path}" for request in self.received) or "nothing"
            raise TimeoutError(f"not within {timeout_s:g} s; received: {arrived}") from None

    async def wait_for_count(self, count: int, path: str | None = None, *, timeout_s: float = 10) -> list[Received]:
        """Return what arrived (at the path) as soon as it is at least so many requests."""

        def arrived(receiver: Receiver) -> list[Received]:
            return receiver.received if path is None else receiver.at(path)

        await self.wait_for(lambda receiver: len(arrived(receiver)) >= count, timeout_s=timeout_s)
        return list(arrived(self))

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        request._client_max_size = BODY_BYTES_MAX
        received = Received(
            method=request.method,
            path=request.path,
            query=request.query_string,
            headers={name.lower(): value for name, value in request.headers.items()},
            body=await request.read(),
            at_s=asyncio.get_running_loop().time(),
        )
        replies = self._replies[request.path]
        reply = replies.pop(0) if len(replies) > 1 else replies[0]
        async with self._changed:
            self.received.append(received)
            self._changed.notify_all()
        if reply.hold is not None:
            await reply.hold.wait()
        if reply.drop:
            if request.transport is not None:
                request.transport.abort()
            return web.Response()
        if reply.endless:
            return await _without_end(request, reply)
        return web.Response(status=reply.status, headers=reply.headers, body=reply.body)


async def _without_end(request: web.BaseRequest, reply: Reply) -> web.StreamResponse:
    response = web.StreamResponse(status=reply.status, headers=reply.headers)
    await response.prepare(request)
    while request.transport is not None and not request.transport.is_closing():
        await response.write(reply.body or b"x" * 65536)
    return response
