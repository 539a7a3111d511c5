"""The writer of a site: whatever waits is one batch is one transaction (group commit).

No timer: the next batch gathers while this one commits. Several processes may each have a writer for the same site; they
take turns on the site's row. The outcome of a transaction whose commit was cut off is looked up, never guessed.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import structlog
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from engine import feed
from engine.ahead import Outrun, decide_ahead
from engine.batch import run_batch
from engine.clock import Clock
from engine.databases import Database, Site, is_outage
from engine.errors import BooksCorrupt, EngineError, IdempotencyInProgress, Overloaded, Refused, Unavailable
from engine.fold import BatchResult, BatchRun, Committed, Outcome, Submission
from engine.memory import Memory

BATCH_COMMANDS_MAX: Final = 256
BATCH_LINES_MAX: Final = 4_000
WAITING_MAX: Final = 8_192
WAIT_S: Final = 10.0
ATTEMPTS_MAX: Final = 4
WARY_BATCHES: Final = 16
"""How many batches in a row are decided behind the lock after somebody else wrote to the site."""
_PAUSE_S: Final = 0.1

OnCommit = Callable[[Site, int], None]
_log = structlog.get_logger("engine.writer")


@dataclass(slots=True, eq=False)
class _Waiting:
    submission: Submission
    future: asyncio.Future[Outcome]


class _OutOfPatience(Exception):
    """Nobody waits for this command any more."""


class Writer:
    """Takes commands for one site, and answers each when its transaction is durable."""

    def __init__(
        self, database: Database, run: BatchRun, clock: Clock, on_commit: OnCommit, memory: Memory | None
    ) -> None:
        """Take the site's database, what its batches share, whom to tell of a new head, and what to remember the books in.

        Without a memory every batch is decided behind the site's lock.
        """
        self._database = database
        self._run = run
        self._clock = clock
        self._on_commit = on_commit
        self._memory = memory
        self._wary = 0
        self._waiting: deque[_Waiting] = deque()
        self._running: dict[str, int] = {}
        self._flusher: asyncio.Task[None] | None = None
        self._corrupt: BooksCorrupt | None = None

    async def submit(self, submission: Submission) -> Committed:
        """Queue a command and wait until it is committed or refused.

        Raises the Refused it came to, Overloaded where too many wait, IdempotencyInProgress or Unavailable where it
        takes longer than 10 seconds.
        """
        self._check_not_corrupt()
        if len(self._waiting) >= WAITING_MAX:
            raise Overloaded
        waiting = _Waiting(submission, asyncio.get_running_loop().create_future())
        key = None if submission.key is None else submission.key.key
        twins = 0 if key is None else self._running.get(key, 0)
        if key is not None:
            self._running[key] = twins + 1
        self._waiting.append(waiting)
        loop = asyncio.get_running_loop()
        if self._flusher is None:
            self._flusher = loop.create_task(self._flush())
        # One timer and one future: a timeout's context and a shield cost as much as the decision does.
        patience = loop.call_later(WAIT_S, _lose_patience, waiting.future)
        try:
            outcome = await waiting.future
        except _OutOfPatience:
            self._abandon(waiting)
            if key is not None and twins:
                raise IdempotencyInProgress(key) from None
            raise Unavailable("The books did not answer within 10 seconds.", unknown=True) from None
        except asyncio.CancelledError:
            self._abandon(waiting)
            raise
        finally:
            patience.cancel()
            if key is not None:
                self._leave(key)
        if isinstance(outcome, Refused):
            raise outcome
        return outcome

    async def drain(self) -> None:
        """Wait until nothing is queued any more."""
        while self._flusher is not None:
            await asyncio.shield(self._flusher)

    def _check_not_corrupt(self) -> None:
        """Stop: where a check failed that never can, nothing more is written, not even what waits already."""
        if self._corrupt is not None:
            raise self._corrupt

    def _leave(self, key: str) -> None:
        self._running[key] -= 1
        if not self._running[key]:
            del self._running[key]

    def _abandon(self, waiting: _Waiting) -> None:
        """Nobody waits any more: a command that no batch has taken yet is not run."""
        waiting.future.cancel()
        if waiting in self._waiting:
            self._waiting.remove(waiting)

    async def _flush(self) -> None:
        try:
            while self._waiting:
                batch = self._take()
                try:
                    self._check_not_corrupt()
                    await self._commit(batch)
                except Exception as error:  # noqa: BLE001 - whatever happened, everyone who waits is told
                    self._fail(batch, error)
        finally:
            self._flusher = None

    def _take(self) -> list[_Waiting]:
        batch: list[_Waiting] = []
        weight = 0
        while self._waiting and len(batch) < BATCH_COMMANDS_MAX:
            weight += self._waiting[0].submission.command.weight
            if batch and weight > BATCH_LINES_MAX:
                break
            batch.append(self._waiting.popleft())
        return batch

    async def _commit(self, batch: list[_Waiting]) -> None:
        try:
            answered, result = await self._run_once(batch)
        except EngineError:
            raise
        except Exception as error:
            if len(batch) == 1:
                raise
            _log.warning("batch.split", site_id=self._run.site.id, commands=len(batch), error=str(error))
            for each in (one for one in batch if not one.future.done()):
                try:
                    self._check_not_corrupt()
                    await self._commit([each])
                except Exception as alone:  # noqa: BLE001 - one bad command fails alone
                    self._fail([each], alone)
            return
        for each, outcome in zip(answered, result.outcomes, strict=True):
            if not each.future.done():
                each.future.set_result(outcome)
        if result.first_event_id is not None:
            self._on_commit(self._run.site, result.head.sequence)

    async def _run_once(self, batch: list[_Waiting]) -> tuple[list[_Waiting], BatchResult]:
        """Run a batch until it is known to have happened exactly once; who gave up meanwhile is not run again."""
        attempt = 0
        while True:
            attempt += 1
            decided: list[BatchResult] = []
            try:
                return batch, await self._transact([each.submission for each in batch], decided)
            except Exception as error:
                # Whatever a driver says of a commit, and however it says it: only the feed tells whether it happened.
                if decided and await self._happened(decided[0]):
                    return batch, decided[0]
                if not is_outage(error):
                    raise
                _log.warning("batch.interrupted", site_id=self._run.site.id, attempt=attempt, error=str(error))
                if attempt >= ATTEMPTS_MAX:
                    raise Unavailable("The database did not answer.") from error
                await asyncio.sleep(_PAUSE_S * attempt)
                batch = [each for each in batch if not each.future.done()]

    async def _transact(self, submissions: Sequence[Submission], decided: list[BatchResult]) -> BatchResult:
        """Commit a batch: ahead of the lock where everything it needs is remembered, behind it otherwise."""
        memory = self._memory
        if memory is None:
            return await self._write_behind_lock(submissions, decided)
        try:
            result = await self._write_ahead(memory, submissions, decided)
            if result is None:
                result = await self._write_behind_lock(submissions, decided)
        except BaseException:
            # Whatever became of it: what is remembered may be of a head that is not there.
            memory.forget()
            raise
        if memory.head is not None and memory.head != result.known:
            self._wary = WARY_BATCHES
        memory.learn(result.books, result.known, result.head)
        return result

    async def _write_ahead(
        self, memory: Memory, submissions: Sequence[Submission], decided: list[BatchResult]
    ) -> BatchResult | None:
        if self._wary:
            self._wary -= 1
            return None
        ahead = decide_ahead(memory, self._run, submissions, self._clock)
        if ahead is None:
            return None
        decided.append(ahead.result)
        try:
            await self._database.write_once(ahead.write, site_id=self._run.site.id)
        except (Outrun, IntegrityError):
            # Nothing of it was written: it is decided again on what is true.
            decided.clear()
            return None
        return ahead.result

    async def _write_behind_lock(self, submissions: Sequence[Submission], decided: list[BatchResult]) -> BatchResult:
        def batch(conn: Connection) -> BatchResult:
            result = run_batch(conn, self._run, submissions, self._clock, self._memory)
            decided.append(result)
            return result

        return await self._database.write(batch, site_id=self._run.site.id)

    async def _happened(self, result: BatchResult) -> bool:
        """Tell whether a transaction whose commit was cut off took effect: its first event is there, or never will be.

        The site's lock is taken first: while the cut-off transaction still lives, it holds that lock.
        """
        if result.first_event_id is None:
            return False
        event_id, site_id = result.first_event_id, self._run.site.id

        def look(conn: Connection) -> bool:
            feed.lock_head(conn, site_id)
            if feed.read_event(conn, site_id, event_id) is not None:
                return True
            # A batch that was decided ahead may still be waiting for this lock: it must find that it came too late.
            feed.move_fence(conn, site_id)
            return False

        while True:
            try:
                return await self._database.write(look, site_id=site_id)
            except (DBAPIError, OSError, PoolTimeoutError, TimeoutError) as error:
                if not is_outage(error):
                    raise
                await asyncio.sleep(_PAUSE_S)

    def _fail(self, batch: Sequence[_Waiting], error: Exception) -> None:
        if isinstance(error, BooksCorrupt):
            self._corrupt = error
            _log.critical("books.corrupt", site_id=self._run.site.id, error=str(error))
        if not isinstance(error, EngineError):
            _log.error("batch.failed", site_id=self._run.site.id, commands=len(batch), exc_info=error)
        for each in batch:
            if not each.future.done():
                each.future.set_exception(error)
                each.future.exception()


def _lose_patience(future: asyncio.Future[Outcome]) -> None:
    if not future.done():
        future.set_exception(_OutOfPatience())
