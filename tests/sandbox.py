"""A `gledger dev` of a test's own, furnished: its API with a key, its portal with an administrator."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from gledger.sites import CredentialsFile, read_credentials
from tests.browser import Window
from tests.processes import Program, until_ready
from tests.servers import free_port


@dataclass(slots=True, kw_only=True)
class Sandbox:
    """A `gledger dev` with a ledger, two accounts and an administrator."""

    program: Program
    credentials: CredentialsFile
    http: aiohttp.ClientSession
    pair: tuple[str, str] = ("", "")

    async def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        """Return what the API answers."""
        given = {
            "x-api-key": self.credentials.api_key,
            **{name.replace("_", "-"): each for name, each in headers.items()},
        }
        async with self.http.request(method, self.credentials.base_url + path, json=body, headers=given) as answer:
            found = await answer.json()
            assert answer.status < 300, found
            return found

    def entry(self, amount: int = 2500, description: str = "Top up") -> dict[str, Any]:
        """Return the body of an entry."""
        sides = zip(self.pair, ("debit", "credit"), strict=True)
        lines = [{"account_id": each, "direction": side, "amount": amount} for each, side in sides]
        return {"description": description, "lines": lines}

    async def furnish(self) -> None:
        """Make a ledger with two accounts."""
        ledger = await self.ask("POST", "/v1/ledgers", {"name": "SendCash"})
        made = [
            (
                await self.ask(
                    "POST", "/v1/accounts", {"ledger_id": ledger["id"], "name": name, "type": kind, "currency": "USD"}
                )
            )["id"]
            for name, kind in (("Cash", "asset"), ("Jane Doe wallet", "liability"))
        ]
        self.pair = (made[0], made[1])

    async def sign_in(self, seen: Window) -> None:
        """Sign its administrator in."""
        assert self.credentials.admin_password is not None
        await seen.sign_in(self.credentials.admin_email, self.credentials.admin_password)


@asynccontextmanager
async def open_sandbox(tmp_path: Path) -> AsyncIterator[Sandbox]:
    """Run a server for the block; what fails once is given up or waits for an hour."""
    port, log, data = free_port(), tmp_path / "dev.log", tmp_path / "data"
    environ = {"GLEDGER_WEBHOOK_RETRY_SCHEDULE": "0,3600"}
    program = Program("dev", "--port", str(port), "--data", str(data), environ=environ, log=log)
    program.start()
    try:
        async with aiohttp.ClientSession() as http:
            await until_ready(http, f"http://127.0.0.1:{port}", program)
            async with asyncio.timeout(30):
                while (credentials := read_credentials(data / "credentials.json")) is None:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
            made = Sandbox(program=program, credentials=credentials, http=http)
            await made.furnish()
            yield made
    finally:
        program.close()
