"""Every refusal of the posting rules: which, where it points, and that it left the books as they were."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from engine.commands import ArchiveEntry, CloseAccount, Command, CreateLedger, PostEntry, PostPending, UpdateEntry
from engine.errors import (
    AccountClosed,
    AccountNotFound,
    AmountOutOfRange,
    DuplicateEntry,
    EntryNotPending,
    FxRateRequired,
    InsufficientFunds,
    LockVersionConflict,
    NotFound,
    PreconditionFailed,
    Refused,
    SeveralLedgers,
    UnbalancedEntry,
)
from engine.money import AMOUNT_MAX
from tests.unit.engine.desk import Desk, batch, entry, line

NOBODY = "00000000-0000-7000-8000-000000000000"


class Stage(Desk):
    """A desk with a till of 100, a customer and a second ledger."""

    def __init__(self) -> None:
        super().__init__()
        self.till = self.account("asset", allow_negative=False, external_id="till")
        self.sales = self.account("revenue")
        self.yen = self.account("asset", "JPY")
        self.fine = self.account("asset", "EUR", currency_exponent=4)
        self.closed = self.account("asset")
        self.run(CloseAccount(account_id=self.closed))
        other = self.run(CreateLedger(name="Other")).resource_id or ""
        self.abroad = self.account("asset", ledger_id=other)
        self.funded = self.post(self.till, self.sales, 100, external_id="first")
        self.pending = self.post(self.sales, self.till, 30, status="pending")


@pytest.fixture
def stage() -> Stage:
    """The till and its neighbours."""
    return Stage()


CASES: list[tuple[Callable[[Stage], Command], type[Refused], str]] = [
    (lambda s: entry(NOBODY, s.sales, 1), AccountNotFound, "/lines/0/account_id"),
    (lambda s: entry(s.till, "external_id:nobody", 1), AccountNotFound, "/lines/1/account_id"),
    (lambda s: entry(s.till, s.closed, 1), AccountClosed, "/lines/1/account_id"),
    (lambda s: entry(s.till, s.abroad, 1), SeveralLedgers, "/lines/1/account_id"),
    (lambda s: entry(s.till, s.yen, 1), FxRateRequired, "/lines"),
    (lambda s: entry(s.till, s.fine, 1), FxRateRequired, "/lines"),
    (
        lambda s: PostEntry(lines=(line(s.till, "debit", 2), line(s.sales, "credit", 1))),
        UnbalancedEntry,
        "/lines",
    ),
    (lambda s: PostEntry(lines=(line(s.till, "debit", 2), line(s.sales, "debit", 2))), UnbalancedEntry, "/lines"),
    (lambda s: entry(s.till, s.sales, AMOUNT_MAX), AmountOutOfRange, "/lines/0/amount"),
    (lambda s: entry(s.till, s.sales, AMOUNT_MAX, status="pending"), AmountOutOfRange, "/lines/0/amount"),
    (lambda s: entry(s.sales, s.till, 71), InsufficientFunds, "/lines/1/amount"),
    (lambda s: entry(s.sales, s.till, 71, status="pending"), InsufficientFunds, "/lines/1/amount"),
    (
        lambda s: PostEntry(lines=(line(s.till, "debit", 1, 99), line(s.sales, "credit", 1))),
        LockVersionConflict,
        "/lines/0/lock_version",
    ),
    (lambda s: entry(s.till, s.sales, 1, external_id="first"), DuplicateEntry, "/external_id"),
    (lambda s: entry(s.till, s.sales, 1, status="pending", external_id="first"), DuplicateEntry, "/external_id"),
    (lambda s: PostPending(entry_id=s.funded), EntryNotPending, ""),
    (lambda s: ArchiveEntry(entry_id=s.funded), EntryNotPending, ""),
    (lambda s: PostPending(entry_id=NOBODY), NotFound, ""),
    (lambda s: ArchiveEntry(entry_id=NOBODY), NotFound, ""),
    (lambda s: UpdateEntry(entry_id=NOBODY, description="x"), NotFound, ""),
    (lambda s: PostPending(entry_id=s.pending, if_match=2), PreconditionFailed, ""),
    (lambda s: ArchiveEntry(entry_id=s.pending, if_match=2), PreconditionFailed, ""),
    (lambda s: UpdateEntry(entry_id=s.pending, description="x", if_match=2), PreconditionFailed, ""),
    (
        lambda s: batch(entry(s.till, s.sales, 1), entry(s.till, NOBODY, 1)),
        AccountNotFound,
        "/entries/1/lines/1/account_id",
    ),
    (
        lambda s: batch(entry(s.sales, s.till, 40), entry(s.sales, s.till, 40)),
        InsufficientFunds,
        "/entries/1/lines/1/amount",
    ),
    (
        lambda s: batch(entry(s.till, s.sales, 1, external_id="y"), entry(s.till, s.sales, 1, external_id="y")),
        DuplicateEntry,
        "/entries/1/external_id",
    ),
]


@pytest.mark.parametrize(("make", "refusal", "pointer"), CASES)
def test_refusal_points_at_what_is_wrong_and_changes_nothing(
    stage: Stage,
    make: Callable[[Stage], Command],
    refusal: type[Refused],
    pointer: str,
) -> None:
    """The exception names the part of the request; the same books stand as before."""
    accounts = (stage.till, stage.sales, stage.yen, stage.fine, stage.abroad)
    before = ([stage.books.totals(each) for each in accounts], stage.books.entry(stage.pending))
    before = (before[0], None if before[1] is None else before[1].copy())
    with pytest.raises(refusal) as refused:
        stage.run(make(stage))
    assert refused.value.pointer == pointer
    assert ([stage.books.totals(each) for each in accounts], stage.books.entry(stage.pending)) == before
    assert stage.books.live_entry("y") is None


def test_every_missing_account_is_named(stage: Stage) -> None:
    """Whoever corrects the request corrects it once; inside a batch the pointers say which entry."""
    with pytest.raises(AccountNotFound) as refused:
        stage.run(batch(entry(stage.till, stage.sales, 1), entry(NOBODY, "external_id:nobody", 1)))
    assert [fault.pointer for fault in refused.value.faults()] == [
        "/entries/1/lines/0/account_id",
        "/entries/1/lines/1/account_id",
    ]


def test_insufficient_funds_says_what_was_there(stage: Stage) -> None:
    """100 posted, 30 reserved: 70 available, and 71 is one too many; 70 is not."""
    with pytest.raises(InsufficientFunds) as refused:
        stage.run(entry(stage.sales, stage.till, 71))
    assert (refused.value.available, refused.value.resulting) == (70, -1)
    stage.run(entry(stage.sales, stage.till, 70))
    assert stage.books.totals(stage.till).available("debit") == 0


def test_incoming_money_that_is_pending_cannot_be_spent(stage: Stage) -> None:
    """A reservation is only a promise."""
    stage.run(entry(stage.till, stage.sales, 1_000, status="pending"))
    with pytest.raises(InsufficientFunds):
        stage.run(entry(stage.sales, stage.till, 71))


def test_resolving_never_fails_for_balance_reasons(stage: Stage) -> None:
    """What was reserved was checked when it was reserved."""
    stage.run(entry(stage.sales, stage.till, 70))
    stage.run(PostPending(entry_id=stage.pending))
    assert stage.books.totals(stage.till).available("debit") == 0


@pytest.mark.parametrize("end", [PostPending, ArchiveEntry])
@pytest.mark.parametrize("again", [PostPending, ArchiveEntry])
def test_final_status_is_final(
    stage: Stage,
    end: type[PostPending | ArchiveEntry],
    again: type[PostPending | ArchiveEntry],
) -> None:
    """Posting or archiving twice, or one after the other, is refused."""
    stage.run(end(entry_id=stage.pending))
    before = stage.totals(stage.till)
    with pytest.raises(EntryNotPending):
        stage.run(again(entry_id=stage.pending))
    assert stage.totals(stage.till) == before


def test_archived_entry_frees_its_external_id(stage: Stage) -> None:
    """It is unique among accepted, pending and posted."""
    made = stage.post(stage.till, stage.sales, 1, status="pending", external_id="z")
    with pytest.raises(DuplicateEntry):
        stage.post(stage.till, stage.sales, 1, external_id="z")
    stage.run(ArchiveEntry(entry_id=made))
    assert stage.books.live_entry("z") is None
    assert stage.books.live_entry("z") != stage.post(stage.till, stage.sales, 1, external_id="z")


def test_totals_reach_the_last_number_and_not_one_further(stage: Stage) -> None:
    """9,223,372,036,854,775,807 is the largest total."""
    one, other = stage.account("asset"), stage.account("revenue")
    stage.post(one, other, AMOUNT_MAX - 1, status="pending")
    stage.post(one, other, 1)
    with pytest.raises(AmountOutOfRange):
        stage.post(one, other, 1)
    stage.post(other, one, AMOUNT_MAX)
    assert stage.totals(one) == (1, AMOUNT_MAX, AMOUNT_MAX - 1, 0)
