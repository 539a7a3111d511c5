"""The rules of reference data: entities, currencies of a site's own, products. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine import resources
from engine.books import Books, Decision
from engine.errors import AlreadyTaken
from engine.iso_4217 import CURRENCIES
from engine.occasion import Occasion
from engine.reference_commands import ChangeReference, CreateReference, ReferenceKind
from engine.reference_errors import CurrencyListed
from engine.rows import RESOURCE_NAMES, ResourceRow
from engine.shapes import encode
from engine.shown import SHOWN


def decide_reference(command: CreateReference | ChangeReference, books: Books, occasion: Occasion) -> Decision:
    """Decide that something new is known, or that something is known otherwise; its names are its own."""
    if isinstance(command, ChangeReference):
        return _change(command, books, occasion)
    _check_names(command.kind, command.fields, None, books)
    if command.kind == "currency" and command.fields["code"] in CURRENCIES:
        raise CurrencyListed(command.fields["code"])
    row: ResourceRow = {
        "site_id": occasion.site_id,
        "id": occasion.draw(),
        **command.fields,
        "lock_version": 1,
        "created_at": occasion.now_us,
        "updated_at": occasion.now_us,
    }
    return resources.decided(command.kind, row, encode(SHOWN[command.kind].show(row)), "created", occasion)


def _change(command: ChangeReference, books: Books, occasion: Occasion) -> Decision:
    row = resources.present(command.kind, command.resource_id, command.if_match, books)
    _check_names(command.kind, command.changes, row["id"], books)
    changed, previous = resources.changed(row, command.changes, occasion)
    answer = encode(SHOWN[command.kind].show(changed))
    if not previous:
        return Decision(answer=answer, resource_id=row["id"], lock_version=row["lock_version"], events=[])
    return resources.decided(command.kind, changed, answer, "updated", occasion, encode(previous))


def _check_names(kind: ReferenceKind, fields: Mapping[str, Any], own_id: str | None, books: Books) -> None:
    for column in RESOURCE_NAMES[kind]:
        value = fields.get(column)
        holder = None if value is None else books.resource_named(kind, column, value)
        # A name that its holder has given up in this very batch is still noted as its.
        if holder is not None and holder["id"] != own_id and holder[column] == value:
            raise AlreadyTaken(kind, value, holder["id"], column)
