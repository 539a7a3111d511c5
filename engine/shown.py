"""How what stands beside the books looks in its events: kind by kind, its shape and the types that tell of it. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import msgspec
from msgspec import Struct

from engine.events import EVENT_TYPES
from engine.fx_shapes import FxRate, fx_rate_of
from engine.hold_shapes import Hold, hold_of
from engine.reference_shapes import Currency, Entity, Product, currency_of, entity_of, product_of
from engine.rows import ResourceRow


class Shown(Struct, frozen=True, kw_only=True):
    """How the resources of a kind look in their events."""

    show: Callable[[ResourceRow], msgspec.Struct]
    shape: type[msgspec.Struct]
    types: tuple[str, ...]


def _shown(kind: str, shape: type[msgspec.Struct], show: Callable[[ResourceRow], msgspec.Struct]) -> Shown:
    return Shown(
        show=show, shape=shape, types=tuple(sorted(each for each in EVENT_TYPES if each.startswith(f"{kind}.")))
    )


SHOWN: Final[Mapping[str, Shown]] = {
    "fx_rate": _shown("fx_rate", FxRate, fx_rate_of),
    "hold": _shown("hold", Hold, hold_of),
    "entity": _shown("entity", Entity, entity_of),
    "currency": _shown("currency", Currency, currency_of),
    "product": _shown("product", Product, product_of),
}
