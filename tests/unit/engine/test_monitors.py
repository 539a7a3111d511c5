"""Monitors: what they see when they are made, the edges after that, and what may be asked of them."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from engine.category_commands import ArchiveMonitor, CreateCategory, CreateMonitor, PlaceAccount, UpdateMonitor
from engine.errors import MonitorArchived, MonitorLimitReached, NotFound, PreconditionFailed
from engine.monitors import MONITORS_MAX
from tests.fakes.clock import START_US
from tests.unit.engine.desk import SITE_ID, Desk, entry, told

NOBODY = "00000000-0000-7000-8000-000000000000"


@pytest.fixture
def desk() -> Desk:
    """A desk."""
    return Desk()


def monitor(subject_id: str, **options: Any) -> CreateMonitor:
    """Return the command that watches whether an account has more than nothing."""
    given = {"subject": "account", "field": "posted", "operator": "gt", "value": 0, **options}
    return CreateMonitor(subject_id=subject_id, **given)


def edges(decision: Any) -> list[tuple[str, bool, int]]:
    """Return what a decision's events tell of monitors: the kind of edge, the state, what was observed."""
    found = [event for event in decision.events if event.type.startswith("balance.")]
    shown = [(event.type.rpartition("_")[2], msgspec.json.decode(event.data)) for event in found]
    assert all(event.resource_type == "balance_monitor" for event in found)
    assert [event.resource_id for event in found] == [data["id"] for _, data in shown]
    return [(kind, data["triggered"], data["observed"]) for kind, data in shown]


def test_a_monitor_is_made_with_what_it_sees(desk: Desk) -> None:
    """Every member as it is stored; what holds already is no edge."""
    account, other = desk.account(), desk.account("liability")
    desk.post(account, other, 5)
    decision = desk.run(monitor(account, description="d", value=4, metadata={"k": "v"}))
    [(kind, row)] = decision.resources
    assert kind == "balance_monitor"
    assert row == {
        "site_id": SITE_ID,
        "id": decision.resource_id,
        "subject": "account",
        "subject_id": account,
        "description": "d",
        "field": "posted",
        "operator": "gt",
        "value": 4,
        "status": "active",
        "triggered": True,
        "observed": 5,
        "metadata": {"k": "v"},
        "lock_version": 1,
        "created_at": START_US,
        "updated_at": START_US,
    }
    assert [event.type for event in decision.events] == ["balance_monitor.created"]
    assert (told(decision)["id"], decision.lock_version) == (row["id"], 1)


@pytest.mark.parametrize(
    ("field", "observed"), [("posted", -7), ("pending", -10), ("available", -10), ("lock_version", 3)]
)
def test_each_field_is_what_the_account_shows(desk: Desk, field: str, observed: int) -> None:
    """In the account's own direction."""
    account, other = desk.account(), desk.account("liability")
    desk.post(other, account, 7)
    desk.post(other, account, 3, status="pending")
    decision = desk.run(monitor(account, field=field, operator="eq", value=observed))
    assert (told(decision)["observed"], told(decision)["triggered"]) == (observed, True)


@pytest.mark.parametrize(
    ("operator", "seen"),
    [("lt", [True, False, False]), ("lte", [True, True, False]), ("eq", [False, True, False]),
     ("gte", [False, True, True]), ("gt", [False, False, True])],
)  # fmt: skip
def test_an_edge_is_told_once(desk: Desk, operator: str, seen: list[bool]) -> None:
    """When the condition begins to hold, and when it ceases to; in between nothing is."""
    account, other = desk.account(), desk.account("liability")
    made = desk.run(monitor(account, operator=operator, value=2)).resource_id or ""
    state, version = told(desk.run(UpdateMonitor(monitor_id=made)))["triggered"], 1
    for observed, triggered in zip((1, 2, 3), seen, strict=True):
        found = edges(desk.run(entry(account, other, 1)))
        expected = [("crossed" if triggered else "recovered", triggered, observed)] if triggered != state else []
        assert found == expected
        state, version = triggered, version + len(expected)
    row = desk.books.resource("balance_monitor", made)
    assert row is not None
    assert (row["lock_version"], row["triggered"]) == (version, state)


def test_an_edge_is_a_version_of_its_time(desk: Desk) -> None:
    """So that what was changed and when is seen of a monitor as of anything else."""
    account, other = desk.account(), desk.account("liability")
    made = desk.run(monitor(account)).resource_id or ""
    desk.now_us += 5
    desk.post(account, other, 1)
    row = desk.books.resource("balance_monitor", made)
    assert row is not None
    assert (row["lock_version"], row["created_at"], row["updated_at"]) == (2, START_US, START_US + 5)


def test_a_category_is_watched_as_an_account_is(desk: Desk) -> None:
    """In its own direction, whatever the account's is."""
    account, other = desk.account(), desk.account("liability")
    category = desk.run(CreateCategory(name="c", currency="EUR", normal_balance="credit")).resource_id or ""
    desk.run(PlaceAccount(category_id=category, account_id=account, inside=True))
    decision = desk.run(monitor(category, subject="account_category", operator="lt", value=0))
    assert told(decision)["triggered"] is False
    assert decision.account is None
    assert [row["monitors"] for kind, row in decision.resources if kind == "account_category"] == [1]
    assert edges(desk.run(entry(account, other, 4))) == [("crossed", True, -4)]
    archived = desk.run(ArchiveMonitor(monitor_id=decision.resource_id or ""))
    assert [row["monitors"] for kind, row in archived.resources if kind == "account_category"] == [0]


