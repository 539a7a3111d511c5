"""What holds can be asked: one of them, a page of them."""

from __future__ import annotations

from sqlalchemy import Connection, select

from engine.errors import NotFound
from engine.hold_shapes import Hold, hold_of
from engine.queries import Page, Selection, looked_up, touching
from engine.schema import holds


def hold(conn: Connection, site_id: int, hold_id: str) -> Hold:
    """Return a hold; raises NotFound."""
    row = conn.execute(select(holds).where(holds.c.site_id == site_id, holds.c.id == hold_id)).mappings().first()
    if row is None:
        raise NotFound("hold", hold_id)
    return hold_of(dict(row))


def list_holds(
    conn: Connection,
    site_id: int,
    wanted: Selection,
    account_id: str | None = None,
    category_id: str | None = None,
) -> Page[Hold]:
    """Return a page of holds, only those with a line on an account, or in a category, where one is given."""
    lists = touching(conn, site_id, wanted, account_id, category_id)
    rows, next_cursor = looked_up(conn, holds, site_id, wanted, (("external_id",), ("status",)), lists)
    return Page(items=[hold_of(row) for row in rows], next_cursor=next_cursor)
