"""A snapshot by the lists, then the feed from its cursor: what a client rebuilds so is what the books say, while others write."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import msgspec
import pytest

from tests.journeys.conftest import SiteClient
from tests.processes import until
from tests.streams import open_socket, open_stream

SEED: Final = 20_261_121
ACCOUNTS: Final = 40
PAGE: Final = 10
WRITERS: Final = 8
SNAPSHOTS: Final = 4
ENTRIES: Final = 400


@dataclass(slots=True, kw_only=True)
class Mirror:
    """A client's own copy of all balances: the lists first, then every event that follows their first page's cursor."""

    balances: dict[str, dict[str, Any]] = field(default_factory=dict)
    versions: dict[str, int] = field(default_factory=dict)
    last: int = 0

    async def load(self, site: SiteClient, at: int, number: int) -> str:
        """Read all accounts page by page, while they change; return the cursor to follow from.

        Between the first page and the next, an account of the first is moved that nobody moves again.
        """
        first, query = "", f"?limit={PAGE}"
        while query:
            address = f"{site.urls[at]}/v1/accounts{query}"
            async with site.http.get(address, headers=site.headers) as answer:
                page = msgspec.json.decode(await answer.read())
                first = first or answer.headers["x-gledger-feed-cursor"]
            for account in page["data"]:
                self._set(account["id"], account["balances"], account["lock_version"])
            query = f"?limit={PAGE}&cursor={page['next_cursor']}" if page["has_more"] else ""
            if len(self.balances) == PAGE:
                quiet = page["data"][number]["id"]
                lines = [
                    {"account_id": account, "direction": direction, "amount": 7}
                    for account, direction in ((quiet, "debit"), (site.credit, "credit"))
                ]
                await site.ask("POST", "/v1/entries", {"lines": lines}, at=1 - at)
        self.last = int(first.split(".")[2])
        return first

    def apply(self, body: bytes) -> None:
        """Take an event: sequences follow one another, and what is older than what is known changes nothing."""
        event = msgspec.json.decode(body)
        assert event["sequence"] == self.last + 1, "a gap or a duplicate"
        self.last = event["sequence"]
        if event["type"].startswith("account."):
            data = event["data"]
            self._set(data["id"], data["balances"], data["lock_version"])
        for line in event["data"].get("lines", ()):
            self._set(line["account_id"], line["resulting_balances"], line["account_lock_version"])

    def _set(self, account_id: str, balances: dict[str, Any], version: int) -> None:
        if version >= self.versions.get(account_id, -1):
            self.balances[account_id], self.versions[account_id] = balances, version


async def open_accounts(site: SiteClient) -> list[str]:
    """Open accounts beside the site's own two."""
    ledger = (await site.ask("GET", f"/v1/accounts/{site.debit}"))["ledger_id"]
    body = {"ledger_id": ledger, "name": "x", "type": "liability", "currency": "USD"}
    return [(await site.ask("POST", "/v1/accounts", body))["id"] for _ in range(ACCOUNTS)]


@asynccontextmanager
async def written(site: SiteClient, accounts: list[str]) -> AsyncIterator[list[int]]:
    """Post, reserve, post and give up entries over random accounts at both gateways; in the end that many were written."""
    counts = [0]
    stop = asyncio.Event()

    async def write(number: int) -> None:
        chance = random.Random(SEED + number)
        while not (stop.is_set() and counts[0] >= ENTRIES):
            debit, credit = chance.sample(accounts, 2)
            amount = chance.randrange(1, 1_000)
            lines = [
                {"account_id": debit, "direction": "debit", "amount": amount},
                {"account_id": credit, "direction": "credit", "amount": amount},
            ]
            at = chance.randrange(len(site.urls))
            status = chance.choice(("posted", "pending"))
            entry = await site.ask("POST", "/v1/entries", {"lines": lines, "status": status}, at=at)
            if status == "pending":
                verb = chance.choice(("post", "archive"))
                await site.ask("POST", f"/v1/entries/{entry['id']}/{verb}", at=1 - at)
            counts[0] += 1

    writing = [asyncio.create_task(write(number)) for number in range(WRITERS)]
    try:
        yield counts
        stop.set()
        await asyncio.gather(*writing)
    finally:
        for task in writing:
            task.cancel()


async def reached(counts: list[int], goal: int) -> bool | None:
    """Tell whether so many were written."""
    return counts[0] >= goal or None


@pytest.mark.parametrize("kind", ["sse", "websocket"])
async def test_balances_rebuilt_from_a_snapshot_and_the_feed_are_the_books(site: SiteClient, kind: str) -> None:
    """Several clients begin at different moments, at either gateway; when writing ends, each has every balance exactly."""
    accounts = await open_accounts(site)
    ended = asyncio.Event()
    ends_at: list[int] = []

    async def follow(number: int) -> Mirror:
        mirror = Mirror()
        cursor = await mirror.load(site, number % 2, number)
        at = site.urls[1 - number % 2]
        if kind == "sse":
            async with open_stream(site.http, at, site.headers, query=f"?cursor={cursor}") as stream:
                while not ended.is_set() or mirror.last < ends_at[0]:
                    block = await stream.read()
                    assert block is not None
                    if "." in block.event:
                        mirror.apply(block.data)
        else:
            async with open_socket(at, site.headers, query=f"?cursor={cursor}") as socket:
                applied = 0
                while not ended.is_set() or mirror.last < ends_at[0]:
                    await socket.read()
                    for body in socket.events.get(None, [])[applied:]:
                        mirror.apply(body)
                    applied = len(socket.events.get(None, []))
        return mirror

    # Those of the first page, in either order, are left alone: what is missed of them is not made good by a later entry.
    async with written(site, accounts[PAGE:-PAGE]) as counts:
        following = []
        for number in range(SNAPSHOTS):
            following.append(asyncio.create_task(follow(number)))
            await until(partial(reached, counts, counts[0] + 40), timeout_s=60)
    # The last event wakes those who are up to date already.
    ends_at.append(int((await site.feed_cursor()).split(".")[2]) + 1)
    ended.set()
    await site.ask("POST", "/v1/entries", site.entry(1))
    async with asyncio.timeout(30):
        mirrors = await asyncio.gather(*following)
    for account_id in (*accounts, site.debit, site.credit):
        account = await site.ask("GET", f"/v1/accounts/{account_id}", at=1)
        for mirror in mirrors:
            assert mirror.balances[account_id] == account["balances"]
            assert mirror.versions[account_id] == account["lock_version"]
