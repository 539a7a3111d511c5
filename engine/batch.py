"""One batch as one function over a connection: lock, read, decide all in memory, write once.

It never begins or commits; the writer does. Refused commands leave no trace in what it writes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import msgspec
from sqlalchemy import Connection

from engine import business_events, feed, idempotency, store
from engine.balances import Totals
from engine.books import Books, Decision
from engine.clock import Clock
from engine.commands import Command, ExpireHold, PostAccepted, Tend, Validate, needs_of
from engine.databases import Site
from engine.errors import BooksCorrupt, Refused
from engine.event_commands import StagedCommand
from engine.events import Diagnostics, FeedEvent, chain, encode
from engine.feed import Head
from engine.idempotency import Answer, IdempotencyKey
from engine.ids import IdSource
from engine.needs import ALONE, Needs
from engine.occasion import Occasion, plainly
from engine.posting import decide
from engine.rows import ResourceRow

EXPIRED_MAX: Final = 100
"""How many holds a batch lets expire at most before it does what it was asked."""
ACCEPTED_MAX: Final = 100
"""How many accepted entries a batch deals with at most when the books are tended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """A command with what it came with: the client's idempotency key, and where to find its request in the logs."""

    command: Command
    key: IdempotencyKey | None
    diagnostics: Diagnostics


@dataclass(frozen=True, slots=True, kw_only=True)
class Committed:
    """What a command came to: the answer's bytes, the resource, its version; `replayed` when it was done before."""

    body: bytes
    resource_id: str | None
    lock_version: int | None
    replayed: bool


Outcome = Committed | Refused


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchResult:
    """The outcomes in the order of the submissions, the head, and the batch's first event if it has one."""

    outcomes: list[Outcome]
    head: Head
    first_event_id: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchRun:
    """What stays the same from batch to batch of a site."""

    site: Site
    ids: IdSource
    idempotency_days: int
    describe: Callable[[Refused], bytes] = plainly


def run_batch(conn: Connection, run: BatchRun, submissions: Sequence[Submission], clock: Clock) -> BatchResult:
    """Lock the site, do what is due, decide the submissions in their order and write what it all came to.

    The time is asked for when the site is locked, and is never before the site's last one.
    """
    site_id = run.site.id
    head = feed.lock_head(conn, site_id)
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
    books = _read(conn, site_id, [*expiring, *posting, *fresh])
    books.learn(resources=[("acceptance", row) for row in accepted], accepted=head.accepted)
    fold = _Fold(conn, run, books, head, now, answered)
    for command in expiring:
        fold.tend(command, Diagnostics())
    for row, post in zip(accepted, posting, strict=True):
        fold.tend(post, msgspec.convert(row["diagnostics"], Diagnostics))
    outcomes = [fold.take(submission) for submission in submissions]
    tended = replace(known, sequence=fold.head.sequence, hash=fold.head.hash, last_at=fold.head.last_at) != fold.head
    if fold.changes.events or fold.remembered or tended:
        _check_conservation(fold)
        store.save(conn, site_id, fold.changes, fold.remembered, fold.head)
    first = fold.changes.events[0].id if fold.changes.events else None
    return BatchResult(outcomes=outcomes, head=fold.head, first_event_id=first)


def _read(conn: Connection, site_id: int, commands: Sequence[Command]) -> Books:
    """Return what the commands have to know; those that only find out on the way are asked again after each reading."""
    needs = needs_of(commands)
    staged = [
        asked
        for each in commands
        if isinstance(asked := each.command if isinstance(each, Validate) else each, StagedCommand)
    ]
    if not staged:
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


