"""What commands have to know before they can be decided: the rows to read, gathered from a whole batch. Pure."""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from engine.iso_4217 import CURRENCIES

ALONE: Final = 1_000_000
"""The weight of a command that is decided in a batch of its own: more than a batch takes."""


class AccountsWith(Struct, frozen=True, kw_only=True):
    """The question which open accounts have these pairs in their metadata, in one ledger if it is named; so many at most."""

    pairs: tuple[tuple[str, str], ...]
    ledger_id: str | None = None
    limit: int = 2


class Needs(Struct, kw_only=True):
    """The rows that a batch of commands has to read, gathered from all of them."""

    ledgers: set[str] = set()
    accounts: set[str] = set()
    account_external_ids: set[str] = set()
    account_codes: set[tuple[str, str]] = set()
    """Codes by the ledgers in which it matters who has them."""
    codes_beside: set[tuple[str, str]] = set()
    """Codes by accounts in whose ledgers it matters who has them."""
    accounts_with: set[AccountsWith] = set()
    entries: set[str] = set()
    entry_external_ids: set[str] = set()
    facts: set[str] = set()
    periods: bool = False
    """Whether the ledgers of the accounts are wanted too, to see up to when they are closed."""
    handled_names: set[str] = set()
    """The names of business events whose handlers are wanted: the active ones that may match an event of the name."""
    purposeful: bool = False
    """Whether of the accounts' ledgers those accounts are wanted that the books use for themselves."""
    exchanging: set[str] = set()
    """The ledgers of which those accounts are wanted, where it is known which ones they are."""
    resources: dict[tuple[str, str], set[str]] = {}
    categories: set[str] = set()
    links: list[tuple[str, str, bool]] = []

    def exchange(self, rate_id: str) -> None:
        """Ask for an exchange rate, and for the accounts that exchanges pass through."""
        self.resource("fx_rate", rate_id)
        self.purposeful = True

    def resource(self, kind: str, value: str, column: str = "id") -> None:
        """Ask for the resource of a kind that has this value, its id unless another unique column is named."""
        self.resources.setdefault((kind, column), set()).add(value)

    def add(self, other: Needs) -> None:
        """Take in what others need too."""
        for field in self.__struct_fields__:
            mine, theirs = getattr(self, field), getattr(other, field)
            if isinstance(mine, dict):
                for name, values in theirs.items():
                    mine.setdefault(name, set()).update(values)
            elif isinstance(mine, list):
                mine += theirs
            else:
                setattr(self, field, mine | theirs)

    def follows_accounts(self) -> bool:
        """Tell whether some of what is needed follows from the accounts that are read, and is read with them."""
        return bool(
            self.codes_beside
            or self.purposeful
            or self.accounts_with
            or self.handled_names
            or self.categories
            or self.links
        )

    def beyond(self, other: Needs) -> Needs:
        """Return the rows that are needed here and not there."""
        left = Needs()
        for field in self.__struct_fields__:
            mine, theirs = getattr(self, field), getattr(other, field)
            if isinstance(mine, dict):
                rest = {name: values - theirs.get(name, set()) for name, values in mine.items()}
                setattr(left, field, {name: values for name, values in rest.items() if values})
            elif isinstance(mine, set):
                setattr(left, field, mine - theirs)
        return left

    def __bool__(self) -> bool:
        """Tell whether anything is needed."""
        return self != _NOTHING


_NOTHING: Final = Needs()


def tell_currency(needs: Needs, currency: str) -> None:
    """Add what has to be known of a currency: nothing where the standard says it."""
    if currency not in CURRENCIES:
        needs.resource("currency", currency, "code")


class Light(Struct, frozen=True, kw_only=True):
    """A command that touches a row or two."""

    def tell(self, needs: Needs) -> None:
        """Add the rows this command has to know."""

    @property
    def weight(self) -> int:
        """Return how many lines the command writes, roughly."""
        return 1
