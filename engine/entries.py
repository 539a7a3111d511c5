"""The rules of entries: posting, reserving, resolving whole or in part, reversing, changing. Pure.

A pending entry's balances move when it is resolved, never its past: what it reserved is taken back at the time it was
reserved for, what is posted is posted at its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Literal, cast

from engine import fx
from engine import lines as mechanics
from engine.books import Books, Decision
from engine.commands import ArchiveEntry, LineDraft, PostEntry, PostPart, PostPending, ReverseEntry, UpdateEntry
from engine.entry_errors import EntryAlreadyReversed, EntryIsHold, EntryNotPosted, NothingToPost
from engine.errors import DuplicateEntry, EntryNotPending, NotFound, PreconditionFailed
from engine.fx import Leg
from engine.journal import Told, changed_row, decided, new_row, tell
from engine.lines import Moves
from engine.occasion import Occasion
from engine.rows import AccountRow, EntryRow, LineRow
from engine.shapes import encode, entry_of, line_of

_OPPOSITE: Final[dict[str, Literal["debit", "credit"]]] = {"debit": "credit", "credit": "debit"}


def check_draft(command: PostEntry, books: Books) -> tuple[list[AccountRow], str]:
    """Check what can be told of a new entry before anything moves; return its lines' accounts and its ledger."""
    accounts = mechanics.accounts(command.lines, books)
    ledger_id = accounts[0]["ledger_id"]
    mechanics.check_ledger(accounts, ledger_id)
    _check_external_id(command.external_id, books)
    return accounts, ledger_id


def post_entry(command: PostEntry, books: Books, occasion: Occasion) -> Decision:
    """Decide a new entry: its lines balance, its accounts can take it."""
    accounts, ledger_id = check_draft(command, books)
    entry = new_row(
        ledger_id,
        command.status,
        occasion,
        description=command.description,
        external_id=command.external_id,
        metadata=command.metadata,
        effective_at=command.effective_at,
        fx_rate_id=command.fx_rate_id,
        held=command.held,
        business_event_id=command.business_event_id,
    )
    mechanics.check_period(ledger_id, entry["effective_at"], books)
    moves = Moves(books, occasion)
    legs = legs_of(entry, command.lines, accounts, moves)
    mechanics.check_versions(command.lines, accounts, moves)
    write_lines(entry, command.lines, legs, accounts, moves)
    return decided([tell(entry, moves.lines, occasion)], moves)


def legs_of(entry: EntryRow, drafts: Sequence[LineDraft], accounts: Sequence[AccountRow], moves: Moves) -> list[Leg]:
    """Check that the lines balance; return the ones that balance an entry over two currencies, at its rate."""
    first = accounts[0]
    for account in accounts:
        if account["currency"] != first["currency"] or account["currency_exponent"] != first["currency_exponent"]:
            lines = [(line.direction, line.amount) for line in drafts]
            return fx.legs(entry["fx_rate_id"], lines, accounts, moves.books, moves.occasion.now_us)
    mechanics.check_balanced((first["currency"], line.direction, line.amount) for line in drafts)
    return []


def write_lines(
    entry: EntryRow,
    drafts: Sequence[LineDraft],
    legs: Sequence[Leg],
    accounts: Sequence[AccountRow],
    moves: Moves,
    ids: Sequence[str] = (),
) -> None:
    """Move what the lines of an entry move, and check what must hold of the balances then.

    `ids` are those of the lines where they have some already.
    """
    draw = moves.occasion.draw
    posts = entry["status"] == "posted"
    status: Literal["posted", "pending"] = "posted" if posts else "pending"
    at = entry["effective_at"]
    for position, (line, account) in enumerate(zip(drafts, accounts, strict=True)):
        moves.add(entry, position, ids[position] if ids else draw(), account, line.direction, line.amount, line.metadata,
                  status, line.amount if posts else 0, 0 if posts else line.amount, at)  # fmt: skip
    for position, leg in enumerate(legs, start=len(drafts)):
        account = moves.account_for(leg, entry["ledger_id"])
        moves.add(entry, position, draw(), account, leg.direction, leg.amount, {},
                  status, leg.amount if posts else 0, 0 if posts else leg.amount, at)  # fmt: skip
    mechanics.check_funds(moves, accounts, [line.direction for line in drafts])
    mechanics.check_conditions(drafts, accounts, moves.totals)


