"""How many minor digits a currency has: as its site defined it, as ISO 4217 lists it, or as it is said. Pure."""

from __future__ import annotations

from engine.books import Books
from engine.errors import CurrencyExponentUnknown
from engine.iso_4217 import CURRENCIES
from engine.reference_errors import CurrencyExponentMismatch


def exponent_of(currency: str, given: int | None, books: Books) -> int:
    """Return the exponent of a currency; raises CurrencyExponentUnknown and CurrencyExponentMismatch.

    What a site defined has that exponent and no other. An account in a listed currency may count in finer units than the
    standard's, and one in a currency that nobody defined says by itself in which.
    """
    defined = books.resource_named("currency", "code", currency)
    if defined is not None:
        if given not in {None, defined["exponent"]}:
            raise CurrencyExponentMismatch(currency, defined["exponent"], given or 0)
        return int(defined["exponent"])
    if given is not None:
        return given
    if currency not in CURRENCIES:
        raise CurrencyExponentUnknown(currency)
    return CURRENCIES[currency].exponent
