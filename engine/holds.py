"""The rules of holds: reserved, captured whole or in part, released, expired. Pure.

A hold is a pending entry under a name of its own. Whatever ends it has one winner: the hold's status is the turnstile.
Capturing never fails for balance reasons, because what is captured was reserved.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, cast

import msgspec

from engine import entries, journal, resources
from engine import lines as mechanics
from engine.books import Books, Decision
from engine.commands import CaptureHold, CreateHold, ExpireHold, LinePart, PostPart, ReleaseHold
from engine.entry_errors import (
    CaptureExceeds,
    CaptureNeedsLines,
    HoldExpiryPast,
    HoldNotOpen,
    NothingToPost,
    PartExceedsLine,
)
from engine.hold_shapes import HoldLine, hold_line_of, hold_of, with_balances
from engine.journal import Told
from engine.lines import Moves
from engine.occasion import Occasion
from engine.rows import EntryRow, LineRow, ResourceRow
from engine.shapes import encode

KIND: Final = "hold"
LIFETIME_US: Final = 7 * 86_400_000_000
"""How long a hold reserves where nothing else is said."""


def create_hold(command: CreateHold, books: Books, occasion: Occasion) -> Decision:
    """Decide a new hold."""
    now = occasion.now_us
    expires_at = now + LIFETIME_US if command.expires_at is None else command.expires_at
    if expires_at <= now:
        raise HoldExpiryPast(expires_at)
    decision = entries.post_entry(command.entry, books, occasion)
    [entry] = decision.entries
    row: ResourceRow = {
        "site_id": occasion.site_id,
        "id": entry["id"],
        "ledger_id": entry["ledger_id"],
        "status": "open",
        "description": entry["description"],
        "external_id": entry["external_id"],
        "metadata": entry["metadata"],
        "lines": [msgspec.to_builtins(hold_line_of(line)) for line in decision.lines],
        "captures": [],
        "expires_at": expires_at,
        "lock_version": 1,
        "created_at": now,
        "updated_at": now,
    }
    return _with_hold(decision, row, "created", occasion)


def capture_hold(command: CaptureHold, books: Books, occasion: Occasion) -> Decision:
    """Decide to post what a hold reserves, or a part of it; `final` frees the rest.

    What ends the hold posts its own entry; a part that does not is posted as an entry of its own.
    """
    row, entry = _open(command.hold_id, command.if_match, books, occasion)
    reserved = books.lines(entry["id"])
    amounts = _amounts(command, reserved, row)
    mechanics.check_balanced(entries.zip_amounts(reserved, amounts))
    moves = Moves(books, occasion)
    at = occasion.now_us if command.effective_at is None else command.effective_at
    ends = command.final or amounts == [line["amount"] for line in reserved]
    if ends:
        posted = entries.post_amounts(entry, amounts, at, books, moves, occasion)
        if command.description is not None:
            posted["description"] = command.description
        posted["metadata"] = {**posted["metadata"], **command.metadata}
        told = [journal.tell(posted, moves.lines, occasion)]
    else:
        part = PostPart(
            entry_id=entry["id"],
            parts=(),
            description=command.description,
            effective_at=at,
            metadata=command.metadata,
        )
        told = entries.split(entry, amounts, part, books, moves, occasion)
    captured = {line["id"]: amount for line, amount in zip(reserved, amounts, strict=True)}
    changes = {
        "status": "captured" if ends else "open",
        "lines": _lines(row, captured, moves.lines, ends=ends),
        "captures": [*row["captures"], told[-1].entry["id"]],
    }
    return _moved(told, moves, row, changes, "captured", occasion)


def release_hold(command: ReleaseHold, books: Books, occasion: Occasion) -> Decision:
    """Decide to free what a hold reserves."""
    row, entry = _open(command.hold_id, command.if_match, books, occasion)
    return _give_up(row, entry, "released", books, occasion)


def expire_hold(command: ExpireHold, books: Books, occasion: Occasion) -> Decision:
    """Decide that a hold's time is over."""
    row = resources.present(KIND, command.hold_id, None, books)
    if row["status"] != "open" or row["expires_at"] > occasion.now_us:
        raise HoldNotOpen(row["id"], row["status"])
    return _give_up(row, cast("EntryRow", books.entry(row["id"])), "expired", books, occasion)


