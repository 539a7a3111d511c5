"""What once was wrong in the libraries that streams stand on: the versions that are right, and what they must do."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any, Final
from urllib.parse import urlsplit

import pytest
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from gateway.call import CUT
from gledger.serve import listen, server_config
from gledger.settings import Settings

SETTINGS: Final = Settings.from_env({"GLEDGER_PORT": "0"})
LEAST: Final = {"uvicorn": (0, 54), "sse-starlette": (3, 7), "websockets": (17,), "starlette": (1, 10)}
MESSAGE: Final = "x" * 50_000
MESSAGES: Final = 2_000
BUFFERED_MAX: Final = 400


@asynccontextmanager
async def serving(app: ASGIApp, **changes: Any) -> AsyncIterator[str]:
    """Serve an application as the gateway is served, on a free port."""
    config = server_config(app, SETTINGS)
    for name, value in changes.items():
        setattr(config, name, value)
    listening = listen(SETTINGS)
    server = uvicorn.Server(config)
    # The test's process keeps its own signal handlers.
    server.capture_signals = _no_signals  # type: ignore[method-assign]
    task = asyncio.create_task(server.serve(sockets=[listening]))
    while not server.started:  # noqa: ASYNC110 - uvicorn has a flag, no event
        await asyncio.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = server.force_exit = True
        await task


def _no_signals() -> Any:
    return _Nothing()


class _Nothing:
    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        pass


@pytest.mark.parametrize("name", LEAST)
def test_the_versions_in_use_are_those_that_were_put_right(name: str) -> None:
    """Below them: sends that never wait (uvicorn 0.52), pings without end and without a deadline (sse-starlette 3.4)."""
    found = tuple(int(part) for part in version(name).split(".")[:2])
    assert found >= LEAST[name]


async def test_a_send_waits_for_a_websocket_client_that_does_not_read() -> None:
    """A buffer without a bound took 93 MB for one such client."""
    sent = 0
    accepted = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal sent
        await receive()
        await send({"type": "websocket.accept"})
        accepted.set()
        for _ in range(MESSAGES):
            await send({"type": "websocket.send", "text": MESSAGE})
            sent += 1

    async with serving(app) as url, connect(url.replace("http", "ws"), proxy=None, max_queue=1, max_size=None):
        await accepted.wait()
        before = -1
        while sent > before:
            before = sent
            await asyncio.sleep(0.5)
        assert sent < BUFFERED_MAX


async def test_a_websocket_client_is_pinged_and_is_offered_no_compression() -> None:
    """Without pings a dead client is never noticed; compression costs 34 KiB a connection."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        while (await receive())["type"] != "websocket.disconnect":
            pass

    assert server_config(app, SETTINGS).ws_ping_interval
    async with serving(app, ws_ping_interval=0.1) as url:
        host, port = urlsplit(url).hostname, urlsplit(url).port
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(
            b"GET / HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n"
            b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-extensions: permessage-deflate\r\n\r\n"
        )
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        assert b"101" in head
        assert b"permessage-deflate" not in head
        async with asyncio.timeout(5):
            assert (await reader.readexactly(1))[0] == 0x89, "the first frame is a ping"
        writer.close()


async def test_a_request_for_a_websocket_that_is_too_long_is_answered() -> None:
    """It was left waiting for ever: neither refused nor let in."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise AssertionError("it never gets here")

    async with serving(app) as url:
        host, port = urlsplit(url).hostname, urlsplit(url).port
        for line, header in (("/?x=" + "x" * 9_000, ""), ("/", "cookie: " + "x" * 9_000 + "\r\n")):
            reader, writer = await asyncio.open_connection(host, port)
            writer.write(
                f"GET {line} HTTP/1.1\r\nhost: x\r\n{header}connection: upgrade\r\nupgrade: websocket\r\n"
                "sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
            )
            async with asyncio.timeout(5):
                assert (await reader.read()).startswith(b"HTTP/1.1 431 ")
            writer.close()


async def test_a_websocket_that_is_refused_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    """Uvicorn takes a handshake that was answered with a refusal for one that the application forgot."""

    async def app(_scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        headers = [(b"content-type", b"text/plain"), (b"content-length", b"6")]
        await send({"type": "websocket.http.response.start", "status": 401, "headers": headers})
        await send({"type": "websocket.http.response.body", "body": b"nobody"})

    with caplog.at_level("ERROR", logger="uvicorn.error"):
        logging.getLogger("uvicorn.error").addHandler(caplog.handler)
        async with serving(app) as url:
            with pytest.raises(InvalidStatus) as refused:
                await connect(url.replace("http", "ws"), proxy=None)
        logging.getLogger("uvicorn.error").removeHandler(caplog.handler)
    assert (refused.value.response.status_code, refused.value.response.body) == (401, b"nobody")
    assert caplog.records == []


async def test_an_application_can_break_off_a_connection_whose_client_takes_nothing() -> None:
    """Whatever waits to be sent is dropped, at once and without a word in the log about an unfinished answer."""
    ended = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        cut = scope["state"][CUT]
        asyncio.get_running_loop().call_later(1.0, cut)
        for _ in range(MESSAGES):
            await send({"type": "http.response.body", "body": MESSAGE.encode(), "more_body": True})
        ended.set()

    async with serving(app) as url:
        host, port = urlsplit(url).hostname, urlsplit(url).port
        _, writer = await asyncio.open_connection(host, port, limit=1)
        writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        async with asyncio.timeout(10):
            await ended.wait()
        writer.transport.abort()


def test_the_kernel_lets_go_of_who_is_gone_without_a_word() -> None:
    """Accepted connections have keepalive, and a bound for what is sent and never taken."""
    listening = listen(SETTINGS)
    with listening, socket.create_connection(listening.getsockname()) as _:
        accepted, _address = listening.accept()
        with accepted:
            assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            if hasattr(socket, "TCP_USER_TIMEOUT"):
                assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 60_000
                assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 30
