"""Submissions folded over the books, one after the other: what a batch decides, whichever way it came by its books. Pure."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from engine import business_events
from engine.answers import shorten
from engine.balances import Totals
from engine.books import Books, Decision
from engine.changes import Changes
from engine.commands import Command, ExpireHold, PostAccepted
from engine.databases import Site
from engine.errors import BooksCorrupt, Refused
from engine.events import Diagnostics, FeedEvent, chain, encode
from engine.feed import Head
from engine.idempotency import Answer, IdempotencyKey, Remembered, answer_for
from engine.ids import IdSource
from engine.needs import Needs
from engine.occasion import Occasion, plainly
from engine.posting import decide


class Submission(Struct, frozen=True, kw_only=True):
    """A command with what it came with: the client's idempotency key, and where to find its request in the logs."""

    command: Command
    key: IdempotencyKey | None
    diagnostics: Diagnostics


class Committed(Struct, frozen=True, kw_only=True):
    """What a command came to: the answer's bytes, the resource, its version; `replayed` when it was done before."""

    body: bytes
    resource_id: str | None
    lock_version: int | None
    replayed: bool


Outcome = Committed | Refused


class BatchResult(Struct, frozen=True, kw_only=True):
    """The outcomes in the order of the submissions, the batch's first event if it has one, and the books as they stand then.

    `known` is the head that the batch was decided on, `head` the one that it leaves.
    """

    outcomes: list[Outcome]
    known: Head
    head: Head
    first_event_id: str | None
    books: Books


class BatchRun(Struct, frozen=True, kw_only=True):
    """What stays the same from batch to batch of a site."""

    site: Site
    ids: IdSource
    idempotency_days: int
    describe: Callable[[Refused], bytes] = plainly


class Fold:
    """Folds submissions over the books, one after the other."""

    def __init__(
        self,
        run: BatchRun,
        books: Books,
        head: Head,
        now: int,
        answered: dict[str, tuple[bytes, Answer]],
        read: Callable[[Needs, Books], None],
    ) -> None:
        """Start on these books at this head; `read` lets the books know what is found to be needed on the way."""
        self._run = run
        self.books = books
        self._start = head
        self._sequence, self._hash = head.sequence, head.hash
        self._holds_due_at = head.holds_due_at
        self._now = self._told_at = now
        self._answered = answered
        self._read = read
        self._occasion = Occasion(site_id=run.site.id, now_us=now, ids=run.ids, describe=run.describe)
        self.changes = Changes()
        self.remembered: list[Remembered] = []
        self.started: dict[str, Totals | None] = {}

    @property
    def head(self) -> Head:
        """Return the head after what was folded so far, at its last event's time; where it makes none, at the batch's own."""
        return replace(
            self._start,
            sequence=self._sequence,
            hash=self._hash,
            last_at=self._told_at if self.changes.events else self._now,
            holds_due_at=self._holds_due_at,
            accepted=self.books.accepted,
            # A key that is recorded without an event must be seen too by whoever decided on this head.
            fence=self._start.fence + (1 if self.remembered and not self.changes.events else 0),
        )

    def go_on(self, now_us: int) -> None:
        """Let time have passed since what was folded so far; it never runs back."""
        self._now = now_us
        self._occasion = replace(self._occasion, now_us=now_us)

    def is_due(self) -> bool:
        """Tell whether the time of a hold is over."""
        return self._holds_due_at is not None and self._holds_due_at <= self._now

    def result(self, outcomes: list[Outcome], known: Head) -> BatchResult:
        """Return what the batch came to that was decided on the known head."""
        events, head = self.changes.events, self.head
        if not events:
            head = replace(head, last_at=known.last_at)
        first = events[0].id if events else None
        return BatchResult(outcomes=outcomes, known=known, head=head, first_event_id=first, books=self.books)

    def tend(self, command: ExpireHold | PostAccepted, diagnostics: Diagnostics) -> None:
        """Do what is due, though nobody asks for it now."""
        self._accept(decide(command, self.books, self._occasion), diagnostics)

    def take(self, submission: Submission) -> Outcome:
        """Decide one submission; what it answers stands for the same key later in the batch too."""
        try:
            known = answer_for(self._answered, submission.key)
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
        start = self._sequence + 1
        self._accept(decision, submission.diagnostics)
        answer = Answer(
            body=decision.answer,
            resource_id=decision.resource_id,
            lock_version=decision.lock_version,
        )
        if submission.key is not None:
            self._answered[submission.key.key] = (submission.key.fingerprint, answer)
            kept, first = shorten(answer.body, [each.data for each in decision.events])
            sequence = None if first is None else start + first
            self.remembered.append(Remembered(key=submission.key, answer=answer, kept=kept, from_sequence=sequence))
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
                self._read(unread.needs, self.books)

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
        sequence, previous = self._sequence, self._hash
        if decision.events:
            self._told_at = self._now
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
        self._sequence, self._hash = sequence, previous
        for kind, row in decision.resources:
            if kind == "hold" and row["status"] == "open":
                due_at = self._holds_due_at
                self._holds_due_at = row["expires_at"] if due_at is None else min(due_at, row["expires_at"])

    def check_conservation(self) -> None:
        """Check that what the batch moved is the same on both sides, per currency, posted and pending apart."""
        posted: dict[str, int] = {}
        pending: dict[str, int] = {}
        for account_id, after in self.changes.totals.items():
            account = self.books.account(account_id)
            if account is None:
                raise BooksCorrupt(f"Account {account_id} was moved and is not known.")
            before = self.started[account_id]
            currency = account["currency"]
            debits, credits_, pending_debits, pending_credits = (0, 0, 0, 0) if before is None else before[:4]
            posted[currency] = posted.get(currency, 0) + after.posted_debits - debits - after.posted_credits + credits_
            pending[currency] = (
                pending.get(currency, 0)
                + after.pending_debits
                - pending_debits
                - after.pending_credits
                + pending_credits
            )
        for currency, difference in [*posted.items(), *pending.items()]:
            if difference:
                raise BooksCorrupt(f"A batch would move {difference} {currency} more on one side than on the other.")
