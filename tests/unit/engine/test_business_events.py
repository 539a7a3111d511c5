"""Business events: which handler matches, what its templates come to, and what refuses them."""

from __future__ import annotations

from collections.abc import Callable
from operator import eq, ge, gt, le, lt
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from engine.commands import CloseAccount, CreateLedger, UpdateAccount, Validate
from engine.entry_errors import ConditionFailed
from engine.errors import (
    AccountNotFound,
    FxRateRequired,
    InsufficientFunds,
    LockVersionConflict,
    NotFound,
    Refused,
    SeveralLedgers,
    UnbalancedEntry,
)
from engine.event_commands import (
    PostBusinessEvent,
    SwitchEventHandler,
    TryEventHandler,
    UpdateEventHandler,
)
from engine.event_errors import (
    DuplicateBusinessEvent,
    HandlerInvalid,
    NoHandlerMatches,
    SeveralHandlersMatch,
    ValueUnusable,
    VariableUnresolved,
)
from engine.fx_commands import CreateFxRate
from tests.unit.engine.desk import Desk, told
from tests.unit.engine.handling import TOP_UP, definition, handler, happened, line, lines, metadata_query

NOBODY = "00000000-0000-7000-8000-000000000000"


@pytest.fixture
def desk() -> Desk:
    """Books with the accounts that external ids name: a and b."""
    desk = Desk()
    for name in ("a", "b"):
        desk.account("asset" if name == "a" else "liability", external_id=name, name=name.upper())
    return desk


def account(desk: Desk, external_id: str) -> str:
    """Return the id of an account by its external id."""
    return desk.books.account_named(external_id) or ""


def amounts(desk: Desk, event: PostBusinessEvent) -> list[list[int]]:
    """Return the amounts of the lines of the entries that an event comes to."""
    return [[each["amount"] for each in entry["lines"]] for entry in told(desk.decide(event))["entries"]]


def one_entry(**parts: Any) -> dict[str, Any]:
    """Return the parts of a handler with one entry of these parts."""
    return {"entries": [{"lines": lines(), **parts}]}


def two_lines(**parts: Any) -> dict[str, Any]:
    """Return the parts of a handler with one entry whose first line has these parts."""
    return {"entries": [{"lines": [{**lines()[0], **parts}, lines()[1]]}]}


def test_the_event_and_its_entry_are_linked_both_ways(desk: Desk) -> None:
    """The event comes first on the feed, then its entry; the answer has the entry with its resulting balances."""
    made = desk.run(handler())
    given = replace(happened(amount=250), description="d", external_id="x", metadata={"k": "v"})
    decision = desk.run(given)
    answer = told(decision)
    assert {name: answer[name] for name in ("name", "description", "external_id", "metadata", "custom_data")} == {
        "name": "Top Up", "description": "d", "external_id": "x", "metadata": {"k": "v"}, "custom_data": {"amount": 250},
    }  # fmt: skip
    assert (answer["event_handler_id"], answer["event_handler_version"]) == (made.resource_id, 1)
    assert answer["effective_at"] == answer["created_at"]
    [entry] = answer["entries"]
    assert entry["business_event_id"] == answer["id"] == decision.resource_id
    assert [each["resulting_balances"]["posted"]["amount"] for each in entry["lines"]] == [250, 250]
    assert [(event.type, event.resource_id) for event in decision.events] == [
        ("business_event.created", answer["id"]),
        ("entry.posted", entry["id"]),
    ]
    assert decision.events[0].data == decision.answer
    assert [event.batch for event in decision.events] == [None, None]
    assert desk.totals(account(desk, "a")) == (250, 0, 0, 0)


def test_several_entries_are_one_unit_and_one_batch(desk: Desk) -> None:
    """Each sees what those before it did."""
    mirrored = [line("external_id:b", "debit", "{{event.amount}}"), line("external_id:a", "credit", "{{event.amount}}")]
    desk.run(handler(entries=[{"lines": lines()}, {"lines": mirrored, "status": "pending"}]))
    decision = desk.run(happened(amount=7))
    first, second = told(decision)["entries"]
    assert (first["status"], second["status"]) == ("posted", "pending")
    assert [each["account_lock_version"] for each in (first["lines"][0], second["lines"][1])] == [2, 3]
    places = [event.batch for event in decision.events[1:]]
    assert [(place.index, place.count) for place in places if place is not None] == [(1, 2), (2, 2)]
    assert len({place.id for place in places if place is not None}) == 1
    assert desk.totals(account(desk, "a")) == (7, 0, 0, 7)


