"""The walk that finds every fault agrees with the decoder about whether there is one, and points at what is there."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from delivery.shapes import EndpointChange, EndpointCreate
from gateway.bodies import AccountChange, AccountCreate, ApiKeyCreate, LedgerCreate
from gateway.entry_bodies import EntryBatchCreate, EntryChange, EntryCreate, EntryReverse
from gateway.event_bodies import EventHandlerCreate
from gateway.faults import FAULTS_MAX, escape, find_faults, text_faults
from gateway.fx_rates import FxRateCreate

SHAPES: list[type[msgspec.Struct]] = [
    AccountChange,
    AccountCreate,
    ApiKeyCreate,
    EndpointChange,
    EndpointCreate,
    EntryBatchCreate,
    EntryChange,
    EntryCreate,
    EventHandlerCreate,
    LedgerCreate,
]
CONVERT = msgspec.convert
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5)
    | st.sampled_from(
        ["debit", "USD", "posted", "2026-11-21T10:00:00Z", "external_id:a", "entry.*", "https://a.example"]
    )
)
NAMES = sorted(
    {each.encode_name for shape in SHAPES for each in msgspec.structs.fields(shape)} | {"direction", "amount"}
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=3), inner, max_size=5)
    ),
    max_leaves=10,
)


def resolve(value: Any, pointer: str) -> Any:
    """Return what a JSON pointer leads to; raises where it leads nowhere."""
    for token in pointer.split("/")[1:]:
        name = token.replace("~1", "/").replace("~0", "~")
        value = value[int(name)] if isinstance(value, list) else value[name]
    return value


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.__name__)
@given(value=st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=6) | VALUES)
def test_faults_are_found_exactly_where_the_decoder_refuses(shape: type[msgspec.Struct], value: Any) -> None:
    """No body is refused without a reason, and none that is right has a fault."""
    try:
        msgspec.convert(value, shape)
    except msgspec.ValidationError:
        refused = True
    else:
        refused = False
    assert bool(find_faults(value, shape)) == refused


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.__name__)
@given(value=st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=6) | VALUES)
def test_every_pointer_leads_somewhere(shape: type[msgspec.Struct], value: Any) -> None:
    """A fault points at a value of the body, or at a field that its object lacks."""
    for fault in find_faults(value, shape):
        if fault.code == "validation.required_field_missing":
            parent, _, name = fault.pointer.rpartition("/")
            assert name not in resolve(value, parent)
        else:
            resolve(value, fault.pointer)
        assert fault.detail.endswith(".")


@pytest.mark.parametrize(
    ("value", "faults"),
    [
        ({"name": "x" * 201}, [("validation.out_of_range", "/name")]),
        ({"name": "a", "metadata": {str(n): "" for n in range(51)}}, [("validation.out_of_range", "/metadata")]),
        ({"name": 3, "z": 1}, [("validation.invalid_type", "/name"), ("validation.unknown_field", "/z")]),
        ({}, [("validation.required_field_missing", "/name")]),
        ([], [("validation.invalid_type", "")]),
    ],
)
def test_a_fault_has_the_code_of_its_kind(value: Any, faults: list[tuple[str, str]]) -> None:
    """Missing, unknown, of another type, out of range: a program can tell them apart."""
    assert [(fault.code, fault.pointer) for fault in find_faults(value, LedgerCreate)] == faults


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        ({"lines": 5}, "Expected an array, got an integer."),
        ({"lines": []}, "Expected an array of at least 2 items."),
        ({"description": "x" * 2000}, "Expected a string of at most 1000 characters."),
        ({"description": False}, "Expected a string or null, got a boolean."),
        ({"external_id": ""}, "Expected a string of at least 1 character."),
        ({"status": "done" * 1000}, f"'{'done' * 15}' is not one of posted, pending."),
        ({"metadata": {"k": 1.5}}, "Expected a string, got a number."),
        ({"metadata": {str(n): "" for n in range(51)}}, "Expected an object of at most 50 items."),
    ],
)
def test_a_fault_says_what_is_taken_in_the_words_of_json(body: dict[str, Any], detail: str) -> None:
    """Who reads it knows no Python, and learns what to send instead."""
    assert [fault.detail for fault in find_faults({"lines": [{}, {}]} | body, EntryCreate) if "/0" not in fault.pointer
            and "/1" not in fault.pointer] == [detail]  # fmt: skip


@pytest.mark.parametrize(
    ("shape", "body", "faults"),
    [
        (
            EntryChange,
            {"lines": [{"account_id": "x"}, {"direction": "up", "z": 1}]},
            ["/lines/0/account_id", "/lines/0/direction", "/lines/0/amount",
             "/lines/1/account_id", "/lines/1/direction", "/lines/1/amount", "/lines/1/z"],
        ),
        (EntryReverse, {"lines": [{}]}, ["/lines/0/id", "/lines/0/amount"]),
        (EntryCreate, {"lines": [{}, {}], "metadata": {"": "v", "a/b": 1, "c": "v" * 501}}, ["/metadata/", "/metadata/a~1b", "/metadata/c"]),
        (AccountChange, {"limits": [{"at_least": 1.5}, {"balance": "held"}]}, ["/limits/0/balance", "/limits/0/at_least", "/limits/1/balance"]),
        (
            EventHandlerCreate,
            {"variables": {"event": {}, "w": {"type": "account", "query": {"field": "name", "operator": "equals", "value": {"k": 1}}}}},
            ["/variables/event", "/variables/w/query/field", "/variables/w/query/value/k"],
        ),
        (EventHandlerCreate, {"conditions": {"not": {"and": [{"operator": "like"}, 5]}}}, ["/conditions/not/and/0/operator", "/conditions/not/and/1"]),
    ],
)  # fmt: skip
def test_all_faults_are_found_also_behind_what_may_be_left_out(
    shape: type[msgspec.Struct], body: dict[str, Any], faults: list[str]
) -> None:
    """In lists and objects that may be absent or null too, each fault is named at its own place, none hides another."""
    assert set(faults) <= {fault.pointer for fault in find_faults(body, shape)}


@pytest.mark.parametrize(
    ("shape", "body", "detail"),
    [
        (AccountCreate, {"currency": "usd"}, "'usd' has another form than is expected here: A code of ISO 4217"),
        (EntryCreate, {"lines": [{"account_id": "cash"}, {}]}, "'cash' has another form than is expected here: An account's id, or"),
        (FxRateCreate, {"rate": "1,5"}, "'1,5' has another form than is expected here: What one unit of the base currency"),
        (EventHandlerCreate, {"variables": {"event": {}}}, "The name of a field here: 'event' has another form than"),
    ],
)  # fmt: skip
def test_what_has_the_wrong_form_is_told_the_right_one(
    shape: type[msgspec.Struct], body: dict[str, Any], detail: str
) -> None:
    """In words, not in a regular expression."""
    details = [fault.detail for fault in find_faults(body, shape)]
    assert any(each.startswith(detail) for each in details)
    assert not any("that matches" in each for each in details)


def test_a_value_that_is_not_one_of_the_choices_is_invalid() -> None:
    """Also where a pattern says what the choices are."""
    body = {"ledger_id": "x", "name": "a", "type": "cash", "currency": "usd"}
    assert [(fault.code, fault.pointer) for fault in find_faults(body, AccountCreate)] == [
        ("validation.invalid_value", "/ledger_id"),
        ("validation.invalid_value", "/type"),
        ("validation.invalid_value", "/currency"),
    ]


@pytest.mark.parametrize("currency", ["USD\n", "US", "usd", "1SD", "U" * 17])
def test_a_line_end_is_no_part_of_a_code(currency: str) -> None:
    """What a pattern's end means in Python lets no line end in."""
    body = {"ledger_id": "01a1fcea-c843-7000-8084-afb8be9e573c", "name": "a", "type": "asset", "currency": currency}
    assert [fault.pointer for fault in find_faults(body, AccountCreate)] == ["/currency"]


