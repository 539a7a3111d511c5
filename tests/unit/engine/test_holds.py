"""Holds: what they reserve, how they end, and that they end once."""

from __future__ import annotations

from typing import Any

import pytest

from engine.commands import (
    ArchiveEntry,
    CaptureHold,
    Command,
    CreateHold,
    ExpireHold,
    LinePart,
    PostEntry,
    PostPart,
    PostPending,
    ReleaseHold,
    UpdateEntry,
)
from engine.entry_errors import (
    CaptureExceeds,
    CaptureNeedsLines,
    EntryIsHold,
    HoldExpiryPast,
    HoldNotOpen,
    LineNotFound,
    NothingToPost,
)
from engine.errors import InsufficientFunds, NotFound, PreconditionFailed, UnbalancedEntry
from engine.holds import LIFETIME_US
from tests.unit.engine.desk import SITE_ID, Desk, entry, line, told

HOUR_US = 3_600_000_000


@pytest.fixture
def desk() -> Desk:
    """A desk with a wallet of 100 that must not be negative, and a merchant."""
    return Desk()


@pytest.fixture
def wallet(desk: Desk) -> str:
    """A customer's money."""
    account = desk.account("liability", allow_negative=False)
    desk.post(desk.account("asset"), account, 100)
    return account


@pytest.fixture
def merchant(desk: Desk) -> str:
    """Where it goes."""
    return desk.account("liability")


def hold(desk: Desk, source: str, target: str, amount: int, **options: Any) -> str:
    """Reserve an amount and return the hold's id."""
    expires_at = options.pop("expires_at", None)
    held = PostEntry(lines=entry(source, target, amount).lines, status="pending", held=True, **options)
    return desk.run(CreateHold(entry=held, expires_at=expires_at)).resource_id or ""


def available(desk: Desk, account: str) -> int:
    """Return a credit-normal account's available balance."""
    return desk.books.totals(account).available("credit")


def test_what_is_released_is_held_no_more_and_captured_no_more(desk: Desk, wallet: str, merchant: str) -> None:
    """After a part was captured: that part stays what was captured."""
    held = hold(desk, wallet, merchant, 60)
    desk.run(CaptureHold(hold_id=held, amount=20, final=False))
    released = told(desk.run(ReleaseHold(hold_id=held)))
    assert [(each["captured"], each["held"]) for each in released["lines"]] == [(20, 0), (20, 0)]
    untouched = told(desk.run(ReleaseHold(hold_id=hold(desk, wallet, merchant, 10))))
    assert [(each["captured"], each["held"]) for each in untouched["lines"]] == [(0, 0), (0, 0)]


def test_hold_reserves_and_says_so(desk: Desk, wallet: str, merchant: str) -> None:
    """Its entry's event comes first, then its own; a week is what it lasts."""
    held = PostEntry(lines=entry(wallet, merchant, 60).lines, status="pending", held=True, external_id="o1")
    decision = desk.run(CreateHold(entry=held))
    assert [event.type for event in decision.events] == ["entry.created", "hold.created"]
    made = told(decision)
    assert (made["status"], made["id"], made["external_id"]) == ("open", made["entry_id"], "o1")
    assert [(each["amount"], each["captured"], each["held"]) for each in made["lines"]] == [(60, 0, 60), (60, 0, 60)]
    assert made["lines"][0]["resulting_balances"]["available"]["amount"] == 40
    row = desk.books.resource("hold", made["id"])
    assert row is not None
    assert row["expires_at"] == desk.now_us + LIFETIME_US
    assert available(desk, wallet) == 40
    with pytest.raises(InsufficientFunds):
        hold(desk, wallet, merchant, 41)


def test_whole_capture_posts_the_holds_own_entry(desk: Desk, wallet: str, merchant: str) -> None:
    """At the time it is captured, not the time it was made."""
    hold_id = hold(desk, wallet, merchant, 60)
    desk.now_us += HOUR_US
    decision = desk.run(CaptureHold(hold_id=hold_id))
    assert [event.type for event in decision.events] == ["entry.posted", "hold.captured"]
    assert (told(decision)["status"], told(decision)["captures"]) == ("captured", [hold_id])
    posted = desk.books.entry(hold_id)
    assert posted is not None
    assert (posted["status"], posted["effective_at"]) == ("posted", desk.now_us)
    assert desk.totals(wallet) == (60, 100, 0, 0)


def test_hold_is_captured_in_parts_until_nothing_is_left(desk: Desk, wallet: str, merchant: str) -> None:
    """Each part is an entry of its own but the last, which is the hold's."""
    hold_id = hold(desk, wallet, merchant, 60)
    first = told(desk.run(CaptureHold(hold_id=hold_id, amount=20)))
    assert (first["status"], [(each["captured"], each["held"]) for each in first["lines"]]) == (
        "open",
        [(20, 40), (20, 40)],
    )
    assert desk.totals(wallet) == (20, 100, 40, 0)
    second = told(desk.run(CaptureHold(hold_id=hold_id, amount=40)))
    assert second["status"] == "captured"
    assert second["captures"] == [first["captures"][0], hold_id]
    part = desk.books.entry(first["captures"][0])
    assert part is not None
    assert part["partially_posts"] == hold_id
    assert desk.totals(wallet) == (60, 100, 0, 0)