def resolve_entry(command: PostPending | ArchiveEntry, books: Books, occasion: Occasion) -> Decision:
    """Decide to post a pending entry or to give it up. It never fails for balance reasons."""
    entry = _pending(command.entry_id, command.if_match, books)
    moves = Moves(books, occasion)
    if isinstance(command, PostPending):
        whole = [line["amount"] for line in books.lines(entry["id"])]
        resolved = post_amounts(entry, whole, command.effective_at, books, moves, occasion)
    else:
        resolved = give_up(entry, books, moves, occasion)
    return decided([tell(resolved, moves.lines, occasion)], moves)


def post_part(command: PostPart, books: Books, occasion: Occasion) -> Decision:
    """Decide to post a part of a pending entry.

    Where the rest is released, or nothing is left, the entry itself is posted with these amounts; else the part is an
    entry of its own that names it, and the entry stays pending with what is left. Either way it takes effect when the
    entry would, unless another time is given.
    """
    entry = _pending(command.entry_id, command.if_match, books)
    reserved = books.lines(entry["id"])
    amounts = mechanics.parts(command.parts, reserved)
    if not any(amounts):
        raise NothingToPost
    mechanics.check_balanced(zip_amounts(reserved, amounts))
    moves = Moves(books, occasion)
    if command.release_rest or amounts == [line["amount"] for line in reserved]:
        posted = post_amounts(entry, amounts, command.effective_at, books, moves, occasion)
        if command.description is not None:
            posted["description"] = command.description
        posted["metadata"] = {**posted["metadata"], **command.metadata}
        return decided([tell(posted, moves.lines, occasion)], moves)
    told = split(entry, amounts, command, books, moves, occasion)
    return decided(told, moves, answer=1)


def split(
    entry: EntryRow,
    amounts: Sequence[int],
    part: PostPart,
    books: Books,
    moves: Moves,
    occasion: Occasion,
) -> list[Told]:
    """Take amounts out of a pending entry and post them as an entry of their own; return both, the pending one first."""
    reserved = books.lines(entry["id"])
    accounts = _accounts_of(reserved, books)
    left = changed_row(entry, occasion, lines=True)
    for position, (line, account, amount) in enumerate(zip(reserved, accounts, amounts, strict=True)):
        if amount == line["amount"]:
            moves.discard(left, position, line, account, entry["effective_at"])
        else:
            moves.add(left, position, line["id"], account, line["direction"], line["amount"] - amount,
                      line["metadata"], "pending", 0, -amount, entry["effective_at"])  # fmt: skip
    taken = len(moves.lines)
    posted = new_row(
        entry["ledger_id"],
        "posted",
        occasion,
        description=entry["description"] if part.description is None else part.description,
        metadata={**entry["metadata"], **part.metadata},
        effective_at=entry["effective_at"] if part.effective_at is None else part.effective_at,
        fx_rate_id=entry["fx_rate_id"],
        partially_posts=entry["id"],
    )
    mechanics.check_period(entry["ledger_id"], posted["effective_at"], books)
    position = 0
    for line, account, amount in zip(reserved, accounts, amounts, strict=True):
        if amount:
            moves.add(posted, position, occasion.draw(), account, line["direction"], amount, line["metadata"], "posted",
                      amount, 0, posted["effective_at"])  # fmt: skip
            position += 1
    previous = encode({"lines": [line_of(line) for line in reserved]})
    return [
        tell(left, moves.lines[:taken], occasion, event_type="entry.updated", previous=previous),
        tell(posted, moves.lines[taken:], occasion),
    ]


