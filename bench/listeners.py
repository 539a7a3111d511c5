"""Many clients of a stream in one process, as cheap as they can be: they count events in the bytes and time a few.

    python -m bench.listeners KIND PORT COUNT TOKEN

KIND is `sse` or `websocket`. They connect all at once. Every connection counts envelopes and answers pings; about twenty of them
read each envelope's timestamp when its bytes arrive. Questions: `ready` (how many streams have begun), `counts` (envelopes per
connection), `report`, `reset`.
"""

from __future__ import annotations

import asyncio
import base64
import os
import re
import sys
import time
from datetime import datetime
from typing import Any, cast

import msgspec

from bench.peers import Answer, answer_questions

_MARK = b'"schema_version":'
_TIMED = re.compile(rb'"sequence":(\d+),"timestamp":"([^"]{20,40})"')
# A timestamp may be cut in two by the end of a read: so much of it is looked at again.
_TIMED_BYTES_MAX = 100
# A ping as uvicorn sends it, with four bytes; within an envelope, which is ASCII, there is none of this.
_PING_BYTE = b"\x89"
_PING = re.compile(rb"\x89\x04(.{4})", re.DOTALL)
_PONG = b"\x8a\x84\0\0\0\0"
_BEGUN = {"sse": b"event: ready", "websocket": b'"type":"ready"'}
_SAMPLED = 20
PATHS = {"sse": "/v1/events/stream", "websocket": "/v1/events/socket"}


class Report(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What all clients together got; latencies are of the sampled connections, one per event and connection."""

    bytes: int
    latencies_ms: list[float]


class _Clients:
    def __init__(self, kind: str, count: int) -> None:
        self.begun = _BEGUN[kind]
        self.ready = 0
        self.bytes = 0
        self.latencies_us: list[int] = []
        self.connections: list[_Connection] = []
        self.stride = max(1, count // _SAMPLED)

    async def answer(self, question: str) -> Any:
        match question:
            case "ready":
                return self.ready
            case "counts":
                return [each.events for each in self.connections]
            case "report":
                return Report(bytes=self.bytes, latencies_ms=[each / 1000 for each in self.latencies_us])
            case "reset":
                self.bytes = 0
                self.latencies_us.clear()
                for each in self.connections:
                    each.events = 0
            case _:
                raise ValueError(question)
        return None


class _Connection(asyncio.Protocol):
    def __init__(self, clients: _Clients, request: bytes) -> None:
        self._clients = clients
        self._request = request
        self._timed = len(clients.connections) % clients.stride == 0
        self._rest = b""
        self._head = b""
        self._begun = False
        self._last = 0
        self._transport: asyncio.Transport | None = None
        self.events = 0
        clients.connections.append(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are asyncio's by behaviour, not by class.
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        clients = self._clients
        clients.bytes += len(data)
        if not self._begun:
            self._head += data
            self._answer(data)
            if clients.begun in self._head:
                self._begun = True
                clients.ready += 1
            return
        rest = self._rest + data
        self._answer(rest)
        if self._timed:
            self._time(rest, time.time_ns() // 1000)
            self.events += rest.count(_MARK) - self._rest.count(_MARK)
            self._rest = rest[-_TIMED_BYTES_MAX:]
        else:
            self.events += rest.count(_MARK)
            self._rest = rest[-len(_MARK) + 1 :]

    def _answer(self, data: bytes) -> None:
        """Answer the pings that are there whole, some of them twice: a client whom nobody hears of is let go of."""
        assert self._transport is not None
        if _PING_BYTE in data:
            for payload in _PING.finditer(data):
                self._transport.write(_PONG + payload.group(1))

    def _time(self, data: bytes, now_us: int) -> None:
        for found in _TIMED.finditer(data):
            sequence = int(found.group(1))
            if sequence > self._last:
                self._last = sequence
                at_us = round(datetime.fromisoformat(found.group(2).decode()).timestamp() * 1e6)
                self._clients.latencies_us.append(now_us - at_us)


def _request(kind: str, bearer: str) -> bytes:
    upgrade = ""
    if kind == "websocket":
        key = base64.b64encode(os.urandom(16)).decode()
        upgrade = (
            f"connection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: {key}\r\n"
        )
    return f"GET {PATHS[kind]} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {bearer}\r\n{upgrade}\r\n".encode()


async def _start() -> Answer:
    kind, port, count, bearer = sys.argv[1:]
    clients = _Clients(kind, int(count))
    loop = asyncio.get_running_loop()

    async def connect() -> None:
        await loop.create_connection(lambda: _Connection(clients, _request(kind, bearer)), "127.0.0.1", int(port))

    await asyncio.gather(*(connect() for _ in range(int(count))))
    return clients.answer


if __name__ == "__main__":
    answer_questions(_start)
