"""Places in a feed that clients come back to, looked up for all who come at the same time: after a restart that is everybody."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from sqlalchemy import Connection

from engine import feed
from engine.databases import Database
from engine.errors import CursorExpired, CursorInvalid
from engine.feed import Head
from engine.together import Together


class Place(NamedTuple):
    """A place in the feed: the sequence it stands after, and its cursor."""

    sequence: int
    cursor: str


class Found(NamedTuple):
    """The head of a feed and, for each cursor that was asked for, its place in it or what is wrong with it.

    None asks for the place after which the feed is served.
    """

    head: Head
    places: Mapping[str | None, Place | CursorInvalid | CursorExpired]


class Places:
    """Whoever looks for places of a site's feed in this process."""

    def __init__(self, database: Database, site_id: int, oldest_at: Callable[[], int | None]) -> None:
        """Take where the feed is, and what tells since when it is served."""
        self._database = database
        self._site_id = site_id
        self._oldest_at = oldest_at
        self._together: Together[str | None, Found] = Together(self._read)

    async def find(self, cursor: str | None) -> tuple[Place, Head]:
        """Return a place and the head of one snapshot; raises CursorInvalid, CursorExpired, and what the database raises."""
        found = await self._together.ask(cursor)
        place = found.places[cursor]
        if not isinstance(place, Place):
            raise place
        return place, found.head

    async def _read(self, cursors: list[str | None]) -> Found:
        return await self._database.read(
            lambda conn: read_places(conn, self._site_id, cursors, self._oldest_at()), site_id=self._site_id
        )


def read_places(conn: Connection, site_id: int, cursors: list[str | None], oldest_at: int | None) -> Found:
    """Return the head, and the places of cursors in a feed that is served from an instant on. Raises SiteUnknown."""
    head = feed.read_head(conn, site_id)
    earliest = feed.floor(conn, site_id, head, oldest_at)
    places: dict[str | None, Place | CursorInvalid | CursorExpired] = {}
    for cursor in cursors:
        try:
            if cursor is None:
                places[cursor] = Place(earliest, feed.cursor_at(conn, site_id, head, earliest))
            else:
                places[cursor] = Place(feed.resolve_cursor(conn, site_id, head, cursor, earliest), cursor)
        except (CursorInvalid, CursorExpired) as error:
            places[cursor] = error
    return Found(head, places)
