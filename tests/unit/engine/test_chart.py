"""The chart of accounts: what opening, changing and closing decide, and what each refuses."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from engine.commands import CloseAccount, CreateAccount, CreateLedger, UpdateAccount, UpdateLedger
from engine.errors import (
    AccountClosed,
    AccountNotEmpty,
    AlreadyTaken,
    CurrencyExponentUnknown,
    NotFound,
    PreconditionFailed,
)
from tests.unit.engine.desk import Desk, told

NOBODY = "00000000-0000-7000-8000-000000000000"


@pytest.fixture
def desk() -> Desk:
    """Books with one ledger."""
    return Desk()


def test_ledger_is_created_at_version_1(desk: Desk) -> None:
    """The event's data is the answer."""
    decision = desk.run(CreateLedger(name="Second", description="d", metadata={"a": "b"}))
    answer = told(decision)
    assert (answer["name"], answer["status"], answer["lock_version"]) == ("Second", "active", 1)
    assert [(event.type, event.data) for event in decision.events] == [("ledger.created", decision.answer)]


def test_ledger_change_tells_what_was_there(desk: Desk) -> None:
    """Only what differs is in `previous`; a change to the same is none."""
    changed = desk.run(UpdateLedger(ledger_id=desk.ledger_id, name="Main", description="d", metadata={"a": "b"}))
    assert (told(changed)["lock_version"], changed.events[0].type) == (2, "ledger.updated")
    assert msgspec.json.decode(changed.events[0].previous or b"") == {"description": None, "metadata": {}}
    assert desk.run(UpdateLedger(ledger_id=desk.ledger_id, name="Main")).events == []
    cleared = desk.run(UpdateLedger(ledger_id=desk.ledger_id, clear_description=True, if_match=2))
    assert (told(cleared)["description"], cleared.lock_version) == (None, 3)


def test_ledger_change_is_refused_at_another_version_or_without_the_ledger(desk: Desk) -> None:
    """If-Match, and an id that is none."""
    with pytest.raises(PreconditionFailed) as refused:
        desk.run(UpdateLedger(ledger_id=desk.ledger_id, name="x", if_match=2))
    assert refused.value.lock_version == 1
    with pytest.raises(NotFound):
        desk.run(UpdateLedger(ledger_id=NOBODY, name="x"))


@pytest.mark.parametrize(
    ("account_type", "normal"),
    [("asset", "debit"), ("expense", "debit"), ("liability", "credit"), ("equity", "credit"), ("revenue", "credit")],
)
def test_normal_balance_follows_the_type(desk: Desk, account_type: str, normal: str) -> None:
    """Unless it is given."""
    for given, expected in ((None, normal), ("debit", "debit"), ("credit", "credit")):
        account = desk.books.account(desk.account(account_type, normal_balance=given))
        assert account is not None
        assert account["normal_balance"] == expected


def test_account_is_created_empty_at_version_1(desk: Desk) -> None:
    """Its balances are in the answer, its exponent is the standard's unless given."""
    decision = desk.run(CreateAccount(ledger_id=desk.ledger_id, name="Cash", type="asset", currency="KWD"))
    answer = told(decision)
    assert (answer["currency_exponent"], answer["lock_version"], answer["status"]) == (3, 1, "open")
    assert answer["balances"]["available"] == {"debits": 0, "credits": 0, "amount": 0}
    assert [(event.type, event.data) for event in decision.events] == [("account.created", decision.answer)]
    own = desk.books.account(desk.account("asset", "POINTS", currency_exponent=0))
    assert own is not None
    assert own["currency_exponent"] == 0


@pytest.mark.parametrize(
    ("options", "refusal", "pointer"),
    [
        ({"ledger_id": NOBODY}, NotFound, "/ledger_id"),
        ({"external_id": "till"}, AlreadyTaken, "/external_id"),
        ({"currency": "POINTS"}, CurrencyExponentUnknown, "/currency_exponent"),
    ],
)
def test_account_is_refused(desk: Desk, options: dict[str, Any], refusal: type[Exception], pointer: str) -> None:
    """No ledger, an external id that is taken, a currency that nobody knows."""
    desk.account("asset", external_id="till")
    with pytest.raises(refusal) as refused:
        desk.account("asset", **options)
    assert getattr(refused.value, "pointer", None) == pointer


def test_account_change_tells_what_was_there(desk: Desk) -> None:
    """Names, code and metadata change; the version is the account's one version."""
    made = desk.account("asset", code="1000", description="d")
    changed = desk.run(
        UpdateAccount(
            account_id=made, name="Till", clear_description=True, code="1001", metadata={"a": "b"}, if_match=1
        ),
    )
    answer = told(changed)
    assert (answer["name"], answer["description"], answer["code"], answer["lock_version"]) == ("Till", None, "1001", 2)
    assert msgspec.json.decode(changed.events[0].previous or b"") == {
        "name": "asset", "description": "d", "code": "1000", "metadata": {},
    }  # fmt: skip
    assert told(desk.run(UpdateAccount(account_id=made, clear_code=True, description="e")))["code"] is None
    assert desk.run(UpdateAccount(account_id=made, name="Till")).events == []
    assert desk.version(made) == 3


def test_account_is_refused_a_change_at_another_version_when_closed_or_absent(desk: Desk) -> None:
    """The version is the one that postings move too."""
    made = desk.account("asset")
    desk.post(made, desk.account("revenue"), 5)
    with pytest.raises(PreconditionFailed) as refused:
        desk.run(UpdateAccount(account_id=made, name="x", if_match=1))
    assert refused.value.lock_version == 2
    with pytest.raises(NotFound):
        desk.run(UpdateAccount(account_id=NOBODY, name="x"))
    with pytest.raises(NotFound):
        desk.run(CloseAccount(account_id=NOBODY))
    empty = desk.account("asset")
    desk.run(CloseAccount(account_id=empty))
    for again in (UpdateAccount(account_id=empty, name="x"), CloseAccount(account_id=empty)):
        with pytest.raises(AccountClosed):
            desk.run(again)


def test_account_is_closed_when_it_is_empty(desk: Desk) -> None:
    """Not while it has a balance, not while something is pending, even if it would come to nothing."""
    one, other = desk.account("asset"), desk.account("asset")
    desk.post(one, other, 5)
    with pytest.raises(AccountNotEmpty):
        desk.run(CloseAccount(account_id=one))
    desk.post(other, one, 5)
    desk.post(one, other, 3, status="pending")
    desk.post(other, one, 3, status="pending")
    with pytest.raises(AccountNotEmpty):
        desk.run(CloseAccount(account_id=one))
    fresh = desk.account("asset")
    closed = desk.run(CloseAccount(account_id=fresh, if_match=1))
    assert (told(closed)["status"], closed.lock_version, closed.events[0].type) == ("closed", 2, "account.updated")
    assert msgspec.json.decode(closed.events[0].previous or b"") == {"status": "open"}
