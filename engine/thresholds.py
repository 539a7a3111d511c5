"""Whether a monitor's condition holds, and the edge where that changes. Pure."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Final

from engine.balances import Direction, Totals, balances_of
from engine.category_shapes import monitor_of
from engine.events import EventDraft
from engine.occasion import Occasion
from engine.rows import ResourceRow
from engine.shapes import encode

_HOLDS: Final[Mapping[str, Callable[[int, int], bool]]] = {
    "lt": operator.lt,
    "lte": operator.le,
    "eq": operator.eq,
    "gte": operator.ge,
    "gt": operator.gt,
}


def observe(row: ResourceRow, normal_balance: Direction, totals: Totals) -> ResourceRow:
    """Return a monitor's row as these totals leave it: what was observed, and whether the condition holds."""
    if row["field"] == "lock_version":
        observed = totals.lock_version
    else:
        observed = getattr(balances_of(totals, normal_balance), row["field"]).amount
    return {**row, "observed": observed, "triggered": _HOLDS[row["operator"]](observed, row["value"])}


def edge(
    row: ResourceRow, normal_balance: Direction, totals: Totals, occasion: Occasion
) -> tuple[ResourceRow, EventDraft] | None:
    """Return a monitor's row and the event where the totals make its condition begin or cease to hold."""
    if row["status"] != "active":
        return None
    seen = observe(row, normal_balance, totals)
    if seen["triggered"] == row["triggered"]:
        return None
    seen |= {"lock_version": row["lock_version"] + 1, "updated_at": occasion.now_us}
    event = EventDraft(
        id=occasion.draw(),
        type="balance.threshold_crossed" if seen["triggered"] else "balance.threshold_recovered",
        resource_type="balance_monitor",
        resource_id=row["id"],
        data=encode(monitor_of(seen)),
    )
    return seen, event
