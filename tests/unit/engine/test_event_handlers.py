"""Event handlers: what a definition may be, everything that is wrong with one that may not, and how handlers change."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from engine.definitions import Definition
from engine.errors import NotFound, PreconditionFailed
from engine.event_commands import CreateEventHandler, SwitchEventHandler, UpdateEventHandler
from engine.event_errors import HandlerInvalid
from engine.event_handlers import compiled
from tests.unit.engine.desk import Desk, told
from tests.unit.engine.handling import TOP_UP, definition, handler, line, lines, metadata_query

ACCOUNT = {"type": "account", "query": {"field": "id", "operator": "equals", "value": "{{ event.account }}"}}
FEE = {"type": "amount", "value": "{{ event.amount * 0.02 }}"}


@pytest.fixture
def desk() -> Desk:
    """Books with one ledger."""
    return Desk()


def faults(**parts: Any) -> list[tuple[str, str]]:
    """Return what is wrong with a definition: places and sentences."""
    with pytest.raises(HandlerInvalid) as refused:
        compiled(msgspec.json.encode(definition(**parts)).decode())
    assert {each.code for each in refused.value.faults()} <= {"validation.invalid_template", "validation.out_of_range"}
    return [(each.pointer, each.detail) for each in refused.value.faults()]


def in_entry(**parts: Any) -> dict[str, Any]:
    """Return the parts of a definition with one entry of these parts."""
    return {"entries": [{"lines": lines(), **parts}]}


def in_line(**parts: Any) -> dict[str, Any]:
    """Return the parts of a definition whose first line has these parts."""
    return {"entries": [{"lines": [{**lines()[0], **parts}, lines()[1]]}]}


AN_AMOUNT = "At character 1: an amount is one '{{ expression }}' or a whole number, with nothing beside it."
NO_PATH = "paths begin with 'event.' or name a variable"
OF_ACCOUNT = (
    "of an account there are id, ledger_id, name, description, type, normal_balance, currency, currency_exponent, code, "
    "external_id and metadata.KEY."
)


@pytest.mark.parametrize(
    ("parts", "pointer", "detail"),
    [
        (in_line(account_id="{{ x"), "/entries/0/lines/0/account_id", "At character 5: expected an operator or '}}', found the end."),
        (in_line(amount="ten"), "/entries/0/lines/0/amount", AN_AMOUNT),
        (in_line(amount="{{event.a}}0"), "/entries/0/lines/0/amount", AN_AMOUNT),
        (in_line(amount="-1"), "/entries/0/lines/0/amount", AN_AMOUNT),
        (in_line(lock_version="-1"), "/entries/0/lines/0/lock_version", AN_AMOUNT),
        (in_line(lock_version="one"), "/entries/0/lines/0/lock_version", AN_AMOUNT),
        (in_line(pending_balance_amount={"gt": "{{ fee }}", "lt": "-5"}), "/entries/0/lines/0/pending_balance_amount/gt", f"There is no 'fee': {NO_PATH} (none)."),
        (in_line(available_balance_amount={"eq": "--5"}), "/entries/0/lines/0/available_balance_amount/eq", AN_AMOUNT),
        (in_entry(fx_rate_id="{{ rate }}"), "/entries/0/fx_rate_id", f"There is no 'rate': {NO_PATH} (none)."),
        (in_line(direction="up"), "/entries/0/lines/0/direction", "One of debit, credit, or a template that comes to one of them."),
        (in_line(metadata={"a/b": "{{"}), "/entries/0/lines/0/metadata/a~1b", "At character 3: expected a number, a path, a function or '(', found the end."),
        (in_entry(status="archived"), "/entries/0/status", "One of posted, pending, or a template that comes to one of them."),
        (in_entry(description="{{ fee }}"), "/entries/0/description", f"There is no 'fee': {NO_PATH} (none)."),
        (in_entry(effective_at="{{ event }}"), "/entries/0/effective_at", "'event' is the whole event: name a field of it."),
        (in_entry(external_id="{{ variables }}"), "/entries/0/external_id", f"There is no 'variables': {NO_PATH} (none)."),
        (in_entry(metadata={"k": "{{ variables.no }}"}), "/entries/0/metadata/k", f"There is no 'variables.no': {NO_PATH} (none)."),
        ({**in_entry(description="{{ a }}"), "variables": {"a": ACCOUNT}}, "/entries/0/description", f"'a': {OF_ACCOUNT}"),
        ({**in_entry(description="{{ a.secret }}"), "variables": {"a": ACCOUNT}}, "/entries/0/description", f"'a.secret': {OF_ACCOUNT}"),
        ({**in_entry(description="{{ a.name.x }}"), "variables": {"a": ACCOUNT}}, "/entries/0/description", f"'a.name.x': {OF_ACCOUNT}"),
        ({**in_entry(description="{{ a.metadata }}"), "variables": {"a": ACCOUNT}}, "/entries/0/description", f"'a.metadata': {OF_ACCOUNT}"),
        ({**in_entry(description="{{ b }}"), "variables": {"a": ACCOUNT, "fee": FEE}}, "/entries/0/description", f"There is no 'b': {NO_PATH} (a, fee)."),
        ({**in_entry(description="{{ fee.x }}"), "variables": {"fee": FEE}}, "/entries/0/description", "'fee.x': 'fee' is an amount and has no fields."),
        ({"conditions": {**TOP_UP, "field": "name"}}, "/conditions/field", "'name' is no path into the event: here a path begins with 'event.'."),
        ({"conditions": {**TOP_UP, "field": "event"}}, "/conditions/field", "'event' is the whole event: name a field of it."),
        ({"conditions": {}}, "/conditions", "A condition is a field, an operator and a value, or one of 'and', 'or' and 'not'."),
        ({"variables": {"a": {"type": "account"}}}, "/variables/a", "A variable of type 'account' has a 'query' and no 'value'."),
        ({"variables": {"a": {**ACCOUNT, "value": "1"}}}, "/variables/a", "A variable of type 'account' has a 'query' and no 'value'."),
        ({"variables": {"a": {"type": "amount"}}}, "/variables/a", "A variable of type 'amount' has a 'value' and no 'query'."),
        ({"variables": {"a": {**ACCOUNT, **FEE}}}, "/variables/a", "A variable of type 'amount' has a 'value' and no 'query'."),
        ({"variables": {"a": metadata_query()}}, "/variables/a/query/value", "'metadata' takes an object with at least one pair, 'id' and 'external_id' take text."),
        ({"variables": {"a": metadata_query(k="{{ a.id }}")}}, "/variables/a/query/value/k", "'a.id' is no path into the event: here a path begins with 'event.'."),
        ({"variables": {"a": {"type": "amount", "value": "{{ a }}"}}}, "/variables/a/value", "The amount 'a' is worked out from itself."),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_with_its_place(parts: dict[str, Any], pointer: str, detail: str) -> None:
    """When the handler is made, not when the first event comes."""
    assert faults(**parts) == [(pointer, detail)]


@pytest.mark.parametrize(
    ("field", "operator", "value", "where"),
    [
        ("id", "contains", "x", "operator"),
        ("external_id", "contains", "x", "operator"),
        ("metadata", "equals", {"k": "v"}, "operator"),
        ("id", "equals", {"k": "v"}, "value"),
        ("external_id", "equals", "", "value"),
        ("metadata", "contains", "x", "value"),
    ],
)
def test_a_query_is_of_one_of_three_kinds(field: str, operator: str, value: Any, where: str) -> None:
    """An id, an external id, or metadata."""
    query = {"field": field, "operator": operator, "value": value}
    [(pointer, _)] = faults(variables={"a": {"type": "account", "query": query}})
    assert pointer == f"/variables/a/query/{where}"


def test_amounts_that_go_in_circles_are_all_named() -> None:
    """Those beside the circle are not; one that leads into it cannot be worked out either."""

    def amount(expression: str) -> dict[str, str]:
        return {"type": "amount", "value": f"{{{{ {expression} }}}}"}

    circle = {"a": amount("variables.b"), "b": amount("c + 1"), "c": amount("max(a, 1)"), "d": amount("a")}
    fine = {"e": amount("f * 2"), "f": amount("event.x"), "g": amount("variables.e + f")}
    assert [pointer for pointer, _ in faults(variables={**circle, **fine})] == [
        f"/variables/{name}/value" for name in "abcd"
    ]


def test_everything_that_is_wrong_is_named() -> None:
    """Not the first thing only; the sentence says how many more there are."""
    parts = {
        **in_line(amount="x", direction="y", account_id="{{"),
        "conditions": {},
        "variables": {"a": {"type": "amount"}},
    }
    assert [pointer for pointer, _ in faults(**parts)] == [
        "/conditions",
        "/variables/a",
        "/entries/0/lines/0/account_id",
        "/entries/0/lines/0/direction",
        "/entries/0/lines/0/amount",
    ]
    with pytest.raises(HandlerInvalid, match="And 4 more, see errors") as refused:
        compiled(msgspec.json.encode(definition(**parts)).decode())
    assert refused.value.pointer == "/conditions"


def test_a_direction_that_cannot_be_read_has_one_fault() -> None:
    """What it would come to is not asked any more."""
    [(_, detail)] = faults(**in_line(direction="{{ x"))
    assert detail.startswith("At character 5")


def test_too_many_lines_are_refused() -> None:
    """All entries of a handler together have at most 200."""
    pairs = [line("external_id:a", "debit", 1), line("external_id:b", "credit", 1)]
    assert faults(entries=[{"lines": pairs * 100}, {"lines": pairs}]) == [
        ("/entries", "The entries of a handler have at most 200 lines together.")
    ]
    compiled(msgspec.json.encode(definition(entries=[{"lines": pairs * 50}] * 2)).decode())


def test_too_much_arithmetic_is_refused() -> None:
    """A handler's expressions have at most 2,000 parts together, so that no event holds the books up."""
    full = "+".join(["1"] * 32)
    metadata = {str(index): f"{{{{{full}}}}}" for index in range(32)}
    entry = {"lines": lines(1), "metadata": metadata}
    assert faults(entries=[entry]) == [("", "The expressions have 2016 parts together; at most 2000 are allowed.")]
    metadata["0"] = "{{" + "+".join(["1"] * 24) + "}}"
    compiled(msgspec.json.encode(definition(entries=[entry])).decode())


