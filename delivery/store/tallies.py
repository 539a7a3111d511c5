"""Tallies as SQL: added up by whoever settles under the endpoint's lock, read by hour."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import Connection, Select, func, null, select

from delivery.schema import TALLY_CLASSES, delivery_tallies
from delivery.tally import Tally
from engine.sql import Insert, among


def tallying(site_id: int, found: Sequence[Tally]) -> Insert:
    """Return the change that adds to what is counted; in one order, because their endpoints need not be locked."""
    rows = [
        {
            "site_id": site_id,
            "hour": each.hour,
            "endpoint_id": each.endpoint_id,
            "attempts": each.attempts,
            "delivered": each.delivered,
            **dict(zip(TALLY_CLASSES, each.durations, strict=True)),
        }
        for each in sorted(found, key=lambda each: each.endpoint_id or "")
    ]
    return Insert(table=delivery_tallies, rows=rows, adds_to=("site_id", "hour", "endpoint_id"))


def read_tallies(conn: Connection, site_id: int, since_hour: int, endpoint_ids: Collection[str]) -> list[Tally]:
    """Return the tallies of some endpoints from an hour on, in order of the hours."""
    query = (
        select(delivery_tallies)
        .where(
            delivery_tallies.c.site_id == site_id,
            delivery_tallies.c.hour >= since_hour,
            among(delivery_tallies.c.endpoint_id, endpoint_ids),
        )
        .order_by(delivery_tallies.c.hour, delivery_tallies.c.endpoint_id)
    )
    return _tallies(conn, query)


def sum_tallies(conn: Connection, site_id: int, since_hour: int) -> list[Tally]:
    """Return the tallies of all endpoints together from an hour on, in order of the hours."""
    summed = [func.sum(delivery_tallies.c[name]).label(name) for name in ("attempts", "delivered", *TALLY_CLASSES)]
    query = (
        select(null().label("endpoint_id"), delivery_tallies.c.hour, *summed)
        .where(delivery_tallies.c.site_id == site_id, delivery_tallies.c.hour >= since_hour)
        .group_by(delivery_tallies.c.hour)
        .order_by(delivery_tallies.c.hour)
    )
    return _tallies(conn, query)


def _tallies(conn: Connection, query: Select[Any]) -> list[Tally]:
    return [
        Tally(
            endpoint_id=row["endpoint_id"],
            hour=row["hour"],
            attempts=int(row["attempts"]),
            delivered=int(row["delivered"]),
            durations=tuple(int(row[name]) for name in TALLY_CLASSES),
        )
        for row in conn.execute(query).mappings()
    ]


def count_settled(conn: Connection, site_id: int, since_hour: int) -> int:
    """Return how many attempts were settled from an hour on: it grows with each of them."""
    query = select(func.coalesce(func.sum(delivery_tallies.c.attempts), 0)).where(
        delivery_tallies.c.site_id == site_id, delivery_tallies.c.hour >= since_hour
    )
    return int(conn.execute(query).scalar_one())


def anything_delivered(conn: Connection, site_id: int) -> bool:
    """Tell whether anything was ever delivered."""
    query = select(delivery_tallies.c.hour).where(
        delivery_tallies.c.site_id == site_id, delivery_tallies.c.delivered > 0
    )
    return conn.execute(query.limit(1)).first() is not None