def post_amounts(
    entry: EntryRow,
    amounts: Sequence[int],
    effective_at: int | None,
    books: Books,
    moves: Moves,
    occasion: Occasion,
) -> EntryRow:
    """Move what a pending entry reserved to posted, so much of every line; what is over is free again."""
    reserved = books.lines(entry["id"])
    posted = changed_row(entry, occasion, lines=True)
    posted["status"] = "posted"
    posted["posted_at"] = occasion.now_us
    posted["effective_at"] = at = entry["effective_at"] if effective_at is None else effective_at
    mechanics.check_period(entry["ledger_id"], at, books)
    position = 0
    discarded: list[tuple[LineRow, AccountRow]] = []
    for line, account, amount in zip(reserved, _accounts_of(reserved, books), amounts, strict=True):
        if amount == 0:
            discarded.append((line, account))
            continue
        moved = at != entry["effective_at"]
        if moved:
            discarded.append((line, account))
        moves.add(posted, position, line["id"], account, line["direction"], amount, line["metadata"], "posted", amount,
                  0 if moved else -line["amount"], at)  # fmt: skip
        position += 1
    for line, account in discarded:
        moves.discard(posted, position, line, account, entry["effective_at"])
        position += 1
    return posted


def give_up(entry: EntryRow, books: Books, moves: Moves, occasion: Occasion) -> EntryRow:
    """Free what a pending entry reserved."""
    archived = changed_row(entry, occasion, lines=True)
    archived["status"] = "archived"
    reserved = books.lines(entry["id"])
    for position, (line, account) in enumerate(zip(reserved, _accounts_of(reserved, books), strict=True)):
        moves.add(archived, position, line["id"], account, line["direction"], line["amount"], line["metadata"],
                  "archived", 0, -line["amount"], entry["effective_at"])  # fmt: skip
    return archived


def reverse_entry(command: ReverseEntry, books: Books, occasion: Occasion) -> Decision:
    """Decide the mirror image of a posted entry, or of a part of it; there is one, ever."""
    entry = _entry(command.entry_id, command.if_match, books)
    if entry["reversed_by"] is not None:
        raise EntryAlreadyReversed(entry["id"], entry["reversed_by"])
    if entry["status"] != "posted":
        raise EntryNotPosted(entry["id"], entry["status"])
    _check_external_id(command.external_id, books)
    original = books.lines(entry["id"])
    if command.parts is None:
        amounts = [line["amount"] for line in original]
    else:
        amounts = mechanics.parts(command.parts, original)
        if not any(amounts):
            raise NothingToPost
        mechanics.check_balanced(zip_amounts(original, amounts))
    mirror = new_row(
        entry["ledger_id"],
        "posted",
        occasion,
        description=command.description,
        external_id=command.external_id,
        metadata=command.metadata,
        effective_at=command.effective_at,
        fx_rate_id=entry["fx_rate_id"],
        reverses=entry["id"],
    )
    mechanics.check_period(entry["ledger_id"], mirror["effective_at"], books)
    moves = Moves(books, occasion)
    mirrored = [(line, amount) for line, amount in zip(original, amounts, strict=True) if amount]
    accounts = _accounts_of([line for line, _ in mirrored], books)
    mechanics.check_open(accounts)
    for position, ((line, amount), account) in enumerate(zip(mirrored, accounts, strict=True)):
        moves.add(mirror, position, occasion.draw(), account, _OPPOSITE[line["direction"]], amount, line["metadata"],
                  "posted", amount, 0, mirror["effective_at"])  # fmt: skip
    mechanics.check_funds(moves, accounts, [line["direction"] for line in moves.lines])
    reversed_ = changed_row(entry, occasion)
    reversed_["reversed_by"] = mirror["id"]
    told = [
        tell(mirror, moves.lines, occasion),
        tell(reversed_, original, occasion, event_type="entry.reversed", previous=encode({"reversed_by": None})),
    ]
    return decided(told, moves)


