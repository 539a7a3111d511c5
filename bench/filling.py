"""Books that are full at once: rows as the program writes them, made by its own encoders, copied into PostgreSQL.

What is filled is plain: posted entries of two lines, each an event, chained; balances and the feed's head as they are after
the last. `gledger verify` tells them from posted ones no more than anybody else can, which is how it is known that they are right.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from threading import Thread
from typing import Any, Final, NamedTuple, cast

import asyncpg

from bench.ground import Ground
from engine.balances import Totals
from engine.events import Diagnostics, EventDraft, chain
from engine.events import encode as enveloped
from engine.ids import Ids
from engine.rows import EntryRow, LineRow
from engine.schema import entries, events, lines
from engine.shapes import encode, entry_of

CHUNK: Final = 5_000
_TABLES: Final = (entries, lines, events)
_FEED: Final = "SELECT site_id, organization, environment, head, head_hash, last_at FROM feeds"
_ACCOUNTS: Final = """
    SELECT a.id::text, a.ledger_id::text, a.currency, a.normal_balance,
           b.posted_debits, b.posted_credits, b.pending_debits, b.pending_credits, b.lock_version
    FROM accounts a JOIN balances b ON (b.site_id, b.account_id) = (a.site_id, a.id)
"""
_BALANCES: Final = """
    UPDATE balances SET posted_debits = $2, posted_credits = $3, pending_debits = $4, pending_credits = $5, lock_version = $6
    WHERE account_id = $1
"""


class Posting(NamedTuple):
    """What to post: from whom to whom, how much, and since when; None is the time at which it is booked."""

    debit: str
    credit: str
    amount: int
    effective_at: int | None = None


class _Account(NamedTuple):
    ledger_id: str
    currency: str
    normal_balance: str
    totals: Totals


class _Books:
    """The books as they grow: the feed's end and every account's totals."""

    def __init__(self, feed: Any, accounts: dict[str, _Account]) -> None:
        self.site_id, self.organization, self.environment, self.sequence, self.hash, self.last_at = feed
        self.accounts = accounts
        self._ids = Ids()

    def post(self, postings: Sequence[Posting]) -> list[list[tuple[Any, ...]]]:
        """Return the rows of so many postings, those of each table by themselves."""
        written: list[list[tuple[Any, ...]]] = [[], [], []]
        self.last_at = max(self.last_at, time.time_ns() // 1000 - len(postings))
        for posting in postings:
            self.last_at += 1
            entry = self._entry(posting)
            moved = [
                self._line(entry, position, account_id, direction, posting.amount)
                for position, (account_id, direction) in enumerate(
                    ((posting.debit, "debit"), (posting.credit, "credit"))
                )
            ]
            written[2].append(self._event(entry, moved))
            written[0].append(_record(entry))
            written[1] += map(_record, moved)
        return written

    def _entry(self, posting: Posting) -> EntryRow:
        at = self.last_at
        return {
            "site_id": self.site_id,
            "id": self._ids.draw(at),
            "ledger_id": self.accounts[posting.debit].ledger_id,
            "status": "posted",
            "description": None,
            "external_id": None,
            "metadata": {},
            "effective_at": at if posting.effective_at is None else posting.effective_at,
            "posted_at": at,
            "lines_version": 1,
            "lock_version": 1,
            "reverses": None,
            "reversed_by": None,
            "partially_posts": None,
            "fx_rate_id": None,
            "held": False,
            "business_event_id": None,
            "created_at": at,
            "updated_at": at,
        }

    def _line(self, entry: EntryRow, position: int, account_id: str, direction: Any, amount: int) -> LineRow:
        account = self.accounts[account_id]
        totals = account.totals.add(direction, amount, 0)
        self.accounts[account_id] = account._replace(totals=totals)
        return {
            "site_id": self.site_id,
            "entry_id": entry["id"],
            "version": 1,
            "position": position,
            "id": self._ids.draw(self.last_at),
            "account_id": account_id,
            "direction": direction,
            "amount": amount,
            "currency": account.currency,
            "normal_balance": cast("Any", account.normal_balance),
            "status": "posted",
            "metadata": {},
            "posted_moved": amount,
            "pending_moved": 0,
            "account_lock_version": totals.lock_version,
            "posted_debits": totals.posted_debits,
            "posted_credits": totals.posted_credits,
            "pending_debits": totals.pending_debits,
            "pending_credits": totals.pending_credits,
            "effective_at": entry["effective_at"],
            "created_at": self.last_at,
        }

    def _event(self, entry: EntryRow, moved: Sequence[LineRow]) -> tuple[Any, ...]:
        self.sequence += 1
        draft = EventDraft(
            id=self._ids.draw(self.last_at),
            type="entry.posted",
            resource_type="entry",
            resource_id=entry["id"],
            data=encode(entry_of(entry, moved)),
        )
        body = enveloped(
            draft,
            sequence=self.sequence,
            at_us=self.last_at,
            organization=self.organization,
            environment=self.environment,
            diagnostics=Diagnostics(),
        )
        self.hash = chain(self.hash, body)
        return (self.site_id, self.sequence, draft.id, draft.type, entry["id"], self.last_at, body, self.hash, None)


def fill(
    base: Ground, count: int, draw: Callable[[], Posting], told: Callable[[int], None] = lambda _done: None
) -> None:
    """Fill the books with so many entries, each as it is drawn; `told` hears how many there are.

    Nobody else may write meanwhile. Rows are made here while those before them are copied.
    """
    loop = asyncio.new_event_loop()
    thread = Thread(target=loop.run_forever)
    thread.start()

    def run(work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, loop)

    try:
        url = base.postgres.url("gledger").replace("+asyncpg", "")
        connections = [run(asyncpg.connect(url)).result() for _ in _TABLES]
        books = run(_opened(connections[0])).result()
        copying = None
        for done in range(0, count, CHUNK):
            rows = books.post([draw() for _ in range(min(CHUNK, count - done))])
            if copying is not None:
                copying.result()
                told(done)
            copying = run(_copied(connections, rows))
        if copying is not None:
            copying.result()
            told(count)
        run(_closed(connections, books)).result()
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _opened(connection: Any) -> _Books:
    known = {
        account_id: _Account(ledger_id, currency, normal_balance, Totals(*totals))
        for account_id, ledger_id, currency, normal_balance, *totals in await connection.fetch(_ACCOUNTS)
    }
    return _Books(await connection.fetchrow(_FEED), known)


async def _copied(connections: Sequence[Any], rows: Sequence[Sequence[tuple[Any, ...]]]) -> None:
    await asyncio.gather(
        *(
            connection.copy_records_to_table(table.name, records=records, columns=[column.name for column in table.c])
            for connection, table, records in zip(connections, _TABLES, rows, strict=True)
        )
    )


async def _closed(connections: Sequence[Any], books: _Books) -> None:
    first = connections[0]
    async with first.transaction():
        await first.executemany(_BALANCES, [(each, *account.totals) for each, account in books.accounts.items()])
        head = "UPDATE feeds SET head = $1, head_hash = $2, last_at = $3"
        await first.execute(head, books.sequence, books.hash, books.last_at)
    # What the database's own housekeeping would do sooner or later, while it were measured.
    await first.execute("VACUUM (ANALYZE)")
    await first.execute("CHECKPOINT")
    for connection in connections:
        await connection.close()


def _record(row: Any) -> tuple[Any, ...]:
    """Return a row as its table has it: its metadata, which is empty, as a text."""
    row["metadata"] = "{}"
    return tuple(row.values())
