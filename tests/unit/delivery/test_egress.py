"""Where webhooks may go: hostile targets, in the URL and behind a name, and that no connection to one is ever made."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from ipaddress import ip_address, ip_network
from typing import Self

import aiohttp
import pytest

from delivery.egress import CheckedResolver, CheckedSockets, EgressPolicy, check_url
from delivery.errors import DestinationNotAllowed, InvalidUrl
from delivery.retry import Failure
from delivery.retry import Reply as Answered
from delivery.sender import Sender
from tests.fakes.receiver import Receiver

PUBLIC = EgressPolicy()
PRIVATE = EgressPolicy(allow_private=True)

HOSTILE = (
    "0.0.0.0 0.1.2.3 10.0.0.1 10.255.255.255 100.64.0.1 100.100.100.200 127.0.0.1 127.1.2.3 127.255.255.255 "
    "169.254.0.1 169.254.169.254 169.254.170.2 172.16.0.1 172.31.255.255 192.0.0.1 192.0.0.192 192.0.2.1 "
    "192.88.99.1 192.168.0.1 192.168.255.255 198.18.0.1 198.19.255.255 198.51.100.1 203.0.113.1 168.63.129.16 "
    "224.0.0.1 239.255.255.255 240.0.0.1 255.255.255.255 "
    ":: ::1 ::127.0.0.1 ::8.8.8.8 ::ffff:0.0.0.0 ::ffff:10.0.0.1 ::ffff:127.0.0.1 ::ffff:169.254.169.254 "
    "::ffff:100.64.0.1 ::ffff:168.63.129.16 64:ff9b::7f00:1 64:ff9b::a9fe:a9fe 64:ff9b::808:808 64:ff9b:1::1 "
    "100::1 2001::1 2001:0:7f00:1:: 2001:db8::1 2001:10::1 2001:20::1 2002:7f00:1:: 2002:a9fe:a9fe:: 2002:808:808:: "
    "3fff::1 5f00::1 fc00::1 fd00::1 fd00:ec2::254 fd20:ce::254 fe80::1 fe80::1%eth0 febf::1 fec0::1 ff02::1 ff0e::1 "
    "0.0.0.1 127.0.0.2 169.254.255.255 172.20.10.1 192.168.1.254 100.127.255.255 198.18.255.255 233.252.0.1 250.1.2.3 "
    "::ffff:192.168.1.1 ::ffff:172.16.0.1 ::ffff:224.0.0.1 64:ff9b::c0a8:101 2001:4:112::1 2002:c0a8:101:: fdff::1"
).split()

REACHABLE = (
    "1.1.1.1",
    "8.8.8.8",
    "93.184.216.34",
    "172.32.0.1",
    "100.128.0.1",
    "2606:4700:4700::1111",
    "::ffff:8.8.8.8",
)

# Allowed in development, and the ones that are not even there.
LOCAL = ("127.0.0.1", "127.8.8.8", "10.1.2.3", "172.16.0.1", "192.168.1.1", "::1", "fd12::1", "::ffff:127.0.0.1")


@pytest.fixture
async def sender() -> AsyncIterator[Sender]:
    """A sender under the policy of production."""
    made = Sender(PUBLIC)
    yield made
    await made.close()


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    """A socket on every address of this machine that would be connected to if anybody tried."""
    with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as server:
        server.setblocking(False)
        yield server


def test_the_table_is_as_long_as_promised() -> None:
    """At least eighty hostile addresses stand in it, none twice."""
    assert len(HOSTILE) == len(set(HOSTILE)) >= 80


@pytest.mark.parametrize("address", HOSTILE)
def test_hostile_address_is_refused(address: str) -> None:
    """Private, local, reserved, multicast, translated and metadata addresses are none to connect to."""
    with pytest.raises(DestinationNotAllowed):
        PUBLIC.check_address(address)


@pytest.mark.parametrize("address", REACHABLE)
def test_public_address_is_allowed(address: str) -> None:
    """The internet can be reached."""
    PUBLIC.check_address(address)


@pytest.mark.parametrize("address", [one for one in HOSTILE if one not in LOCAL])
def test_development_opens_only_loopback_and_private_ranges(address: str) -> None:
    """With private addresses allowed, metadata services and everything strange stay closed."""
    networks = [ip_network(one) for one in ("127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7")]
    plain = ip_address(address.partition("%")[0])
    inner = getattr(plain, "ipv4_mapped", None) or plain
    private = any(inner.version == one.version and inner in one for one in networks)
    if private and not address.startswith(("fd00:ec2:", "fd20:ce:")):
        PRIVATE.check_address(address)
    else:
        with pytest.raises(DestinationNotAllowed):
            PRIVATE.check_address(address)


@pytest.mark.parametrize("address", LOCAL)
def test_development_reaches_this_machine(address: str) -> None:
    """A receiver on a laptop works."""
    PRIVATE.check_address(address)


def test_operator_can_deny_more() -> None:
    """A network of the operator's own choice is closed, in development too, and behind a mapped address."""
    for policy in (EgressPolicy(denied=(ip_network("8.8.8.0/24"),)), EgressPolicy(allow_private=True, denied=(ip_network("8.8.8.0/24"),))):  # fmt: skip
        for address in ("8.8.8.8", "::ffff:8.8.8.8"):
            with pytest.raises(DestinationNotAllowed):
                policy.check_address(address)


