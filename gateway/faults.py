"""Finding everything that is wrong with a decoded body, not the first thing: a walk over the expected type. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from types import UnionType
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

import msgspec

from engine.errors import Fault

FAULTS_MAX: Final = 100
_DEPTH_MAX: Final = 100
"""No body has a place for anything deeper; each step looks at all that is below it."""

_SHOWN_MAX: Final = 60
_TYPES: Final = re.compile(r"`([a-z |]+)`")
_LENGTH: Final = re.compile(r" of length (<=|>=|==) ([0-9]+)")
_BOUNDS: Final = {"<=": "at most", ">=": "at least", "==": "exactly"}
_NAMES: Final = {
    "str": "a string",
    "int": "an integer",
    "float": "a number",
    "bool": "a boolean",
    "object": "an object",
    "array": "an array",
}


def find_faults(value: Any, expected: Any) -> list[Fault]:
    """Return what is wrong with a value of JSON types where a msgspec type is expected, with JSON pointers."""
    faults: list[Fault] = []
    _walk(value, expected, "", faults)
    return faults[:FAULTS_MAX]


def text_faults(value: Any, pointer: str = "") -> list[Fault]:
    """Return where text holds NUL or half a surrogate pair, in keys and values alike."""
    faults: list[Fault] = []
    if isinstance(value, str):
        if not _is_clean(value):
            faults.append(
                Fault(
                    code="validation.invalid_text", pointer=pointer, detail="Text may not hold NUL or lone surrogates."
                )
            )
    elif isinstance(value, dict):
        for key, each in value.items():
            if not _is_clean(key):
                faults.append(
                    Fault(
                        code="validation.invalid_text",
                        pointer=pointer,
                        detail="A field's name may not hold NUL or lone surrogates.",
                    )
                )
            else:
                faults += text_faults(each, f"{pointer}/{escape(key)}")
    elif isinstance(value, list):
        for index, each in enumerate(value):
            faults += text_faults(each, f"{pointer}/{index}")
    return faults[:FAULTS_MAX]


def escape(token: str) -> str:
    """Return one token of a JSON pointer, escaped (RFC 6901)."""
    return token.replace("~", "~0").replace("/", "~1")


def _is_clean(text: str) -> bool:
    return "\x00" not in text and not any("\ud800" <= character <= "\udfff" for character in text)


def _walk(value: Any, expected: Any, pointer: str, faults: list[Fault]) -> None:
    """Look into what the decoder refuses only: most of a large body is right, and is passed over at the decoder's speed."""
    if len(faults) >= FAULTS_MAX:
        return
    try:
        msgspec.convert(value, expected)
    except msgspec.ValidationError as error:
        refused = str(error)
    except RecursionError:
        refused = ""
    else:
        return
    if not refused or pointer.count("/") > _DEPTH_MAX:
        faults.append(Fault(code="validation.out_of_range", pointer=pointer, detail="This is nested too deeply."))
        return
    before = len(faults)
    for each in _alternatives(expected):
        if isinstance(value, dict) and isinstance(each, type) and issubclass(each, msgspec.Struct):
            _walk_struct(value, each, pointer, faults)
        elif isinstance(value, dict) and get_origin(each) is dict:
            _walk_dict(value, each, pointer, faults)
        elif isinstance(value, list) and get_origin(each) in {list, tuple}:
            for index, item in enumerate(value):
                _walk(item, get_args(each)[0], f"{pointer}/{index}", faults)
    if len(faults) == before:
        faults.append(_fault(refused, value, pointer, expected))


def _walk_dict(value: dict[str, Any], expected: Any, pointer: str, faults: list[Fault]) -> None:
    name_type, value_type = get_args(expected)
    for name, each in value.items():
        below = f"{pointer}/{escape(name)}"
        try:
            msgspec.convert(name, name_type)
        except msgspec.ValidationError as error:
            fault = _fault(str(error), name, "", name_type)
            faults.append(Fault(code=fault.code, pointer=below, detail=f"The name of a field here: {fault.detail}"))
        else:
            _walk(each, value_type, below, faults)


