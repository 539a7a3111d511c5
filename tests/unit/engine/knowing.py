"""Reference data for the engine's tests: one of each kind, with all that it can have."""

from __future__ import annotations

from typing import Any, Final

from engine.reference_commands import ReferenceKind

REFERENCE: Final[dict[ReferenceKind, dict[str, Any]]] = {
    "entity": {
        "type": "company",
        "name": "Acme",
        "legal_name": "Acme GmbH",
        "country": "DE",
        "external_id": "acme",
        "description": "Makes everything.",
        "metadata": {"kind": "cash"},
    },
    "currency": {"code": "PTS", "name": "Points", "exponent": 3, "metadata": {"kind": "points"}},
    "product": {"code": "card", "name": "Card", "description": "Plastic.", "metadata": {"kind": "card"}},
}
