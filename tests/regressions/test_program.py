"""What once was wrong with the program as a process, each with the smallest case that shows it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from engine.clock import SystemClock
from engine.databases import Databases, Site
from engine.errors import Unavailable
from engine.ids import Ids
from engine.ledger import Engine
from gateway.tailers import Tailers

SITE = Site(id=1, organization="acme-corp", environment="sandbox")


def test_a_client_that_hangs_up_does_not_end_the_program() -> None:
    """The command line leaves SIGPIPE ignored: its default action ended a server at the first reset connection."""
    script = (
        "import signal, sys\nfrom gledger import cli\nsys.argv = ['gledger', '--help']\n"
        "try:\n    cli.main()\nexcept SystemExit:\n    print(signal.getsignal(signal.SIGPIPE).name)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True, text=True)
    assert done.stdout.splitlines()[-1] == "SIG_IGN"


async def test_a_stream_that_cannot_start_is_not_counted_as_one_for_ever(tmp_path: Path) -> None:
    """Where the feed cannot be read when a stream begins, nobody is listening afterwards and a drain waits for nobody."""
    nowhere = f"sqlite+aiosqlite:///{tmp_path}/{{organization}}-{{environment}}/none.sqlite3"
    databases = Databases(nowhere, lambda _url: None, writer=False)
    clock = SystemClock()
    tailers = Tailers(Engine(databases, clock, Ids(), lambda _site, _head: None), clock)
    listener = Listener()
    with pytest.raises(Unavailable), tailers.watching(listener):
        await tailers.of(SITE).join(listener, "e1")
    assert tailers.of(SITE).idle
    async with asyncio.timeout(1):
        await tailers.quiet(timeout_s=30)
    await tailers.close()
    await databases.close()


class Listener:
    """A stream that has nothing to say."""

    def nudge(self) -> None:
        """Take no notice."""

    def look(self, now: float, now_us: int) -> None:
        """Take no notice."""
