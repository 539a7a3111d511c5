"""The lines that a change writes, every member as it is stored: what was moved, when it counts, which version it is of."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from engine.books import Decision
from engine.commands import (
    ArchiveEntry,
    LinePart,
    PostEntry,
    PostPart,
    PostPending,
    ReverseEntry,
    UpdateEntry,
    UpdateLedger,
)
from engine.entry_errors import NothingToPost, PeriodClosed
from engine.errors import DuplicateEntry, LockVersionConflict, UnbalancedEntry
from engine.fx_commands import CreateFxRate
from tests.fakes.clock import START_US
from tests.unit.engine.desk import SITE_ID, Desk, entry, line

EARLIER, LATER = START_US - 86_400_000_000, START_US + 86_400_000_000


@pytest.fixture
def desk() -> Desk:
    """A desk."""
    return Desk()


@pytest.fixture
def three(desk: Desk) -> tuple[str, str, str]:
    """Cash, and what it is for."""
    return desk.account("asset"), desk.account("revenue"), desk.account("liability")


def reserved(desk: Desk, three: tuple[str, str, str], **options: Any) -> str:
    """Reserve 10, for 7 and 3, at an earlier time."""
    given: dict[str, Any] = {"status": "pending", "effective_at": EARLIER, **options}
    lines = (line(three[0], "debit", 10), line(three[1], "credit", 7), line(three[2], "credit", 3))
    return desk.run(PostEntry(lines=lines, **given)).resource_id or ""


def written(decision: Decision, *wanted: str) -> list[tuple[Any, ...]]:
    """Return the wanted members of every line, in the order in which they were written."""
    return [tuple(each[name] for name in wanted) for each in decision.lines]  # type: ignore[literal-required]


def moves(decision: Decision) -> list[tuple[Any, ...]]:
    """Return of every line its place, its status, its amount, what it moved, and when that counts."""
    return written(decision, "position", "status", "amount", "posted_moved", "pending_moved", "effective_at")


def ids(decision: Decision) -> list[str]:
    """Return the ids of the lines in their places."""
    return [each["id"] for each in sorted(decision.lines, key=lambda each: each["position"])]


def taken(desk: Desk, entry_id: str, *amounts: int) -> tuple[LinePart, ...]:
    """Return so much of each of an entry's lines."""
    lines = desk.books.lines(entry_id)
    return tuple(LinePart(line_id=each["id"], amount=n) for each, n in zip(lines, amounts, strict=True) if n)


def test_a_line_is_stored_with_what_its_account_came_to(desk: Desk, three: tuple[str, str, str]) -> None:
    """Every member of the row."""
    cash, sales, _ = three
    desk.post(cash, sales, 100)
    desk.now_us += 5
    decision = desk.run(entry(cash, sales, 30, status="pending", effective_at=EARLIER))
    assert decision.lines[0] == {
        "site_id": SITE_ID,
        "entry_id": decision.resource_id,
        "version": 1,
        "position": 0,
        "id": decision.lines[0]["id"],
        "account_id": cash,
        "direction": "debit",
        "amount": 30,
        "currency": "EUR",
        "normal_balance": "debit",
        "status": "pending",
        "metadata": {},
        "posted_moved": 0,
        "pending_moved": 30,
        "account_lock_version": 3,
        "posted_debits": 100,
        "posted_credits": 0,
        "pending_debits": 30,
        "pending_credits": 0,
        "effective_at": EARLIER,
        "created_at": START_US + 5,
    }


def test_an_entry_is_stored_as_it_was_asked_for(desk: Desk, three: tuple[str, str, str]) -> None:
    """Every member of the row; what was not given is not there."""
    decision = desk.run(entry(*three[:2], 1))
    plain: Any = {
        "site_id": SITE_ID, "id": decision.resource_id, "ledger_id": desk.ledger_id, "status": "posted",
        "description": None, "external_id": None, "metadata": {}, "effective_at": START_US, "posted_at": START_US,
        "lines_version": 1, "lock_version": 1, "reverses": None, "reversed_by": None, "partially_posts": None,
        "fx_rate_id": None, "held": False, "business_event_id": None, "created_at": START_US, "updated_at": START_US,
    }  # fmt: skip
    assert decision.entries == [plain]
    [event] = decision.events
    assert (event.type, event.resource_type, event.resource_id, event.previous) == (
        "entry.posted", "entry", decision.resource_id, None,
    )  # fmt: skip
    given: dict[str, Any] = {"description": "d", "external_id": "x", "metadata": {"k": "v"}, "effective_at": LATER}
    decision = desk.run(entry(*three[:2], 1, status="pending", **given))
    assert decision.entries == [{**plain, **given, "id": decision.resource_id, "status": "pending", "posted_at": None}]


