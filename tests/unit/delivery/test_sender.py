"""One attempt over real HTTP: what is sent, how it ends, and that nothing a receiver does can hold or fill the sender."""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
from collections.abc import AsyncIterator

import aiohttp
import pytest

from delivery.egress import EgressPolicy
from delivery.retry import OUR_FAILURES, Failure
from delivery.retry import Reply as Answered
from delivery.sender import BODY_KEPT_MAX, Sender, classify
from tests.fakes.receiver import DROPPED, Receiver, Reply, moved, too_many

HEADERS = {"content-type": "application/json", "webhook-id": "m"}


@pytest.fixture
async def sender() -> AsyncIterator[Sender]:
    """A sender that may reach this machine."""
    made = Sender(EgressPolicy(allow_private=True))
    yield made
    await made.close()


async def test_exactly_the_given_bytes_and_headers_are_posted(sender: Sender, receiver: Receiver) -> None:
    """The body is untouched, the agent is named, nothing is asked for that would be compressed."""
    body = b'{"a": 1,\n "b": "\xc3\xa9"}'
    sent = await sender.post(receiver.url("/hook?x=1&y=2"), body, HEADERS, 5)
    (got,) = receiver.received
    assert sent.result == Answered(status=200)
    assert (got.method, got.path, got.query, got.body) == ("POST", "/hook", "x=1&y=2", body)
    assert (got.headers["content-type"], got.headers["user-agent"]) == ("application/json", "GLedger-Live")
    assert not {"accept-encoding", "cookie", "authorization"} & got.headers.keys()


async def test_redirect_is_not_followed(sender: Sender, receiver: Receiver) -> None:
    """A 302 is the answer, and its target sees nothing."""
    receiver.script("/old", moved(receiver.url("/new")))
    sent = await sender.post(receiver.url("/old"), b"{}", HEADERS, 5)
    assert sent.result == Answered(status=302)
    assert receiver.at("/new") == []


async def test_cookies_are_not_kept(sender: Sender, receiver: Receiver) -> None:
    """What one answer sets no later request carries."""
    receiver.script("/", Reply(headers={"Set-Cookie": "a=b"}))
    for _ in range(2):
        await sender.post(receiver.url(), b"{}", HEADERS, 5)
    assert all("cookie" not in request.headers for request in receiver.received)


