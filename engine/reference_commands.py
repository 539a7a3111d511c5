"""What reference data can be asked to become, as values: entities, currencies of a site's own, products. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from engine.needs import Light, Needs
from engine.rows import RESOURCE_NAMES

ReferenceKind = Literal["entity", "currency", "product"]


class CreateReference(Light, frozen=True, kw_only=True):
    """Take a new thing of a kind into the reference data; `fields` are all its columns but those that the books keep."""

    kind: ReferenceKind
    fields: Mapping[str, Any]

    def tell(self, needs: Needs) -> None:
        """Add the rows this command has to know."""
        _tell_names(needs, self.kind, self.fields)


class ChangeReference(Light, frozen=True, kw_only=True):
    """Change some columns of a thing of a kind."""

    kind: ReferenceKind
    resource_id: str
    changes: Mapping[str, Any]
    if_match: int | None = None

    def tell(self, needs: Needs) -> None:
        """Add the rows this command has to know."""
        needs.resource(self.kind, self.resource_id)
        _tell_names(needs, self.kind, self.changes)


def _tell_names(needs: Needs, kind: ReferenceKind, fields: Mapping[str, Any]) -> None:
    for column in RESOURCE_NAMES[kind]:
        if fields.get(column) is not None:
            needs.resource(kind, fields[column], column)
