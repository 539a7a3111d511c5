"""How long the parts of a request took: name look-up, connecting, the TLS handshake, the first byte of the answer.

aiohttp's trace tells all but the handshake; that is seen by the object which OpenSSL is asked through.
"""

from __future__ import annotations

import asyncio
import ssl
from contextvars import ContextVar
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Final

import aiohttp

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


def trace() -> aiohttp.TraceConfig:
    """Return what makes a session note its marks; requests hand their own over as `trace_request_ctx`."""
    config = aiohttp.TraceConfig()

    async def reused(_session: aiohttp.ClientSession, context: SimpleNamespace, _params: object) -> None:
        context.trace_request_ctx.reused = True

    for signal, name in (
        (config.on_dns_resolvehost_start, "dns_began"),
        (config.on_dns_resolvehost_end, "dns_ended"),
        (config.on_connection_create_start, "connect_began"),
        (config.on_connection_create_end, "connect_ended"),
        (config.on_request_end, "answered"),
    ):
        signal.append(_Mark(name))
    config.on_connection_reuseconn.append(reused)
    return config


class _Mark:
    def __init__(self, name: str) -> None:
        self._name = name

    async def __call__(self, _session: aiohttp.ClientSession, context: SimpleNamespace, _params: object) -> None:
        setattr(context.trace_request_ctx, self._name, asyncio.get_running_loop().time())


def _between(began: float | None, ended: float | None) -> float | None:
    return None if began is None or ended is None else round(max(ended - began, 0.0) * 1000, 1)
