"""Multi-row statements: arrays through UNNEST on PostgreSQL, executemany on SQLite; several of them as one statement.

A statement's text depends on the table and the column names only, never on the number of rows, so that it is built and
prepared once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import msgspec
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Connection,
    Dialect,
    Integer,
    LargeBinary,
    SmallInteger,
    Table,
    Text,
    TypeDecorator,
    Uuid,
    and_,
    bindparam,
    insert,
    update,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.dialects.postgresql import dialect as postgresql_dialect
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeEngine

Row = Mapping[str, Any]

_POSTGRESQL: Final = postgresql_dialect()  # type: ignore[no-untyped-call]


@dataclass(frozen=True, slots=True, kw_only=True)
class Insert:
    """Rows to insert, all with the same keys."""

    table: Table
    rows: Sequence[Row]


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """Rows to change: found by the key columns, all their other columns set."""

    table: Table
    keys: tuple[str, ...]
    rows: Sequence[Row]


class _Among(FunctionElement[bool]):
    """`column = ANY (array)`, or what SQLite has for it."""

    name = "among"
    inherit_cache = True


@compiles(_Among)
def _among_json(element: _Among, compiler: Any, **options: Any) -> str:
    column, values = element.clauses
    return (
        f"{compiler.process(column, **options)} IN (SELECT value FROM json_each({compiler.process(values, **options)}))"  # noqa: S608 - compiled parts
    )


@compiles(_Among, "postgresql")
def _among_array(element: _Among, compiler: Any, **options: Any) -> str:
    column, values = element.clauses
    return f"{compiler.process(column, **options)} = ANY ({compiler.process(values, **options)})"


class _Contains(FunctionElement[bool]):
    """`position(part IN bytes) > 0`, or what SQLite has for it."""

    name = "contains"
    inherit_cache = True


@compiles(_Contains)
def _contains_instr(element: _Contains, compiler: Any, **options: Any) -> str:
    column, part = element.clauses
    return f"instr({compiler.process(column, **options)}, {compiler.process(part, **options)}) > 0"


@compiles(_Contains, "postgresql")
def _contains_position(element: _Contains, compiler: Any, **options: Any) -> str:
    column, part = element.clauses
    return f"position({compiler.process(part, **options)} in {compiler.process(column, **options)}) > 0"


class _Values(TypeDecorator[list[Any]]):
    """Many values in one parameter: an array on PostgreSQL, a JSON array elsewhere."""

    impl = Text
    cache_ok = True

    def __init__(self, item: TypeEngine[Any]) -> None:
        super().__init__()
        self.item = item

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        if dialect.name == "postgresql":
            return dialect.type_descriptor(ARRAY(self.item))
        return dialect.type_descriptor(Text())

    def process_bind_param(self, value: list[Any] | None, dialect: Dialect) -> Any:
        return value if dialect.name == "postgresql" else msgspec.json.encode(value).decode()


def among(column: ColumnElement[Any], values: Iterable[Any]) -> ColumnElement[bool]:
    """Return the condition that the column is one of the values: one statement whatever their number."""
    return _Among(column, bindparam(None, list(values), type_=_Values(column.type), unique=True))


def contains(column: ColumnElement[bytes], part: bytes) -> ColumnElement[bool]:
    """Return the condition that the column's bytes hold these bytes somewhere."""
    return _Contains(column, bindparam(None, part, type_=LargeBinary(), unique=True))


def insert_rows(conn: Connection, table: Table, rows: Sequence[Row]) -> None:
    """Insert rows that all have the same keys, in one statement."""
    write(conn, [Insert(table=table, rows=rows)])


def update_rows(conn: Connection, table: Table, keys: Sequence[str], rows: Sequence[Row]) -> int:
    """Update rows found by the key columns, setting all the other names; return how many were found."""
    if not rows:
        return 0
    change = Update(table=table, keys=tuple(keys), rows=rows)
    if conn.dialect.name == "postgresql":
        return _execute_together(conn, [change])
    return _update_one_by_one(conn, change)


