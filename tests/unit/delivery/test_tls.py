"""TLS against real receivers: what is refused, authorities and certificates of an endpoint's own, and a proxy between."""

from __future__ import annotations

import asyncio
import ssl
import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from delivery.egress import EgressPolicy
from delivery.errors import InvalidTls
from delivery.retry import OUR_FAILURES, Failure
from delivery.retry import Reply as Answered
from delivery.rows import Identity
from delivery.sender import Sender
from delivery.tls import context, read_identity
from tests.fakes.certificates import Authority, Issued
from tests.fakes.receiver import Receiver

LOCAL = "127.0.0.1"
PRIVATE = EgressPolicy(allow_private=True)


@pytest.fixture(scope="module")
def authority() -> Authority:
    """An authority that nobody trusts unless told."""
    return Authority.make()


@pytest.fixture
async def sender() -> AsyncIterator[Sender]:
    """A sender that may reach this machine."""
    made = Sender(PRIVATE)
    yield made
    await made.close()


async def test_an_endpoints_own_authority_vouches_for_it_and_for_nobody_else(
    authority: Authority, sender: Sender
) -> None:
    """What the public authorities do not know is refused unless the endpoint names its own; the handshake is timed."""
    trusting = context(Identity(ca=authority.pem), None)
    async with Receiver(tls=authority.issue(LOCAL).server()) as receiver:
        refused = await sender.post(receiver.url("/"), b"{}", {}, 5)
        assert refused.result == Failure(error_class="tls")
        sent = await sender.post(receiver.url("/"), b"{}", {}, 5, tls=trusting)
        assert sent.result == Answered(status=200)
        assert sent.timings is not None
        assert sent.timings.tls_ms is not None
        assert sent.timings.connect_ms is not None
        assert sent.timings.total_ms >= sent.timings.tls_ms > 0
        again = await sender.post(receiver.url("/"), b"{}", {}, 5, tls=trusting)
        assert again.timings is not None
        assert (again.timings.connection_reused, again.timings.tls_ms) == (True, None)
        other = context(Identity(ca=Authority.make().pem), None)
        assert (await sender.post(receiver.url("/"), b"{}", {}, 5, tls=other)).result == Failure(error_class="tls")
        assert len(receiver.received) == 2


@pytest.mark.parametrize(("names", "days"), [(("elsewhere.example",), 30), ((LOCAL,), -1)])
async def test_another_name_and_a_certificate_that_ran_out_are_refused(
    authority: Authority, sender: Sender, names: tuple[str, ...], days: int
) -> None:
    """Names and dates are checked for authorities of an endpoint's own too."""
    trusting = context(Identity(ca=authority.pem), None)
    async with Receiver(tls=authority.issue(*names, days=days).server()) as receiver:
        sent = await sender.post(receiver.url("/"), b"{}", {}, 5, tls=trusting)
        assert sent.result == Failure(error_class="tls")
        assert receiver.received == []


@pytest.mark.parametrize(
    ("version", "accepted"),
    [(ssl.TLSVersion.TLSv1_1, False), (ssl.TLSVersion.TLSv1_2, True), (ssl.TLSVersion.TLSv1_3, True)],
)
async def test_nothing_older_than_tls_1_2_is_spoken(
    authority: Authority, sender: Sender, version: ssl.TLSVersion, accepted: bool
) -> None:
    """A receiver that can no more is not delivered to."""
    server = authority.issue(LOCAL).server()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        server.set_ciphers("DEFAULT:@SECLEVEL=0")
        server.minimum_version = ssl.TLSVersion.TLSv1 if not accepted else version
        server.maximum_version = version
    async with Receiver(tls=server) as receiver:
        sent = await sender.post(receiver.url("/"), b"{}", {}, 5, tls=context(Identity(ca=authority.pem), None))
        assert isinstance(sent.result, Answered) is accepted
        assert len(receiver.received) == accepted


async def test_a_client_certificate_opens_a_receiver_that_demands_one(authority: Authority, sender: Sender) -> None:
    """Without it, or with one of another authority, nothing is delivered."""
    clients = Authority.make()
    ours, strange = clients.issue("client.example"), authority.issue("client.example")

    def with_certificate(issued: Issued) -> ssl.SSLContext:
        return context(read_identity(issued.pem, issued.key_pem, authority.pem), issued.key_pem)

    async with Receiver(tls=authority.issue(LOCAL).server(clients=clients.pem)) as receiver:
        for refused in (context(Identity(ca=authority.pem), None), with_certificate(strange)):
            sent = await sender.post(receiver.url("/"), b"{}", {}, 5, tls=refused)
            assert isinstance(sent.result, Failure)
            assert sent.result.error_class not in OUR_FAILURES
        assert receiver.received == []
        opened = await sender.post(receiver.url("/"), b"{}", {}, 5, tls=with_certificate(ours))
        assert opened.result == Answered(status=200)


