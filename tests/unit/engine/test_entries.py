"""What becomes of entries after they were made: posted in part, moved in time, given other lines, reversed."""

from __future__ import annotations

import pytest

from engine.commands import (
    ArchiveEntry,
    CloseAccount,
    Condition,
    CreateLedger,
    LineDraft,
    LinePart,
    PostBatch,
    PostEntry,
    PostPart,
    PostPending,
    ReverseEntry,
    UpdateEntry,
    UpdateLedger,
)
from engine.entry_errors import (
    ConditionFailed,
    EntryAlreadyReversed,
    EntryNotPosted,
    LineNotFound,
    NothingToPost,
    PartExceedsLine,
    PeriodClosed,
    PeriodNotOver,
)
from engine.errors import AccountClosed, EntryNotPending, InsufficientFunds, Refused, SeveralLedgers, UnbalancedEntry
from tests.unit.engine.desk import Desk, entry, line, told

DAY_US = 86_400_000_000


def parts(desk: Desk, entry_id: str, *amounts: int) -> tuple[LinePart, ...]:
    """Return so much of each of an entry's lines, nothing of those with none."""
    lines = desk.books.lines(entry_id)
    return tuple(
        LinePart(line_id=each["id"], amount=amount) for each, amount in zip(lines, amounts, strict=True) if amount
    )


@pytest.fixture
def desk() -> Desk:
    """A desk with no accounts yet."""
    return Desk()


@pytest.fixture
def pair(desk: Desk) -> tuple[str, str]:
    """Cash and sales."""
    return desk.account("asset"), desk.account("revenue")


def test_reversal_is_the_mirror_image_linked_both_ways(desk: Desk, pair: tuple[str, str]) -> None:
    """What was debited is credited, the balances are as before, and each entry names the other."""
    entry_id = desk.post(*pair, 100)
    decision = desk.run(ReverseEntry(entry_id=entry_id, description="a mistake"))
    mirror = told(decision)
    assert [(each["account_id"], each["direction"], each["amount"]) for each in mirror["lines"]] == [
        (pair[0], "credit", 100),
        (pair[1], "debit", 100),
    ]
    assert (mirror["reverses"], mirror["status"], mirror["description"]) == (entry_id, "posted", "a mistake")
    assert desk.totals(pair[0]) == (100, 100, 0, 0)
    original = desk.books.entry(entry_id)
    assert original is not None
    assert (original["reversed_by"], original["lock_version"]) == (mirror["id"], 2)
    assert [event.type for event in decision.events] == ["entry.posted", "entry.reversed"]


def test_second_reversal_is_refused_and_changes_nothing(desk: Desk, pair: tuple[str, str]) -> None:
    """Also of a part: there is one reversal, ever."""
    entry_id = desk.post(*pair, 100)
    first = desk.run(ReverseEntry(entry_id=entry_id, parts=parts(desk, entry_id, 30, 30))).resource_id
    before = desk.totals(pair[0])
    assert before == (100, 30, 0, 0)
    for again in (None, parts(desk, entry_id, 1, 1)):
        with pytest.raises(EntryAlreadyReversed, match=str(first)):
            desk.run(ReverseEntry(entry_id=entry_id, parts=again))
    assert desk.totals(pair[0]) == before


def test_reversal_can_be_reversed(desk: Desk, pair: tuple[str, str]) -> None:
    """It is an entry like any other."""
    mirror = desk.run(ReverseEntry(entry_id=desk.post(*pair, 7))).resource_id or ""
    desk.run(ReverseEntry(entry_id=mirror))
    assert desk.totals(pair[0]) == (14, 7, 0, 0)


@pytest.mark.parametrize(("status", "end"), [("pending", None), ("pending", ArchiveEntry)])
def test_only_posted_entries_are_reversed(desk: Desk, pair: tuple[str, str], status: str, end: type | None) -> None:
    """What moved no posted balance has nothing to take back."""
    entry_id = desk.post(*pair, 7, status=status)
    if end is not None:
        desk.run(end(entry_id=entry_id))
    with pytest.raises(EntryNotPosted):
        desk.run(ReverseEntry(entry_id=entry_id))