def write(conn: Connection, changes: Sequence[Insert | Update]) -> None:
    """Write everything: one statement on PostgreSQL, one after the other elsewhere. No row may stand in it twice.

    PostgreSQL runs every data-modifying part of a statement to its end, all on one snapshot.
    """
    changes = [change for change in changes if change.rows]
    if not changes:
        return
    if conn.dialect.name == "postgresql":
        _execute_together(conn, changes)
        return
    for change in changes:
        if isinstance(change, Insert):
            conn.execute(insert(change.table), change.rows)
        else:
            _update_one_by_one(conn, change)


def _update_one_by_one(conn: Connection, change: Update) -> int:
    table, keys = change.table, change.keys
    names = tuple(change.rows[0])
    found = update(table).where(and_(*(table.c[key] == bindparam(f"key_{key}") for key in keys)))
    parameters = [{(f"key_{name}" if name in keys else name): row[name] for name in names} for row in change.rows]
    return conn.execute(
        found.values({name: bindparam(name) for name in names if name not in keys}), parameters
    ).rowcount


def _execute_together(conn: Connection, changes: Sequence[Insert | Update]) -> int:
    """Run the changes as one statement; return how many rows the last one touched."""
    shape = tuple(
        (change.table, tuple(change.rows[0]), None if isinstance(change, Insert) else change.keys) for change in changes
    )
    statement, takers = _together(shape)
    arrays: list[Any] = []
    for change, columns in zip(changes, takers, strict=True):
        for name, convert in columns:
            values = [row[name] for row in change.rows]
            arrays.append(values if convert is None else [convert(value) for value in values])
    return conn.exec_driver_sql(statement, tuple(arrays)).rowcount


_Taker = tuple[str, Callable[[Any], Any] | None]


@lru_cache(maxsize=512)
def _together(
    shape: tuple[tuple[Table, tuple[str, ...], tuple[str, ...] | None], ...],
) -> tuple[str, list[list[_Taker]]]:
    """Return the statement for changes of this shape, and per change its columns with what makes them parameters."""
    parts: list[str] = []
    takers: list[list[_Taker]] = []
    number = 1
    for table, names, keys in shape:
        kinds = [_array_type(table.c[name]) for name in names]
        parts.append(_part(table, names, kinds, keys, number))
        takers.append(
            [(name, _encode_json if kind == "jsonb" else None) for name, kind in zip(names, kinds, strict=True)]
        )
        number += len(names)
    *before, last = parts
    ahead = ", ".join(f"part_{index} AS ({part})" for index, part in enumerate(before))
    return (f"WITH {ahead} {last}" if ahead else last), takers


def _part(
    table: Table,
    names: Sequence[str],
    kinds: Sequence[str],
    keys: Sequence[str] | None,
    first: int,
) -> str:
    arrays = ", ".join(
        f"CAST(${first + index} AS {'text' if kind == 'jsonb' else kind}[])" for index, kind in enumerate(kinds)
    )
    columns = ", ".join(names)
    given = {
        name: f"CAST(given.{name} AS jsonb)" if kind == "jsonb" else f"given.{name}"
        for name, kind in zip(names, kinds, strict=True)
    }
    source = f"unnest({arrays}) AS given ({columns})"
    if keys is None:
        return f"INSERT INTO {table.name} ({columns}) SELECT {', '.join(given.values())} FROM {source}"  # noqa: S608 - names of tables
    changed = ", ".join(f"{name} = {value}" for name, value in given.items() if name not in keys)
    found = " AND ".join(f"{table.name}.{key} = listed.{key}" for key in keys)
    # Each row is looked up by its whole key, whatever the planner believes about how many rows a site has: as a plain
    # join it would read a whole site to find one account where it believes that a site is small.
    placed = (
        f"SELECT place.ctid AS place, listed.* FROM unnest({arrays}) AS listed ({columns}) CROSS JOIN LATERAL "  # noqa: S608 - names of tables
        f"(SELECT {table.name}.ctid FROM {table.name} WHERE {found} LIMIT 1) AS place"
    )
    return f"UPDATE {table.name} SET {changed} FROM ({placed}) AS given WHERE {table.name}.ctid = given.place"  # noqa: S608 - names of tables


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


def _encode_json(value: Any) -> str | None:
    return None if value is None else msgspec.json.encode(value).decode()
