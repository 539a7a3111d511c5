"""A batch decided ahead: on what the writer remembers, without asking the database, and written only if it was right.

The one statement that writes it is fenced by the head it was decided on. Where somebody else wrote meanwhile nothing of it is
written, and the batch is decided again the plain way, behind the site's lock. Both ways decide by the same rules.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection

from engine import store
from engine.clock import Clock
from engine.commands import AcceptEntry, CreateHold, PostBatch, PostEntry, needs_of
from engine.fold import BatchResult, BatchRun, Fold, Submission
from engine.memory import Memory
from engine.needs import Needs

_AHEAD: Final = (PostEntry, PostBatch, AcceptEntry, CreateHold)
"""What can be decided on accounts and ledgers alone, if it needs nothing else."""


class Outrun(Exception):
    """Somebody else wrote to the site, or one of the batch's keys was used before: nothing of the batch was written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ahead:
    """A batch that is decided and not written: what it comes to if the head is still the known one."""

    run: BatchRun
    fold: Fold
    result: BatchResult

    def write(self, conn: Connection) -> None:
        """Write it in one statement; raises Outrun, and IntegrityError where an external id is taken."""
        fold, run = self.fold, self.run
        if not store.save_ahead(
            conn, run.site.id, fold.changes, fold.remembered, self.result.known, fold.head, run.idempotency_days
        ):
            raise Outrun


def decide_ahead(memory: Memory, run: BatchRun, submissions: Sequence[Submission], clock: Clock) -> Ahead | None:
    """Decide a batch on what is remembered, or return None where more has to be known, or nothing would be written."""
    known = memory.head
    if known is None or not all(isinstance(each.command, _AHEAD) for each in submissions):
        return None
    now = max(clock.now_us(), known.last_at)
    if known.holds_due_at is not None and known.holds_due_at <= now:
        return None
    books, left = memory.recall(needs_of(each.command for each in submissions))
    # Whether an external id is free its index tells when the entry is written.
    left.entry_external_ids = set()
    # A ledger is asked for its period alone, and one that is not there is refused with its accounts.
    left.periods = False
    if left:
        return None
    books.learn(accepted=known.accepted)
    fold = Fold(run, books, known, now, {}, _unforeseen)
    outcomes = [fold.take(submission) for submission in submissions]
    # What is refused is refused on what is true now: where nothing is written, no fence tells.
    if not fold.changes.events or not store.can_save_ahead(fold.changes):
        return None
    fold.check_conservation()
    return Ahead(run=run, fold=fold, result=fold.result(outcomes, known))


def _unforeseen(needs: Needs, _books: object) -> None:
    raise LookupError(f"a command that was decided ahead needs {needs}")
