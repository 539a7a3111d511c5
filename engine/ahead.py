"""A batch decided ahead: on what the writer remembers, without asking the database, and written only if it was right.

The one statement that writes it is fenced by the head it was decided on, and by the idempotency keys and external ids of what it
writes. Where somebody else wrote meanwhile, or a key was used before, nothing of it is written, and the batch is decided again
the plain way, behind the site's lock. So is a batch of which anything is refused: what is not written has no fence that tells
whether it was true. Both ways decide by the same rules.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection

from engine import store
from engine.clock import Clock
from engine.commands import AcceptEntry, Command, CreateHold, PostBatch, PostEntry, needs_of
from engine.errors import Refused
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
    commands = [each.command for each in submissions]
    if known is None or not all(_can_be_ahead(command) for command in commands):
        return None
    now = max(clock.now_us(), known.last_at)
    if known.holds_due_at is not None and known.holds_due_at <= now:
        return None
    books, left = memory.recall(needs_of(commands))
    # Whether an external id is free its index tells when the entry is written.
    left.entry_external_ids = set()
    # A ledger is asked for its period alone, and one that is not there is refused with its accounts.
    left.periods = False
    if left:
        return None
    books.learn(accepted=known.accepted)
    fold = Fold(run, books, known, now, {}, _unforeseen)
    outcomes = [fold.take(submission) for submission in submissions]
    if any(isinstance(outcome, Refused) for outcome in outcomes):
        return None
    if not fold.changes.events or not store.can_save_ahead(fold.changes):
        return None
    fold.check_conservation()
    return Ahead(run=run, fold=fold, result=fold.result(outcomes, known))


def _can_be_ahead(command: Command) -> bool:
    """Tell whether a command may be decided on what is remembered, if that is all it needs."""
    if isinstance(command, PostBatch) and command.mode == "independent":
        # It tells why items were refused, and stores that: a name that is taken must not go unseen behind another reason.
        return not any(isinstance(item, PostEntry) and item.external_id is not None for item in command.entries)
    return isinstance(command, _AHEAD)


def _unforeseen(needs: Needs, _books: object) -> None:
    raise LookupError(f"a command that was decided ahead needs {needs}")
