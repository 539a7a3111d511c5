"""Entries as they come about: their rows, the events that tell of them, the decision they amount to. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

from msgspec import Struct
from msgspec.structs import replace

from engine import effects
from engine.books import Decision
from engine.events import BatchPlace, EventDraft
from engine.lines import Moves
from engine.occasion import Occasion
from engine.rows import EntryRow, LineRow, ResourceRow
from engine.shapes import encode, entry_of

_EVENT_OF: Final = {
    "accepted": "entry.created",
    "pending": "entry.created",
    "posted": "entry.posted",
    "archived": "entry.archived",
    "rejected": "entry.rejected",
}


def new_row(
    ledger_id: str,
    status: Literal["accepted", "posted", "pending"],
    occasion: Occasion,
    *,
    description: str | None,
    metadata: dict[str, str],
    effective_at: int | None,
    external_id: str | None = None,
    reverses: str | None = None,
    partially_posts: str | None = None,
    fx_rate_id: str | None = None,
    held: bool = False,
    business_event_id: str | None = None,
) -> EntryRow:
    """Return the row of a new entry; it takes effect now where no time is given."""
    now = occasion.now_us
    return {
        "site_id": occasion.site_id,
        "id": occasion.draw(),
        "ledger_id": ledger_id,
        "status": status,
        "description": description,
        "external_id": external_id,
        "metadata": metadata,
        "effective_at": now if effective_at is None else effective_at,
        "posted_at": now if status == "posted" else None,
        "lines_version": 1,
        "lock_version": 1,
        "reverses": reverses,
        "reversed_by": None,
        "partially_posts": partially_posts,
        "fx_rate_id": fx_rate_id,
        "held": held,
        "business_event_id": business_event_id,
        "created_at": now,
        "updated_at": now,
    }


def changed_row(entry: EntryRow, occasion: Occasion, *, lines: bool = False) -> EntryRow:
    """Return a copy of an entry's row one version later; with `lines`, of its lines too."""
    changed = entry.copy()
    changed["lock_version"] += 1
    changed["lines_version"] += lines
    changed["updated_at"] = occasion.now_us
    return changed


class Told(Struct, frozen=True, kw_only=True):
    """An entry as it stands now, and the event that says so."""

    entry: EntryRow
    event: EventDraft


def tell(
    entry: EntryRow,
    lines: Sequence[LineRow],
    occasion: Occasion,
    *,
    event_type: str | None = None,
    previous: bytes | None = None,
    acceptance: ResourceRow | None = None,
) -> Told:
    """Return an entry with the event of what became of it."""
    event = EventDraft(
        id=occasion.draw(),
        type=_EVENT_OF[entry["status"]] if event_type is None else event_type,
        resource_type="entry",
        resource_id=entry["id"],
        data=encode(entry_of(entry, lines, acceptance)),
        previous=previous,
    )
    return Told(entry=entry, event=event)


def decided(told: Sequence[Told], moves: Moves, *, answer: int = 0) -> Decision:
    """Return the decision that came to this; the answer is one of the entries, the first unless another is named."""
    chosen = told[answer]
    decision = Decision(
        answer=chosen.event.data,
        resource_id=chosen.entry["id"],
        lock_version=chosen.entry["lock_version"],
        events=[*moves.events, *(each.event for each in told)],
        opened=moves.opened,
        entries=[each.entry for each in told],
        lines=moves.lines,
        totals=moves.totals,
    )
    return effects.follow(decision, moves.books, moves.occasion)


def put_in_place(decision: Decision, place: BatchPlace) -> None:
    """Let the decision's events say where they stand among those that one request led to."""
    decision.events = [replace(event, batch=place) for event in decision.events]
