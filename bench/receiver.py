"""A partner's receiver that costs little: takes webhooks, notes when each was there, answers 200.

    python -m bench.receiver PORT

A request to `/hang…` is not answered until the receiver is asked to release it. Questions: `count` (requests on the other
paths), `arrivals` (each of them), `reset`, `release`.
"""

from __future__ import annotations

import asyncio
import re
import sys
import time
from datetime import datetime
from typing import Any, cast

import msgspec

from bench.peers import Answer, answer_questions

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_EVENT = re.compile(rb'"id":"([0-9a-f-]{36})".*?"timestamp":"([^"]+)"')
_SCHEDULED = re.compile(rb'"description":"at (\d+)"')
_OK = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"


class Arrival(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A webhook as it came; instants are micros of the machine's one clock. `scheduled_at` is 0 where none was given."""

    path: str
    event_id: str
    received_at: int
    committed_at: int
    scheduled_at: int


class _Notes:
    def __init__(self) -> None:
        self.requests: list[tuple[bytes, int, bytes]] = []
        self.hanging: list[asyncio.Transport] = []
        self.released = False

    async def answer(self, question: str) -> Any:
        match question:
            case "count":
                return len(self.requests)
            case "arrivals":
                return [_arrival(*each) for each in self.requests]
            case "reset":
                self.requests.clear()
                self.released = False
            case "release":
                self.released = True
                for transport in self.hanging:
                    # Most have been given up by the other side.
                    if not transport.is_closing():
                        transport.write(_OK)
                self.hanging.clear()
            case _:
                raise ValueError(question)
        return None


class _Connection(asyncio.Protocol):
    def __init__(self, notes: _Notes) -> None:
        self._notes = notes
        self._buffer = b""
        self._transport: asyncio.Transport | None = None

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
        path = self._buffer.split(b" ", 2)[1]
        body = self._buffer[head + 4 : total]
        self._buffer = self._buffer[total:]
        assert self._transport is not None
        if not path.startswith(b"/hang"):
            self._notes.requests.append((path, time.time_ns(), body))
        elif not self._notes.released:
            self._notes.hanging.append(self._transport)
            return
        self._transport.write(_OK)


def _arrival(path: bytes, received_ns: int, body: bytes) -> Arrival:
    found = _EVENT.search(body)
    assert found is not None, body
    scheduled = _SCHEDULED.search(body)
    return Arrival(
        path=path.decode(),
        event_id=found.group(1).decode(),
        received_at=received_ns // 1000,
        committed_at=round(datetime.fromisoformat(found.group(2).decode()).timestamp() * 1e6),
        scheduled_at=int(scheduled.group(1)) if scheduled else 0,
    )


async def _start() -> Answer:
    notes = _Notes()
    await asyncio.get_running_loop().create_server(
        lambda: _Connection(notes),
        "127.0.0.1",
        int(sys.argv[1]),
        backlog=2048,
    )
    return notes.answer


if __name__ == "__main__":
    answer_questions(_start)