def test_the_second_entry_refuses_the_first_with_it(desk: Desk) -> None:
    """Nothing happened, and the place says which entry it was."""
    desk.account(external_id="poor", allow_negative=False)
    poor = [line("external_id:a", "debit", 1), line("external_id:poor", "credit", 1)]
    desk.run(handler(entries=[{"lines": lines()}, {"lines": poor}]))
    before = desk.totals(account(desk, "a"))
    with pytest.raises(InsufficientFunds) as refused:
        desk.run(happened(amount=5))
    assert refused.value.pointer == "/entries/1/lines/1/amount"
    assert desk.totals(account(desk, "a")) == before


def test_exactly_one_active_handler_has_to_match(desk: Desk) -> None:
    """None and several are refused, the several by name; an archived one does not match."""
    with pytest.raises(NoHandlerMatches, match="No active event handler matches this 'Top Up' event"):
        desk.run(happened(amount=1))
    first, second = (desk.run(handler(name)).resource_id or "" for name in ("One", "Two"))
    with pytest.raises(SeveralHandlersMatch) as refused:
        desk.run(happened(amount=1))
    assert sorted(refused.value.handlers) == sorted([(first, "One"), (second, "Two")])
    assert f"{first} (One)" in refused.value.detail
    desk.run(SwitchEventHandler(handler_id=first, status="archived"))
    assert told(desk.run(happened(amount=1)))["event_handler_id"] == second
    desk.run(SwitchEventHandler(handler_id=first, status="active"))
    with pytest.raises(SeveralHandlersMatch):
        desk.run(happened(amount=1))


def test_handlers_are_told_apart_by_more_than_the_name(desk: Desk) -> None:
    """A handler that demands no name is asked too."""
    small = {"field": "event.amount", "operator": "lt", "value": 100}
    little = desk.run(handler("Little", conditions=small)).resource_id
    large = desk.run(handler("Large", conditions={"and": [TOP_UP, {"not": small}]})).resource_id
    assert [told(desk.decide(happened(amount=each)))["event_handler_id"] for each in (99, 100)] == [little, large]
    assert told(desk.decide(happened("Other", amount=1)))["event_handler_id"] == little
    with pytest.raises(NoHandlerMatches):
        desk.decide(happened("Other", amount=100))


def test_a_changed_handler_handles_what_comes_after(desk: Desk) -> None:
    """The event says by which version."""
    made = desk.run(handler()).resource_id or ""
    assert amounts(desk, happened(amount=10)) == [[10, 10]]
    doubled = definition(entries=[{"lines": lines("{{ event.amount * 2 }}")}]).entries
    desk.run(UpdateEventHandler(handler_id=made, definition={"entries": doubled}))
    assert amounts(desk, happened(amount=10)) == [[20, 20]]
    assert told(desk.decide(happened(amount=10)))["event_handler_version"] == 2
    other = definition(conditions={**TOP_UP, "value": "Other"}).conditions
    desk.run(UpdateEventHandler(handler_id=made, definition={"conditions": other}))
    with pytest.raises(NoHandlerMatches):
        desk.decide(happened(amount=10))
    assert amounts(desk, happened("Other", amount=10)) == [[20, 20]]