def test_a_definition_that_is_too_long_is_refused() -> None:
    """It is read for every event that it may match."""
    entry = {"lines": lines(1), "metadata": {str(index): "x" * 1000 for index in range(50)}}
    assert faults(entries=[entry, entry]) == [
        ("", "A handler's definition has at most 65536 characters of JSON."),
    ]


@pytest.mark.parametrize(
    "name", ["event", "ledgerable_event", "variables", "", "1a", "a-b", "a.b", "é", "a" * 51, "a\n"]
)
def test_what_is_no_name_of_a_variable_is_refused(name: str) -> None:
    """A path could not tell it from what there is already, or not be written at all."""
    with pytest.raises(msgspec.ValidationError):
        definition(variables={name: FEE})
    definition(variables={"events": FEE, "Event": FEE, "_": FEE, "a" * 50: FEE})


def test_a_handler_is_made_active(desk: Desk) -> None:
    """As it was sent, with what was left out filled in; one event tells of it."""
    decision = desk.run(handler("Fees", variables={"fee": FEE}, rounding="up"))
    answer = told(decision)
    assert (answer["name"], answer["status"], answer["lock_version"], answer["ledger_id"]) == (
        "Fees",
        "active",
        1,
        None,
    )
    assert (answer["variables"], answer["rounding"], answer["conditions"]) == ({"fee": FEE}, "up", TOP_UP)
    assert answer["entries"][0]["status"] == "posted"
    [event] = decision.events
    assert (event.type, event.resource_type, event.resource_id) == (
        "event_handler.created",
        "event_handler",
        answer["id"],
    )
    assert event.data == decision.answer


