"""Reference data as the API shows it. Pure."""

from __future__ import annotations

from typing import Literal

import msgspec

from engine.iso_4217 import Listed
from engine.money import format_instant
from engine.rows import ResourceRow

EntityType = Literal["company", "individual", "custodian"]


class Entity(msgspec.Struct, frozen=True):
    """A legal entity that ledgers and accounts belong to; `country` is an ISO 3166-1 code of two letters."""

    id: str
    type: EntityType
    name: str
    legal_name: str | None
    country: str | None
    external_id: str | None
    description: str | None
    metadata: dict[str, str]
    lock_version: int
    created_at: str
    updated_at: str


class Currency(msgspec.Struct, frozen=True):
    """A currency: of ISO 4217, which has no id and never changes here, or of the site's own."""

    id: str | None
    code: str
    number: str | None
    name: str
    exponent: int
    source: Literal["iso_4217", "site"]
    metadata: dict[str, str]
    lock_version: int | None
    created_at: str | None
    updated_at: str | None


class Product(msgspec.Struct, frozen=True):
    """A product of the customer's, by a code of its own."""

    id: str
    code: str
    name: str
    description: str | None
    metadata: dict[str, str]
    lock_version: int
    created_at: str
    updated_at: str


def entity_of(row: ResourceRow) -> Entity:
    """Return an entity as the API shows it."""
    return Entity(
        id=row["id"],
        type=row["type"],
        name=row["name"],
        legal_name=row["legal_name"],
        country=row["country"],
        external_id=row["external_id"],
        description=row["description"],
        metadata=row["metadata"],
        lock_version=row["lock_version"],
        created_at=format_instant(row["created_at"]),
        updated_at=format_instant(row["updated_at"]),
    )


def currency_of(row: ResourceRow) -> Currency:
    """Return a currency of the site's own as the API shows it."""
    return Currency(
        id=row["id"],
        code=row["code"],
        number=None,
        name=row["name"],
        exponent=row["exponent"],
        source="site",
        metadata=row["metadata"],
        lock_version=row["lock_version"],
        created_at=format_instant(row["created_at"]),
        updated_at=format_instant(row["updated_at"]),
    )


def listed_currency_of(listed: Listed) -> Currency:
    """Return a currency of the standard as the API shows it."""
    return Currency(
        id=None,
        code=listed.code,
        number=listed.number,
        name=listed.name,
        exponent=listed.exponent,
        source="iso_4217",
        metadata={},
        lock_version=None,
        created_at=None,
        updated_at=None,
    )


def product_of(row: ResourceRow) -> Product:
    """Return a product as the API shows it."""
    return Product(
        id=row["id"],
        code=row["code"],
        name=row["name"],
        description=row["description"],
        metadata=row["metadata"],
        lock_version=row["lock_version"],
        created_at=format_instant(row["created_at"]),
        updated_at=format_instant(row["updated_at"]),
    )
