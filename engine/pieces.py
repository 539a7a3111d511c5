"""The pieces that the audit of a site's books is cut into: each is looked at by itself, in whichever process, in any order.

Every place of a feed and every id that there can be is in exactly one of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final, Literal

import msgspec
from sqlalchemy import ColumnElement, Connection, Select, Table, and_, func, select

from engine.schema import accounts, entries, events

EVENTS: Final = 40_000
ENTRIES: Final = 10_000
ACCOUNTS: Final = 250


class Sequences(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="sequences"):
    """The events of a feed after one sequence and up to another: None is to the end, and that the feed ends there."""

    after: int = 0
    until: int | None = None


class Ids(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="ids"):
    """What has ids after one and up to another, None being no bound."""

    of: Literal["entries", "accounts"]
    after: str | None = None
    until: str | None = None


class Rest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="rest"):
    """What is looked at as a whole: what stands beside the books, or what is searched by."""

    what: Literal["beside", "metadata"]


Piece = Sequences | Ids | Rest


def cut(conn: Connection, site_id: int, head: int) -> list[Piece]:
    """Return the pieces of a site's books, whose feed ends there, in the order in which what they find counts."""
    ends = range(EVENTS, head, EVENTS)
    return [
        *(Sequences(after, until) for after, until in zip([0, *ends], [*ends, None], strict=True)),
        *_of_ids(conn, site_id, "entries"),
        Rest("beside"),
        Rest("metadata"),
        *_of_ids(conn, site_id, "accounts"),
    ]


def within(
    query: Select[Any], table: Table, column: ColumnElement[Any], site_id: int, after: str | None, until: str | None
) -> Select[Any]:
    """Return a query of a site's rows, of which only those with such ids are wanted."""
    query = query.where(table.c.site_id == site_id)
    if after is not None:
        query = query.where(column > after)
    return query if until is None else query.where(column <= until)


def absent(conn: Connection, site_id: int, table: Table, types: Iterable[str]) -> str | None:
    """Return the first id that an event of one of these types tells of and a table does not have, or None."""
    for kind in types:
        after: int | None = 0
        while after is not None:
            told = select(events.c.sequence, events.c.resource_id).where(
                events.c.site_id == site_id, events.c.type == kind, events.c.sequence > after
            )
            page = told.order_by(events.c.sequence).limit(EVENTS).subquery()
            beside = and_(table.c.site_id == site_id, table.c.id == page.c.resource_id)
            query = select(page.c.resource_id).outerjoin(table, beside).where(table.c.id.is_(None))
            missing: str | None = conn.execute(query.order_by(page.c.sequence).limit(1)).scalar()
            if missing is not None:
                return missing
            after = conn.execute(select(func.max(page.c.sequence))).scalar()
    return None


def _of_ids(conn: Connection, site_id: int, of: Literal["entries", "accounts"]) -> Iterator[Ids]:
    """Return pieces of so many of their rows, the last one open: what has an id and no row is in one of them too."""
    table, size = (entries, ENTRIES) if of == "entries" else (accounts, ACCOUNTS)
    after: str | None = None
    while True:
        rest = within(select(table.c.id), table, table.c.id, site_id, after, None).order_by(table.c.id)
        until: str | None = conn.execute(rest.offset(size - 1).limit(1)).scalar()
        yield Ids(of, after, until)
        if until is None:
            return
        after = until
