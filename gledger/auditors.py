"""Processes that look at pieces of books, so that verifying them takes as many processors as there are.

An auditor is this program once more: it is given one line of JSON for each piece, and answers with lines of JSON. It ends
when nobody can give it another one or hear its answer, so that none outlives who asked.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Sequence
from types import TracebackType
from typing import Final, Self

import msgspec

from engine.audit import Progress, verify_piece
from engine.databases import Site
from engine.finding import Finding
from engine.pieces import Piece
from gledger import memory
from gledger.errors import AuditorLost
from gledger.parts import open_databases
from gledger.settings import Settings

_COMMAND: Final = (sys.executable, "-m", "gledger", "verify", "--auditor")


class Wanted(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which piece of whose books an auditor is to look at."""

    site_id: int
    organization: str
    environment: str
    piece: Piece


class Looked(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="looked"):
    """So many more rows were looked at."""

    rows: int


class Done(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="done"):
    """The piece was looked at to its end, or to the first thing that is wrong."""

    finding: Finding | None


_wanted: Final = msgspec.json.Decoder(Wanted).decode
_said: Final = msgspec.json.Decoder(Looked | Done).decode


class Auditor:
    """An auditor as seen by who asks it."""

    def __init__(self, process: Process) -> None:
        self._process = process

    async def look(self, site: Site, piece: Piece, progress: Progress) -> Finding | None:
        """Return what it finds in a piece; raises AuditorLost."""
        wanted = Wanted(site_id=site.id, organization=site.organization, environment=site.environment, piece=piece)
        given, told = self._process.stdin, self._process.stdout
        if given is None or told is None:
            raise RuntimeError("an auditor has no pipes")
        # Where it is gone, its answer ends before it begins.
        with contextlib.suppress(ConnectionError):
            given.write(msgspec.json.encode(wanted) + b"\n")
            await given.drain()
        async for line in told:
            said = _said(line)
            if isinstance(said, Done):
                return said.finding
            progress(said.rows)
        _, last_words = await self._process.communicate()
        raise AuditorLost(last_words.decode(errors="replace").strip(), self._process.returncode or 0)

    async def end(self) -> None:
        """End it, whatever it is doing."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()


class Auditors:
    """So many auditors, started when they are first asked for and ended with the block."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._started: list[Auditor] = []

    async def __aenter__(self) -> Self:
        """Start none yet."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        """End all."""
        for auditor in self._started:
            await auditor.end()

    async def started(self) -> Sequence[Auditor]:
        """Return all of them."""
        while len(self._started) < self._count:
            # In a session of its own: whoever interrupts the program at its terminal is heard by the one who ends the others.
            process = await asyncio.create_subprocess_exec(
                *_COMMAND, stdin=PIPE, stdout=PIPE, stderr=PIPE, start_new_session=True
            )
            self._started.append(Auditor(process))
        return self._started


async def serve(settings: Settings) -> None:
    """Be an auditor until the input ends."""
    databases = open_databases(settings, writer=False)
    memory.settle()
    try:
        # Nothing else is to be done meanwhile: it waits without a loop.
        for line in sys.stdin.buffer:
            wanted = _wanted(line)
            site = Site(id=wanted.site_id, organization=wanted.organization, environment=wanted.environment)
            database = await databases.of(site)
            finding = await database.read(
                lambda conn, wanted=wanted: verify_piece(conn, wanted.site_id, wanted.piece, _tell),  # type: ignore[misc]
                site_id=site.id,
            )
            _say(Done(finding))
    finally:
        await databases.close()


def _tell(rows: int) -> None:
    _say(Looked(rows))


def _say(what: Looked | Done) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(what) + b"\n")
    sys.stdout.buffer.flush()
