"""Production in small for journeys: two gateways and a worker on PostgreSQL and Redis; every test has a site of its own.

And `gledger dev` with its portal in a real browser.
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp
import msgspec
import pytest
from playwright.async_api import Browser, expect

from gledger.sites import CredentialsFile
from tests.browser import PATIENCE_MS, Window, browsing, window
from tests.databases import PostgresAddress, Templates
from tests.processes import Deployment, GatewayProgram, Program, deployed
from tests.sandbox import Sandbox, open_sandbox

_NUMBERS: Final = itertools.count(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Production:
    """Processes that run, and a client to speak to them."""

    deployment: Deployment
    gateways: list[GatewayProgram]
    worker: Program
    http: aiohttp.ClientSession


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteClient:
    """A site with two accounts, and a client that calls either gateway with its API key."""

    http: aiohttp.ClientSession
    urls: list[str]
    credentials: CredentialsFile
    debit: str = ""
    credit: str = ""

    @property
    def headers(self) -> dict[str, str]:
        """What a request with the API key carries."""
        return {"authorization": f"Bearer {self.credentials.api_key}"}

    @property
    def basic(self) -> dict[str, str]:
        """What a request as the client itself carries."""
        return {"authorization": aiohttp.encode_basic_auth(self.credentials.client_id, self.credentials.client_secret)}

    async def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        at: int = 0,
        status: int | None = None,
        headers: dict[str, str] | None = None,
    ) -> Any:
        """Return the answer of a gateway; its status must be this, or a success."""
        given = self.headers | (headers or {})
        async with self.http.request(method, self.urls[at] + path, json=body, headers=given) as answer:
            found = await answer.json(content_type=None)
            assert answer.status == status if status is not None else answer.status < 300, (answer.status, found)
            return found

    async def token(self, *, at: int = 0) -> str:
        """Return a fresh access token."""
        form = {"grant_type": "client_credentials"}
        async with self.http.post(f"{self.urls[at]}/oauth/token", data=form, headers=self.basic) as answer:
            assert answer.status == 200, await answer.text()
            return str((await answer.json())["access_token"])

    def entry(self, amount: int = 100, **fields: Any) -> dict[str, Any]:
        """Return the body of an entry."""
        lines = [
            {"account_id": self.debit, "direction": "debit", "amount": amount},
            {"account_id": self.credit, "direction": "credit", "amount": amount},
        ]
        return {"lines": lines, **fields}

    async def feed_cursor(self, *, at: int = 0) -> str:
        """Return the cursor of the feed's head, as lists tell it."""
        async with self.http.get(f"{self.urls[at]}/v1/accounts", headers=self.headers) as answer:
            return answer.headers["x-gledger-feed-cursor"]

    async def feed(self, *, at: int = 0) -> list[bytes]:
        """Return the whole feed's bytes, over the list."""
        found: list[bytes] = []
        after = ""
        while True:
            page = f"{self.urls[at]}/v1/events?limit=1000{after}"
            async with self.http.get(page, headers=self.headers) as answer:
                raw = await answer.read()
                assert answer.status == 200, raw
            data, more, next_cursor = split_page(raw)
            found += data
            if not more:
                return found
            after = f"&after={next_cursor}"


def split_page(raw: bytes) -> tuple[list[bytes], bool, str | None]:
    """Return a list's items as the bytes they were sent as, whether more follows, and the next cursor."""
    page = msgspec.json.decode(raw, type=_Page)
    return [bytes(each) for each in page.data], page.has_more, page.next_cursor


class _Page(msgspec.Struct):
    data: list[msgspec.Raw]
    has_more: bool
    next_cursor: str | None


async def open_site(
    deployment: Deployment, http: aiohttp.ClientSession, urls: list[str], organization: str
) -> SiteClient:
    """Make a site with a ledger and two accounts."""
    credentials = await deployment.bootstrap(organization)
    site = SiteClient(http=http, urls=urls, credentials=credentials)
    ledger = await site.ask("POST", "/v1/ledgers", {"name": "Journey"})
    accounts = [
        (await site.ask(
            "POST", "/v1/accounts", {"ledger_id": ledger["id"], "name": kind, "type": kind, "currency": "USD"}
        ))["id"]
        for kind in ("asset", "liability")
    ]  # fmt: skip
    return SiteClient(http=http, urls=urls, credentials=credentials, debit=accounts[0], credit=accounts[1])


@pytest.fixture(scope="session")
async def production(
    postgres_with_roles: PostgresAddress,
    templates: Templates,
    redis_server: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[Production]:
    """Two gateways and a worker that run for the session."""
    async with AsyncExitStack() as held:
        folder = tmp_path_factory.mktemp("production")
        deployment = await held.enter_async_context(deployed(postgres_with_roles, templates, redis_server, folder))
        http = await held.enter_async_context(aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)))
        gateways = [deployment.gateway() for _ in range(2)]
        worker = deployment.worker()
        for gateway in gateways:
            await gateway.ready()
        yield Production(deployment=deployment, gateways=gateways, worker=worker, http=http)
        for program in (*gateways, worker):
            assert program.pid


@pytest.fixture
async def site(production: Production) -> SiteClient:
    """A fresh site of the production that runs."""
    urls = [each.url for each in production.gateways]
    return await open_site(production.deployment, production.http, urls, f"journey-{next(_NUMBERS)}")


@pytest.fixture(scope="session")
async def browser() -> AsyncIterator[Browser]:
    """One browser for all journeys."""
    expect.set_options(timeout=PATIENCE_MS)
    async with browsing() as opened:
        yield opened


@pytest.fixture
async def sandbox(tmp_path: Path) -> AsyncIterator[Sandbox]:
    """A server of the test's own."""
    async with open_sandbox(tmp_path) as made:
        yield made


@pytest.fixture
async def seen(browser: Browser, sandbox: Sandbox) -> AsyncIterator[Window]:
    """A window in which the administrator is signed in; at the end nothing was wrong with its pages."""
    async with window(browser, sandbox.credentials.base_url) as opened:
        await sandbox.sign_in(opened)
        yield opened
        assert (opened.errors, opened.elsewhere) == ([], [])
