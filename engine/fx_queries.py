"""What exchange rates can be asked: one of them, a page of them."""

from __future__ import annotations

from sqlalchemy import Connection, select

from engine.errors import NotFound
from engine.fx_shapes import FxRate, fx_rate_of
from engine.queries import Page, Selection, looked_up
from engine.schema import fx_rates


def rate(conn: Connection, site_id: int, rate_id: str) -> FxRate:
    """Return a rate; raises NotFound."""
    query = select(fx_rates).where(fx_rates.c.site_id == site_id, fx_rates.c.id == rate_id)
    row = conn.execute(query).mappings().first()
    if row is None:
        raise NotFound("fx_rate", rate_id)
    return fx_rate_of(dict(row))


def list_rates(conn: Connection, site_id: int, wanted: Selection) -> Page[FxRate]:
    """Return a page of rates."""
    rows, next_cursor = looked_up(conn, fx_rates, site_id, wanted, (("base", "quote"),))
    return Page(items=[fx_rate_of(row) for row in rows], next_cursor=next_cursor)
