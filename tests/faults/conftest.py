"""A deployment of its own servers, under load, that a test may do harm to."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import aiohttp
import pytest
from sqlalchemy.engine import make_url

from gledger.embedded import Valkey
from tests.databases import PostgresAddress, Templates, make_runtime_role
from tests.fakes.receiver import Receiver
from tests.faults.follower import Follower
from tests.faults.load import Book, Load
from tests.faults.promises import check_everything
from tests.processes import Deployment, GatewayProgram, WorkerProgram, deployed
from tests.servers import Postgres

CLIENTS: Final = 12
ENTRIES: Final = 5_000
LEASE_TIMEOUT_S: Final = 1
"""The endpoint's timeout: a killed worker's deliveries are taken up again this and the settle margin later."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let one say how large things are, and how many entries are posted while everything dies at once."""
    parser.addoption(
        "--large", action="store_true", help="streams in the sizes that are promised: minutes, 20,000 files"
    )
    parser.addoption("--entries", type=int, default=ENTRIES, help=f"entries in test_everything_at_once ({ENTRIES})")


@pytest.fixture
def entries(pytestconfig: pytest.Config) -> int:
    """How many entries are posted while everything dies at once."""
    return int(pytestconfig.getoption("entries", ENTRIES))


@pytest.fixture
def rounds(pytestconfig: pytest.Config) -> int:
    """How many rounds of harm there are."""
    return int(pytestconfig.getoption("rounds"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """How much of it: as little as shows it, or as much as is promised."""

    storm: int
    skipped: int
    stopped_s: float


@pytest.fixture
def sizes(pytestconfig: pytest.Config) -> Sizes:
    """How large things are in this run."""
    if pytestconfig.getoption("large", default=False):
        return Sizes(storm=10_000, skipped=50_000, stopped_s=60.0)
    return Sizes(storm=300, skipped=3_000, stopped_s=3.0)


@dataclass(slots=True, kw_only=True)
class Stage:
    """Servers, processes, clients, a receiver and followers: all that takes part."""

    postgres: Postgres
    valkey: Valkey
    deployment: Deployment
    gateways: list[GatewayProgram]
    workers: list[WorkerProgram]
    receiver: Receiver
    http: aiohttp.ClientSession
    load: Load
    book: Book
    endpoint: dict[str, Any]
    followers: list[Follower] = field(default_factory=list)

    @asynccontextmanager
    async def under_load(self, *, clients: int = CLIENTS, rest_s: float = 0.0) -> AsyncIterator[asyncio.Task[None]]:
        """Post while the block runs, and return when every client has its last answer; the task is what posts.

        A client goes on at once, unless it rests between two entries.
        """
        self.load.stopped, self.load.rest_s = False, rest_s
        posting = asyncio.create_task(self.load.run(self.http, self.book, clients=clients))
        try:
            await _or_failed(self.load.until(50), posting)
            yield posting
            await _or_failed(self.load.until(50), posting)
            self.load.stopped = True
            await posting
        finally:
            posting.cancel()
            await asyncio.gather(posting, return_exceptions=True)

    async def check(self) -> None:
        """Hold everything to what was promised."""
        await check_everything(
            self.deployment, self.load, self.http, self.book, self.receiver, self.endpoint, self.followers
        )


async def _or_failed(waiting: Any, posting: asyncio.Task[None]) -> None:
    """Wait for something, but no longer than the clients go on: their failure says more than a deadline."""
    task = asyncio.ensure_future(waiting)
    await asyncio.wait({task, posting}, return_when=asyncio.FIRST_COMPLETED)
    if not task.done():
        task.cancel()
        await posting
    await task


@pytest.fixture(scope="session")
def durable_postgres() -> Iterator[Postgres]:
    """A PostgreSQL of these tests' own that keeps what it acknowledged, whenever it is killed."""
    with Postgres(durable=True) as server:
        yield server


@pytest.fixture(scope="session")
async def durable_address(durable_postgres: Postgres) -> PostgresAddress:
    """Its address, with the role that owns nothing."""
    address = PostgresAddress(owner=make_url(durable_postgres.url()), prefix=f"gledger_fault_{secrets.token_hex(4)}")
    await make_runtime_role(address)
    return address


@pytest.fixture(scope="session")
def durable_templates(tmp_path_factory: pytest.TempPathFactory) -> Templates:
    """Its migrated databases."""
    return Templates(tmp_path_factory.mktemp("durable-templates"))


@pytest.fixture
async def stage(
    durable_postgres: Postgres, durable_address: PostgresAddress, durable_templates: Templates, tmp_path: Path
) -> AsyncIterator[Stage]:
    """Two gateways and two workers with a registered endpoint, and one follower of each gateway."""
    async with AsyncExitStack() as held:
        if durable_postgres.pid is None:
            await asyncio.to_thread(durable_postgres.start)
        valkey = held.enter_context(Valkey(tmp_path / "valkey"))
        deployment = await held.enter_async_context(deployed(durable_address, durable_templates, valkey.url, tmp_path))
        credentials = await deployment.bootstrap()
        gateways = [deployment.gateway() for _ in range(2)]
        workers = [deployment.worker() for _ in range(2)]
        receiver = await held.enter_async_context(Receiver())
        http = await held.enter_async_context(aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)))
        for gateway in gateways:
            await gateway.ready()
        load = Load(gateways=[each.url for each in gateways], credentials=credentials)
        book = await load.open_book(http)
        wanted = {"url": receiver.url("/hook"), "event_types": ["entry.*"], "timeout_s": LEASE_TIMEOUT_S}
        endpoint = await load.ask(http, "POST", "/v1/webhook_endpoints", wanted, "endpoint")
        followers = [Follower(url=each.url, token=credentials.api_key) for each in gateways]
        following = [asyncio.create_task(each.run(http)) for each in followers]
        yield Stage(
            postgres=durable_postgres, valkey=valkey, deployment=deployment, gateways=gateways, workers=workers,
            receiver=receiver, http=http, load=load, book=book, endpoint=endpoint, followers=followers,
        )  # fmt: skip
        for task in following:
            task.cancel()
        ended = await asyncio.gather(*following, return_exceptions=True)
        assert [each for each in ended if not isinstance(each, asyncio.CancelledError)] == []
