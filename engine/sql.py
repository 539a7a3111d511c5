"""Multi-row statements: arrays through UNNEST on PostgreSQL, executemany on SQLite; several of them as one statement.

A statement's text depends on the table and the column names only, never on the number of rows, so that it is built and
prepared once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from operator import itemgetter
from typing import Any, Final, NamedTuple

import msgspec
from msgspec import Struct
from sqlalchemy import (
    ColumnElement,
    Connection,
    Dialect,
    LargeBinary,
    Table,
    Text,
    TypeDecorator,
    and_,
    bindparam,
    insert,
    update,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.dialects.sqlite import insert as insert_sqlite
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeEngine

from engine.parameters import Converter, array, converter, type_name

Row = Mapping[str, Any]


class Insert(Struct, frozen=True, kw_only=True):
    """Rows to insert, all with the same keys.

    With `adds_to`, the columns of the table's key: where there is such a row the other columns are added to what it has.
    """

    table: Table
    rows: Sequence[Row]
    adds_to: tuple[str, ...] = ()


class Update(Struct, frozen=True, kw_only=True):
    """Rows to change: found by the key columns, all their other columns set; those in `adds` are added to instead."""

    table: Table
    keys: tuple[str, ...]
    rows: Sequence[Row]
    adds: tuple[str, ...] = ()


Change = Insert | Update


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


def among_given(column: ColumnElement[Any], name: str) -> ColumnElement[bool]:
    """Return the condition that the column is one of a parameter's values, for a statement that is made once."""
    return _Among(column, bindparam(name, type_=_Values(column.type)))


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
        return conn.exec_driver_sql(*together([change])).rowcount
    return _update_one_by_one(conn, change)


def write(conn: Connection, changes: Sequence[Change]) -> None:
    """Write everything: one statement on PostgreSQL, one after the other elsewhere. No row may stand in it twice.

    PostgreSQL runs every data-modifying part of a statement to its end, all on one snapshot.
    """
    changes = [change for change in changes if change.rows]
    if not changes:
        return
    if conn.dialect.name == "postgresql":
        conn.exec_driver_sql(*together(changes))
        return
    for change in changes:
        if isinstance(change, Insert):
            conn.execute(_inserted(change), change.rows)
        else:
            _update_one_by_one(conn, change)


def _inserted(change: Insert) -> Any:
    if not change.adds_to:
        return insert(change.table)
    statement = insert_sqlite(change.table)
    added = {
        name: change.table.c[name] + statement.excluded[name] for name in change.rows[0] if name not in change.adds_to
    }
    return statement.on_conflict_do_update(index_elements=change.adds_to, set_=added)


def _update_one_by_one(conn: Connection, change: Update) -> int:
    table, keys = change.table, change.keys
    names = tuple(change.rows[0])
    found = update(table).where(and_(*(table.c[key] == bindparam(f"key_{key}") for key in keys)))
    # Prefixed, all of them: SQLAlchemy takes a name of a column for itself where the column stands in an expression.
    parameters = [{f"{'key' if name in keys else 'new'}_{name}": row[name] for name in names} for row in change.rows]
    values = {
        name: table.c[name] + bindparam(f"new_{name}") if name in change.adds else bindparam(f"new_{name}")
        for name in names
        if name not in keys
    }
    return conn.execute(found.values(values), parameters).rowcount


def together(changes: Sequence[Change]) -> tuple[str, tuple[Any, ...]]:
    """Return the one statement that makes all the changes on PostgreSQL, and its parameters."""
    shape, columns = columns_of(changes)
    statement, converters = _together(shape)
    return statement, tuple(parameters_of(columns, converters))


def columns_of(changes: Sequence[Change]) -> tuple[Shape, list[Any]]:
    """Return the shape of the changes, and per column its values, or its value where all rows have the same.

    Most columns of a batch's rows say the same in all of them, and an array costs both sides as much as it is long. A few rows
    are given as arrays whatever they say, so that there are no more statements than shapes of batches. No two rows of a table are
    the same, so one column at least is an array.
    """
    parts: list[Part] = []
    columns: list[Any] = []
    for change in changes:
        rows = change.rows
        names = tuple(rows[0])
        keys, adds = (None, change.adds_to) if isinstance(change, Insert) else (change.keys, change.adds)
        # What is counted is the same in all rows now and then: that would make a statement of each such occasion.
        many = len(rows) >= _MANY and not adds
        same: list[bool] = []
        for name, values in zip(names, zip(*map(itemgetter(*names), rows), strict=True), strict=True):
            alike = many and name not in (keys or ()) and values.count(values[0]) == len(values)
            same.append(alike)
            columns.append(values[0] if alike else values)
        parts.append(Part(change.table, names, tuple(same), keys, adds))
    return tuple(parts), columns


