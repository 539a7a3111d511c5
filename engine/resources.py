"""What all resources beside the books share: their rows change one at a time, and every change is an event. Pure.

A kind is named by its event's resource type; its table stands in `engine.store.RESOURCES`, its unique columns in
`engine.rows.RESOURCE_NAMES`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.books import Books, Decision
from engine.errors import NotFound, PreconditionFailed
from engine.events import EventDraft
from engine.occasion import Occasion
from engine.rows import ResourceRow


def present(kind: str, resource_id: str, if_match: int | None, books: Books, *, pointer: str = "") -> ResourceRow:
    """Return a resource that a command names; raises NotFound, and PreconditionFailed where it is at another version."""
    row = books.resource(kind, resource_id)
    if row is None:
        raise NotFound(kind, resource_id, pointer=pointer)
    if if_match is not None and if_match != row["lock_version"]:
        raise PreconditionFailed(row["lock_version"])
    return row


def changed(row: ResourceRow, changes: Mapping[str, Any], occasion: Occasion) -> tuple[ResourceRow, dict[str, Any]]:
    """Return the row after the changes, one version later, and what they replace: nothing where nothing changes."""
    previous = {name: row[name] for name in changes if changes[name] != row[name]}
    if not previous:
        return row, {}
    return {**row, **changes, "lock_version": row["lock_version"] + 1, "updated_at": occasion.now_us}, previous


def decided(
    kind: str,
    row: ResourceRow,
    answer: bytes,
    happened: str,
    occasion: Occasion,
    previous: bytes | None = None,
) -> Decision:
    """Return the decision that a resource stands as the row says; `happened` is the event's verb, as in `created`."""
    event = EventDraft(
        id=occasion.draw(),
        type=f"{kind}.{happened}",
        resource_type=kind,
        resource_id=row["id"],
        data=answer,
        previous=previous,
    )
    return Decision(
        answer=answer,
        resource_id=row["id"],
        lock_version=row["lock_version"],
        events=[event],
        resources=[(kind, row)],
    )