def test_a_used_external_id_is_refused_for_ever(desk: Desk) -> None:
    """It names the event that has it."""
    desk.run(handler())
    first = desk.run(replace(happened(amount=1), external_id="x")).resource_id
    with pytest.raises(DuplicateBusinessEvent) as refused:
        desk.run(replace(happened(amount=2), external_id="x"))
    assert (refused.value.event_id, refused.value.pointer) == (first, "/external_id")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("event.name", "Top Up"),
        ("event.description", "about"),
        ("event.external_id", "ext"),
        ("event.effective_at", "2025-01-02T03:04:05.000000Z"),
        ("event.metadata.k", "v"),
        ("event.amount", "5"),
        ("event.custom_data.amount", "5"),
        ("ledgerable_event.custom_data.amount", "5"),
        ("event.custom_data.name", "inner"),
        ("event.items.1.id", "second"),
        ("event.items[0].id", "first"),
        ("event['odd-name']", "odd"),
    ],
)
def test_paths_lead_into_the_event(desk: Desk, path: str, value: str) -> None:
    """Its own fields by their names, everything else into its custom data."""
    desk.run(handler(**one_entry(description=f"{{{{ {path} }}}}")))
    data = {"amount": 5, "name": "inner", "items": [{"id": "first"}, {"id": "second"}], "odd-name": "odd"}
    event = PostBusinessEvent(
        name="Top Up",
        description="about",
        external_id="ext",
        effective_at=1_735_787_045_000_000,
        metadata={"k": "v"},
        custom_data=data,
    )
    assert told(desk.decide(event))["entries"][0]["description"] == value


@pytest.mark.parametrize(
    ("path", "pointer"),
    [
        ("event.missing", "/custom_data/missing"),
        ("event.custom_data.missing", "/custom_data/missing"),
        ("event.metadata.a.b", "/metadata/a/b"),
        ("event.items.2", "/custom_data/items/2"),
        ("event.items.x", "/custom_data/items/x"),
        ("event.amount.x", "/custom_data/amount/x"),
        ("event['a/b']", "/custom_data/a~1b"),
    ],
)
def test_what_is_not_there_is_named_in_the_event_and_in_the_handler(desk: Desk, path: str, pointer: str) -> None:
    """The client sees which field it forgot, and who needed it."""
    desk.run(handler(**one_entry(description=f"{{{{ {path} }}}}")))
    with pytest.raises(ValueUnusable) as refused:
        desk.decide(happened(amount=5, items=[1, 2]))
    assert refused.value.detail == f"{path} is not there; /entries/0/description of the event handler needs it."
    assert refused.value.pointer == pointer


@pytest.mark.parametrize(
    ("template", "given", "pointer"),
    [
        (one_entry(description="{{ event.items }}"), {"amount": 1, "items": []}, "/custom_data/items"),
        (one_entry(description="{{ event['a/b'].c }}"), {"amount": 1, "a/b": {"c": None}}, "/custom_data/a~1b/c"),
        (two_lines(amount="{{ event.amount * 2 }}"), {"amount": "ten"}, "/custom_data/amount"),
        (two_lines(amount="{{ event.name }}"), {"amount": 1}, "/name"),
        ({"variables": {"fee": {"type": "amount", "value": "{{ event.fee }}"}}, **two_lines(amount="{{ fee }}")},
         {"amount": 1, "fee": True}, "/custom_data/fee"),
        (two_lines(amount="{{ a.name }}"), {"amount": 1}, ""),
    ],
)  # fmt: skip
def test_what_is_of_no_use_is_named_in_the_event(
    desk: Desk, template: dict[str, Any], given: dict[str, Any], pointer: str
) -> None:
    """As what is missing is; what an account has is in no request."""
    cash = {"type": "account", "query": {"field": "external_id", "operator": "equals", "value": "a"}}
    parts = {**template, "variables": {"a": cash, **template.get("variables", {})}}
    desk.run(handler(**parts))
    with pytest.raises(ValueUnusable) as refused:
        desk.decide(happened(**given))
    assert refused.value.pointer == pointer
    assert refused.value.needed_by


