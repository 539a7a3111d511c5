"""Reference data: names are taken once, listed currencies stay, and what belongs to whom is said by what is there."""

from __future__ import annotations

import msgspec
import pytest

from engine.category_commands import CreateCategory
from engine.commands import Command, CreateAccount, CreateLedger, UpdateAccount, UpdateLedger
from engine.errors import AlreadyTaken, CurrencyExponentUnknown, NotFound, PreconditionFailed, Refused
from engine.iso_3166 import COUNTRIES
from engine.iso_4217 import CURRENCIES
from engine.reference_commands import ChangeReference, CreateReference, ReferenceKind
from engine.reference_errors import AccountCodeTaken, CurrencyExponentMismatch, CurrencyListed
from tests.unit.engine.desk import Desk, told
from tests.unit.engine.knowing import REFERENCE

NOBODY = "00000000-0000-7000-8000-000000000000"


@pytest.fixture
def desk() -> Desk:
    """Books with one ledger."""
    return Desk()


def account(desk: Desk, **options: object) -> Command:
    """Return the command that opens an account in the ledger."""
    given = {"ledger_id": desk.ledger_id, "name": "n", "type": "asset", "currency": "EUR", **options}
    return msgspec.convert(given, CreateAccount)


@pytest.mark.parametrize("kind", list(REFERENCE))
def test_what_is_known_is_told_and_changed_one_version_at_a_time(desk: Desk, kind: ReferenceKind) -> None:
    """The event's data is the answer; `previous` has what differs; a change to the same is none."""
    made = desk.run(CreateReference(kind=kind, fields=REFERENCE[kind]))
    assert {name: told(made)[name] for name in REFERENCE[kind]} == REFERENCE[kind]
    assert [(event.type, event.data) for event in made.events] == [(f"{kind}.created", made.answer)]
    made_id = made.resource_id or ""
    changed = desk.run(ChangeReference(kind=kind, resource_id=made_id, changes={"name": "Other"}, if_match=1))
    assert (told(changed)["name"], changed.lock_version, changed.events[0].type) == ("Other", 2, f"{kind}.updated")
    assert msgspec.json.decode(changed.events[0].previous or b"") == {"name": REFERENCE[kind]["name"]}
    assert desk.run(ChangeReference(kind=kind, resource_id=made_id, changes={"name": "Other"})).events == []
    with pytest.raises(PreconditionFailed):
        desk.run(ChangeReference(kind=kind, resource_id=made_id, changes={"name": "x"}, if_match=1))
    with pytest.raises(NotFound):
        desk.run(ChangeReference(kind=kind, resource_id=NOBODY, changes={"name": "x"}))


@pytest.mark.parametrize(("kind", "column"), [("entity", "external_id"), ("currency", "code"), ("product", "code")])
def test_name_is_taken_once(desk: Desk, kind: ReferenceKind, column: str) -> None:
    """By a new one and by a change; its holder may say it again, and give it up for another."""
    first = desk.run(CreateReference(kind=kind, fields=REFERENCE[kind])).resource_id or ""
    with pytest.raises(AlreadyTaken) as refused:
        desk.run(CreateReference(kind=kind, fields=REFERENCE[kind]))
    assert (refused.value.holder_id, refused.value.pointer) == (first, f"/{column}")
    second = desk.run(CreateReference(kind=kind, fields={**REFERENCE[kind], column: "OTHER"})).resource_id or ""
    taken = {column: REFERENCE[kind][column]}
    with pytest.raises(AlreadyTaken):
        desk.run(ChangeReference(kind=kind, resource_id=second, changes=taken))
    assert desk.run(ChangeReference(kind=kind, resource_id=first, changes=taken)).events == []
    desk.run(ChangeReference(kind=kind, resource_id=first, changes={column: "NEW"}))
    assert told(desk.run(ChangeReference(kind=kind, resource_id=second, changes=taken)))[column] == taken[column]


def test_several_entities_have_no_external_id(desk: Desk) -> None:
    """Nothing is no name."""
    for _ in range(2):
        desk.run(CreateReference(kind="entity", fields={**REFERENCE["entity"], "external_id": None}))


def test_listed_currency_cannot_be_defined(desk: Desk) -> None:
    """The standard says what it is."""
    with pytest.raises(CurrencyListed):
        desk.run(CreateReference(kind="currency", fields={**REFERENCE["currency"], "code": "EUR"}))


