"""Entries over two currencies: through the clearing accounts at a rate, rounded in their favour, the rest on a line of its own."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from engine.commands import CreateHold, PostEntry, PostPart, PostPending, ReverseEntry, UpdateEntry
from engine.entry_errors import EntryAlreadyReversed
from engine.errors import FxRateRequired, NotFound, UnbalancedEntry
from engine.fx_commands import CreateFxRate
from engine.fx_errors import FxAmountMismatch, FxRateExpired, FxRateMismatch
from engine.money import AMOUNT_MAX
from tests.fakes.clock import START_US
from tests.unit.engine.desk import SITE_ID, Desk, line, told
from tests.unit.engine.test_entries import parts


class Bureau(Desk):
    """A desk with wallets in several currencies."""

    def __init__(self) -> None:
        super().__init__()
        self.usd = self.account("liability", "USD")
        self.eur = self.account("liability", "EUR")
        self.yen = self.account("liability", "JPY")

    def rate(self, base: str, quote: str, rate: str, **options: Any) -> str:
        """Note a rate and return its id."""
        return self.run(CreateFxRate(base=base, quote=quote, rate=rate, **options)).resource_id or ""

    def exchange(self, rate_id: str | None, paid: tuple[str, int], *bought: tuple[str, int], **options: Any) -> Any:
        """Post what one wallet pays and others get; return the entry."""
        lines = (line(paid[0], "debit", paid[1]), *(line(account, "credit", amount) for account, amount in bought))
        return told(self.run(PostEntry(lines=lines, fx_rate_id=rate_id, **options)))

    def clearing(self, currency: str, purpose: str = "fx_clearing", exponent: int = 2) -> int:
        """Return what a clearing account has."""
        account = self.books.purposeful(self.ledger_id, purpose, currency, exponent)
        return 0 if account is None else self.books.totals(account).posted("credit")


@pytest.fixture
def desk() -> Bureau:
    """Wallets in dollars, euros and yen."""
    return Bureau()


def test_a_rate_is_kept_and_told_of_as_it_was_given(desk: Bureau) -> None:
    """Every member of it, as the first and only version."""
    made = CreateFxRate(
        base="USD", quote="EUR", rate="0.92", source="ECB", valid_until=START_US + 1, metadata={"k": "v"}
    )
    decision = desk.run(made)
    rate_id = decision.resource_id or ""
    assert [(event.type, event.resource_id) for event in decision.events] == [("fx_rate.created", rate_id)]
    assert desk.books.resource("fx_rate", rate_id) == {
        "site_id": SITE_ID,
        "id": rate_id,
        "base": "USD",
        "quote": "EUR",
        "rate": "0.92",
        "source": "ECB",
        "valid_until": START_US + 1,
        "metadata": {"k": "v"},
        "lock_version": 1,
        "created_at": START_US,
        "updated_at": START_US,
    }


@pytest.mark.parametrize(
    ("dollars", "euros", "told_of"),
    [
        ((5, 0), (5, 5), ("USD", 5, 0)),
        ((5, 0), (4, 0), ("USD", 5, 0)),
        ((5, 5), (0, 4), ("USD", 0, 0)),
        ((0, 5), (0, 4), ("EUR", 0, 4)),
    ],
)
def test_a_currency_must_pay_for_the_other(
    desk: Bureau, dollars: tuple[int, int], euros: tuple[int, int], told_of: tuple[str, int, int]
) -> None:
    """One has more debits and the other more credits, or both are balanced; else it says what is open of the first."""
    lines = [
        line(account, direction, amount)
        for account, amounts in ((desk.usd, dollars), (desk.eur, euros))
        for direction, amount in zip(("debit", "credit"), amounts, strict=True)
        if amount
    ]
    rate = desk.rate("USD", "EUR", "1")
    with pytest.raises(UnbalancedEntry) as refused:
        desk.run(PostEntry(lines=tuple(lines), fx_rate_id=rate))
    assert (refused.value.currency, refused.value.debits, refused.value.credits) == told_of


def test_the_smallest_unit_is_exchanged(desk: Bureau) -> None:
    """One for one."""
    entry = desk.exchange(desk.rate("USD", "EUR", "1"), (desk.usd, 1), (desk.eur, 1))
    assert [each["amount"] for each in entry["lines"]] == [1, 1, 1, 1]


def test_each_currency_is_balanced_through_its_clearing_account(desk: Bureau) -> None:
    """100.00 USD at 0.92345 is 92.34 EUR: what is less than a cent stays with the clearing account."""
    rate = desk.rate("USD", "EUR", "0.92345")
    entry = desk.exchange(rate, (desk.usd, 10_000), (desk.eur, 9_234))
    assert entry["fx_rate_id"] == rate
    assert [(each["currency"], each["direction"], each["amount"]) for each in entry["lines"]] == [
        ("USD", "debit", 10_000),
        ("EUR", "credit", 9_234),
        ("USD", "credit", 10_000),
        ("EUR", "debit", 9_234),
    ]
    assert (desk.clearing("USD"), desk.clearing("EUR")) == (10_000, -9_234)


def test_clearing_accounts_are_opened_once_and_told_of(desk: Bureau) -> None:
    """Before the entry that needs them; the next one finds them."""
    rate = desk.rate("USD", "EUR", "1")
    lines = (line(desk.usd, "debit", 5), line(desk.eur, "credit", 5))
    first = desk.run(PostEntry(lines=lines, fx_rate_id=rate))
    assert [event.type for event in first.events] == ["account.created", "account.created", "entry.posted"]
    assert [account["purpose"] for account in first.opened] == ["fx_clearing", "fx_clearing"]
    second = desk.run(PostEntry(lines=lines, fx_rate_id=rate))
    assert [event.type for event in second.events] == ["entry.posted"]


def test_a_rate_works_both_ways(desk: Bureau) -> None:
    """Euros into dollars at the same rate; exponents are taken into account."""
    desk.exchange(desk.rate("USD", "EUR", "0.5"), (desk.eur, 100), (desk.usd, 200))
    desk.exchange(desk.rate("USD", "JPY", "150.5"), (desk.usd, 1_000), (desk.yen, 1_505))
    desk.exchange(desk.rate("JPY", "USD", "0.0066"), (desk.yen, 1_000), (desk.usd, 660))
    assert desk.clearing("JPY", exponent=0) == 1_000 - 1_505


def test_what_lines_lose_by_rounding_each_is_a_line_of_its_own(desk: Bureau) -> None:
    """Three wages of 33.33 USD at 0.9 are 29.99 EUR each, and 89.99 in all: two cents are over."""
    rate = desk.rate("USD", "EUR", "0.9")
    staff = [desk.account("liability", "EUR") for _ in range(3)]
    entry = desk.exchange(rate, (desk.usd, 9_999), *((each, 2_999) for each in staff))
    assert [(each["direction"], each["amount"]) for each in entry["lines"][4:]] == [
        ("credit", 9_999),
        ("debit", 8_999),
        ("credit", 2),
    ]
    assert desk.clearing("EUR", "fx_rounding") == 2


def test_amount_that_is_bought_exactly_costs_the_next_whole_unit(desk: Bureau) -> None:
    """0.01 USD is 2.5 VND at least: whoever wants 1 VND pays the cent, and what is over is shown."""
    dong = desk.account("liability", "VND")
    rate = desk.rate("USD", "VND", "25000")
    entry = desk.exchange(rate, (desk.usd, 1), (dong, 100))
    assert entry["lines"][-1]["amount"] == 150
    with pytest.raises(FxAmountMismatch):
        desk.exchange(rate, (desk.usd, 2), (dong, 100))


@pytest.mark.parametrize("bought", [9_235, 9_232, 1])
def test_amount_that_the_rate_does_not_give_is_refused(desk: Bureau, bought: int) -> None:
    """Neither more nor much less; the refusal says what it would be."""
    rate = desk.rate("USD", "EUR", "0.92345")
    with pytest.raises(FxAmountMismatch) as refused:
        desk.exchange(rate, (desk.usd, 10_000), (desk.eur, bought))
    assert (refused.value.wanted, refused.value.due) == (bought, 9_234)


def test_a_whole_unit_for_each_line_is_no_rounding_any_more(desk: Bureau) -> None:
    """Half a unit lost by one line is; a line that is a unit off has been worked out with another rate."""
    rate = desk.rate("USD", "EUR", "0.5")
    assert desk.exchange(rate, (desk.usd, 101), (desk.eur, 50))["lines"][-1]["amount"] == 50
    with pytest.raises(FxAmountMismatch):
        desk.exchange(rate, (desk.usd, 100), (desk.eur, 49))


def test_rates_that_do_not_fit_are_refused(desk: Bureau) -> None:
    """None, one that is not there, one of other currencies, three currencies, one whose time is over."""
    rate = desk.rate("USD", "EUR", "1", valid_until=desk.now_us + 1)
    with pytest.raises(FxRateRequired):
        desk.exchange(None, (desk.usd, 5), (desk.eur, 5))
    with pytest.raises(NotFound) as unknown:
        desk.exchange("nobody", (desk.usd, 5), (desk.eur, 5))
    with pytest.raises(FxRateMismatch):
        desk.exchange(rate, (desk.usd, 5), (desk.yen, 5))
    with pytest.raises(FxRateMismatch):
        desk.exchange(rate, (desk.usd, 5), (desk.eur, 5), (desk.yen, 1))
    other = desk.account("liability", "EUR", currency_exponent=3)
    with pytest.raises(FxRateMismatch):
        desk.exchange(rate, (desk.usd, 5), (desk.eur, 5), (other, 5))
    desk.now_us += 1
    with pytest.raises(FxRateExpired):
        desk.exchange(rate, (desk.usd, 5), (desk.eur, 5))
    assert unknown.value.pointer == "/fx_rate_id"


def test_both_sides_of_one_direction_are_no_exchange(desk: Bureau) -> None:
    """Nor is a side that balances by itself beside one that does not; two that do need no clearing."""
    rate = desk.rate("USD", "EUR", "1")
    with pytest.raises(UnbalancedEntry):
        desk.run(
            PostEntry(lines=(line(desk.usd, "debit", 5), line(desk.eur, "debit", 5)), fx_rate_id=rate),
        )
    usd, eur = desk.account("asset", "USD"), desk.account("asset", "EUR")
    dollars = (line(desk.usd, "debit", 5), line(usd, "credit", 5))
    with pytest.raises(UnbalancedEntry, match="EUR"):
        desk.run(PostEntry(lines=(*dollars, line(eur, "debit", 5)), fx_rate_id=rate))
    euros = (line(desk.eur, "debit", 7), line(eur, "credit", 7))
    assert len(told(desk.run(PostEntry(lines=(*dollars, *euros), fx_rate_id=rate)))["lines"]) == 4


def test_exchange_is_reversed_line_by_line_whatever_became_of_the_rate(desk: Bureau) -> None:
    """Clearing and rounding included; once, as any entry."""
    rate = desk.rate("USD", "EUR", "0.9", valid_until=desk.now_us + 1)
    entry = desk.exchange(rate, (desk.usd, 9_999), (desk.eur, 2_999), (desk.eur, 2_999), (desk.eur, 2_999))
    desk.now_us += 10
    desk.run(ReverseEntry(entry_id=entry["id"]))
    assert [desk.clearing(each) for each in ("USD", "EUR")] == [0, 0]
    assert desk.clearing("EUR", "fx_rounding") == 0
    with pytest.raises(EntryAlreadyReversed):
        desk.run(ReverseEntry(entry_id=entry["id"]))


def test_pending_exchange_is_posted_whole_in_part_or_changed(desk: Bureau) -> None:
    """What it reserves at the clearing accounts goes with it."""
    rate = desk.rate("USD", "EUR", "0.5")
    whole = desk.exchange(rate, (desk.usd, 100), (desk.eur, 50), status="pending")
    desk.run(PostPending(entry_id=whole["id"]))
    part = desk.exchange(rate, (desk.usd, 100), (desk.eur, 50), status="pending")
    desk.run(PostPart(entry_id=part["id"], parts=parts(desk, part["id"], 40, 20, 40, 20)))
    assert (desk.clearing("USD"), desk.clearing("EUR")) == (140, -70)
    lines = (line(desk.usd, "debit", 10), line(desk.eur, "credit", 5))
    changed = told(desk.run(UpdateEntry(entry_id=part["id"], lines=lines)))
    assert [each["amount"] for each in changed["lines"]] == [10, 5, 10, 5]
    held = PostEntry(lines=lines, status="pending", held=True, fx_rate_id=rate)
    assert len(told(desk.run(CreateHold(entry=held)))["lines"]) == 4


@given(
    paid=st.integers(1, 10**12),
    rate=st.decimals("0.000001", "100000", places=6),
    exponents=st.tuples(st.integers(0, 8), st.integers(0, 8)),
)
def test_clearing_never_gives_more_than_the_rate(paid: int, rate: Any, exponents: tuple[int, int]) -> None:
    """Whatever the amounts: books balance in each currency, and the odds are the clearing account's."""
    desk = Bureau()
    base = desk.account("liability", "AAA", currency_exponent=exponents[0])
    quote = desk.account("liability", "BBB", currency_exponent=exponents[1])
    exact = paid * Fraction(rate) * Fraction(10) ** (exponents[1] - exponents[0])
    due = exact.numerator // exact.denominator
    assume(due < AMOUNT_MAX)
    rate_id = desk.rate("AAA", "BBB", str(rate))
    if due == 0:
        with pytest.raises(FxAmountMismatch):
            desk.exchange(rate_id, (base, paid), (quote, 1))
        return
    desk.exchange(rate_id, (base, paid), (quote, due))
    assert desk.clearing("AAA", exponent=exponents[0]) == paid
    assert -desk.clearing("BBB", exponent=exponents[1]) == due <= exact
    with pytest.raises(FxAmountMismatch):
        desk.exchange(rate_id, (base, paid), (quote, due + 1))
