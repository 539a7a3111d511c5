"""The rules of monitors: a condition on a balance that tells when it begins and when it ceases to hold. Pure."""

from __future__ import annotations

from typing import Any, Final

from engine import resources
from engine.balances import Direction, Totals
from engine.books import Books, Decision
from engine.category_commands import ArchiveMonitor, CreateMonitor, UpdateMonitor
from engine.category_shapes import monitor_of
from engine.errors import MonitorArchived, MonitorLimitReached, NotFound
from engine.occasion import Occasion
from engine.rows import ResourceRow
from engine.shapes import encode
from engine.thresholds import observe

KIND: Final = "balance_monitor"
MONITORS_MAX: Final = 50
"""How many monitors watch one account or category: each is looked at with every line."""


def create_monitor(command: CreateMonitor, books: Books, occasion: Occasion) -> Decision:
    """Decide a new monitor; whether its condition holds already stands in it, without an event of its own."""
    normal, totals = _subject(command.subject, command.subject_id, books)
    row: ResourceRow = {
        "site_id": occasion.site_id,
        "id": occasion.draw(),
        "subject": command.subject,
        "subject_id": command.subject_id,
        "description": command.description,
        "field": command.field,
        "operator": command.operator,
        "value": command.value,
        "status": "active",
        "triggered": False,
        "observed": 0,
        "metadata": command.metadata,
        "lock_version": 1,
        "created_at": occasion.now_us,
        "updated_at": occasion.now_us,
    }
    row = observe(row, normal, totals)
    decision = resources.decided(KIND, row, encode(monitor_of(row)), "created", occasion)
    return _counted(decision, row, 1, books)


def update_monitor(command: UpdateMonitor, books: Books, occasion: Occasion) -> Decision:
    """Decide a change of a monitor; its state is that of the new condition."""
    row = _monitor(command, books)
    normal, totals = _subject(row["subject"], row["subject_id"], books)
    given = {"field": command.field, "operator": command.operator, "value": command.value}
    changes: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if command.clear_description or command.description is not None:
        changes["description"] = None if command.clear_description else command.description
    if command.metadata is not None:
        changes["metadata"] = command.metadata
    if any(row[name] != changes[name] for name in given if name in changes):
        seen = observe({**row, **changes}, normal, totals)
        changes |= {"observed": seen["observed"], "triggered": seen["triggered"]}
    return _changed(row, changes, occasion)


def archive_monitor(command: ArchiveMonitor, books: Books, occasion: Occasion) -> Decision:
    """Decide that a monitor watches no more."""
    row = _monitor(command, books)
    return _counted(_changed(row, {"status": "archived"}, occasion), row, -1, books)


def _monitor(command: UpdateMonitor | ArchiveMonitor, books: Books) -> ResourceRow:
    row = resources.present(KIND, command.monitor_id, command.if_match, books)
    if row["status"] == "archived":
        raise MonitorArchived(row["id"])
    return row


def _subject(subject: str, subject_id: str, books: Books) -> tuple[Direction, Totals]:
    """Return the normal balance and the totals of what a monitor watches."""
    if subject == "account":
        account = books.account(subject_id)
        if account is None:
            raise NotFound("account", subject_id, pointer="/account_id")
        return account["normal_balance"], books.totals(subject_id)
    category = books.resource("account_category", subject_id)
    if category is None:
        raise NotFound("account category", subject_id, pointer="/account_category_id")
    return category["normal_balance"], books.membership.totals(subject_id)


def _counted(decision: Decision, row: ResourceRow, step: int, books: Books) -> Decision:
    """Return the decision with the number of monitors on the subject's own row: postings look for them only where it is not 0."""
    account = books.account(row["subject_id"]) if row["subject"] == "account" else None
    if account is not None:
        count = account["monitors"] + step
        decision.account = {**account, "monitors": count}
    else:
        category = books.resource("account_category", row["subject_id"])
        if category is None:
            raise NotFound("account category", row["subject_id"])
        count = category["monitors"] + step
        decision.resources.append(("account_category", {**category, "monitors": count}))
    if count > MONITORS_MAX:
        raise MonitorLimitReached(row["subject_id"], MONITORS_MAX)
    return decision


def _changed(row: ResourceRow, changes: dict[str, Any], occasion: Occasion) -> Decision:
    changed, previous = resources.changed(row, changes, occasion)
    answer = encode(monitor_of(changed))
    if not previous:
        return Decision(answer=answer, resource_id=row["id"], lock_version=row["lock_version"], events=[])
    return resources.decided(KIND, changed, answer, "updated", occasion, encode(_as_shown(previous)))


def _as_shown(previous: dict[str, Any]) -> dict[str, Any]:
    """Return what a change replaces under the names the API has."""
    condition = {name: previous.pop(name) for name in ("field", "operator", "value") if name in previous}
    return {**previous, **({"condition": condition} if condition else {})}
