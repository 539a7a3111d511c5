"""Exchange rates as the API shows them. Pure."""

from __future__ import annotations

import msgspec

from engine.money import format_instant
from engine.rows import ResourceRow


class FxRate(msgspec.Struct, frozen=True):
    """What one unit of the base currency is in the quote currency, as decimal text."""

    id: str
    base: str
    quote: str
    rate: str
    source: str | None
    valid_until: str | None
    metadata: dict[str, str]
    lock_version: int
    created_at: str
    updated_at: str


def fx_rate_of(row: ResourceRow) -> FxRate:
    """Return a rate as the API shows it."""
    return FxRate(
        id=row["id"],
        base=row["base"],
        quote=row["quote"],
        rate=row["rate"],
        source=row["source"],
        valid_until=None if row["valid_until"] is None else format_instant(row["valid_until"]),
        metadata=row["metadata"],
        lock_version=row["lock_version"],
        created_at=format_instant(row["created_at"]),
        updated_at=format_instant(row["updated_at"]),
    )
