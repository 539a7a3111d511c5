"""A bare ASGI broadcast, the baseline of streams: no books, no cursor that means anything, no authority.

    python -m bench.bare_broadcast PORT

`POST /publish` takes an envelope, stamps it with the time, and encodes it once; every client of the same two paths as the
product's gets it by one send per event. Served by uvicorn with the settings of the product.
"""

from __future__ import annotations

import asyncio
import re
import sys
import time
from datetime import UTC, datetime
from typing import Any

import uvicorn
import uvloop
from starlette.types import Receive, Scope, Send

from bench.listeners import PATHS

_STAMP = re.compile(rb'"sequence":\d+,"timestamp":"[^"]+"')
_CURSOR = b"0" * 48
_READY = b'{"type":"ready"}'
Frame = tuple[bytes, str]


class Broadcast:
    """Every frame there was, and who waits for the next."""

    def __init__(self) -> None:
        """Begin with no frame."""
        self._frames: list[Frame] = []
        self._changed = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request or socket."""
        if scope["type"] == "websocket":
            await self._socket(receive, send)
        elif scope["path"] == PATHS["sse"]:
            await self._stream(receive, send)
        else:
            await self._publish(receive, send)

    async def _publish(self, receive: Receive, send: Send) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        if body:
            self._add(body)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})

    def _add(self, envelope: bytes) -> None:
        now = datetime.fromtimestamp(time.time(), UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        stamp = f'"sequence":{len(self._frames) + 1},"timestamp":"{now}"'.encode()
        stamped = _STAMP.sub(stamp, envelope, count=1)
        sse = b"id: %s\nevent: entry.posted\ndata: %s\n\n" % (_CURSOR, stamped)
        self._frames.append((sse, f"[{stamped.decode()}]"))
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def _stream(self, receive: Receive, send: Send) -> None:
        headers = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-store")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"event: ready\ndata: {}\n\n", "more_body": True})

        async def write(frame: Frame) -> None:
            await send({"type": "http.response.body", "body": frame[0], "more_body": True})

        await self._follow(receive, write, "http.disconnect")

    async def _socket(self, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": _READY.decode()})

        async def write(frame: Frame) -> None:
            await send({"type": "websocket.send", "text": frame[1]})

        await self._follow(receive, write, "websocket.disconnect")

    async def _follow(self, receive: Receive, write: Any, last: str) -> None:
        async def forward() -> None:
            position = len(self._frames)
            while True:
                while position < len(self._frames):
                    await write(self._frames[position])
                    position += 1
                await self._changed.wait()

        writing = asyncio.create_task(forward())
        try:
            while (await receive())["type"] != last:
                pass
        finally:
            writing.cancel()
            await asyncio.gather(writing, return_exceptions=True)


async def _serve(port: int) -> None:
    config = uvicorn.Config(
        Broadcast(),
        port=port,
        http="httptools",
        ws="websockets-sansio",
        ws_per_message_deflate=False,
        lifespan="off",
        log_level="critical",
        access_log=False,
        backlog=2048,
        timeout_graceful_shutdown=1,
    )
    await uvicorn.Server(config).serve()


if __name__ == "__main__":
    uvloop.run(_serve(int(sys.argv[1])))
