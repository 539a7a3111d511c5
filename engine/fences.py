"""Everything or nothing, in one statement: behind a row that must be as expected, or behind rows that must be as they were.

On PostgreSQL every part of such a statement selects from what the fence returns, since each runs to its end whatever the others
find. No row may stand in it twice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import count
from typing import Any, Final

from msgspec import Struct
from sqlalchemy import Connection, Table, exists, select, update

from engine.parameters import Converter, array, converter, type_name
from engine.sql import Change, Row, Shape, among, columns_of, parameters_of, parts_of, write


class Absent(Struct, frozen=True, kw_only=True):
    """That a table has no row with these values, with one of those in each listed column, and with a larger one there."""

    table: Table
    equal: Row
    among: Mapping[str, Sequence[Any]]
    larger: Row


class Fence(Struct, frozen=True, kw_only=True):
    """A row that must be as expected for anything to be written, and what it becomes."""

    table: Table
    keys: Row
    expected: Row
    row: Row
    unless: Absent | None = None


class Held(Struct, frozen=True, kw_only=True):
    """Rows that must all be there for anything to be written: each has all that one of these rows says, and the values of `equal`.

    They are locked, in their order. The rows all have the same columns; with `equal` the column `key` names one row of the table.
    """

    table: Table
    equal: Row
    key: str
    rows: Sequence[Row]


def write_behind(conn: Connection, fence: Fence | Held, changes: Sequence[Change]) -> bool:
    """Write everything if the fence finds what it expects, and tell whether it did; nothing is written if it did not.

    One statement on PostgreSQL.
    """
    changes = [change for change in changes if change.rows]
    if conn.dialect.name == "postgresql":
        return bool(conn.exec_driver_sql(*behind(fence, changes)).scalar_one())
    if not (_are_there(conn, fence) if isinstance(fence, Held) else conn.execute(_moved(fence)).rowcount == 1):
        return False
    write(conn, changes)
    return True


def _are_there(conn: Connection, held: Held) -> bool:
    columns = held.table.c
    return all(
        conn.execute(
            select(exists().where(*(columns[name] == value for name, value in {**held.equal, **row}.items())))
        ).scalar()
        for row in held.rows
    )


def _moved(fence: Fence) -> Any:
    columns = fence.table.c
    found = [columns[name] == value for name, value in fence.keys.items()]
    found += [columns[name].is_not_distinct_from(value) for name, value in fence.expected.items()]
    if fence.unless is not None:
        held = fence.unless.table.c
        found.append(
            ~exists().where(
                *(held[name] == value for name, value in fence.unless.equal.items()),
                *(among(held[name], values) for name, values in fence.unless.among.items()),
                *(held[name] > value for name, value in fence.unless.larger.items()),
            )
        )
    return update(fence.table).where(*found).values(fence.row)


def behind(fence: Fence | Held, changes: Sequence[Change]) -> tuple[str, tuple[Any, ...]]:
    """Return the one statement that makes all the changes if the fence lets it, and its parameters; it counts 1 or 0."""
    given = _given(fence)
    shape, columns = columns_of(changes)
    statement, converters = _behind(_kind(fence), len(given) + 1, shape)
    return statement, (*given, *parameters_of(columns, converters))


_Watched = tuple[Table, tuple[str, ...], tuple[str, ...], tuple[str, ...]]
_Moving = tuple[Table, tuple[str, ...], tuple[str, ...], tuple[str, ...], _Watched | None]
_Holding = tuple[Table, tuple[str, ...], str, tuple[str, ...]]


def _kind(fence: Fence | Held) -> _Moving | _Holding:
    """Return what the fence's own part of the statement depends on."""
    if isinstance(fence, Held):
        return fence.table, tuple(fence.equal), fence.key, tuple(fence.rows[0])
    unless = fence.unless
    watched = None if unless is None else (unless.table, tuple(unless.equal), tuple(unless.among), tuple(unless.larger))
    return fence.table, tuple(fence.row), tuple(fence.keys), tuple(fence.expected), watched


