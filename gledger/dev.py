"""`gledger dev`: gateway and worker in one process with an embedded Valkey, on SQLite files in one folder."""

from __future__ import annotations

import asyncio
import base64
import os
import secrets
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Final, NoReturn

import msgspec
import uvloop

from gledger import memory, serve
from gledger.embedded import Valkey, data_folder
from gledger.errors import ProgramError
from gledger.parts import Parts, open_parts
from gledger.readers import MASTER_KEY_BYTES, master_key
from gledger.settings import Settings
from gledger.sites import (
    CredentialsFile,
    bootstrap,
    credentials_file,
    first_administrator,
    portal_url,
    read_credentials,
    write_private,
)
from gledger.worker import DeliveryWorker

ORGANIZATION: Final = "acme-corp"
ENVIRONMENT: Final = "sandbox"
CREDENTIALS: Final = "credentials.json"
TERMINATED: Final = 128 + signal.SIGTERM
"""The exit code of a program that was told to stop before it served."""
# The database's thread hands the interpreter back sooner than by default: a statement should not wait 5 ms for it.
_SWITCH_INTERVAL_S: Final = 0.0005

Story = Callable[[CredentialsFile, Path], Awaitable[bool]]


def run(settings: Settings, story: Story | None) -> int:
    """Serve until stopped, telling the story first if there is one; return the exit code."""
    if not settings.database_url.startswith("sqlite"):
        raise ProgramError(
            "gledger dev serves SQLite files: unset GLEDGER_DATABASE_URL, or use gledger gateway and worker"
        )
    # Until requests are served nobody else listens to it, and dying of it would leave the embedded server behind.
    signal.signal(signal.SIGTERM, _leave)
    with ExitStack() as held:
        folder = held.enter_context(data_folder(settings.data))
        listening = held.enter_context(_listen(settings))
        port = listening.getsockname()[1]
        settings = _complete(settings, folder, port)
        if not settings.redis_url:
            valkey = held.enter_context(Valkey(folder / "valkey"))
            settings = replace(settings, redis_url=valkey.url)
        sys.setswitchinterval(_SWITCH_INTERVAL_S)
        try:
            return uvloop.run(_serve(settings, listening, story))
        except asyncio.CancelledError:
            return TERMINATED


async def _serve(settings: Settings, listening: serve.Listening, story: Story | None) -> int:
    stop = asyncio.Event()
    loop, starting = asyncio.get_running_loop(), asyncio.current_task()
    if starting is not None:
        loop.add_signal_handler(signal.SIGTERM, starting.cancel)
    async with open_parts(settings) as parts:
        gateway = serve.Gateway(parts)
        worker = DeliveryWorker(parts)
        parts.listeners.head.append(worker.wake)
        parts.listeners.due.append(worker.due)
        parts.listeners.replay.append(worker.replay)
        credentials = await _credentials(parts)
        server = serve.Server(serve.server_config(gateway.app, settings), gateway.tailers, stop)
        memory.settle()
        async with gateway.running():
            working = asyncio.create_task(worker.run(stop))
            telling = asyncio.create_task(_tell(server, credentials, settings, story))
            # From here on the server listens to it; the loop would go on calling its own handler too.
            loop.remove_signal_handler(signal.SIGTERM)
            try:
                await server.serve(sockets=[listening])
            finally:
                stop.set()
                telling.cancel()
                told = (await asyncio.gather(telling, return_exceptions=True))[0]
                await working
    return 1 if told is False else 0


async def _tell(server: serve.Server, credentials: CredentialsFile, settings: Settings, story: Story | None) -> bool:
    """Write the credentials' file when requests are served, and tell the story."""
    while not server.started:  # noqa: ASYNC110 - uvicorn has a flag, no event
        await asyncio.sleep(0.01)
    write_private(settings.data / CREDENTIALS, msgspec.json.format(msgspec.json.encode(credentials)) + b"\n")
    if story is None:
        print(f"GLedger Live serves {credentials.base_url} (credentials: {settings.data / CREDENTIALS})", flush=True)
        print(f"Portal: {credentials.portal_url}, sign in as {credentials.admin_email}", flush=True)
        return True
    try:
        return await story(credentials, settings.data / CREDENTIALS)
    except Exception as error:  # noqa: BLE001 - a story that breaks off says so, and the server goes on
        print(f"The demonstration broke off: {error!r}", file=sys.stderr, flush=True)
        return False


async def _credentials(parts: Parts) -> CredentialsFile:
    """Return the sandbox's credentials: those of the file where it belongs to this data, else new ones."""
    path = parts.settings.data / CREDENTIALS
    kept = read_credentials(path)
    sites = await parts.sites()
    if kept is not None and any((each.organization, each.environment) == (ORGANIZATION, ENVIRONMENT) for each in sites):
        made = msgspec.structs.replace(kept, base_url=parts.settings.public_url, portal_url=portal_url(parts))
    else:
        issued = await bootstrap(parts, ORGANIZATION, ENVIRONMENT, rotate=True)
        made = await credentials_file(parts, ORGANIZATION, ENVIRONMENT, issued)
    if made.admin_password is None:
        # The file is the one place that has the password of this sandbox: without it nobody has.
        email, password = await first_administrator(parts, ORGANIZATION)
        if password is None:
            password = (await parts.authority.people.reset(email, now_us=parts.clock.now_us())).password
        made = msgspec.structs.replace(made, admin_email=email, admin_password=password)
    return made


def _leave(_signal: int, _frame: FrameType | None) -> NoReturn:
    raise SystemExit(TERMINATED)


def _listen(settings: Settings) -> serve.Listening:
    try:
        return serve.listen(settings)
    except OSError as error:
        raise ProgramError(
            f"cannot listen on {settings.host}:{settings.port} ({error.strerror}): choose another --port"
        ) from None


def _complete(settings: Settings, folder: Path, port: int) -> Settings:
    """Fill in what `dev` provides for itself: a master key of its own, webhooks to loopback, its real port."""
    key_file = folder / "master.key"
    if settings.master_key is None and not key_file.exists():
        write_private(key_file, base64.b64encode(secrets.token_bytes(MASTER_KEY_BYTES)) + b"\n")
    key = settings.master_key or master_key(key_file.read_text("ascii").strip())
    public_url = settings.public_url
    if settings.port == 0 and public_url.endswith(":0"):
        public_url = f"{public_url.removesuffix(':0')}:{port}"
    return replace(settings, master_key=key, public_url=public_url, webhook_allow_private=True, port=port)


def environment_of(options: Mapping[str, str | None]) -> dict[str, str]:
    """Return the environment with what the command line says put over it."""
    return {**os.environ, **{name: value for name, value in options.items() if value is not None}}
