"""Seven independent clients follow through cuts in mid-stream and a restart of the server; each ends with the list's bytes."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Final

import pytest

from tests.conformance.streams.browser import blank_page, browsing, find_browser
from tests.conformance.streams.clients import CLIENTS, NotHere, Target
from tests.conformance.streams.conftest import Server, missing
from tests.conformance.streams.cutting import Cutter, cutting

SEED: Final = 20_261_121
ENTRIES: Final = 80
RESTART_AFTER: Final = 40
CUTS: Final = 3
PATIENCE_S: Final = 150.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What one client came to, and what its connection went through."""

    found: list[bytes] | BaseException
    cutter: Cutter


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """All clients following at the same time, and what the list has."""

    listed: list[bytes]
    outcomes: dict[str, Outcome]
    restarted: bool


async def write(server: Server) -> None:
    """Post entries, with the server restarted between two of them."""
    for number in range(1, ENTRIES + 1):
        await server.post(number)
        if number == RESTART_AFTER:
            await server.restart()
        await asyncio.sleep(0.05)


@pytest.fixture(scope="module")
async def run(server: Server) -> AsyncIterator[Run]:
    """Let all clients follow while entries are posted."""
    async with AsyncExitStack() as held:
        page = await held.enter_async_context(blank_page(server.page_port))
        program = find_browser()
        ticket = await server.ticket(page)
        browser = await held.enter_async_context(browsing(program)) if program and ticket else None
        cursor = await server.head()
        chance = random.Random(SEED)
        cutters = {name: await held.enter_async_context(cutting(server.url, chance, CUTS)) for name in CLIENTS}

        async def follow(name: str) -> list[bytes]:
            target = Target(
                url=cutters[name].url, token=server.token, cursor=cursor, count=ENTRIES, page=page, ticket=ticket,
                browser=browser,
            )  # fmt: skip
            async with asyncio.timeout(PATIENCE_S):
                return await CLIENTS[name](target)

        following = [asyncio.create_task(follow(name)) for name in CLIENTS]
        await write(server)
        found = await asyncio.gather(*following, return_exceptions=True)
        yield Run(
            listed=await server.listed(cursor),
            outcomes={
                name: Outcome(found=each, cutter=cutters[name]) for name, each in zip(CLIENTS, found, strict=True)
            },
            restarted=server.program is not None,
        )


@pytest.mark.parametrize("name", CLIENTS)
def test_a_client_ends_with_the_bytes_of_the_list(run: Run, name: str) -> None:
    """Every event once, in order, byte for byte, though its connection was cut at any byte and its server went away."""
    outcome = run.outcomes[name]
    if isinstance(outcome.found, NotHere):
        missing(str(outcome.found))
    if isinstance(outcome.found, BaseException):
        raise outcome.found
    assert len(run.listed) == ENTRIES
    assert outcome.found == run.listed
    assert outcome.cutter.cuts == CUTS, "the client was hardly ever cut off: the case proves nothing"
    assert outcome.cutter.connections >= CUTS + 1 + run.restarted