def _give_up(row: ResourceRow, entry: EntryRow, status: str, books: Books, occasion: Occasion) -> Decision:
    moves = Moves(books, occasion)
    archived = entries.give_up(entry, books, moves, occasion)
    told = [journal.tell(archived, moves.lines, occasion)]
    changes = {"status": status, "lines": _lines(row, {}, moves.lines, ends=True)}
    return _moved(told, moves, row, changes, status, occasion)


def _open(hold_id: str, if_match: int | None, books: Books, occasion: Occasion) -> tuple[ResourceRow, EntryRow]:
    """Return a hold that is open, and whose time is not over, even if nobody has noted that yet."""
    row = resources.present(KIND, hold_id, if_match, books)
    if row["status"] != "open":
        raise HoldNotOpen(hold_id, row["status"])
    if row["expires_at"] <= occasion.now_us:
        raise HoldNotOpen(hold_id, "expired")
    return row, cast("EntryRow", books.entry(hold_id))


def _amounts(command: CaptureHold, reserved: Sequence[LineRow], row: ResourceRow) -> list[int]:
    """Return how much of each line is to be captured."""
    if command.parts is not None:
        _check_left(command.parts, reserved, row)
        try:
            amounts = mechanics.parts(command.parts, reserved)
        except PartExceedsLine as error:
            raise CaptureExceeds(error.amount, pointer=error.pointer) from None
        if not any(amounts):
            raise NothingToPost
        return amounts
    if command.amount is None:
        return [line["amount"] for line in reserved]
    if len(reserved) != 2:
        raise CaptureNeedsLines
    if command.amount > reserved[0]["amount"]:
        raise CaptureExceeds(reserved[0]["amount"], pointer="/amount")
    return [command.amount, command.amount]


def _check_left(parts: Sequence[LinePart], reserved: Sequence[LineRow], row: ResourceRow) -> None:
    """Check that no line is wanted of which everything was captured before: the entry has it no more, the hold has."""
    used_up = {line["id"] for line in row["lines"]} - {line["id"] for line in reserved}
    for position, part in enumerate(parts):
        if part.line_id in used_up:
            raise CaptureExceeds(0, pointer=f"/lines/{position}/amount")


def _lines(row: ResourceRow, captured: Mapping[str, int], moved: Sequence[LineRow], *, ends: bool) -> list[object]:
    """Return the hold's lines after these amounts were captured, with the balances that its accounts have now."""
    latest = {line["account_id"]: line for line in moved}
    found: list[object] = []
    for old in (msgspec.convert(line, HoldLine) for line in row["lines"]):
        taken = captured.get(old.id, 0)
        new = msgspec.structs.replace(old, captured=old.captured + taken, held=0 if ends else old.held - taken)
        if old.account_id in latest:
            new = with_balances(new, latest[old.account_id])
        found.append(msgspec.to_builtins(new))
    return found


def _moved(
    told: Sequence[Told],
    moves: Moves,
    row: ResourceRow,
    changes: Mapping[str, object],
    happened: str,
    occasion: Occasion,
) -> Decision:
    changed, _ = resources.changed(row, changes, occasion)
    return _with_hold(journal.decided(told, moves), changed, happened, occasion)


def _with_hold(decision: Decision, row: ResourceRow, happened: str, occasion: Occasion) -> Decision:
    """Let the hold's event follow those of its entries, and be the answer."""
    answer = encode(hold_of(row))
    hold = resources.decided(KIND, row, answer, happened, occasion)
    decision.answer, decision.resource_id, decision.lock_version = hold.answer, hold.resource_id, hold.lock_version
    decision.events += hold.events
    decision.resources += hold.resources
    return decision
