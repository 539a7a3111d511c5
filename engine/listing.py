"""The SQL of lists: which rows of a table a page holds, each found by an index, whatever the page is narrowed by.

Pairs of metadata drive: on PostgreSQL the rows that have them are looked up one by one (decision 15), in the order of the list.
Joined in its own way, the planner may read all of a site to find the few that a pair is on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from msgspec import Struct
from sqlalchemy import (
    ColumnElement,
    CompoundSelect,
    Connection,
    Select,
    Table,
    and_,
    func,
    literal,
    select,
    true,
    tuple_,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

from engine import metadata_store
from engine.schema import lines, metadata_pairs

LOOKED_AT: Final = 2_000
"""How many rows a step looks at."""
STEPS: Final = 5
"""How many steps a page takes at most."""

Accounts = Select[Any]
"""The ids of some accounts."""
Place = tuple[Any, ...]
"""Where a page ends: the last row's values of the columns that the list is ordered by."""


class Order(Struct, frozen=True, kw_only=True):
    """The columns that a list is ordered by, all of them one way: with each other they tell every row apart."""

    key: tuple[str, ...]
    ascending: bool

    def by(self, columns: Any) -> list[ColumnElement[Any]]:
        """Return the order."""
        return [ordered(columns[name], ascending=self.ascending) for name in self.key]

    def after(self, columns: Any, place: Place | None) -> list[ColumnElement[bool]]:
        """Return the condition that rows come after a place, as an index knows it."""
        if place is None:
            return []
        known = [columns[name] for name in self.key]
        values = [literal(value, column.type) for value, column in zip(place, known, strict=True)]
        if len(known) == 1:
            return beyond(known[0], values[0], ascending=self.ascending)
        return beyond(tuple_(*known), tuple_(*values), ascending=self.ascending)

    def place_of(self, row: Mapping[str, Any]) -> Place:
        """Return where a row stands in the order."""
        return tuple(row[name] for name in self.key)


class _Within(FunctionElement[bool]):
    """`column = ANY (ARRAY (query))`, or what SQLite has for it."""

    name = "within"
    inherit_cache = True


@compiles(_Within)
def _within_rows(element: _Within, compiler: Any, **options: Any) -> str:
    column, query = element.clauses
    return f"{compiler.process(column, **options)} IN {compiler.process(query, **options)}"


@compiles(_Within, "postgresql")
def _within_array(element: _Within, compiler: Any, **options: Any) -> str:
    column, query = element.clauses
    return f"{compiler.process(column, **options)} = ANY (ARRAY{compiler.process(query, **options)})"


def page(
    conn: Connection,
    table: Table,
    site_id: int,
    conditions: Sequence[ColumnElement[bool]],
    *,
    after: str | None,
    ascending: bool,
    limit: int,
    pairs: Mapping[str, str],
    touching: Sequence[Accounts] = (),
) -> Select[Any]:
    """Return the query of so many rows of a table that come after an id, by id, and have what they are narrowed by."""
    own = (table.c.site_id == site_id, *conditions, *(has_line(table, site_id, accounts) for accounts in touching))
    if not pairs:
        query = select(table).where(*own, *beyond(table.c.id, after, ascending=ascending))
        return query.order_by(ordered(table.c.id, ascending=ascending)).limit(limit)
    keys = metadata_pairs.c
    wanted = metadata_store.rarest_first(conn, site_id, table.name, list(pairs.items()))
    place = (*metadata_store.has(site_id, table.name, wanted, keys.id), *beyond(keys.id, after, ascending=ascending))
    if conn.dialect.name == "postgresql":
        found = select(keys.id).where(*place).order_by(ordered(keys.id, ascending=ascending)).subquery()
        row = select(table).where(table.c.id == found.c.id, *own).limit(1).lateral()
        query = select(row).select_from(found.join(row, true()))
        return query.order_by(ordered(found.c.id, ascending=ascending)).limit(limit)
    # What SQLite is told to be likely it does not use an index for: so it cannot begin with the table.
    joined = metadata_pairs.join(table, and_(table.c.site_id == site_id, table.c.id == func.likely(keys.id)))
    query = select(table).select_from(joined).where(*place, *own)
    return query.order_by(ordered(keys.id, ascending=ascending)).limit(limit)


