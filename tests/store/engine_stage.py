"""A site with books over one real database, and the engine as one process has it: what the engine's tests stand on."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, TypeVar

import msgspec
import pytest
from sqlalchemy import Connection, func, select

from engine import audit, feed, history, span_audit, spanning, spans
from engine.commands import Command, CreateAccount, CreateLedger, LineDraft, PostEntry
from engine.databases import Database, Databases, Site
from engine.events import FeedEvent
from engine.finding import Finding
from engine.fold import BatchRun, Committed
from engine.idempotency import IdempotencyKey
from engine.ids import Ids
from engine.ledger import Engine, Limits
from engine.memory import Memory
from engine.schema import metadata
from engine.writer import Writer
from tests.fakes.clock import FakeClock

T = TypeVar("T")

SITE: Final = Site(id=7, organization="acme-corp", environment="sandbox")
OTHER: Final = Site(id=8, organization="umbrella", environment="sandbox")
EPOCH: Final = "e1"
DEADLINE_S: Final = 20.0


class OneDatabase(Databases):
    """Every site lives in the database that the test was given."""

    def __init__(self, database: Database) -> None:
        super().__init__("", lambda _url: None)
        self._database = database

    async def of(self, site: Site) -> Database:
        """Return the database."""
        return self._database


class Stage:
    """One site's books; `engine()` once more is a second process on the same database."""

    def __init__(self, database: Database, site: Site = SITE) -> None:
        self.database = database
        self.site = site
        self.clock = FakeClock()
        self.ids = Ids()
        self.commits: list[int] = []
        self.engine = self.another()
        self.ledger_id = ""

    def another(self, limits: Limits | None = None, *, ahead: bool = True) -> Engine:
        """Return an engine as another process has it."""
        return Engine(
            OneDatabase(self.database),
            self.clock,
            self.ids,
            lambda _site, head: self.commits.append(head),
            limits,
            ahead=ahead,
        )

    def writer(self) -> Writer:
        """Return a writer of its own, for looking at how it batches."""
        run = BatchRun(site=self.site, ids=self.ids, idempotency_days=7)
        return Writer(self.database, run, self.clock, lambda _site, head: self.commits.append(head), Memory())

    async def run(self, command: Command, key: IdempotencyKey | None = None) -> Any:
        """Commit a command and return its answer as JSON."""
        return msgspec.json.decode((await self.submit(command, key)).body)

    async def submit(self, command: Command, key: IdempotencyKey | None = None) -> Committed:
        """Commit a command."""
        return await self.engine.submit(self.site, command, key=key)

    async def account(self, account_type: Any = "asset", currency: str = "EUR", **options: Any) -> str:
        """Open an account and return its id."""
        given = {
            "ledger_id": self.ledger_id,
            "name": account_type,
            "type": account_type,
            "currency": currency,
            **options,
        }
        return str((await self.run(CreateAccount(**given)))["id"])

    async def accounts(self, *account_types: Any) -> list[str]:
        """Open several accounts."""
        return [await self.account(each) for each in account_types]

    async def posted(self, account_id: str) -> int:
        """Return an account's posted balance."""
        return (await self.engine.balance(self.site, account_id)).value.posted.amount

    async def read(self, run: Callable[[Connection], T]) -> T:
        """Read as this site."""
        return await self.database.read(run, site_id=self.site.id)

    async def write(self, run: Callable[[Connection], T]) -> T:
        """Write as this site."""
        return await self.database.write(run, site_id=self.site.id)

    async def events(self) -> list[FeedEvent]:
        """Return the whole feed."""
        return await self.read(lambda conn: feed.read_after(conn, self.site.id, 0, 100_000))

    async def rows(self) -> dict[str, list[Any]]:
        """Return every row of every table of the books."""
        return await self.read(all_rows)

    async def verify(self) -> Finding | None:
        """Return what the audit finds."""
        return await self.read(lambda conn: audit.verify(conn, self.site.id, lambda _rows: None))


def all_rows(conn: Connection) -> dict[str, list[Any]]:
    """Return every row of every table that the connection may see, in the order of the primary key."""
    return {
        table.name: [tuple(row) for row in conn.execute(select(table).order_by(*table.primary_key.columns))]
        for table in metadata.sorted_tables
    }


def count_of(table: Any) -> Callable[[Connection], int]:
    """Return the question how many rows a table has."""
    return lambda conn: conn.execute(select(func.count()).select_from(table)).scalar_one()


def line(account: str, direction: Any, amount: int, lock_version: int | None = None) -> LineDraft:
    """Return a line without metadata."""
    return LineDraft(account=account, direction=direction, amount=amount, metadata={}, lock_version=lock_version)


def entry(debit: str, credit: str, amount: int = 1, **options: Any) -> PostEntry:
    """Return the command that posts one amount from one account to another."""
    return PostEntry(lines=(line(debit, "debit", amount), line(credit, "credit", amount)), **options)


def key(text: str, request: str = "") -> IdempotencyKey:
    """Return an idempotency key with the fingerprint of a request."""
    return IdempotencyKey(key=text, fingerprint=hashlib.sha256(request.encode()).digest())


async def outcomes(*submitted: Awaitable[T]) -> Sequence[T | BaseException]:
    """Wait for all at once; a refusal is an outcome too."""
    return await asyncio.gather(*submitted, return_exceptions=True)


async def until(happened: Callable[[], bool | Awaitable[bool]]) -> None:
    """Look again and again until it is so; fail after a deadline."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            seen = happened()
            if seen if isinstance(seen, bool) else await seen:
                return
            await asyncio.sleep(0.005)


def make_spans_small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a span of the lowest level cover four versions, and one above it two below: big trees of few lines."""
    for module in (spans, spanning, span_audit, history):
        for name, value in (("SPAN_BITS", 2), ("FAN_BITS", 1), ("PART_LINES", 3), ("_SMALL", 4)):
            if hasattr(module, name):
                monkeypatch.setattr(module, name, value)


async def make_stage(database: Database, site: Site = SITE) -> Stage:
    """Return a site with one ledger on a fresh database."""
    stage = Stage(database, site)
    await stage.write(lambda conn: feed.create_site(conn, site, EPOCH, stage.clock.now_us()))
    stage.ledger_id = (await stage.run(CreateLedger(name="Main")))["id"]
    return stage
