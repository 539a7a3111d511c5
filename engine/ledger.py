"""The public face of the books: submit a command, ask a question, read the feed.

Whoever uses it names a site and gets that site's rows and no others. It knows nothing of HTTP, webhooks or credentials.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Concatenate, Final, Generic, ParamSpec, TypeVar

from msgspec import Struct
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from engine import feed
from engine.balances import Totals
from engine.clock import Clock
from engine.commands import Command, Tend
from engine.cursors import feed_cursor
from engine.databases import Databases, Site, is_outage
from engine.errors import NotFound, Refused, Unavailable
from engine.events import Diagnostics, FeedEvent
from engine.feed import Head
from engine.filters import EventFilter
from engine.fold import BatchRun, Committed, Submission
from engine.idempotency import IdempotencyKey
from engine.ids import IdSource
from engine.memory import Memories
from engine.occasion import plainly
from engine.places import Place, Places
from engine.reader import Reader
from engine.rows import AccountRow
from engine.shapes import Account, AccountBalance, account_balance_of, account_of
from engine.writer import OnCommit, Writer

P = ParamSpec("P")
T = TypeVar("T")
_DAY_US: Final = 86_400_000_000
_SEARCHES_MAX: Final = 4


class Limits(Struct, frozen=True, kw_only=True):
    """How long things are kept: idempotency records, and how far back the feed is served (None: to its start)."""

    idempotency_days: int = 7
    feed_retention_days: int | None = None


class Answered(Struct, Generic[T], frozen=True, kw_only=True):
    """An answer, and the feed cursor of the very snapshot it was read from: follow the feed from there."""

    value: T
    feed_cursor: str


class FeedPage(Struct, frozen=True, kw_only=True):
    """Some events in order, the place after the last one that was looked at, and whether more wait."""

    events: list[FeedEvent]
    next_cursor: str
    has_more: bool
    head_cursor: str


class Engine:
    """The books of every site."""

    def __init__(
        self,
        databases: Databases,
        clock: Clock,
        ids: IdSource,
        on_commit: OnCommit,
        limits: Limits | None = None,
        describe: Callable[[Refused], bytes] = plainly,
        *,
        ahead: bool = True,
    ) -> None:
        """Take where sites live, time, ids, whom to tell of every commit, and how refusals are told to clients later.

        `ahead=False` decides every batch behind the site's lock, on what is read there: slower, and the measure of what is right.
        """
        self._ahead = ahead
        self._memories = Memories()
        self._describe = describe
        self._databases = databases
        self._clock = clock
        self._ids = ids
        self._on_commit = on_commit
        self._limits = limits or Limits()
        self._writers: dict[int, Writer] = {}
        self._readers: dict[int, Reader] = {}
        self._places: dict[int, Places] = {}

    async def submit(
        self,
        site: Site,
        command: Command,
        *,
        key: IdempotencyKey | None = None,
        diagnostics: Diagnostics | None = None,
    ) -> Committed:
        """Commit a command and return what it came to; the same key and request again return the first answer.

        Raises a Refused (nothing was changed), Overloaded, IdempotencyInProgress or Unavailable.
        """
        writer = self._writers.get(site.id) or await self._open_writer(site)
        return await writer.submit(
            Submission(command=command, key=key, diagnostics=diagnostics or Diagnostics()),
        )

    async def ask(
        self,
        site: Site,
        query: Callable[Concatenate[Connection, int, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> Answered[T]:
        """Answer a question of `engine.queries`, with the feed's cursor read before it in the same snapshot."""

        def read(conn: Connection) -> Answered[T]:
            head = feed.read_head(conn, site.id)
            return Answered(value=query(conn, site.id, *args, **kwargs), feed_cursor=head.cursor())

        return await self._read(site, read)

    async def account(self, site: Site, account_id: str) -> Answered[Account]:
        """Return an account as it is now, read together with those that others ask for at the same time; raises NotFound."""
        head, found = await self._present(site, account_id)
        return Answered(value=account_of(*found), feed_cursor=head.cursor())

    async def balance(self, site: Site, account_id: str) -> Answered[AccountBalance]:
        """Return an account's balances as they are now, read as `account` is; raises NotFound."""
        head, found = await self._present(site, account_id)
        return Answered(value=account_balance_of(*found), feed_cursor=head.cursor())

    async def tend(self, site: Site) -> int | None:
        """Do what the books have to do of themselves by now: let holds expire, post what was accepted.

        Return when there will be something to do, or None. Raises as `submit` does.
        """
        while True:
            head = await self.head(site)
            due_at = head.holds_due_at
            if head.accepted_done == head.accepted and (due_at is None or due_at > self._clock.now_us()):
                return due_at
            await self.submit(site, Tend())

    async def head(self, site: Site) -> Head:
        """Return where the site's feed ends."""
        reader = self._readers.get(site.id) or await self._open_reader(site)
        return (await or_unavailable(reader.read())).head

    async def event(self, site: Site, event_id: str) -> FeedEvent | None:
        """Return one event of the feed, if the feed still serves it."""

        def read(conn: Connection) -> FeedEvent | None:
            found = feed.read_event(conn, site.id, event_id)
            oldest = self._oldest_at()
            return None if found is None or (oldest is not None and found.created_at < oldest) else found

        return await self._read(site, read)

    async def events_after(
        self,
        site: Site,
        cursor: str | None,
        limit: int,
        wanted: EventFilter | None = None,
    ) -> FeedPage:
        """Return the events after a cursor that match, from the start of what is served where there is none.

        A page of rare events may hold few or none of them while more of the feed waits: it looks only so far. Raises
        CursorInvalid and CursorExpired.
        """

        def read(conn: Connection) -> FeedPage:
            head, looked = self._place(conn, site, cursor)
            found: list[FeedEvent] = []
            for _ in range(_SEARCHES_MAX):
                some, looked = feed.read_matching(
                    conn, site.id, head, looked, limit + 1 - len(found), wanted or EventFilter()
                )
                found += some
                if len(found) > limit or looked >= head.sequence:
                    break
            last = found[limit - 1].sequence if len(found) > limit else looked
            return FeedPage(
                events=found[:limit],
                next_cursor=feed.cursor_at(conn, site.id, head, last),
                has_more=len(found) > limit or looked < head.sequence,
                head_cursor=head.cursor(),
            )

        return await self._read(site, read)

    async def resolve(self, site: Site, cursor: str) -> tuple[int, Head]:
        """Return the sequence that a cursor stands after, and the head; raises CursorInvalid and CursorExpired."""
        place, head = await self._find(site, cursor)
        return place.sequence, head

    async def start(self, site: Site) -> tuple[Place, Head]:
        """Return the place after which the feed is served, and the head."""
        return await self._find(site, None)

    async def place_at(self, site: Site, at_us: int) -> tuple[Place, Head]:
        """Return the place after the last event before an instant, or the first that is served, and the head."""

        def read(conn: Connection) -> tuple[Place, Head]:
            head, earliest = self._place(conn, site, None)
            after = max(feed.place_at(conn, site.id, head, at_us), earliest)
            return Place(after, feed.cursor_at(conn, site.id, head, after)), head

        return await self._read(site, read)

    async def sequences_at(self, site: Site, instants: Sequence[int]) -> list[int]:
        """Return for each instant the sequence of the last event before it, and then the head's."""

        def read(conn: Connection) -> list[int]:
            head = feed.read_head(conn, site.id)
            return [*feed.places_at(conn, site.id, head, instants), head.sequence]

        return await self._read(site, read)

    async def read_after(self, site: Site, after: int, limit: int) -> tuple[list[FeedEvent], Head]:
        """Return events after a sequence, and the head, from one snapshot: what streams and their tailers read."""

        def read(conn: Connection) -> tuple[list[FeedEvent], Head]:
            return feed.read_after(conn, site.id, after, limit), feed.read_head(conn, site.id)

        return await self._read(site, read)

    async def read_matching(
        self, site: Site, after: int, limit: int, wanted: EventFilter
    ) -> tuple[list[FeedEvent], Head, Place]:
        """Return matching events after a sequence, the head, and the place up to which was looked, from one snapshot."""

        def read(conn: Connection) -> tuple[list[FeedEvent], Head, Place]:
            head = feed.read_head(conn, site.id)
            found, looked = feed.read_matching(conn, site.id, head, after, limit, wanted)
            last = found[-1] if found else None
            if last is not None and last.sequence == looked:
                return found, head, Place(looked, feed_cursor(head.epoch, looked, last.hash))
            return found, head, Place(looked, feed.cursor_at(conn, site.id, head, looked))

        return await self._read(site, read)

    async def events_before(
        self,
        site: Site,
        before: int | None,
        limit: int,
        *,
        type_: str | None = None,
        resource_id: str | None = None,
        correlation_id: str | None = None,
    ) -> tuple[list[FeedEvent], Head]:
        """Return events before a sequence (the newest where there is none), newest first, and the head, from one snapshot."""

        def read(conn: Connection) -> tuple[list[FeedEvent], Head]:
            head, earliest = self._place(conn, site, None)
            start = head.sequence + 1 if before is None else before
            found = feed.read_before(
                conn, site.id, start, limit, type_=type_, resource_id=resource_id, correlation_id=correlation_id
            )
            return [event for event in found if event.sequence > earliest], head

        return await self._read(site, read)

    async def drain(self) -> None:
        """Wait until every queued command is answered."""
        await asyncio.gather(*(writer.drain() for writer in self._writers.values()))

    def _place(self, conn: Connection, site: Site, cursor: str | None) -> tuple[Head, int]:
        head = feed.read_head(conn, site.id)
        earliest = feed.floor(conn, site.id, head, self._oldest_at())
        if cursor is None:
            return head, earliest
        return head, feed.resolve_cursor(conn, site.id, head, cursor, earliest)

    def _oldest_at(self) -> int | None:
        days = self._limits.feed_retention_days
        return None if days is None else self._clock.now_us() - days * _DAY_US

    async def _read(self, site: Site, read: Callable[[Connection], T]) -> T:
        database = await self._databases.of(site)
        return await or_unavailable(database.read(read, site_id=site.id))

    async def _find(self, site: Site, cursor: str | None) -> tuple[Place, Head]:
        places = self._places.get(site.id)
        if places is None:
            database = await self._databases.of(site)
            places = self._places.setdefault(site.id, Places(database, site.id, self._oldest_at))
        return await or_unavailable(places.find(cursor))

    async def _present(self, site: Site, account_id: str) -> tuple[Head, tuple[AccountRow, Totals]]:
        reader = self._readers.get(site.id) or await self._open_reader(site)
        head, accounts = await or_unavailable(reader.read(account_id))
        if account_id not in accounts:
            raise NotFound("account", account_id)
        return head, accounts[account_id]

    async def _open_reader(self, site: Site) -> Reader:
        database = await self._databases.of(site)
        return self._readers.setdefault(site.id, Reader(database, site.id))

    async def _open_writer(self, site: Site) -> Writer:
        database = await self._databases.of(site)
        run = BatchRun(
            site=site, ids=self._ids, idempotency_days=self._limits.idempotency_days, describe=self._describe
        )
        return self._writers.setdefault(
            site.id, Writer(database, run, self._clock, self._on_commit, self._memories.open() if self._ahead else None)
        )


async def or_unavailable(reading: Awaitable[T]) -> T:
    """Return what is read; a database that does not answer is Unavailable."""
    try:
        return await reading
    except (DBAPIError, OSError, PoolTimeoutError, TimeoutError) as error:
        if is_outage(error):
            raise Unavailable("The database did not answer.") from error
        raise
