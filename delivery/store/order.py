"""What keeps deliveries of an endpoint in order, as SQL: which of them hold a key. Changed under the endpoint's lock."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, bindparam, delete, func, select, true, update
from sqlalchemy.dialects.postgresql import ARRAY

from delivery.schema import LANE_FIRST, LANE_PARKED, deliveries, order_keys
from engine.sql import among, insert_rows


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A delivery of an endpoint, by its endpoint sequence, that is not finished and has this key."""

    key: str
    endpoint_sequence: int
    delivery_id: str


def insert_keys(conn: Connection, site_id: int, endpoint_id: str, rows: Sequence[Held]) -> None:
    """Note which keys deliveries have."""
    insert_rows(
        conn,
        order_keys,
        [
            {
                "site_id": site_id,
                "endpoint_id": endpoint_id,
                "key": row.key,
                "endpoint_sequence": row.endpoint_sequence,
                "delivery_id": row.delivery_id,
            }
            for row in rows
        ],
    )


def take_keys(conn: Connection, site_id: int, endpoint_id: str, delivery_ids: Sequence[str]) -> list[Held]:
    """Forget the keys of deliveries and return them."""
    columns = order_keys.c
    place = (columns.site_id == site_id, among(columns.delivery_id, delivery_ids), columns.endpoint_id == endpoint_id)
    query = select(columns.key, columns.endpoint_sequence, columns.delivery_id).where(*place)
    found = [Held(**row._mapping) for row in conn.execute(query)]  # noqa: SLF001 - SQLAlchemy's public name for a row by its column names
    if found:
        conn.execute(delete(order_keys).where(*place))
    return found


def holders(conn: Connection, site_id: int, endpoint_id: str, delivery_ids: Sequence[str]) -> set[str]:
    """Return which of these deliveries hold a key."""
    columns = order_keys.c
    query = select(columns.delivery_id).where(
        columns.site_id == site_id, among(columns.delivery_id, delivery_ids), columns.endpoint_id == endpoint_id
    )
    return set(conn.execute(query).scalars())


def forget_keys(conn: Connection, site_id: int, endpoint_id: str) -> None:
    """Forget all keys of an endpoint."""
    conn.execute(delete(order_keys).where(order_keys.c.site_id == site_id, order_keys.c.endpoint_id == endpoint_id))


def first_holders(conn: Connection, site_id: int, endpoint_id: str, keys: Iterable[str]) -> dict[str, Held]:
    """Return for each of the keys that some delivery has the earliest one: one index probe a key."""
    columns = order_keys.c
    found = (
        select(columns.key, columns.endpoint_sequence, columns.delivery_id)
        .where(columns.site_id == site_id, columns.endpoint_id == endpoint_id)
        .order_by(columns.endpoint_sequence)
        .limit(1)
    )
    wanted = sorted(keys)
    if conn.dialect.name == "postgresql":
        given = (
            func.unnest(bindparam("given_keys", wanted, type_=ARRAY(columns.key.type)))
            .table_valued("key", name="given")
            .render_derived()
        )
        first = found.where(columns.key == given.c.key).correlate(given).lateral("first")
        rows = list(conn.execute(select(first).select_from(given.join(first, true()))))
    else:
        rows = [row for key in wanted for row in conn.execute(found.where(columns.key == key))]
    return {row.key: Held(**row._mapping) for row in rows}  # noqa: SLF001 - see above


def read_blocking(conn: Connection, site_id: int, endpoint_id: str) -> list[str]:
    """Return the exhausted deliveries of an endpoint that others wait for, or would."""
    query = (
        select(order_keys.c.delivery_id)
        .join(
            deliveries,
            (deliveries.c.site_id == order_keys.c.site_id) & (deliveries.c.id == order_keys.c.delivery_id),
        )
        .where(order_keys.c.site_id == site_id, order_keys.c.endpoint_id == endpoint_id)
        .where(deliveries.c.due_at.is_(None))
        .distinct()
    )
    return list(conn.execute(query).scalars())


def unpark_all(conn: Connection, site_id: int, endpoint_id: str, now_us: int) -> None:
    """Let everything of an endpoint go that waits for its turn."""
    changes: dict[str, Any] = {"lane": LANE_FIRST, "waits_for": 0, "updated_at": now_us}
    conn.execute(
        update(deliveries)
        .where(
            deliveries.c.site_id == site_id,
            deliveries.c.endpoint_id == endpoint_id,
            deliveries.c.lane == LANE_PARKED,
            deliveries.c.due_at.is_not(None),
        )
        .values(**changes),
    )


def any_unfinished(conn: Connection, site_id: int, endpoint_id: str, until: int) -> bool:
    """Tell whether a delivery of an endpoint with at most this endpoint sequence is not finished."""
    columns = deliveries.c
    for lane in range(LANE_PARKED + 1):
        query = (
            select(columns.id)
            .where(columns.site_id == site_id, columns.endpoint_id == endpoint_id, columns.lane == lane)
            .where(columns.due_at.is_not(None), columns.endpoint_sequence <= until, columns.trigger == "scheduled")
            .order_by(columns.due_at)
            .limit(1)
        )
        if conn.execute(query).first() is not None:
            return True
    return False
