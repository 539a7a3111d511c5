"""The operations of reference data."""

from __future__ import annotations

from typing import Final, get_args

from engine import reference_shapes
from gateway import catalogue, reference, reference_bodies
from gateway.query import CREATED, CURSOR, LIMIT, METADATA, PAGED, Parameter
from gateway.route import Route

# The table is laid out by hand: what belongs together stands in one line.
# fmt: off
REFERENCE: Final = (
    Route(
        method="POST", path="/v1/entities", handler=reference.create_entity, tag="Entities", scope="ledger.write",
        body=reference_bodies.EntityCreate, answer=reference_shapes.Entity, status=201, idempotent=True, etag=True,
        refusals=("validation.not_unique",),
    ),
    Route(
        method="GET", path="/v1/entities", handler=reference.list_entities, tag="Entities", scope="ledger.read",
        answer=reference_shapes.Entity, page=True, feed_cursor=True,
        query=(
            *PAGED,
            Parameter(
                name="type", kind="choice", choices=get_args(reference_shapes.EntityType), meaning="Only of this type.",
            ),
            Parameter(name="country", kind="text", meaning="Only entities of this country."),
            Parameter(name="external_id", kind="text", meaning="Only the entity with this external id."),
            METADATA, CREATED,
        ),
    ),
    Route(
        method="GET", path="/v1/entities/{id}", handler=reference.get_entity, tag="Entities", scope="ledger.read",
        answer=reference_shapes.Entity, etag=True, feed_cursor=True,
    ),
    Route(
        method="PATCH", path="/v1/entities/{id}", handler=reference.change_entity, tag="Entities", scope="ledger.write",
        body=reference_bodies.EntityChange, answer=reference_shapes.Entity, idempotent=True, conditional=True, etag=True,
        refusals=("validation.not_unique",),
    ),
    Route(
        method="POST", path="/v1/currencies", handler=reference.create_currency, tag="Reference data", scope="ledger.write",
        body=reference_bodies.CurrencyCreate, answer=reference_shapes.Currency, status=201, idempotent=True, etag=True,
        refusals=("validation.not_unique",),
    ),
    Route(
        method="GET", path="/v1/currencies", handler=reference.list_currencies, tag="Reference data", scope="ledger.read",
        answer=reference_shapes.Currency, page=True, feed_cursor=True,
        query=(
            LIMIT, CURSOR,
            Parameter(
                name="source", kind="choice", choices=("iso_4217", "site"), meaning="Only of the standard, or of the site.",
            ),
            METADATA,
        ),
    ),
    Route(
        method="GET", path="/v1/currencies/{currency}", handler=reference.get_currency, tag="Reference data", scope="ledger.read",
        answer=reference_shapes.Currency, etag=True, feed_cursor=True,
    ),
    Route(
        method="PATCH", path="/v1/currencies/{currency}", handler=reference.change_currency, tag="Reference data",
        scope="ledger.write", body=reference_bodies.CurrencyChange, answer=reference_shapes.Currency, idempotent=True,
        conditional=True, etag=True, refusals=("validation.not_unique",),
    ),
    Route(
        method="POST", path="/v1/products", handler=reference.create_product, tag="Reference data", scope="ledger.write",
        body=reference_bodies.ProductCreate, answer=reference_shapes.Product, status=201, idempotent=True, etag=True,
        refusals=("validation.not_unique",),
    ),
    Route(
        method="GET", path="/v1/products", handler=reference.list_products, tag="Reference data", scope="ledger.read",
        answer=reference_shapes.Product, page=True, feed_cursor=True,
        query=(*PAGED, Parameter(name="code", kind="text", meaning="Only the product with this code."), METADATA, CREATED),
    ),
    Route(
        method="GET", path="/v1/products/{id}", handler=reference.get_product, tag="Reference data", scope="ledger.read",
        answer=reference_shapes.Product, etag=True, feed_cursor=True,
    ),
    Route(
        method="PATCH", path="/v1/products/{id}", handler=reference.change_product, tag="Reference data",
        scope="ledger.write", body=reference_bodies.ProductChange, answer=reference_shapes.Product, idempotent=True,
        conditional=True, etag=True, refusals=("validation.not_unique",),
    ),
    Route(
        method="GET", path="/v1/countries", handler=reference.list_countries, tag="Reference data", scope="ledger.read",
        answer=catalogue.Country, page=True, query=(LIMIT, CURSOR), feed_cursor=True,
    ),
    Route(
        method="GET", path="/v1/countries/{country}", handler=reference.get_country, tag="Reference data", scope="ledger.read",
        answer=catalogue.Country,
    ),
    Route(
        method="GET", path="/v1/event_types", handler=reference.list_event_types, tag="Reference data",
        scope="events.read", answer=catalogue.EventType, page=True, query=(LIMIT, CURSOR), feed_cursor=True,
    ),
    Route(
        method="GET", path="/v1/event_types/{event_type}", handler=reference.get_event_type, tag="Reference data",
        scope="events.read", answer=catalogue.EventType,
    ),
)