def _given(fence: Fence | Held) -> list[Any]:
    """Return the parameters of the fence's own part of the statement."""
    if isinstance(fence, Held):
        listed = [[row[name] for row in fence.rows] for name in fence.rows[0]]
        return [
            *fence.equal.values(),
            *parameters_of(listed, _converters(fence.table, tuple(fence.rows[0]))),
            len(fence.rows),
        ]
    given = [*fence.row.values(), *fence.keys.values(), *fence.expected.values()]
    if fence.unless is not None:
        given += [*fence.unless.equal.values(), *fence.unless.among.values(), *fence.unless.larger.values()]
    return given


@lru_cache(maxsize=512)
def _behind(fence: _Moving | _Holding, first: int, shape: Shape) -> tuple[str, list[Converter]]:
    """Return the statement for changes of this shape behind a fence, and what makes their columns parameters."""
    own = _holding(*fence) if len(fence) == _HOLDING else _moving(*fence)
    parts, converters = parts_of(shape, first, behind="fence CROSS JOIN ")
    ahead = "".join(f", part_{index} AS ({part})" for index, part in enumerate(parts))
    return f"WITH fence AS ({own}){ahead} SELECT count(*) FROM fence", converters  # noqa: S608 - names of tables


_HOLDING: Final = 4


def _moving(
    table: Table, changed: Sequence[str], keys: Sequence[str], expected: Sequence[str], watched: _Watched | None
) -> str:
    numbers = count(1)
    sets = ", ".join(f"{name} = {_cast(table, name, next(numbers))}" for name in changed)
    found = [f"{table.name}.{name} = {_cast(table, name, next(numbers))}" for name in keys]
    found += [f"{table.name}.{name} IS NOT DISTINCT FROM {_cast(table, name, next(numbers))}" for name in expected]
    if watched is not None:
        held, equal, listed, larger = watched
        there = [f"held.{name} = {_cast(held, name, next(numbers))}" for name in equal]
        there += [f"held.{name} = ANY (CAST(${next(numbers)} AS {type_name(held.c[name])}[]))" for name in listed]
        there += [f"held.{name} > {_cast(held, name, next(numbers))}" for name in larger]
        found.append(f"NOT EXISTS (SELECT FROM {held.name} AS held WHERE {' AND '.join(there)})")
    return f"UPDATE {table.name} SET {sets} WHERE {' AND '.join(found)} RETURNING {table.name}.{keys[0]}"  # noqa: S608 - names of tables


def _holding(table: Table, equal: Sequence[str], key: str, listed: Sequence[str]) -> str:
    numbers = count(1)
    found = [f"held.{name} = {_cast(table, name, next(numbers))}" for name in equal]
    arrays = [array(next(numbers), type_name(table.c[name])) for name in listed]
    found += [f"held.{name} = listed.{name}" for name in listed if name != key]
    # As a stretch of one, in its order, whatever the planner believes about how many rows a site has (see engine.lookups).
    found += [f"held.{key} >= listed.{key}", f"held.{key} <= listed.{key}"]
    return (
        f"SELECT count(*) FROM unnest({', '.join(arrays)}) AS listed ({', '.join(listed)}) "  # noqa: S608 - names of tables
        f"CROSS JOIN LATERAL (SELECT FROM {table.name} AS held WHERE {' AND '.join(found)} ORDER BY held.{key} LIMIT 1 FOR UPDATE) AS found "
        f"HAVING count(*) = CAST(${next(numbers)} AS bigint)"
    )


def _converters(table: Table, names: Sequence[str]) -> list[Converter]:
    return [converter(type_name(table.c[name]), same=False) for name in names]


def _cast(table: Table, name: str, number: int) -> str:
    return f"CAST(${number} AS {type_name(table.c[name])})"
