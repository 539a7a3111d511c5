"""The two who listen in the demonstration: a partner's webhook receiver, and a dashboard on the stream."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from dataclasses import dataclass
from typing import Any

import aiohttp
from aiohttp import web

from delivery.signing import parse_secret, verify


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """A webhook that arrived and whose signature was right."""

    webhook_id: str
    delivery_id: str
    event_type: str
    resource_id: str
    sequence: int
    endpoint_sequence: int
    attempt: int


class Partner:
    """A receiver on a port of its own, that can go away and come back."""

    def __init__(self) -> None:
        """Receive nothing yet; the secret is known once the endpoint is registered."""
        self.secret = ""
        self._port = 0
        self._runner: web.AppRunner | None = None
        self._received: dict[str, Received] = {}
        self._arrived = asyncio.Condition()

    @property
    def url(self) -> str:
        """Where webhooks are to be sent."""
        return f"http://127.0.0.1:{self._port}/webhooks"

    @property
    def endpoint_sequences(self) -> list[int]:
        """What arrived, by the endpoint's own numbers."""
        return [each.endpoint_sequence for each in self._received.values()]

    async def start(self) -> None:
        """Listen, on the same port as before."""
        application = web.Application()
        application.router.add_post("/webhooks", self._take)
        self._runner = web.AppRunner(application, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self._port, reuse_address=True)
        await site.start()
        self._port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Stop listening."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def receive(self, resource_id: str, timeout_s: float) -> Received:
        """Return the webhook about a resource as soon as it is there."""
        async with asyncio.timeout(timeout_s), self._arrived:
            await self._arrived.wait_for(lambda: resource_id in self._received)
            return self._received[resource_id]

    async def _take(self, request: web.Request) -> web.Response:
        body = await request.read()
        verify([parse_secret(self.secret)], request.headers, body, time.time())
        event = json.loads(body)
        received = Received(
            webhook_id=request.headers["webhook-id"],
            delivery_id=request.headers["x-gledger-delivery-id"],
            event_type=event["type"],
            resource_id=event["resource"]["id"],
            sequence=int(request.headers["x-gledger-sequence"]),
            endpoint_sequence=int(request.headers["x-gledger-endpoint-sequence"]),
            attempt=int(request.headers["x-gledger-attempt"]),
        )
        async with self._arrived:
            self._received[received.resource_id] = received
            self._arrived.notify_all()
        return web.Response(status=204)


class Stream:
    """A dashboard: reads server-sent events and remembers its cursor."""

    def __init__(self, session: aiohttp.ClientSession, headers: dict[str, str]) -> None:
        """Read with these credentials."""
        self._session = session
        self._headers = headers
        self._cursor: str | None = None
        self._events: dict[str, dict[str, Any]] = {}
        self.sequences: list[int] = []
        self._arrived = asyncio.Condition()
        self._reading: asyncio.Task[None] | None = None
        self._ready = asyncio.Event()

    async def open(self) -> str:
        """Connect, from the cursor where there is one, and return the cursor when the server says it is ready."""
        self._ready.clear()
        self._reading = asyncio.get_running_loop().create_task(self._read())
        ready = asyncio.get_running_loop().create_task(self._ready.wait())
        await asyncio.wait({self._reading, ready}, timeout=30, return_when=asyncio.FIRST_COMPLETED)
        ready.cancel()
        if self._reading.done():
            self._reading.result()
        if self._cursor is None:
            raise TimeoutError("the stream did not say that it is ready")
        return self._cursor

    async def cut(self) -> str | None:
        """Drop the connection and return the cursor that was reached."""
        if self._reading is not None:
            self._reading.cancel()
            with contextlib.suppress(asyncio.CancelledError, aiohttp.ClientError):
                await self._reading
        return self._cursor

    async def event_about(self, resource_id: str, timeout_s: float) -> dict[str, Any]:
        """Return the event about a resource as soon as it was streamed."""
        async with asyncio.timeout(timeout_s), self._arrived:
            await self._arrived.wait_for(lambda: resource_id in self._events)
            return self._events[resource_id]

    async def _read(self) -> None:
        headers = dict(self._headers)
        if self._cursor is not None:
            headers["last-event-id"] = self._cursor
        patient = aiohttp.ClientTimeout(total=None, sock_read=60)
        async with self._session.get("/v1/events/stream", headers=headers, timeout=patient) as answer:
            answer.raise_for_status()
            block: dict[str, str] = {}
            async for raw in answer.content:
                line = raw.decode().rstrip("\r\n")
                if line:
                    name, _, value = line.partition(": ")
                    block[name] = value
                elif block:
                    await self._take(block)
                    block = {}

    async def _take(self, block: dict[str, str]) -> None:
        if "id" in block:
            self._cursor = block["id"]
        kind = block.get("event", "")
        if kind == "ready":
            self._ready.set()
        if "." not in kind:
            return
        event = json.loads(block["data"])
        async with self._arrived:
            self._events[event["resource"]["id"]] = event
            self.sequences.append(event["sequence"])
            self._arrived.notify_all()
