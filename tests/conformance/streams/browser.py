"""A real browser's EventSource and WebSocket: Chromium without a window, driven over the Chrome DevTools Protocol."""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from aiohttp import web
from websockets.asyncio.client import ClientConnection, connect

PROGRAMS: Final = ("chromium", "chromium-browser", "google-chrome", "chrome")
_STARTED_S: Final = 30.0

FOLLOW_SSE: Final = """
(({url, count, types}) => new Promise((done) => {
  const seen = [];
  const source = new EventSource(url);
  for (const type of types) {
    source.addEventListener(type, (event) => {
      seen.push(event.data);
      if (seen.length >= count) { source.close(); done(seen); }
    });
  }
}))
"""
FOLLOW_SOCKET: Final = """
(({url, cursor, query, count}) => new Promise((done) => {
  const arrays = [];
  let seen = 0, place = cursor;
  const follow = () => {
    const socket = new WebSocket(`${url}?cursor=${place}&${query}`);
    let array = null;
    socket.onmessage = ({data}) => {
      const message = JSON.parse(data);
      if (Array.isArray(message)) { array = data; return; }
      if (message.type === "checkpoint" && array !== null) {
        arrays.push(array);
        seen += JSON.parse(array).length;
        array = null;
      }
      place = message.cursor ?? place;
      if (seen >= count) { socket.close(); done(arrays); }
    };
    socket.onclose = () => seen < count && setTimeout(follow, 200);
  };
  follow();
}))
"""


def find_browser() -> str | None:
    """Return the browser's program, if there is one."""
    return next((found for each in PROGRAMS if (found := shutil.which(each))), None)


@dataclass(slots=True)
class Browser:
    """One browser; a page in it runs scripts."""

    connection: ClientConnection
    _numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(1))
    _waiting: dict[int, asyncio.Future[dict[str, Any]]] = field(default_factory=dict)

    async def run(self, page: str, function: str, argument: dict[str, Any]) -> Any:
        """Open a page, call a function in it, and return what its promise came to."""
        target = await self._ask("Target.createTarget", {"url": page})
        session = (await self._ask("Target.attachToTarget", {"targetId": target["targetId"], "flatten": True}))[
            "sessionId"
        ]
        async with asyncio.timeout(_STARTED_S):
            while await self._evaluate(session, "document.readyState + location.origin") != f"complete{page}":  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        return await self._evaluate(session, f"{function.strip()}({json.dumps(argument)})")

    async def read(self) -> None:
        """Take answers until the browser is gone."""
        async for text in self.connection:
            answer = json.loads(text)
            waiting = self._waiting.pop(answer.get("id", 0), None)
            if waiting is not None and not waiting.done():
                waiting.set_result(answer)

    async def _evaluate(self, session: str, expression: str) -> Any:
        given = {"expression": expression, "awaitPromise": True, "returnByValue": True}
        found = await self._ask("Runtime.evaluate", given, session)
        if "exceptionDetails" in found:
            raise AssertionError(found["exceptionDetails"])
        return found["result"].get("value")

    async def _ask(self, method: str, parameters: dict[str, Any], session: str | None = None) -> dict[str, Any]:
        number = next(self._numbers)
        self._waiting[number] = asyncio.get_running_loop().create_future()
        asked = {"id": number, "method": method, "params": parameters}
        await self.connection.send(json.dumps(asked if session is None else {**asked, "sessionId": session}))
        answer = await self._waiting[number]
        if "error" in answer:
            raise AssertionError(answer["error"])
        found: dict[str, Any] = answer["result"]
        return found


@asynccontextmanager
async def browsing(program: str) -> AsyncIterator[Browser]:
    """Run a browser for the block."""
    with tempfile.TemporaryDirectory(prefix="gledger-browser-", ignore_cleanup_errors=True) as folder:
        process = await asyncio.create_subprocess_exec(
            program, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
            "--no-first-run", "--remote-debugging-port=0", f"--user-data-dir={folder}", "about:blank",
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        try:
            assert process.stderr is not None
            async with asyncio.timeout(_STARTED_S):
                address = None
                while address is None:
                    line = await process.stderr.readline()
                    assert line, f"{program} ended before it listened"
                    address = re.search(rb"DevTools listening on (ws://\S+)", line)
            noise = asyncio.create_task(process.stderr.read())
            async with connect(address[1].decode(), proxy=None, max_size=None, compression=None) as connection:
                browser = Browser(connection)
                reading = asyncio.create_task(browser.read())
                yield browser
                reading.cancel()
                await asyncio.gather(reading, return_exceptions=True)
        finally:
            if process.returncode is None:
                process.terminate()
            await process.wait()
            noise.cancel()
            await asyncio.gather(noise, return_exceptions=True)


@asynccontextmanager
async def blank_page(port: int) -> AsyncIterator[str]:
    """Serve an empty page and return its origin: a dashboard's, elsewhere than the API."""

    async def answer(_request: web.Request) -> web.Response:
        return web.Response(text="<!doctype html><title>Dashboard</title>", content_type="text/html")

    application = web.Application()
    application.router.add_get("/", answer)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        await runner.cleanup()
