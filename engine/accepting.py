"""The rules of asynchronous posting: accepted first, touching no balance; posted or rejected later, in that order. Pure."""

from __future__ import annotations

from typing import Any, Final, cast

import msgspec

from engine import entries, journal
from engine import lines as mechanics
from engine.books import Books, Decision
from engine.commands import AcceptEntry, Condition, LineDraft, PostAccepted
from engine.errors import Refused
from engine.lines import Moves
from engine.occasion import Occasion
from engine.rows import AccountRow, EntryRow, ResourceRow

KIND: Final = "acceptance"


def accept_entry(command: AcceptEntry, books: Books, occasion: Occasion) -> Decision:
    """Decide to accept an entry: all that can be told of it without balances holds."""
    draft = command.entry
    accounts, ledger_id = entries.check_draft(draft, books)
    entry = journal.new_row(
        ledger_id,
        "accepted",
        occasion,
        description=draft.description,
        external_id=draft.external_id,
        metadata=draft.metadata,
        effective_at=draft.effective_at,
        fx_rate_id=draft.fx_rate_id,
    )
    entry["lines_version"] = 0
    mechanics.check_period(ledger_id, entry["effective_at"], books)
    moves = Moves(books, occasion)
    entries.legs_of(entry, draft.lines, accounts, moves)
    acceptance: ResourceRow = {
        "site_id": occasion.site_id,
        "id": entry["id"],
        "position": books.accepted + 1,
        "lines": [_line(line, account, occasion.draw()) for line, account in zip(draft.lines, accounts, strict=True)],
        "rejection": None,
        # Filled in by whoever knows the request.
        "diagnostics": {},
        "created_at": occasion.now_us,
    }
    told = journal.tell(entry, [], occasion, acceptance=acceptance)
    decision = journal.decided([told], moves)
    decision.resources.append((KIND, acceptance))
    return decision


def post_accepted(command: PostAccepted, books: Books, occasion: Occasion) -> Decision:
    """Decide what becomes of an accepted entry: it is posted, or rejected with the reason why. It is never refused."""
    entry = cast("EntryRow", books.entry(command.entry_id))
    acceptance = cast("ResourceRow", books.resource(KIND, command.entry_id))
    try:
        return _post(entry, acceptance, books, occasion)
    except Refused as refused:
        rejected = journal.changed_row(entry, occasion)
        rejected["status"] = "rejected"
        acceptance = {**acceptance, "rejection": msgspec.json.decode(occasion.describe(refused))}
        told = journal.tell(rejected, [], occasion, acceptance=acceptance)
        decision = journal.decided([told], Moves(books, occasion))
        decision.resources.append((KIND, acceptance))
        return decision


def _post(entry: EntryRow, acceptance: ResourceRow, books: Books, occasion: Occasion) -> Decision:
    drafts = [_draft(line) for line in acceptance["lines"]]
    accounts = mechanics.accounts(drafts, books)
    posted = journal.changed_row(entry, occasion, lines=True)
    posted["status"] = "posted"
    posted["posted_at"] = occasion.now_us
    mechanics.check_period(posted["ledger_id"], posted["effective_at"], books)
    moves = Moves(books, occasion)
    legs = entries.legs_of(posted, drafts, accounts, moves)
    mechanics.check_versions(drafts, accounts, moves)
    entries.write_lines(posted, drafts, legs, accounts, moves, [line["id"] for line in acceptance["lines"]])
    return journal.decided([journal.tell(posted, moves.lines, occasion)], moves)


def _line(line: LineDraft, account: AccountRow, line_id: str) -> dict[str, Any]:
    return {
        "id": line_id,
        "account": account["id"],
        "direction": line.direction,
        "amount": line.amount,
        "currency": account["currency"],
        "metadata": line.metadata,
        "lock_version": line.lock_version,
        "conditions": [[each.balance, each.operator, each.value] for each in line.conditions],
    }


def _draft(line: dict[str, Any]) -> LineDraft:
    return LineDraft(
        account=line["account"],
        direction=line["direction"],
        amount=line["amount"],
        metadata=line["metadata"],
        lock_version=line["lock_version"],
        conditions=tuple(
            Condition(balance=balance, operator=operator, value=value)
            for balance, operator, value in line["conditions"]
        ),
    )
