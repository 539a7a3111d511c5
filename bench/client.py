"""A load generator that costs little: prepared requests over kept-open connections, answers cut by their length.

It shares the machine with what it measures, so it does no more than HTTP/1.1 needs.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

_STATUS = re.compile(rb"HTTP/1\.1 (\d{3})")
_LENGTH = re.compile(rb"\r\ncontent-length: (\d+)", re.IGNORECASE)


@dataclass(slots=True, kw_only=True)
class Load:
    """What a run came to: when each request was answered, how long it took, and how many answers were not 2xx."""

    latencies_s: list[float] = field(default_factory=list)
    failures: int = 0
    elapsed_s: float = 0.0

    @property
    def rate(self) -> float:
        """Return requests a second."""
        return len(self.latencies_s) / self.elapsed_s

    def percentile_ms(self, share: float) -> float:
        """Return the latency below which this share of the requests stayed, in milliseconds."""
        ordered = sorted(self.latencies_s)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] * 1000


class _Connection(asyncio.Protocol):
    def __init__(self, next_request: Callable[[], bytes | None], load: Load) -> None:
        self._next = next_request
        self._load = load
        self._buffer = b""
        self._sent = 0.0
        self._transport: asyncio.Transport | None = None
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are asyncio's by behaviour, not by class.
        self._transport = cast("asyncio.Transport", transport)
        self._send()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head = self._buffer.find(b"\r\n\r\n")
        if head < 0:
            return
        length = _LENGTH.search(self._buffer, 0, head + 2)
        total = head + 4 + (int(length.group(1)) if length else 0)
        if len(self._buffer) < total:
            return
        status = _STATUS.match(self._buffer)
        if status is None or not status.group(1).startswith(b"2"):
            self._load.failures += 1
        self._load.latencies_s.append(time.perf_counter() - self._sent)
        self._buffer = self._buffer[total:]
        self._send()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(exc or ConnectionResetError("the server closed the connection"))

    def _send(self) -> None:
        request = self._next()
        assert self._transport is not None
        if request is None:
            if not self.done.done():
                self.done.set_result(None)
            self._transport.close()
            return
        self._sent = time.perf_counter()
        self._transport.write(request)


async def run(host: str, port: int, connections: int, next_request: Callable[[], bytes | None]) -> Load:
    """Send requests over so many connections, each its next one as soon as the last is answered, until there are none."""
    load = Load()
    loop = asyncio.get_running_loop()
    started = time.perf_counter()
    opened = [
        (await loop.create_connection(lambda: _Connection(next_request, load), host, port))[1] for _ in range(connections)
    ]
    await asyncio.gather(*(each.done for each in opened))
    load.elapsed_s = time.perf_counter() - started
    return load


def request(method: str, path: str, token: str, body: bytes = b"", headers: str = "") -> bytes:
    """Return the bytes of a request."""
    return (
        f"{method} {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n{headers}\r\n"
    ).encode() + body