def test_posting_at_another_time_takes_back_at_the_old_one(desk: Desk, three: tuple[str, str, str]) -> None:
    """What is posted comes first, with the ids that the lines have."""
    entry_id = reserved(desk, three)
    before = [each["id"] for each in desk.books.lines(entry_id)]
    decision = desk.run(PostPending(entry_id=entry_id, effective_at=LATER))
    assert moves(decision) == [
        (0, "posted", 10, 10, 0, LATER), (1, "posted", 7, 7, 0, LATER), (2, "posted", 3, 3, 0, LATER),
        (3, "discarded", 10, 0, -10, EARLIER), (4, "discarded", 7, 0, -7, EARLIER), (5, "discarded", 3, 0, -3, EARLIER),
    ]  # fmt: skip
    assert ids(decision) == before * 2
    assert set(written(decision, "version")) == {(2,)}
    assert desk.totals(three[0]) == (10, 0, 0, 0)
    [row] = decision.entries
    assert (row["status"], row["effective_at"], row["posted_at"], row["lines_version"]) == (
        "posted",
        LATER,
        START_US,
        2,
    )


def test_posting_at_its_time_moves_it_over(desk: Desk, three: tuple[str, str, str]) -> None:
    """In one line each."""
    decision = desk.run(PostPending(entry_id=reserved(desk, three)))
    assert moves(decision) == [
        (0, "posted", 10, 10, -10, EARLIER), (1, "posted", 7, 7, -7, EARLIER), (2, "posted", 3, 3, -3, EARLIER),
    ]  # fmt: skip


def test_posting_a_part_and_releasing_the_rest(desk: Desk, three: tuple[str, str, str]) -> None:
    """A line of which nothing is taken is taken back, behind the others; words are the new ones where there are any."""
    entry_id = reserved(desk, three, description="d", metadata={"k": "v", "l": "w"})
    command = PostPart(entry_id=entry_id, parts=taken(desk, entry_id, 7, 7, 0), release_rest=True, metadata={"k": "x"})
    decision = desk.run(command)
    assert moves(decision) == [
        (0, "posted", 7, 7, -10, EARLIER), (1, "posted", 7, 7, -7, EARLIER), (2, "discarded", 3, 0, -3, EARLIER),
    ]  # fmt: skip
    [row] = decision.entries
    assert (row["id"], row["description"], row["metadata"]) == (entry_id, "d", {"k": "x", "l": "w"})
    assert [desk.totals(each) for each in three] == [(7, 0, 0, 0), (0, 7, 0, 0), (0, 0, 0, 0)]
    entry_id = reserved(desk, three, description="d")
    command = PostPart(entry_id=entry_id, parts=taken(desk, entry_id, 10, 7, 3), description="e")
    [row] = desk.run(command).entries
    assert (row["id"], row["status"], row["description"]) == (entry_id, "posted", "e")


def test_posting_a_part_and_keeping_the_rest(desk: Desk, three: tuple[str, str, str]) -> None:
    """What is left comes first, what is posted is an entry of its own; each event tells of its own lines."""
    entry_id = reserved(desk, three, description="d", metadata={"k": "v", "l": "w"}, external_id="x")
    before = [each["id"] for each in desk.books.lines(entry_id)]
    desk.now_us += 5
    parts = taken(desk, entry_id, 7, 7, 0)
    decision = desk.run(PostPart(entry_id=entry_id, parts=parts, metadata={"k": "x"}))
    part_id = decision.resource_id
    now = START_US + 5
    assert written(decision, "entry_id", "version", "position", "status", "amount", "posted_moved", "pending_moved",
                   "effective_at") == [
        (entry_id, 2, 0, "pending", 3, 0, -7, EARLIER), (entry_id, 2, 1, "discarded", 7, 0, -7, EARLIER),
        (entry_id, 2, 2, "pending", 3, 0, 0, EARLIER),
        (part_id, 1, 0, "posted", 7, 7, 0, EARLIER), (part_id, 1, 1, "posted", 7, 7, 0, EARLIER),
    ]  # fmt: skip
    assert [each["id"] for each in decision.lines[:3]] == before
    left, part = decision.entries
    assert (left["status"], left["lock_version"], left["external_id"], left["updated_at"]) == ("pending", 2, "x", now)
    assert (part["status"], part["partially_posts"], part["external_id"], part["effective_at"]) == (
        "posted", entry_id, None, EARLIER,
    )  # fmt: skip
    assert (part["description"], part["metadata"]) == ("d", {"k": "x", "l": "w"})
    assert [event.type for event in decision.events] == ["entry.updated", "entry.posted"]
    previous = msgspec.json.decode(decision.events[0].previous or b"")
    assert [each["amount"] for each in previous["lines"]] == [10, 7, 3]
    assert decision.answer == decision.events[1].data
    decision = desk.run(PostPart(entry_id=entry_id, parts=taken(desk, entry_id, 1, 1), description="e"))
    assert decision.entries[1]["description"] == "e"
    with pytest.raises(NothingToPost):
        desk.decide(PostPart(entry_id=entry_id, parts=()))
    with pytest.raises(UnbalancedEntry):
        desk.decide(PostPart(entry_id=entry_id, parts=taken(desk, entry_id, 1, 2)))