def test_what_is_no_address_is_refused() -> None:
    """A text that cannot be read is not let through."""
    with pytest.raises(DestinationNotAllowed):
        PUBLIC.check_address("example.com")


@pytest.mark.parametrize(
    "url",
    ["https://example.com/hook", "https://example.com", "https://example.com:443/a?b=c%20d", "https://EXAMPLE.com:8443/",
     "https://xn--bcher-kva.example/hook", "https://8.8.8.8/", "https://[2606:4700:4700::1111]/", "https://a_b.example/x"],
)  # fmt: skip
def test_proper_url_is_accepted(url: str) -> None:
    """Names, international ones in ASCII, and public addresses."""
    check_url(url, PUBLIC)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("https://example.com/" + "a" * 2048, "length"),
        ("https://exa mple.com/", "syntax"), ("https://example.com/\n", "syntax"), ("https://example.com\\@evil/", "syntax"),
        ("https://bücher.example/", "syntax"), ("https://①②⑦.⓪.⓪.①/", "syntax"), ("https://example.com:99999/", "syntax"),
        ("https://example.com:x/", "syntax"), ("https://[::1/", "syntax"),
        ("http://example.com/", "scheme"), ("ftp://example.com/", "scheme"), ("file:///etc/passwd", "scheme"),
        ("//example.com/", "scheme"), ("example.com", "scheme"), ("gopher://example.com:443/", "scheme"),
        ("https://user@example.com/", "userinfo"), ("https://user:word@example.com/", "userinfo"),
        ("https://@example.com/", "userinfo"), ("https://:@example.com/", "userinfo"),
        ("https://example.com/#part", "fragment"), ("https://example.com/#", "fragment"),
        ("https://example.com:80/", "port"), ("https://example.com:22/", "port"), ("https://example.com:0/", "port"),
        ("https:///path", "host"), ("https://-a.example/", "host"), ("https://a..example/", "host"),
        ("https://example.com./", "host"), ("https://%31%32%37.0.0.1/", "host"),
        ("https://2130706433/", "host"), ("https://0x7f000001/", "host"), ("https://0177.0.0.1/", "host"),
        ("https://127.1/", "host"), ("https://0x7f.1/", "host"), ("https://1.2.3.4.5/", "host"),
        ("https://localhost/", "address"), ("https://intranet/", "address"), ("https://a.localhost/", "address"),
        ("https://printer.local/", "address"), ("https://metadata.google.internal/", "address"),
        ("https://127.0.0.1/", "address"), ("https://[::1]/", "address"), ("https://169.254.169.254/latest", "address"),
        ("https://[::ffff:169.254.169.254]/", "address"), ("https://[64:ff9b::a9fe:a9fe]/", "address"),
    ],
)  # fmt: skip
def test_improper_url_is_refused_with_the_reason(url: str, reason: str) -> None:
    """What can be known without a name server is said at registration, by a word that programs can read."""
    with pytest.raises(InvalidUrl) as refused:
        check_url(url, PUBLIC)
    assert (refused.value.reason, refused.value.field) == (reason, "url")


