"""The SQL of accounts by their metadata: a row for each pair, found by its whole key on both databases.

A condition on JSON would find nothing by an index here: PostgreSQL asks its row security first, unless the condition is one that
cannot leak what it sees, and containment of JSON is none of those.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from sqlalchemy import Connection, and_, delete, exists, select

from engine.needs import AccountsWith
from engine.schema import account_metadata, accounts
from engine.sql import insert_rows

FEW: Final = 64
"""How many accounts of one pair are looked at by themselves; where every pair has as many, the database joins them."""

Pair = tuple[str, str]
FEW_OF_EACH: Final = f"""
    SELECT asked.key, asked.value, found.account_id
    FROM unnest(CAST($2 AS text[]), CAST($3 AS text[])) AS asked (key, value) CROSS JOIN LATERAL (
        SELECT account_id FROM account_metadata
        WHERE site_id = CAST($1 AS bigint) AND account_metadata.key = asked.key AND account_metadata.value = asked.value
        LIMIT {FEW}
    ) AS found
"""  # noqa: S608 - a number of ours


def candidates(conn: Connection, site_id: int, questions: Iterable[AccountsWith]) -> dict[AccountsWith, list[str]]:
    """Return accounts among which are all that answer each question, or as many that do as it asks for."""
    questions = list(questions)
    few = _few_of_each(conn, site_id, {pair for question in questions for pair in question.pairs})
    found = {}
    for question in questions:
        rarest = min((few.get(pair, []) for pair in question.pairs), key=len)
        found[question] = rarest if len(rarest) < FEW else _joined(conn, site_id, question)
    return found


def save(conn: Connection, site_id: int, changes: Mapping[str, tuple[Mapping[str, str], Mapping[str, str]]]) -> None:
    """Write what changed of accounts' metadata: by account, what it was before and what it is."""
    gone = [(*pair, account) for account, (was, now) in changes.items() for pair in was.items() - now.items()]
    columns = account_metadata.c
    for key, value, account_id in gone:
        whole = and_(columns.key == key, columns.value == value, columns.account_id == account_id)
        conn.execute(delete(account_metadata).where(columns.site_id == site_id, whole))
    new = [(*pair, account) for account, (was, now) in changes.items() for pair in now.items() - was.items()]
    rows = [
        {"site_id": site_id, "key": key, "value": value, "account_id": account_id} for key, value, account_id in new
    ]
    insert_rows(conn, account_metadata, rows)


def _few_of_each(conn: Connection, site_id: int, pairs: set[Pair]) -> dict[Pair, list[str]]:
    found: dict[Pair, list[str]] = {}
    if conn.dialect.name == "postgresql":
        keys, values = [key for key, _ in pairs], [value for _, value in pairs]
        for key, value, account_id in conn.exec_driver_sql(FEW_OF_EACH, (site_id, keys, values)):
            found.setdefault((key, value), []).append(str(account_id))
        return found
    columns = account_metadata.c
    for key, value in pairs:
        query = select(columns.account_id).where(columns.site_id == site_id, columns.key == key, columns.value == value)
        found[key, value] = list(conn.execute(query.limit(FEW)).scalars())
    return found


def _joined(conn: Connection, site_id: int, question: AccountsWith) -> list[str]:
    columns = account_metadata.c
    (key, value), *others = question.pairs
    query = (
        select(columns.account_id)
        .join(accounts, and_(accounts.c.site_id == columns.site_id, accounts.c.id == columns.account_id))
        .where(columns.site_id == site_id, columns.key == key, columns.value == value, accounts.c.status == "open")
    )
    if question.ledger_id is not None:
        query = query.where(accounts.c.ledger_id == question.ledger_id)
    for other_key, other_value in others:
        other = account_metadata.alias()
        same = and_(other.c.site_id == columns.site_id, other.c.key == other_key, other.c.value == other_value)
        query = query.where(exists().where(same, other.c.account_id == columns.account_id))
    return list(conn.execute(query.limit(question.limit)).scalars())
