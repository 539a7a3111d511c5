"""Figures of a site's deliveries: attempts by the hour, whether anything ever arrived, and what tells that a list is stale."""

from __future__ import annotations

from sqlalchemy import Connection

from delivery.store.deliveries import read_position
from delivery.store.tallies import anything_delivered, count_settled, read_tallies
from delivery.tally import HOUR_US, Tally
from engine.databases import Databases, Site


class Figures:
    """Reads what settling counted; never an attempt."""

    def __init__(self, databases: Databases) -> None:
        self._databases = databases

    async def hours(self, site: Site, since_us: int, endpoint_id: str | None = None) -> list[Tally]:
        """Return the tallies of every hour since an instant, of all endpoints or of one."""
        database = await self._databases.of(site)
        hour = since_us // HOUR_US
        return await database.read(lambda conn: read_tallies(conn, site.id, hour, endpoint_id), site_id=site.id)

    async def arrived(self, site: Site) -> bool:
        """Tell whether any delivery of the site ever was answered with a success."""
        database = await self._databases.of(site)
        return await database.read(lambda conn: anything_delivered(conn, site.id), site_id=site.id)

    async def mark(self, site: Site, now_us: int) -> tuple[int, int]:
        """Return what differs after every new delivery and every settled attempt, without looking at a delivery."""

        def read(conn: Connection) -> tuple[int, int]:
            return read_position(conn, site.id), count_settled(conn, site.id, now_us // HOUR_US - 1)

        database = await self._databases.of(site)
        return await database.read(read, site_id=site.id)
