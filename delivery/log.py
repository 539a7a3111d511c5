"""The delivery log: what was, is and will be delivered, every row of it, and each attempt as it went."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from delivery.errors import DeliveryNotFound
from delivery.rows import AttemptRow, DeliveryRow
from delivery.shapes import Attempt, Delivery, DeliveryStatus, show_attempt, show_delivery
from delivery.store.deliveries import find_delivery, page_deliveries, read_attempts
from engine import feed
from engine.databases import Databases, Site
from engine.feed import Head


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryFilter:
    """Which deliveries: all that match everything given."""

    endpoint_id: str | None = None
    status: DeliveryStatus | None = None
    event_type: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryPage:
    """A page of deliveries and the feed's head of the same snapshot, read before them.

    The next page begins after the last row's `endpoint_sequence` where `after` was given, else before its `id`.
    """

    data: list[Delivery]
    has_more: bool
    head: Head


class Log:
    """Reads deliveries and attempts of a site."""

    def __init__(self, databases: Databases) -> None:
        self._databases = databases

    async def deliveries(
        self,
        site: Site,
        matching: DeliveryFilter,
        *,
        limit: int,
        after: int | None = None,
        before: str | None = None,
        include_event: bool = False,
    ) -> DeliveryPage:
        """Return a page of deliveries.

        `after`, an endpoint sequence, goes with an endpoint and reads ascending; without it the newest come first and
        `before`, a delivery's id, continues. Raises ValueError for `after` without an endpoint.
        """
        if after is not None and matching.endpoint_id is None:
            raise ValueError("`after` counts the deliveries of one endpoint: name it")

        def read(conn: Connection) -> DeliveryPage:
            head = feed.read_head(conn, site.id)
            rows = page_deliveries(
                conn,
                site.id,
                limit=limit + 1,
                endpoint_id=matching.endpoint_id,
                state=matching.status,
                event_type=matching.event_type,
                after=after,
                before=before,
            )
            page = _show(conn, site.id, rows[:limit], include_event=include_event)
            return DeliveryPage(data=page, has_more=len(rows) > limit, head=head)

        database = await self._databases.of(site)
        return await database.read(read, site_id=site.id)

    async def delivery(self, site: Site, delivery_id: str, *, include_event: bool = False) -> Delivery:
        """Return one delivery; raises DeliveryNotFound."""

        def read(conn: Connection) -> Delivery:
            row = find_delivery(conn, site.id, delivery_id)
            if row is None:
                raise DeliveryNotFound(delivery_id)
            return _show(conn, site.id, [row], include_event=include_event)[0]

        database = await self._databases.of(site)
        return await database.read(read, site_id=site.id)

    async def attempts(self, site: Site, delivery_id: str) -> list[Attempt]:
        """Return every attempt of a delivery, the first one first; raises DeliveryNotFound."""

        def read(conn: Connection) -> list[AttemptRow]:
            if find_delivery(conn, site.id, delivery_id) is None:
                raise DeliveryNotFound(delivery_id)
            return read_attempts(conn, site.id, delivery_id)

        database = await self._databases.of(site)
        return [show_attempt(row) for row in await database.read(read, site_id=site.id)]


def _show(conn: Connection, site_id: int, rows: Sequence[DeliveryRow], *, include_event: bool) -> list[Delivery]:
    if not include_event:
        return [show_delivery(row) for row in rows]
    events = feed.read_bodies(conn, site_id, [row.sequence for row in rows])
    return [show_delivery(row, events[row.sequence].body) for row in rows]
