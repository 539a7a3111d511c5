"""A load generator that costs little: prepared requests over kept-open connections, answers cut by their length.

Closed loop (`run`) finds out how much goes; open loop (`paced`) sends by a schedule that does not wait for answers, so
that a slow answer makes what comes behind it late instead of rare. It shares the machine with what it measures, and does
no more than HTTP/1.1 needs.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import cast

from bench.table import percentile

_STATUS = re.compile(rb"HTTP/1\.1 (\d{3})")
_LENGTH = re.compile(rb"\r\ncontent-length: (\d+)", re.IGNORECASE)


@dataclass(slots=True, kw_only=True)
class Load:
    """What a run came to: how long each request took, how many answers were not 2xx, how late the schedule was sent."""

    latencies_s: list[float] = field(default_factory=list)
    failures: int = 0
    first_failure: str = ""
    elapsed_s: float = 0.0
    lag_s: float = 0.0

    @property
    def done(self) -> int:
        """Return how many requests were answered 2xx."""
        return len(self.latencies_s) - self.failures

    @property
    def rate(self) -> float:
        """Return requests a second."""
        return len(self.latencies_s) / self.elapsed_s

    def percentile_ms(self, share: float) -> float:
        """Return the latency below which this share of the requests stayed, in milliseconds."""
        return percentile(self.latencies_s, share) * 1000


class _Connection(asyncio.Protocol):
    """One connection: sends a request, tells when it was answered."""

    def __init__(self, load: Load, answered: Callable[[_Connection], None]) -> None:
        self._load = load
        self._answered = answered
        self._buffer = b""
        self.answer = b""
        self._counted_from = 0.0
        self._transport: asyncio.Transport | None = None
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are asyncio's by behaviour, not by class.
        self._transport = cast("asyncio.Transport", transport)

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
            self._load.first_failure = self._load.first_failure or self._buffer[:total].decode(errors="replace")
        self._load.latencies_s.append(time.perf_counter() - self._counted_from)
        self.answer = self._buffer[head + 4 : total]
        self._buffer = self._buffer[total:]
        self._answered(self)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(exc or ConnectionResetError("the server closed the connection"))

    def send(self, request: bytes, counted_from: float) -> None:
        """Send a request whose latency counts from an instant of the performance counter."""
        assert self._transport is not None
        self._counted_from = counted_from
        self._transport.write(request)

    def close(self) -> None:
        """Be done."""
        assert self._transport is not None
        if not self.done.done():
            self.done.set_result(None)
        self._transport.close()


async def _open(
    host: str,
    ports: Sequence[int],
    connections: int,
    load: Load,
    answered: Callable[[_Connection], None],
) -> list[_Connection]:
    loop = asyncio.get_running_loop()
    return [
        (await loop.create_connection(lambda: _Connection(load, answered), host, ports[number % len(ports)]))[1]
        for number in range(connections)
    ]


async def run(host: str, ports: Sequence[int], connections: int, next_request: Callable[[bytes], bytes | None]) -> Load:
    """Send requests over so many connections, each its next one as soon as the last is answered, until there are none.

    What comes next may depend on what the connection was answered last: nothing at first. The connections are spread over
    the ports.
    """
    load = Load()

    def following(connection: _Connection) -> None:
        request = next_request(connection.answer)
        if request is None:
            connection.close()
        else:
            connection.send(request, time.perf_counter())

    opened = await _open(host, ports, connections, load, following)
    started = time.perf_counter()
    for each in opened:
        following(each)
    await asyncio.gather(*(each.done for each in opened))
    load.elapsed_s = time.perf_counter() - started
    return load


async def paced(
    host: str,
    port: int,
    rate_per_s: float,
    seconds: float,
    make: Callable[[int, int], bytes],
    connections: int = 64,
) -> Load:
    """Send by a schedule; a request's latency counts from when it was to be sent, not from when it could be.

    `make` takes a request's number and its scheduled instant in micros since the epoch.
    """
    load = Load()
    waiting: deque[tuple[int, float]] = deque()
    count = round(rate_per_s * seconds)
    idle: deque[_Connection] = deque()
    started, started_us = time.perf_counter(), time.time_ns() // 1000

    def pump() -> None:
        while waiting and idle:
            number, at = waiting.popleft()
            load.lag_s = max(load.lag_s, time.perf_counter() - at)
            idle.popleft().send(make(number, started_us + round((at - started) * 1e6)), at)

    def answered(connection: _Connection) -> None:
        idle.append(connection)
        pump()
        if len(load.latencies_s) == count:
            for each in opened:
                each.close()

    opened = await _open(host, (port,), connections, load, answered)
    idle.extend(opened)
    started, started_us = time.perf_counter(), time.time_ns() // 1000
    for number in range(count):
        at = started + number / rate_per_s
        ahead = at - time.perf_counter()
        if ahead > 0:
            await asyncio.sleep(ahead)
        waiting.append((number, at))
        pump()
    await asyncio.gather(*(each.done for each in opened))
    load.elapsed_s = time.perf_counter() - started
    return load


def request(method: str, path: str, token: str, body: bytes = b"", headers: str = "") -> bytes:
    """Return the bytes of a request."""
    return (
        f"{method} {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n{headers}\r\n"
    ).encode() + body