def test_final_capture_frees_the_rest(desk: Desk, wallet: str, merchant: str) -> None:
    """Nothing stays reserved."""
    hold_id = hold(desk, wallet, merchant, 60)
    done = told(desk.run(CaptureHold(hold_id=hold_id, amount=25, final=True)))
    assert (done["status"], [(each["captured"], each["held"]) for each in done["lines"]]) == (
        "captured",
        [(25, 0), (25, 0)],
    )
    assert desk.totals(wallet) == (25, 100, 0, 0)
    assert done["lines"][0]["resulting_balances"]["available"]["amount"] == 75


def test_capture_of_a_hold_of_many_lines_names_them(desk: Desk, wallet: str, merchant: str) -> None:
    """One amount would say nothing of three lines; parts have to balance."""
    fees = desk.account("revenue")
    lines = (line(wallet, "debit", 50), line(merchant, "credit", 45), line(fees, "credit", 5))
    hold_id = desk.run(CreateHold(entry=PostEntry(lines=lines, status="pending", held=True))).resource_id or ""
    ids = [each["id"] for each in desk.books.lines(hold_id)]

    def some(*amounts: int) -> tuple[LinePart, ...]:
        return tuple(LinePart(line_id=each, amount=amount) for each, amount in zip(ids, amounts, strict=True) if amount)

    with pytest.raises(CaptureNeedsLines):
        desk.run(CaptureHold(hold_id=hold_id, amount=10))
    with pytest.raises(UnbalancedEntry):
        desk.run(CaptureHold(hold_id=hold_id, parts=some(10, 9, 0)))
    with pytest.raises(CaptureExceeds) as exceeds:
        desk.run(CaptureHold(hold_id=hold_id, parts=some(51, 45, 6)))
    assert (exceeds.value.pointer, exceeds.value.held) == ("/lines/0/amount", 50)
    with pytest.raises(LineNotFound):
        desk.run(CaptureHold(hold_id=hold_id, parts=(LinePart(line_id="x", amount=1),)))
    with pytest.raises(NothingToPost):
        desk.run(CaptureHold(hold_id=hold_id, parts=()))
    part = told(desk.run(CaptureHold(hold_id=hold_id, parts=some(45, 45, 0))))
    assert [each["held"] for each in part["lines"]] == [5, 0, 5]
    with pytest.raises(CaptureExceeds) as exceeds:
        desk.run(CaptureHold(hold_id=hold_id, parts=some(1, 1, 0)))
    assert (exceeds.value.pointer, exceeds.value.held) == ("/lines/1/amount", 0)
    desk.run(CaptureHold(hold_id=hold_id))
    assert desk.totals(wallet) == (50, 100, 0, 0)
    assert desk.totals(fees) == (0, 5, 0, 0)


def test_no_more_is_captured_than_is_held(desk: Desk, wallet: str, merchant: str) -> None:
    """Also over several captures."""
    hold_id = hold(desk, wallet, merchant, 60)
    desk.run(CaptureHold(hold_id=hold_id, amount=50))
    with pytest.raises(CaptureExceeds) as exceeds:
        desk.run(CaptureHold(hold_id=hold_id, amount=11))
    assert (exceeds.value.held, exceeds.value.pointer) == (10, "/amount")


def test_capture_never_fails_for_want_of_funds(desk: Desk, wallet: str, merchant: str) -> None:
    """What is captured was reserved, whatever happened to the account since."""
    hold_id = hold(desk, wallet, merchant, 60)
    desk.run(entry(wallet, desk.account("asset"), 40))
    assert available(desk, wallet) == 0
    desk.run(CaptureHold(hold_id=hold_id, amount=30))
    desk.run(CaptureHold(hold_id=hold_id))
    assert desk.totals(wallet) == (100, 100, 0, 0)


@pytest.mark.parametrize("first", ["capture", "release", "expire"])
def test_hold_ends_once(desk: Desk, wallet: str, merchant: str, first: str) -> None:
    """Whoever comes second is told how it ended, and nothing moves."""
    hold_id = hold(desk, wallet, merchant, 60, expires_at=desk.now_us + HOUR_US)
    ends: dict[str, Command] = {
        "capture": CaptureHold(hold_id=hold_id),
        "release": ReleaseHold(hold_id=hold_id),
        "expire": ExpireHold(hold_id=hold_id),
    }
    if first == "expire":
        desk.now_us += HOUR_US
    ended = desk.run(ends[first])
    status = {"capture": "captured", "release": "released", "expire": "expired"}[first]
    assert told(ended)["status"] == status
    before = desk.totals(wallet)
    assert before == ((60, 100, 0, 0) if first == "capture" else (0, 100, 0, 0))
    for again in ends.values():
        with pytest.raises(HoldNotOpen) as refused:
            desk.run(again)
        assert refused.value.status == status
    assert desk.totals(wallet) == before


