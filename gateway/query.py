"""Query parameters: each operation names what it takes; anything else is refused, naming it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

from msgspec import Struct
from starlette.datastructures import QueryParams

from engine.errors import Fault
from engine.ids import is_id
from engine.money import AMOUNT_MAX, parse_instant
from engine.queries import BOUND_OPERATORS, Selection
from gateway.problems import Problem, invalid

Kind = Literal[
    "id", "text", "integer", "boolean", "instant", "choice", "cursor", "metadata", "bounds", "amounts", "ticket"
]
"""An `instant` is read as microseconds. A `ticket` is taken out of the address before it is read."""

_FAMILIES: Final = frozenset({"metadata", "bounds", "amounts"})
_PARTS: Final = re.compile(r"([a-z_]+)\[([^\]]*)\]\Z")
_AMOUNT: Final = re.compile(r"[0-9]{1,19}\Z", re.ASCII)
_INTEGER: Final = re.compile(r"[0-9]{1,18}\Z")
TEXT_MAX: Final = 1000


class Parameter(Struct, frozen=True, kw_only=True):
    """A query parameter; some kinds are families: `metadata[key]=value`, `created_at[gte]=time`, `amount[lt]=number`."""

    name: str
    kind: Kind
    meaning: str
    choices: tuple[str, ...] = ()
    minimum: int = 1
    maximum: int = 100
    aliases: tuple[str, ...] = ()
    required: bool = False
    repeated: int = 0
    """So often it may be given; 0 is once."""


class Asked(Struct, frozen=True, kw_only=True):
    """The parameters of a call, each read as its kind."""

    values: Mapping[str, Any]
    metadata: Mapping[str, str]
    bounds: Mapping[str, Mapping[str, int]]
    account_metadata: Mapping[str, str] = {}

    def get(self, name: str) -> Any:
        """Return a parameter's value, or None where it was not given."""
        return self.values.get(name)

    @property
    def ascending(self) -> bool:
        """Tell whether the oldest come first."""
        return not self.values.get("order_by", "-").startswith("-")

    def selection(self, *equals: str) -> Selection:
        """Return what of a list is wanted; the named parameters are columns that must have the value."""
        return Selection(
            limit=self.values.get("limit", 50),
            cursor=self.values.get("cursor"),
            equals={name: self.values[name] for name in equals if name in self.values},
            metadata=self.metadata,
            bounds=self.bounds,
            account_metadata=self.account_metadata,
            ascending=self.ascending,
            by_effect=self.values.get("order_by", "").endswith(EARLIEST_FIRST),
        )


NOTHING: Final = Asked(values={}, metadata={}, bounds={})
"""What is asked where an operation takes no parameters and none were given."""


LIMIT: Final = Parameter(name="limit", kind="integer", meaning="How many items a page has at most; 50 unless given.")
CURSOR: Final = Parameter(name="cursor", kind="cursor", meaning="`next_cursor` of the page before.")
OLDEST_FIRST: Final = "created_at"
ORDER: Final = Parameter(
    name="order_by",
    kind="choice",
    choices=(OLDEST_FIRST, f"-{OLDEST_FIRST}"),
    meaning="`created_at`: the oldest first; `-created_at`, unless given: the newest first.",
)
EARLIEST_FIRST: Final = "effective_at"
ORDER_OF_ENTRIES: Final = Parameter(
    name="order_by",
    kind="choice",
    choices=(*ORDER.choices, EARLIEST_FIRST, f"-{EARLIEST_FIRST}"),
    meaning=(
        "`created_at`: the oldest first; `-created_at`, unless given: the newest first; `effective_at` and `-effective_at`: "
        "by when they take effect."
    ),
)
PAGED: Final = (LIMIT, CURSOR, ORDER)
"""What every list of what was made one after the other takes."""

METADATA: Final = Parameter(name="metadata", kind="metadata", meaning="`metadata[key]=value`: only what has this pair.")
ACCOUNT_METADATA: Final = Parameter(
    name="account_metadata",
    kind="metadata",
    meaning="`account_metadata[key]=value`: only what has a line on an account with this pair.",
)
CREATED: Final = Parameter(
    name="created_at", kind="bounds", meaning="`created_at[gte]=time`: bounds, also gt, lt, lte."
)