def test_moving_in_time_takes_all_back_and_reserves_it_again(desk: Desk, three: tuple[str, str, str]) -> None:
    """The same lines, behind them what they were; the event tells the time that was."""
    entry_id = reserved(desk, three)
    before = [each["id"] for each in desk.books.lines(entry_id)]
    decision = desk.run(UpdateEntry(entry_id=entry_id, effective_at=LATER))
    assert sorted(moves(decision)) == [
        (0, "pending", 10, 0, 10, LATER), (1, "pending", 7, 0, 7, LATER), (2, "pending", 3, 0, 3, LATER),
        (3, "discarded", 10, 0, -10, EARLIER), (4, "discarded", 7, 0, -7, EARLIER), (5, "discarded", 3, 0, -3, EARLIER),
    ]  # fmt: skip
    assert ids(decision) == before * 2
    assert [desk.totals(each) for each in three] == [(0, 0, 10, 0), (0, 0, 0, 7), (0, 0, 0, 3)]
    [event] = decision.events
    assert msgspec.json.decode(event.previous or b"") == {"effective_at": "2025-10-08T08:53:20.000000Z"}
    assert [each["direction"] for each in desk.books.lines(entry_id)] == ["debit", "credit", "credit"]


def test_other_lines_replace_those_that_were(desk: Desk, three: tuple[str, str, str]) -> None:
    """Which are taken back behind them; what the new ones demand of a version is seen to."""
    entry_id = reserved(desk, three)
    version = desk.version(three[0])
    lines = (line(three[0], "debit", 4, version), line(three[2], "credit", 4))
    with pytest.raises(LockVersionConflict):
        desk.decide(UpdateEntry(entry_id=entry_id, lines=(line(three[0], "debit", 4, version - 1), lines[1])))
    decision = desk.run(UpdateEntry(entry_id=entry_id, lines=lines))
    assert sorted(moves(decision)) == [
        (0, "pending", 4, 0, 4, EARLIER), (1, "pending", 4, 0, 4, EARLIER),
        (2, "discarded", 10, 0, -10, EARLIER), (3, "discarded", 7, 0, -7, EARLIER), (4, "discarded", 3, 0, -3, EARLIER),
    ]  # fmt: skip
    [event] = decision.events
    assert [each["amount"] for each in msgspec.json.decode(event.previous or b"")["lines"]] == [10, 7, 3]


def test_giving_up_frees_every_line(desk: Desk, three: tuple[str, str, str]) -> None:
    """At the time it was reserved for."""
    entry_id = reserved(desk, three)
    before = [each["id"] for each in desk.books.lines(entry_id)]
    decision = desk.run(ArchiveEntry(entry_id=entry_id))
    assert moves(decision) == [
        (0, "archived", 10, 0, -10, EARLIER), (1, "archived", 7, 0, -7, EARLIER), (2, "archived", 3, 0, -3, EARLIER),
    ]  # fmt: skip
    assert ids(decision) == before
    assert (decision.entries[0]["status"], decision.events[0].type) == ("archived", "entry.archived")


def test_a_mirror_is_written_now(desk: Desk, three: tuple[str, str, str]) -> None:
    """With lines of its own, of what is mirrored only; the other entry's event tells that there was none."""
    entry_id = reserved(desk, three, status="posted")
    desk.now_us += 5
    command = ReverseEntry(
        entry_id=entry_id, parts=taken(desk, entry_id, 3, 0, 3), external_id="back", metadata={"k": "v"}
    )
    decision = desk.run(command)
    now = START_US + 5
    assert moves(decision) == [(0, "posted", 3, 3, 0, now), (1, "posted", 3, 3, 0, now)]
    assert written(decision, "account_id", "direction") == [(three[0], "credit"), (three[2], "debit")]
    mirror, original = decision.entries
    assert (mirror["external_id"], mirror["metadata"], mirror["reverses"]) == ("back", {"k": "v"}, entry_id)
    assert (original["reversed_by"], original["status"]) == (mirror["id"], "posted")
    assert [event.previous for event in decision.events] == [None, b'{"reversed_by":null}']
    other = reserved(desk, three, status="posted")
    with pytest.raises(DuplicateEntry):
        desk.decide(ReverseEntry(entry_id=other, external_id="back"))


