"""Where webhooks may go: which URLs may be registered, which addresses may be dialled, and that nothing gets around it.

A name is resolved once, every answer has to be allowed, and an address of that very answer is dialled; an address in the
URL, which no resolver sees, is checked where the socket is made. After the checks of the text only addresses count:
systems read `0177.1` and `①②⑦.1` as addresses too.
"""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any, Final

from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from delivery.errors import DestinationNotAllowed, InvalidUrl

Network = IPv4Network | IPv6Network
Address = IPv4Address | IPv6Address

RESOLVER_THREADS: Final = 32
PORTS: Final = frozenset({443, 8443})

_LENGTH_MAX: Final = 2048
_URL_CHARACTERS: Final = re.compile(r"[A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=%]+\Z")
_NAME: Final = re.compile(
    r"(?=.{1,253}\Z)([A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?\.)*[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?\Z"
)
_INSPECTOR: Final = re.compile(r"/inspect/[a-z0-9-]{1,63}/[a-z2-7]{26}", re.ASCII)
_NUMBER: Final = re.compile(r"(0[xX][0-9a-fA-F]*|[0-9]+)\Z")

# What `is_global` lets through on some interpreter, or what reaches another network than it seems to.
_DENIED: Final[tuple[Network, ...]] = tuple(
    ip_network(text)
    for text in (
        "0.0.0.0/8",
        "100.64.0.0/10",
        "168.63.129.16/32",
        "192.0.0.0/24",
        "192.88.99.0/24",
        "198.18.0.0/15",
        "240.0.0.0/4",
        "::/96",
        "64:ff9b::/96",
        "64:ff9b:1::/48",
        "100::/64",
        "2001::/23",
        "2002::/16",
        "3fff::/20",
        "5f00::/16",
        "fec0::/10",
    )
)
_PRIVATE: Final[tuple[Network, ...]] = tuple(
    ip_network(text) for text in ("127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "::1/128", "fc00::/7")
)
# Metadata services that live in a private range.
_NEVER: Final[tuple[Network, ...]] = tuple(ip_network(text) for text in ("fd00:ec2::/32", "fd20:ce::/32"))


@dataclass(frozen=True, slots=True, kw_only=True)
class EgressPolicy:
    """What the operator allows. `own_url` is PUBLIC_URL: the gateway never calls itself.

    `allow_private` is for development: it adds loopback and private addresses, plain http and every port, nothing else.
    """

    allow_private: bool = False
    ports: frozenset[int] = PORTS
    own_url: str | None = None
    denied: Sequence[Network] = ()

    def allows(self, address: Address) -> bool:
        """Tell whether a connection to the address may be made."""
        if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
            return self.allows(address.ipv4_mapped)
        if _within(address, self.denied) or _within(address, _NEVER):
            return False
        if self.allow_private and _within(address, _PRIVATE):
            return True
        return address.is_global and not address.is_multicast and not _within(address, _DENIED)

    def check_address(self, text: str) -> None:
        """Accept an address in its text form, a zone cut off; raises DestinationNotAllowed."""
        try:
            address = ip_address(text.partition("%")[0])
        except ValueError:
            raise DestinationNotAllowed(text) from None
        if not self.allows(address):
            raise DestinationNotAllowed(text)


def check_url(url: str, policy: EgressPolicy) -> None:
    """Accept a URL that an endpoint may be registered with; raises InvalidUrl. Nothing is resolved here."""
    if len(url) > _LENGTH_MAX:
        raise InvalidUrl("length", f"the URL is longer than {_LENGTH_MAX} characters")
    if not _URL_CHARACTERS.match(url):
        raise InvalidUrl("syntax", "the URL has characters that a URL cannot have; write them percent- or IDNA-encoded")
    try:
        parsed = URL(url)
        port = parsed.port
    except ValueError as error:
        raise InvalidUrl("syntax", f"this is not a URL: {error}") from None
    if parsed.scheme != "https" and not (policy.allow_private and parsed.scheme == "http"):
        raise InvalidUrl("scheme", "the URL has to begin with https://")
    # The authority is checked as text too: "https://@host" has an empty user that a parser forgets.
    if "@" in url.split("://", 1)[1].split("/", 1)[0].split("?", 1)[0]:
        raise InvalidUrl("userinfo", "the URL must not hold a user name or a password")
    if "#" in url:
        raise InvalidUrl("fragment", "the URL must not have a fragment")
    if not policy.allow_private and port not in policy.ports:
        allowed = ", ".join(str(one) for one in sorted(policy.ports))
        raise InvalidUrl("port", f"the port has to be one of {allowed}")
    _check_host(parsed.raw_host or "", policy)
    own = policy.own_url
    if (
        own is not None
        and _same_host(parsed, URL(own), ports_too=policy.allow_private)
        and not _inspects(parsed, URL(own))
    ):
        raise InvalidUrl("own_host", "the gateway does not send webhooks to itself")


def check_target(url: str, policy: EgressPolicy) -> None:
    """Accept a URL whose host is a name, or an address that is allowed; raises DestinationNotAllowed."""
    host = URL(url).raw_host or ""
    try:
        _check_host(host, policy)
    except InvalidUrl:
        raise DestinationNotAllowed(host) from None


def _inspects(url: URL, own_url: URL) -> bool:
    """Tell whether a URL of this server is an inspector's, the one address here that webhooks may be sent to."""
    return _INSPECTOR.fullmatch(url.raw_path.removeprefix(own_url.raw_path.rstrip("/"))) is not None


class CheckedResolver(AbstractResolver):
    """Resolves a name once and gives the answers only if the policy allows every one of them."""

    def __init__(self, policy: EgressPolicy) -> None:
        self._policy = policy
        # Threads of its own: a partner's slow name server must not hold up what else runs on the loop's threads.
        self._threads = ThreadPoolExecutor(RESOLVER_THREADS, thread_name_prefix="resolver")

    async def resolve(
        self,
        host: str,
        port: int = 0,
        family: socket.AddressFamily = socket.AF_UNSPEC,
    ) -> list[ResolveResult]:
        """Return the addresses of a name; raises DestinationNotAllowed if one is not allowed, OSError if there is none."""
        found = await asyncio.get_running_loop().run_in_executor(self._threads, self._look_up, host, port, family)
        results: list[ResolveResult] = []
        for address_family, _type, protocol, _name, address in found:
            text = str(address[0])
            self._policy.check_address(text)
            results.append(
                ResolveResult(
                    hostname=host,
                    host=text,
                    port=port,
                    family=address_family,
                    proto=protocol,
                    flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
                ),
            )
        return results

    async def close(self) -> None:
        """Let go of the threads; a look-up under way is not waited for."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _look_up(self, host: str, port: int, family: socket.AddressFamily) -> list[Any]:
        return socket.getaddrinfo(host, port, family=family, type=socket.SOCK_STREAM)


class CheckedSockets:
    """Makes the socket of every connection, and none to an address that the policy forbids."""

    def __init__(self, policy: EgressPolicy) -> None:
        self._policy = policy

    def __call__(self, address_info: tuple[Any, ...]) -> socket.socket:
        """Return a socket for one resolved address; raises DestinationNotAllowed."""
        family, kind, protocol, _name, address = address_info
        self._policy.check_address(str(address[0]))
        return socket.socket(family=family, type=kind, proto=protocol)


def _check_host(host: str, policy: EgressPolicy) -> None:
    if ":" in host:
        _check_literal(host, policy)
        return
    if not _NAME.match(host):
        raise InvalidUrl("host", "the host is not a name; write an international one IDNA-encoded (xn--)")
    if _NUMBER.match(host.rpartition(".")[2]):
        _check_literal(host, policy)
    elif not policy.allow_private and ("." not in host or host.lower().endswith((".localhost", ".local", ".internal"))):
        raise InvalidUrl("address", "the host is not one of the public internet")


def _check_literal(host: str, policy: EgressPolicy) -> None:
    try:
        ip_address(host.partition("%")[0])
    except ValueError:
        raise InvalidUrl("host", "the host is a number that is not written as an address") from None
    try:
        policy.check_address(host)
    except DestinationNotAllowed:
        raise InvalidUrl("address", "the host's address is not one of the public internet") from None


def _same_host(one: URL, other: URL, *, ports_too: bool) -> bool:
    return (one.raw_host or "").lower() == (other.raw_host or "").lower() and (not ports_too or one.port == other.port)


def _within(address: Address, networks: Sequence[Network]) -> bool:
    return any(address.version == network.version and address in network for network in networks)
