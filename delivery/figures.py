"""Figures of a site's deliveries: attempts by the hour, which endpoints are in trouble, and what tells that a list is stale."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import Connection

from delivery.store.deliveries import read_position
from delivery.store.endpoints import Troubled, newest_addresses, read_addresses, troubled_endpoints
from delivery.store.tallies import anything_delivered, count_settled, read_tallies, sum_tallies
from delivery.tally import HOUR_US, Tally
from engine.databases import Databases, Site


class Figures:
    """Reads what settling counted, and how endpoints stand; never an attempt."""

    def __init__(self, databases: Databases) -> None:
        self._databases = databases

    async def hours(self, site: Site, since_us: int) -> list[Tally]:
        """Return the tallies of every hour since an instant, of all endpoints together."""
        database = await self._databases.of(site)
        hour = since_us // HOUR_US
        return await database.read(lambda conn: sum_tallies(conn, site.id, hour), site_id=site.id)

    async def hours_of(self, site: Site, since_us: int, endpoint_ids: Collection[str]) -> list[Tally]:
        """Return the tallies of every hour since an instant, of each of these endpoints."""
        database = await self._databases.of(site)
        hour = since_us // HOUR_US
        return await database.read(lambda conn: read_tallies(conn, site.id, hour, endpoint_ids), site_id=site.id)

    async def addresses(self, site: Site, endpoint_ids: Collection[str]) -> dict[str, str]:
        """Return the addresses of these endpoints by id, but of removed ones."""
        database = await self._databases.of(site)
        return await database.read(lambda conn: read_addresses(conn, site.id, endpoint_ids), site_id=site.id)

    async def newest(self, site: Site, limit: int) -> dict[str, str]:
        """Return the addresses of the newest endpoints by id, the newest first."""
        database = await self._databases.of(site)
        return await database.read(lambda conn: newest_addresses(conn, site.id, limit), site_id=site.id)

    async def troubled(self, site: Site, limit: int) -> list[Troubled]:
        """Return endpoints that receive nothing or only fail, the newest first."""
        database = await self._databases.of(site)
        return await database.read(lambda conn: troubled_endpoints(conn, site.id, limit), site_id=site.id)

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
