"""What moving an account brings with it: its categories move, their limits hold, the line that breaks one is named."""

from __future__ import annotations

from typing import Any

import pytest

from engine.balances import BalanceName, Limit, Totals
from engine.category_commands import CreateCategory, CreateMonitor, PlaceAccount
from engine.commands import ArchiveEntry, PostEntry, UpdateAccount, UpdateEntry
from engine.entry_errors import LimitBroken
from engine.errors import AmountOutOfRange
from engine.money import AMOUNT_MAX
from tests.unit.engine.desk import Desk, entry, line


def ceiling(value: int, balance: BalanceName = "posted") -> Limit:
    """Return a limit that a balance is at most this."""
    return Limit(balance=balance, at_least=None, at_most=value)


class Grouped(Desk):
    """Two assets of a category that stands in another one, and something beside it."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.first, self.second, self.beside = (self.account("asset") for _ in range(3))
        self.low, self.high = self.category(**options), self.category()
        self.books.membership.learn(
            above=[(self.low, self.low), (self.low, self.high), (self.high, self.high)],
        )
        for account in (self.first, self.second):
            self.run(PlaceAccount(category_id=self.low, account_id=account, inside=True))

    def category(self, **options: Any) -> str:
        """Open a category and return its id."""
        given = {"name": "c", "currency": "EUR", "normal_balance": "debit", **options}
        return self.run(CreateCategory(**given)).resource_id or ""

    def sums(self, category_id: str) -> tuple[int, ...]:
        """Return a category's totals and its version."""
        return tuple(self.books.membership.totals(category_id))


def test_all_categories_of_an_account_move_with_it_once_for_a_decision() -> None:
    """By several accounts at once too, and by both sides; what is beside them moves nothing."""
    desk = Grouped()
    versions = [desk.sums(each)[4] for each in (desk.low, desk.high)]
    lines = (line(desk.first, "debit", 5), line(desk.second, "debit", 7), line(desk.first, "credit", 2),
             line(desk.beside, "credit", 10))  # fmt: skip
    decision = desk.run(PostEntry(lines=lines))
    assert decision.category_totals == {
        each: Totals(12, 2, 0, 0, version + 1) for each, version in zip((desk.low, desk.high), versions, strict=True)
    }
    decision = desk.run(entry(desk.beside, desk.first, 4, status="pending"))
    assert decision.category_totals[desk.low][:4] == (12, 2, 0, 4)
    other = desk.account("asset")
    assert desk.run(entry(desk.beside, other, 1)).category_totals == {}


def test_what_leaves_an_account_as_it_was_moves_no_category() -> None:
    """A reservation of nothing more: its category is at the version that it was at."""
    desk = Grouped()
    reserved = desk.post(desk.first, desk.beside, 3, status="pending")
    before = desk.sums(desk.low)
    decision = desk.run(UpdateEntry(entry_id=reserved, effective_at=desk.now_us - 5))
    assert (decision.category_totals, desk.sums(desk.low)) == ({}, before)


def test_a_category_has_a_limit_over_all_that_is_in_it() -> None:
    """The refusal names the category and the line: of those that are in it, and move it that way."""
    desk = Grouped(limits=(ceiling(10),))
    desk.post(desk.first, desk.beside, 9)
    desk.run(entry(desk.second, desk.beside, 1))
    lines = (line(desk.beside, "credit", 5), line(desk.first, "credit", 3), line(desk.beside, "debit", 4),
             line(desk.second, "debit", 4))  # fmt: skip
    with pytest.raises(LimitBroken) as refused:
        desk.decide(PostEntry(lines=lines))
    assert refused.value.pointer == "/lines/3/amount"
    assert (refused.value.resource_id, refused.value.balance, refused.value.resulting) == (desk.low, "posted", 11)
    assert f"category {desk.low}" in refused.value.detail
    desk.run(entry(desk.second, desk.first, 5))
    with pytest.raises(LimitBroken) as refused:
        desk.decide(entry(desk.first, desk.beside, 1))
    assert refused.value.pointer == "/lines/0/amount"
    desk.run(entry(desk.beside, desk.first, 1))
    desk.run(entry(desk.first, desk.beside, 1))


def test_a_category_of_the_other_direction_is_judged_in_its_own() -> None:
    """What an asset pays brings a category that counts credits up."""
    desk = Grouped(normal_balance="credit", limits=(ceiling(10),))
    desk.run(entry(desk.beside, desk.first, 10))
    with pytest.raises(LimitBroken) as refused:
        desk.decide(entry(desk.beside, desk.second, 1))
    assert refused.value.pointer == "/lines/1/amount"
    desk.run(entry(desk.first, desk.beside, 50))


def test_sums_of_a_category_stay_in_range() -> None:
    """Where the accounts alone would: the line is the first that is in it."""
    desk = Grouped()
    third, fourth = desk.account("liability"), desk.account("liability")
    desk.run(entry(desk.first, third, AMOUNT_MAX))
    lines = (line(fourth, "credit", 3), line(desk.beside, "debit", 2), line(desk.second, "debit", 1))
    with pytest.raises(AmountOutOfRange) as refused:
        desk.decide(PostEntry(lines=lines))
    assert refused.value.pointer == "/lines/2/amount"
    assert f"category {desk.low}" in refused.value.detail or f"category {desk.high}" in refused.value.detail
    desk.run(entry(desk.beside, fourth, 1))


def test_the_line_that_breaks_an_accounts_limit_is_one_that_moves_it_that_way() -> None:
    """Neither another account's, nor one of the other direction, nor one that is only taken back."""
    desk = Desk()
    wallet, cash = desk.account("liability"), desk.account("asset")
    reserved = desk.post(cash, wallet, 5, status="pending")
    desk.run(UpdateAccount(account_id=wallet, limits=(ceiling(6),)))
    lines = (line(cash, "debit", 7), line(wallet, "debit", 1), line(cash, "credit", 0 + 1), line(wallet, "credit", 7))
    with pytest.raises(LimitBroken) as refused:
        desk.decide(UpdateEntry(entry_id=reserved, lines=lines))
    assert refused.value.pointer == "/lines/3/amount"
    desk.run(ArchiveEntry(entry_id=reserved))


@pytest.mark.parametrize("watched", ["first", "low"])
def test_only_what_is_watched_is_looked_at(watched: str) -> None:
    """A monitor of the one says nothing of the other; each edge is told after what made it."""
    desk = Grouped()
    subject = getattr(desk, watched)
    kind: Any = "account" if watched == "first" else "account_category"
    desk.run(CreateMonitor(subject=kind, subject_id=subject, field="posted", operator="gt", value=0))
    decision = desk.run(entry(desk.second, desk.beside, 5))
    crossed = [event.type for event in decision.events]
    assert crossed == ["entry.posted", *(["balance.threshold_crossed"] if watched == "low" else [])]
    crossed = [event.type for event in desk.run(entry(desk.first, desk.beside, 5)).events]
    assert crossed == ["entry.posted", *(["balance.threshold_crossed"] if watched == "first" else [])]
    assert [kind for kind, _ in desk.run(entry(desk.beside, desk.first, 20)).resources] == ["balance_monitor"]
