"""A gateway's process in the simulated world: it answers what is asked and serves streams, each in a task of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final

from msgspec import UNSET
from prometheus_client import CollectorRegistry
from starlette.websockets import WebSocket

from auth.revocations import Revocations
from engine.databases import Site
from engine.errors import CursorExpired, CursorInvalid, EngineError
from engine.filters import EventFilter
from engine.ids import Ids
from engine.ledger import Engine
from gateway.call import Services, StreamSettings
from gateway.metrics import Metrics
from gateway.socket import Opening, serve
from gateway.sse import EventStream, Feed
from gateway.starting import Start, filter_of, start_of, starts_of
from gateway.tailer import Bounds
from gateway.tailers import Tailers
from tests.simulation.connection import Connection, Wanted
from tests.simulation.world import SITE, Process, SimulatedDatabases, World
from tests.stream_services import stream_services

Ask = Callable[[Engine], Coroutine[Any, Any, Any]]
BOUNDS: Final = Bounds(ring_events=6, page_events=3, chunk_events=4, skipped_events=3, poll_s=2.0)
"""So little that a story of a few dozen events has all that a long one has."""
SETTINGS: Final = StreamSettings(idle_checkpoint_s=3.0, send_timeout_s=6.0, lifetime_s=60.0)
REVOKED: Final = 0.3
WAKES: Final = 0.7
"""The chance that a wake-up arrives."""
SWEEP_S: Final = 4.0
OVERDUE_S: Final = 60.0
"""A process may have stood still in between, and a client that takes nothing is waited for."""


class Gateways:
    """The gateways there are, by name: whoever dies leaves its place to the next of its name."""

    def __init__(self, world: World, databases: SimulatedDatabases) -> None:
        self.streams: dict[Connection, None] = {}
        """Streams that some process serves."""
        self._revocations = Revocations()
        self._world = world
        self._databases = databases
        self._queues: dict[str, asyncio.Queue[tuple[Ask, asyncio.Future[Any]] | Connection]] = {}
        self._tailers: dict[str, Tailers] = {}
        self._metrics = Metrics(CollectorRegistry())

    def ask(self, ask: Ask) -> asyncio.Future[Any]:
        """Ask one of them, which may be dead; the answer may never come."""
        reply: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._any().put_nowait((ask, reply))
        return reply

    def connect(self, connection: Connection) -> None:
        """Connect to one of them."""
        self._any().put_nowait(connection)

    def revoke(self) -> None:
        """Take back the credential of some stream, at times."""
        if self.streams and self._world.dice.random() < REVOKED:
            principal = self._world.dice.choice(self._world.dice.choice(list(self.streams)).wanted.principals)
            self._revocations.add_token(principal.credential_id, principal.expires_at)

    def overdue(self) -> list[Connection]:
        """Return streams that should have ended long ago."""
        now_s, now_us = self._world.loop.time(), self._world.now_us()
        return [
            each
            for each in self.streams
            if each.opened_s + SETTINGS.lifetime_s < now_s - OVERDUE_S
            or each.wanted.ends_at < now_us - OVERDUE_S * 1_000_000
        ]

    def _any(self) -> asyncio.Queue[tuple[Ask, asyncio.Future[Any]] | Connection]:
        return self._queues[self._world.dice.choice(sorted(self._queues))]

    async def run(self, process: Process) -> None:
        """Be a gateway until killed, or until it is its turn to be replaced."""
        queue = self._queues[process.name] = asyncio.Queue()
        engine = Engine(self._databases, self._world, Ids(self._world.dice.randbytes), self.wake)
        tailers = self._tailers[process.name] = Tailers(engine, self._world, BOUNDS)
        services = stream_services(
            engine, tailers, self._world, stream=SETTINGS, metrics=self._metrics, revocations=self._revocations
        )
        process.spawn(self._replace(process, tailers))
        process.spawn(self._sweep(tailers))
        while True:
            asked = await queue.get()
            if isinstance(asked, Connection):
                process.spawn(self._serve(asked, services))
            else:
                process.spawn(_answer(engine, *asked))

    def wake(self, site: Site, head: int) -> None:
        """Tell every gateway that the feed reaches this far, late or not at all, as Redis would."""
        dice = self._world.dice
        for tailers in self._tailers.values():
            if dice.random() < WAKES:
                self._world.loop.call_later(0.1 * dice.random(), tailers.wake, site, head)

    async def _serve(self, connection: Connection, services: Services) -> None:
        wanted = connection.wanted
        self.streams[connection] = None
        try:
            filters = [filter_of(each) for each in wanted.filters]
            if wanted.kind == "sse":
                starts = await starts_of(services, [SITE] * len(filters), wanted.cursor, wanted.begin, None)
                stream = EventStream(services, _feeds(wanted, starts, filters))
                await stream(connection.scope, connection.receive, connection.send)
            else:
                opening = Opening(
                    principal=wanted.principals[0],
                    within=None,
                    wanted=filters[0],
                    start=await start_of(services, SITE, wanted.cursor, wanted.begin, None),
                    window=wanted.window,
                )
                await serve(WebSocket(connection.scope, connection.receive, connection.send), services, opening)
        except (CursorInvalid, CursorExpired) as error:
            self._world.broken.append(f"the cursor {wanted.cursor} of a stream was refused: {error}")
        except (EngineError, OSError) as error:
            self._world.note("refused", type(error).__name__)
        except Exception as error:  # noqa: BLE001 - nothing else may come out of a stream
            self._world.broken.append(f"a stream failed: {error!r}")
        finally:
            del self.streams[connection]
            connection.end()

    async def _replace(self, process: Process, tailers: Tailers) -> None:
        """Drain after a while, as at a rolling restart."""
        dice = self._world.dice
        await asyncio.sleep(20 + 200 * dice.random())
        if self._world.faults:
            tailers.drain()
            await tailers.quiet(5)
            self._world.kill(process)

    async def _sweep(self, tailers: Tailers) -> None:
        while True:
            await asyncio.sleep(SWEEP_S)
            await tailers.sweep()


def _feeds(wanted: Wanted, starts: list[Start], filters: list[EventFilter | None]) -> list[Feed]:
    """Return what is followed; several feeds are called by their numbers."""
    return [
        Feed(principal=principal, start=start, wanted=each, name=str(at) if len(starts) > 1 else UNSET)
        for at, (principal, start, each) in enumerate(zip(wanted.principals, starts, filters, strict=True))
    ]


async def _answer(engine: Engine, ask: Ask, reply: asyncio.Future[Any]) -> None:
    try:
        found = await ask(engine)
    except Exception as error:  # noqa: BLE001 - whatever it is, the client hears of it
        if not reply.done():
            reply.set_exception(error)
    else:
        if not reply.done():
            reply.set_result(found)
