"""Followers for tests: a WebSocket and server-sent events, each message of which is held to the AsyncAPI document."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import aiohttp
import msgspec
from jsonschema import Draft202012Validator
from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Origin

from openapi import asyncapi

PATIENCE_S: Final = 20.0
DOCUMENT: Final = asyncapi.build()
_SCHEMAS: Final = DOCUMENT["components"]["schemas"]


def _validator(name: str) -> Draft202012Validator:
    # Answers are open for clients' sake; what we send ourselves has no member that is not described.
    closed = {
        each: schema | ({} if "additionalProperties" in schema else {"additionalProperties": False})
        for each, schema in _SCHEMAS.items()
    }
    return Draft202012Validator(
        {"$ref": f"#/components/schemas/{name}", "components": {"schemas": closed}},
        format_checker=Draft202012Validator.FORMAT_CHECKER,
    )


_VALIDATORS: Final = {name: _validator(name) for name in _SCHEMAS}
_BY_TAG: Final = {
    schema["properties"]["type"]["enum"][0]: name
    for name, schema in _SCHEMAS.items()
    if f"#/channels/socket/messages/{name}"
    in {each["$ref"] for each in DOCUMENT["operations"]["sendOnSocket"]["messages"]}
}


def check_word(value: Mapping[str, Any]) -> None:
    """Hold a word of the server's to the document; raises `ValidationError`."""
    _VALIDATORS[_BY_TAG[value["type"]]].validate(value)


def check_event(value: Mapping[str, Any]) -> None:
    """Hold an envelope to the document."""
    _VALIDATORS["Envelope"].validate(value)


@dataclass(slots=True)
class Socket:
    """A WebSocket client; `events` has each stream's envelopes as their bytes, `cursors` the last checkpoint, by name."""

    connection: ClientConnection
    events: dict[str | None, list[bytes]] = field(default_factory=dict)
    cursors: dict[str | None, str] = field(default_factory=dict)
    words: list[dict[str, Any]] = field(default_factory=list)
    _array: list[bytes] = field(default_factory=list)

    async def say(self, kind: str, **members: Any) -> None:
        """Send a word; `from_` is `from`."""
        await self.connection.send(
            msgspec.json.encode({"type": kind, **{name.rstrip("_"): each for name, each in members.items()}}).decode()
        )

    async def read(self) -> dict[str, Any] | None:
        """Read one message: return a word, or None where it was events. Raises `ConnectionClosed`."""
        async with asyncio.timeout(PATIENCE_S):
            text = await self.connection.recv()
        assert isinstance(text, str)
        if text.startswith("["):
            assert not self._array, "an array came without a checkpoint behind the one before"
            self._array = [bytes(each) for each in msgspec.json.decode(text, type=list[msgspec.Raw])]
            assert self._array
            for each in self._array:
                check_event(msgspec.json.decode(each))
            return None
        word: dict[str, Any] = msgspec.json.decode(text)
        check_word(word)
        name = word.get("subscription")
        if self._array:
            assert word["type"] == "checkpoint", "events are followed by their checkpoint"
            self.events.setdefault(name, []).extend(self._array)
            self._array = []
        if "cursor" in word:
            self.cursors[name] = word["cursor"]
        self.words.append(word)
        return word

    async def word(self, kind: str, name: str | None = None) -> dict[str, Any]:
        """Read up to the next word of this kind about this stream."""
        while True:
            word = await self.read()
            if word is not None and word["type"] == kind and word.get("subscription") == name:
                return word

    async def until(self, count: int, name: str | None = None) -> list[bytes]:
        """Read until a stream has brought so many events, and return them."""
        while len(self.events.get(name, ())) < count:
            await self.read()
        return self.events[name]


@asynccontextmanager
async def open_socket(
    url: str, headers: Mapping[str, str] | None = None, *, query: str = "", origin: str | None = None
) -> AsyncIterator[Socket]:
    """Open a WebSocket at a gateway's address."""
    address = url.replace("http", "ws", 1) + "/v1/events/socket" + query
    async with connect(
        address,
        additional_headers=headers,
        origin=None if origin is None else Origin(origin),
        proxy=None,
        max_size=None,
        compression=None,
    ) as connection:
        yield Socket(connection)


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One block of server-sent events."""

    id: str
    event: str
    data: bytes
    retry: str | None

    @property
    def value(self) -> dict[str, Any]:
        """The data, decoded."""
        found: dict[str, Any] = msgspec.json.decode(self.data)
        return found


@dataclass(slots=True)
class Blocks:
    """Server-sent events as they come."""

    answer: aiohttp.ClientResponse
    rest: bytes = b""
    waiting: list[Block] = field(default_factory=list)

    async def read(self) -> Block | None:
        """Return the next block, held to the document; None at the end."""
        while not self.waiting:
            async with asyncio.timeout(PATIENCE_S):
                piece = await self.answer.content.readany()
            if not piece:
                assert not self.rest, "the stream ended within a block"
                return None
            *blocks, self.rest = (self.rest + piece).split(b"\n\n")
            self.waiting += [_block(each) for each in blocks]
        return self.waiting.pop(0)

    async def event(self, kind: str) -> Block:
        """Return the next block of this kind."""
        while (block := await self.read()) is not None:
            if block.event == kind:
                return block
        raise AssertionError(f"the stream ended without {kind}")

    async def bodies(self, count: int) -> list[bytes]:
        """Return the envelopes of the next events."""
        found: list[bytes] = []
        while len(found) < count:
            block = await self.read()
            assert block is not None, f"the stream ended after {len(found)} of {count} events"
            if "." in block.event:
                found.append(block.data)
        return found


@asynccontextmanager
async def open_stream(
    http: aiohttp.ClientSession, url: str, headers: Mapping[str, str] | None = None, *, query: str = ""
) -> AsyncIterator[Blocks]:
    """Open server-sent events at a gateway's address; leaving the block cuts them off."""
    async with http.get(f"{url}/v1/events/stream{query}", headers=headers) as answer:
        assert answer.status == 200, await answer.text()
        assert answer.headers["content-type"].startswith("text/event-stream")
        yield Blocks(answer)


def _block(raw: bytes) -> Block:
    fields = [line.partition(b": ")[::2] for line in raw.split(b"\n")]
    found = {name.decode(): value for name, value in fields}
    assert len(found) == len(fields), "a field stands twice in a block"
    block = Block(
        id=found["id"].decode(),
        event=found["event"].decode(),
        data=found["data"],
        retry=found["retry"].decode() if "retry" in found else None,
    )
    (check_event if "." in block.event else check_word)(block.value)
    assert block.event == block.value["type"]
    return block