@pytest.mark.parametrize("url", ["https://api.gledger.example/x", "https://API.gledger.example:8443/"])
def test_the_gateway_is_no_receiver(url: str) -> None:
    """A webhook to our own public host, on any port, would call ourselves."""
    with pytest.raises(InvalidUrl) as refused:
        check_url(url, EgressPolicy(own_url="https://api.gledger.example"))
    assert refused.value.reason == "own_host"


def test_development_may_share_the_host_but_not_the_port() -> None:
    """On a laptop gateway and receiver are both localhost."""
    policy = EgressPolicy(allow_private=True, own_url="http://localhost:8080")
    check_url("http://localhost:9000/hook", policy)
    with pytest.raises(InvalidUrl):
        check_url("http://localhost:8080/hook", policy)


async def test_one_bad_answer_condemns_the_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name with a public and a private address is refused as a whole."""
    answer(monkeypatch, ["8.8.8.8", "10.0.0.1"])
    resolver = CheckedResolver(PUBLIC)
    with pytest.raises(DestinationNotAllowed):
        await resolver.resolve("mixed.example", 443)
    await resolver.close()


async def test_name_is_looked_up_once_and_that_answer_is_dialled(
    sender: Sender, monkeypatch: pytest.MonkeyPatch, listening: socket.socket
) -> None:
    """A name that changes its address between check and connection gains nothing: there is no second look-up."""
    asked = answer(monkeypatch, ["::1"], ["8.8.8.8"])
    sent = await sender.post(f"http://rebinding.example:{listening.getsockname()[1]}/", b"{}", {}, 5)
    assert sent.result.error_class == "destination_not_allowed"  # type: ignore[union-attr]
    assert asked == ["rebinding.example"]
    assert untouched(listening)


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "localhost", "LOCALHOST", "0.0.0.0", "[::]", "127.0.0.2"],
)
async def test_no_connection_is_made_to_a_forbidden_target(sender: Sender, listening: socket.socket, host: str) -> None:
    """A literal that no resolver sees and a name that resolves to this machine both end before a packet is sent."""
    sent = await sender.post(f"http://{host}:{listening.getsockname()[1]}/", b"{}", {}, 5)
    assert sent.response is None
    assert sent.result.error_class == "destination_not_allowed"  # type: ignore[union-attr]
    assert untouched(listening)


class Dialled:
    """Every address that a socket of this process was told to connect to, as the interpreter saw it."""

    def __init__(self) -> None:
        self.addresses: list[object] = []
        self.watching = False
        sys.addaudithook(self._hear)

    def _hear(self, event: str, arguments: tuple[object, ...]) -> None:
        if self.watching and event == "socket.connect":
            self.addresses.append(arguments[1])

    def __enter__(self) -> Self:
        self.addresses.clear()
        self.watching = True
        return self

    def __exit__(self, *_: object) -> None:
        self.watching = False


@pytest.fixture(scope="module")
def dialled() -> Dialled:
    """What is heard of connections; the interpreter forgets no hook, so there is one."""
    return Dialled()


async def test_no_socket_is_told_to_connect_to_any_hostile_target(
    sender: Sender, monkeypatch: pytest.MonkeyPatch, dialled: Dialled
) -> None:
    """Each of them in the URL, behind a name, beside a public address, and behind a name that answers otherwise next time."""
    with dialled:
        for address in HOSTILE:
            host = f"[{address}]" if ":" in address else address
            sent = await sender.post(f"http://{host}/", b"{}", {}, 5)
            assert isinstance(sent.result, Failure), address
        for address in HOSTILE:
            plain = address.partition("%")[0]
            for number, answers in enumerate(([plain], ["8.8.8.8", plain], [plain, "2606:4700:4700::1111"])):
                answer(monkeypatch, answers)
                name = f"n{number}-{HOSTILE.index(address)}.example"
                sent = await sender.post(f"http://{name}/", b"{}", {}, 5)
                assert sent.result == Failure(error_class="destination_not_allowed"), (address, answers)
    assert dialled.addresses == []


async def test_a_name_that_answers_otherwise_the_second_time_is_checked_the_second_time(
    sender: Sender, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, dialled: Dialled
) -> None:
    """Once its first answer is forgotten, a name that turned hostile is not connected to."""
    asked = answer(monkeypatch, ["127.0.0.1"], ["10.9.8.7"])
    monkeypatch.setattr(EgressPolicy, "allows", lambda _self, address: str(address) == "127.0.0.1")
    with dialled:
        first = await sender.post(f"http://rebinding.example:{receiver.port}/", b"{}", {"connection": "close"}, 5)
        connector = sender._session.connector
        assert isinstance(connector, aiohttp.TCPConnector)
        connector.clear_dns_cache()
        second = await sender.post(f"http://rebinding.example:{receiver.port}/", b"{}", {}, 5)
    assert first.result == Answered(status=200)
    assert second.result == Failure(error_class="destination_not_allowed")
    assert asked == ["rebinding.example"] * 2
    assert dialled.addresses == [("127.0.0.1", receiver.port)]


@pytest.mark.parametrize("host", ["2130706433", "0x7f.1", "0177.0.0.1", "127.1", "①②⑦.⓪.⓪.①"])
async def test_numbers_in_disguise_reach_nobody(sender: Sender, listening: socket.socket, host: str) -> None:
    """Whatever else the system would read as this machine's address is not connected to."""
    sent = await sender.post(f"http://{host}:{listening.getsockname()[1]}/", b"{}", {}, 5)
    assert sent.response is None
    assert untouched(listening)