def test_reversal_needs_the_funds_it_takes(desk: Desk) -> None:
    """An account that must not be negative keeps that right."""
    wallet, cash = desk.account("liability", allow_negative=False), desk.account("asset")
    deposit = desk.post(cash, wallet, 100)
    desk.post(wallet, cash, 60)
    with pytest.raises(InsufficientFunds):
        desk.run(ReverseEntry(entry_id=deposit))
    desk.run(ReverseEntry(entry_id=deposit, parts=parts(desk, deposit, 40, 40)))
    assert desk.totals(wallet) == (100, 100, 0, 0)


def test_reversal_of_an_entry_with_a_closed_account_is_refused(desk: Desk, pair: tuple[str, str]) -> None:
    """A closed account takes no lines, not even those that would undo others."""
    entry_id = desk.post(*pair, 5)
    desk.post(pair[1], pair[0], 5)
    desk.run(CloseAccount(account_id=pair[1]))
    with pytest.raises(AccountClosed):
        desk.run(ReverseEntry(entry_id=entry_id))


@pytest.mark.parametrize("reverses", [True, False])
def test_parts_are_of_lines_that_exist_and_balance(desk: Desk, pair: tuple[str, str], reverses: bool) -> None:
    """Each fault is named where it stands."""
    entry_id = desk.post(*pair, 10, status="posted" if reverses else "pending")
    cases: list[tuple[tuple[LinePart, ...], type[Refused], str]] = [
        ((LinePart(line_id="nobody", amount=1),), LineNotFound, "/lines/0/id"),
        (parts(desk, entry_id, 10, 11), PartExceedsLine, "/lines/1/amount"),
        ((*parts(desk, entry_id, 6, 6), *parts(desk, entry_id, 6, 0)), PartExceedsLine, "/lines/2/amount"),
        (parts(desk, entry_id, 4, 5), UnbalancedEntry, "/lines"),
        ((), NothingToPost, "/lines"),
    ]
    for wanted, refusal, pointer in cases:
        command = (
            ReverseEntry(entry_id=entry_id, parts=wanted) if reverses else PostPart(entry_id=entry_id, parts=wanted)
        )
        with pytest.raises(refusal) as refused:
            desk.run(command)
        assert refused.value.pointer == pointer


def test_part_is_posted_as_an_entry_of_its_own_and_the_rest_stays_pending(desk: Desk, pair: tuple[str, str]) -> None:
    """The part names where it comes from; nothing is reserved or posted twice."""
    entry_id = desk.post(*pair, 100, status="pending", description="order", metadata={"a": "1"})
    decision = desk.run(PostPart(entry_id=entry_id, parts=parts(desk, entry_id, 60, 60), metadata={"b": "2"}))
    part = told(decision)
    assert (part["partially_posts"], part["status"], part["description"]) == (entry_id, "posted", "order")
    assert part["metadata"] == {"a": "1", "b": "2"}
    assert [each["amount"] for each in part["lines"]] == [60, 60]
    assert [each["amount"] for each in desk.books.lines(entry_id)] == [40, 40]
    assert desk.totals(pair[0]) == (60, 0, 40, 0)
    assert [event.type for event in decision.events] == ["entry.updated", "entry.posted"]
    last = told(desk.run(PostPart(entry_id=entry_id, parts=parts(desk, entry_id, 40, 40))))
    assert (last["id"], last["status"]) == (entry_id, "posted")
    assert desk.totals(pair[0]) == (100, 0, 0, 0)


def test_rest_is_released_where_that_is_asked_for(desk: Desk, pair: tuple[str, str]) -> None:
    """The entry itself is posted with what was taken of it."""
    entry_id = desk.post(*pair, 100, status="pending")
    posted = told(desk.run(PostPart(entry_id=entry_id, parts=parts(desk, entry_id, 30, 30), release_rest=True)))
    assert (posted["id"], posted["status"], [each["amount"] for each in posted["lines"]]) == (
        entry_id,
        "posted",
        [30, 30],
    )
    assert desk.totals(pair[0]) == (30, 0, 0, 0)
    assert desk.totals(pair[1]) == (0, 30, 0, 0)


