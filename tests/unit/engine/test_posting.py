"""What each command on entries decides: status, totals, line versions, events and answers."""

from __future__ import annotations

import msgspec
import pytest

from engine.commands import ArchiveEntry, PostEntry, PostPending, RecordFact, Tend, UpdateEntry, Validate
from tests.unit.engine.desk import Desk, batch, entry, line, told


@pytest.fixture
def desk() -> Desk:
    """Books with one ledger."""
    return Desk()


def test_posted_entry_moves_both_accounts_and_says_what_they_came_to(desk: Desk) -> None:
    """Every line carries the balances right after it; one event tells all."""
    cash, sales = desk.account("asset"), desk.account("revenue")
    decision = desk.run(entry(cash, sales, 250, external_id="x", description="d", metadata={"k": "v"}))
    answer = told(decision)
    assert (answer["status"], answer["lock_version"], answer["external_id"]) == ("posted", 1, "x")
    assert answer["posted_at"] == answer["effective_at"] == answer["created_at"] == answer["updated_at"]
    resulting = [each["resulting_balances"]["posted"]["amount"] for each in answer["lines"]]
    assert resulting == [250, 250]
    assert [each["account_lock_version"] for each in answer["lines"]] == [2, 2]
    assert [event.type for event in decision.events] == ["entry.posted"]
    assert decision.events[0].data == decision.answer
    assert decision.resource_id == answer["id"]
    assert (desk.totals(cash), desk.totals(sales)) == ((250, 0, 0, 0), (0, 250, 0, 0))


def test_pending_entry_reserves_and_posts_nothing(desk: Desk) -> None:
    """What is outgoing is no longer available; nothing is posted yet."""
    cash, debts = desk.account("asset"), desk.account("liability")
    decision = desk.run(entry(cash, debts, 40, status="pending"))
    answer = told(decision)
    assert (answer["status"], answer["posted_at"]) == ("pending", None)
    assert [event.type for event in decision.events] == ["entry.created"]
    assert (desk.totals(cash), desk.totals(debts)) == ((0, 0, 40, 0), (0, 0, 0, 40))


@pytest.mark.parametrize(
    ("command", "status", "event_type", "totals"),
    [
        (PostPending, "posted", "entry.posted", (40, 0, 0, 0)),
        (ArchiveEntry, "archived", "entry.archived", (0, 0, 0, 0)),
    ],
)
def test_pending_entry_ends_posted_or_archived(
    desk: Desk,
    command: type[PostPending | ArchiveEntry],
    status: str,
    event_type: str,
    totals: tuple[int, ...],
) -> None:
    """What was reserved moves or is free; the lines get a version of their own and keep their ids."""
    cash, debts = desk.account("asset"), desk.account("liability")
    first = desk.run(entry(cash, debts, 40, status="pending"))
    desk.now_us += 1
    decision = desk.run(command(entry_id=told(first)["id"], if_match=1))
    answer = told(decision)
    assert (answer["status"], answer["lock_version"], decision.events[0].type) == (status, 2, event_type)
    assert (answer["posted_at"] is None) is (status == "archived")
    assert answer["created_at"] < answer["updated_at"]
    assert [row["version"] for row in decision.lines] == [2, 2]
    assert [row["id"] for row in decision.lines] == [row["id"] for row in first.lines]
    assert [row["amount"] for row in decision.lines] == [40, 40]
    assert desk.totals(cash) == totals


def test_account_may_stand_on_several_lines_of_one_entry(desk: Desk) -> None:
    """Each line shows the totals after it, in order."""
    cash, sales = desk.account("asset"), desk.account("revenue")
    lines = (line(cash, "debit", 5), line(cash, "debit", 7), line(sales, "credit", 10), line(cash, "credit", 2))
    answer = told(desk.run(PostEntry(lines=lines)))
    resulting = [each["resulting_balances"]["posted"]["amount"] for each in answer["lines"]]
    assert resulting == [5, 12, 10, 10]
    assert [each["account_lock_version"] for each in answer["lines"]] == [2, 3, 2, 4]


def test_line_may_name_its_account_by_external_id(desk: Desk) -> None:
    """`external_id:…` is the account that has it."""
    cash, sales = desk.account("asset", external_id="till"), desk.account("revenue")
    answer = told(desk.run(entry("external_id:till", sales, 5)))
    assert answer["lines"][0]["account_id"] == cash


def test_effective_time_may_be_given(desk: Desk) -> None:
    """It is the entry's own where none is."""
    cash, sales = desk.account("asset"), desk.account("revenue")
    assert told(desk.run(entry(cash, sales, 5, effective_at=0)))["effective_at"] == "1970-01-01T00:00:00.000000Z"