def update_entry(command: UpdateEntry, books: Books, occasion: Occasion) -> Decision:
    """Decide a change of an entry; the event tells what was there before. Lines and times change while pending only."""
    entry = _entry(command.entry_id, command.if_match, books)
    present = books.lines(entry["id"])
    acceptance = books.resource("acceptance", entry["id"])
    changed = entry.copy()
    previous: dict[str, Any] = {}
    if command.clear_description or command.description is not None:
        changed["description"] = None if command.clear_description else command.description
    if command.metadata is not None:
        changed["metadata"] = command.metadata
    if command.effective_at is not None:
        changed["effective_at"] = command.effective_at
    for name in ("description", "metadata"):
        if changed[name] != entry[name]:
            previous[name] = entry[name]
    moved = changed["effective_at"] != entry["effective_at"]
    if moved:
        previous["effective_at"] = entry_of(entry, present).effective_at
    if command.lines is not None:
        previous["lines"] = [line_of(line) for line in present]
    if not previous:
        answer = encode(entry_of(entry, present, acceptance))
        return Decision(answer=answer, resource_id=entry["id"], lock_version=entry["lock_version"], events=[])
    moves = Moves(books, occasion)
    lined = moved or command.lines is not None
    changed = changed_row(changed, occasion, lines=lined)
    if lined:
        _pending(entry["id"], None, books, pointer="/effective_at" if command.lines is None else "/lines")
        if command.lines is None:
            _move_in_time(changed, entry["effective_at"], books, moves)
        else:
            _replace(changed, entry["effective_at"], command.lines, books, moves)
    lines = moves.lines if lined else present
    told = tell(changed, lines, occasion, event_type="entry.updated", previous=encode(previous), acceptance=acceptance)
    return decided([told], moves)


def _pending(entry_id: str, if_match: int | None, books: Books, *, pointer: str = "") -> EntryRow:
    """Return an entry that has to be pending, and no hold."""
    entry = _entry(entry_id, if_match, books)
    if entry["status"] != "pending":
        raise EntryNotPending(entry["id"], entry["status"], pointer=pointer)
    if entry["held"]:
        raise EntryIsHold(entry["id"])
    return entry


def zip_amounts(lines: Sequence[LineRow], amounts: Sequence[int]) -> list[tuple[str, str, int]]:
    """Return currency, direction and amount of each line with an amount of its own."""
    return [(line["currency"], line["direction"], amount) for line, amount in zip(lines, amounts, strict=True)]


def _entry(entry_id: str, if_match: int | None, books: Books) -> EntryRow:
    entry = books.entry(entry_id)
    if entry is None:
        raise NotFound("entry", entry_id)
    if if_match is not None and if_match != entry["lock_version"]:
        raise PreconditionFailed(entry["lock_version"])
    return entry


def _check_external_id(external_id: str | None, books: Books) -> None:
    holder = None if external_id is None else books.live_entry(external_id)
    if external_id is not None and holder is not None:
        raise DuplicateEntry(external_id, holder)


def _move_in_time(changed: EntryRow, reserved_at: int, books: Books, moves: Moves) -> None:
    """Reserve the same lines for another time."""
    reserved = books.lines(changed["id"])
    accounts = _accounts_of(reserved, books)
    mechanics.check_period(changed["ledger_id"], changed["effective_at"], books)
    for position, (line, account) in enumerate(zip(reserved, accounts, strict=True)):
        moves.discard(changed, len(reserved) + position, line, account, reserved_at)
    for position, (line, account) in enumerate(zip(reserved, accounts, strict=True)):
        moves.add(changed, position, line["id"], account, line["direction"], line["amount"], line["metadata"],
                  "pending", 0, line["amount"], changed["effective_at"])  # fmt: skip


def _replace(changed: EntryRow, reserved_at: int, drafts: Sequence[LineDraft], books: Books, moves: Moves) -> None:
    """Take back what the entry reserved, and reserve other lines."""
    accounts = mechanics.accounts(drafts, books)
    mechanics.check_ledger(accounts, changed["ledger_id"])
    mechanics.check_period(changed["ledger_id"], changed["effective_at"], books)
    legs = legs_of(changed, drafts, accounts, moves)
    mechanics.check_versions(drafts, accounts, moves)
    reserved, behind = books.lines(changed["id"]), len(drafts) + len(legs)
    for position, (line, account) in enumerate(zip(reserved, _accounts_of(reserved, books), strict=True)):
        moves.discard(changed, behind + position, line, account, reserved_at)
    write_lines(changed, drafts, legs, accounts, moves)


def _accounts_of(lines: Sequence[LineRow], books: Books) -> list[AccountRow]:
    return [cast("AccountRow", books.account(line["account_id"])) for line in lines]
