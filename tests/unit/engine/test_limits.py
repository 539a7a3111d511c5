"""Standing limits of accounts: refused where an entry makes it worse, never where something reserved comes to its end."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.balances import BalanceName, Limit, Totals
from engine.commands import ArchiveEntry, PostEntry, PostPending, UpdateAccount
from engine.entry_errors import LimitBroken
from engine.errors import InsufficientFunds
from engine.limits import broken
from tests.unit.engine.desk import Desk, batch, entry, line, told

NAMES: list[BalanceName] = ["available", "pending", "posted"]


def floor(value: int, balance: BalanceName = "available") -> Limit:
    """Return a limit that a balance is at least this."""
    return Limit(balance=balance, at_least=value, at_most=None)


def ceiling(value: int, balance: BalanceName = "available") -> Limit:
    """Return a limit that a balance is at most this."""
    return Limit(balance=balance, at_least=None, at_most=value)


class Wallet(Desk):
    """A wallet with 100 in it and limits, and cash to fill it from."""

    def __init__(self, *limits: Limit, **options: Any) -> None:
        super().__init__()
        self.cash = self.account("asset")
        self.wallet = self.account("liability", limits=limits, **options)
        self.post(self.cash, self.wallet, 100)

    def out(self, amount: int, **options: Any) -> PostEntry:
        """Return the command that takes something out."""
        return entry(self.wallet, self.cash, amount, **options)

    def into(self, amount: int, **options: Any) -> PostEntry:
        """Return the command that puts something in."""
        return entry(self.cash, self.wallet, amount, **options)


@pytest.mark.parametrize("balance", NAMES)
@pytest.mark.parametrize("status", ["posted", "pending"])
def test_a_floor_is_reached_and_not_passed(balance: BalanceName, status: str) -> None:
    """The last unit above the floor goes out, posted or reserved; the next is refused and told why."""
    desk = Wallet(floor(-20, balance))
    with pytest.raises(LimitBroken) as refused:
        desk.decide(desk.out(121, status=status))
    assert (refused.value.pointer, refused.value.resource_id) == ("/lines/0/amount", desk.wallet)
    assert (refused.value.balance, refused.value.resulting) == (balance, -21)
    assert f"the {balance} balance of account {desk.wallet} to -21" in refused.value.detail
    assert "at least -20" in refused.value.detail
    desk.run(desk.out(120, status=status))


@pytest.mark.parametrize("balance", NAMES)
@pytest.mark.parametrize("status", ["posted", "pending"])
def test_a_ceiling_is_reached_and_not_passed(balance: BalanceName, status: str) -> None:
    """What is pending to come in counts too: posting it must not be what passes the ceiling."""
    desk = Wallet(ceiling(150, balance))
    with pytest.raises(LimitBroken) as refused:
        desk.decide(desk.into(51, status=status))
    assert (refused.value.pointer, refused.value.resulting) == ("/lines/1/amount", 151)
    assert "at most 150" in refused.value.detail
    desk.run(desk.into(50, status=status))


def test_who_is_over_a_limit_may_come_back_but_not_go_further() -> None:
    """A limit set below what is there refuses nothing that helps."""
    desk = Wallet()
    desk.run(UpdateAccount(account_id=desk.wallet, limits=(floor(200), ceiling(50, "posted"))))
    for command in (desk.out(1), desk.into(1)):
        with pytest.raises(LimitBroken):
            desk.decide(command)
    desk.run(UpdateAccount(account_id=desk.wallet, limits=(ceiling(50, "posted"),)))
    desk.run(desk.out(30))
    with pytest.raises(LimitBroken):
        desk.decide(desk.into(1))


def test_an_entry_is_judged_by_where_it_ends() -> None:
    """Lines that go below a floor and come back in the same entry break nothing."""
    desk = Wallet(floor(0))
    lines = (
        (desk.wallet, "debit", 500),
        (desk.cash, "credit", 500),
        (desk.wallet, "credit", 450),
        (desk.cash, "debit", 450),
    )
    desk.run(PostEntry(lines=tuple(line(*each) for each in lines)))


def test_the_end_of_what_was_reserved_is_never_refused() -> None:
    """Posting and giving up go through under limits that were set later and are far away."""
    desk = Wallet()
    out, back, into, gone = (
        desk.run(each).resource_id or ""
        for each in (desk.out(60, status="pending"), desk.out(10, status="pending"),
                     desk.into(70, status="pending"), desk.into(5, status="pending"))
    )  # fmt: skip
    limits = (floor(1000), ceiling(-1000, "posted"), Limit(balance="pending", at_least=500, at_most=500))
    desk.run(UpdateAccount(account_id=desk.wallet, limits=limits))
    desk.run(ArchiveEntry(entry_id=back))
    desk.run(PostPending(entry_id=out))
    desk.run(ArchiveEntry(entry_id=gone))
    desk.run(PostPending(entry_id=into))


def test_a_batch_is_refused_at_the_entry_that_passes_a_limit() -> None:
    """Each entry of a batch sees what those before it did."""
    desk = Wallet(floor(0, "posted"))
    with pytest.raises(LimitBroken) as refused:
        desk.decide(batch(desk.out(60), desk.out(60)))
    assert refused.value.pointer == "/entries/1/lines/0/amount"


def test_allow_negative_changes_and_keeps_its_own_code() -> None:
    """The shorthand is refused as insufficient funds, also where it was set later."""
    desk = Wallet()
    assert told(desk.run(UpdateAccount(account_id=desk.wallet, allow_negative=False)))["allow_negative"] is False
    with pytest.raises(InsufficientFunds):
        desk.decide(desk.out(101))


def test_limits_are_shown_and_their_change_tells_what_they_were() -> None:
    """Setting the same limits again changes nothing."""
    desk = Wallet(floor(5))
    shown = [{"balance": "available", "at_least": 5, "at_most": None}]
    unchanged = desk.run(UpdateAccount(account_id=desk.wallet, limits=(floor(5),)))
    assert (told(unchanged)["limits"], unchanged.events) == (shown, [])
    [event] = desk.run(UpdateAccount(account_id=desk.wallet, limits=())).events
    assert event.previous == b'{"limits":[{"balance":"available","at_least":5,"at_most":null}]}'


def judged(name: BalanceName, bound: int) -> list[dict[str, Any]]:
    """Return a floor and a ceiling at the same place."""
    return [{"balance": name, "at_least": bound, "at_most": bound}]


TOTALS = st.builds(Totals, *([st.integers(0, 50)] * 4), st.just(1))


@given(TOTALS, st.sampled_from(["debit", "credit"]), st.sampled_from(NAMES), st.integers(-60, 60), st.integers(0, 3))
def test_no_end_of_a_pending_entry_breaks_a_limit(
    before: Totals, normal: str, name: BalanceName, bound: int, side: int
) -> None:
    """Posting or archiving all that one side has pending is fine by every limit, wherever it stands."""
    direction, post = ("debit", "credit")[side % 2], side > 1
    amount = before.pending_debits if direction == "debit" else before.pending_credits
    after = before.add(direction, amount if post else 0, -amount)
    assert broken(judged(name, bound), normal, before, after) is None