def test_entries_of_a_batch_see_each_other_and_say_their_place(desk: Desk) -> None:
    """The second spends what the first brought; one event for each, numbered from 1."""
    cash, sales = desk.account("asset", allow_negative=False), desk.account("revenue")
    costs = desk.account("expense")
    decision = desk.run(batch(entry(cash, sales, 10), entry(costs, cash, 10)))
    answer = told(decision)
    assert (answer["mode"], len(answer["data"])) == ("atomic", 2)
    places = [event.batch for event in decision.events]
    assert [(place.id, place.index, place.count) for place in places if place] == [
        (answer["id"], 1, 2),
        (answer["id"], 2, 2),
    ]
    assert [event.data for event in decision.events] == [msgspec.json.encode(each) for each in answer["data"]]
    assert desk.totals(cash) == (10, 10, 0, 0)


@pytest.mark.parametrize("status", ["posted", "pending"])
def test_description_and_metadata_change_whatever_the_status(desk: Desk, status: str) -> None:
    """The event tells what they were; lines and balances stay."""
    cash, sales = desk.account("asset"), desk.account("revenue")
    made = desk.post(cash, sales, 5, status=status, description="old", metadata={"a": "1"})
    before = desk.totals(cash)
    decision = desk.run(UpdateEntry(entry_id=made, description="new", metadata={"b": "2"}, if_match=1))
    answer = told(decision)
    assert (answer["description"], answer["metadata"], answer["lock_version"]) == ("new", {"b": "2"}, 2)
    assert answer["status"] == status
    [event] = decision.events
    assert event.type == "entry.updated"
    assert msgspec.json.decode(event.previous or b"") == {"description": "old", "metadata": {"a": "1"}}
    assert decision.lines == []
    assert desk.totals(cash) == before
    cleared = desk.run(UpdateEntry(entry_id=made, clear_description=True))
    assert told(cleared)["description"] is None
    assert msgspec.json.decode(cleared.events[0].previous or b"") == {"description": "new"}


def test_update_that_changes_nothing_says_nothing(desk: Desk) -> None:
    """No event, no version."""
    cash, sales = desk.account("asset"), desk.account("revenue")
    made = desk.post(cash, sales, 5, description="d", metadata={"a": "1"})
    for same in (UpdateEntry(entry_id=made), UpdateEntry(entry_id=made, description="d", metadata={"a": "1"})):
        decision = desk.run(same)
        assert (decision.events, decision.entries, decision.lock_version) == ([], [], 1)


def test_fact_is_recorded_once_for_its_key(desk: Desk) -> None:
    """The second time names the event of the first and makes none."""
    fact = RecordFact(key="k", type="endpoint.failing", resource_type="endpoint", resource_id="r", data=b"{}")
    first, second = desk.run(fact), desk.run(fact)
    assert [event.type for event in first.events] == ["endpoint.failing"]
    assert (second.events, second.resource_id) == ([], first.events[0].id)


def test_deciding_changes_nothing_it_was_given(desk: Desk) -> None:
    """A decision that is not applied has not happened: deciding again gives the same."""
    cash, sales = desk.account("asset"), desk.account("revenue")
    made = desk.post(cash, sales, 5, status="pending")
    commands = (
        entry(cash, sales, 1),
        batch(entry(cash, sales, 1), entry(cash, sales, 2)),
        PostPending(entry_id=made),
        ArchiveEntry(entry_id=made),
        UpdateEntry(entry_id=made, description="x"),
    )
    before = (desk.books.entry(made), [dict(row) for row in desk.books.lines(made)], desk.books.totals(cash))
    before = msgspec.json.decode(msgspec.json.encode(before), type=type(before))
    for command in commands:
        first, second = desk.decide(command), desk.decide(command)
        assert first.totals == second.totals
        after = (desk.books.entry(made), [dict(row) for row in desk.books.lines(made)], desk.books.totals(cash))
        assert msgspec.json.encode(after) == msgspec.json.encode(before)


def test_what_is_no_resource_has_no_version(desk: Desk) -> None:
    """A dry run, a fact, now and again, and what is due."""
    cash, sales = desk.account("asset"), desk.account("revenue")
    fact = RecordFact(key="k", type="endpoint.failing", resource_type="endpoint", resource_id=cash, data=b"{}")
    for command in (Validate(command=entry(cash, sales, 1)), fact, fact, Tend()):
        decision = desk.run(command)
        assert decision.lock_version is None
        assert (decision.resource_id is None) == (command is not fact)
