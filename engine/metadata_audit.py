"""The audit of the pairs that are searched by: each is one of its owner's metadata, and there are as many as those have."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Select, Table, func, literal, select, true, tuple_

from engine.columns import metadata
from engine.finding import Finding
from engine.pieces import within
from engine.schema import lines, metadata_pairs

OWNERS: Final[Sequence[Table]] = [
    table for table in metadata.sorted_tables if {"metadata", "id"} <= set(table.c.keys()) and table is not lines
]
"""Whatever has metadata of its own and is searched by it."""

PAGE: Final = 10_000


def verify_metadata(conn: Connection, site_id: int) -> Finding | None:
    """Return the first pair that is not its owner's, or the first kind of owner that lacks some, or None."""
    columns = metadata_pairs.c
    names = {table.name for table in OWNERS}
    known = select(columns.owner).where(columns.site_id == site_id).order_by(columns.owner).limit(1)
    owner = conn.execute(known).scalar()
    while owner is not None:
        if owner not in names:
            return Finding(table="metadata_pairs", row=owner, detail="nothing of that name has metadata")
        owner = conn.execute(known.where(columns.owner > owner)).scalar()
    for table in OWNERS:
        found = _verify_owner(conn, site_id, table)
        if found is not None:
            return found
    return None


def _verify_owner(conn: Connection, site_id: int, table: Table) -> Finding | None:
    columns = metadata_pairs.c
    here = (columns.site_id == site_id, columns.owner == table.name)
    place = (columns.key, columns.value, columns.id)
    said = _said(conn, table).where(table.c.site_id == site_id, table.c.id == columns.id).scalar_subquery()
    stray = select(columns.id, columns.key).where(*here, said.is_distinct_from(columns.value)).limit(1)
    ends = select(*place).where(*here).order_by(*place).offset(PAGE - 1).limit(1)
    counted, end = 0, None
    while True:
        # Compared as a whole, as the key knows them: one by one they would be looked for from the first pair on.
        later = () if end is None else (tuple_(*place) > _typed(end, place),)
        end = conn.execute(ends.where(*later)).first()
        until = () if end is None else (tuple_(*place) <= _typed(end, place),)
        found = conn.execute(stray.where(*later, *until)).first()
        if found is not None:
            detail = f"among {table.name}: it has no {found.key!r} of this value"
            return Finding(table="metadata_pairs", row=found.id, detail=detail)
        if end is None:
            counted += conn.execute(select(func.count()).select_from(metadata_pairs).where(*here, *later)).scalar_one()
            break
        counted += PAGE
    expected = _number_of_pairs(conn, site_id, table)
    if counted != expected:
        detail = f"{expected} pairs of metadata stand in {table.name}, {counted} here"
        return Finding(table="metadata_pairs", row=f"site {site_id}", detail=detail)
    return None


def _typed(end: Any, place: Sequence[ColumnElement[Any]]) -> ColumnElement[Any]:
    return tuple_(*(literal(value, column.type) for value, column in zip(end, place, strict=True)))


def _said(conn: Connection, table: Table) -> Select[Any]:
    """Return the query of what something's metadata says under the key of the pair beside it."""
    key = metadata_pairs.c.key
    if conn.dialect.name == "postgresql":
        return select(table.c.metadata.op("->>")(key))
    pair = func.json_each(table.c.metadata).table_valued("key", "value")
    return select(pair.c.value).select_from(table.join(pair, true())).where(pair.c.key == key)


def _number_of_pairs(conn: Connection, site_id: int, table: Table) -> int:
    each = func.jsonb_each_text if conn.dialect.name == "postgresql" else func.json_each
    pairs = each(table.c.metadata).table_valued("key", "value")
    query = select(func.count()).select_from(table.join(pairs, true()))
    ids = select(table.c.id)
    number: int = 0
    after: str | None = None
    while True:
        rest = within(ids, table, table.c.id, site_id, after, None).order_by(table.c.id)
        until: str | None = conn.execute(rest.offset(PAGE - 1).limit(1)).scalar()
        number += conn.execute(within(query, table, table.c.id, site_id, after, until)).scalar_one()
        if until is None:
            return number
        after = until
