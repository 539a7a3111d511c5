"""Clients of a deployment while things die: they post with idempotency keys, and ask again until they are answered."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import aiohttp

from gledger.sites import CredentialsFile
from tests.processes import until

PATIENCE_S: Final = 90.0
"""How long a client goes on asking before the test is lost."""
ASK_AGAIN: Final = frozenset({409, 429, 503})
"""What a client may be told while something is down; anything else but success is a failure of the product."""
_PAUSE_S: Final = 0.1


class ClientGaveUp(Exception):
    """A request was refused that must not be, or not answered for too long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Book:
    """The accounts that are posted to."""

    debit: str
    credits: tuple[str, ...]


@dataclass(slots=True, kw_only=True)
class Load:
    """Posts entries over several gateways and remembers what was acknowledged: key → entry id."""

    gateways: Sequence[str]
    credentials: CredentialsFile
    acknowledged: dict[str, str] = field(default_factory=dict)
    amounts: dict[str, int] = field(default_factory=dict)
    retries: int = 0
    stopped: bool = False
    rest_s: float = 0.0
    """How long a client rests between two entries."""
    _numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    async def open_book(self, http: aiohttp.ClientSession) -> Book:
        """Make a ledger with one account that is debited and eight that are credited."""
        ledger = await self.ask(http, "POST", "/v1/ledgers", {"name": "Load"}, "ledger")
        made = []
        for name in ("cash", *(f"wallet {number}" for number in range(8))):
            kind = "asset" if name == "cash" else "liability"
            body = {"ledger_id": ledger["id"], "name": name, "type": kind, "currency": "USD"}
            made.append((await self.ask(http, "POST", "/v1/accounts", body, name.replace(" ", "-")))["id"])
        return Book(debit=made[0], credits=tuple(made[1:]))

    async def run(self, http: aiohttp.ClientSession, book: Book, *, clients: int, entries: int | None = None) -> None:
        """Post from so many clients at once: so many entries in all, else until stopped."""
        async with asyncio.TaskGroup() as group:
            for number in range(clients):
                group.create_task(self._client(http, book, number, entries))

    async def until(self, count: int, *, timeout_s: float = PATIENCE_S) -> None:
        """Return when so many more entries are acknowledged; raises `TimeoutError`."""
        goal = len(self.acknowledged) + count

        async def acknowledged() -> bool | None:
            return len(self.acknowledged) >= goal or None

        try:
            await until(acknowledged, timeout_s=timeout_s)
        except TimeoutError:
            raise TimeoutError(f"{len(self.acknowledged)} of {goal} entries were acknowledged") from None

    async def ask(
        self,
        http: aiohttp.ClientSession,
        method: str,
        path: str,
        body: dict[str, Any] | None,
        key: str | None = None,
        first: int = 0,
    ) -> Any:
        """Return the answer, asking one gateway after the other for as long as nobody answers or one says later."""
        headers = {"authorization": f"Bearer {self.credentials.api_key}"}
        if key is not None:
            headers["idempotency-key"] = key
        deadline = asyncio.get_running_loop().time() + PATIENCE_S
        told = ""
        for turn in itertools.count(first):
            url = self.gateways[turn % len(self.gateways)] + path
            try:
                # A gateway that hangs is left for another one, long before it would answer by itself.
                async with http.request(
                    method, url, json=body, headers=headers, timeout=aiohttp.ClientTimeout(total=4)
                ) as answer:
                    found = await answer.json(content_type=None)
                    if answer.status < 300:
                        return found
                    told = f"{answer.status} {found}"
                    if answer.status not in ASK_AGAIN:
                        raise ClientGaveUp(f"{method} {url} (key {key}): {told}")
            except (aiohttp.ClientError, TimeoutError, ConnectionError) as error:
                told = repr(error)
            if asyncio.get_running_loop().time() > deadline:
                raise ClientGaveUp(f"{method} {url} (key {key}): not within {PATIENCE_S:g} s; last: {told}")
            self.retries += 1
            await asyncio.sleep(_PAUSE_S)
        raise AssertionError("unreachable")

    async def _client(self, http: aiohttp.ClientSession, book: Book, number: int, entries: int | None) -> None:
        while not self.stopped:
            count = next(self._numbers)
            if entries is not None and count > entries:
                return
            key, amount = f"entry-{count}", 1 + count % 97
            self.amounts[key] = amount
            lines = [
                {"account_id": book.debit, "direction": "debit", "amount": amount},
                {"account_id": book.credits[count % len(book.credits)], "direction": "credit", "amount": amount},
            ]
            body = {"lines": lines, "metadata": {"key": key}}
            # Half of the clients begin at each gateway.
            entry = await self.ask(http, "POST", "/v1/entries", body, key, first=number)
            assert entry["metadata"] == {"key": key}
            assert self.acknowledged.setdefault(key, entry["id"]) == entry["id"]
            await asyncio.sleep(self.rest_s)
