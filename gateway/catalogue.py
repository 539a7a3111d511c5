"""What the API can tell without a database: the shape of a country, and the types of events, each with a sample.

A sample is made from the very shape that the events carry, so it cannot fall behind it.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
from msgspec import inspect

from delivery.shapes import Delivery, Endpoint
from engine.category_shapes import AccountCategory, BalanceMonitor, CategoryMember
from engine.event_shapes import BusinessEvent, EventHandler
from engine.events import SCHEMA_VERSION, Envelope, Resource, href
from engine.fx_shapes import FxRate
from engine.hold_shapes import Hold
from engine.reference_shapes import Currency, Entity, Product
from engine.shapes import Account, Entry, Ledger

_ID: Final = "0192a3b4-c5d6-7e8f-9a0b-1c2d3e4f5a6b"
_AT: Final = "2026-11-21T10:00:00.123456Z"
_TEXTS: Final = {
    "currency": "USD",
    "base": "EUR",
    "quote": "USD",
    "rate": "1.0845",
    "country": "DE",
    "code": "PTS",
    "effective_date": "2026-11-21",
    "url": "https://partner.example/webhooks",
    "name": "Sample",
}
_NUMBERS: Final = {
    "lock_version": 2,
    "account_lock_version": 2,
    "exponent": 2,
    "currency_exponent": 2,
    "timeout_s": 15,
    "amount": 1000,
    "debits": 1000,
    "credits": 0,
    "held": 0,
}
_GIVEN: Final = frozenset((*_TEXTS, *_NUMBERS, "resulting_balances", "posted_at"))
"""What a sample has though it may be null."""


class Country(msgspec.Struct, frozen=True):
    """A country of ISO 3166-1: its codes of two and of three letters, its number, its name."""

    code: str
    code3: str
    number: str
    name: str


class EventType(msgspec.Struct, frozen=True):
    """A type of event: when there is one, what it is about, and a sample of what it looks like."""

    name: str
    description: str
    resource_type: str
    sample: Envelope


_SHAPES: Final[dict[str, tuple[str, type[msgspec.Struct]]]] = {
    "account": ("account", Account),
    "account_category": ("account_category", AccountCategory),
    "balance": ("balance_monitor", BalanceMonitor),
    "balance_monitor": ("balance_monitor", BalanceMonitor),
    "business_event": ("business_event", BusinessEvent),
    "currency": ("currency", Currency),
    "delivery": ("delivery", Delivery),
    "endpoint": ("endpoint", Endpoint),
    "entity": ("entity", Entity),
    "entry": ("entry", Entry),
    "event_handler": ("event_handler", EventHandler),
    "fx_rate": ("fx_rate", FxRate),
    "hold": ("hold", Hold),
    "ledger": ("ledger", Ledger),
    "product": ("product", Product),
}
_MEANINGS: Final = {
    "entry.created": "An entry exists that is not posted yet: pending, of a hold, or accepted.",
    "entry.updated": "A pending entry's lines changed, or an entry's metadata or description; `previous` has what they were.",
    "entry.posted": "An entry became posted; one that is posted at once has this event only.",
    "entry.archived": "A pending entry was given up.",
    "entry.reversed": "The reversal of an entry was posted.",
    "entry.rejected": "An accepted entry could not be posted; `rejection` says why.",
    "hold.created": "Funds were reserved.",
    "hold.captured": "What was reserved was posted, or a part of it.",
    "hold.released": "What was reserved is free again.",
    "hold.expired": "The time of a hold was over; what it reserved is free again.",
    "account.created": "An account was opened.",
    "account.updated": "An account was changed or closed; `previous` has what it was.",
    "ledger.created": "A ledger was opened.",
    "ledger.updated": "A ledger was changed; `previous` has what it was.",
    "fx_rate.created": "An exchange rate was noted.",
    "event_handler.created": "An event handler was made.",
    "event_handler.updated": "An event handler was changed, archived or activated; `previous` has what it was.",
    "business_event.created": "A business event was turned into entries.",
    "account_category.created": "A category of accounts was opened.",
    "account_category.updated": "A category was changed; `previous` has what it was.",
    "account_category.member_added": "An account or a category was put into a category.",
    "account_category.member_removed": "An account or a category was taken out of a category.",
    "balance_monitor.created": "A balance is watched.",
    "balance_monitor.updated": "A monitor was changed or archived; `previous` has what it was.",
    "balance.threshold_crossed": "A monitor's condition began to hold.",
    "balance.threshold_recovered": "A monitor's condition ceased to hold.",
    "entity.created": "A legal entity was noted.",
    "entity.updated": "What is known of an entity changed; `previous` has what it was.",
    "currency.created": "A currency of the site's own was defined.",
    "currency.updated": "A currency of the site's own was renamed; `previous` has what it was.",
    "product.created": "A product was noted.",
    "product.updated": "What is known of a product changed; `previous` has what it was.",
    "endpoint.failing": "Deliveries to an endpoint keep failing; it is told again as the time to its disabling passes.",
    "endpoint.disabled": "An endpoint gets no more deliveries.",
    "endpoint.enabled": "An endpoint gets deliveries again.",
    "delivery.exhausted": "A delivery was given up after its last attempt.",
    "delivery.recovered": "An endpoint for which deliveries were given up has taken one again.",
    "endpoint.test": "Sent on request, to one endpoint only.",
}


def sample(shape: Any) -> Any:
    """Return a plausible value of a type, as plain data that decodes as it."""
    return _sample(inspect.type_info(shape), "")


def _sample(kind: inspect.Type, name: str) -> Any:
    match kind:
        case inspect.StructType(fields=fields):
            return {each.encode_name: _sample(each.type, each.encode_name) for each in fields if each.required}
        case inspect.UnionType(types=types):
            nullable = any(isinstance(each, inspect.NoneType) for each in types)
            return None if nullable and name not in _GIVEN else _sample(types[0], name)
        case inspect.Metadata(type=inner):
            return _sample(inner, name)
        case inspect.LiteralType(values=values):
            return "posted" if "posted" in values else values[0]
        case (
            inspect.ListType(item_type=inspect.StructType(fields=fields) as item)
            | inspect.VarTupleType(item_type=inspect.StructType(fields=fields) as item)
        ):
            directed = any(each.encode_name == "direction" for each in fields)
            one = _sample(item, "")
            return [{**one, "direction": side} for side in ("debit", "credit")] if directed else [one]
        case inspect.ListType(item_type=item) | inspect.VarTupleType(item_type=item):
            return [_sample(item, name)]
        case inspect.DictType():
            return {"order": "1042"} if name == "metadata" else {}
        case inspect.BoolType():
            return False
        case inspect.EnumType(cls=cls):
            return next(iter(cls)).value
        case inspect.IntType():
            return _NUMBERS.get(name, 1)
        case inspect.StrType():
            return _text(name)
    return _NUMBERS[name] if name in _NUMBERS else _text(name) if name.endswith("_id") else {}


def _text(name: str) -> str:
    if name in {"id", "reverses"} or name.endswith("_id"):
        return _ID
    if name.endswith(("_at", "_until")):
        return _AT
    return _TEXTS.get(name, "sample")


def _event_type(name: str, meaning: str) -> EventType:
    resource_type, shape = _SHAPES[name.partition(".")[0]]
    data = sample(CategoryMember if ".member_" in name else shape)
    envelope = Envelope(
        id=_ID,
        type=name,
        schema_version=SCHEMA_VERSION,
        sequence=42,
        timestamp=_AT,
        organization="acme-corp",
        environment="sandbox",
        resource=Resource(resource_type, _ID, href(resource_type, _ID)),
        data=msgspec.Raw(msgspec.json.encode(data)),
    )
    return EventType(name=name, description=meaning, resource_type=resource_type, sample=envelope)


EVENT_TYPES: Final[dict[str, EventType]] = {name: _event_type(name, _MEANINGS[name]) for name in sorted(_MEANINGS)}
"""Every type of event that this product makes."""
