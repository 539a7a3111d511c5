"""The sweep: what is due and covered by no wake-up, and when the next thing is. The database is asked, nothing is kept."""

from __future__ import annotations

from dataclasses import dataclass

from delivery.store.deliveries import next_due
from engine.clock import Clock
from engine.databases import Databases, Site


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """Which endpoints have something to do now, and when (micros) the next one has; None: nothing waits."""

    endpoints: frozenset[str]
    next_due_at: int | None


class Sweeper:
    """Finds due deliveries and leases that ran out, by one index probe an endpoint and lane."""

    def __init__(self, databases: Databases, *, clock: Clock) -> None:
        self._databases = databases
        self._clock = clock

    async def run(self, site: Site) -> Due:
        """Return what is due on the site."""
        database = await self._databases.of(site)
        waiting = await database.read(lambda conn: next_due(conn, site.id), site_id=site.id)
        now_us = self._clock.now_us()
        return Due(
            endpoints=frozenset(endpoint_id for endpoint_id, at in waiting if at <= now_us),
            next_due_at=min((at for _, at in waiting if at > now_us), default=None),
        )
