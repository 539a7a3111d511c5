"""Filters on what an event says: a small grammar of conditions, checked when it is given and cheap to evaluate. Pure.

A filter is a condition on the members at a JSON pointer (RFC 6901, `*` stands for every element), or `all`, `any` or `not`
of such. There is nothing in it that could take long: no expressions, no recursion into the event, no patterns.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Final

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from delivery.errors import InvalidFilter

DEPTH_MAX: Final = 4
CONDITIONS_MAX: Final = 50
TOKENS_MAX: Final = 16
WILDCARDS_MAX: Final = 2

_TEXT: Final = r"^[^\x00]*$"
Text = Annotated[str, Meta(max_length=500, pattern=_TEXT)]
Pointer = Annotated[str, Meta(max_length=200, pattern=r"^/[^\x00]*$")]
Scalar = Text | int | float | bool | None
Bound = Text | int | float


class Filter(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A condition: `path` with exactly one comparison; or exactly one of `all`, `any` and `not`, of further conditions.

    A path that leads to nothing fulfils nothing but `"exists": false`. With `*` in it one element that fits is enough.
    """

    all: Annotated[list[Filter], Meta(min_length=1, max_length=CONDITIONS_MAX)] | UnsetType = UNSET
    any: Annotated[list[Filter], Meta(min_length=1, max_length=CONDITIONS_MAX)] | UnsetType = UNSET
    not_: Filter | UnsetType = msgspec.field(default=UNSET, name="not")
    path: Pointer | UnsetType = UNSET
    equals: Scalar | UnsetType = UNSET
    in_: Annotated[list[Scalar], Meta(min_length=1, max_length=100)] | UnsetType = msgspec.field(
        default=UNSET, name="in"
    )
    prefix: Text | UnsetType = UNSET
    gt: Bound | UnsetType = UNSET
    gte: Bound | UnsetType = UNSET
    lt: Bound | UnsetType = UNSET
    lte: Bound | UnsetType = UNSET
    exists: bool | UnsetType = UNSET


_GROUPS: Final = ("all", "any", "not_")
_COMPARISONS: Final = ("equals", "in_", "prefix", "gt", "gte", "lt", "lte", "exists")


def check_filter(given: Filter) -> None:
    """Accept a filter that says one thing at each place and is small enough; raises InvalidFilter."""
    count = _check(given, "/filter", 1)
    if count > CONDITIONS_MAX:
        raise InvalidFilter("/filter", f"a filter has at most {CONDITIONS_MAX} conditions")


def fulfils(condition: Filter, event: Any) -> bool:
    """Tell whether an event, decoded, fulfils the filter."""
    if condition.all is not UNSET:
        return all(fulfils(each, event) for each in condition.all)
    if condition.any is not UNSET:
        return any(fulfils(each, event) for each in condition.any)
    if condition.not_ is not UNSET:
        return not fulfils(condition.not_, event)
    path = "" if condition.path is UNSET else condition.path
    values = found(event, tokens(path))
    if condition.exists is not UNSET:
        return (next(values, UNSET) is not UNSET) == condition.exists
    return any(_compares(condition, value) for value in values)


def tokens(pointer: str) -> list[str]:
    """Return the tokens of a JSON pointer."""
    return [token.replace("~1", "/").replace("~0", "~") for token in pointer.split("/")[1:]]


def found(value: Any, path: list[str]) -> Iterator[Any]:
    """Return every value that a path leads to."""
    for place, token in enumerate(path):
        if token == "*":  # noqa: S105 - the token of a path
            rest = path[place + 1 :]
            elements = value if isinstance(value, list) else value.values() if isinstance(value, dict) else ()
            for element in elements:
                yield from found(element, rest)
            return
        if isinstance(value, dict) and token in value:
            value = value[token]
        elif isinstance(value, list) and token.isascii() and token.isdecimal() and len(token) < 6:
            if int(token) >= len(value):
                return
            value = value[int(token)]
        else:
            return
    yield value


def _compares(condition: Filter, value: Any) -> bool:
    if condition.equals is not UNSET:
        return _same(value, condition.equals)
    if condition.in_ is not UNSET:
        return any(_same(value, each) for each in condition.in_)
    if condition.prefix is not UNSET:
        return isinstance(value, str) and value.startswith(condition.prefix)
    for name, bound in (("gt", condition.gt), ("gte", condition.gte), ("lt", condition.lt), ("lte", condition.lte)):
        if bound is not UNSET and _comparable(value, bound):
            return _bounded(name, value, bound)
    return False


def _bounded(name: str, value: Any, bound: Any) -> bool:
    match name:
        case "gt":
            return bool(value > bound)
        case "gte":
            return bool(value >= bound)
        case "lt":
            return bool(value < bound)
        case _:
            return bool(value <= bound)


def _same(value: Any, wanted: Any) -> bool:
    # To Python true is 1; to whoever writes a filter it is not.
    return isinstance(value, bool) == isinstance(wanted, bool) and bool(value == wanted)


def _comparable(value: Any, bound: Any) -> bool:
    if isinstance(value, bool):
        return False
    return isinstance(value, str) if isinstance(bound, str) else isinstance(value, int | float)


def _check(given: Filter, pointer: str, depth: int) -> int:
    """Check one condition and those below it; return how many there are."""
    if depth > DEPTH_MAX:
        raise InvalidFilter(pointer, f"a filter is at most {DEPTH_MAX} conditions deep")
    groups = [name for name in _GROUPS if getattr(given, name) is not UNSET]
    comparisons = [name for name in _COMPARISONS if getattr(given, name) is not UNSET]
    if len(groups) + (given.path is not UNSET) != 1:
        raise InvalidFilter(pointer, "a condition has exactly one of `path`, `all`, `any` and `not`")
    if groups:
        if comparisons:
            raise InvalidFilter(pointer, "a comparison needs a `path` beside it")
        return 1 + sum(_check(each, place, depth + 1) for place, each in _below(given, pointer))
    if len(comparisons) != 1:
        raise InvalidFilter(pointer, "a `path` has exactly one comparison beside it: " + ", ".join(_NAMES))
    path = tokens("" if given.path is UNSET else given.path)
    if len(path) > TOKENS_MAX or path.count("*") > WILDCARDS_MAX:
        raise InvalidFilter(f"{pointer}/path", f"a path has at most {TOKENS_MAX} steps, {WILDCARDS_MAX} of them `*`")
    return 1


_NAMES: Final = tuple(f"`{name.rstrip('_')}`" for name in _COMPARISONS)


def _below(given: Filter, pointer: str) -> Iterator[tuple[str, Filter]]:
    for name in ("all", "any"):
        several = getattr(given, name)
        if several is not UNSET:
            yield from ((f"{pointer}/{name}/{place}", each) for place, each in enumerate(several))
    if given.not_ is not UNSET:
        yield f"{pointer}/not", given.not_
