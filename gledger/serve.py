"""Serving: the gateway's application over the parts, in a uvicorn server that ends its streams before it ends."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from importlib.resources import files
from types import FrameType
from typing import Any, Final

import structlog
import uvicorn
from sqlalchemy import text
from sse_starlette.sse import AppStatus
from starlette.types import ASGIApp

from auth.minting import Minting
from auth.server import OAuthEndpoints
from delivery.figures import Figures
from delivery.inspector import Inspectors
from gateway.app import build
from gateway.call import Services, StreamSettings
from gateway.metrics import Metrics
from gateway.tailers import Tailers
from gledger import memory
from gledger.limiter import RateLimiter
from gledger.parts import Parts, open_parts
from gledger.protocols import HttpProtocol, SocketProtocol
from gledger.settings import Settings
from gledger.wakeups import WakeUp

REFRESH_S: Final = 2.0
Listening = socket.socket
_BACKLOG: Final = 2048
_RESTART_S: Final = 1.0
# Accepted connections take these over: who is gone without a word, or takes nothing, is noticed by the kernel within a minute.
_KEEPALIVE: Final = {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3, "TCP_USER_TIMEOUT": 60_000}
# Of the seconds a process has to end: for streams to say why, for requests under way, and a rest for what was queued.
_LAST_WORDS_SHARE: Final = 0.2
_ANSWERS_SHARE: Final = 0.4
_log = structlog.get_logger("gledger.serve")


class Gateway:
    """The HTTP surface of one process and what it does in the background."""

    def __init__(self, parts: Parts) -> None:
        """Put the application together."""
        self._parts = parts
        self.tailers = Tailers(parts.engine, parts.clock)
        parts.listeners.head.append(self.tailers.wake)
        settings = parts.settings
        self.app: ASGIApp = build(
            Services(
                engine=parts.engine,
                endpoints=parts.endpoints,
                log=parts.log,
                replay=parts.replay,
                replays=parts.replays,
                skip=parts.skip,
                figures=Figures(parts.databases),
                inspectors=Inspectors(
                    parts.databases, clock=parts.clock, ids=parts.ids, public_url=settings.public_url
                ),
                api_keys=parts.authority.api_keys,
                clients=parts.authority.clients,
                people=parts.authority.people,
                sessions=parts.authority.sessions,
                mint=Minting(parts.authority.keyring, parts.authority.issuers),
                authenticator=parts.authority.authenticator,
                oauth=OAuthEndpoints(parts.authority, clock=parts.clock.now_us),
                tailers=self.tailers,
                limiter=RateLimiter(settings.rate_limit_per_s, time.monotonic),
                metrics=Metrics(parts.registry),
                ready=self._checks,
                documents=documents(),
                clock=parts.clock,
                ids=parts.ids,
                public_url=settings.public_url,
                metrics_token=settings.metrics_token or None,
                stream=StreamSettings(
                    idle_checkpoint_s=settings.stream_checkpoint_s,
                    send_timeout_s=settings.stream_send_timeout_s,
                    lifetime_s=float(settings.stream_max_seconds),
                    origins=settings.stream_origins,
                ),
            ),
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Keep credentials fresh and tailers few while the block runs, and close every stream's tailer after it."""
        tasks = [asyncio.create_task(self._refresh()), asyncio.create_task(self._sweep_tailers())]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self.tailers.close()

    def heard(self, message: WakeUp) -> None:
        """Take a wake-up from another process."""
        if message.head is not None:
            self.tailers.wake(message.site, message.head)

    async def _refresh(self) -> None:
        while True:
            await asyncio.sleep(REFRESH_S)
            try:
                await self._parts.authority.authenticator.refresh(self._parts.clock.now_us())
                await self._parts.authority.authenticator.note_uses()
            except Exception as error:  # noqa: BLE001 - what is known stays; the next round may reach the database
                _log.warning("credentials.not_refreshed", error=str(error))

    async def _sweep_tailers(self) -> None:
        while True:
            await asyncio.sleep(30)
            await self.tailers.sweep()

    async def _checks(self) -> Mapping[str, bool]:
        """Ask what nothing is served without; a lost Redis only delays, and takes nobody out of service."""
        try:
            async with asyncio.timeout(2):
                answer = await self._parts.control.read(lambda conn: conn.execute(text("SELECT 1")).scalar())
        except Exception:  # noqa: BLE001 - whatever it is, it did not answer
            return {"control_database": False}
        return {"control_database": answer == 1}


