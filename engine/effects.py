"""What moving an account brings with it: the limits it must keep. Pure.

Every decision that moves accounts passes here before it stands. Accounts that have no limits cost a look at their row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from engine import limits
from engine.balances import Direction, Totals
from engine.books import Books, Decision
from engine.errors import LimitBroken
from engine.rows import LineRow


def follow(decision: Decision, books: Books) -> Decision:
    """Return the decision with all that follows from what it moves; raises LimitBroken."""
    for account_id, after in decision.totals.items():
        account = books.account(account_id)
        if account is None:
            continue
        if account["limits"]:
            before = books.totals(account_id)
            _check_limits(
                "account", account_id, account["limits"], account["normal_balance"], before, after, decision.lines
            )
    return decision


def _check_limits(
    kind: str,
    resource_id: str,
    standing: Sequence[Mapping[str, Any]],
    normal: Direction,
    before: Totals,
    after: Totals,
    lines: Sequence[LineRow],
) -> None:
    found = limits.broken(standing, normal, before, after)
    if found is None:
        return
    towards = found.bound == "at_most"
    moving = (
        line["position"]
        for line in lines
        if line["account_id"] == resource_id and (line["direction"] == normal) == towards
    )
    raise LimitBroken(kind, resource_id, next(moving, 0), *found)
