"""Replay: send a delivery again. The same delivery, event id and sequences; the receiver dedupes by them if it wants."""

from __future__ import annotations

from dataclasses import replace

from sqlalchemy import Connection

from delivery.endpoints import OnDue
from delivery.errors import DeliveryNotFound, EndpointDisabled, EndpointNotFound
from delivery.requeue import ALREADY_QUEUED, requeue, taken_over
from delivery.rows import DeliveryRow
from delivery.shapes import Delivery, show_delivery
from delivery.store.deliveries import find_delivery, requeueing
from delivery.store.endpoints import lock_endpoints, standing
from delivery.store.replays import counting
from engine.clock import Clock
from engine.databases import Databases, Site
from engine.sql import write


class Replay:
    """Queues deliveries for one more attempt, and a fresh schedule after it."""

    def __init__(self, databases: Databases, *, clock: Clock, on_due: OnDue | None = None) -> None:
        self._databases = databases
        self._clock = clock
        self._on_due = on_due

    async def replay_one(self, site: Site, delivery_id: str) -> Delivery:
        """Queue the delivery and return it; one that waits for its attempt already, or has it under way, stays as it is.

        Raises DeliveryNotFound, EndpointNotFound where its endpoint was removed, EndpointDisabled.
        """
        database = await self._databases.of(site)
        row = await database.write(lambda conn: self._queue(conn, site.id, delivery_id), site_id=site.id)
        if self._on_due is not None:
            self._on_due(site, row.endpoint_id)
        return show_delivery(row)

    def _queue(self, conn: Connection, site_id: int, delivery_id: str) -> DeliveryRow:
        found = find_delivery(conn, site_id, delivery_id)
        if found is None:
            raise DeliveryNotFound(delivery_id)
        endpoint = lock_endpoints(conn, site_id, [found.endpoint_id])[found.endpoint_id]
        if endpoint.status == "deleted":
            raise EndpointNotFound(endpoint.id)
        if endpoint.status == "disabled":
            raise EndpointDisabled(endpoint.id)
        # Read again under the lock: an attempt may have been settled between.
        row = find_delivery(conn, site_id, delivery_id)
        if row is None:
            raise DeliveryNotFound(delivery_id)
        if row.state in ALREADY_QUEUED:
            return row
        now_us = self._clock.now_us()
        # Whoever asks believes that the endpoint is well again: an open circuit is probed at once.
        probed = replace(endpoint, circuit=endpoint.circuit.probe_now(now_us))
        changed = [] if probed == endpoint else [probed]
        [queued] = requeue(conn, site_id, endpoint, [row], None, now_us)
        left = counting(site_id, taken_over([row]))
        write(conn, [standing(site_id, changed), requeueing(site_id, [queued]), left])
        return queued
