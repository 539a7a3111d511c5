"""What reference data can be asked: one of a kind, a page of them; currencies with those of the standard among them."""

from __future__ import annotations

from bisect import bisect_right
from typing import Literal

from sqlalchemy import Connection, select

from engine import listing, store
from engine.cursors import code_cursor, parse_code_cursor
from engine.errors import NotFound
from engine.ids import is_id
from engine.iso_4217 import CURRENCIES
from engine.queries import Page, Selection, page_of, selected
from engine.reference_shapes import (
    Currency,
    Entity,
    Product,
    currency_of,
    entity_of,
    listed_currency_of,
    product_of,
)
from engine.rows import ResourceRow
from engine.schema import currencies, entities, products

CODES: tuple[str, ...] = tuple(sorted(CURRENCIES))


def entity(conn: Connection, site_id: int, entity_id: str) -> Entity:
    """Return an entity; raises NotFound."""
    return entity_of(_resource(conn, site_id, "entity", entity_id))


def list_entities(conn: Connection, site_id: int, wanted: Selection) -> Page[Entity]:
    """Return a page of entities."""
    query = selected(conn, entities, site_id, wanted)
    return page_of([entity_of(dict(row)) for row in conn.execute(query).mappings()], wanted)


def product(conn: Connection, site_id: int, product_id: str) -> Product:
    """Return a product; raises NotFound."""
    return product_of(_resource(conn, site_id, "product", product_id))


def list_products(conn: Connection, site_id: int, wanted: Selection) -> Page[Product]:
    """Return a page of products."""
    query = selected(conn, products, site_id, wanted)
    return page_of([product_of(dict(row)) for row in conn.execute(query).mappings()], wanted)


def currency(conn: Connection, site_id: int, name: str) -> Currency:
    """Return a currency by its code, or one of the site's own by its id too; raises NotFound."""
    if name in CURRENCIES:
        return listed_currency_of(CURRENCIES[name])
    if is_id(name):
        return currency_of(_resource(conn, site_id, "currency", name))
    query = select(currencies).where(currencies.c.site_id == site_id, currencies.c.code == name)
    row = conn.execute(query).mappings().first()
    if row is None:
        raise NotFound("currency", name)
    return currency_of(dict(row))


def list_currencies(
    conn: Connection, site_id: int, wanted: Selection, source: Literal["iso_4217", "site"] | None = None
) -> Page[Currency]:
    """Return a page of currencies in the order of their codes, those of the site's own among the standard's."""
    after = None if wanted.cursor is None else parse_code_cursor(wanted.cursor)
    found: list[Currency] = []
    if source != "iso_4217":
        columns = currencies.c
        query = select(currencies).where(
            columns.site_id == site_id, *listing.beyond(columns.code, after, ascending=True)
        )
        if wanted.metadata:
            query = query.where(columns.id.in_(listing.described(conn, currencies, site_id, wanted.metadata)))
        query = query.order_by(columns.code).limit(wanted.limit + 1)
        found += [currency_of(dict(row)) for row in conn.execute(query).mappings()]
    if source != "site" and not wanted.metadata:
        start = 0 if after is None else bisect_right(CODES, after)
        codes = CODES[start : start + wanted.limit + 1]
        found += [listed_currency_of(CURRENCIES[code]) for code in codes]
    found.sort(key=lambda each: each.code)
    shown = found[: wanted.limit]
    return Page(items=shown, next_cursor=code_cursor(shown[-1].code) if len(found) > wanted.limit else None)


def _resource(conn: Connection, site_id: int, kind: str, resource_id: str) -> ResourceRow:
    table = store.RESOURCES[kind]
    row = conn.execute(select(table).where(table.c.site_id == site_id, table.c.id == resource_id)).mappings().first()
    if row is None:
        raise NotFound(kind, resource_id)
    return dict(row)
