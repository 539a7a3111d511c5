"""One attempt over HTTP: a signed POST with a deadline, and what came of it as a value. No redirect, cookie or proxy.

It knows neither databases nor schedules. What it returns never says more about a forbidden destination than that it is one.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

import aiohttp
from aiohttp import hdrs
from yarl import URL

from delivery.egress import CheckedResolver, CheckedSockets, EgressPolicy, check_target
from delivery.errors import DestinationNotAllowed
from delivery.retry import Failure, Reply
from delivery.shapes import AttemptTimings
from delivery.timings import MARKS, Marks, TimedConnector, TimedResolver, TimedTls

BODY_READ_MAX: Final = 64 * 1024
BODY_KEPT_MAX: Final = 16 * 1024
CONNECT_TIMEOUT_S: Final = 10.0
_HEADERS_KEPT_MAX: Final = 64
_HEADER_KEPT_MAX: Final = 1024
_SECOND_TRY_WITHIN_S: Final = 1.0
_LOCAL_DNS_TROUBLE: Final = frozenset({socket.EAI_AGAIN, socket.EAI_SYSTEM, socket.EAI_MEMORY})
_LOCAL_SOCKET_TROUBLE: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.EADDRNOTAVAIL})


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """What an endpoint answered: the beginning of the body as it came, decompressed by nobody."""

    status: int
    headers: dict[str, str]
    body: bytes
    truncated: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """What came of an attempt, and the answer where there was one."""

    result: Reply | Failure
    response: Response | None
    timings: AttemptTimings | None = None


class Sender:
    """Owns the one session of a process; made inside the running loop, closed at its end."""

    def __init__(
        self,
        policy: EgressPolicy,
        *,
        connections: int = 1000,
        user_agent: str = "GLedger-Live",
        tls: ssl.SSLContext | None = None,
        proxy: str | None = None,
    ) -> None:
        """Through a proxy (an http URL) nothing else is connected to, and nothing is resolved here but its name."""
        self._policy = policy
        self._proxy = None if proxy is None else URL(proxy)
        # The operator chose the proxy: its address may be a private one.
        checked = policy if proxy is None else replace(policy, allow_private=True)
        self._resolver = CheckedResolver(checked)
        context = tls or ssl.create_default_context()
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.sslobject_class = TimedTls
        connector = TimedConnector(
            limit=connections,
            ssl=context,
            resolver=TimedResolver(self._resolver),
            socket_factory=CheckedSockets(checked),
            ttl_dns_cache=10,
            keepalive_timeout=30,
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            auto_decompress=False,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S),
            headers={hdrs.USER_AGENT: user_agent},
            skip_auto_headers=(hdrs.ACCEPT_ENCODING, hdrs.ACCEPT),
        )

    async def post(
        self,
        url: str,
        body: bytes,
        headers: Mapping[str, str],
        timeout_s: float,
        *,
        tls: ssl.SSLContext | None = None,
    ) -> Sent:
        """Send one request and read its answer, all within the timeout on the loop's clock.

        `tls` is in place of what every connection is made with.
        """
        loop = asyncio.get_running_loop()
        marks = Marks(began=loop.time())
        MARKS.set(marks)
        try:
            async with asyncio.timeout(timeout_s):
                try:
                    sent = await self._exchange(url, body, headers, marks, tls)
                except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
                    # The other side had closed a kept connection before it saw the request: that is no failed attempt.
                    kept = marks.reused and not isinstance(error, aiohttp.ClientConnectorError)
                    if not kept or loop.time() - marks.began > _SECOND_TRY_WITHIN_S:
                        raise
                    sent = await self._exchange(url, body, headers, marks, tls)
        except Exception as error:  # noqa: BLE001 - whatever happens on the network becomes a value here
            sent = Sent(result=Failure(error_class=classify(error)), response=None)
        marks.ended = loop.time()
        return replace(sent, timings=marks.timings())

    async def close(self) -> None:
        """Close every connection."""
        await self._session.close()
        await self._resolver.close()

    async def _exchange(
        self, url: str, body: bytes, headers: Mapping[str, str], marks: Marks, tls: ssl.SSLContext | None
    ) -> Sent:
        if self._proxy is not None:
            # Nobody here sees what the name resolves to; an address in the URL is seen here all the same.
            check_target(url, self._policy)
        async with self._session.post(
            URL(url),
            data=body,
            headers=headers,
            allow_redirects=False,
            proxy=self._proxy,
            ssl=True if tls is None else tls,
        ) as response:
            marks.answered = asyncio.get_running_loop().time()
            read = await _read(response.content)
            if len(read) >= BODY_READ_MAX:
                # What is left is not read to keep a connection.
                response.close()
            kept = Response(
                status=response.status,
                headers=_keep_headers(response.headers),
                body=read[:BODY_KEPT_MAX],
                truncated=len(read) > BODY_KEPT_MAX,
            )
            reply = Reply(
                status=response.status,
                retry_after=response.headers.get(hdrs.RETRY_AFTER),
                directive=response.headers.get("webhook-delivery"),
            )
            return Sent(result=reply, response=kept)


def classify(error: BaseException) -> str:
    """Return the error class of what went wrong; those of ours are in retry.OUR_FAILURES."""
    chain = list(_chain(error))
    if any(isinstance(one, DestinationNotAllowed) for one in chain):
        return "destination_not_allowed"
    for one in chain:
        if isinstance(one, aiohttp.ClientHttpProxyError):
            return _PROXY_ANSWERS.get(one.status, "proxy_unavailable")
        if isinstance(one, aiohttp.ClientProxyConnectionError):
            return "proxy_unavailable"
        if isinstance(one, socket.gaierror):
            return "dns_unavailable" if one.errno in _LOCAL_DNS_TROUBLE else "dns_not_found"
        if isinstance(one, OSError) and one.errno in _LOCAL_SOCKET_TROUBLE:
            return "internal"
    for kinds, error_class in _CLASSES:
        if any(isinstance(one, kinds) for one in chain):
            return error_class
    return "internal"


_PROXY_ANSWERS: Final = {403: "destination_not_allowed", 502: "connection_failed", 504: "timeout"}
"""What a proxy that works says of the endpoint; whatever else it says is its own trouble, and ours."""

_CLASSES: Final[tuple[tuple[tuple[type[BaseException], ...], str], ...]] = (
    ((aiohttp.ClientSSLError, ssl.SSLError, ssl.CertificateError), "tls"),
    ((TimeoutError,), "timeout"),
    ((aiohttp.ClientConnectorError,), "connection_failed"),
    ((aiohttp.InvalidURL, ValueError), "invalid_request"),
    ((aiohttp.ServerDisconnectedError, ConnectionError, aiohttp.ClientOSError), "connection_lost"),
    ((aiohttp.ClientError,), "invalid_response"),
)


async def _read(stream: aiohttp.StreamReader) -> bytes:
    parts: list[bytes] = []
    size = 0
    while size < BODY_READ_MAX:
        part = await stream.read(BODY_READ_MAX - size)
        if not part:
            break
        parts.append(part)
        size += len(part)
    return b"".join(parts)


def _keep_headers(headers: Mapping[str, str]) -> dict[str, str]:
    kept: dict[str, str] = {}
    for name, value in headers.items():
        if len(kept) == _HEADERS_KEPT_MAX:
            break
        # What is not UTF-8 comes as surrogates, which no encoder takes.
        text = value[:_HEADER_KEPT_MAX].encode(errors="surrogateescape").decode(errors="replace")
        kept.setdefault(name[:_HEADER_KEPT_MAX].lower(), text)
    return kept


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        current = getattr(current, "os_error", None) or current.__cause__ or current.__context__
