"""Reference data over HTTP: entities, currencies, products, countries, event types."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from msgspec import Struct
from starlette.responses import Response

from engine import reference_queries
from engine.cursors import code_cursor, parse_code_cursor
from engine.errors import NotFound
from engine.iso_3166 import COUNTRIES
from engine.reference_errors import CurrencyListed
from gateway import lists, reference_bodies, wire
from gateway.call import Call
from gateway.catalogue import EVENT_TYPES, Country, EventType
from gateway.ledgers import created, submit
from gateway.query import Asked

_COUNTRIES: Final = {
    each.code: Country(code=each.code, code3=each.code3, number=each.number, name=each.name)
    for each in COUNTRIES.values()
}


async def create_entity(call: Call, _asked: Asked) -> Response:
    """Note a legal entity that ledgers and accounts can belong to."""
    document = await call.document()
    command = wire.decode(document, reference_bodies.EntityCreate).command()
    return await created(call, command, call.idempotency(document), "/v1/entities/")


async def list_entities(call: Call, asked: Asked) -> Response:
    """List entities, the newest first."""
    wanted = asked.selection("type", "country", "external_id")
    return lists.page(call, await call.services.engine.ask(call.site, reference_queries.list_entities, wanted))


async def get_entity(call: Call, _asked: Asked) -> Response:
    """Return one entity."""
    found = await call.services.engine.ask(call.site, reference_queries.entity, call.path_id("entity"))
    return lists.one(found, found.value.lock_version)


async def change_entity(call: Call, _asked: Asked) -> Response:
    """Change what is known of an entity."""
    document = await call.document()
    change = wire.decode(document, reference_bodies.EntityChange)
    return await submit(call, change.command(call.path_id("entity"), call.if_match()), call.idempotency(document))


async def create_currency(call: Call, _asked: Asked) -> Response:
    """Define a currency that ISO 4217 does not list, with its exponent."""
    document = await call.document()
    command = wire.decode(document, reference_bodies.CurrencyCreate).command()
    return await created(call, command, call.idempotency(document), "/v1/currencies/")


async def list_currencies(call: Call, asked: Asked) -> Response:
    """List the currencies of ISO 4217 and of the site, in the order of their codes."""
    wanted, source = asked.selection(), asked.get("source")
    query = reference_queries.list_currencies
    return lists.page(call, await call.services.engine.ask(call.site, query, wanted, source))


async def get_currency(call: Call, _asked: Asked) -> Response:
    """Return one currency, by its code or its id."""
    found = await call.services.engine.ask(call.site, reference_queries.currency, call.path["currency"][:64])
    return lists.one(found, found.value.lock_version)


async def change_currency(call: Call, _asked: Asked) -> Response:
    """Change what a currency of the site's own is called."""
    document = await call.document()
    change = wire.decode(document, reference_bodies.CurrencyChange)
    found = (await call.services.engine.ask(call.site, reference_queries.currency, call.path["currency"][:64])).value
    if found.id is None:
        raise CurrencyListed(found.code)
    command = reference_bodies.changing("currency", change, found.id, call.if_match())
    return await submit(call, command, call.idempotency(document))


async def create_product(call: Call, _asked: Asked) -> Response:
    """Note a product."""
    document = await call.document()
    command = wire.decode(document, reference_bodies.ProductCreate).command()
    return await created(call, command, call.idempotency(document), "/v1/products/")


async def list_products(call: Call, asked: Asked) -> Response:
    """List products, the newest first."""
    wanted = asked.selection("code")
    return lists.page(call, await call.services.engine.ask(call.site, reference_queries.list_products, wanted))


async def get_product(call: Call, _asked: Asked) -> Response:
    """Return one product."""
    found = await call.services.engine.ask(call.site, reference_queries.product, call.path_id("product"))
    return lists.one(found, found.value.lock_version)


async def change_product(call: Call, _asked: Asked) -> Response:
    """Change what is known of a product."""
    document = await call.document()
    change = wire.decode(document, reference_bodies.ProductChange)
    command = reference_bodies.changing("product", change, call.path_id("product"), call.if_match())
    return await submit(call, command, call.idempotency(document))


async def list_countries(call: Call, asked: Asked) -> Response:
    """List the countries of ISO 3166-1, in the order of their codes."""
    return await _listed(call, asked, _COUNTRIES)


async def get_country(call: Call, _asked: Asked) -> Response:
    """Return one country, by its code of two letters."""
    return _known("country", call.path["country"], _COUNTRIES)


async def list_event_types(call: Call, asked: Asked) -> Response:
    """List the types of events that the feed can hold, each with what it means and a sample, in the order of their names."""
    return await _listed(call, asked, EVENT_TYPES)


async def get_event_type(call: Call, _asked: Asked) -> Response:
    """Return one type of event, by its name."""
    return _known("event type", call.path["event_type"], EVENT_TYPES)


async def _listed(call: Call, asked: Asked, known: Mapping[str, Country | EventType]) -> Response:
    """Return a page of what is the same for every site."""
    cursor, limit = asked.get("cursor"), asked.get("limit") or 50
    after = "" if cursor is None else parse_code_cursor(cursor)
    head = await call.services.engine.head(call.site)
    names = sorted(name for name in known if name > after)
    next_cursor = code_cursor(names[limit - 1]) if len(names) > limit else None
    return lists.listed(call, [known[name] for name in names[:limit]], next_cursor, head.cursor())


def _known(what: str, name: str, known: Mapping[str, Struct]) -> Response:
    if name not in known:
        raise NotFound(what, name[:64])
    return wire.reply(wire.encode(known[name]))