def test_variables_find_accounts_by_id_external_id_and_metadata(desk: Desk) -> None:
    """Both spellings of a variable lead to the same account."""
    jane = desk.account("liability", name="Jane's Wallet", metadata={"user": "1", "type": "wallet", "more": "x"})
    desk.account("liability", metadata={"user": "2", "type": "wallet"})
    variables = {
        "wallet": metadata_query(user="{{ event.user }}", type="wallet"),
        "cash": {"type": "account", "query": {"field": "external_id", "operator": "equals", "value": "a"}},
        "other": {"type": "account", "query": {"field": "id", "operator": "equals", "value": "{{ event.other }}"}},
    }
    entry_lines = [
        line("{{ wallet.id }}", "credit", 3),
        line("{{ variables.cash.id }}", "debit", 2),
        line("{{variables.other.id}}", "debit", 1),
    ]
    description = "{{wallet.name}} {{variables.wallet.metadata.more}} {{cash.external_id}} {{cash.currency_exponent}}"
    desk.run(handler(variables=variables, entries=[{"lines": entry_lines, "description": description}]))
    [entry] = told(desk.decide(happened(user="1", other=account(desk, "b"))))["entries"]
    assert [each["account_id"] for each in entry["lines"]] == [jane, account(desk, "a"), account(desk, "b")]
    assert entry["description"] == "Jane's Wallet x a 2"


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("id", NOBODY, f"There is no account with id '{NOBODY}'"),
        ("id", "no id", "There is no account with id 'no id'"),
        ("external_id", "nobody", "There is no account with external_id 'nobody'"),
        ("external_id", "{{ event.empty }}", "There is no account with external_id ''"),
        ("metadata", {"user": "3"}, "There is no account with metadata user = '3' that is open"),
        ("metadata", {"user": "2"}, "There is more than one account with metadata user = '2' that is open"),
    ],
)
def test_not_exactly_one_account_is_refused(desk: Desk, field: str, value: Any, words: str) -> None:
    """It says which variable, what it looked for, and whether there is none or more than one."""
    for _ in range(2):
        desk.account(metadata={"user": "2"})
    operator = "contains" if field == "metadata" else "equals"
    query = {"field": field, "operator": operator, "value": value}
    desk.run(handler(variables={"who": {"type": "account", "query": query}}))
    with pytest.raises(VariableUnresolved) as refused:
        desk.decide(happened(amount=1, empty=""))
    assert refused.value.detail == f"Variable 'who': {words}."


def test_a_handler_of_a_ledger_finds_and_moves_accounts_of_this_ledger_only(desk: Desk) -> None:
    """The same metadata in another ledger is another account."""
    other = desk.run(CreateLedger(name="Other")).resource_id or ""
    here = desk.account("liability", metadata={"user": "1"})
    there = desk.account("liability", metadata={"user": "1"}, ledger_id=other, external_id="there")
    entry_lines = [line("external_id:a", "debit", 1), line("{{ w.id }}", "credit", 1)]
    parts: dict[str, Any] = {"variables": {"w": metadata_query(user="1")}, "entries": [{"lines": entry_lines}]}
    made = desk.run(handler(**parts, ledger_id=desk.ledger_id)).resource_id or ""
    assert told(desk.decide(happened()))["entries"][0]["lines"][1]["account_id"] == here
    by_name = {"w": {"type": "account", "query": {"field": "external_id", "operator": "equals", "value": "there"}}}
    variables = definition(variables=by_name).variables
    desk.run(UpdateEventHandler(handler_id=made, definition={"variables": variables}))
    with pytest.raises(VariableUnresolved, match=f"'there' in ledger {desk.ledger_id}"):
        desk.decide(happened())
    desk.run(SwitchEventHandler(handler_id=made, status="archived"))
    direct = [line(there, "debit", 1), line(there, "credit", 1)]
    desk.run(handler(entries=[{"lines": direct}], ledger_id=desk.ledger_id))
    with pytest.raises(SeveralLedgers) as refused:
        desk.decide(happened())
    assert refused.value.pointer == "/entries/0/lines/0/account_id"


def test_closed_accounts_are_not_found_by_metadata(desk: Desk) -> None:
    """Who closed a wallet may open another with the same marks."""
    first = desk.account("liability", metadata={"user": "1"})
    entry_lines = [line("external_id:a", "debit", 1), line("{{ w.id }}", "credit", 1)]
    desk.run(handler(variables={"w": metadata_query(user="1")}, entries=[{"lines": entry_lines}]))
    desk.run(CloseAccount(account_id=first))
    with pytest.raises(VariableUnresolved):
        desk.decide(happened())
    second = desk.account("liability", metadata={"user": "1"})
    assert told(desk.decide(happened()))["entries"][0]["lines"][1]["account_id"] == second
    desk.run(UpdateAccount(account_id=second, metadata={"user": "2"}))
    with pytest.raises(VariableUnresolved):
        desk.decide(happened())