def _walk_struct(value: dict[str, Any], struct: type[msgspec.Struct], pointer: str, faults: list[Fault]) -> None:
    fields = {each.encode_name: each for each in msgspec.structs.fields(struct)}
    for name, each in fields.items():
        below = f"{pointer}/{escape(name)}"
        if name in value:
            _walk(value[name], each.type, below, faults)
        elif each.required:
            faults.append(
                Fault(code="validation.required_field_missing", pointer=below, detail=f"Field {name!r} is required."),
            )
    faults += [
        Fault(
            code="validation.unknown_field",
            pointer=f"{pointer}/{escape(name)}",
            detail=f"There is no field {name!r} here.",
        )
        for name in value
        if name not in fields and name != struct.__struct_config__.tag_field
    ]


def _alternatives(expected: Any) -> Iterator[Any]:
    """Return the types that a type may be, without what annotates them."""
    if get_origin(expected) is Annotated:
        yield from _alternatives(get_args(expected)[0])
    elif get_origin(expected) in {Union, UnionType}:
        for each in get_args(expected):
            yield from _alternatives(each)
    else:
        yield expected


def _choices(expected: Any) -> list[str]:
    """Return the words that a type allows, none where it is no choice of words."""
    if get_origin(expected) is Literal:
        return [str(each) for each in get_args(expected)]
    if get_origin(expected) in {Annotated, Union, UnionType}:
        return [word for each in get_args(expected) for word in _choices(each)]
    return []


def _form(expected: Any) -> str | None:
    """Return what is said of the form that a type's text has; None where it may have any, or nothing is said."""
    if get_origin(expected) is Annotated:
        for each in expected.__metadata__:
            if isinstance(each, msgspec.Meta) and each.pattern is not None:
                return each.description
    for each in get_args(expected):
        form = _form(each) if get_origin(each) in {Annotated, Union, UnionType} else None
        if form is not None:
            return form
    return None


def _fault(message: str, value: Any, pointer: str, expected: Any) -> Fault:
    """Name what msgspec found: its words, where inside the value, under a code of ours."""
    words, _, where = message.partition(" - at `")
    if where:
        inside = (
            where.rstrip("`")
            .removeprefix("$")
            .replace("[...]", "")
            .replace(".", "/")
            .replace("[", "/")
            .replace("]", "")
        )
        pointer += inside if not inside.startswith("key") else ""
    last = pointer.rsplit("/", 1)[-1]
    if last == "amount" and not isinstance(value, bool) and isinstance(value, int | str):
        code = (
            "amount_out_of_range"
            if isinstance(value, int) or (value.isascii() and value.lstrip("-").isdecimal())
            else "validation.invalid_value"
        )
        words = "An amount is 1 to 9223372036854775807 minor units, as an integer or a string of digits"
    elif words.startswith("Expected") and ("length" in words or ">=" in words or "<=" in words):
        code = "validation.out_of_range"
    elif words.startswith(("Invalid enum value", "Invalid value")) or "matching regex" in words:
        code = "validation.invalid_value"
        choices, form = _choices(expected), _form(expected)
        if choices and words.startswith("Invalid enum value"):
            words = f"{str(value)[:_SHOWN_MAX]!r} is not one of {', '.join(choices)}"
        elif form is not None and not where:
            words = f"{str(value)[:_SHOWN_MAX]!r} has another form than is expected here: {form.rstrip('.')}"
    else:
        code = "validation.invalid_type"
    return Fault(code=code, pointer=pointer, detail=f"{_plainly(words)}.")


def _plainly(words: str) -> str:
    """Return msgspec's words without Python's names for what JSON has."""
    named = _TYPES.sub(lambda found: " or ".join(_NAMES.get(each, each) for each in found[1].split(" | ")), words)
    unit = "character" if "a string" in named else "item"
    bounded = _LENGTH.sub(
        lambda found: f" of {_BOUNDS[found[1]]} {found[2]} {unit if found[2] == '1' else f'{unit}s'}", named
    )
    return bounded.replace("matching regex", "that matches")
