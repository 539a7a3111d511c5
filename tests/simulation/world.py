"""The world the product lives in: a database that may be slow or away, a network, processes that are killed at any await."""

from __future__ import annotations

import asyncio
import contextvars
import hashlib
import random
import sqlite3
import ssl
from collections import Counter, defaultdict
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar, cast

import msgspec
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.pool import StaticPool

from delivery.retry import Failure, Reply
from delivery.schema import metadata as delivery_metadata
from delivery.sender import Sender, Sent
from engine.databases import Database, Databases, Site
from engine.schema import metadata as engine_metadata
from tests.fakes.clock import START_US

T = TypeVar("T")

SITE: Final = Site(id=7, organization="acme-corp", environment="sandbox")
KILL: Final = 0.015
"""The chance that a process dies at an await at which it leaves itself: before or after what it asked for was done."""
STALL: Final = 0.004
STALL_S: Final = 45.0
"""A process may stand still for longer than any lease."""
AWAY: Final = 0.01
_process: contextvars.ContextVar[Process | None] = contextvars.ContextVar("process", default=None)


@dataclass(slots=True, eq=False)
class Process:
    """A process: its tasks, and whether it still lives."""

    name: str
    alive: bool = True
    tasks: dict[asyncio.Task[Any], None] = field(default_factory=dict)

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Run something beside the rest until it ends or the process dies."""
        self.tasks[asyncio.get_running_loop().create_task(coroutine)] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """A request as a receiver saw it, and how it answered."""

    at_s: float
    path: str
    event_id: str
    number: int
    status: int


class World:
    """Everything outside the code under test. `calm` ends all faults."""

    def __init__(self, loop: asyncio.AbstractEventLoop, dice: random.Random, books: Engine) -> None:
        self.loop = loop
        self.dice = dice
        self.books = books
        self.faults = True
        self.arrivals: list[Arrival] = []
        self.answered: dict[str, set[int]] = defaultdict(set)
        self.open: Counter[str] = Counter()
        self.limits: dict[str, int] = {}
        self.broken: list[str] = []
        self.kills = 0
        self._trace = hashlib.sha256()
        self._processes: list[Process] = []

    def now_us(self) -> int:
        """Return the time, as the product's clock."""
        return START_US + round(self.loop.time() * 1_000_000)

    def note(self, *what: object) -> None:
        """Add to what two runs of one seed must have in common."""
        self._trace.update(repr((round(self.loop.time(), 6), *what)).encode())

    def digest(self) -> str:
        """Return a digest of all that was noted."""
        return self._trace.hexdigest()

    def start(self, name: str, main: Callable[[Process], Coroutine[Any, Any, None]]) -> Process:
        """Start a process; when it is killed another takes its place after a while."""
        process = Process(name)
        self._processes.append(process)

        def run() -> None:
            _process.set(process)
            self.loop.create_task(self._keep(process, main))

        contextvars.copy_context().run(run)
        return process

    def kill(self, process: Process) -> None:
        """End a process between two of its steps: nothing that it would still do has any effect."""
        if not process.alive:
            return
        process.alive = False
        self.kills += 1
        self.note("killed", process.name)
        for task in list(process.tasks):
            task.cancel()

    async def point(self, *, stall: float = STALL) -> None:
        """Pass a point at which the running process waits for somebody else: it may stand still or die here."""
        process = _process.get()
        if process is not None and not process.alive:
            await self._nothing()
        stalls = self.faults and self.dice.random() < stall
        await asyncio.sleep(STALL_S * self.dice.random() if stalls else 0.003 * self.dice.random())
        if process is None:
            return
        if self.faults and self.dice.random() < KILL:
            self.kill(process)
        if not process.alive:
            await self._nothing()

    async def end(self) -> None:
        """End every process for good."""
        for process in self._processes:
            process.alive = False
        for _ in range(3):
            tasks = [task for process in self._processes for task in process.tasks if not task.done()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def factory(self, loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> asyncio.Task[Any]:
        """Make a task and note whose it is; the loop's task factory."""
        task: asyncio.Task[Any] = asyncio.Task(coroutine, loop=loop, **options)
        process = _process.get()
        if process is not None:
            process.tasks[task] = None
            task.add_done_callback(lambda done: process.tasks.pop(done, None))
        return task

    async def _keep(self, process: Process, main: Callable[[Process], Coroutine[Any, Any, None]]) -> None:
        try:
            await main(process)
        finally:
            if not process.alive and self.faults:
                fresh = contextvars.Context()
                wait_s = 0.1 + 3 * self.dice.random()
                self.loop.call_later(wait_s, lambda: self.start(process.name, main), context=fresh)

    async def _nothing(self) -> None:
        await self.loop.create_future()


class SimulatedDatabase(Database):
    """The real SQL over SQLite in memory, run within the loop: a transaction is one instant, the way there and back is not."""

    def __init__(self, world: World) -> None:
        super().__init__("sqlite", cast("Any", None), cast("Any", None))
        self._world = world

    async def read(self, run: Callable[[Connection], T], *, site_id: int | None = None) -> T:
        """Run a function that only reads."""
        return await self.write(run, site_id=site_id)

    async def write(self, run: Callable[[Connection], T], *, site_id: int | None = None) -> T:
        """Run a function in one transaction; what went wrong on the way back does not undo it."""
        del site_id
        await self._world.point()
        self._away()
        with self._world.books.begin() as connection:
            found = run(connection)
        await self._world.point()
        self._away()
        return found

    def _away(self) -> None:
        if self._world.faults and self._world.dice.random() < AWAY:
            raise ConnectionResetError("the database is away")


class SimulatedDatabases(Databases):
    """Every site lives in the one database."""

    def __init__(self, world: World) -> None:
        super().__init__("", lambda _url: None)
        self._database = SimulatedDatabase(world)

    async def of(self, site: Site) -> Database:
        """Return the database."""
        del site
        return self._database


class SimulatedSender(Sender):
    """Requests over a network that loses, delays and repeats them, to receivers that fail at times."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def post(
        self, url: str, body: bytes, headers: Mapping[str, str], timeout_s: float, *, tls: ssl.SSLContext | None = None
    ) -> Sent:
        """Send one request; what came of it as the sender sees it."""
        del body, tls
        world, dice = self._world, self._world.dice
        # No process can rule out that it stands still between its last look at the lease and the request itself.
        await world.point(stall=0)
        world.open[url] += 1
        if world.open[url] > world.limits.get(url, 1000):
            world.broken.append(f"{world.open[url]} requests at once at {url}")
        try:
            return await self._travel(url, headers, timeout_s, dice.random() if world.faults else 1.0)
        finally:
            # What a dead process had under way is over for it; its lease lasts longer.
            world.open[url] -= 1

    async def _travel(self, url: str, headers: Mapping[str, str], timeout_s: float, fate: float) -> Sent:
        await asyncio.sleep(0.02 * self._world.dice.random())
        if fate < 0.06:  # lost on the way there
            return await self._give_up(timeout_s)
        if fate < 0.12:  # half open: it arrives, the answer does not
            self._arrive(url, headers, 200)
            return await self._give_up(timeout_s)
        if fate < 0.2:
            return self._answer(url, headers, 503)
        if fate < 0.25:
            return Sent(result=Failure(error_class="connection_failed"), response=None)
        if fate < 0.3:  # the network repeats it
            self._arrive(url, headers, 200)
        if fate < 0.4:
            await asyncio.sleep(0.9 * timeout_s * self._world.dice.random())
        return self._answer(url, headers, 200)

    async def _give_up(self, timeout_s: float) -> Sent:
        await asyncio.sleep(timeout_s)
        return Sent(result=Failure(error_class="timeout"), response=None)

    def _answer(self, url: str, headers: Mapping[str, str], status: int) -> Sent:
        self._arrive(url, headers, status)
        return Sent(result=Reply(status=status), response=None)

    def _arrive(self, url: str, headers: Mapping[str, str], status: int) -> None:
        world = self._world
        number = int(headers["X-GLedger-Endpoint-Sequence"])
        world.note("arrived", url, number, status)
        world.arrivals.append(
            Arrival(at_s=world.loop.time(), path=url, event_id=headers["webhook-id"], number=number, status=status)
        )
        if status == 200:
            world.answered[url].add(number)


class Books:
    """A SQLite database in memory, brought back to empty tables for every run by a copy.

    One engine for all runs, because it keeps the statements it has compiled.
    """

    def __init__(self) -> None:
        self._engine = _open()
        for metadata in (engine_metadata, delivery_metadata):
            metadata.create_all(self._engine)
        self._empty = sqlite3.connect(":memory:")
        _raw(self._engine).backup(self._empty)

    def fresh(self) -> Engine:
        """Return the database with empty tables."""
        self._empty.backup(_raw(self._engine))
        return self._engine

    def close(self) -> None:
        """Close every connection."""
        self._empty.close()
        self._engine.dispose()


def _open() -> Engine:
    engine = create_engine(
        "sqlite://",
        poolclass=StaticPool,
        json_serializer=lambda value: msgspec.json.encode(value).decode(),
        json_deserializer=msgspec.json.decode,
        connect_args={"isolation_level": None, "check_same_thread": False},
    )
    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
    return engine


def _raw(engine: Engine) -> sqlite3.Connection:
    with engine.connect() as connection:
        found = connection.connection.driver_connection
    assert isinstance(found, sqlite3.Connection)
    return found