def test_a_handler_of_no_ledger_there_is_is_refused(desk: Desk) -> None:
    """The ledger that it names has to be there."""
    nowhere = desk.ledger_id[:-1] + "f"
    with pytest.raises(NotFound) as refused:
        desk.run(handler(ledger_id=nowhere))
    assert refused.value.pointer == "/ledger_id"
    assert told(desk.run(handler(ledger_id=desk.ledger_id)))["ledger_id"] == desk.ledger_id


def test_a_handler_that_cannot_be_is_not_made(desk: Desk) -> None:
    """Nor changed into one."""
    with pytest.raises(HandlerInvalid):
        desk.run(handler(conditions={}))
    made = desk.run(handler()).resource_id or ""
    bad = definition(**in_line(amount="x")).entries
    with pytest.raises(HandlerInvalid):
        desk.run(UpdateEventHandler(handler_id=made, definition={"entries": bad}))


def test_a_change_makes_a_version_and_tells_what_was_there(desk: Desk) -> None:
    """What is left out stays."""
    first = desk.run(CreateEventHandler(name="One", definition=definition(variables={"fee": FEE}), description="d"))
    desk.now_us += 5_000_000
    change = UpdateEventHandler(
        handler_id=first.resource_id or "",
        name="Two",
        description=None,
        definition={"rounding": "down", "variables": {}},
        if_match=1,
    )
    decision = desk.run(change)
    before, after = told(first), told(decision)
    assert (after["name"], after["description"], after["rounding"], after["variables"]) == ("Two", None, "down", {})
    assert (after["lock_version"], after["entries"], after["metadata"]) == (2, before["entries"], {})
    assert after["updated_at"] != before["updated_at"]
    [event] = decision.events
    assert event.type == "event_handler.updated"
    assert msgspec.json.decode(event.previous or b"") == {
        "name": "One",
        "description": "d",
        "rounding": "half_even",
        "variables": {"fee": FEE},
    }