def test_release_and_expiry_tell_both_families(desk: Desk, wallet: str, merchant: str) -> None:
    """The entry is archived, and the hold released or expired."""
    released = desk.run(ReleaseHold(hold_id=hold(desk, wallet, merchant, 5)))
    assert [event.type for event in released.events] == ["entry.archived", "hold.released"]
    hold_id = hold(desk, wallet, merchant, 5, expires_at=desk.now_us + HOUR_US)
    desk.now_us += HOUR_US
    expired = desk.run(ExpireHold(hold_id=hold_id))
    assert [event.type for event in expired.events] == ["entry.archived", "hold.expired"]


def test_capture_after_expiry_is_refused_before_anybody_noted_it(desk: Desk, wallet: str, merchant: str) -> None:
    """The clock decides, not the sweep; a moment before it is in time."""
    late, in_time = (hold(desk, wallet, merchant, 5, expires_at=desk.now_us + HOUR_US) for _ in range(2))
    desk.now_us += HOUR_US - 1
    desk.run(CaptureHold(hold_id=in_time))
    desk.now_us += 1
    commands: list[Command] = [CaptureHold(hold_id=late), ReleaseHold(hold_id=late)]
    for command in commands:
        with pytest.raises(HoldNotOpen) as refused:
            desk.run(command)
        assert refused.value.status == "expired"


def test_hold_does_not_expire_before_its_time(desk: Desk, wallet: str, merchant: str) -> None:
    """Whoever says so."""
    hold_id = hold(desk, wallet, merchant, 5, expires_at=desk.now_us + HOUR_US)
    with pytest.raises(HoldNotOpen):
        desk.run(ExpireHold(hold_id=hold_id))
    with pytest.raises(HoldExpiryPast):
        hold(desk, wallet, merchant, 5, expires_at=desk.now_us)


def test_a_holds_entry_is_not_resolved_behind_its_back(desk: Desk, wallet: str, merchant: str) -> None:
    """What it is called may change."""
    hold_id = hold(desk, wallet, merchant, 5)
    for command in (
        PostPending(entry_id=hold_id),
        ArchiveEntry(entry_id=hold_id),
        PostPart(entry_id=hold_id, parts=(), release_rest=True),
        UpdateEntry(entry_id=hold_id, lines=entry(wallet, merchant, 6).lines),
        UpdateEntry(entry_id=hold_id, effective_at=1),
    ):
        with pytest.raises(EntryIsHold):
            desk.run(command)
    assert told(desk.run(UpdateEntry(entry_id=hold_id, description="d")))["hold_id"] == hold_id


def test_hold_that_is_not_there_or_has_moved_on(desk: Desk, wallet: str, merchant: str) -> None:
    """No such hold; not the version that If-Match names."""
    with pytest.raises(NotFound):
        desk.run(CaptureHold(hold_id="nobody"))
    hold_id = hold(desk, wallet, merchant, 5)
    with pytest.raises(PreconditionFailed):
        desk.run(CaptureHold(hold_id=hold_id, if_match=2))
    desk.run(CaptureHold(hold_id=hold_id, if_match=1))


def test_a_hold_lasts_seven_days_unless_it_is_told(desk: Desk, wallet: str, merchant: str) -> None:
    """To the microsecond."""
    made = desk.run(CreateHold(entry=entry(wallet, merchant, 5, status="pending", held=True)))
    [(_, row)] = made.resources
    assert (row["expires_at"], row["site_id"]) == (desk.now_us + 604_800_000_000, SITE_ID)
    assert row["captures"] == []


@pytest.mark.parametrize("final", [True, False])
def test_a_capture_has_words_and_a_time_of_its_own(desk: Desk, wallet: str, merchant: str, final: bool) -> None:
    """The hold's description and metadata stay where it gives none; it takes effect now, not when the hold did."""
    options: dict[str, Any] = {"description": "d", "metadata": {"k": "v", "l": "w"}}
    first, second = (hold(desk, wallet, merchant, 10, **options) for _ in range(2))
    desk.now_us += 5
    plain = desk.run(CaptureHold(hold_id=first, amount=4, final=final)).entries[-1]
    assert (plain["description"], plain["metadata"], plain["effective_at"]) == ("d", {"k": "v", "l": "w"}, desk.now_us)
    command = CaptureHold(
        hold_id=second, amount=4, final=final, description="e", metadata={"k": "x"}, effective_at=desk.now_us - 3
    )
    given = desk.run(command).entries[-1]
    assert (given["description"], given["metadata"], given["effective_at"]) == (
        "e", {"k": "x", "l": "w"}, desk.now_us - 3,
    )  # fmt: skip
