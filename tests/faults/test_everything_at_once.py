"""The whole promise in one test: two gateways, two workers, many clients, and something is killed all the time."""

from __future__ import annotations

import asyncio
import time
from typing import Final

import pytest

from tests.faults.conftest import Stage

CLIENTS: Final = 32
PAUSE_S: Final = 0.5
ENTRIES_A_SECOND_MIN: Final = 20
KILLS_MIN: Final = 2


async def test_thousands_of_entries_survive_a_gateway_and_a_worker_killed_again_and_again(
    stage: Stage, entries: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every entry is there once, books balance, sequences have no gap, every webhook arrived, every stream is whole."""
    began = time.monotonic()
    async with asyncio.timeout(60 + entries / ENTRIES_A_SECOND_MIN):
        posting = asyncio.create_task(stage.load.run(stage.http, stage.book, clients=CLIENTS, entries=entries))
        killing = asyncio.create_task(_kill_in_turn(stage, posting))
        await posting
        kills = await killing
    posted_s = time.monotonic() - began
    assert len(stage.load.acknowledged) == entries
    assert kills >= KILLS_MIN
    await stage.check()
    with capsys.disabled():
        print(  # noqa: T201 - the numbers of the run
            f"\n{entries} entries by {CLIENTS} clients in {posted_s:.1f} s, {stage.load.retries} retries; {kills} gateways and "
            f"{kills} workers killed; {len(stage.receiver.received)} webhooks; streams of "
            f"{', '.join(str(each.connections) for each in stage.followers)} connections; "
            f"settled {time.monotonic() - began - posted_s:.1f} s later"
        )


async def _kill_in_turn(stage: Stage, posting: asyncio.Task[None]) -> int:
    """Kill a gateway and a worker, start them again, and so on with the others, until all is posted; return how often."""
    kills = 0
    while not posting.done():
        gateway, worker = stage.gateways[kills % 2], stage.workers[kills % 2]
        gateway.kill()
        worker.kill()
        kills += 1
        gateway.start()
        worker.start()
        await gateway.ready()
        await asyncio.wait({posting}, timeout=PAUSE_S)
    return kills