def test_sockets_are_made_for_allowed_addresses_only() -> None:
    """The last check stands where the socket is made."""
    make = CheckedSockets(PUBLIC)
    make((socket.AF_INET, socket.SOCK_STREAM, 6, "", ("8.8.8.8", 443))).close()
    with pytest.raises(DestinationNotAllowed):
        make((socket.AF_INET, socket.SOCK_STREAM, 6, "", ("10.0.0.1", 443)))


def untouched(listening: socket.socket) -> bool:
    """Tell whether nobody connected."""
    try:
        listening.accept()[0].close()
    except BlockingIOError:
        return True
    return False


def answer(monkeypatch: pytest.MonkeyPatch, *answers: list[str]) -> list[str]:
    """Let the system's look-up give these answers in turn; return the list of what was asked."""
    asked: list[str] = []
    waiting = list(answers)

    def look_up(host: str | bytes, port: int, **_: object) -> list[object]:
        asked.append(host.decode() if isinstance(host, bytes) else host)
        found = waiting.pop(0)
        return [
            (socket.AF_INET6 if ":" in one else socket.AF_INET, socket.SOCK_STREAM, 6, "", (one, port)) for one in found
        ]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    return asked


async def test_slow_name_servers_do_not_hold_the_loops_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """While look-ups hang, other work of the process still finds a thread."""
    loop = asyncio.get_running_loop()
    asked, go_on = asyncio.Event(), asyncio.Event()

    def look_up(*_: object, **__: object) -> list[object]:
        loop.call_soon_threadsafe(asked.set)
        asyncio.run_coroutine_threadsafe(go_on.wait(), loop).result(10)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    resolver = CheckedResolver(PUBLIC)
    hanging = [asyncio.create_task(resolver.resolve(f"slow{number}.example")) for number in range(20)]
    await asked.wait()
    assert await asyncio.wait_for(asyncio.to_thread(lambda: "free"), 5) == "free"
    go_on.set()
    assert await asyncio.gather(*hanging) == [[]] * 20
    await resolver.close()
