"""What networks, clients and operators do to streams; afterwards every follower has the feed, and nobody else paid for it."""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import aiohttp
import asyncpg
import msgspec
import pytest
from sqlalchemy.engine import make_url

from bench.peers import peer
from engine.events import chain, genesis_hash
from tests.conformance.streams.clients import CLIENTS, Target
from tests.conformance.streams.cutting import cutting
from tests.faults.conftest import Stage
from tests.faults.follower import Follower
from tests.processes import GatewayProgram, until
from tests.streams import open_socket, open_stream

PATIENCE_S: Final = 60.0
CLIENTS_STOPPED: Final = 40
CLIENTS_STORMING: Final = 400
GROWTH_MAX: Final = 96 * 1024**2
"""The ring of recent events, what sockets hold back, and room for the garbage of 22 MB of large requests."""

LARGE: Final = {f"key-{number}": "x" * 500 for number in range(50)}
LARGE_BATCHES: Final = 30


def headers_of(stage: Stage) -> dict[str, str]:
    """Return what a request with the API key carries."""
    return {"authorization": f"Bearer {stage.load.credentials.api_key}"}


async def feed_of(stage: Stage, url: str) -> list[bytes]:
    """Return the whole feed, over the list."""
    found: list[bytes] = []
    after = ""
    while True:
        async with stage.http.get(f"{url}/v1/events?limit=1000{after}", headers=headers_of(stage)) as answer:
            page = msgspec.json.decode(await answer.read(), type=_Page)
        found += [bytes(each) for each in page.data]
        if not page.has_more:
            return found
        after = f"&after={page.next_cursor}"


class _Page(msgspec.Struct):
    data: list[msgspec.Raw]
    has_more: bool
    next_cursor: str


async def streams_at(stage: Stage, gateway: GatewayProgram, kind: str) -> int:
    """Return how many streams of a kind a gateway counts."""
    async with stage.http.get(f"{gateway.url}/metrics") as answer:
        found = re.search(rf'gledger_streams\{{kind="{kind}"\}} (\S+)', await answer.text())
    return int(float(found[1])) if found else 0


def resident(gateway: GatewayProgram) -> int:
    """Return a gateway's resident memory in bytes."""
    return int(Path(f"/proc/{gateway.pid}/statm").read_text("ascii").split()[1]) * 4096


async def post_large(stage: Stage, url: str) -> None:
    """Post 22 MB of events: more than the ring of recent ones and any socket's buffers hold."""
    lines = [
        {"account_id": account, "direction": direction, "amount": 1}
        for account, direction in ((stage.book.debit, "debit"), (stage.book.credits[0], "credit"))
    ]
    body = {"entries": [{"lines": lines, "metadata": LARGE}] * 30}
    for _ in range(LARGE_BATCHES):
        address = f"{url}/v1/entries/batch"
        async with stage.http.post(address, json=body, headers=headers_of(stage)) as answer:
            assert answer.status == 201, await answer.text()


@asynccontextmanager
async def impatient_gateway(stage: Stage) -> AsyncIterator[GatewayProgram]:
    """Run a gateway that says something every second and waits two seconds for who takes nothing."""
    gateway = stage.deployment.gateway(STREAM_CHECKPOINT_S="1", STREAM_SEND_TIMEOUT_S="2")
    await gateway.ready()
    yield gateway
    assert await gateway.stop() == 0, gateway.tail()
    assert "Traceback" not in gateway.tail(100_000)


async def test_independent_clients_follow_through_kills_restarts_and_a_lost_redis(stage: Stage) -> None:
    """A gateway killed in mid-stream, both restarted in turn, Redis away: each client ends with the feed's bytes."""
    token = stage.load.credentials.api_key
    start = (await _cursor(stage, "start")).cursor
    names = ("curl", "httpx-sse", "npm eventsource", "websockets")
    # Not as fast as it goes: the clients share the machine with who posts.
    async with stage.under_load(clients=8):
        count = len(await feed_of(stage, stage.gateways[0].url)) + 400
        following = []
        for number, name in enumerate(names):
            target = Target(
                url=stage.gateways[number % 2].url, token=token, cursor=start, count=count, page="", ticket="",
                browser=None,
            )  # fmt: skip
            following.append(asyncio.create_task(_within(CLIENTS[name](target))))
        await stage.load.until(50)
        stage.gateways[0].kill()
        stage.gateways[0].start()
        await stage.gateways[0].ready()
        await stage.load.until(50)
        stage.valkey.kill()
        await stage.load.until(50)
        stage.valkey.start()
        for gateway in stage.gateways:
            assert await gateway.stop() == 0, gateway.tail()
            gateway.start()
            await gateway.ready()
            await stage.load.until(100)
        await stage.load.until(150)
        found = await asyncio.gather(*following)
    feed = await feed_of(stage, stage.gateways[0].url)
    for name, each in zip(names, found, strict=True):
        assert each[:count] == feed[:count], name


class _Cursor(msgspec.Struct):
    cursor: str
    head: str


async def _cursor(stage: Stage, begin: str) -> _Cursor:
    """Return where a stream begins."""
    async with open_stream(stage.http, stage.gateways[0].url, headers_of(stage), query=f"?from={begin}") as stream:
        return msgspec.convert((await stream.event("ready")).value, _Cursor)


async def _within(following: object) -> list[bytes]:
    async with asyncio.timeout(PATIENCE_S):
        found: list[bytes] = await following  # type: ignore[misc]
        return found


