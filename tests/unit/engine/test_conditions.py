"""Conditions: when each holds, what is wrong with one that cannot be, and which name it demands."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from engine.conditions import check, demanded_name, holds, same
from engine.definitions import EventCondition
from engine.event_errors import ValueUnusable
from engine.expressions import Path

EVENT: dict[str, Any] = {
    "event.name": "Top Up",
    "event.amount": 1500,
    "event.text": "1500",
    "event.decimal": 10.5,
    "event.flag": True,
    "event.null": None,
    "event.list": [1, {"a": 1.0}],
}


def lookup(path: Path) -> Any:
    """Return a value of the table above."""
    if path.text not in EVENT:
        raise ValueUnusable(path.text, "is not there")
    return EVENT[path.text]


def made(**parts: Any) -> EventCondition:
    """Return a condition from what a client sends."""
    renamed = {{"and_": "and", "or_": "or", "not_": "not"}.get(name, name): value for name, value in parts.items()}
    return msgspec.convert(renamed, EventCondition)


def compare(field: str, operator: str, value: Any) -> dict[str, Any]:
    """Return a comparison as a client sends it."""
    return {"field": field, "operator": operator, "value": value}


YES = compare("event.name", "equals", "Top Up")
NO = compare("event.name", "equals", "Withdrawal")


@pytest.mark.parametrize(
    ("field", "operator", "value", "expected"),
    [
        ("event.name", "equals", "Top Up", True),
        ("event.name", "equals", "top up", False),
        ("event.amount", "equals", 1500, True),
        ("event.amount", "equals", 1500.0, True),
        ("event.amount", "equals", "1500", False),
        ("event.text", "equals", 1500, False),
        ("event.flag", "equals", True, True),
        ("event.flag", "equals", 1, False),
        ("event.amount", "equals", True, False),
        ("event.null", "equals", None, True),
        ("event.null", "equals", False, False),
        ("event.list", "equals", [1, {"a": 1}], True),
        ("event.list", "equals", [1], False),
        ("event.list", "equals", [1, {"b": 1}], False),
        ("event.list", "equals", [1, {"a": 2}], False),
        ("event.name", "in", ["x", "Top Up"], True),
        ("event.name", "in", ["x"], False),
        ("event.name", "in", [], False),
        ("event.amount", "in", ["1500", 1500], True),
        ("event.amount", "gt", 1499, True),
        ("event.amount", "gt", 1500, False),
        ("event.amount", "gte", 1500, True),
        ("event.amount", "gte", 1501, False),
        ("event.amount", "lt", 1501, True),
        ("event.amount", "lt", 1500, False),
        ("event.amount", "lte", 1500, True),
        ("event.amount", "lte", 1499, False),
        ("event.text", "gt", "200", True),
        ("event.text", "lt", 1500.5, True),
        ("event.decimal", "gte", "10.50", True),
        ("event.name", "gt", 1, False),
        ("event.name", "lte", 1, False),
        ("event.flag", "gte", 0, False),
        ("event.missing", "equals", None, False),
        ("event.missing", "in", [None], False),
        ("event.missing", "lt", 1, False),
    ],
)
def test_a_comparison_holds_or_not(field: str, operator: str, value: Any, expected: bool) -> None:
    """Types are kept apart, numbers are numbers, what is not there is not compared."""
    assert holds(made(**compare(field, operator, value)), lookup) is expected


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ({"and": [YES, YES]}, True),
        ({"and": [YES, NO]}, False),
        ({"or": [NO, YES]}, True),
        ({"or": [NO, NO]}, False),
        ({"not": NO}, True),
        ({"not": YES}, False),
        ({"not": compare("event.missing", "equals", 1)}, True),
        ({"and": [{"or": [NO, YES]}, {"not": {"and": [YES, NO]}}]}, True),
    ],
)
def test_conditions_are_joined(condition: dict[str, Any], expected: bool) -> None:
    """By and, or, not, as deep as is allowed."""
    assert holds(made(**condition), lookup) is expected


def faults(**condition: Any) -> list[tuple[str, str, str]]:
    """Return what is wrong with a condition, where fields that begin with `bad` are wrong."""
    return [
        (each.code, each.pointer, each.detail)
        for each in check(made(**condition), lambda path: "bad" if path.segments[0] == "bad" else None)
    ]


SHAPE = "A condition is a field, an operator and a value, or one of 'and', 'or' and 'not'."


@pytest.mark.parametrize(
    ("condition", "pointer", "detail"),
    [
        ({}, "/conditions", SHAPE),
        ({"field": "event.name"}, "/conditions", SHAPE),
        ({"field": "event.name", "operator": "equals"}, "/conditions", SHAPE),
        ({"operator": "equals", "value": 1}, "/conditions", SHAPE),
        ({**YES, "and": [YES]}, "/conditions", SHAPE),
        ({"value": 1, "not": YES}, "/conditions", SHAPE),
        ({"and": [YES], "or": [YES]}, "/conditions", SHAPE),
        ({"and": [YES, {"or": [YES, {}]}]}, "/conditions/and/1/or/1", SHAPE),
        ({"not": {"not": {}}}, "/conditions/not/not", SHAPE),
        (compare("bad.x", "equals", 1), "/conditions/field", "bad"),
        (compare("event..x", "equals", 1), "/conditions/field", "At character 6: expected \".name\", \"[0]\" or \"['name']\", found '.'."),
        (compare("event.x", "in", "abc"), "/conditions/value", "'in' takes a list of values."),
        (compare("event.x", "gt", "abc"), "/conditions/value", "'gt' takes a number, or one as text."),
        (compare("event.x", "lte", True), "/conditions/value", "'lte' takes a number, or one as text."),
    ],
)  # fmt: skip
def test_what_cannot_be_a_condition_is_named(condition: dict[str, Any], pointer: str, detail: str) -> None:
    """With its place."""
    assert faults(**condition) == [("validation.invalid_template", pointer, detail)]


def test_everything_that_is_wrong_is_named() -> None:
    """In its order."""
    assert [pointer for _, pointer, _ in faults(**{"and": [{}, compare("bad", "in", 1), {}]})] == [
        "/conditions/and/0",
        "/conditions/and/1/field",
        "/conditions/and/1/value",
        "/conditions/and/2",
    ]


def nested(depth: int) -> dict[str, Any]:
    """Return a condition nested so deep."""
    return YES if depth == 1 else {"not": nested(depth - 1)}


@pytest.mark.parametrize("condition", [nested(9), {"or": [YES] * 100}])
def test_too_much_is_refused(condition: dict[str, Any]) -> None:
    """Too deep, or too many."""
    detail = "There are at most 100 conditions, nested at most 8 deep."
    assert faults(**condition) == [("validation.out_of_range", "/conditions", detail)]


@pytest.mark.parametrize("condition", [nested(8), {"or": [YES] * 99}, YES, {"and": [YES, {"not": NO}]}])
def test_what_may_be_is_not_refused(condition: dict[str, Any]) -> None:
    """The limits themselves are allowed."""
    assert faults(**condition) == []


@pytest.mark.parametrize(
    ("condition", "name"),
    [
        (YES, "Top Up"),
        (compare("ledgerable_event.name", "equals", "Top Up"), "Top Up"),
        (compare("event.name", "equals", 5), None),
        (compare("event.name", "in", ["Top Up"]), None),
        (compare("event.kind", "equals", "Top Up"), None),
        ({"and": [compare("event.amount", "gt", 5), YES]}, "Top Up"),
        ({"and": [{"and": [YES]}, NO]}, "Top Up"),
        ({"and": [compare("event.amount", "gt", 5)]}, None),
        ({"or": [YES, YES]}, None),
        ({"not": YES}, None),
    ],
)
def test_a_condition_demands_a_name_or_not(condition: dict[str, Any], name: str | None) -> None:
    """Where it does, handlers of other names need not even be read."""
    assert demanded_name(made(**condition)) == name


VALUES: list[Any] = [None, True, False, 0, 1, 2.5, "", "1", [], [1], [[1]], {}, {"a": 1}, {"a": [1]}]


@pytest.mark.parametrize("number", range(len(VALUES)))
def test_a_value_is_the_same_as_itself_and_as_nothing_else(number: int) -> None:
    """Whatever two types are compared: truth is no number, digits are none, a list is no object."""
    assert [same(VALUES[number], each) for each in VALUES] == [place == number for place in range(len(VALUES))]


def test_numbers_within_values_are_the_same_by_what_they_come_to() -> None:
    """Deep inside too; more or other members make another value."""
    assert same({"a": [1, {"b": 2.0}]}, {"a": [1.0, {"b": 2}]})
    assert not same({"a": [1, True]}, {"a": [1, 1]})
    assert not same([1, 2], [1])
    assert not same({"a": 1}, {"b": 1})
    assert not same({"a": 1}, {"a": 1, "b": 1})
