"""Multi-row statements: arrays through UNNEST on PostgreSQL, executemany on SQLite."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

import msgspec
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Connection,
    Integer,
    LargeBinary,
    SmallInteger,
    Table,
    Uuid,
    and_,
    bindparam,
    insert,
    text,
    update,
)
from sqlalchemy.dialects.postgresql import dialect as postgresql_dialect

Row = Mapping[str, Any]

_POSTGRESQL: Final = postgresql_dialect()  # type: ignore[no-untyped-call]


def among(column: ColumnElement[Any], values: Iterable[Any]) -> ColumnElement[bool]:
    """Return the condition that the column is one of the values, as one cached statement whatever their number."""
    return column.in_(list(values))


def insert_rows(conn: Connection, table: Table, rows: Sequence[Row]) -> None:
    """Insert rows that all have the same keys, in one statement."""
    if not rows:
        return
    names = tuple(rows[0])
    if conn.dialect.name == "postgresql":
        conn.execute(text(_unnest_insert(table, names)), _arrays(table, names, rows))
    else:
        conn.execute(insert(table), rows)


def update_rows(conn: Connection, table: Table, keys: Sequence[str], rows: Sequence[Row]) -> int:
    """Update rows found by the key columns, setting all the other names; return how many were found."""
    if not rows:
        return 0
    names = tuple(rows[0])
    if conn.dialect.name == "postgresql":
        statement = _unnest_update(table, tuple(keys), names)
        return conn.execute(text(statement), _arrays(table, names, rows)).rowcount
    changed = [name for name in names if name not in keys]
    found = update(table).where(and_(*(table.c[key] == bindparam(f"key_{key}") for key in keys)))
    parameters = [{(f"key_{name}" if name in keys else name): row[name] for name in names} for row in rows]
    return conn.execute(found.values({name: bindparam(name) for name in changed}), parameters).rowcount


def _arrays(table: Table, names: Sequence[str], rows: Sequence[Row]) -> dict[str, list[Any]]:
    arrays: dict[str, list[Any]] = {}
    for name in names:
        values = [row[name] for row in rows]
        if _array_type(table.c[name]) == "jsonb":
            values = [None if value is None else msgspec.json.encode(value).decode() for value in values]
        arrays[name] = values
    return arrays


@lru_cache(maxsize=256)
def _unnest_insert(table: Table, names: tuple[str, ...]) -> str:
    columns = ", ".join(names)
    picked = ", ".join(f"CAST({name} AS jsonb)" if _array_type(table.c[name]) == "jsonb" else name for name in names)
    return f"INSERT INTO {table.name} ({columns}) SELECT {picked} FROM {_unnest(table, names)} AS given ({columns})"  # noqa: S608 - names come from the table


@lru_cache(maxsize=256)
def _unnest_update(table: Table, keys: tuple[str, ...], names: tuple[str, ...]) -> str:
    columns = ", ".join(names)
    changed = ", ".join(
        f"{name} = CAST(given.{name} AS jsonb)" if _array_type(table.c[name]) == "jsonb" else f"{name} = given.{name}"
        for name in names
        if name not in keys
    )
    found = " AND ".join(f"{table.name}.{key} = given.{key}" for key in keys)
    return f"UPDATE {table.name} SET {changed} FROM {_unnest(table, names)} AS given ({columns}) WHERE {found}"  # noqa: S608 - names come from the table


def _unnest(table: Table, names: Sequence[str]) -> str:
    arrays = []
    for name in names:
        kind = _array_type(table.c[name])
        arrays.append(f"CAST(:{name} AS {'text' if kind == 'jsonb' else kind}[])")
    return f"unnest({', '.join(arrays)})"


def _array_type(column: Column[Any]) -> str:
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
