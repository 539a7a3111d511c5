"""What the books can be asked to do about exchange rates, as values. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from engine.needs import Light


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateFxRate(Light):
    """Note what one unit of the base currency is in the quote currency, as decimal text; for ever where no end is given."""

    base: str
    quote: str
    rate: str
    source: str | None = None
    valid_until: int | None = None
    metadata: dict[str, str] = field(default_factory=dict)
