"""Following a feed over SSE for as long as it takes: over lost connections, restarts of the server, and this machine's sleep."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import aiohttp
import msgspec

from engine.money import parse_instant
from gledger.errors import ProgramError
from gledger.remote import Refused, Remote, refusal

SILENCE_S: Final = 60.0
"""The server says something at least every 15 seconds: longer silence is a dead connection."""
_WAIT_S: Final = 2.0
_WAIT_MAX_S: Final = 15.0
_BLOCK_BYTES_MAX: Final = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One server-sent event: its name, its data, and the cursor after it."""

    event: str
    data: bytes
    cursor: str


@dataclass(slots=True, kw_only=True)
class Place:
    """Where to begin, and where one is once something came."""

    query: dict[str, str]
    cursor: str | None = None


def begin_at(since: str | None, cursor: str | None, types: str | None) -> Place:
    """Return where to begin: `since` is `start`, a time or a cursor and goes before the kept cursor; else from now on."""
    query = {} if types is None else {"types": types}
    if since is None:
        return Place(query=query, cursor=cursor)
    if since == "start" or _is_time(since):
        return Place(query={**query, "from": since})
    return Place(query=query, cursor=since)


async def follow(remote: Remote, place: Place, say: Callable[[str], None]) -> AsyncIterator[Block]:
    """Return every block there is, for ever; raises Refused where coming back is no use.

    `place.cursor` is where to come back to: the caller moves it once it has done its work.
    """
    wait_s, lost = _WAIT_S, False
    while True:
        try:
            async for block in _once(remote, place):
                if block.event == "ready":
                    if lost:
                        say("connected again")
                    wait_s, lost = _WAIT_S, False
                if block.event == "closing":
                    told = msgspec.json.decode(block.data, type=dict[str, Any])
                    if not told.get("reconnect"):
                        raise ProgramError(f"the stream ended: {told.get('reason')}")
                yield block
        except Refused as error:
            if error.status < 500 and error.status != 429:
                raise
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            if not lost:
                say(f"the connection is lost ({str(error) or type(error).__name__}); trying again")
            lost = True
        began = time.monotonic()
        await asyncio.sleep(wait_s)
        # After this machine slept there is no reason to be patient.
        wait_s = _WAIT_S if time.monotonic() - began > 2 * wait_s else min(wait_s * 1.5, _WAIT_MAX_S)


async def _once(remote: Remote, place: Place) -> AsyncIterator[Block]:
    headers = {"accept": "text/event-stream"} | ({} if place.cursor is None else {"last-event-id": place.cursor})
    # A place in time serves for the first connection: from then on there is a cursor.
    query = {name: value for name, value in place.query.items() if name != "from" or place.cursor is None}
    patient = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=SILENCE_S)
    url = remote.access.base_url + "/v1/events/stream"
    async with remote.session.get(url, params=query, headers=headers, timeout=patient) as answer:
        if answer.status != 200:
            raise await refusal(answer)
        async for block in blocks(answer.content.iter_any()):
            yield block


async def blocks(pieces: AsyncIterator[bytes]) -> AsyncIterator[Block]:
    """Read a stream's pieces as blocks, however they are cut; what has no id is no block of ours."""
    rest = b""
    fields: dict[bytes, bytes] = {}
    async for piece in pieces:
        *lines, rest = (rest + piece).split(b"\n")
        if len(rest) > _BLOCK_BYTES_MAX:
            raise ProgramError("the server sends what is no stream of events")
        for line in lines:
            name, _, value = line.rstrip(b"\r").partition(b":")
            if name:
                fields[name] = value.removeprefix(b" ")
            elif not line.rstrip(b"\r"):
                if b"id" in fields and b"event" in fields:
                    yield _block(fields)
                fields = {}


def _block(fields: Mapping[bytes, bytes]) -> Block:
    return Block(event=fields[b"event"].decode(), data=fields.get(b"data", b"null"), cursor=fields[b"id"].decode())


def _is_time(text: str) -> bool:
    try:
        parse_instant(text)
    except ValueError:
        return False
    return True