def test_what_is_closed_takes_no_change(desk: Desk, three: tuple[str, str, str]) -> None:
    """Neither posting, nor other lines, nor moving into it, nor a mirror; giving up takes effect at no time of its own."""
    entry_id, posted = reserved(desk, three), reserved(desk, three, status="posted")
    desk.run(UpdateLedger(ledger_id=desk.ledger_id, closed_until=EARLIER + 1))
    lines = (line(three[0], "debit", 4), line(three[2], "credit", 4))
    for command in (
        PostPending(entry_id=entry_id),
        PostPending(entry_id=entry_id, effective_at=EARLIER),
        PostPart(entry_id=entry_id, parts=taken(desk, entry_id, 3, 0, 3)),
        PostPart(entry_id=entry_id, parts=taken(desk, entry_id, 3, 0, 3), effective_at=EARLIER),
        UpdateEntry(entry_id=entry_id, lines=lines),
        UpdateEntry(entry_id=entry_id, effective_at=EARLIER - 1),
        ReverseEntry(entry_id=posted, effective_at=EARLIER),
    ):
        with pytest.raises(PeriodClosed):
            desk.decide(command)
    desk.decide(PostPending(entry_id=entry_id, effective_at=EARLIER + 1))
    desk.decide(PostPart(entry_id=entry_id, parts=taken(desk, entry_id, 3, 0, 3), effective_at=EARLIER + 1))
    desk.run(ArchiveEntry(entry_id=entry_id))


def test_a_reserved_exchange_reserves_its_own_lines_too(desk: Desk) -> None:
    """Behind those that were asked for; the books open the accounts, as any that nobody has touched is."""
    euros, dollars = desk.account("liability"), desk.account("liability", "USD")
    rate = desk.run(CreateFxRate(base="EUR", quote="USD", rate="1.1")).resource_id
    command = PostEntry(
        lines=(line(euros, "debit", 10), line(dollars, "credit", 10)),
        status="pending", fx_rate_id=rate, effective_at=EARLIER,
    )  # fmt: skip
    decision = desk.run(command)
    assert moves(decision) == [
        (0, "pending", 10, 0, 10, EARLIER), (1, "pending", 10, 0, 10, EARLIER), (2, "pending", 10, 0, 10, EARLIER),
        (3, "pending", 11, 0, 11, EARLIER), (4, "pending", 1, 0, 1, EARLIER),
    ]  # fmt: skip
    assert [(each["name"], each["purpose"]) for each in decision.opened] == [
        ("FX clearing EUR", "fx_clearing"), ("FX clearing USD", "fx_clearing"), ("FX rounding USD", "fx_rounding"),
    ]  # fmt: skip
    first = decision.opened[0]
    assert first == {
        "site_id": SITE_ID, "id": first["id"], "ledger_id": desk.ledger_id, "name": "FX clearing EUR",
        "entity_id": None, "description": None, "type": "liability", "normal_balance": "credit", "currency": "EUR",
        "currency_exponent": 2, "code": None, "external_id": None, "allow_negative": True, "limits": [],
        "categories": 0, "monitors": 0, "purpose": "fx_clearing", "status": "open", "metadata": {},
        "created_at": START_US, "updated_at": START_US,
    }  # fmt: skip
    told = [event for event in decision.events if event.type == "account.created"]
    assert [(each.resource_type, each.resource_id) for each in told] == [
        ("account", each["id"]) for each in decision.opened
    ]
    assert msgspec.json.decode(told[0].data)["lock_version"] == 1
    assert decision.lines[2]["account_lock_version"] == 2
    again = desk.run(command)
    assert (again.opened, again.lines[2]["account_id"]) == ([], first["id"])
    lines = (line(euros, "debit", 20), line(dollars, "credit", 21))
    changed = desk.run(UpdateEntry(entry_id=again.resource_id or "", lines=lines))
    assert [(each["position"], each["status"]) for each in sorted(changed.lines, key=lambda each: each["position"])] == [
        *((place, "pending") for place in range(5)), *((place, "discarded") for place in range(5, 10)),
    ]  # fmt: skip
