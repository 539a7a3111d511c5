"""What the books answer when an exchange is not as its rate has it: part of the tree that `engine.errors` draws."""

from __future__ import annotations

from engine.errors import Refused
from engine.money import format_instant


class FxRateExpired(Refused):
    """The rate is no longer valid."""

    def __init__(self, rate_id: str, valid_until: int) -> None:
        """Name the rate and the end of its time, in microseconds."""
        super().__init__(f"Rate {rate_id} was valid until {format_instant(valid_until)}.", pointer="/fx_rate_id")
        self.rate_id = rate_id


class FxRateMismatch(Refused):
    """The rate is between other currencies than the lines are in."""

    def __init__(self, rate_id: str, base: str, quote: str, currencies: tuple[str, ...]) -> None:
        """Name the rate, its currencies, and those of the lines."""
        super().__init__(
            f"Rate {rate_id} is between {base} and {quote}; the lines are in {', '.join(currencies)}.",
            pointer="/fx_rate_id",
        )
        self.rate_id = rate_id


class FxAmountMismatch(Refused):
    """The lines take another amount than the rate gives."""

    def __init__(self, currency: str, wanted: int, due: int) -> None:
        """Name the currency, what the lines take, and what the rate gives, in minor units."""
        super().__init__(f"The lines take {wanted} {currency}; at the rate it is {due}.", pointer="/lines")
        self.currency = currency
        self.wanted = wanted
        self.due = due