def test_exponent_is_what_was_defined_listed_or_said(desk: Desk) -> None:
    """A site's own currency has one; a listed one may be counted finer; one that nobody knows needs to be told of."""
    with pytest.raises(CurrencyExponentUnknown, match="POST /v1/currencies"):
        desk.run(account(desk, currency="PTS"))
    assert told(desk.run(account(desk, currency="PTS", currency_exponent=6)))["currency_exponent"] == 6
    desk.run(CreateReference(kind="currency", fields=REFERENCE["currency"]))
    category = {"name": "n", "normal_balance": "debit"}
    for given, exponent in (({}, 3), ({"currency_exponent": 3}, 3)):
        assert told(desk.run(account(desk, currency="PTS", **given)))["currency_exponent"] == exponent
        made = desk.run(msgspec.convert({**category, "currency": "PTS", **given}, CreateCategory))
        assert told(made)["currency_exponent"] == exponent
    for command in (
        account(desk, currency="PTS", currency_exponent=0),
        msgspec.convert({**category, "currency": "PTS", "currency_exponent": 2}, CreateCategory),
    ):
        with pytest.raises(CurrencyExponentMismatch):
            desk.run(command)
    assert told(desk.run(account(desk, currency="USD", currency_exponent=4)))["currency_exponent"] == 4


@pytest.mark.parametrize(
    ("code", "exponent"), [("EUR", 2), ("JPY", 0), ("BHD", 3), ("CLF", 4), ("ISK", 0), ("UYW", 4), ("XCG", 2)]
)
def test_currency_has_the_exponent_of_the_standard(code: str, exponent: int) -> None:
    """ISO 4217, with its exceptions."""
    assert CURRENCIES[code].exponent == exponent


@pytest.mark.parametrize("code", ["XXX", "XTS", "XAU", "eur", "EURO", "ZZZ"])
def test_what_has_no_minor_unit_is_not_listed(code: str) -> None:
    """Precious metals, test codes, other spellings."""
    assert code not in CURRENCIES


def test_codes_of_the_standards_are_whole_and_told_once() -> None:
    """Three letters and three digits; two letters, three letters and three digits; every one of them once."""
    for each in CURRENCIES.values():
        assert (len(each.code), len(each.number), each.number.isdecimal(), bool(each.name)) == (3, 3, True, True)
    assert len(COUNTRIES) == 249
    assert len({each.code3 for each in COUNTRIES.values()}) == len({each.number for each in COUNTRIES.values()}) == 249
    for country in COUNTRIES.values():
        assert (len(country.code), len(country.code3), len(country.number)) == (2, 3, 3)


def test_ledger_and_its_accounts_belong_to_an_entity(desk: Desk) -> None:
    """An account to the ledger's unless it says another; each can be given to another, and to nobody."""
    acme, other = [
        desk.run(CreateReference(kind="entity", fields={**REFERENCE["entity"], "external_id": None})).resource_id
        for _ in range(2)
    ]
    ledger = told(desk.run(CreateLedger(name="n", entity_id=acme)))
    assert ledger["entity_id"] == acme
    owned = told(desk.run(account(desk, ledger_id=ledger["id"])))
    assert owned["entity_id"] == acme
    assert told(desk.run(account(desk, ledger_id=ledger["id"], entity_id=other)))["entity_id"] == other
    assert told(desk.run(account(desk)))["entity_id"] is None
    moved = desk.run(UpdateAccount(account_id=owned["id"], entity_id=other))
    assert msgspec.json.decode(moved.events[0].previous or b"") == {"entity_id": acme}
    assert told(desk.run(UpdateAccount(account_id=owned["id"], clear_entity=True)))["entity_id"] is None
    assert told(desk.run(UpdateLedger(ledger_id=ledger["id"], entity_id=other)))["entity_id"] == other
    assert told(desk.run(UpdateLedger(ledger_id=ledger["id"], clear_entity=True)))["entity_id"] is None
    for command in (
        CreateLedger(name="n", entity_id=NOBODY),
        UpdateLedger(ledger_id=ledger["id"], entity_id=NOBODY),
        account(desk, entity_id=NOBODY),
        UpdateAccount(account_id=owned["id"], entity_id=NOBODY),
    ):
        with pytest.raises(NotFound) as refused:
            desk.run(command)
        assert refused.value.pointer == "/entity_id"


def test_code_names_one_account_of_a_ledger(desk: Desk) -> None:
    """Another ledger has codes of its own; a code that was given up is free, also in the same breath."""
    first = told(desk.run(account(desk, code="1000")))["id"]
    second = told(desk.run(account(desk, code="2000")))["id"]
    elsewhere = told(desk.run(CreateLedger(name="n")))["id"]
    desk.run(account(desk, ledger_id=elsewhere, code="1000"))
    refusals: list[Command] = [account(desk, code="1000"), UpdateAccount(account_id=second, code="1000")]
    for command in refusals:
        with pytest.raises(AccountCodeTaken) as refused:
            desk.run(command)
        assert (refused.value.holder_id, refused.value.pointer) == (first, "/code")
    assert desk.run(UpdateAccount(account_id=first, code="1000")).events == []
    desk.run(UpdateAccount(account_id=first, clear_code=True))
    assert told(desk.run(UpdateAccount(account_id=second, code="1000")))["code"] == "1000"
    assert told(desk.run(UpdateAccount(account_id=first, code="2000")))["code"] == "2000"
    with pytest.raises(Refused):
        desk.run(account(desk, code="2000"))