def test_what_cannot_be_used_is_refused_by_its_name(authority: Authority) -> None:
    """Half of a pair, a key of another certificate, what is no PEM: each where it was given."""
    one, two = authority.issue("a.example"), authority.issue("b.example")
    for given, member in (
        ((one.pem, None, None), "private_key"),
        ((None, one.key_pem, None), "private_key"),
        ((one.pem, two.key_pem, None), "private_key"),
        ((one.pem, "nonsense", None), "private_key"),
        (("nonsense", one.key_pem, None), "certificate"),
        ((None, None, "nonsense"), "ca"),
    ):
        with pytest.raises(InvalidTls) as refused:
            read_identity(*given)
        assert refused.value.member == member
    whole = read_identity(one.pem, one.key_pem, authority.pem)
    assert whole.expires_at == round(one.certificate.not_valid_after_utc.timestamp()) * 1_000_000


class Proxy:
    """An HTTP proxy that knows CONNECT, and what it was asked for."""

    def __init__(self, answer: bytes = b"HTTP/1.1 200 OK\r\n\r\n") -> None:
        self.asked: list[str] = []
        self.answer = answer
        self.target = 0
        self.url = ""

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Proxy]:
        """Listen for the block."""
        server = await asyncio.start_server(self._serve, LOCAL, 0)
        self.url = f"http://user:s3cret@{LOCAL}:{server.sockets[0].getsockname()[1]}"
        async with server:
            yield self

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        self.asked.append(head)
        writer.write(self.answer)
        await writer.drain()
        if b" 200 " in self.answer:
            far_reader, far_writer = await asyncio.open_connection(LOCAL, self.target)
            await asyncio.gather(_pipe(reader, far_writer), _pipe(far_reader, writer))
        writer.close()


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()


async def test_everything_goes_through_the_proxy_and_is_encrypted_through_it(authority: Authority) -> None:
    """The proxy is asked for the name, which nobody here resolves, and sees nothing of what is inside."""
    async with Receiver(tls=authority.issue("partner.example").server()) as receiver, Proxy().running() as proxy:
        proxy.target = receiver.port
        sender = Sender(EgressPolicy(), proxy=proxy.url)
        try:
            trusting = context(Identity(ca=authority.pem), None)
            sent = await sender.post("https://partner.example/hook", b'{"a":1}', {}, 5, tls=trusting)
            literal = await sender.post("https://10.0.0.1/hook", b"{}", {}, 5)
        finally:
            await sender.close()
        assert sent.result == Answered(status=200)
        assert literal.result == Failure(error_class="destination_not_allowed")
        (got,) = receiver.received
        assert (got.headers["host"], got.body) == ("partner.example", b'{"a":1}')
        (asked,) = proxy.asked
        assert asked.startswith("CONNECT partner.example:443 HTTP/1.1\r\n")
        assert "Proxy-Authorization: Basic" in asked


@pytest.mark.parametrize(
    ("answer", "error_class"),
    [
        (b"HTTP/1.1 403 Forbidden\r\n\r\n", "destination_not_allowed"),
        (b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "proxy_unavailable"),
        (b"HTTP/1.1 500 Oh\r\n\r\n", "proxy_unavailable"),
        (b"HTTP/1.1 502 Bad Gateway\r\n\r\n", "connection_failed"),
        (b"HTTP/1.1 504 Gateway Timeout\r\n\r\n", "timeout"),
    ],
)
async def test_the_proxys_own_trouble_is_ours(answer: bytes, error_class: str) -> None:
    """It takes nothing from the endpoint's schedule; what it says of the endpoint is the endpoint's."""
    async with Proxy(answer).running() as proxy:
        sender = Sender(EgressPolicy(), proxy=proxy.url)
        try:
            sent = await sender.post("https://partner.example/", b"{}", {}, 5)
        finally:
            await sender.close()
    assert sent.result == Failure(error_class=error_class)
    assert (error_class in OUR_FAILURES) == (error_class == "proxy_unavailable")


async def test_a_proxy_that_is_away_is_ours() -> None:
    """Nobody listens where it should."""
    async with Proxy().running() as proxy:
        gone = proxy.url
    sender = Sender(EgressPolicy(), proxy=gone)
    try:
        sent = await sender.post("https://partner.example/", b"{}", {}, 5)
    finally:
        await sender.close()
    assert sent.result == Failure(error_class="proxy_unavailable")
