"""What the books answer where reference data forbids it: part of the tree that `engine.errors` draws."""

from __future__ import annotations

from engine.errors import Refused


class AccountCodeTaken(Refused):
    """A chart-of-accounts code names one account of a ledger."""

    def __init__(self, ledger_id: str, code: str, holder_id: str) -> None:
        """Name the ledger, the code and the account that has it."""
        super().__init__(f"Account {holder_id} of ledger {ledger_id} has the code {code!r}.", pointer="/code")
        self.holder_id = holder_id


class CurrencyListed(Refused):
    """ISO 4217 says what this currency is; nobody else does."""

    def __init__(self, currency: str) -> None:
        """Name the currency."""
        super().__init__(f"{currency} is a currency of ISO 4217 and stays as the standard has it.", pointer="/code")
        self.currency = currency


class CurrencyExponentMismatch(Refused):
    """A currency of the site's own has another exponent than is asked for."""

    def __init__(self, currency: str, exponent: int, given: int) -> None:
        """Name the currency, how many minor digits it was defined with, and how many are asked for."""
        super().__init__(
            f"{currency} was defined with {exponent} minor digits, not {given}.", pointer="/currency_exponent"
        )
        self.exponent = exponent
