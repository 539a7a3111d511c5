"""The rules of categories: opening and changing them, putting accounts and categories into them and taking them out. Pure.

Categories and accounts are a directed graph without cycles. An account counts once in every category it can be reached from,
by however many ways; the currency is one, the normal balances of the accounts may differ from the category's.
"""

from __future__ import annotations

from typing import Any, Final, Literal

from msgspec import structs

from engine import effects
from engine.balances import EMPTY, Totals
from engine.books import Books, Decision
from engine.category_commands import CreateCategory, LinkCategory, PlaceAccount, UpdateCategory
from engine.category_shapes import category_of, member_of
from engine.currencies import exponent_of
from engine.errors import (
    AlreadyTaken,
    AmountOutOfRange,
    CategoryCycle,
    CategoryLimitReached,
    CategoryMismatch,
    NotFound,
    PreconditionFailed,
)
from engine.events import EventDraft
from engine.occasion import Occasion
from engine.rows import ResourceRow
from engine.shapes import encode

KIND: Final = "account_category"
REACH_MAX: Final = 100
"""In how many categories an account, or a category, may stand at any distance: what a posting moves at most per account."""


def create_category(command: CreateCategory, books: Books, occasion: Occasion) -> Decision:
    """Decide a new category, with nothing in it."""
    if command.ledger_id is not None and books.ledger(command.ledger_id) is None:
        raise NotFound("ledger", command.ledger_id, pointer="/ledger_id")
    if command.external_id is not None:
        holder = books.resource_named(KIND, "external_id", command.external_id)
        if holder is not None:
            raise AlreadyTaken("category", command.external_id, holder["id"])
    exponent = exponent_of(command.currency, command.currency_exponent, books)
    row: ResourceRow = {
        "site_id": occasion.site_id,
        "id": occasion.draw(),
        "ledger_id": command.ledger_id,
        "name": command.name,
        "description": command.description,
        "normal_balance": command.normal_balance,
        "currency": command.currency,
        "currency_exponent": exponent,
        "external_id": command.external_id,
        "limits": [structs.asdict(limit) for limit in command.limits],
        "monitors": 0,
        "metadata": command.metadata,
        "created_at": occasion.now_us,
        "updated_at": occasion.now_us,
    }
    return _decided(row, EMPTY.bump(), "created", occasion)


def update_category(command: UpdateCategory, books: Books, occasion: Occasion) -> Decision:
    """Decide a change of what a category is called or may come to; the event tells what it was."""
    row = _category(command.category_id, books)
    totals = _at_version(row, command.if_match, books)
    changes: dict[str, Any] = {}
    if command.name is not None:
        changes["name"] = command.name
    if command.clear_description or command.description is not None:
        changes["description"] = None if command.clear_description else command.description
    if command.limits is not None:
        changes["limits"] = [structs.asdict(limit) for limit in command.limits]
    if command.metadata is not None:
        changes["metadata"] = command.metadata
    previous = {name: row[name] for name in changes if changes[name] != row[name]}
    if not previous:
        answer = encode(category_of(row, totals))
        return Decision(answer=answer, resource_id=row["id"], lock_version=totals.lock_version, events=[])
    changed = {**row, **changes, "updated_at": occasion.now_us}
    decision = _decided(changed, totals.bump(), "updated", occasion, encode(previous))
    effects.watch(decision, row["id"], row["normal_balance"], totals.bump(), books, occasion)
    return decision


def place_account(command: PlaceAccount, books: Books, occasion: Occasion) -> Decision:
    """Decide that an account stands in a category or no longer; doing it again changes nothing."""
    row, account = _category(command.category_id, books), books.account(command.account_id)
    if account is None:
        raise NotFound("account", command.account_id)
    _at_version(row, command.if_match, books)
    direct = books.membership.direct(account["id"])
    if (row["id"] in direct) == command.inside:
        return _unchanged(row, "account", account["id"], books, inside=command.inside)
    if command.inside:
        _check_fits(row, account["currency"], account["currency_exponent"], account["ledger_id"])
    before = books.membership.reach(direct)
    after = books.membership.reach(direct | {row["id"]} if command.inside else direct - {row["id"]})
    if len(after) > REACH_MAX:
        raise CategoryLimitReached("account", account["id"], REACH_MAX)
    own = books.totals(account["id"])
    moved = {row["id"]: books.membership.totals(row["id"])}
    for category_id in after - before:
        moved[category_id] = books.membership.totals(category_id).shift(EMPTY, own)
    for category_id in before - after:
        moved[category_id] = books.membership.totals(category_id).shift(own, EMPTY)
    step = 1 if command.inside else -1
    decision = _placed(row, "account", account["id"], moved, books, occasion, inside=command.inside)
    decision.account = {**account, "categories": account["categories"] + step}
    decision.placed = {(row["id"], account["id"]): command.inside}
    return decision