def test_the_list_of_faults_has_an_end() -> None:
    """A thousand wrong lines do not make an answer larger than the request."""
    line = {"account_id": "", "direction": "", "amount": 0}
    assert len(find_faults({"lines": [line] * 1000}, EntryCreate)) == FAULTS_MAX
    assert len(text_faults(["\x00"] * 1000)) == FAULTS_MAX


def test_what_is_nested_without_end_is_one_fault() -> None:
    """A body that is just shallow enough to be read does not bring down who looks for its faults."""
    for depth in (200, 900, 980):
        conditions: dict[str, Any] = {"field": 5}
        for _ in range(depth):
            conditions = {"not": conditions}
        details = [fault.detail for fault in find_faults({"conditions": conditions}, EventHandlerCreate)]
        assert details[0] == "This is nested too deeply."


def test_what_is_right_is_passed_over() -> None:
    """A fault at the end of a large body is found without looking at everything before it one by one."""
    line = {"account_id": "external_id:a", "direction": "debit", "amount": 1, "metadata": {"k": "v"}}
    body = {"entries": [{"lines": [line, line]} for _ in range(999)] + [{"lines": [line, {**line, "amount": 0}]}]}
    looked_at = 0

    def looking(*given: Any) -> Any:
        nonlocal looked_at
        looked_at += 1
        return CONVERT(*given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(msgspec, "convert", looking)
        [fault] = find_faults(body, EntryBatchCreate)
    assert fault.pointer == "/entries/999/lines/1/amount"
    assert looked_at < 1_100


@given(st.text(max_size=10))
def test_a_token_of_a_pointer_is_escaped(name: str) -> None:
    """Escaped once, it is one token and reads back as it was (RFC 6901)."""
    token = escape(name)
    assert "/" not in token
    assert token.replace("~1", "/").replace("~0", "~") == name