def test_lines_of_which_nothing_is_wanted_fall_away(desk: Desk) -> None:
    """A part may leave whole lines out, in the part and in what is left."""
    buyer, one, two = desk.account("asset"), desk.account("revenue"), desk.account("revenue")
    lines = (line(buyer, "debit", 100), line(one, "credit", 70), line(two, "credit", 30))
    entry_id = desk.run(PostEntry(lines=lines, status="pending")).resource_id or ""
    part = told(desk.run(PostPart(entry_id=entry_id, parts=parts(desk, entry_id, 70, 70, 0))))
    assert [(each["account_id"], each["amount"]) for each in part["lines"]] == [(buyer, 70), (one, 70)]
    assert [(each["account_id"], each["amount"]) for each in desk.books.lines(entry_id)] == [(buyer, 30), (two, 30)]
    assert [desk.totals(account) for account in (buyer, one, two)] == [(70, 0, 30, 0), (0, 70, 0, 0), (0, 0, 0, 30)]


def test_posting_at_another_time_takes_back_at_the_old_one(desk: Desk, pair: tuple[str, str]) -> None:
    """As of a time between, neither the reservation nor the posting is seen twice or not at all."""
    reserved_at, posted_at = desk.now_us + DAY_US, desk.now_us - DAY_US
    entry_id = desk.post(*pair, 9, status="pending", effective_at=reserved_at)
    moved = desk.run(PostPending(entry_id=entry_id, effective_at=posted_at)).lines
    assert [(each["status"], each["posted_moved"], each["pending_moved"], each["effective_at"]) for each in moved] == [
        ("posted", 9, 0, posted_at),
        ("posted", 9, 0, posted_at),
        ("discarded", 0, -9, reserved_at),
        ("discarded", 0, -9, reserved_at),
    ]
    assert desk.totals(pair[0]) == (9, 0, 0, 0)


def test_lines_of_a_pending_entry_are_replaced_whole(desk: Desk, pair: tuple[str, str]) -> None:
    """What the old ones reserved is free, the event tells what they were."""
    other = desk.account("asset")
    entry_id = desk.post(*pair, 50, status="pending")
    decision = desk.run(UpdateEntry(entry_id=entry_id, lines=entry(other, pair[1], 20).lines))
    assert [event.type for event in decision.events] == ["entry.updated"]
    assert [(each["account_id"], each["amount"]) for each in told(decision)["lines"]] == [(other, 20), (pair[1], 20)]
    assert [desk.totals(each) for each in (*pair, other)] == [(0, 0, 0, 0), (0, 0, 0, 20), (0, 0, 20, 0)]
    previous = decision.events[0].previous or b""
    assert b'"amount":50' in previous


def test_new_lines_may_use_what_the_old_ones_reserved(desk: Desk) -> None:
    """The funds are looked at as they are after both."""
    wallet, cash = desk.account("liability", allow_negative=False), desk.account("asset")
    desk.post(cash, wallet, 100)
    entry_id = desk.post(wallet, cash, 80, status="pending")
    desk.run(UpdateEntry(entry_id=entry_id, lines=entry(wallet, cash, 100).lines))
    with pytest.raises(InsufficientFunds):
        desk.run(UpdateEntry(entry_id=entry_id, lines=entry(wallet, cash, 101).lines))
    assert desk.totals(wallet) == (0, 100, 100, 0)


def test_lines_and_times_stay_once_an_entry_is_posted(desk: Desk, pair: tuple[str, str]) -> None:
    """Description and metadata change for ever."""
    entry_id = desk.post(*pair, 5)
    for command, pointer in (
        (UpdateEntry(entry_id=entry_id, lines=entry(*pair, 6).lines), "/lines"),
        (UpdateEntry(entry_id=entry_id, effective_at=1), "/effective_at"),
    ):
        with pytest.raises(EntryNotPending, match=r"is posted; .* can be changed only while it is pending") as refused:
            desk.run(command)
        assert refused.value.pointer == pointer
    assert told(desk.run(UpdateEntry(entry_id=entry_id, description="d")))["description"] == "d"