def parameters_of(columns: Sequence[Any], converters: Sequence[Converter]) -> Iterator[Any]:
    """Return what is sent of columns: what their converters make of them."""
    for values, convert in zip(columns, converters, strict=True):
        yield values if convert is None else convert(values)


_MANY: Final = 8
Shape = tuple["Part", ...]


class Part(NamedTuple):
    """The shape of one change: its columns, which of them have one value in all rows, and the keys of an update.

    `adds` is as the change has it: what an insert finds a row by that it adds to, what an update adds to.
    """

    table: Table
    names: tuple[str, ...]
    same: tuple[bool, ...]
    keys: tuple[str, ...] | None
    adds: tuple[str, ...]


@lru_cache(maxsize=512)
def _together(shape: Shape) -> tuple[str, list[Converter]]:
    """Return the statement for changes of this shape, and what makes its columns parameters."""
    parts, converters = parts_of(shape, 1)
    *before, last = parts
    ahead = ", ".join(f"part_{index} AS ({part})" for index, part in enumerate(before))
    return (f"WITH {ahead} {last}" if ahead else last), converters


def parts_of(shape: Shape, first: int, behind: str = "") -> tuple[list[str], list[Converter]]:
    """Return the statements for changes of this shape, and what makes their columns parameters, the first of which has this number.

    Each selects from what it stands behind too, which is named with its join.
    """
    parts: list[str] = []
    converters: list[Converter] = []
    for part in shape:
        kinds = [type_name(part.table.c[name]) for name in part.names]
        parts.append(_part(part, kinds, first + len(converters), behind))
        converters += [converter(kind, same) for kind, same in zip(kinds, part.same, strict=True)]
    return parts, converters


def _part(part: Part, kinds: Sequence[str], first: int, behind: str) -> str:
    arrays, listed = [], []
    given: dict[str, str] = {}
    for number, (name, kind, same) in enumerate(zip(part.names, kinds, part.same, strict=True), start=first):
        sent = "text" if kind == "jsonb" else kind
        if same:
            value = f"CAST(${number} AS {sent})"
        else:
            arrays.append(array(number, kind))
            listed.append(name)
            value = f"given.{name}"
        given[name] = f"CAST({value} AS jsonb)" if kind == "jsonb" else value
    table, columns = part.table.name, ", ".join(listed)
    if part.keys is None:
        source = f"unnest({', '.join(arrays)}) AS given ({columns})"
        added = ", ".join(f"{name} = {table}.{name} + excluded.{name}" for name in part.names if name not in part.adds)
        there = f" ON CONFLICT ({', '.join(part.adds)}) DO UPDATE SET {added}" if part.adds else ""
        return f"INSERT INTO {table} ({', '.join(part.names)}) SELECT {', '.join(given.values())} FROM {behind}{source}{there}"  # noqa: S608 - names of tables
    changed = ", ".join(
        f"{name} = {table}.{name} + {value}" if name in part.adds else f"{name} = {value}"
        for name, value in given.items()
        if name not in part.keys
    )
    found = " AND ".join(f"{table}.{key} = listed.{key}" for key in part.keys)
    # Each row is looked up by its whole key, whatever the planner believes about how many rows a site has: as a plain
    # join it would read a whole site to find one account where it believes that a site is small.
    placed = (
        f"SELECT place.ctid AS place, listed.* FROM {behind}unnest({', '.join(arrays)}) AS listed ({columns}) "  # noqa: S608 - names of tables
        f"CROSS JOIN LATERAL (SELECT {table}.ctid FROM {table} WHERE {found} LIMIT 1) AS place"
    )
    return f"UPDATE {table} SET {changed} FROM ({placed}) AS given WHERE {table}.ctid = given.place"  # noqa: S608 - names of tables
