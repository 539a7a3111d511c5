"""Skip: give a delivery up by hand. What waits for it in an ordered endpoint goes on; a replay can still send it later."""

from __future__ import annotations

from typing import Final

from msgspec.structs import replace
from sqlalchemy import Connection

from delivery.endpoints import OnDue
from delivery.errors import DeliveryNotFound, DeliveryNotSkippable
from delivery.order import release
from delivery.rows import DeliveryRow
from delivery.schema import LANE_AGAIN
from delivery.shapes import Delivery, show_delivery
from delivery.store.deliveries import find_delivery, requeueing
from delivery.store.endpoints import lock_endpoints
from delivery.store.replays import counting_outcomes
from engine.clock import Clock
from engine.databases import Databases, Site
from engine.sql import write

SKIPPED_BY_REQUEST: Final = "by_request"
_SKIPPABLE: Final = frozenset({"pending", "retrying", "exhausted"})


class Skip:
    """Gives deliveries up."""

    def __init__(self, databases: Databases, *, clock: Clock, on_due: OnDue | None = None) -> None:
        self._databases = databases
        self._clock = clock
        self._on_due = on_due

    async def skip_one(self, site: Site, delivery_id: str) -> Delivery:
        """Skip a delivery that waits or was given up, and return it; one that is skipped already stays as it is.

        Raises DeliveryNotFound, DeliveryNotSkippable.
        """
        database = await self._databases.of(site)
        row = await database.write(lambda conn: self._skip(conn, site.id, delivery_id), site_id=site.id)
        if self._on_due is not None:
            self._on_due(site, row.endpoint_id)
        return show_delivery(row)

    def _skip(self, conn: Connection, site_id: int, delivery_id: str) -> DeliveryRow:
        found = find_delivery(conn, site_id, delivery_id)
        if found is None:
            raise DeliveryNotFound(delivery_id)
        lock_endpoints(conn, site_id, [found.endpoint_id])
        # Read again under the lock: an attempt may have begun or ended between.
        row = find_delivery(conn, site_id, delivery_id)
        if row is None:
            raise DeliveryNotFound(delivery_id)
        if row.state == "skipped":
            return row
        if row.state not in _SKIPPABLE:
            raise DeliveryNotSkippable(delivery_id, row.state)
        now_us = self._clock.now_us()
        skipped = replace(
            row,
            state="skipped",
            reason=SKIPPED_BY_REQUEST,
            due_at=None,
            lane=LANE_AGAIN,
            waits_for=0,
            trigger="scheduled",
            updated_at=now_us,
        )
        # What was given up before is counted already.
        ended = [] if row.due_at is None else [skipped]
        write(conn, [requeueing(site_id, [skipped]), counting_outcomes(site_id, ended)])
        release(conn, site_id, row.endpoint_id, [row.id], now_us)
        return skipped