def test_entry_stays_in_its_ledger(desk: Desk, pair: tuple[str, str]) -> None:
    """Other lines are lines of the same books."""
    entry_id = desk.post(*pair, 5, status="pending")
    main = desk.ledger_id
    desk.ledger_id = told(desk.run(CreateLedger(name="Other")))["id"]
    foreign = desk.account("asset"), desk.account("revenue")
    desk.ledger_id = main
    with pytest.raises(SeveralLedgers):
        desk.run(UpdateEntry(entry_id=entry_id, lines=entry(*foreign, 5).lines))


@pytest.mark.parametrize(
    ("operator", "holds", "fails"),
    [("gt", 99, 100), ("gte", 100, 101), ("lt", 101, 100), ("lte", 100, 99), ("eq", 100, 101)],
)
@pytest.mark.parametrize("balance", ["available", "pending", "posted"])
def test_conditions_look_at_the_resulting_balance(
    desk: Desk, pair: tuple[str, str], balance: str, operator: str, holds: int, fails: int
) -> None:
    """Of the whole entry, not of the line alone; a refusal names line, account, balance and condition."""
    desk.post(*pair, 60)

    def posting(value: int) -> PostEntry:
        condition = Condition(balance=balance, operator=operator, value=value)  # type: ignore[arg-type]
        first = LineDraft(account=pair[0], direction="debit", amount=30, metadata={}, conditions=(condition,))
        return PostEntry(lines=(first, line(pair[0], "debit", 10), line(pair[1], "credit", 40)))

    with pytest.raises(ConditionFailed, match=f"{balance} balance of account {pair[0]} would be 100") as refused:
        desk.run(posting(fails))
    assert refused.value.pointer == f"/lines/0/{balance}_balance_amount/{operator}"
    desk.run(posting(holds))
    assert desk.totals(pair[0]) == (100, 0, 0, 0)


def test_every_condition_that_fails_is_named(desk: Desk, pair: tuple[str, str]) -> None:
    """Whoever corrects the request corrects it once; one that holds is not among them."""
    wanted = [("posted", "eq", 1), ("posted", "gte", 5), ("available", "lt", 0)]
    conditions = tuple(Condition(balance=each, operator=how, value=value) for each, how, value in wanted)  # type: ignore[arg-type]
    first, second = (
        LineDraft(account=account, direction=direction, amount=5, metadata={}, conditions=conditions)  # type: ignore[arg-type]
        for account, direction in zip(pair, ("debit", "credit"), strict=True)
    )
    with pytest.raises(ConditionFailed, match="And 3 more, see errors") as refused:
        desk.run(PostBatch(entries=(PostEntry(lines=(first, second)),)))
    assert [each.pointer for each in refused.value.faults()] == [
        f"/entries/0/lines/{position}/{condition}"
        for position in (0, 1)
        for condition in ("posted_balance_amount/eq", "available_balance_amount/lt")
    ]


def test_closed_period_takes_no_entries(desk: Desk, pair: tuple[str, str]) -> None:
    """Neither new ones nor what was pending, until the ledger is opened again; the bound itself is open."""
    until = desk.now_us - DAY_US
    waiting = desk.post(*pair, 5, status="pending", effective_at=until - 1)
    desk.run(UpdateLedger(ledger_id=desk.ledger_id, closed_until=until))
    posted = desk.post(*pair, 7)
    for command in (
        entry(*pair, 5, effective_at=until - 1),
        PostPending(entry_id=waiting),
        UpdateEntry(entry_id=waiting, effective_at=until - 2),
        ReverseEntry(entry_id=posted, effective_at=until - 1),
        PostPart(entry_id=waiting, parts=parts(desk, waiting, 2, 2), effective_at=until - 1),
    ):
        with pytest.raises(PeriodClosed):
            desk.run(command)
    desk.post(*pair, 5, effective_at=until)
    desk.run(PostPending(entry_id=waiting, effective_at=until))
    desk.run(UpdateLedger(ledger_id=desk.ledger_id, reopen=True))
    desk.post(*pair, 5, effective_at=until - 1)


def test_ledger_is_not_closed_ahead_of_time(desk: Desk) -> None:
    """Or entries of today would be refused."""
    with pytest.raises(PeriodNotOver):
        desk.run(UpdateLedger(ledger_id=desk.ledger_id, closed_until=desk.now_us + 1))
