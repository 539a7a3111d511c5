"""Every command to its rules: what it touches in, a decision or a refusal out. Pure.

The rules change nothing they are given, read no clock, draw no ids but from their arguments. What is refused is refused before
anything was decided.
"""

from __future__ import annotations

from engine import (
    accepting,
    batches,
    business_events,
    categories,
    chart,
    entries,
    event_handlers,
    fx,
    holds,
    monitors,
    reference,
)
from engine.books import Books, Decision
from engine.category_commands import (
    ArchiveMonitor,
    CreateCategory,
    CreateMonitor,
    LinkCategory,
    PlaceAccount,
    UpdateCategory,
    UpdateMonitor,
)
from engine.commands import (
    AcceptEntry,
    ArchiveEntry,
    CaptureHold,
    CloseAccount,
    Command,
    CreateAccount,
    CreateHold,
    CreateLedger,
    ExpireHold,
    PostAccepted,
    PostBatch,
    PostEntry,
    PostPart,
    PostPending,
    RecordFact,
    ReleaseHold,
    ReverseEntry,
    Tend,
    UpdateAccount,
    UpdateEntry,
    UpdateLedger,
    Validate,
)
from engine.event_commands import (
    CreateEventHandler,
    PostBusinessEvent,
    SwitchEventHandler,
    TryEventHandler,
    UpdateEventHandler,
)
from engine.events import EventDraft
from engine.fx_commands import CreateFxRate
from engine.occasion import Occasion
from engine.reference_commands import ChangeReference, CreateReference


def decide(command: Command, books: Books, occasion: Occasion) -> Decision:
    """Decide a command against the books; raises a Refused and leaves everything as it was.

    Raises Unread where a command whose rows are read in steps needs some that were not.
    """
    match command:
        case PostEntry():
            return entries.post_entry(command, books, occasion)
        case PostBatch():
            return batches.post_batch(command, books, occasion)
        case AcceptEntry():
            return accepting.accept_entry(command, books, occasion)
        case PostAccepted():
            return accepting.post_accepted(command, books, occasion)
        case Validate():
            return validate(command, books, occasion)
        case PostPending() | ArchiveEntry():
            return entries.resolve_entry(command, books, occasion)
        case PostPart():
            return entries.post_part(command, books, occasion)
        case ReverseEntry():
            return entries.reverse_entry(command, books, occasion)
        case UpdateEntry():
            return entries.update_entry(command, books, occasion)
        case CreateHold():
            return holds.create_hold(command, books, occasion)
        case CaptureHold():
            return holds.capture_hold(command, books, occasion)
        case ReleaseHold():
            return holds.release_hold(command, books, occasion)
        case ExpireHold():
            return holds.expire_hold(command, books, occasion)
        case CreateLedger():
            return chart.create_ledger(command, books, occasion)
        case UpdateLedger():
            return chart.update_ledger(command, books, occasion)
        case CreateAccount():
            return chart.create_account(command, books, occasion)
        case UpdateAccount():
            return chart.update_account(command, books, occasion)
        case CloseAccount():
            return chart.close_account(command, books, occasion)
        case CreateFxRate():
            return fx.create_rate(command, occasion)
        case CreateReference() | ChangeReference():
            return reference.decide_reference(command, books, occasion)
        case Tend():
            return Decision(answer=b"{}", resource_id=None, lock_version=None, events=[])
        case RecordFact():
            return record_fact(command, books, occasion)
        case CreateCategory() | UpdateCategory() | PlaceAccount() | LinkCategory():
            return decide_category(command, books, occasion)
        case CreateMonitor() | UpdateMonitor() | ArchiveMonitor():
            return decide_monitor(command, books, occasion)
        case CreateEventHandler() | UpdateEventHandler() | SwitchEventHandler():
            return event_handlers.decide_handler(command, books, occasion)
        case PostBusinessEvent() | TryEventHandler():
            return business_events.decide_event(command, books, occasion)


def decide_monitor(
    command: CreateMonitor | UpdateMonitor | ArchiveMonitor, books: Books, occasion: Occasion
) -> Decision:
    """Decide what concerns a monitor."""
    match command:
        case CreateMonitor():
            return monitors.create_monitor(command, books, occasion)
        case UpdateMonitor():
            return monitors.update_monitor(command, books, occasion)
        case ArchiveMonitor():
            return monitors.archive_monitor(command, books, occasion)


def decide_category(
    command: CreateCategory | UpdateCategory | PlaceAccount | LinkCategory, books: Books, occasion: Occasion
) -> Decision:
    """Decide what concerns a category and what is in it."""
    match command:
        case CreateCategory():
            return categories.create_category(command, books, occasion)
        case UpdateCategory():
            return categories.update_category(command, books, occasion)
        case PlaceAccount():
            return categories.place_account(command, books, occasion)
        case LinkCategory():
            return categories.link_category(command, books, occasion)


def validate(command: Validate, books: Books, occasion: Occasion) -> Decision:
    """Decide a command on a layer that is dropped: the answer is what it would have been."""
    decision = decide(command.command, Books(books), occasion)
    return Decision(answer=decision.answer, resource_id=None, lock_version=None, events=[])


def record_fact(command: RecordFact, books: Books, occasion: Occasion) -> Decision:
    """Decide to put a fact into the feed, once for its key."""
    recorded = books.fact(command.key)
    if recorded is not None:
        return Decision(answer=command.data, resource_id=recorded, lock_version=None, events=[])
    event = EventDraft(
        id=occasion.draw(),
        type=command.type,
        resource_type=command.resource_type,
        resource_id=command.resource_id,
        data=command.data,
    )
    return Decision(
        answer=command.data,
        resource_id=event.id,
        lock_version=None,
        events=[event],
        fact=command.key,
    )
