"""How long the parts of a request took: name look-up, connecting, the TLS handshake, the first byte of the answer.

The handshake is seen by the object which OpenSSL is asked through, the rest by whoever looks up and connects for aiohttp.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Final

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from aiohttp.tracing import Trace

from delivery.shapes import AttemptTimings


@dataclass(slots=True, kw_only=True, eq=False)
class Marks:
    """When something began or ended, by the loop's clock; None: it did not happen, a kept connection needs neither."""

    began: float
    reused: bool = False
    dns_began: float | None = None
    dns_ended: float | None = None
    connect_began: float | None = None
    connect_ended: float | None = None
    tls_began: float | None = None
    tls_ended: float | None = None
    answered: float | None = None
    ended: float = field(default=0.0)

    def timings(self) -> AttemptTimings:
        """Return the milliseconds that each part took."""
        connected = self.tls_began if self.tls_began is not None else self.connect_ended
        started = self.dns_ended if self.dns_ended is not None else self.connect_began
        return AttemptTimings(
            dns_ms=_between(self.dns_began, self.dns_ended),
            connect_ms=_between(started, connected),
            tls_ms=_between(self.tls_began, self.tls_ended),
            first_byte_ms=_between(self.began, self.answered),
            total_ms=_between(self.began, self.ended) or 0.0,
            connection_reused=self.reused,
        )


MARKS: Final[ContextVar[Marks | None]] = ContextVar("marks", default=None)
"""The marks of the request that this task makes; whatever connects for it inherits them."""


class TimedTls(ssl.SSLObject):
    """Notes when a handshake begins and ends; `SSLContext.sslobject_class` of every context that sends."""

    def do_handshake(self) -> None:
        """Go on with the handshake."""
        marks, now = MARKS.get(), asyncio.get_running_loop().time
        if marks is not None and marks.tls_began is None:
            marks.tls_began = now()
        super().do_handshake()
        if marks is not None:
            marks.tls_ended = now()


class TimedResolver(AbstractResolver):
    """Notes when a look-up begins and ends; a name that is known still is not looked up."""

    def __init__(self, resolver: AbstractResolver) -> None:
        self._resolver = resolver

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Return the addresses of a name; raises what the resolver raises."""
        marks, now = MARKS.get(), asyncio.get_running_loop().time
        if marks is not None:
            marks.dns_began = now()
        found = await self._resolver.resolve(host, port, family)
        if marks is not None:
            marks.dns_ended = now()
        return found

    async def close(self) -> None:
        """Close the resolver."""
        await self._resolver.close()


class TimedConnector(aiohttp.TCPConnector):
    """Notes when a connection is made, or that a kept one is used.

    aiohttp's traces would tell the same, with an object and a call for every step of every request: a sixth of what it costs.
    """

    async def connect(
        self, req: aiohttp.ClientRequest, traces: list[Trace], timeout: aiohttp.ClientTimeout
    ) -> Connection:
        """Return a kept connection or a new one."""
        connection = await super().connect(req, traces, timeout)
        marks = MARKS.get()
        if marks is not None:
            marks.reused = marks.connect_began is None
        return connection

    async def _create_connection(
        self, req: aiohttp.ClientRequest, traces: list[Trace], timeout: aiohttp.ClientTimeout
    ) -> ResponseHandler:
        marks, now = MARKS.get(), asyncio.get_running_loop().time
        if marks is None:
            return await super()._create_connection(req, traces, timeout)
        marks.connect_began = now()
        made = await super()._create_connection(req, traces, timeout)
        marks.connect_ended = now()
        return made


def _between(began: float | None, ended: float | None) -> float | None:
    return None if began is None or ended is None else round(max(ended - began, 0.0) * 1000, 1)
