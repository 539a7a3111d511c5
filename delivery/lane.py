"""What a dispatcher has in its hands: a lane for each site, and what is claimed along with what somebody else does."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

from sqlalchemy import Connection

from delivery.claim import Claim
from delivery.rows import DeliveryRow, EndpointRow
from delivery.settle import Finished
from engine.databases import Site


@dataclass(slots=True, kw_only=True, eq=False)
class Lane:
    """What this process knows of one site: who was woken, what is out, what came back."""

    site: Site
    signal: asyncio.Event = field(default_factory=asyncio.Event)
    woken: dict[str, None] = field(default_factory=dict)
    more: set[str] = field(default_factory=set)
    busy: Counter[str] = field(default_factory=Counter)
    full: set[str] = field(default_factory=set)
    """Endpoints all of whose places this very process has taken: until a request comes back there is nothing to claim."""
    endpoints: dict[str, EndpointRow] = field(default_factory=dict)
    """How endpoints stand, as far as this process knows."""
    out: set[asyncio.Task[list[Finished]]] = field(default_factory=set)
    finished: list[Finished] = field(default_factory=list)
    starved: bool = False
    narrow: int = 0
    """How many turns to take with one thing each, after a turn that failed: what is at fault then fails alone."""


class Along:
    """What is claimed in a transaction of somebody else's, as `delivery.claim.Claims` has it."""

    def __init__(self, site: Site, claim_along: Callable[..., tuple[Claim | None, frozenset[str]]]) -> None:
        """Take the site and what claims: it is handed this, and what `claim` was."""
        self.site = site
        self.places = 0
        """How many places for requests are kept free for it."""
        self.got: Claim | None = None
        self.began = 0.0
        self.now_us = 0
        self._claim_along = claim_along

    def claim(
        self,
        conn: Connection,
        endpoint_ids: Collection[str],
        locked: Mapping[str, EndpointRow],
        fresh: Sequence[DeliveryRow],
        now_us: int,
    ) -> tuple[Claim | None, frozenset[str]]:
        """Return what is claimed at locked endpoints, and those that were left out."""
        return self._claim_along(self, conn, endpoint_ids, locked, fresh, now_us)
