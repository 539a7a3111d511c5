"""The SQL of metadata: a row for each pair of whatever has metadata, kept by the writer and found by its whole key.

A condition on JSON would find nothing by an index here: PostgreSQL asks its row security first, unless the condition is one that
cannot leak what it sees, and containment of JSON is none of those.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, and_, delete, exists, select

from engine.needs import AccountsWith
from engine.schema import accounts, metadata_pairs
from engine.sql import Insert

FEW: Final = 64
"""How many owners of one pair are looked at by themselves; where every pair has as many, the database joins them."""

Pair = tuple[str, str]
Described = dict[tuple[str, str], tuple[Mapping[str, str], Mapping[str, str]]]
"""By table and id, the metadata that something had before a batch, and has after it."""

FEW_OF_EACH: Final = f"""
    SELECT asked.key, asked.value, found.id
    FROM unnest(CAST($3 AS text[]), CAST($4 AS text[])) AS asked (key, value) CROSS JOIN LATERAL (
        SELECT id FROM metadata_pairs
        WHERE site_id = CAST($1 AS bigint) AND owner = $2
            AND metadata_pairs.key = asked.key AND metadata_pairs.value = asked.value
        LIMIT {FEW}
    ) AS found
"""  # noqa: S608 - a number of ours
_DROPPED: Final = """
    DELETE FROM metadata_pairs USING (
        SELECT place.ctid AS place
        FROM unnest(CAST($2 AS text[]), CAST($3 AS text[]), CAST($4 AS text[]), CAST($5 AS uuid[]))
            AS gone (owner, key, value, id) CROSS JOIN LATERAL (
            SELECT metadata_pairs.ctid FROM metadata_pairs
            WHERE site_id = CAST($1 AS bigint) AND metadata_pairs.owner = gone.owner AND metadata_pairs.key = gone.key
                AND metadata_pairs.value = gone.value AND metadata_pairs.id = gone.id
            LIMIT 1
        ) AS place
    ) AS found WHERE metadata_pairs.ctid = found.place
"""


def added(site_id: int, described: Described) -> Insert:
    """Return the pairs that are new, to be written with everything else."""
    rows = [
        {"site_id": site_id, "owner": owner, "key": key, "value": value, "id": id_}
        for (owner, id_), (was, now) in described.items()
        for key, value in now.items() - was.items()
    ]
    return Insert(table=metadata_pairs, rows=rows)


def dropped(described: Described) -> list[tuple[str, str, str, str]]:
    """Return the pairs that nothing has any more: table, key, value and id."""
    return [
        (owner, key, value, id_)
        for (owner, id_), (was, now) in described.items()
        for key, value in was.items() - now.items()
    ]


def drop(conn: Connection, site_id: int, gone: Sequence[tuple[str, str, str, str]]) -> None:
    """Remove pairs."""
    if not gone:
        return
    if conn.dialect.name == "postgresql":
        conn.exec_driver_sql(_DROPPED, (site_id, *(list(column) for column in zip(*gone, strict=True))))
        return
    columns = metadata_pairs.c
    for owner, key, value, id_ in gone:
        conn.execute(delete(metadata_pairs).where(*has(site_id, owner, [(key, value)], columns.id), columns.id == id_))


def has(site_id: int, owner: str, pairs: Sequence[Pair], id_: ColumnElement[Any]) -> list[ColumnElement[bool]]:
    """Return the conditions on `metadata_pairs` that a row is the first of the pairs, and that its owner has the others too.

    `id_` is the owner's id, where others are looked up by it.
    """
    columns = metadata_pairs.c
    (key, value), *others = pairs
    conditions = [columns.site_id == site_id, columns.owner == owner, columns.key == key, columns.value == value]
    for other_key, other_value in others:
        other = metadata_pairs.alias()
        same = and_(other.c.owner == owner, other.c.key == other_key, other.c.value == other_value)
        conditions.append(exists().where(other.c.site_id == site_id, same, other.c.id == id_))
    return conditions


def rarest_first(conn: Connection, site_id: int, owner: str, pairs: Collection[Pair]) -> list[Pair]:
    """Return pairs so that one that few have is the first."""
    if len(pairs) < 2:
        return list(pairs)
    few = _few_of_each(conn, site_id, owner, set(pairs))
    return sorted(pairs, key=lambda pair: len(few.get(pair, ())))


def candidates(conn: Connection, site_id: int, questions: Iterable[AccountsWith]) -> dict[AccountsWith, list[str]]:
    """Return accounts among which are all that answer each question, or as many that do as it asks for."""
    questions = list(questions)
    few = _few_of_each(conn, site_id, accounts.name, {pair for question in questions for pair in question.pairs})
    found = {}
    for question in questions:
        rarest = min((few.get(pair, []) for pair in question.pairs), key=len)
        found[question] = rarest if len(rarest) < FEW else _joined(conn, site_id, question)
    return found


def _few_of_each(conn: Connection, site_id: int, owner: str, pairs: set[Pair]) -> dict[Pair, list[str]]:
    found: dict[Pair, list[str]] = {}
    if conn.dialect.name == "postgresql":
        keys, values = [key for key, _ in pairs], [value for _, value in pairs]
        for key, value, id_ in conn.exec_driver_sql(FEW_OF_EACH, (site_id, owner, keys, values)):
            found.setdefault((key, value), []).append(str(id_))
        return found
    columns = metadata_pairs.c
    for pair in pairs:
        query = select(columns.id).where(*has(site_id, owner, [pair], columns.id)).limit(FEW)
        found[pair] = list(conn.execute(query).scalars())
    return found


def _joined(conn: Connection, site_id: int, question: AccountsWith) -> list[str]:
    columns = metadata_pairs.c
    query = (
        select(columns.id)
        .join(accounts, and_(accounts.c.site_id == columns.site_id, accounts.c.id == columns.id))
        .where(*has(site_id, accounts.name, question.pairs, columns.id), accounts.c.status == "open")
    )
    if question.ledger_id is not None:
        query = query.where(accounts.c.ledger_id == question.ledger_id)
    return list(conn.execute(query.limit(question.limit)).scalars())
