"""Conditions over a business event: whether one is well made, whether it holds, which event name it demands. Pure.

A field that is not there makes a comparison not hold. `equals` and `in` compare JSON values, numbers by what they come to
and never with text; `gt`, `gte`, `lt` and `lte` compare numbers, also where they are written as text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from operator import ge, gt, le, lt
from typing import Any, Final

from msgspec import UNSET

from engine.definitions import CONDITIONS_DEPTH_MAX, CONDITIONS_MAX, EventCondition
from engine.errors import Fault
from engine.event_errors import TemplateInvalid, ValueUnusable
from engine.expressions import Lookup, Path, number_of, parse_path

INVALID: Final = "validation.invalid_template"
_COMPARISONS: Final[dict[str, Callable[[Any, Any], bool]]] = {"gt": gt, "gte": ge, "lt": lt, "lte": le}


def check(condition: EventCondition, check_path: Callable[[Path], str | None]) -> list[Fault]:
    """Return all that is wrong with a condition; `check_path` says what is wrong with a path, or None."""
    faults: list[Fault] = []
    count = 0
    waiting = [(condition, "/conditions", 1)]
    while waiting:
        each, pointer, depth = waiting.pop()
        count += 1
        if depth > CONDITIONS_DEPTH_MAX or count > CONDITIONS_MAX:
            return [too_many("/conditions")]
        faults += _check_one(each, pointer, check_path)
        below = [(within, f"{pointer}{place}", depth + 1) for within, place in inner(each)]
        waiting += reversed(below)
    return faults


def too_many(pointer: str) -> Fault:
    """Return the fault of conditions that are too many or nested too deep."""
    limit = f"{CONDITIONS_MAX} conditions, nested at most {CONDITIONS_DEPTH_MAX} deep"
    return Fault(code="validation.out_of_range", pointer=pointer, detail=f"There are at most {limit}.")


def holds(condition: EventCondition, lookup: Lookup) -> bool:
    """Tell whether a condition holds of the event that the lookup reads."""
    if condition.all_of is not UNSET:
        return all(holds(each, lookup) for each in condition.all_of)
    if condition.any_of is not UNSET:
        return any(holds(each, lookup) for each in condition.any_of)
    if condition.none_of is not UNSET:
        return not holds(condition.none_of, lookup)
    try:
        found = lookup(parse_path(str(condition.field)))
    except ValueUnusable:
        return False
    match condition.operator:
        case "equals":
            return same(found, condition.value)
        case "in":
            return any(same(found, each) for each in condition.value)
        case operator:
            number, other = number_of(found), number_of(condition.value)
            return number is not None and _COMPARISONS[str(operator)](number, other)


def same(found: Any, value: Any) -> bool:
    """Tell whether two JSON values are the same: of one type, where integers and decimals are both numbers."""
    if isinstance(found, bool) or isinstance(value, bool):
        return found is value
    if isinstance(found, int | float) and isinstance(value, int | float):
        return found == value
    if isinstance(found, dict) and isinstance(value, dict):
        return found.keys() == value.keys() and all(same(each, value[key]) for key, each in found.items())
    if isinstance(found, list) and isinstance(value, list):
        return len(found) == len(value) and all(same(one, other) for one, other in zip(found, value, strict=True))
    return type(found) is type(value) and bool(found == value)


def demanded_name(condition: EventCondition) -> str | None:
    """Return the one name that an event must have for the condition to hold, or None where it may have several."""
    if condition.all_of is not UNSET:
        return next((name for each in condition.all_of if (name := demanded_name(each)) is not None), None)
    demands = condition.operator == "equals" and isinstance(condition.value, str)
    return condition.value if demands and _is_name(condition.field) else None


def _is_name(field: Any) -> bool:
    return field in {"event.name", "ledgerable_event.name"}


def inner(condition: EventCondition) -> Iterator[tuple[EventCondition, str]]:
    """Return the conditions that one joins, each with its place in it."""
    for each, name in ((condition.all_of, "and"), (condition.any_of, "or")):
        if each is not UNSET:
            yield from ((below, f"/{name}/{index}") for index, below in enumerate(each))
    if condition.none_of is not UNSET:
        yield condition.none_of, "/not"


def _check_one(condition: EventCondition, pointer: str, check_path: Callable[[Path], str | None]) -> Iterator[Fault]:
    composed = [each for each in (condition.all_of, condition.any_of, condition.none_of) if each is not UNSET]
    given = [each is not UNSET for each in (condition.field, condition.operator, condition.value)]
    if len(composed) + any(given) != 1 or (any(given) and not all(given)):
        detail = "A condition is a field, an operator and a value, or one of 'and', 'or' and 'not'."
        yield Fault(code=INVALID, pointer=pointer, detail=detail)
        return
    if composed:
        return
    try:
        wrong = check_path(parse_path(str(condition.field)))
    except TemplateInvalid as invalid:
        wrong = invalid.detail
    if wrong is not None:
        yield Fault(code=INVALID, pointer=f"{pointer}/field", detail=wrong)
    if condition.operator == "in" and not isinstance(condition.value, list):
        yield Fault(code=INVALID, pointer=f"{pointer}/value", detail="'in' takes a list of values.")
    if condition.operator in _COMPARISONS and number_of(condition.value) is None:
        detail = f"{condition.operator!r} takes a number, or one as text."
        yield Fault(code=INVALID, pointer=f"{pointer}/value", detail=detail)
