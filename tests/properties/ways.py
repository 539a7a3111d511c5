"""The ways by which commands reach the books: what a machine does to them is the same on each.

A way takes what is submitted at once as one batch, and reads what is committed. What one way has done can be told to another.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

from sqlalchemy import Connection

from engine.ahead import Draft
from engine.batch import run_batch
from engine.clock import Clock
from engine.databases import Database
from engine.errors import Refused
from engine.feed import Head
from engine.fold import BatchResult, BatchRun, Outcome, Submission
from engine.memory import Memory
from engine.writer import STEP_LINES_MAX, Writer
from tests.fakes.clock import FakeClock, SequentialIds

_STEP = 3
T = TypeVar("T")
Transact = Callable[[Callable[[Connection], T]], T]


class Way(Protocol):
    """How commands reach the books of a site."""

    def submit(self, batch: Sequence[Submission]) -> list[Outcome]:
        """Commit what is submitted at once, and return what each came to."""

    def ask(self, question: Callable[[Connection], T]) -> T:
        """Return what a question about what is committed is answered with."""


Begin = Callable[[BatchRun, FakeClock], Way]
"""Begins a way for a site whose books are not open yet."""


class Plain:
    """One batch is one function over one transaction: the way that the others are held against."""

    def __init__(self, transact: Transact[Any], run: BatchRun, clock: FakeClock) -> None:
        """Take what runs a function in a transaction."""
        self._transact = transact
        self._run = run
        self._clock = clock

    def submit(self, batch: Sequence[Submission]) -> list[Outcome]:
        """Commit the batch as it is."""
        outcomes: list[Outcome] = self._transact(lambda conn: run_batch(conn, self._run, batch, self._clock).outcomes)
        return outcomes

    def ask(self, question: Callable[[Connection], T]) -> T:
        """Ask in a transaction."""
        found: T = self._transact(question)
        return found


class Written:
    """The writer that a process has, as many ask it at once: with a memory it decides ahead of the lock, without one behind it."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        database: Database,
        run: BatchRun,
        clock: FakeClock,
        memory: Memory | None,
    ) -> None:
        """Take a loop that stands still, the site's database, and what the writer remembers the books in."""
        self._loop = loop
        self._database = database
        self._site_id = run.site.id
        self._writer = _Rewinding(database, run, clock, lambda _site, _head: None, memory)

    def submit(self, batch: Sequence[Submission]) -> list[Outcome]:
        """Submit all in one turn of the loop, which makes one batch of them where it takes as much."""

        async def answered(submission: Submission) -> Outcome:
            try:
                return await self._writer.submit(submission)
            except Refused as refused:
                return refused

        async def all_answered() -> list[Outcome]:
            return list(await asyncio.gather(*(answered(each) for each in batch)))

        return self._loop.run_until_complete(all_answered())

    def ask(self, question: Callable[[Connection], T]) -> T:
        """Read what is committed."""
        return self._loop.run_until_complete(self._database.read(question, site_id=self._site_id))


class _Rewinding(Writer):
    """A writer that draws the ids again which were drawn ahead for nothing, as the other ways draw them once; in short steps."""

    def _take(self, begun: Sequence[Any], lines_max: int) -> list[Any]:
        return super()._take(begun, min(lines_max, _STEP) if lines_max == STEP_LINES_MAX else lines_max)

    def _begin(self, memory: Memory, head: Head) -> Draft:
        return _RewindingDraft(memory, head, self._run, self._clock, self._sent)

    async def _send(self, draft: Draft, result: BatchResult, decided: list[BatchResult]) -> bool:
        assert isinstance(draft, _RewindingDraft)
        sent = await super()._send(draft, result, decided)
        if not sent:
            draft.ids.drawn = draft.drawn_before
        return sent


class _RewindingDraft(Draft):
    """A batch that gives back the ids of what it does not take."""

    def __init__(self, memory: Memory, head: Head, run: BatchRun, clock: Clock, before: Draft | None = None) -> None:
        super().__init__(memory, head, run, clock, before)
        assert isinstance(run.ids, SequentialIds)
        self.ids = run.ids
        self.drawn_before = run.ids.drawn

    def _decide(self, submission: Submission) -> bool:
        drawn = self.ids.drawn
        taken = super()._decide(submission)
        if not taken:
            self.ids.drawn = drawn
        return taken


class Told:
    """A way that remembers what it was asked and when, so that another one can be asked the same."""

    def __init__(self, way: Way, clock: FakeClock) -> None:
        """Take the way that does it."""
        self._way = way
        self._clock = clock
        self.batches: list[tuple[int, list[Submission]]] = []

    def submit(self, batch: Sequence[Submission]) -> list[Outcome]:
        """Commit the batch, and remember it."""
        self.batches.append((self._clock.now_us(), list(batch)))
        return self._way.submit(batch)

    def ask(self, question: Callable[[Connection], T]) -> T:
        """Ask as the way does."""
        return self._way.ask(question)

    def tell(self, other: Way, clock: FakeClock) -> None:
        """Ask another way the same, each batch at its time."""
        for at, batch in self.batches:
            clock.advance(micros=at - clock.now_us())
            other.submit(batch)