class Server(uvicorn.Server):
    """A uvicorn server that tells its streams to end as soon as it is told to."""

    def __init__(
        self,
        config: uvicorn.Config,
        tailers: Tailers,
        stop: asyncio.Event | None = None,
        *,
        last_words_s: float = 5.0,
        parent_fd: int | None = None,
    ) -> None:
        """`last_words_s` is how long streams have to say why they end; `stop` is set when that begins.

        `parent_fd` is the end of a pipe whose other end only the process that started this one holds.
        """
        super().__init__(config)
        self._parent_fd = parent_fd
        self._tailers = tailers
        self._stop = stop
        self._last_words_s = last_words_s
        self._loop: asyncio.AbstractEventLoop | None = None

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve until a signal says stop, and return when everything is answered."""
        self._loop = asyncio.get_running_loop()
        if self._parent_fd is not None:
            self._loop.add_reader(self._parent_fd, self._orphaned)
        await super().serve(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 - the signature is uvicorn's
        """Begin to drain.

        The signal is used up here: uvicorn would raise it again after serving, and the process would die of it with
        its work unfinished.
        """
        if self.should_exit and sig == signal.SIGINT:
            self.force_exit = True
        self.should_exit = True
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._drain)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop accepting and let streams say why they end; only then end what is left: uvicorn cuts WebSockets off."""
        for server in self.servers:
            server.close()
        for each in sockets or ():
            each.close()
        self._drain()
        await self._tailers.quiet(self._last_words_s)
        await super().shutdown(sockets)

    def _orphaned(self) -> None:
        """Drain: whoever started this process is gone, and nobody else would ever tell it to end."""
        if self._loop is not None and self._parent_fd is not None:
            self._loop.remove_reader(self._parent_fd)
        _log.warning("gateway.orphaned")
        self.handle_exit(signal.SIGTERM, None)

    def _drain(self) -> None:
        self._tailers.drain()
        if self._stop is not None:
            self._stop.set()


def server_config(app: ASGIApp, settings: Settings) -> uvicorn.Config:
    """Return how uvicorn serves the application."""
    AppStatus.enable_automatic_graceful_drain = False
    proxies = [str(each) for each in settings.trusted_proxies]
    return uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        http=HttpProtocol,
        loop="uvloop",
        ws=SocketProtocol,
        ws_per_message_deflate=False,
        ws_max_size=64 * 1024,
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=bool(proxies),
        forwarded_allow_ips=proxies or None,
        backlog=_BACKLOG,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=max(1, int(settings.drain_timeout_s * _ANSWERS_SHARE)),
    )


async def serve_gateway(settings: Settings, listening: socket.socket, parent_fd: int | None = None) -> None:
    """Serve until told to stop by a signal, or until the process at the other end of `parent_fd` is gone."""
    async with open_parts(settings) as parts:
        gateway = Gateway(parts)
        parts.listeners.head.append(parts.wakeups.head)
        parts.listeners.due.append(parts.wakeups.due)
        parts.listeners.replay.append(parts.wakeups.replay)
        wakeups = [asyncio.create_task(parts.wakeups.run()), asyncio.create_task(parts.wakeups.listen(gateway.heard))]
        server = Server(
            server_config(gateway.app, settings),
            gateway.tailers,
            last_words_s=settings.drain_timeout_s * _LAST_WORDS_SHARE,
            parent_fd=parent_fd,
        )
        memory.settle()
        try:
            async with gateway.running():
                await server.serve(sockets=[listening])
        finally:
            for task in wakeups:
                task.cancel()
            await asyncio.gather(*wakeups, return_exceptions=True)


def listen(settings: Settings) -> socket.socket:
    """Return the listening socket; raises OSError where the address is taken.

    The process may have as many connections as the system lets it: the soft limit is what a shell happened to have.
    """
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    for name, value in _KEEPALIVE.items():
        # What a kernel does not know stays at its own default.
        option = getattr(socket, name, None)
        if option is not None:
            listening.setsockopt(socket.IPPROTO_TCP, option, value)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    listening.bind((settings.host, settings.port))
    listening.listen(_BACKLOG)
    listening.set_inheritable(True)
    return listening


def supervise(listening: socket.socket, workers: int) -> int:
    """Run several gateway processes on one socket: start again what dies, pass on the signal to stop; return 0.

    Should this process be killed, the system closes its end of a pipe, and the others drain: none stays on the port unseen.
    """
    fds = listening.fileno(), os.pipe()[0]
    command = [sys.executable, "-m", "gledger", "gateway", "--fd", str(fds[0]), "--parent-fd", str(fds[1])]
    stopping = False
    children: list[subprocess.Popen[Any]] = []
    told: list[subprocess.Popen[Any]] = []

    def stop(_signal: int, _frame: FrameType | None) -> None:
        nonlocal stopping
        stopping = True
        for child in children:
            if child not in told:
                told.append(child)
                with contextlib.suppress(ProcessLookupError):
                    child.send_signal(signal.SIGTERM)

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    while not stopping:
        children[:] = [child for child in children if child.poll() is None]
        while len(children) < workers and not stopping:
            children.append(subprocess.Popen(command, pass_fds=fds, env=os.environ))
        time.sleep(_RESTART_S)
    # One that was being started when the signal came has not heard of it.
    stop(signal.SIGTERM, None)
    for child in children:
        child.wait()
    return 0


def documents() -> dict[str, tuple[str, bytes]]:
    """Return the committed descriptions of the API by path, with their media types."""
    folder = files("openapi")
    return {
        "/openapi.json": ("application/json", folder.joinpath("openapi.json").read_bytes()),
        "/asyncapi.json": ("application/json", folder.joinpath("asyncapi.json").read_bytes()),
        "/openapi.yaml": ("application/yaml", folder.joinpath("openapi.yaml").read_bytes()),
        "/api.raml": ("application/raml+yaml", folder.joinpath("api.raml").read_bytes()),
    }
