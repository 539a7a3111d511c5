"""What waits at endpoints, as SQL: read under the endpoints' locks, so that what is in flight is counted exactly."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sqlalchemy import ColumnElement, Connection, Select, and_, bindparam, func, or_, select, true, union_all

from delivery.rows import DeliveryRow, EndpointRow
from delivery.schema import LANE_AGAIN, LANE_FIRST, LANE_IN_FLIGHT, LANE_PING, deliveries, endpoints
from delivery.store.deliveries import COLUMNS, delivery_of
from engine.sql import among_given

IN_FLIGHT_MAX: Final = 100_000
"""More than any endpoint can have: a bound makes the planner keep to the order."""

_NOW: Final = bindparam("now_us", type_=deliveries.c.due_at.type)
_SITE: Final = bindparam("site_id", type_=deliveries.c.site_id.type)


def read_waiting(
    conn: Connection,
    site_id: int,
    locked: Sequence[EndpointRow],
    now_us: int,
) -> dict[str, list[DeliveryRow]]:
    """Return for each locked endpoint what is in flight, and of each other lane the first that are due.

    As many of a lane as the endpoint may have in flight by its window. In the order in which they are due.
    """
    found: dict[str, list[DeliveryRow]] = {row.id: [] for row in locked}
    if conn.dialect.name == "postgresql":
        rows = list(conn.execute(_WAITING, {"site_id": site_id, "now_us": now_us, "ids": list(found)}))
    else:
        # SQLite knows no LATERAL; a statement for each endpoint is a function call there, not a journey.
        rows = [
            row
            for endpoint in locked
            for row in conn.execute(
                _WAITING_AT_ONE,
                {"site_id": site_id, "now_us": now_us, "endpoint_id": endpoint.id, "most": _window(endpoint)},
            )
        ]
    for row in rows:
        found[row.endpoint_id].append(delivery_of(row))
    return found


def read_pings(conn: Connection, site_id: int, endpoint_id: str, now_us: int) -> list[DeliveryRow]:
    """Return what is in flight at a locked endpoint that is being enabled, and the pings that are due."""
    columns = deliveries.c
    query = (
        select(*COLUMNS)
        .where(columns.site_id == site_id, columns.endpoint_id == endpoint_id, columns.due_at.is_not(None))
        .where(or_(columns.lane == LANE_IN_FLIGHT, and_(columns.lane == LANE_PING, columns.due_at <= now_us)))
        .order_by(columns.due_at)
    )
    return [delivery_of(row) for row in conn.execute(query)]


def _window(endpoint: EndpointRow) -> int:
    return min(endpoint.max_in_flight, endpoint.circuit.window)


def _lane(lane: int, endpoint: ColumnElement[str], most: ColumnElement[int]) -> Select[*tuple[object, ...]]:
    query = select(*COLUMNS).where(
        deliveries.c.site_id == _SITE,
        deliveries.c.endpoint_id == endpoint,
        deliveries.c.lane == lane,
        deliveries.c.due_at.is_not(None),
    )
    # In the order of the one index that finds a lane; any other would lead through all that the endpoint ever had.
    ordered = query.order_by(deliveries.c.due_at, deliveries.c.endpoint_sequence)
    if lane == LANE_IN_FLIGHT:
        return ordered.limit(IN_FLIGHT_MAX)
    return ordered.where(deliveries.c.due_at <= _NOW).limit(most)


def _lanes(endpoint: ColumnElement[str], most: ColumnElement[int]) -> list[Select[*tuple[object, ...]]]:
    return [_lane(lane, endpoint, most) for lane in (LANE_IN_FLIGHT, LANE_FIRST, LANE_AGAIN)]


_LATERAL: Final = union_all(
    *(
        query.correlate(endpoints)
        for query in _lanes(endpoints.c.id, func.least(endpoints.c.max_in_flight, endpoints.c.circuit_window))
    ),
).lateral("waiting")
_WAITING: Final = (
    select(_LATERAL)
    .select_from(endpoints.join(_LATERAL, true()))
    .where(endpoints.c.site_id == _SITE, among_given(endpoints.c.id, "ids"))
)
_PARTS: Final = [
    select(query.subquery())
    for query in _lanes(
        bindparam("endpoint_id", type_=deliveries.c.endpoint_id.type),
        bindparam("most", type_=endpoints.c.max_in_flight.type),
    )
]
_WAITING_AT_ONE: Final = union_all(*_PARTS)
