"""A dashboard that follows one gateway's SSE stream through every cut, resuming from the last cursor it read."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from typing import Final

import aiohttp
import msgspec

from tests.processes import until

_PAUSE_S: Final = 0.1
_SILENCE_S: Final = 30.0
"""Longer than a stream is ever silent: then the connection is dead, though nobody said so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One event as it came: its cursor and the envelope's bytes."""

    cursor: str
    body: bytes


@dataclass(slots=True, kw_only=True)
class Follower:
    """Reads a stream from the start and keeps everything it was sent, in order."""

    url: str
    token: str
    silence_s: float = _SILENCE_S
    seen: list[Seen] = field(default_factory=list)
    connections: int = 0
    closings: list[str] = field(default_factory=list)
    cursor: str | None = None

    async def run(self, http: aiohttp.ClientSession) -> None:
        """Follow until cancelled."""
        while True:
            with contextlib.suppress(aiohttp.ClientError, TimeoutError, ConnectionError):
                await self._follow(http)
            await asyncio.sleep(_PAUSE_S)

    async def until(self, count: int, *, timeout_s: float) -> None:
        """Return when so many events were seen; raises `TimeoutError`."""

        async def seen() -> bool | None:
            return len(self.seen) >= count or None

        try:
            await until(seen, timeout_s=timeout_s)
        except TimeoutError:
            raise TimeoutError(
                f"{self.url}: {len(self.seen)} of {count} events, {self.connections} connections"
            ) from None

    @property
    def bodies(self) -> list[bytes]:
        """The envelopes, in the order in which they came."""
        return [each.body for each in self.seen]

    async def _follow(self, http: aiohttp.ClientSession) -> None:
        headers = {"authorization": f"Bearer {self.token}"}
        if self.cursor is not None:
            headers["last-event-id"] = self.cursor
        patience = aiohttp.ClientTimeout(total=None, sock_connect=3, sock_read=self.silence_s)
        start = f"{self.url}/v1/events/stream?from=start"
        async with http.get(start, headers=headers, timeout=patience) as answer:
            if answer.status == 503:
                return
            assert answer.status == 200, await answer.text()
            self.connections += 1
            rest = b""
            async for piece in answer.content.iter_any():
                *blocks, rest = (rest + piece).split(b"\n\n")
                for block in blocks:
                    self._take(block)

    def _take(self, block: bytes) -> None:
        fields = dict(line.split(b": ", 1) for line in block.split(b"\n") if b": " in line)
        kind = fields.get(b"event", b"").decode()
        if b"id" in fields:
            self.cursor = fields[b"id"].decode()
        if kind == "closing":
            self.closings.append(msgspec.json.decode(fields[b"data"])["reason"])
        if "." in kind and self.cursor is not None:
            self.seen.append(Seen(cursor=self.cursor, body=fields[b"data"]))