def link_category(command: LinkCategory, books: Books, occasion: Occasion) -> Decision:
    """Decide that a category with all that is in it stands in another or no longer; raises CategoryCycle."""
    row, child = _category(command.category_id, books), _category(command.child_id, books)
    _at_version(row, command.if_match, books)
    if books.membership.linked(row["id"], child["id"]) == command.inside:
        return _unchanged(row, KIND, child["id"], books, inside=command.inside)
    above = books.membership.above(row["id"])
    if command.inside:
        if child["id"] in above:
            raise CategoryCycle(row["id"], child["id"])
        _check_fits(row, child["currency"], child["currency_exponent"], child["ledger_id"])
        if len(above | books.membership.above(child["id"])) > REACH_MAX:
            raise CategoryLimitReached("category", child["id"], REACH_MAX)
    moved = {row["id"]: books.membership.totals(row["id"])}
    for category_id in above:
        present, comes_to = books.membership.totals(category_id), books.membership.union(category_id)
        if present[:4] != comes_to[:4]:
            moved[category_id] = comes_to._replace(lock_version=present.lock_version)
    decision = _placed(row, KIND, child["id"], moved, books, occasion, inside=command.inside)
    decision.linked = {(row["id"], child["id"]): command.inside}
    return decision


def _category(category_id: str, books: Books) -> ResourceRow:
    row = books.resource(KIND, category_id)
    if row is None:
        raise NotFound("account category", category_id)
    return row


def _at_version(row: ResourceRow, if_match: int | None, books: Books) -> Totals:
    totals = books.membership.totals(row["id"])
    if if_match is not None and if_match != totals.lock_version:
        raise PreconditionFailed(totals.lock_version)
    return totals


def _check_fits(row: ResourceRow, currency: str, exponent: int, ledger_id: str | None) -> None:
    if (currency, exponent) != (row["currency"], row["currency_exponent"]):
        raise CategoryMismatch(row["id"], f"{row['currency']} with {row['currency_exponent']} digits", "currency")
    if row["ledger_id"] is not None and ledger_id != row["ledger_id"]:
        raise CategoryMismatch(row["id"], row["ledger_id"], "ledger")


def _placed(
    row: ResourceRow,
    member_type: Literal["account", "account_category"],
    member_id: str,
    moved: dict[str, Totals],
    books: Books,
    occasion: Occasion,
    *,
    inside: bool,
) -> Decision:
    for category_id, totals in moved.items():
        if not totals.in_range():
            raise AmountOutOfRange(category_id, None, kind="category")
    member = member_of(row, moved[row["id"]].bump(), member_type, member_id, inside=inside)
    answer = encode(member)
    event = EventDraft(
        id=occasion.draw(),
        type=f"{KIND}.member_added" if inside else f"{KIND}.member_removed",
        resource_type=KIND,
        resource_id=row["id"],
        data=answer,
    )
    decision = Decision(answer=answer, resource_id=row["id"], lock_version=member.lock_version, events=[event])
    return effects.move_categories(decision, moved, books, occasion)


def _unchanged(
    row: ResourceRow,
    member_type: Literal["account", "account_category"],
    member_id: str,
    books: Books,
    *,
    inside: bool,
) -> Decision:
    totals = books.membership.totals(row["id"])
    answer = encode(member_of(row, totals, member_type, member_id, inside=inside))
    return Decision(answer=answer, resource_id=row["id"], lock_version=totals.lock_version, events=[])


def _decided(
    row: ResourceRow, totals: Totals, happened: str, occasion: Occasion, previous: bytes | None = None
) -> Decision:
    answer = encode(category_of(row, totals))
    event = EventDraft(
        id=occasion.draw(),
        type=f"{KIND}.{happened}",
        resource_type=KIND,
        resource_id=row["id"],
        data=answer,
        previous=previous,
    )
    return Decision(
        answer=answer,
        resource_id=row["id"],
        lock_version=totals.lock_version,
        events=[event],
        resources=[(KIND, row)],
        category_totals={row["id"]: totals},
    )
