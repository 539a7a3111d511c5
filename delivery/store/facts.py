"""Facts on their way to the feed, as SQL."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, delete, select

from delivery.rows import Fact
from delivery.schema import outgoing_facts
from engine.sql import among, insert_rows


def insert_facts(conn: Connection, site_id: int, facts: Sequence[Fact], now_us: int) -> None:
    """Store facts in the transaction of their effect."""
    insert_rows(
        conn,
        outgoing_facts,
        [
            {
                "site_id": site_id,
                "key": fact.key,
                "type": fact.type,
                "resource_type": fact.resource_type,
                "resource_id": fact.resource_id,
                "data": fact.data,
                "created_at": now_us,
            }
            for fact in facts
        ],
    )


def read_facts(conn: Connection, site_id: int, limit: int) -> list[Fact]:
    """Return the facts that wait, oldest first."""
    columns = outgoing_facts.c
    query = (
        select(columns.key, columns.type, columns.resource_type, columns.resource_id, columns.data)
        .where(columns.site_id == site_id)
        .order_by(columns.created_at, columns.key)
        .limit(limit)
    )
    return [
        Fact(
            key=row.key,
            type=row.type,
            resource_type=row.resource_type,
            resource_id=row.resource_id,
            data=bytes(row.data),
        )
        for row in conn.execute(query)
    ]


def delete_facts(conn: Connection, site_id: int, keys: Sequence[str]) -> None:
    """Forget facts that the engine has."""
    conn.execute(delete(outgoing_facts).where(outgoing_facts.c.site_id == site_id, among(outgoing_facts.c.key, keys)))