def test_what_is_not_there_is_not_watched(desk: Desk) -> None:
    """And is named where the request has it."""
    for subject, name, pointer in (
        ("account", "account", "/account_id"),
        ("account_category", "account category", "/account_category_id"),
    ):
        with pytest.raises(NotFound, match=f"There is no {name} {NOBODY}") as refused:
            desk.decide(monitor(NOBODY, subject=subject))
        assert refused.value.pointer == pointer


def test_an_account_knows_how_many_watch_it(desk: Desk) -> None:
    """Postings look for monitors only where it is not zero; there are fifty at most."""
    account = desk.account()
    made = [desk.run(monitor(account)).resource_id or "" for _ in range(MONITORS_MAX)]
    row = desk.books.account(account)
    assert row is not None
    assert (row["monitors"], MONITORS_MAX) == (50, 50)
    with pytest.raises(MonitorLimitReached, match="50"):
        desk.decide(monitor(account))
    archived = desk.run(ArchiveMonitor(monitor_id=made[0]))
    assert archived.account is not None
    assert archived.account["monitors"] == 49
    desk.run(monitor(account))


def test_an_archived_monitor_tells_nothing_and_stays_archived(desk: Desk) -> None:
    """Nor can it be changed."""
    account, other = desk.account(), desk.account("liability")
    first, second = (desk.run(monitor(account)).resource_id or "" for _ in range(2))
    decision = desk.run(ArchiveMonitor(monitor_id=first, if_match=1))
    assert (told(decision)["status"], decision.lock_version) == ("archived", 2)
    [event] = decision.events
    assert (event.type, event.previous) == ("balance_monitor.updated", b'{"status":"active"}')
    for command in (ArchiveMonitor(monitor_id=first), UpdateMonitor(monitor_id=first, value=5)):
        with pytest.raises(MonitorArchived):
            desk.decide(command)
    after = desk.run(entry(account, other, 1))
    assert [event.resource_id for event in after.events if event.type == "balance.threshold_crossed"] == [second]


def test_a_change_sees_anew_and_tells_what_was_there(desk: Desk) -> None:
    """The condition as one member, as the API shows it; what did not change is not told."""
    account, other = desk.account(), desk.account("liability")
    made = desk.run(monitor(account, description="d", metadata={"k": "v"})).resource_id or ""
    desk.post(account, other, 5)
    decision = desk.run(UpdateMonitor(monitor_id=made, operator="lt", value=9, field="posted", if_match=2))
    assert (told(decision)["triggered"], told(decision)["observed"], decision.lock_version) == (True, 5, 3)
    [event] = decision.events
    assert msgspec.json.decode(event.previous or b"") == {"condition": {"operator": "gt", "value": 0}}
    assert edges(decision) == []
    decision = desk.run(UpdateMonitor(monitor_id=made, field="lock_version", value=2))
    assert (told(decision)["observed"], told(decision)["triggered"]) == (desk.version(account), False)
    [event] = decision.events
    assert msgspec.json.decode(event.previous or b"") == {
        "condition": {"field": "posted", "value": 9}, "observed": 5, "triggered": True,
    }  # fmt: skip


def test_words_change_without_a_look(desk: Desk) -> None:
    """A description is set, left and cleared; metadata is replaced."""
    account = desk.account()
    made = desk.run(monitor(account, description="d", metadata={"k": "v"})).resource_id or ""
    changed = desk.run(UpdateMonitor(monitor_id=made, description="e"))
    assert (told(changed)["description"], changed.events[0].previous) == ("e", b'{"description":"d"}')
    changed = desk.run(UpdateMonitor(monitor_id=made, metadata={"k": "w"}))
    assert (told(changed)["description"], told(changed)["metadata"]) == ("e", {"k": "w"})
    assert changed.events[0].previous == b'{"metadata":{"k":"v"}}'
    changed = desk.run(UpdateMonitor(monitor_id=made, clear_description=True))
    assert (told(changed)["description"], changed.lock_version) == (None, 4)


def test_a_change_that_changes_nothing_is_none(desk: Desk) -> None:
    """No version, no event; the answer is the monitor."""
    made = desk.run(monitor(desk.account(), description="d")).resource_id or ""
    decision = desk.run(UpdateMonitor(monitor_id=made, description="d", value=0, operator="gt"))
    assert (decision.events, decision.resources, decision.lock_version) == ([], [], 1)
    assert (decision.resource_id, told(decision)["id"]) == (made, made)


def test_another_version_is_not_changed(desk: Desk) -> None:
    """Nor one that is not there."""
    made = desk.run(monitor(desk.account())).resource_id or ""
    with pytest.raises(PreconditionFailed):
        desk.decide(UpdateMonitor(monitor_id=made, value=5, if_match=2))
    with pytest.raises(NotFound):
        desk.decide(ArchiveMonitor(monitor_id=NOBODY))