def test_an_amount_is_rounded_once_and_used_in_several_places(desk: Desk) -> None:
    """So that what is taken and what is given agree, whatever the remainder."""
    desk.account("revenue", external_id="fees")
    fee = {"type": "amount", "value": "{{ event.amount * 0.02 }}"}
    entry_lines = [
        line("external_id:b", "debit", "{{ event.amount }}"),
        line("external_id:a", "credit", "{{ event.amount - fee }}"),
        line("external_id:fees", "credit", "{{ variables.fee }}"),
    ]
    made = desk.run(handler(variables={"fee": fee}, entries=[{"lines": entry_lines}])).resource_id or ""
    assert amounts(desk, happened(amount=1025)) == [[1025, 1005, 20]]
    assert amounts(desk, happened(amount=75)) == [[75, 73, 2]]
    assert amounts(desk, happened(amount="125")) == [[125, 123, 2]]
    desk.run(UpdateEventHandler(handler_id=made, definition={"rounding": "half_up"}))
    assert amounts(desk, happened(amount="125")) == [[125, 122, 3]]


def test_a_line_whose_amount_comes_to_zero_is_left_out(desk: Desk) -> None:
    """A fee of nothing moves nothing; what is left has to be an entry still."""
    desk.account("revenue", external_id="fees")
    with_fee = [*lines(), line("external_id:fees", "credit", "{{ event.fee }}")]
    desk.run(handler(entries=[{"lines": with_fee}]))
    assert amounts(desk, happened(amount=5, fee=0)) == [[5, 5]]
    assert amounts(desk, happened(amount=5, fee="0.5")) == [[5, 5]]
    with pytest.raises(UnbalancedEntry):
        desk.decide(happened(amount=5, fee=1))
    with pytest.raises(ValueUnusable, match="/entries/0/lines has only one line with an amount other than zero"):
        desk.decide(happened(amount=0, fee=1))


def test_an_entry_without_an_amount_is_left_out(desk: Desk) -> None:
    """What else it says is not even looked at; an event of which nothing is left is refused."""
    discount = [{**each, "amount": "{{ event.discount }}"} for each in lines()]
    desk.run(
        handler(
            entries=[{"lines": discount, "description": "{{ event.why }}"}, {"lines": lines()}, {"lines": discount}]
        )
    )
    assert amounts(desk, happened(amount=5, discount=2, why="late")) == [[2, 2], [5, 5], [2, 2]]
    decision = desk.run(happened(amount=5, discount=0))
    assert [[each["amount"] for each in made["lines"]] for made in told(decision)["entries"]] == [[5, 5]]
    assert [each.batch for each in decision.events] == [None, None]
    with pytest.raises(ValueUnusable, match="/entries have no line with an amount other than zero"):
        desk.decide(happened(amount=0, discount=0))


LARGEST = 9_223_372_036_854_775_807