def test_a_change_that_changes_nothing_makes_no_version(desk: Desk) -> None:
    """And no event."""
    made = desk.run(handler())
    same = UpdateEventHandler(handler_id=made.resource_id or "", name="Top ups", definition={"rounding": "half_even"})
    decision = desk.run(same)
    assert (decision.events, decision.answer, decision.lock_version) == ([], made.answer, 1)
    assert desk.run(SwitchEventHandler(handler_id=made.resource_id or "", status="active")).events == []


def test_a_handler_is_archived_and_activated(desk: Desk) -> None:
    """Each is a version, so that an event's version says what was in force."""
    made = desk.run(handler()).resource_id or ""
    versions = [told(desk.run(SwitchEventHandler(handler_id=made, status=status))) for status in ("archived", "active")]
    assert [(each["status"], each["lock_version"]) for each in versions] == [("archived", 2), ("active", 3)]


def test_what_is_not_there_or_at_another_version_is_not_changed(desk: Desk) -> None:
    """By whichever command."""
    made = desk.run(handler()).resource_id or ""
    with pytest.raises(PreconditionFailed):
        desk.run(UpdateEventHandler(handler_id=made, name="x", if_match=2))
    with pytest.raises(PreconditionFailed):
        desk.run(SwitchEventHandler(handler_id=made, status="archived", if_match=2))
    with pytest.raises(NotFound):
        desk.run(UpdateEventHandler(handler_id=desk.ledger_id, name="x"))


def test_a_definition_is_read_once() -> None:
    """The same text is the same handler, however often it is asked for."""
    text = msgspec.json.encode(definition()).decode()
    assert compiled(text) is compiled(text)
    assert msgspec.json.decode(text, type=Definition) == definition()
