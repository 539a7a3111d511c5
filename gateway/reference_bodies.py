"""The request bodies of reference data: entities, currencies of a site's own, products."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import UNSET, Meta, Struct, UnsetType, structs

from engine.errors import Fault
from engine.iso_3166 import COUNTRIES
from engine.reference_commands import ChangeReference, CreateReference, ReferenceKind
from engine.reference_shapes import EntityType
from gateway.bodies import AccountCode, Currency, Description, Exponent, ExternalId, Metadata, Name
from gateway.problems import invalid

Country = Annotated[
    str, Meta(pattern=r"^[A-Z]{2}$(?!\n)", description="ISO 3166-1: two letters, as `/v1/countries` lists them.")
]


class EntityCreate(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A legal entity: a company, an individual, a custodian."""

    type: EntityType
    name: Name
    legal_name: Name | None = None
    country: Country | None = None
    external_id: ExternalId | None = None
    description: Description | None = None
    metadata: Metadata = {}

    def command(self) -> CreateReference:
        """Return what the books are to do; raises the problem of a country that there is not."""
        return CreateReference(kind="entity", fields=_with_country(structs.asdict(self)))


class EntityChange(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What changes about an entity; what is left out stays, metadata is given whole."""

    type: EntityType | UnsetType = UNSET
    name: Name | UnsetType = UNSET
    legal_name: Name | UnsetType | None = UNSET
    country: Country | UnsetType | None = UNSET
    external_id: ExternalId | UnsetType | None = UNSET
    description: Description | UnsetType | None = UNSET
    metadata: Metadata | UnsetType = UNSET

    def command(self, entity_id: str, if_match: int | None) -> ChangeReference:
        """Return what the books are to do; raises the problem of a country that there is not."""
        command = changing("entity", self, entity_id, if_match)
        _with_country(command.changes)
        return command


class CurrencyCreate(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A currency of the site's own; its code and exponent stay as they are, since balances count in them."""

    code: Currency
    exponent: Exponent
    name: Name
    metadata: Metadata = {}

    def command(self) -> CreateReference:
        """Return what the books are to do."""
        return CreateReference(kind="currency", fields=structs.asdict(self))


class CurrencyChange(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What changes about a currency of the site's own; what is left out stays, metadata is given whole."""

    name: Name | UnsetType = UNSET
    metadata: Metadata | UnsetType = UNSET


class ProductCreate(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A product."""

    code: AccountCode
    name: Name
    description: Description | None = None
    metadata: Metadata = {}

    def command(self) -> CreateReference:
        """Return what the books are to do."""
        return CreateReference(kind="product", fields=structs.asdict(self))


class ProductChange(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What changes about a product; what is left out stays, metadata is given whole."""

    code: AccountCode | UnsetType = UNSET
    name: Name | UnsetType = UNSET
    description: Description | UnsetType | None = UNSET
    metadata: Metadata | UnsetType = UNSET


def changing(kind: ReferenceKind, change: Struct, resource_id: str, if_match: int | None) -> ChangeReference:
    """Return the command that changes what is not left out."""
    changes = {name: value for name, value in structs.asdict(change).items() if value is not UNSET}
    return ChangeReference(kind=kind, resource_id=resource_id, changes=changes, if_match=if_match)


def _with_country(fields: Any) -> Any:
    country = fields.get("country")
    if country is not None and country not in COUNTRIES:
        detail = f"ISO 3166-1 has no country {country!r}: see /v1/countries."
        raise invalid([Fault(code="validation.invalid_value", pointer="/country", detail=detail)])
    return fields