class _Fold:
    """Folds submissions over the books, one after the other."""

    def __init__(
        self,
        conn: Connection,
        run: BatchRun,
        books: Books,
        head: Head,
        now: int,
        answered: dict[str, tuple[bytes, Answer]],
    ) -> None:
        self._conn = conn
        self._run = run
        self.books = books
        # The batch's own time, also where it makes no event: what it remembers is kept from now on.
        self.head = replace(head, last_at=now)
        self._now = now
        self._answered = answered
        self._occasion = Occasion(site_id=run.site.id, now_us=now, ids=run.ids, describe=run.describe)
        self.changes = store.Changes()
        self.remembered: list[tuple[IdempotencyKey, Answer]] = []
        self.started: dict[str, Totals | None] = {}

    def tend(self, command: ExpireHold | PostAccepted, diagnostics: Diagnostics) -> None:
        """Do what is due, though nobody asks for it now."""
        self._accept(decide(command, self.books, self._occasion), diagnostics)

    def take(self, submission: Submission) -> Outcome:
        """Decide one submission; what it answers stands for the same key later in the batch too."""
        try:
            known = idempotency.answer_for(self._answered, submission.key)
            if known is not None:
                return Committed(
                    body=known.body,
                    resource_id=known.resource_id,
                    lock_version=known.lock_version,
                    replayed=True,
                )
            decision = self._decide(submission.command)
        except Refused as refused:
            return refused
        self._accept(decision, submission.diagnostics)
        answer = Answer(
            body=decision.answer,
            resource_id=decision.resource_id,
            lock_version=decision.lock_version,
        )
        if submission.key is not None:
            self._answered[submission.key.key] = (submission.key.fingerprint, answer)
            self.remembered.append((submission.key, answer))
        return Committed(
            body=answer.body,
            resource_id=answer.resource_id,
            lock_version=answer.lock_version,
            replayed=False,
        )

    def _decide(self, command: Command) -> Decision:
        """Decide a command; where one before it in the batch has changed what it needs, read that too."""
        while True:
            try:
                return decide(command, self.books, self._occasion)
            except business_events.Unread as unread:
                _read_further(self._conn, self._run.site.id, unread.needs, self.books)

    def _accept(self, decision: Decision, diagnostics: Diagnostics) -> None:
        for account_id in decision.totals:
            if account_id not in self.started:
                known = self.books.account(account_id)
                self.started[account_id] = None if known is None else self.books.totals(account_id)
        for kind, row in decision.resources:
            if kind == "acceptance" and row["position"] > self.books.accepted:
                row["diagnostics"] = msgspec.to_builtins(diagnostics)
        self.changes.add(decision, self.books)
        self.books.apply(decision)
        sequence, previous = self.head.sequence, self.head.hash
        site = self._run.site
        for draft in decision.events:
            sequence += 1
            body = encode(
                draft,
                sequence=sequence,
                at_us=self._now,
                organization=site.organization,
                environment=site.environment,
                diagnostics=diagnostics,
            )
            previous = chain(previous, body)
            self.changes.events.append(
                FeedEvent(
                    sequence=sequence,
                    id=draft.id,
                    type=draft.type,
                    resource_id=draft.resource_id,
                    created_at=self._now,
                    body=body,
                    hash=previous,
                    correlation_id=diagnostics.correlation_id,
                ),
            )
        self.head = replace(self.head, sequence=sequence, hash=previous, last_at=self._now)
        for kind, row in decision.resources:
            if kind == "hold" and row["status"] == "open":
                due_at = self.head.holds_due_at
                earliest = row["expires_at"] if due_at is None else min(due_at, row["expires_at"])
                self.head = replace(self.head, holds_due_at=earliest)
            elif kind == "acceptance":
                self.head = replace(self.head, accepted=self.books.accepted)


def _check_conservation(fold: _Fold) -> None:
    """Check that what the batch moved is the same on both sides, per currency, posted and pending apart."""
    posted: dict[str, int] = {}
    pending: dict[str, int] = {}
    for account_id, after in fold.changes.totals.items():
        account = fold.books.account(account_id)
        if account is None:
            raise BooksCorrupt(f"Account {account_id} was moved and is not known.")
        before = fold.started[account_id]
        currency = account["currency"]
        debits, credits_, pending_debits, pending_credits = (0, 0, 0, 0) if before is None else before[:4]
        posted[currency] = posted.get(currency, 0) + after.posted_debits - debits - after.posted_credits + credits_
        pending[currency] = (
            pending.get(currency, 0) + after.pending_debits - pending_debits - after.pending_credits + pending_credits
        )
    for currency, difference in [*posted.items(), *pending.items()]:
        if difference:
            raise BooksCorrupt(f"A batch would move {difference} {currency} more on one side than on the other.")