async def test_proxy_of_the_environment_is_ignored(
    sender: Sender, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy variable would lead around the address policy."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert (await sender.post(receiver.url(), b"{}", HEADERS, 5)).result == Answered(status=200)


async def test_retry_after_is_handed_on(sender: Sender, receiver: Receiver) -> None:
    """The header comes with the answer as it is."""
    receiver.script("/", too_many("17"))
    assert (await sender.post(receiver.url(), b"{}", HEADERS, 5)).result == Answered(status=429, retry_after="17")


async def test_silent_receiver_ends_at_the_timeout(sender: Sender, receiver: Receiver) -> None:
    """The deadline is for the whole attempt."""
    hold = asyncio.Event()
    receiver.script("/", Reply(hold=hold))
    sent = await sender.post(receiver.url(), b"{}", HEADERS, 0.05)
    hold.set()
    assert (sent.result, sent.response) == (Failure(error_class="timeout"), None)


async def test_endless_body_is_cut(sender: Sender, receiver: Receiver) -> None:
    """A body without end costs 64 KiB, and its beginning is kept."""
    receiver.script("/", Reply(endless=True, body=b"x" * 1000))
    sent = await sender.post(receiver.url(), b"{}", HEADERS, 10)
    assert sent.result == Answered(status=200)
    assert sent.response is not None
    assert (len(sent.response.body), sent.response.truncated) == (BODY_KEPT_MAX, True)


async def test_compressed_bomb_is_not_unpacked(sender: Sender, receiver: Receiver) -> None:
    """Nobody asked for compression, so what comes is kept as it came."""
    receiver.script("/", Reply(headers={"Content-Encoding": "gzip"}, body=b"\x1f\x8bnot gzip at all"))
    sent = await sender.post(receiver.url(), b"{}", HEADERS, 5)
    assert sent.response is not None
    assert sent.response.body == b"\x1f\x8bnot gzip at all"


async def test_body_of_16_kib_is_kept_whole(sender: Sender, receiver: Receiver) -> None:
    """The limit itself is within it."""
    receiver.script("/", Reply(body=b"x" * BODY_KEPT_MAX), Reply(body=b"x" * (BODY_KEPT_MAX + 1)))
    kept = [(await sender.post(receiver.url(), b"{}", HEADERS, 5)).response for _ in range(2)]
    assert [one.truncated for one in kept if one is not None] == [False, True]


async def test_closed_port_is_a_failed_connection(sender: Sender, receiver: Receiver) -> None:
    """Nobody listens there."""
    await receiver.stop()
    sent = await sender.post(receiver.url(), b"{}", HEADERS, 5)
    assert sent.result == Failure(error_class="connection_failed")


async def test_dropped_connection_is_one_failed_attempt(sender: Sender, receiver: Receiver) -> None:
    """A fresh connection that is dropped is the receiver's doing: no hidden second request."""
    receiver.script("/", DROPPED)
    sent = await sender.post(receiver.url(), b"{}", HEADERS, 5)
    assert sent.result == Failure(error_class="connection_lost")
    assert len(receiver.received) == 1


async def test_kept_connection_that_was_closed_meanwhile_is_replaced(sender: Sender, receiver: Receiver) -> None:
    """A receiver that restarts between two deliveries costs no failed attempt."""
    assert (await sender.post(receiver.url(), b"{}", HEADERS, 5)).result == Answered(status=200)
    receiver.script("/", DROPPED, Reply(status=201))
    assert (await sender.post(receiver.url(), b"{}", HEADERS, 5)).result == Answered(status=201)


async def test_what_is_not_http_is_an_invalid_response(sender: Sender) -> None:
    """Another protocol behind the port is told apart from a broken connection."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        sent = await sender.post(f"http://127.0.0.1:{port}/", b"{}", HEADERS, 5)
    assert sent.result == Failure(error_class="invalid_response")


async def test_header_bytes_that_are_no_text_are_kept_readable(sender: Sender) -> None:
    """Raw bytes in a header become text that every encoder takes."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"{}")
        writer.write(b"HTTP/1.1 200 OK\r\nX-Raw: \xff\xfe\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        sent = await sender.post(f"http://127.0.0.1:{port}/", b"{}", HEADERS, 5)
    assert sent.response is not None
    assert sent.response.headers["x-raw"].encode()


async def test_tls_is_verified(sender: Sender, receiver: Receiver) -> None:
    """A plain port under https:// is a failure of TLS, not a success in clear."""
    sent = await sender.post(receiver.url().replace("http://", "https://"), b"{}", HEADERS, 5)
    assert sent.result == Failure(error_class="tls")
    assert receiver.received == []


async def test_old_tls_is_not_spoken() -> None:
    """TLS 1.2 is the oldest version, whatever context is handed in."""
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    made = Sender(EgressPolicy(), tls=context)
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    await made.close()


@pytest.mark.parametrize(
    ("error", "error_class"),
    [
        (socket.gaierror(socket.EAI_AGAIN, "temporary"), "dns_unavailable"),
        (socket.gaierror(socket.EAI_NONAME, "unknown"), "dns_not_found"),
        (OSError(errno.EMFILE, "too many open files"), "internal"),
        (TimeoutError(), "timeout"),
        (ssl.SSLError("bad"), "tls"),
        (ConnectionResetError(), "connection_lost"),
        (aiohttp.ClientPayloadError(), "invalid_response"),
        (ValueError("Newline in headers"), "invalid_request"),
        (RuntimeError("a mistake here"), "internal"),
    ],
)
def test_errors_are_told_apart(error: Exception, error_class: str) -> None:
    """Who is at fault follows from the kind of error; a mistake of ours is ours."""
    assert classify(error) == error_class
    assert (error_class in OUR_FAILURES) == (error_class in {"dns_unavailable", "internal"})


async def test_name_that_cannot_be_resolved_for_now_is_our_trouble(
    sender: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name server that does not answer is found behind the client's own exceptions."""

    def look_up(*_: object, **__: object) -> list[object]:
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    sent = await sender.post("http://partner.example/", b"{}", HEADERS, 5)
    assert sent.result == Failure(error_class="dns_unavailable")
