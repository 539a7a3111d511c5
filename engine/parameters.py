"""How the columns of many rows travel to PostgreSQL: what their types are called, and what becomes of their values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, cast

import msgspec
from sqlalchemy import BigInteger, Boolean, Column, Integer, LargeBinary, SmallInteger, Uuid
from sqlalchemy.dialects.postgresql import dialect as postgresql_dialect

Converter = Callable[[Any], Any] | None

_POSTGRESQL: Final = postgresql_dialect()  # type: ignore[no-untyped-call]


def type_name(column: Column[Any]) -> str:
    """Return what PostgreSQL calls the type of a column."""
    kind = column.type.dialect_impl(_POSTGRESQL)
    for known, name in (
        (Uuid, "uuid"),
        (BigInteger, "bigint"),
        (SmallInteger, "smallint"),
        (Integer, "integer"),
        (Boolean, "boolean"),
        (LargeBinary, "bytea"),
    ):
        if isinstance(kind, known):
            return name
    return "jsonb" if kind.__visit_name__ == "JSONB" else "text"


def converter(kind: str, same: bool) -> Converter:
    """Return what makes a column's values its parameter, or its one value where all rows have the same; None: nothing has to."""
    if kind == "jsonb":
        return _encode_json if same else _encode_each
    return None if same else _LISTED.get(kind)


def array(number: int, kind: str) -> str:
    """Return the SQL of the array whose elements a parameter holds: texts where they are documents."""
    given = f"CAST(${number} AS text)" if kind in _LISTED else f"${number}"
    return f"CAST({given} AS {'text' if kind == 'jsonb' else kind}[])"


def _encode_json(value: Any) -> str | None:
    return None if value is None else msgspec.json.encode(value).decode()


def _encode_each(values: Sequence[Any]) -> list[str | None]:
    return [_encode_json(value) for value in values]


def _list_numbers(values: Sequence[int | None]) -> str:
    """Return whole numbers as the text of an array."""
    if None in values:
        return "{" + ",".join(["NULL" if value is None else str(value) for value in values]) + "}"
    return "{" + ",".join(map(str, values)) + "}"


def _list_ids(values: Sequence[str | None]) -> str:
    """Return ids as the text of an array; raises ValueError where one of them is not as long as an id."""
    missing = values.count(None)
    listed = "{" + ",".join(cast("Sequence[str]", values) if not missing else [each or "NULL" for each in values]) + "}"
    # Braces and commas, and all of the ids: what is none cannot pass for two.
    if len(listed) != 1 + len(values) * (_ID_LENGTH + 1) - missing * (_ID_LENGTH - len("NULL")):
        raise ValueError("what stands for an id is none")
    return listed


def _list_texts(values: Sequence[str | None]) -> str:
    """Return texts as the text of an array: words as they are, anything else in quotation marks."""
    if None not in values:
        words = ",".join(cast("Sequence[str]", values))
        if "".join(cast("Sequence[str]", values)).isalnum() and "" not in values and "null" not in words.lower():
            return "{" + words + "}"
    return "{" + ",".join(["NULL" if value is None else _quoted(value) for value in values]) + "}"


def _quoted(value: str) -> str:
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


_ID_LENGTH: Final = 36
_LISTED: Final[Mapping[str, Callable[[Any], Any]]] = {
    "uuid": _list_ids,
    "bigint": _list_numbers,
    "integer": _list_numbers,
    "smallint": _list_numbers,
    "text": _list_texts,
}
"""What is sent as the text of an array: asyncpg looks at every element of a list for whether it is a list itself, and PostgreSQL
reads the text in less time than that takes."""
