"""Streams in quantity: a storm of connections, a filter that passes over nearly everything, readers that stand still for long.

Small unless asked: `pytest tests/faults/test_stream_sizes.py --large` has ten thousand connections, fifty thousand events, a minute.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from typing import Any, Final

import pytest

from bench.peers import Peer, peer
from tests.faults.conftest import Sizes, Stage
from tests.faults.test_streams import CLIENTS_STOPPED, GROWTH_MAX, headers_of, resident
from tests.processes import until
from tests.streams import open_stream

PATIENCE_S: Final = 120.0
HEALTHY: Final = 20
BATCH: Final = 250
POSTED: Final = 20
HANDED_OUT_S: Final = 40_000
"""How many envelopes are written to the storm in a second, at most."""
LOOKS: Final = 40
"""About a second."""
NEIGHBOURS: Final = 3.0
NOISE_MS: Final = 250.0
"""What two measurements on a busy machine may differ by."""


async def asked(of: Peer, question: str) -> Any:
    """Ask a process of clients."""
    return await asyncio.to_thread(of.ask, question)


async def begun(of: Peer, count: int) -> None:
    """Return when so many streams have begun."""

    async def ready() -> bool | None:
        return await asked(of, "ready") >= count or None

    await until(ready, timeout_s=PATIENCE_S)


async def post(stage: Stage, count: int) -> None:
    """Post entries in batches."""
    lines = [
        {"account_id": account, "direction": direction, "amount": 1}
        for account, direction in ((stage.book.debit, "debit"), (stage.book.credits[0], "credit"))
    ]
    for start in range(0, count, BATCH):
        body = {"entries": [{"lines": lines}] * min(BATCH, count - start)}
        await stage.load.ask(stage.http, "POST", "/v1/entries/batch", body)


@pytest.mark.parametrize("kind", ["sse", "websocket"])
async def test_everybody_at_once_is_let_in_and_told(stage: Stage, sizes: Sizes, kind: str) -> None:
    """All connect at one gateway while entries are posted, which goes on; then each is told of each event, once."""
    port, token = stage.gateways[0].url.rpartition(":")[2], stage.load.credentials.api_key
    with peer("bench.listeners", kind, port, str(sizes.storm), token) as storm:
        # Each entry goes to everybody: no more are posted than a core can hand out while it lets people in.
        async with stage.under_load(clients=1, rest_s=sizes.storm / HANDED_OUT_S):
            await begun(storm, sizes.storm)
        # What is still on its way to somebody is not to be counted among what comes now.
        looks: list[list[int]] = []

        async def quiet() -> bool | None:
            looks.append(await asked(storm, "counts"))
            return (len(looks) > LOOKS and looks[-LOOKS:] == [looks[-1]] * LOOKS) or None

        await until(quiet, timeout_s=PATIENCE_S)
        counts = looks[-1]
        await post(stage, POSTED)

        async def told() -> bool | None:
            now = await asked(storm, "counts")
            return all(more >= had + POSTED for had, more in zip(counts, now, strict=True)) or None

        await until(told, timeout_s=PATIENCE_S)
        now = await asked(storm, "counts")
        assert [more - had for had, more in zip(counts, now, strict=True)] == [POSTED] * sizes.storm


async def test_a_stream_that_nothing_matches_comes_back_where_it_was_and_not_at_the_start(
    stage: Stage, sizes: Sizes
) -> None:
    """Thousands of events are passed over once, by an index in one step; the next connection begins behind them."""
    await post(stage, sizes.skipped)
    url, bearer, query = stage.gateways[0].url, headers_of(stage), "?from=start&types=hold.*"
    checkpoints = 0
    async with open_stream(stage.http, url, bearer, query=query) as stream:
        head = (await stream.event("ready")).value["head"]
        cursor = ""
        while cursor != head:
            checkpoints += 1
            block = await stream.read()
            assert block is not None
            assert block.event == "checkpoint"
            cursor = block.id
    assert 1 <= checkpoints <= sizes.skipped // 1_000 + 2
    await post(stage, 10)
    lines = [
        {"account_id": account, "direction": direction, "amount": 1}
        for account, direction in ((stage.book.debit, "debit"), (stage.book.credits[0], "credit"))
    ]
    async with open_stream(stage.http, url, {**bearer, "last-event-id": cursor}, query="?types=hold.*") as stream:
        assert (await stream.event("ready")).id == cursor
        hold = await stage.load.ask(stage.http, "POST", "/v1/holds", {"lines": lines})
        block = await stream.read()
        assert block is not None
        assert (block.event, block.value["resource"]["id"]) == ("hold.created", hold["id"])


@pytest.mark.parametrize("kind", ["sse", "websocket"])
async def test_readers_that_stand_still_do_not_slow_the_others(stage: Stage, sizes: Sizes, kind: str) -> None:
    """SIGSTOP: the latency of those who read stays what it was, and memory stays bounded."""
    gateway = stage.gateways[0]
    port, token = gateway.url.rpartition(":")[2], stage.load.credentials.api_key
    with contextlib.ExitStack() as held:
        healthy = held.enter_context(peer("bench.listeners", kind, port, str(HEALTHY), token))
        stopped = held.enter_context(peer("bench.listeners", kind, port, str(CLIENTS_STOPPED), token))
        await begun(healthy, HEALTHY)
        await begun(stopped, CLIENTS_STOPPED)
        without = await _p99_ms(stage, healthy, sizes.stopped_s)
        stopped.process.send_signal(signal.SIGSTOP)
        held.callback(stopped.process.send_signal, signal.SIGCONT)
        before = resident(gateway)
        beside = await _p99_ms(stage, healthy, sizes.stopped_s)
        assert beside < NEIGHBOURS * without + NOISE_MS, f"{without:.0f} ms before, {beside:.0f} ms beside"
        assert resident(gateway) - before < GROWTH_MAX


async def _p99_ms(stage: Stage, of: Peer, seconds: float) -> float:
    """Return the 99th percentile from commit to client while entries are posted for so long."""
    await asked(of, "reset")
    async with stage.under_load(clients=4) as posting:
        await asyncio.wait({posting}, timeout=seconds)
    found = sorted((await asked(of, "report"))["latencies_ms"])
    assert len(found) > HEALTHY
    return float(found[int(0.99 * (len(found) - 1))])
