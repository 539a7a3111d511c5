"""Four running totals, three balances: posted, pending, available, in the account's normal direction."""

from __future__ import annotations

import pytest

from engine.balances import EMPTY, Balance, Totals, balances_of
from engine.money import AMOUNT_MAX
from engine.shapes import account_balance_of
from tests.unit.engine.desk import Desk

SOME = Totals(700, 200, 30, 50, 9)


def test_debit_normal_balances_count_debits_up() -> None:
    """Outgoing is credit: pending credits lower what is available, pending debits do not raise it."""
    balances = balances_of(SOME, "debit")
    assert balances.posted == Balance(700, 200, 500)
    assert balances.pending == Balance(730, 250, 480)
    assert balances.available == Balance(700, 250, 450)
    assert SOME.available("debit") == 450


def test_credit_normal_balances_count_credits_up() -> None:
    """Outgoing is debit: pending debits lower what is available, pending credits do not raise it."""
    balances = balances_of(SOME, "credit")
    assert balances.posted == Balance(700, 200, -500)
    assert balances.pending == Balance(730, 250, -480)
    assert balances.available == Balance(730, 200, -530)
    assert SOME.available("credit") == -530


@pytest.mark.parametrize("normal", ["debit", "credit"])
def test_available_of_the_shape_is_available_of_the_rule(normal: str) -> None:
    """What is shown is what postings are checked against."""
    assert balances_of(SOME, normal).available.amount == SOME.available(normal)


def test_line_moves_its_own_side_and_the_version() -> None:
    """One line, one side, one version."""
    assert EMPTY.add("debit", 5, 3) == Totals(5, 0, 3, 0, 1)
    assert EMPTY.add("credit", 5, 3) == Totals(0, 5, 0, 3, 1)
    assert SOME.add("debit", 30, -30) == Totals(730, 200, 0, 50, 10)
    assert SOME.bump() == Totals(700, 200, 30, 50, 10)


@pytest.mark.parametrize(
    ("totals", "fits"),
    [
        (Totals(AMOUNT_MAX, AMOUNT_MAX, 0, 0, 1), True),
        (Totals(AMOUNT_MAX - 1, 0, 1, 0, 1), True),
        (Totals(AMOUNT_MAX, 0, 1, 0, 1), False),
        (Totals(0, AMOUNT_MAX, 0, 1, 1), False),
        (Totals(0, 0, AMOUNT_MAX + 1, 0, 1), False),
    ],
)
def test_posted_and_pending_together_fit_64_bits(totals: Totals, fits: bool) -> None:
    """So posting what is pending can never leave the range."""
    assert totals.in_range() is fits


@pytest.mark.parametrize(
    ("totals", "empty"),
    [
        (EMPTY, True),
        (Totals(5, 5, 0, 0, 3), True),
        (Totals(5, 4, 0, 0, 3), False),
        (Totals(5, 5, 1, 1, 3), False),
        (Totals(0, 0, 0, 1, 3), False),
    ],
)
def test_account_is_empty_with_nothing_posted_or_pending(totals: Totals, empty: bool) -> None:
    """What comes in and goes out pending is not nothing."""
    assert totals.empty() is empty


@pytest.mark.parametrize(("account_type", "held"), [("asset", 50), ("liability", 30)])
def test_held_is_what_outgoing_pending_entries_reserve(account_type: str, held: int) -> None:
    """The difference of posted and available."""
    desk = Desk()
    account = desk.books.account(desk.account(account_type))
    assert account is not None
    shown = account_balance_of(account, SOME)
    assert (shown.held, shown.posted.amount - shown.available.amount) == (held, held)


@pytest.mark.parametrize("normal", ["debit", "credit"])
@pytest.mark.parametrize("name", ["posted", "pending", "available"])
def test_each_rule_of_a_balance_is_what_is_shown_of_it(normal: str, name: str) -> None:
    """What conditions, limits and monitors are judged by."""
    assert getattr(SOME, name)(normal) == getattr(balances_of(SOME, normal), name).amount


def test_a_sum_moves_as_one_of_its_parts_does() -> None:
    """Column by column; the version is its own."""
    before, after = Totals(7, 20, 300, 4000, 2), Totals(8, 22, 303, 4004, 5)
    assert SOME.shift(before, after) == Totals(701, 202, 33, 54, 9)
    assert SOME.shift(after, before) == Totals(699, 198, 27, 46, 9)
