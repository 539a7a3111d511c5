"""A process beside the measured one that is asked questions: a line of JSON in on its stdin, a line of JSON out."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import msgspec
import uvloop

END_TIMEOUT_S = 10.0

Answer = Callable[[str], Awaitable[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """The asking side; the process ends when its stdin does."""

    process: subprocess.Popen[bytes]

    def ask(self, question: str) -> Any:
        """Ask and wait for the answer."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(msgspec.json.encode(question) + b"\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.process.args!r} ended instead of answering {question!r}")
        return msgspec.json.decode(line)


@contextmanager
def peer(module: str, *arguments: str) -> Iterator[Peer]:
    """Run a module as a peer for the time of the block."""
    command = [sys.executable, "-m", module, *arguments]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        yield Peer(process=process)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        try:
            process.wait(END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        assert process.stdout is not None
        process.stdout.close()


def answer_questions(start: Callable[[], Awaitable[Answer]]) -> None:
    """Be a peer: start, then answer until nobody asks any more."""

    async def run() -> None:
        answer = await start()
        reader = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        while line := await reader.readline():
            # Written past Python's buffers: nothing else writes there.
            _write(msgspec.json.encode(await answer(msgspec.json.decode(line))) + b"\n")

    uvloop.run(run())


def _write(data: bytes) -> None:
    while data:
        data = data[os.write(1, data) :]