def read(query: QueryParams, parameters: Sequence[Parameter]) -> Asked:
    """Read a query by the parameters an operation takes; raises the problem that lists all that is wrong."""
    known = {name: each for each in parameters for name in (each.name, *each.aliases)}
    values: dict[str, Any] = {}
    pairs: dict[str, dict[str, str]] = {"metadata": {}, "account_metadata": {}}
    bounds: dict[str, dict[str, int]] = {}
    faults: list[Fault] = []
    for given, text in query.multi_items():
        family = _PARTS.match(given)
        parameter = known.get(family.group(1) if family else given)
        if parameter is None or (family is not None) != (parameter.kind in _FAMILIES):
            faults.append(_fault("validation.unknown_field", given, _instead(parameter, parameters)))
        elif family is None and parameter.name in values:
            faults.append(_fault("validation.duplicate_field", given, "The parameter is given twice."))
        elif family is None:
            _read_one(parameter, given, text, values, faults)
        elif parameter.kind == "metadata":
            _read_metadata(given, family.group(2), text, pairs[parameter.name], faults)
        else:
            _read_bound(parameter, given, family.group(2), text, bounds, faults)
    faults += [
        _fault("validation.required_field_missing", each.name, "The parameter is missing.")
        for each in parameters
        if each.required and each.name not in query
    ]
    if faults:
        raise invalid(faults)
    return Asked(values=values, bounds=bounds, **pairs)


def _instead(parameter: Parameter | None, parameters: Sequence[Parameter]) -> str:
    """Say how a parameter that is not taken would be: in its form, or by the name of one that there is."""
    if parameter is not None:
        form = parameter.meaning if parameter.kind in _FAMILIES else f"`{parameter.name}=…`, without brackets."
        return f"Write {form}"
    names = ", ".join(each.name for each in parameters)
    return (
        f"There is no such query parameter here; there are {names}." if names else "There are no query parameters here."
    )


def _read_one(parameter: Parameter, given: str, text: str, values: dict[str, Any], faults: list[Fault]) -> None:
    if len(text) > TEXT_MAX or "\x00" in text:
        faults.append(_fault("validation.out_of_range", given, "The value is too long or holds NUL."))
        return
    match parameter.kind:
        case "integer":
            if not _INTEGER.match(text) or not parameter.minimum <= int(text) <= parameter.maximum:
                faults.append(
                    _fault(
                        "validation.out_of_range",
                        given,
                        f"A whole number from {parameter.minimum} to {parameter.maximum}.",
                    )
                )
                return
            values[parameter.name] = int(text)
        case "boolean":
            if text not in {"true", "false"}:
                faults.append(_fault("validation.invalid_value", given, "true or false."))
                return
            values[parameter.name] = text == "true"
        case "id":
            if not is_id(text):
                faults.append(_fault("validation.invalid_value", given, "The id of a resource, in lower case."))
                return
            values[parameter.name] = text
        case "choice":
            if text not in parameter.choices:
                faults.append(_fault("validation.invalid_value", given, f"One of {', '.join(parameter.choices)}."))
                return
            values[parameter.name] = text
        case "instant":
            try:
                values[parameter.name] = parse_instant(text)
            except ValueError:
                faults.append(_untimely(given, text))
        case "cursor":
            if not text.isascii():
                raise Problem(code="cursor.invalid", detail="The cursor is not usable: it is malformed.")
            values[parameter.name] = text
        case _:
            values[parameter.name] = text


def _read_metadata(given: str, key: str, text: str, metadata: dict[str, str], faults: list[Fault]) -> None:
    if not key or key in metadata or "\x00" in key or "\x00" in text or len(key) > 100 or len(text) > 500:
        faults.append(_fault("validation.invalid_value", given, "metadata[key]=value, each key once, no NUL."))
    else:
        metadata[key] = text


def _read_bound(
    parameter: Parameter,
    given: str,
    operator: str,
    text: str,
    bounds: dict[str, dict[str, int]],
    faults: list[Fault],
) -> None:
    found = bounds.setdefault(parameter.name, {})
    if operator not in BOUND_OPERATORS or operator in found:
        faults.append(_fault("validation.invalid_value", given, f"One of [{'], ['.join(BOUND_OPERATORS)}], each once."))
        return
    if parameter.kind == "amounts":
        if not _AMOUNT.match(text) or int(text) > AMOUNT_MAX:
            faults.append(_fault("validation.out_of_range", given, f"An amount in minor units, up to {AMOUNT_MAX}."))
        else:
            found[operator] = int(text)
        return
    try:
        found[operator] = parse_instant(text)
    except ValueError:
        faults.append(_untimely(given, text))


def _untimely(given: str, text: str) -> Fault:
    """Say what a time looks like; a `+` in an address is a space, which is hard to see."""
    lost = "; in an address `+` is written `%2B`" if " " in text else ""
    return _fault("validation.invalid_time", given, f"An RFC 3339 time with an offset{lost}.")


def _fault(code: str, given: str, detail: str) -> Fault:
    return Fault(code=code, pointer=f"?{given[:100]}", detail=detail)