@pytest.mark.parametrize(
    ("parts", "data", "detail"),
    [
        (two_lines(), {"amount": -1}, f"/entries/0/lines/0/amount comes to -1, and an amount is 1 to {LARGEST} minor units."),
        (two_lines(), {"amount": LARGEST + 1}, f"/entries/0/lines/0/amount comes to {LARGEST + 1}, and an amount is 1 to {LARGEST} minor units."),
        (two_lines(amount="{{ event.amount * event.amount }}"), {"amount": 10**25}, f"/entries/0/lines/0/amount comes to a number of more than 38 digits, and an amount is 1 to {LARGEST} minor units."),
        (two_lines(), {"amount": "ten"}, "event.amount is no number; /entries/0/lines/0/amount of the event handler needs it."),
        (two_lines(), {"amount": None}, "event.amount is no number; /entries/0/lines/0/amount of the event handler needs it."),
        (two_lines(account_id="{{ event.who }}"), {"amount": 1, "who": "nobody"}, "/entries/0/lines/0/account_id comes to 'nobody', which is no account's id and no external_id:…."),
        (two_lines(account_id="external_id:{{ event.who }}"), {"amount": 1, "who": ""}, "/entries/0/lines/0/account_id comes to 'external_id:', which is no account's id and no external_id:…."),
        (two_lines(direction="{{ event.way }}"), {"amount": 1, "way": "up"}, "/entries/0/lines/0/direction comes to 'up', and has to be one of debit, credit."),
        (two_lines(metadata={"k": "{{ event.long }}"}), {"amount": 1, "long": "x" * 501}, "/entries/0/lines/0/metadata/k comes to 501 characters, and 500 are allowed."),
        (one_entry(status="{{ event.way }}"), {"amount": 1, "way": "x" * 101}, f"/entries/0/status comes to '{'x' * 100}', and has to be one of posted, pending."),
        (one_entry(description="{{ event.long }}"), {"amount": 1, "long": "x" * 1001}, "/entries/0/description comes to 1001 characters, and 1000 are allowed."),
        (one_entry(external_id="{{ event.long }}"), {"amount": 1, "long": "x" * 181}, "/entries/0/external_id comes to 181 characters, and 180 are allowed."),
        (one_entry(metadata={"a/b": "{{ event.long }}"}), {"amount": 1, "long": "x" * 501}, "/entries/0/metadata/a~1b comes to 501 characters, and 500 are allowed."),
        (one_entry(effective_at="{{ event.day }}"), {"amount": 1, "day": "today"}, "/entries/0/effective_at comes to 'today', which is no RFC 3339 time with an offset."),
        ({"variables": {"fee": {"type": "amount", "value": "{{ event.fee }}"}}, **two_lines(amount="{{ fee }}")}, {"amount": 1}, "event.fee is not there; /variables/fee/value of the event handler needs it."),
        ({"variables": {"w": metadata_query(user="{{ event.user }}")}}, {"amount": 1}, "event.user is not there; /variables/w/query/value/user of the event handler needs it."),
        (one_entry(fx_rate_id="{{ event.rate }}"), {"amount": 1, "rate": "1.1"}, "/entries/0/fx_rate_id comes to '1.1', which is no id."),
        (two_lines(lock_version="{{ event.v }}"), {"amount": 1, "v": -1}, f"/entries/0/lines/0/lock_version comes to -1, and has to be from 0 to {LARGEST}."),
        (two_lines(lock_version="{{ event.v }}"), {"amount": 1, "v": LARGEST + 1}, f"/entries/0/lines/0/lock_version comes to {LARGEST + 1}, and has to be from 0 to {LARGEST}."),
        (two_lines(posted_balance_amount={"gte": "{{ event.v }}"}), {"amount": 1, "v": -LARGEST - 2}, f"/entries/0/lines/0/posted_balance_amount/gte comes to {-LARGEST - 2}, and has to be from {-LARGEST - 1} to {LARGEST}."),
        (two_lines(pending_balance_amount={"eq": "{{ event.v * event.v }}"}), {"amount": 1, "v": 10**25}, f"/entries/0/lines/0/pending_balance_amount/eq comes to a number of more than 38 digits, and has to be from {-LARGEST - 1} to {LARGEST}."),
        (two_lines(available_balance_amount={"lt": "{{ event.v }}"}), {"amount": 1}, "event.v is not there; /entries/0/lines/0/available_balance_amount/lt of the event handler needs it."),
        (two_lines(amount="{{ event.amount / event.zero }}"), {"amount": 1, "zero": 0}, "A division is by zero; /entries/0/lines/0/amount of the event handler needs it."),
    ],
)  # fmt: skip
def test_what_comes_to_no_use_is_refused(desk: Desk, parts: dict[str, Any], data: dict[str, Any], detail: str) -> None:
    """With the template that needed it."""
    desk.run(handler(**parts))
    with pytest.raises(ValueUnusable) as refused:
        desk.decide(happened(**data))
    assert refused.value.detail == detail