@pytest.mark.parametrize("kind", ["sse", "websocket"])
async def test_stopped_readers_cost_the_others_nothing_and_are_let_go(stage: Stage, kind: str) -> None:
    """Forty clients stopped by SIGSTOP: a follower gets everything, memory stays bounded, in the end they are cut off."""
    async with impatient_gateway(stage) as gateway:
        port = gateway.url.rpartition(":")[2]
        count = str(CLIENTS_STOPPED)
        with contextlib.ExitStack() as held:
            stopped = held.enter_context(peer("bench.listeners", kind, port, count, stage.load.credentials.api_key))

            async def ready() -> bool | None:
                return await asyncio.to_thread(stopped.ask, "ready") >= CLIENTS_STOPPED or None

            await until(ready, timeout_s=20)
            stopped.process.send_signal(signal.SIGSTOP)
            held.callback(stopped.process.send_signal, signal.SIGCONT)
            follower = Follower(url=gateway.url, token=stage.load.credentials.api_key)
            following = asyncio.create_task(follower.run(stage.http))
            before = resident(gateway)
            await post_large(stage, stage.gateways[0].url)
            feed = await feed_of(stage, stage.gateways[0].url)
            await follower.until(len(feed), timeout_s=30)
            assert follower.bodies == feed
            assert follower.connections == 1
            assert resident(gateway) - before < GROWTH_MAX
            left = 1 if kind == "sse" else 0

            async def let_go() -> bool | None:
                return await streams_at(stage, gateway, kind) <= left or None

            await until(let_go, timeout_s=30)
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)


async def test_a_connection_that_went_silent_is_noticed_on_both_sides(stage: Stage) -> None:
    """Half open, as behind a firewall that forgot it: the client comes back by itself, the server lets the old one go."""
    chance = random.Random(1)
    async with impatient_gateway(stage) as gateway, cutting(gateway.url, chance, 0) as proxy:
        follower = Follower(url=proxy.url, token=stage.load.credentials.api_key, silence_s=4.0)
        following = asyncio.create_task(follower.run(stage.http))
        before = await feed_of(stage, gateway.url)
        await follower.until(len(before), timeout_s=20)
        proxy.freeze()
        await post_large(stage, stage.gateways[0].url)
        feed = await feed_of(stage, gateway.url)
        await follower.until(len(feed), timeout_s=40)
        assert follower.bodies == feed
        assert follower.connections == 2

        async def let_go() -> bool | None:
            return await streams_at(stage, gateway, "sse") <= 1 or None

        await until(let_go, timeout_s=30)
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)


async def test_a_writing_transaction_held_open_elsewhere_does_not_hold_up_the_feed(stage: Stage) -> None:
    """Numbers are given under the site's own lock: no other transaction's age has any say in what is shown."""
    url = make_url(stage.deployment.site_database.owner_url).set(drivername="postgresql")
    held = await asyncpg.connect(url.render_as_string(hide_password=False))
    try:
        async with held.transaction():
            await held.execute("CREATE TABLE held_open (x int)")
            assert await held.fetchval("SELECT pg_current_xact_id_if_assigned() IS NOT NULL")
            seen = [len(each.seen) for each in stage.followers]
            async with stage.under_load():
                await stage.load.until(50)
            for follower, had in zip(stage.followers, seen, strict=True):
                await follower.until(had + 100, timeout_s=20)
            await held.execute("DROP TABLE held_open")
    finally:
        await held.close()
    await stage.check()


async def test_a_storm_of_connections_is_served_while_entries_are_posted(stage: Stage) -> None:
    """All at once, each from the start: everyone gets the whole feed, and posting goes on."""
    bearer = headers_of(stage)
    async with stage.under_load(clients=2):
        feed = await feed_of(stage, stage.gateways[0].url)

        async def follow(number: int) -> list[bytes]:
            url = stage.gateways[number % 2].url
            if number % 4 < 2:
                async with open_stream(http, url, bearer, query="?from=start") as stream:
                    return await stream.bodies(len(feed))
            async with open_socket(url, bearer, query="?from=start") as socket:
                return (await socket.until(len(feed)))[: len(feed)]

        async with (
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http,
            asyncio.timeout(PATIENCE_S),
        ):
            for found in await asyncio.gather(*map(follow, range(CLIENTS_STORMING))):
                assert found == feed
        await stage.load.until(50)


async def test_both_kinds_of_stream_bring_the_bytes_that_the_hash_chain_is_made_of(stage: Stage) -> None:
    """Folded from the feed's genesis, what a client read is what the cursor of the head says."""
    async with stage.under_load():
        await stage.load.until(50)
    bearer = headers_of(stage)
    head = (await _cursor(stage, "now")).head
    _, epoch, sequence, digits = head.split(".")
    site_id = await _site_id(stage)
    async with open_stream(stage.http, stage.gateways[0].url, bearer, query="?from=start") as stream:
        by_blocks = await stream.bodies(int(sequence))
    async with open_socket(stage.gateways[1].url, bearer, query="?from=start") as socket:
        by_arrays = await socket.until(int(sequence))
    for bodies in (by_blocks, by_arrays[: int(sequence)]):
        found = genesis_hash(site_id, epoch)
        for body in bodies:
            found = chain(found, body)
        assert found.hex().startswith(digits)


async def _site_id(stage: Stage) -> int:
    url = make_url(stage.deployment.site_database.owner_url).set(drivername="postgresql")
    asked = await asyncpg.connect(url.render_as_string(hide_password=False))
    try:
        return int(await asked.fetchval("SELECT site_id FROM feeds"))
    finally:
        await asked.close()
