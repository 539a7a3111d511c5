"""The server that is held to the contract: one that runs already (`--base-url`), or `gledger dev` in a folder of its own.

    pytest tests/conformance/streams [--base-url https://ledger.example --api-key glk_… --other-api-key glk_… --page-port 5173]

A server that runs already must let pages of `http://127.0.0.1:PAGE_PORT` follow (GLEDGER_STREAM_ORIGINS), or the browser's cases
are skipped. It is posted to: give a sandbox's key, and another site's for the cases of several feeds. With CONFORMANCE_ALL=1, as in continuous integration, a client that
is not there is a failure.
"""

from __future__ import annotations

import asyncio
import base64
import os
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Final, Self

import aiohttp
import msgspec
import pytest

from gledger.sites import read_credentials
from tests.processes import Program, run, until_ready
from tests.servers import free_port

ALL: Final = "CONFORMANCE_ALL"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let one name a server that runs."""
    parser.addoption("--base-url", default=None, help="hold this server to the contract instead of starting one")
    parser.addoption(
        "--api-key", default=None, help="a key of its sandbox with ledger.admin, ledger.write, events.read"
    )
    parser.addoption("--other-api-key", default=None, help="a key of another site of that server with the same scopes")
    parser.addoption("--page-port", type=int, default=0, help="where the browser's page is served (a free port)")


class _Page(msgspec.Struct):
    data: list[msgspec.Raw]
    has_more: bool
    next_cursor: str


@dataclass(slots=True, kw_only=True)
class Server:
    """The server, and what the suite may do with it."""

    http: aiohttp.ClientSession
    url: str
    token: str
    page_port: int
    program: Program | None
    other_token: str | None = None
    accounts: tuple[str, str] = ("", "")

    async def furnish(self) -> Self:
        """Make a ledger and two accounts of this run's own."""
        ledger = (await self.ask("POST", "/v1/ledgers", {"name": "Conformance"}))["id"]
        account = {"ledger_id": ledger, "name": "Account", "currency": "EUR"}
        debit = await self.ask("POST", "/v1/accounts", {**account, "type": "asset"})
        credit = await self.ask("POST", "/v1/accounts", {**account, "type": "liability"})
        self.accounts = (debit["id"], credit["id"])
        return self

    async def ticket(self, page: str | None = None) -> str:
        """Return a ticket for a page, or for a program; nothing where the server does not let the page's origin in."""
        headers = {"authorization": f"Bearer {self.token}"}
        async with self.http.post(f"{self.url}/v1/stream_tickets", json={"origin": page}, headers=headers) as answer:
            return str((await answer.json())["ticket"]) if answer.status == 201 else ""

    async def ask(self, method: str, path: str, body: Any = None, *, status: int = 201) -> Any:
        """Return the answer of an operation."""
        headers = {"authorization": f"Bearer {self.token}"}
        async with self.http.request(method, self.url + path, json=body, headers=headers) as answer:
            assert answer.status == status, await answer.text()
            return await answer.json()

    async def post(self, amount: int) -> None:
        """Post an entry, again and again while the server is away; its key makes it one."""
        lines = [
            {"account_id": account, "direction": direction, "amount": amount}
            for account, direction in zip(self.accounts, ("debit", "credit"), strict=True)
        ]
        body = {"lines": lines, "idempotency_key": f"{self.accounts[0]}-{amount}", "metadata": {'ä"\\': "€\u2028😀"}}
        while True:
            try:
                await self.ask("POST", "/v1/entries", body)
            except aiohttp.ClientConnectionError:
                await asyncio.sleep(0.1)
            else:
                return

    async def head(self) -> str:
        """Return the cursor of the feed's head."""
        headers = {"authorization": f"Bearer {self.token}"}
        async with self.http.get(f"{self.url}/v1/accounts?limit=1", headers=headers) as answer:
            return answer.headers["x-gledger-feed-cursor"]

    async def listed(self, cursor: str) -> list[bytes]:
        """Return what follows a cursor, over the list, as bytes."""
        found: list[bytes] = []
        headers = {"authorization": f"Bearer {self.token}"}
        while True:
            async with self.http.get(f"{self.url}/v1/events?limit=1000&after={cursor}", headers=headers) as answer:
                page = msgspec.json.decode(await answer.read(), type=_Page)
            found += [bytes(each) for each in page.data]
            if not page.has_more:
                return found
            cursor = page.next_cursor

    async def restart(self) -> None:
        """Stop the server and start it again; one that we did not start goes on."""
        if self.program is not None:
            await self.program.stop()
            self.program.start()
            await until_ready(self.http, self.url, self.program)


@pytest.fixture(scope="session")
async def server(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Server]:
    """The server with a ledger and two accounts of this run's own."""
    url, token = pytestconfig.getoption("--base-url"), pytestconfig.getoption("--api-key")
    other_token = pytestconfig.getoption("--other-api-key")
    page_port = pytestconfig.getoption("--page-port") or free_port()
    program = None
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
        if url is None:
            folder, port = tmp_path_factory.mktemp("conformance"), free_port()
            environ = {
                "GLEDGER_STREAM_ORIGINS": f"http://127.0.0.1:{page_port}",
                "GLEDGER_LOG_LEVEL": "warning",
                "GLEDGER_DATA": str(folder / "data"),
                "GLEDGER_MASTER_KEY": base64.b64encode(secrets.token_bytes(32)).decode(),
            }
            # To make a site nobody has to be woken: there is no Redis yet.
            alone = environ | {"GLEDGER_REDIS_URL": "redis://127.0.0.1:1"}
            made = await run("bootstrap", "--organization", "other", "--json", environ=alone)
            assert made.code == 0, made.err
            other_token = msgspec.json.decode(made.out)["api_key"]
            program = Program("dev", "--port", str(port), environ=environ, log=folder / "log")
            program.start()
            url = f"http://127.0.0.1:{port}"
            await until_ready(http, url, program)
            credentials = read_credentials(folder / "data" / "credentials.json")
            assert credentials is not None
            token = credentials.api_key
        try:
            yield await Server(
                http=http,
                url=url.rstrip("/"),
                token=token,
                page_port=page_port,
                program=program,
                other_token=other_token,
            ).furnish()
        finally:
            if program is not None:
                program.close()


def missing(why: str) -> None:
    """Skip a case for what is not there, by name; where everything must be there, fail."""
    if os.environ.get(ALL):
        pytest.fail(why)
    pytest.skip(why)
