"""The delivery log: what was, is and will be delivered, every row of it, and each attempt as it went."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from sqlalchemy import Connection

from delivery.errors import DeliveryNotFound
from delivery.replay_shapes import ResponseClass, errors_of
from delivery.rows import AttemptRow, DeliveryRow
from delivery.sent import deliveries_in, described, remake
from delivery.shapes import Attempt, AttemptRequest, Delivery, DeliveryStatus, show_attempt, show_delivery, why_waiting
from delivery.store.deliveries import find_delivery, forget_attempts, page_deliveries, read_attempts
from delivery.store.endpoints import find_endpoints
from delivery.store.filters import UNDELIVERED_STATES, Wanted
from delivery.store.order import holders
from engine import feed
from engine.databases import Databases, Site
from engine.events import FeedEvent
from engine.feed import Head

FORGET_AT_ONCE: Final = 1_000
BLOCKING_SHOWN: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryFilter:
    """Which deliveries: all that match everything given. Instants are microseconds, bounds are inclusive."""

    endpoint_id: str | None = None
    status: DeliveryStatus | Literal["undelivered"] | None = None
    event_type: str | None = None
    event_id: str | None = None
    correlation_id: str | None = None
    created_from: int | None = None
    created_to: int | None = None
    sequence_from: int | None = None
    sequence_to: int | None = None
    last_response: ResponseClass | None = None
    last_error: str | None = None

    def wanted(self) -> Wanted:
        """Return the filter as the store reads it."""
        return Wanted(
            endpoint_id=self.endpoint_id,
            event_types=None if self.event_type is None else (self.event_type,),
            states=self._states(),
            created_from=self.created_from,
            created_to=self.created_to,
            sequence_from=self.sequence_from,
            sequence_to=self.sequence_to,
            event_id=self.event_id,
            correlation_id=self.correlation_id,
            errors=errors_of(self.last_response, self.last_error),
            answered={"2xx": True, "none": False}.get(self.last_response or ""),
        )

    def _states(self) -> tuple[str, ...] | None:
        if self.status == "undelivered":
            return tuple(sorted(UNDELIVERED_STATES))
        return None if self.status is None else (self.status,)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryPage:
    """A page of deliveries and the feed's head of the same snapshot, read before them.

    The next page begins after the last row's `endpoint_sequence` where `after` was given, else before its `id`.
    """

    data: list[Delivery]
    has_more: bool
    head: Head


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """A request that was made: what the log keeps of it, its body where the very bytes can be made again, and what that is."""

    request: AttemptRequest
    body: bytes | None
    said: str


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
                matching.wanted(),
                limit=limit + 1,
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

    async def blocking(self, site: Site, endpoint_id: str) -> list[Delivery]:
        """Return deliveries that were given up and hold up others of their endpoint, the newest first: some of them, if many."""

        def read(conn: Connection) -> list[Delivery]:
            wanted = DeliveryFilter(endpoint_id=endpoint_id, status="exhausted").wanted()
            rows = page_deliveries(conn, site.id, wanted, limit=BLOCKING_SHOWN, after=None, before=None)
            holding = holders(conn, site.id, endpoint_id, [row.id for row in rows])
            return [show_delivery(row) for row in rows if row.id in holding]

        database = await self._databases.of(site)
        return await database.read(read, site_id=site.id)

    async def sent(self, site: Site, delivery_id: str, number: int) -> Sent | None:
        """Return the request of an attempt with its body as it was sent; None where there was none. Raises DeliveryNotFound."""
        attempts = await self.attempts(site, delivery_id)
        request = next((each.request for each in attempts if each.number == number), None)
        if request is None:
            return None
        carried = deliveries_in(request)

        def read(conn: Connection) -> list[FeedEvent]:
            rows = [row for each in carried if (row := find_delivery(conn, site.id, each)) is not None]
            bodies = feed.read_bodies(conn, site.id, [row.sequence for row in rows])
            return [bodies[row.sequence] for row in rows if row.sequence in bodies]

        database = await self._databases.of(site)
        events = await database.read(read, site_id=site.id)
        body = remake(request, events) if len(events) == len(carried) else None
        return Sent(request=request, body=body, said=described(request, len(carried)))

    async def forget_attempts(self, site: Site, older_than: int) -> int:
        """Remove the attempts of finished deliveries that began before an instant (micros); return how many.

        A bounded number a transaction: whoever delivers meanwhile waits for none of it.
        """
        database = await self._databases.of(site)
        forgotten = 0
        while True:
            some = await database.write(
                lambda conn: forget_attempts(conn, site.id, older_than, FORGET_AT_ONCE), site_id=site.id
            )
            forgotten += some
            if some < FORGET_AT_ONCE:
                return forgotten


def _show(conn: Connection, site_id: int, rows: Sequence[DeliveryRow], *, include_event: bool) -> list[Delivery]:
    events = feed.read_bodies(conn, site_id, [row.sequence for row in rows]) if include_event else {}
    waiting = {row.endpoint_id for row in rows if row.state in {"pending", "retrying"}}
    endpoints = find_endpoints(conn, site_id, waiting) if waiting else {}
    return [
        show_delivery(
            row,
            events[row.sequence].body if include_event else None,
            reason=why_waiting(row, endpoints.get(row.endpoint_id)),
        )
        for row in rows
    ]
