"""Facts that delivery adds to the feed: stored with their effect, handed to the engine later, exactly once by their key.

A crash between handing one over and forgetting it hands it over again; the engine knows the key and makes no second event.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from delivery.rows import Fact as Fact
from delivery.store.facts import delete_facts, read_facts
from engine.databases import Databases, Site

RecordFact = Callable[[Site, Fact], Awaitable[None]]
"""Puts a fact into the site's feed; a key that it knows already changes nothing."""

_PAGE: Final = 100


class FactSender:
    """Hands stored facts to the engine and forgets those it took."""

    def __init__(self, databases: Databases, record_fact: RecordFact) -> None:
        self._databases = databases
        self._record_fact = record_fact

    async def run(self, site: Site) -> int:
        """Hand over what waits, oldest first; return how many facts that were."""
        database = await self._databases.of(site)
        sent = 0
        while True:
            facts = await database.read(lambda conn: read_facts(conn, site.id, _PAGE), site_id=site.id)
            for fact in facts:
                await self._record_fact(site, fact)
            keys = [fact.key for fact in facts]
            if keys:
                await database.write(lambda conn, keys=keys: delete_facts(conn, site.id, keys), site_id=site.id)  # type: ignore[misc]
            sent += len(keys)
            if len(keys) < _PAGE:
                return sent
