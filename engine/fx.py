"""The rules of exchange: rates, and how an entry over two currencies is balanced in each of them. Pure.

What the lines leave open in a currency passes through the ledger's clearing account of that currency. Amounts are whole minor
units: what the clearing account gives is rounded down, so the odds are in its favour. What is over when the lines take less
than the rate allows, because each of them was rounded for itself, is a line of its own on the rounding account.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Final, Literal, NamedTuple

from engine import resources
from engine.balances import Direction
from engine.books import Books, Decision
from engine.errors import FxRateRequired, NotFound, UnbalancedEntry
from engine.fx_commands import CreateFxRate
from engine.fx_errors import FxAmountMismatch, FxRateExpired, FxRateMismatch
from engine.fx_shapes import fx_rate_of
from engine.occasion import Occasion
from engine.rows import AccountRow, ResourceRow
from engine.shapes import encode

KIND: Final = "fx_rate"
Purpose = Literal["fx_clearing", "fx_rounding"]


class Leg(NamedTuple):
    """A line that the books add: through which account of the ledger, in which currency, and how much."""

    purpose: Purpose
    currency: str
    currency_exponent: int
    direction: Direction
    amount: int


class _Side(NamedTuple):
    """What the lines of one currency leave open: debits less credits, over how many lines."""

    currency: str
    exponent: int
    open: int
    lines: int


def create_rate(command: CreateFxRate, occasion: Occasion) -> Decision:
    """Decide a new rate; a rate never changes, another one takes its place."""
    row: ResourceRow = {
        "site_id": occasion.site_id,
        "id": occasion.draw(),
        "base": command.base,
        "quote": command.quote,
        "rate": command.rate,
        "source": command.source,
        "valid_until": command.valid_until,
        "metadata": command.metadata,
        "lock_version": 1,
        "created_at": occasion.now_us,
        "updated_at": occasion.now_us,
    }
    return resources.decided(KIND, row, encode(fx_rate_of(row)), "created", occasion)


def legs(
    rate_id: str | None,
    lines: Sequence[tuple[Direction, int]],
    accounts: Sequence[AccountRow],
    books: Books,
    now_us: int,
) -> list[Leg]:
    """Return the lines that balance an entry over two currencies at a rate, none where each is balanced by itself.

    Raises FxRateRequired, FxRateExpired, FxRateMismatch, FxAmountMismatch, UnbalancedEntry and NotFound.
    """
    sides = _sides(lines, accounts)
    currencies = tuple(sorted({side.currency for side in sides}))
    if rate_id is None:
        raise FxRateRequired(currencies)
    rate = books.resource(KIND, rate_id)
    if rate is None:
        raise NotFound(KIND, rate_id, pointer="/fx_rate_id")
    if rate["valid_until"] is not None and rate["valid_until"] <= now_us:
        raise FxRateExpired(rate_id, rate["valid_until"])
    if len(sides) != len(currencies) or currencies != tuple(sorted((rate["base"], rate["quote"]))):
        raise FxRateMismatch(rate_id, rate["base"], rate["quote"], currencies)
    taken, given = sorted(sides, key=lambda side: -side.open)
    if taken.open == given.open == 0:
        return []
    for side in (taken, given):
        if taken.open <= 0 or given.open >= 0:
            raise UnbalancedEntry(side.currency, max(side.open, 0), max(-side.open, 0))
    return _through(taken, given, rate)


def _sides(lines: Sequence[tuple[Direction, int]], accounts: Sequence[AccountRow]) -> list[_Side]:
    found: dict[tuple[str, int], list[int]] = {}
    for (direction, amount), account in zip(lines, accounts, strict=True):
        side = found.setdefault((account["currency"], account["currency_exponent"]), [0, 0])
        side[0] += amount if direction == "debit" else -amount
        side[1] += 1
    return [_Side(currency, exponent, open_, count) for (currency, exponent), (open_, count) in found.items()]


def _through(taken: _Side, given: _Side, rate: ResourceRow) -> list[Leg]:
    """Take one currency's excess of debits into the clearing account, and give the other's for it."""
    price = Fraction(rate["rate"]) if taken.currency == rate["base"] else 1 / Fraction(rate["rate"])
    price *= Fraction(10) ** (given.exponent - taken.exponent)
    wanted, due = -given.open, _floor(taken.open * price)
    # Each line may have been rounded by itself: the ones that are given down, the ones that are taken up.
    rounded_down = due - wanted < given.lines
    rounded_up = _floor((taken.open - taken.lines) * price) < wanted
    if wanted > due or not (rounded_down or rounded_up):
        raise FxAmountMismatch(given.currency, wanted, due)
    found = [
        Leg("fx_clearing", taken.currency, taken.exponent, "credit", taken.open),
        Leg("fx_clearing", given.currency, given.exponent, "debit", due),
    ]
    if due > wanted:
        found.append(Leg("fx_rounding", given.currency, given.exponent, "credit", due - wanted))
    return found


def _floor(amount: Fraction) -> int:
    return amount.numerator // amount.denominator