def looked_through(
    conn: Connection,
    order: Order,
    following: Callable[[Place | None, int], Select[Any]],
    matching: Callable[[Any], list[ColumnElement[bool]]] | None,
    place: Place | None,
    limit: int,
) -> tuple[list[dict[str, Any]], Place | None]:
    """Return a page of the rows that come after a place, and where it ends: None where nothing comes after it.

    `following` is the query of so many rows after a place, by its index. Of these, only those are wanted that are `matching`: then a
    bounded number is looked at, so that a page may hold few, or none, and still say that there is more.
    """
    found: list[dict[str, Any]] = []
    for _ in range(STEPS):
        rows, place = _step(conn, order, following, matching, place, limit + 1 - len(found))
        found += rows
        if len(found) > limit or place is None:
            break
    shown = found[:limit]
    return shown, order.place_of(shown[-1]) if len(found) > limit else place


def _step(
    conn: Connection,
    order: Order,
    following: Callable[[Place | None, int], Select[Any]],
    matching: Callable[[Any], list[ColumnElement[bool]]] | None,
    place: Place | None,
    limit: int,
) -> tuple[list[dict[str, Any]], Place | None]:
    """Return the next rows that match, and the place up to which was looked: None where nothing comes after it."""
    at_once = limit if matching is None else LOOKED_AT
    some = following(place, at_once).subquery()
    conditions = [] if matching is None else matching(some.c)
    query = select(some).where(*conditions).order_by(*order.by(some.c)).limit(limit)
    rows = [dict(row) for row in conn.execute(query).mappings()]
    if len(rows) == limit:
        return rows, order.place_of(rows[-1])
    if matching is None:
        return rows, None
    end = select(*(some.c[name] for name in order.key)).order_by(*order.by(some.c)).offset(at_once - 1).limit(1)
    last = conn.execute(end).first()
    return rows, None if last is None else tuple(last)


def described(conn: Connection, table: Table, site_id: int, pairs: Mapping[str, str]) -> Select[Any]:
    """Return the ids of what has all of some pairs in its metadata."""
    wanted = metadata_store.rarest_first(conn, site_id, table.name, list(pairs.items()))
    keys = metadata_pairs.c
    return select(keys.id).where(*metadata_store.has(site_id, table.name, wanted, keys.id))


def within(column: ColumnElement[Any], query: Select[Any] | CompoundSelect[Any]) -> ColumnElement[bool]:
    """Return the condition that the column is one of a query's values, which are read first, by themselves, and then looked up.

    As a join the planner may read all of a site, and once more for each row of it, where it takes the site for small.
    """
    return _Within(column, (query.correlate(None) if isinstance(query, Select) else query).scalar_subquery())


def beyond(column: ColumnElement[Any], after: Any, *, ascending: bool) -> list[ColumnElement[bool]]:
    """Return the condition that a column comes after a value in an order: none where there is no value."""
    if after is None:
        return []
    return [column > after if ascending else column < after]


def ordered(column: ColumnElement[Any], *, ascending: bool) -> ColumnElement[Any]:
    """Return a column as something to order by."""
    return column.asc() if ascending else column.desc()


def has_line(table: Table, site_id: int, accounts: Accounts) -> ColumnElement[bool]:
    """Return the condition that a thing, by its own id among those of entries, has a line on one of some accounts."""
    # Each entry as often as it has lines there: asked for once each, they would be looked for in the order of entries.
    of_them = select(lines.c.entry_id).where(lines.c.site_id == site_id, within(lines.c.account_id, accounts))
    return within(table.c.id, of_them)
