"""What a connection is written: a head and its body in one piece, in order, whatever happens between."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from uvicorn.server import ServerState

from gledger.protocols import HttpProtocol
from gledger.serve import server_config
from gledger.settings import Settings


class Transport(asyncio.Transport):
    """A transport that notes what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[bytes] = []

    def write(self, data: Any) -> None:
        """Note a piece."""
        self.said.append(bytes(data))

    def close(self) -> None:
        """Note the end."""
        self.said.append(b"closed")

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Know nothing."""
        del name
        return default

    def pause_reading(self) -> None:
        """Go on."""

    def resume_reading(self) -> None:
        """Go on."""

    def is_closing(self) -> bool:
        """Tell whether the end was noted."""
        return b"closed" in self.said


App = Callable[[Any, Any, Any], Any]


async def answered(app: App, request: bytes = b"GET / HTTP/1.1\r\nhost: h\r\n\r\n") -> list[bytes]:
    """Return what a connection was written after a request."""
    transport = Transport()
    config = server_config(app, Settings.from_env({}))
    config.load()
    state = ServerState()
    protocol = HttpProtocol(config, state, {})
    protocol.connection_made(transport)
    protocol.data_received(request)
    while state.tasks:
        await asyncio.gather(*state.tasks)
        await asyncio.sleep(0)
    said = transport.said.copy()
    protocol.connection_lost(None)
    return said


def says(*bodies: bytes, headers: tuple[tuple[bytes, bytes], ...] = (), wait: bool = False) -> App:
    """Return an application that answers with these pieces."""

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for at, body in enumerate(bodies):
            if wait:
                await asyncio.sleep(0)
                await asyncio.sleep(0)
            await send({"type": "http.response.body", "body": body, "more_body": at < len(bodies) - 1})

    return app


@pytest.mark.parametrize("length", [2, 200_000])
async def test_head_and_body_are_one_piece(length: int) -> None:
    """One system call where uvicorn makes two."""
    body = b"x" * length
    said = await answered(says(body, headers=((b"content-length", str(length).encode()),)))
    assert len(said) == 1
    assert said[0].startswith(b"HTTP/1.1 200 OK\r\n")
    assert said[0].endswith(b"\r\n\r\n" + body)


async def test_head_goes_alone_where_the_body_waits() -> None:
    """A stream that has nothing to say yet has begun."""
    said = await answered(says(b"one", b"two", b"three", headers=((b"content-length", b"11"),), wait=True))
    assert said[0].startswith(b"HTTP/1.1 200 OK\r\n")
    assert said[0].endswith(b"\r\n\r\n")
    assert said[1:] == [b"one", b"two", b"three"]


async def test_answer_without_a_body_is_sent_before_the_connection_is_closed() -> None:
    """Nothing follows its head."""
    request = b"GET / HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n"
    said = await answered(says(b"", headers=((b"content-length", b"0"),)), request)
    assert said[0].startswith(b"HTTP/1.1 200 OK\r\n")
    assert said[1:] == [b"closed"]


async def test_requests_that_come_together_are_answered_in_order() -> None:
    """Each body behind its own head, also one that looks like a head itself."""

    async def echo(scope: Any, receive: Any, send: Any) -> None:
        body = scope["path"][1:].encode()
        await says(body, headers=((b"content-length", str(len(body)).encode()),))(scope, receive, send)

    paths = [b"one", b"HTTP/1.1", b"three"]
    said = await answered(echo, b"".join(b"GET /" + path + b" HTTP/1.1\r\nhost: h\r\n\r\n" for path in paths))
    assert [each.partition(b"\r\n\r\n")[2] for each in said] == paths