def test_every_part_of_an_entry_may_be_a_template(desk: Desk) -> None:
    """And comes out as if it had been sent."""
    parts = {
        "status": "{{ event.status }}",
        "description": "For {{ event.who }}",
        "effective_at": "{{ event.day }}T00:00:00Z",
        "external_id": "top-up-{{ event.no }}",
        "metadata": {"who": "{{ event.who }}", "plain": "text"},
        "lines": [
            line(
                "external_id:{{ event.to }}", "{{ event.way }}", "{{ event.amount }}", metadata={"no": "{{ event.no }}"}
            ),
            line("external_id:b", "credit", 5),
        ],
    }
    desk.run(handler(entries=[parts]))
    data = {"status": "pending", "who": "Jane", "day": "2025-01-02", "no": 7, "to": "a", "way": "debit", "amount": 5}
    [entry] = told(desk.decide(happened(**data)))["entries"]
    assert (entry["status"], entry["description"], entry["external_id"]) == ("pending", "For Jane", "top-up-7")
    assert (entry["effective_at"], entry["metadata"]) == (
        "2025-01-02T00:00:00.000000Z",
        {"who": "Jane", "plain": "text"},
    )
    assert (entry["lines"][0]["metadata"], entry["lines"][0]["account_id"]) == ({"no": "7"}, account(desk, "a"))


@pytest.mark.parametrize(("operator", "compare"), [("gt", gt), ("gte", ge), ("lt", lt), ("lte", le), ("eq", eq)])
@pytest.mark.parametrize("balance", ["available", "pending", "posted"])
def test_a_line_demands_what_its_template_says(
    desk: Desk, balance: str, operator: str, compare: Callable[[int, int], bool]
) -> None:
    """Of the balance after the entry, as a line that was sent would; the refusal names the place in the entry as made."""
    demanded = {f"{balance}_balance_amount": {operator: "{{ event.bound - 1 }}"}}
    desk.run(handler(**two_lines(**demanded)))
    for bound in (4, 5, 6):
        event = happened(amount=5, bound=bound + 1)
        if compare(5, bound):
            assert amounts(desk, event) == [[5, 5]]
            continue
        with pytest.raises(ConditionFailed) as refused:
            desk.decide(event)
        assert refused.value.pointer == f"/entries/0/lines/0/{balance}_balance_amount/{operator}"


def test_several_demands_of_a_line_all_have_to_hold(desk: Desk) -> None:
    """Literal ones too, negative ones too, and a null demands nothing."""
    both = {"gte": -5, "lte": "-5", "gt": None}
    parts = [line("external_id:b", "debit", 5, posted_balance_amount=both, lock_version="{{ event.version }}"),
             line("external_id:a", "credit", 5, pending_balance_amount=None, lock_version=None)]  # fmt: skip
    desk.run(handler(entries=[{"lines": parts}]))
    assert amounts(desk, happened(version=1)) == [[5, 5]]
    with pytest.raises(LockVersionConflict) as refused:
        desk.decide(happened(version=2))
    assert refused.value.pointer == "/entries/0/lines/0/lock_version"
    desk.run(happened(version=1))
    with pytest.raises(ConditionFailed):
        desk.decide(happened(version=2))


def test_an_event_is_exchanged_at_the_rate_that_its_handler_names(desk: Desk) -> None:
    """Two entries of one event pass through the same accounts, which the first one opens; a trial shows them and opens none."""
    desk.account("liability", "USD", external_id="usd")
    rate = desk.run(CreateFxRate(base="EUR", quote="USD", rate="1.1")).resource_id or ""
    exchange = [line("external_id:b", "debit", "{{ event.amount }}"),
                line("external_id:usd", "credit", "{{ event.amount * event.rate }}")]  # fmt: skip
    entry = {"lines": exchange, "fx_rate_id": "{{ event.rate_id }}"}
    desk.run(handler(entries=[entry, entry], rounding="down"))
    event = happened(amount=15, rate="1.1", rate_id=rate)
    clearing = (desk.ledger_id, "fx_clearing", "USD", 2)
    tried = told(desk.run(Validate(command=event)))
    assert desk.books.purposeful(*clearing) is None
    decision = desk.run(event)
    assert [event.type for event in decision.events].count("account.created") == 2
    assert amounts(desk, event) == [[15, 16, 15, 16], [15, 16, 15, 16]]
    assert [each["fx_rate_id"] for each in [*tried["entries"], *told(decision)["entries"]]] == [rate] * 4
    assert desk.totals(desk.books.purposeful(*clearing) or "") == (32, 0, 0, 0)
    with pytest.raises(FxRateRequired) as refused:
        desk.decide(happened(amount=15, rate="1.1", rate_id=""))
    assert refused.value.pointer == "/entries/0/lines"


