"""Independent clients follow two sites' feeds over one connection through cuts; each ends with both lists' bytes."""

from __future__ import annotations

import asyncio
import random
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Final

import msgspec

from tests.conformance.streams.browser import blank_page, browsing, find_browser
from tests.conformance.streams.clients import CLIENTS, STREAMING, NotHere, Target
from tests.conformance.streams.conftest import Server, missing
from tests.conformance.streams.cutting import cutting

SEED: Final = 20_261_123
ENTRIES: Final = 50
CUTS: Final = 2
PATIENCE_S: Final = 120.0


async def write(server: Server) -> None:
    """Post entries to a site."""
    for number in range(1, ENTRIES + 1):
        await server.post(1_000 + number)
        await asyncio.sleep(0.05)


async def test_a_client_of_two_feeds_ends_with_the_bytes_of_both_lists(server: Server) -> None:
    """Every event of each site once, in that site's order; what resumes by itself resumes both by one Last-Event-ID."""
    if server.other_token is None:
        missing("a second site: give its key as --other-api-key")
    sites = [server, await replace(server, token=str(server.other_token)).furnish()]
    async with AsyncExitStack() as held:
        page = await held.enter_async_context(blank_page(server.page_port))
        program = find_browser()
        page_tickets = [await each.ticket(page) for each in sites]
        browser = await held.enter_async_context(browsing(program)) if program and all(page_tickets) else None
        tickets = [await each.ticket() for each in sites]
        cursors = [await each.head() for each in sites]
        chance = random.Random(SEED)
        cutters = {name: await held.enter_async_context(cutting(server.url, chance, CUTS)) for name in STREAMING}

        async def follow(name: str) -> list[bytes]:
            target = Target(
                url=cutters[name].url, token="", cursor="_".join(cursors), count=2 * ENTRIES, page=page, ticket="",
                browser=browser, tickets=tuple(tickets), page_tickets=tuple(page_tickets),
            )  # fmt: skip
            async with asyncio.timeout(PATIENCE_S):
                return await CLIENTS[name](target)

        following = [asyncio.create_task(follow(name)) for name in STREAMING]
        await asyncio.gather(*map(write, sites))
        found = await asyncio.gather(*following, return_exceptions=True)
    listed = [await each.listed(cursor) for each, cursor in zip(sites, cursors, strict=True)]
    assert [len(each) for each in listed] == [ENTRIES, ENTRIES]
    for name, bodies in zip(STREAMING, found, strict=True):
        if isinstance(bodies, NotHere):
            missing(str(bodies))
        if isinstance(bodies, BaseException):
            raise bodies
        organizations = [msgspec.json.decode(each[0])["organization"] for each in listed]
        for organization, wanted in zip(organizations, listed, strict=True):
            assert [each for each in bodies if msgspec.json.decode(each)["organization"] == organization] == wanted, (
                name
            )
        assert cutters[name].cuts == CUTS, f"{name} was hardly ever cut off: the case proves nothing"
