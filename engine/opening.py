"""New accounts: the row that one begins with, and the accounts that the books open for themselves. Pure."""

from __future__ import annotations

from engine.balances import EMPTY, Direction
from engine.books import Books
from engine.events import EventDraft
from engine.fx import Leg
from engine.occasion import Occasion
from engine.rows import AccountRow
from engine.shapes import AccountType, account_of, encode

_NAMES = {"fx_clearing": "FX clearing", "fx_rounding": "FX rounding"}


def account_row(
    ledger_id: str,
    name: str,
    account_type: AccountType,
    normal_balance: Direction,
    currency: str,
    currency_exponent: int,
    occasion: Occasion,
) -> AccountRow:
    """Return the row of a new account, open and with nothing on it."""
    return {
        "site_id": occasion.site_id,
        "id": occasion.draw(),
        "ledger_id": ledger_id,
        "entity_id": None,
        "name": name,
        "description": None,
        "type": account_type,
        "normal_balance": normal_balance,
        "currency": currency,
        "currency_exponent": currency_exponent,
        "code": None,
        "external_id": None,
        "allow_negative": True,
        "limits": [],
        "categories": 0,
        "monitors": 0,
        "purpose": None,
        "status": "open",
        "metadata": {},
        "created_at": occasion.now_us,
        "updated_at": occasion.now_us,
    }


def account_for(leg: Leg, ledger_id: str, books: Books, occasion: Occasion) -> tuple[AccountRow, EventDraft | None]:
    """Return the ledger's account for a leg; where there is none yet, a new one with the event that says so."""
    account_id = books.purposeful(ledger_id, leg.purpose, leg.currency, leg.currency_exponent)
    known = None if account_id is None else books.account(account_id)
    if known is not None:
        return known, None
    name = f"{_NAMES[leg.purpose]} {leg.currency}"
    account = account_row(ledger_id, name, "liability", "credit", leg.currency, leg.currency_exponent, occasion)
    account["purpose"] = leg.purpose
    event = EventDraft(
        id=occasion.draw(),
        type="account.created",
        resource_type="account",
        resource_id=account["id"],
        data=encode(account_of(account, EMPTY.bump())),
    )
    return account, event
