"""The writer of a site: whatever waits is one batch is one transaction (group commit).

No timer: the next batch gathers while this one commits, and is decided then, as far as it can be decided ahead. Several processes
may each have a writer for the same site; they take turns on the site's row. The outcome of a transaction whose commit was cut off
is looked up, never guessed.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

import structlog
from msgspec import Struct
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from engine import feed
from engine.ahead import Draft, Outrun
from engine.batch import run_batch
from engine.clock import Clock
from engine.databases import Database, Site, is_outage
from engine.errors import BooksCorrupt, EngineError, IdempotencyInProgress, Overloaded, Refused, Unavailable
from engine.feed import Head
from engine.fold import BatchResult, BatchRun, Committed, Outcome, Submission
from engine.memory import Memory
from engine.patience import OutOfPatience, Patience

BATCH_COMMANDS_MAX: Final = 256
BATCH_LINES_MAX: Final = 4_000
STEP_LINES_MAX: Final = 200
"""How many lines are decided ahead in one go, before it is looked whether the database is free: some milliseconds."""
WAITING_MAX: Final = 8_192
WAIT_S: Final = 10.0
ATTEMPTS_MAX: Final = 4
WARY_BATCHES: Final = 16
"""How many batches in a row are decided behind the lock after somebody else wrote to the site."""
_PAUSE_S: Final = 0.1

OnCommit = Callable[[Site, int], None]
_log = structlog.get_logger("engine.writer")


class _Waiting(Struct, eq=False):
    submission: Submission
    future: asyncio.Future[Outcome]


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
        self._patience = Patience(WAIT_S)
        self._flusher: asyncio.Task[None] | None = None
        self._draft: Draft | None = None
        self._drafted: list[_Waiting] = []
        self._sent: Draft | None = None
        self._drafting = False
        self._stuck = False
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
        elif self._sent is not None:
            self._decide_soon()
        self._patience.begin(waiting.future, loop)
        try:
            outcome = await waiting.future
        except OutOfPatience:
            self._abandon(waiting)
            if key is not None and twins:
                raise IdempotencyInProgress(key) from None
            raise Unavailable("The books did not answer within 10 seconds.", unknown=True) from None
        except asyncio.CancelledError:
            self._abandon(waiting)
            raise
        finally:
            self._patience.end(waiting.future)
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
            while self._waiting or self._drafted:
                self._stuck = False
                # The loop may have much to do: what it brings in this turn goes along, and a batch costs what it costs.
                await asyncio.sleep(0)
                if not self._drafted:
                    self._decide_waiting()
                batch, draft = self._next()
                if not batch:
                    continue
                try:
                    self._check_not_corrupt()
                    await self._commit(batch, draft)
                except Exception as error:  # noqa: BLE001 - whatever happened, everyone who waits is told
                    self._fail(batch, error)
        finally:
            self._flusher = None

    def _decide_soon(self) -> None:
        """Decide what waits at the end of this turn of the loop, with all that came in it."""
        if not (self._drafting or self._stuck):
            self._drafting = True
            asyncio.get_running_loop().call_soon(self._decide_meanwhile)

    def _decide_meanwhile(self) -> None:
        self._drafting = False
        if self._sent is not None and self._decide_waiting() and self._waiting:
            self._decide_soon()

    def _decide_waiting(self) -> bool:
        """Decide some of what waits, if it can be decided ahead: on top of what is being written. Tell whether any was."""
        memory, head = self._memory, self._memory_head()
        if memory is None or head is None or self._wary or self._stuck:
            return False
        if self._draft is None:
            self._draft = self._begin(memory, head)
        batch = self._take(self._drafted, STEP_LINES_MAX)
        taken = 0
        try:
            taken = self._draft.take([each.submission for each in batch])
        except Exception as error:  # noqa: BLE001 - behind the lock it happens again, and is told to whom it concerns
            self._log_dropped(error)
            self._put_back(batch)
            self._drop_draft()
            self._stuck = True
        else:
            self._drafted += batch[:taken]
            self._put_back(batch[taken:])
            self._stuck = taken < len(batch)
        return taken > 0

    def _begin(self, memory: Memory, head: Head) -> Draft:
        return Draft(memory, head, self._run, self._clock, self._sent)

    def _drop_draft(self) -> None:
        """Let nothing of what was decided and is not on its way have been decided."""
        self._put_back(self._drafted)
        self._draft, self._drafted = None, []

    def _put_back(self, batch: Sequence[_Waiting]) -> None:
        self._waiting.extendleft(each for each in reversed(batch) if not each.future.done())

    def _next(self) -> tuple[list[_Waiting], tuple[Draft, BatchResult] | None]:
        """Return the next batch: what was decided ahead, if all who wait for it still do, or what waits, undecided."""
        draft, batch = self._draft, self._drafted
        if draft is not None and not any(each.future.done() for each in batch):
            try:
                result = draft.result()
            except Exception as error:  # noqa: BLE001 - as in deciding
                self._log_dropped(error)
            else:
                if result is not None:
                    self._draft, self._drafted = None, []
                    return batch, (draft, result)
        self._drop_draft()
        return self._take([], BATCH_LINES_MAX), None

    def _log_dropped(self, error: Exception) -> None:
        _log.warning("draft.dropped", site_id=self._run.site.id, commands=len(self._drafted), error=str(error))

    def _take(self, begun: Sequence[_Waiting], lines_max: int) -> list[_Waiting]:
        """Return those who wait, so many lines of them, and not more than the batch that was begun has room for."""
        batch: list[_Waiting] = []
        lines, room = 0, BATCH_LINES_MAX - sum(each.submission.command.weight for each in begun)
        while self._waiting and len(begun) + len(batch) < BATCH_COMMANDS_MAX:
            if self._waiting[0].future.done():
                # Who gave up has not come to say so yet.
                self._waiting.popleft()
                continue
            lines += self._waiting[0].submission.command.weight
            if ((begun or batch) and lines > room) or (batch and lines > lines_max):
                break
            batch.append(self._waiting.popleft())
        return batch

    async def _commit(
        self, batch: list[_Waiting], draft: tuple[Draft, BatchResult] | None = None, *, alone: bool = False
    ) -> None:
        """Run a batch and answer it; whoever joins it is in the list from then on, unless it is to stay `alone`."""
        try:
            result = await self._run_once(batch, draft, alone=alone)
        except EngineError:
            raise
        except Exception as error:
            if len(batch) == 1:
                raise
            _log.warning("batch.split", site_id=self._run.site.id, commands=len(batch), error=str(error))
            for each in (one for one in batch if not one.future.done()):
                try:
                    self._check_not_corrupt()
                    await self._commit([each], alone=True)
                except Exception as its_own:  # noqa: BLE001 - one bad command fails alone
                    self._fail([each], its_own)
            return
        for each, outcome in zip(batch, result.outcomes, strict=True):
            if not each.future.done():
                each.future.set_result(outcome)
        if result.first_event_id is not None:
            self._on_commit(self._run.site, result.head.sequence)

    async def _run_once(
        self, batch: list[_Waiting], draft: tuple[Draft, BatchResult] | None, *, alone: bool
    ) -> BatchResult:
        """Run a batch until it is known to have happened exactly once; who gave up meanwhile is not run again."""
        attempt = 0
        while True:
            attempt += 1
            decided: list[BatchResult] = []
            try:
                if draft is not None and await self._send(*draft, decided):
                    return draft[1]
                expected = self._memory_head() if draft is None else draft[1].known
                result = await self._write_behind_lock(batch, decided, alone=alone)
                if expected is not None and expected != result.known:
                    self._wary = WARY_BATCHES
                return result
            except Exception as error:
                # Whatever a driver says of a commit, and however it says it: only the feed tells whether it happened.
                if decided and await self._happened(decided[0]):
                    return decided[0]
                if not is_outage(error):
                    raise
                _log.warning("batch.interrupted", site_id=self._run.site.id, attempt=attempt, error=str(error))
                if attempt >= ATTEMPTS_MAX:
                    raise Unavailable("The database did not answer.") from error
                await asyncio.sleep(_PAUSE_S * attempt)
                batch[:], draft = [each for each in batch if not each.future.done()], None

    async def _send(self, draft: Draft, result: BatchResult, decided: list[BatchResult]) -> bool:
        """Write a batch that was decided ahead, and tell whether that was still right: nothing of it is written if not.

        It is remembered as if it were written already, so that the next one can be decided on top of it meanwhile.
        """
        self._remember(result)
        decided.append(result)
        self._sent = draft
        if self._waiting:
            self._decide_soon()
        try:
            await self._database.write_once(draft.write, site_id=self._run.site.id)
        except BaseException as error:
            # Whatever became of it: what is remembered may be of a head that is not there.
            self._forget()
            if not isinstance(error, Outrun | IntegrityError):
                raise
            decided.clear()
            return False
        finally:
            self._sent = None
        return True

    async def _write_behind_lock(
        self, batch: list[_Waiting], decided: list[BatchResult], *, alone: bool
    ) -> BatchResult:
        """Commit a batch that is decided on what is true under the site's lock, with all that came while it waited for that."""

        def joining() -> Sequence[Submission]:
            late = [] if alone else self._take(batch, BATCH_LINES_MAX)
            batch.extend(late)
            return [each.submission for each in late]

        def write(conn: Connection) -> BatchResult:
            submissions = [each.submission for each in batch]
            result = run_batch(conn, self._run, submissions, self._clock, self._memory, joining)
            decided.append(result)
            return result

        self._wary = max(self._wary - 1, 0)
        try:
            result = await self._database.write(write, site_id=self._run.site.id)
        except BaseException:
            self._forget()
            raise
        self._remember(result)
        return result

    def _memory_head(self) -> Head | None:
        return None if self._memory is None else self._memory.head

    def _remember(self, result: BatchResult) -> None:
        if self._memory is not None:
            self._memory.learn(result.books, result.known, result.head)

    def _forget(self) -> None:
        """Know nothing any more, and let what was decided on it be undecided."""
        if self._memory is not None:
            self._memory.forget()
        self._drop_draft()

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
