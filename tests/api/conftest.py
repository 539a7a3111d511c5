"""The whole application in one process: real parts over SQLite files and a Redis, driven through ASGI.

The parts are a module's, a site is a test's own: nothing that one test posts is seen by another.
"""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Final

import httpx2
import pytest
from prometheus_client import CollectorRegistry
from starlette.types import ASGIApp

from engine.ledger import Engine, Limits
from gledger.parts import Parts, open_parts
from gledger.serve import Gateway
from gledger.settings import Settings
from tests.api.stage import BASE_URL, OpenSite, open_client, open_site

MASTER_KEY: Final = base64.b64encode(bytes(range(32))).decode()
DAYS: Final = 3 * 86_400_000_000


class Later:
    """The clock of a process that looks at the feed three days later."""

    def __init__(self, parts: Parts) -> None:
        self._clock = parts.clock

    def now_us(self) -> int:
        """Return that time."""
        return self._clock.now_us() + DAYS


@pytest.fixture(scope="module")
async def parts(tmp_path_factory: pytest.TempPathFactory, redis_server: str) -> AsyncIterator[Parts]:
    """What a process is made of, over a data folder of this module's own."""
    settings = Settings.from_env(
        {
            "GLEDGER_DATA": str(tmp_path_factory.mktemp("data")),
            "GLEDGER_REDIS_URL": redis_server,
            "GLEDGER_MASTER_KEY": MASTER_KEY,
            "GLEDGER_PUBLIC_URL": BASE_URL,
        }
    )
    async with open_parts(settings) as opened:
        yield opened


@pytest.fixture(scope="module")
async def gateway(parts: Parts) -> AsyncIterator[Gateway]:
    """The HTTP surface with what it does in the background."""
    made = Gateway(parts)
    async with made.running():
        yield made


@pytest.fixture(scope="module")
def app(gateway: Gateway) -> ASGIApp:
    """The application itself."""
    return gateway.app


@pytest.fixture
async def site(parts: Parts, app: ASGIApp) -> AsyncIterator[OpenSite]:
    """A fresh site."""
    async with open_site(parts, app) as opened:
        yield opened


@pytest.fixture
def client(site: OpenSite) -> httpx2.AsyncClient:
    """A client with an access token that may do everything on its fresh site."""
    return site.client


@pytest.fixture
async def other_client(parts: Parts, app: ASGIApp) -> AsyncIterator[httpx2.AsyncClient]:
    """The same on another organization's site."""
    async with open_site(parts, app) as opened:
        yield opened.client


@pytest.fixture
async def anonymous(app: ASGIApp) -> AsyncIterator[httpx2.AsyncClient]:
    """A client that says nothing about itself."""
    async with open_client(app) as client:
        yield client


@pytest.fixture
async def later(parts: Parts) -> AsyncIterator[ASGIApp]:
    """The application with books that look at the feed three days later, where events are served for one day."""
    engine = Engine(parts.databases, Later(parts), parts.ids, lambda _site, _head: None, Limits(feed_retention_days=1))
    gateway = Gateway(replace(parts, engine=engine, registry=CollectorRegistry()))
    yield gateway.app
    await gateway.tailers.close()