def test_an_entry_takes_effect_when_its_event_does(desk: Desk) -> None:
    """Unless its template says otherwise."""
    desk.run(handler())
    at = 1_735_787_045_000_000
    answer = told(desk.decide(replace(happened(amount=1), effective_at=at)))
    assert answer["effective_at"] == answer["entries"][0]["effective_at"] == "2025-01-02T03:04:05.000000Z"
    assert answer["created_at"] != answer["effective_at"]


def test_an_external_id_that_comes_to_nothing_is_none(desk: Desk) -> None:
    """Two events without a number do not collide."""
    desk.run(handler(**one_entry(external_id="{{ event.no }}")))
    assert told(desk.decide(happened(amount=1, no="")))["entries"][0]["external_id"] is None


def test_an_account_that_is_not_there_is_named(desk: Desk) -> None:
    """As posting the entry would."""
    desk.run(handler(**two_lines(account_id="external_id:{{ event.who }}")))
    with pytest.raises(AccountNotFound) as refused:
        desk.decide(happened(amount=1, who="nobody"))
    assert [each.pointer for each in refused.value.faults()] == ["/entries/0/lines/0/account_id"]


def test_a_trial_says_what_would_happen_and_changes_nothing(desk: Desk) -> None:
    """The same answer but for ids, no events, no rows; what would be refused is refused the same."""
    desk.run(handler())
    before = desk.totals(account(desk, "a"))
    trial = desk.run(Validate(command=happened(amount=5)))
    assert (trial.events, trial.entries, trial.lines, trial.totals, trial.resources) == ([], [], [], {}, [])
    assert desk.totals(account(desk, "a")) == before
    real = told(desk.run(happened(amount=5)))
    tried = told(trial)
    assert tried["entries"][0]["lines"][0]["resulting_balances"] == real["entries"][0]["lines"][0]["resulting_balances"]
    with pytest.raises(NoHandlerMatches):
        desk.run(Validate(command=happened("Other")))


def test_a_handler_is_tried_on_a_sample_alone(desk: Desk) -> None:
    """Whatever other handlers there are, and although it is none yet."""
    desk.run(handler("There already"))
    other = handler("Another", entries=[{"lines": lines("{{ event.amount + 1 }}")}])
    answer = told(desk.run(TryEventHandler(handler=other, event=happened(amount=1))))
    assert answer["event_handler"]["name"] == "Another"
    assert [each["amount"] for each in answer["business_event"]["entries"][0]["lines"]] == [2, 2]
    assert told(desk.run(TryEventHandler(handler=other)))["business_event"] is None
    assert amounts(desk, happened(amount=1)) == [[1, 1]]


@pytest.mark.parametrize(
    ("parts", "event", "error", "pointer"),
    [
        ({"conditions": {}}, happened(amount=1), HandlerInvalid, "/event_handler/conditions"),
        ({"ledger_id": NOBODY}, happened(amount=1), NotFound, "/event_handler/ledger_id"),
        ({}, happened("Other", amount=1), NoHandlerMatches, "/business_event"),
        ({}, happened(), ValueUnusable, "/business_event/custom_data/amount"),
        (two_lines(amount=3), happened(amount=1), UnbalancedEntry, "/business_event/entries/0/lines"),
    ],
)
def test_a_trial_names_what_is_wrong_in_its_own_request(
    desk: Desk, parts: dict[str, Any], event: PostBusinessEvent, error: type[Refused], pointer: str
) -> None:
    """The handler's faults below the handler, the event's below the event."""
    with pytest.raises(error) as refused:
        desk.run(TryEventHandler(handler=handler(**parts), event=event))
    assert refused.value.pointer == pointer
    if isinstance(refused.value, HandlerInvalid):
        assert [each.pointer for each in refused.value.faults()] == [pointer]


def test_custom_data_is_shown_as_it_was_sent(desk: Desk) -> None:
    """Numbers that a database would write otherwise included."""
    desk.run(handler())
    data = {"amount": 1, "large": 1e22, "small": 1.5, "z": None, "a": [True, {"ü": "\u2028"}]}
    answer = desk.run(happened(**data)).answer
    assert msgspec.json.encode(data) in answer
