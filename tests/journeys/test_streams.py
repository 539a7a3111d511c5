"""Streams between real processes: cut anywhere, read slowly, drained; what is read in the end is exactly the feed."""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from gateway.tailer import Bounds
from tests.faults.follower import Follower
from tests.journeys.conftest import Production, SiteClient

SEED: Final = 20_261_121
CUT_ENTRIES: Final = 150
STUCK_S: Final = 1.0
SHORT_DRAIN_S: Final = 10
STREAMED: Final = r'gledger_streamed_events_total\{kind="sse"\} (\S+)'
SMALL_BUFFER_BYTES: Final = 16 * 1024
# One event of these is about 25 KB: what a stalled reader misses is more than the ring of recent events holds.
LARGE_METADATA: Final = {f"key-{number}": "x" * 500 for number in range(50)}
LARGE_ENTRIES: Final = 900
LARGE_BATCH: Final = 30


@dataclass(slots=True, kw_only=True)
class RawStream:
    """An SSE connection as its bytes, which reads only when told to."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    raw: bytes = b""
    left: int = 0
    rest: bytes = b""
    cursor: str | None = None
    bodies: list[bytes] = field(default_factory=list)
    closings: list[dict[str, Any]] = field(default_factory=list)
    ended: bool = False

    async def read(self, limit: int) -> int:
        """Read at most so many bytes, take every whole block, and return how many bytes came."""
        piece = await self.reader.read(limit)
        self.ended = not piece
        self.raw += piece
        *blocks, self.rest = (self.rest + b"".join(self._chunks())).split(b"\n\n")
        for block in blocks:
            fields = dict(line.split(b": ", 1) for line in block.split(b"\n") if b": " in line)
            kind = fields.get(b"event", b"").decode()
            if b"id" in fields:
                self.cursor = fields[b"id"].decode()
            if kind == "closing":
                self.closings.append(msgspec.json.decode(fields[b"data"]))
            if "." in kind:
                self.bodies.append(fields[b"data"])
        return len(piece)

    def _chunks(self) -> Iterator[bytes]:
        """Take what is there of the chunks (RFC 9112 §7.1); `left` counts the rest of one and the line end behind it."""
        while self.raw:
            if not self.left:
                size, found, after = self.raw.partition(b"\r\n")
                if not found:
                    return
                self.left, self.raw = int(size, 16) + 2, after
            piece, self.raw = self.raw[: self.left], self.raw[self.left :]
            yield piece[: max(0, self.left - 2)]
            self.left -= len(piece)


@asynccontextmanager
async def raw_stream(
    site: SiteClient, at: int, cursor: str | None = None, *, tickets: Sequence[str] = ()
) -> AsyncIterator[RawStream]:
    """Open a stream from the start, or after a cursor, by the site's key or by tickets; leaving the block cuts it off."""
    address = urlsplit(site.urls[at])
    reader, writer = await asyncio.open_connection(address.hostname, address.port, limit=SMALL_BUFFER_BYTES)
    try:
        key = "" if tickets else f"Authorization: Bearer {site.credentials.api_key}\r\n"
        resume = "" if cursor is None else f"Last-Event-ID: {cursor}\r\n"
        query = "&".join(["from=start", *(f"ticket={each}" for each in tickets)])
        writer.write(f"GET /v1/events/stream?{query} HTTP/1.1\r\nHost: {address.netloc}\r\n{key}{resume}\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        assert b" 200 " in head.split(b"\r\n")[0], head
        yield RawStream(reader=reader, writer=writer)
    finally:
        writer.transport.abort()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def test_a_stream_cut_at_any_byte_resumes_without_gap_or_duplicate(site: SiteClient) -> None:
    """Cut after a random number of bytes, again and again, at one gateway and the other: the pieces are the feed."""
    chance = random.Random(SEED)
    goal = len(await site.feed()) + CUT_ENTRIES
    found: list[bytes] = []
    cursor: str | None = None
    cuts = 0
    posting = asyncio.create_task(_post(site, CUT_ENTRIES))
    async with asyncio.timeout(40):
        while len(found) < goal:
            async with raw_stream(site, cuts % 2, cursor) as stream:
                left = chance.randrange(200, 10_000)
                while left > 0 and len(found) + len(stream.bodies) < goal:
                    left -= await stream.read(min(left, 1_000))
                found += stream.bodies
                cursor = stream.cursor or cursor
            cuts += 1
    await posting
    assert found == await site.feed()
    assert cuts > 10, "hardly anything was cut"


async def test_a_reader_that_stalls_hurts_nobody_and_catches_up_from_the_database(site: SiteClient) -> None:
    """While one does not read, another gets everything at once; the stalled one then reads what the ring has long lost."""
    follower = Follower(url=site.urls[0], token=site.credentials.api_key)
    following = asyncio.create_task(follower.run(site.http))
    try:
        async with raw_stream(site, 0) as stalled:
            await stalled.read(1)
            began = time.monotonic()
            await post_large(site)
            posted = await site.feed()
            posted_s = time.monotonic() - began
            await follower.until(len(posted), timeout_s=10)
            assert time.monotonic() - began < posted_s + 5, "the stalled reader held up the other"
            assert follower.bodies == posted
            assert follower.connections == 1
            async with asyncio.timeout(30):
                while len(stalled.bodies) < len(posted):
                    await stalled.read(1 << 20)
                    assert not stalled.ended, "the stalled reader was cut off"
            assert stalled.bodies == posted
            assert sum(len(each) for each in posted[len(posted) // 2 :]) > Bounds().ring_bytes / 2, (
                "the ring held it all"
            )
    finally:
        following.cancel()


async def test_draining_ends_streams_with_a_word_that_lets_them_come_back(
    production: Production, site: SiteClient
) -> None:
    """SIGTERM: an SSE stream and a WebSocket are told to reconnect and from where; the process is gone in time."""
    gateway = production.deployment.gateway()
    await gateway.ready()
    here = SiteClient(
        http=site.http, urls=[gateway.url], credentials=site.credentials, debit=site.debit, credit=site.credit
    )
    url = gateway.url.replace("http", "ws") + "/v1/events/socket?from=start"
    async with (
        raw_stream(here, 0) as stream,
        connect(url, additional_headers=site.headers, proxy=None, max_size=None) as socket,
    ):
        await _post(here, 3)
        feed = await here.feed()
        while len(stream.bodies) < len(feed):
            await stream.read(1 << 16)
        began = time.monotonic()
        stopping = asyncio.create_task(gateway.stop())
        frames = []
        with contextlib.suppress(ConnectionClosed):
            while True:
                frames.append(msgspec.json.decode(await socket.recv()))
        while not stream.ended:
            await stream.read(1 << 16)
        assert await stopping == 0, gateway.tail()
        assert time.monotonic() - began < 3, "nobody had anything left to do"
    last = msgspec.json.decode(feed[-1])["sequence"]
    for closing in (*stream.closings, frames[-1]):
        assert (closing["reason"], closing["reconnect"]) == ("draining", True)
        async with raw_stream(site, 1, closing["cursor"]) as resumed:
            await _post(site, 1)
            while not resumed.bodies:
                await resumed.read(1 << 16)
            last += 1
            assert msgspec.json.decode(resumed.bodies[0])["sequence"] <= last
    assert len(stream.closings) == 1
    assert frames[-1]["type"] == "closing"
    assert socket.close_code == 4000
    assert "Traceback" not in gateway.tail()


async def test_a_client_that_never_reads_cannot_keep_a_process_from_ending(
    production: Production, site: SiteClient
) -> None:
    """A stream stuck in a full socket is dropped in time for the process to be gone when it promised."""
    gateway = production.deployment.gateway(DRAIN_TIMEOUT_S=str(SHORT_DRAIN_S))
    await gateway.ready()
    here = SiteClient(
        http=site.http, urls=[gateway.url], credentials=site.credentials, debit=site.debit, credit=site.credit
    )
    await post_large(here)
    async with raw_stream(here, 0) as stalled:
        await stalled.read(1)
        await _until_stuck(here)
        assert await gateway.stop(SHORT_DRAIN_S) == 0, gateway.tail()


async def _until_stuck(site: SiteClient) -> None:
    """Return when the gateway's SSE streams have written something and then nothing more for a while."""
    written, since = 0.0, time.monotonic()
    async with asyncio.timeout(20):
        while not written or time.monotonic() - since < STUCK_S:
            async with site.http.get(f"{site.urls[0]}/metrics") as answer:
                now = max(map(float, re.findall(STREAMED, await answer.text())), default=0.0)
            written, since = now, (since if now == written else time.monotonic())
            await asyncio.sleep(0.05)


async def _post(site: SiteClient, count: int) -> None:
    for number in range(count):
        await site.ask("POST", "/v1/entries", site.entry(1 + number), at=number % len(site.urls))


async def post_large(site: SiteClient) -> None:
    """Post more than the ring of recent events holds."""
    entry = site.entry(1, metadata=LARGE_METADATA)
    for _ in range(LARGE_ENTRIES // LARGE_BATCH):
        await site.ask("POST", "/v1/entries/batch", {"entries": [entry] * LARGE_BATCH})
