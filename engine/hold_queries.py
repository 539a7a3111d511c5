"""What holds can be asked: one of them, a page of them."""

from __future__ import annotations

from sqlalchemy import Connection, select

from engine.errors import NotFound
from engine.hold_shapes import Hold, hold_of
from engine.queries import Page, Selection, looked_up, of_account, touching
from engine.schema import holds
from engine.sql import among


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
    elsewhere = category_id is not None or wanted.metadata or wanted.account_metadata or "external_id" in wanted.equals
    if account_id is not None and not elsewhere:
        ids, next_cursor = of_account(conn, site_id, wanted, account_id, holds)
        rows = conn.execute(select(holds).where(holds.c.site_id == site_id, among(holds.c.id, ids))).mappings()
        found = {row["id"]: hold_of(dict(row)) for row in rows}
        return Page(items=[found[each] for each in ids], next_cursor=next_cursor)
    lists = touching(conn, site_id, wanted, account_id, category_id)
    listed, next_cursor = looked_up(conn, holds, site_id, wanted, (("external_id",), ("status",)), lists)
    return Page(items=[hold_of(row) for row in listed], next_cursor=next_cursor)
