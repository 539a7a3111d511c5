"""The events that were needed last: one that goes to many endpoints is read once, one that was relayed here is not read again.

Events never change, so that whoever read one may share it with whoever comes to need it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from typing import Final

from sqlalchemy import Connection

from engine import feed
from engine.events import FeedEvent

KEPT_MAX_BYTES: Final = 32 * 1024 * 1024


class Bodies:
    """Keeps events of all sites up to so many bytes, and forgets those first that came first."""

    def __init__(self, bytes_max: int = KEPT_MAX_BYTES) -> None:
        self._bytes_max = bytes_max
        self._bytes = 0
        self._events: OrderedDict[tuple[int, int], FeedEvent] = OrderedDict()

    def read(self, conn: Connection, site_id: int, sequences: AbstractSet[int]) -> Mapping[int, FeedEvent]:
        """Return the events with these sequences, from the database only those that are not kept."""
        found: dict[int, FeedEvent] = {}
        for sequence in sequences:
            kept = self._events.get((site_id, sequence))
            if kept is not None:
                found[sequence] = kept
        missing = sorted(sequences - found.keys())
        if missing:
            fresh = feed.read_bodies(conn, site_id, missing)
            found.update(fresh)
            self.keep(site_id, fresh.values())
        return found

    def keep(self, site_id: int, fresh: Iterable[FeedEvent]) -> None:
        """Keep events that were read."""
        for one in fresh:
            if self._events.setdefault((site_id, one.sequence), one) is one:
                self._bytes += len(one.body)
        while self._bytes > self._bytes_max:
            _, oldest = self._events.popitem(last=False)
            self._bytes -= len(oldest.body)
