"""What the books can be asked to do about exchange rates, as values. Pure."""

from __future__ import annotations

from msgspec import field

from engine.needs import Light


class CreateFxRate(Light, frozen=True, kw_only=True):
    """Note what one unit of the base currency is in the quote currency, as decimal text; for ever where no end is given."""

    base: str
    quote: str
    rate: str
    source: str | None = None
    valid_until: int | None = None
    metadata: dict[str, str] = field(default_factory=dict)
