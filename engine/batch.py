"""One batch as one function over a connection: lock, read, decide all in memory, write once.

It never begins or commits; the writer does. Refused commands leave no trace in what it writes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

import msgspec
from msgspec.structs import replace
from sqlalchemy import Connection

from engine import business_events, feed, idempotency, store
from engine.books import Books
from engine.clock import Clock
from engine.commands import Command, ExpireHold, PostAccepted, Tend, Validate, needs_of
from engine.event_commands import StagedCommand
from engine.events import Diagnostics
from engine.fold import BatchResult, BatchRun, Fold, Submission
from engine.memory import Memory
from engine.needs import ALONE, Needs
from engine.rows import ResourceRow

EXPIRED_MAX: Final = 100
"""How many holds a batch lets expire at most before it does what it was asked."""
ACCEPTED_MAX: Final = 100
"""How many accepted entries a batch deals with at most when the books are tended."""


def run_batch(
    conn: Connection,
    run: BatchRun,
    submissions: Sequence[Submission],
    clock: Clock,
    memory: Memory | None = None,
    joining: Callable[[], Sequence[Submission]] = tuple,
) -> BatchResult:
    """Lock the site, do what is due, decide the submissions in their order and write what it all came to.

    Whoever has the lock may hold it for a while: `joining` is asked then for what else has come, which goes behind the others. So is
    the time, which is never before the site's last one. What the memory holds is not read again if the site's head is still the
    one remembered; it learns nothing here, because nothing is committed yet.
    """
    site_id = run.site.id
    head = feed.lock_head(conn, site_id)
    submissions = [*submissions, *joining()]
    if memory is None or memory.head != head:
        memory = Memory()
    known = head
    now = max(clock.now_us(), head.last_at)
    keys = [submission.key.key for submission in submissions if submission.key is not None]
    answered = idempotency.find(conn, site_id, keys, now, run.idempotency_days)
    fresh = [each.command for each in submissions if each.key is None or each.key.key not in answered]
    due: list[str] = []
    # Nothing may move before a command that is decided alone: what it reads must be what it decides on.
    alone = any(command.weight >= ALONE for command in fresh)
    if head.holds_due_at is not None and head.holds_due_at <= now and not alone:
        due, holds_due_at = store.due_holds(conn, site_id, now, EXPIRED_MAX)
        head = replace(head, holds_due_at=holds_due_at)
    accepted: list[ResourceRow] = []
    if head.accepted_done < head.accepted and any(isinstance(each, Tend) for each in fresh):
        accepted = store.accepted_after(conn, site_id, head.accepted_done, ACCEPTED_MAX)
        head = replace(head, accepted_done=head.accepted_done + len(accepted))
    expiring = [ExpireHold(hold_id=hold_id) for hold_id in due]
    posting = [
        PostAccepted(entry_id=row["id"], accounts=tuple(line["account"] for line in row["lines"])) for row in accepted
    ]
    books = _read(conn, site_id, [*expiring, *posting, *fresh], memory)
    books.learn(resources=[("acceptance", row) for row in accepted], accepted=head.accepted)
    fold = Fold(run, books, head, now, answered, partial(_read_further, conn, site_id))
    for command in expiring:
        fold.tend(command, Diagnostics())
    for row, post in zip(accepted, posting, strict=True):
        fold.tend(post, msgspec.convert(row["diagnostics"], Diagnostics))
    outcomes = [fold.take(submission) for submission in submissions]
    result = fold.result(outcomes, known)
    if fold.changes.events or fold.remembered or result.head != known:
        fold.check_conservation()
        store.save(conn, site_id, fold.changes, fold.remembered, fold.head)
    return result


def _read(conn: Connection, site_id: int, commands: Sequence[Command], memory: Memory) -> Books:
    """Return what the commands have to know; those that only find out on the way are asked again after each reading."""
    needs = needs_of(commands)
    staged = [
        asked
        for each in commands
        if isinstance(asked := each.command if isinstance(each, Validate) else each, StagedCommand)
    ]
    if not staged:
        if not needs.follows_accounts():
            books, needs = memory.recall(needs)
            return store.load(conn, site_id, needs, books)
        return store.load(conn, site_id, needs)
    needs.periods = True
    books = store.load(conn, site_id, needs)
    books.note(needs)
    while True:
        needs = Needs()
        for command in staged:
            needs.add(business_events.foresee(command, books))
        if not needs:
            return books
        _read_further(conn, site_id, needs, books)


def _read_further(conn: Connection, site_id: int, needs: Needs, books: Books) -> None:
    needs.periods = True
    books.found_below(store.load(conn, site_id, needs), needs)
