"""A batch decided ahead: on what the writer remembers, without asking the database, and written only if it was right.

It is decided while the batch before it is written, on what that one will have come to. The one statement that writes it is fenced
by the head it was decided on, and by the idempotency keys and external ids of what it writes. Where somebody else wrote
meanwhile, or a key was used before, nothing of it is written, and it is decided again the plain way, behind the site's lock. So is
what is refused: what is not written has no fence that tells whether it was true. Both ways decide by the same rules.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sqlalchemy import Connection

from engine import store
from engine.books import Books
from engine.clock import Clock
from engine.commands import AcceptEntry, Command, CreateHold, PostBatch, PostEntry, ReverseEntry, needs_of
from engine.errors import Refused
from engine.feed import Head
from engine.fold import BatchResult, BatchRun, Fold, Outcome, Submission
from engine.idempotency import Remembered
from engine.memory import Memory
from engine.needs import Needs

_AHEAD: Final = (PostEntry, PostBatch, AcceptEntry, CreateHold)
"""What can be decided on accounts and ledgers alone, if it needs nothing else."""


class Outrun(Exception):
    """Somebody else wrote to the site, or one of the batch's keys was used before: nothing of the batch was written."""


class Draft:
    """A batch while it is decided ahead, submission by submission; nothing of it is written yet."""

    def __init__(self, memory: Memory, head: Head, run: BatchRun, clock: Clock, before: Draft | None = None) -> None:
        """Start at the head that the memory knows; `before` is the batch that is to leave this head, if it is not written yet."""
        self._memory = memory
        self._known = head
        self._run = run
        self._clock = clock
        self._now = max(clock.now_us(), head.last_at)
        books = Books()
        books.learn(accepted=head.accepted)
        # The fence does not see keys that are being written: they are answered from here.
        known = () if before is None else before.remembered
        answered = {each.key.key: (each.key.fingerprint, each.answer) for each in known}
        self._fold = Fold(run, books, head, self._now, answered, _unforeseen)
        self._outcomes: list[Outcome] = []

    @property
    def remembered(self) -> Sequence[Remembered]:
        """Return the answers to be recorded with the batch."""
        return self._fold.remembered

    def take(self, submissions: Sequence[Submission]) -> int:
        """Decide submissions in their order, up to the first that has to be decided behind the lock; return how many."""
        self._now = max(self._clock.now_us(), self._now)
        self._fold.go_on(self._now)
        if self._fold.is_due():
            return 0
        known = self._knows([each.command for each in submissions])
        for taken, submission in enumerate(submissions):
            if not ((known or self._knows([submission.command])) and self._decide(submission)):
                return taken
        return len(submissions)

    def result(self) -> BatchResult | None:
        """Return what the batch comes to if the head is still the known one; None where one statement cannot write it."""
        changes = self._fold.changes
        if not changes.events or not store.can_save_ahead(changes):
            return None
        self._fold.check_conservation()
        return self._fold.result(self._outcomes, self._known)

    def write(self, conn: Connection) -> None:
        """Write it in one statement; raises Outrun, and IntegrityError where an external id is taken."""
        fold, run = self._fold, self._run
        if not store.save_ahead(
            conn, run.site.id, fold.changes, fold.remembered, self._known, fold.head, run.idempotency_days
        ):
            raise Outrun

    def _decide(self, submission: Submission) -> bool:
        """Decide one submission, and tell whether it is more than a refusal."""
        outcome = self._fold.take(submission)
        if isinstance(outcome, Refused):
            return False
        self._outcomes.append(outcome)
        return True

    def _knows(self, commands: Sequence[Command]) -> bool:
        """Tell whether all that these commands need is remembered."""
        if not all(_can_be_ahead(command) for command in commands):
            return False
        _, left = self._memory.recall(needs_of(commands), self._fold.books)
        # Whether an external id is free its index tells when the entry is written.
        left.entry_external_ids = set()
        # A ledger is asked for its period alone, and one that is not there is refused with its accounts.
        left.periods = False
        return not left


def _can_be_ahead(command: Command) -> bool:
    """Tell whether a command may be decided on what is remembered, if that is all it needs."""
    if isinstance(command, PostBatch) and command.mode == "independent":
        # It tells why items were refused, and stores that: a name that is taken must not go unseen behind another reason.
        return not any(
            isinstance(item, PostEntry | ReverseEntry) and item.external_id is not None for item in command.entries
        )
    return isinstance(command, _AHEAD)


def _unforeseen(needs: Needs, _books: object) -> None:
    raise LookupError(f"a command that was decided ahead needs {needs}")
