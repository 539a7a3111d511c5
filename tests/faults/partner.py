"""A partner's receiver as a process of its own, to be killed and frozen: it notes each request in a file before it answers 200.

    python -m tests.faults.partner PORT FILE

What was noted and not answered before it died was received all the same: the file outlives the process.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec
from aiohttp import web

from tests.processes import ROOT, until
from tests.servers import free_port

_KEPT: Final = ("webhook-", "x-gledger-")
START_S: Final = 20.0
ANSWER_S: Final = 0.1
"""So slow that something is always in flight."""


class Arrival(msgspec.Struct, frozen=True, kw_only=True):
    """A webhook as it came: when, with which of our headers, and its body."""

    at_s: float
    headers: dict[str, str]
    body: str

    @property
    def number(self) -> int:
        """The endpoint's number of the delivery."""
        return int(self.headers["x-gledger-endpoint-sequence"])

    @property
    def attempt(self) -> int:
        """Which attempt at the delivery it was."""
        return int(self.headers["x-gledger-attempt"])


@dataclass(slots=True)
class Partner:
    """The process, on a port that stays the same over restarts."""

    file: Path
    port: int = field(default_factory=free_port)
    _process: subprocess.Popen[bytes] | None = None
    _read_bytes: int = 0

    @property
    def url(self) -> str:
        """Where webhooks are taken."""
        return f"http://127.0.0.1:{self.port}/hook"

    @property
    def pid(self) -> int:
        """The process id while it runs."""
        assert self._process is not None
        return self._process.pid

    async def start(self) -> None:
        """Start and return when it listens."""
        command = [sys.executable, "-m", "tests.faults.partner", str(self.port), str(self.file)]
        self._process = await asyncio.to_thread(
            subprocess.Popen, command, cwd=ROOT, stdin=subprocess.DEVNULL, start_new_session=True
        )

        async def listens() -> bool | None:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", self.port)
            except OSError:
                return None
            writer.close()
            return True

        await until(listens, timeout_s=START_S)

    def kill(self) -> None:
        """End it at once."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()

    def read(self) -> list[Arrival]:
        """Return what was noted since the last look."""
        if not self.file.exists():
            return []
        with self.file.open("rb") as file:
            file.seek(self._read_bytes)
            # A line whose end is not there was being written when the process died: it was not received.
            whole = file.read().rpartition(b"\n")[0]
        self._read_bytes += len(whole) + bool(whole)
        return [msgspec.json.decode(line, type=Arrival) for line in whole.split(b"\n") if line]


async def _serve(port: int, file: Path) -> None:
    notes = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    if file.stat().st_size:
        # Ends the line that a process before this one may have left behind.
        os.write(notes, b"\n")

    async def answer(request: web.BaseRequest) -> web.Response:
        body = await request.read()
        headers = {name.lower(): value for name, value in request.headers.items() if name.lower().startswith(_KEPT)}
        arrival = Arrival(at_s=time.time(), headers=headers, body=body.decode())
        os.write(notes, msgspec.json.encode(arrival) + b"\n")
        answered = asyncio.Event()
        asyncio.get_running_loop().call_later(ANSWER_S, answered.set)
        await answered.wait()
        return web.Response()

    runner = web.ServerRunner(web.Server(answer))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, reuse_address=True).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1]), Path(sys.argv[2])))
