"""What moving an account brings with it: the limits it must keep, the categories it moves, the monitors it sets off. Pure.

Every decision that moves accounts passes here before it stands. Accounts that have none of these cost a look at their row.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from engine import limits
from engine.balances import Direction, Totals
from engine.books import Books, Decision
from engine.entry_errors import LimitBroken
from engine.errors import AmountOutOfRange
from engine.occasion import Occasion
from engine.rows import LineRow
from engine.thresholds import edge


def follow(decision: Decision, books: Books, occasion: Occasion) -> Decision:
    """Return the decision with all that follows from what it moves; raises LimitBroken and AmountOutOfRange."""
    categories: dict[str, Totals] = {}
    for account_id, after in decision.totals.items():
        account = books.account(account_id)
        if account is None or not (account["limits"] or account["categories"] or account["monitors"]):
            continue
        before, normal = books.totals(account_id), account["normal_balance"]
        if account["limits"]:
            _check_limits(
                "account", account_id, account["limits"], normal, before, after, decision.lines, account_id.__eq__
            )
        if account["categories"] and before[:4] != after[:4]:
            for category_id in books.membership.reach(books.membership.direct(account_id)):
                present = categories.get(category_id) or books.membership.totals(category_id)
                categories[category_id] = present.shift(before, after)
        if account["monitors"]:
            watch(decision, account_id, normal, after, books, occasion)
    if not categories:
        return decision
    for category_id in sorted(categories):
        _move_category(category_id, categories[category_id], decision, books)
    return move_categories(decision, categories, books, occasion)


def move_categories(decision: Decision, moved: Mapping[str, Totals], books: Books, occasion: Occasion) -> Decision:
    """Return the decision with categories moved to these totals, each one version later, and their monitors set off."""
    for category_id in sorted(moved):
        after = decision.category_totals[category_id] = moved[category_id].bump()
        row = books.resource("account_category", category_id)
        if row is not None and row["monitors"]:
            watch(decision, category_id, row["normal_balance"], after, books, occasion)
    return decision


def watch(
    decision: Decision, subject_id: str, normal: Direction, after: Totals, books: Books, occasion: Occasion
) -> None:
    """Add the edges of the monitors on an account or a category to the decision."""
    for row in books.group("balance_monitor", subject_id):
        found = edge(row, normal, after, occasion)
        if found is not None:
            seen, event = found
            decision.resources.append(("balance_monitor", seen))
            decision.events.append(event)


def _move_category(category_id: str, after: Totals, decision: Decision, books: Books) -> None:
    """Check what a category comes to by an entry."""

    def inside(account_id: str) -> bool:
        return category_id in books.membership.reach(books.membership.direct(account_id))

    if not after.in_range():
        position = next((line["position"] for line in decision.lines if inside(line["account_id"])), 0)
        raise AmountOutOfRange(category_id, position, kind="category")
    row = books.resource("account_category", category_id)
    if row is not None and row["limits"]:
        before, normal = books.membership.totals(category_id), row["normal_balance"]
        _check_limits("category", category_id, row["limits"], normal, before, after, decision.lines, inside)


def _check_limits(
    kind: str,
    resource_id: str,
    standing: Sequence[Mapping[str, Any]],
    normal: Direction,
    before: Totals,
    after: Totals,
    lines: Sequence[LineRow],
    concerns: Callable[[str], bool],
) -> None:
    found = limits.broken(standing, normal, before, after)
    if found is None:
        return
    towards = found.bound == "at_most"
    moving = (
        line["position"]
        for line in lines
        if line["status"] in {"posted", "pending"}
        and (line["direction"] == normal) == towards
        and concerns(line["account_id"])
    )
    raise LimitBroken(kind, resource_id, next(moving, 0), *found)
