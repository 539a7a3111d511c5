"""Events: their types, their envelope, its one encoding, and the hash chain over the encoded bytes. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Final

import msgspec
from msgspec import Struct

from engine.money import format_instant

SCHEMA_VERSION: Final = 1

ENTRY_TYPES: Final = (
    "entry.created",
    "entry.updated",
    "entry.posted",
    "entry.archived",
    "entry.reversed",
    "entry.rejected",
)
OPERATIONAL_TYPES: Final = (
    "endpoint.failing",
    "endpoint.disabled",
    "endpoint.enabled",
    "delivery.exhausted",
    "delivery.recovered",
)
TEST_TYPE: Final = "endpoint.test"
EVENT_TYPES: Final = frozenset(
    (
        *ENTRY_TYPES,
        "hold.created",
        "hold.captured",
        "hold.released",
        "hold.expired",
        "fx_rate.created",
        "account.created",
        "account.updated",
        "ledger.created",
        "ledger.updated",
        "event_handler.created",
        "event_handler.updated",
        "business_event.created",
        "entity.created",
        "entity.updated",
        "currency.created",
        "currency.updated",
        "product.created",
        "product.updated",
        "settlement.created",
        "settlement.completed",
        "settlement.failed",
        "reconciliation.matched",
        "reconciliation.unmatched",
        "account_category.created",
        "account_category.updated",
        "account_category.member_added",
        "account_category.member_removed",
        "balance_monitor.created",
        "balance_monitor.updated",
        "balance.threshold_crossed",
        "balance.threshold_recovered",
        *OPERATIONAL_TYPES,
        TEST_TYPE,
    ),
)


class Resource(msgspec.Struct, frozen=True):
    """The canonical reference of what an event is about."""

    type: str
    id: str
    href: str


class BatchPlace(msgspec.Struct, frozen=True):
    """Where an event stands among the entries that one request committed; `index` counts from 1."""

    id: str
    index: int
    count: int


class Diagnostics(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where the request that led to the event can be found in logs and traces."""

    request_id: str | None = None
    correlation_id: str | None = None
    traceparent: str | None = None


class Envelope(msgspec.Struct, frozen=True, omit_defaults=True):
    """An event as every channel shows it."""

    id: str
    type: str
    schema_version: int
    sequence: int
    timestamp: str
    organization: str
    environment: str
    resource: Resource
    data: msgspec.Raw
    batch: BatchPlace | msgspec.UnsetType = msgspec.UNSET
    previous: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    diagnostics: Diagnostics | msgspec.UnsetType = msgspec.UNSET


class EventDraft(Struct, frozen=True, kw_only=True):
    """A fact that was decided and has no place in the feed yet; `data` and `previous` are encoded JSON."""

    id: str
    type: str
    resource_type: str
    resource_id: str
    data: bytes
    previous: bytes | None = None
    batch: BatchPlace | None = None


class FeedEvent(Struct, frozen=True, kw_only=True):
    """An event at its place in the feed; `body` is the envelope's bytes, `created_at` in microseconds."""

    sequence: int
    id: str
    type: str
    resource_id: str
    created_at: int
    body: bytes
    hash: bytes
    correlation_id: str | None = None


_COLLECTIONS: Final = {
    "entry": "/v1/entries/",
    "account": "/v1/accounts/",
    "ledger": "/v1/ledgers/",
    "hold": "/v1/holds/",
    "fx_rate": "/v1/fx_rates/",
    "account_category": "/v1/account_categories/",
    "balance_monitor": "/v1/balance_monitors/",
    "event_handler": "/v1/event_handlers/",
    "business_event": "/v1/business_events/",
    "entity": "/v1/entities/",
    "currency": "/v1/currencies/",
    "product": "/v1/products/",
    "endpoint": "/v1/webhook_endpoints/",
    "delivery": "/v1/deliveries/",
}
RESOURCE_TYPES: Final = tuple(sorted(_COLLECTIONS))
_encode: Final = msgspec.json.Encoder().encode


class _Data(msgspec.Struct, frozen=True):
    data: msgspec.Raw


_decode_data: Final = msgspec.json.Decoder(_Data).decode


def href(resource_type: str, resource_id: str) -> str:
    """Return the path at which the API shows a resource."""
    return _COLLECTIONS[resource_type] + resource_id


def moves_lines(event_type: str, status: str, previous: Mapping[str, Any]) -> bool:
    """Tell whether an event of an entry, of this status then, comes with a version of its lines that moved balances."""
    if status in {"accepted", "rejected"}:
        return False
    if event_type == "entry.updated":
        return "lines" in previous or "effective_at" in previous
    return event_type != "entry.reversed"


def event_href(event_id: str) -> str:
    """Return the path at which the API shows an event."""
    return f"/v1/events/{event_id}"


def genesis_hash(site_id: int, epoch: str) -> bytes:
    """Return the hash that the first event of a feed is chained to."""
    return hashlib.sha256(f"gledger-live feed {site_id} {epoch}".encode()).digest()


def chain(previous: bytes, body: bytes) -> bytes:
    """Return an event's hash: SHA-256 over the previous event's hash and the event's bytes."""
    return hashlib.sha256(previous + body).digest()


def encode(
    draft: EventDraft,
    *,
    sequence: int,
    at_us: int,
    organization: str,
    environment: str,
    diagnostics: Diagnostics,
) -> bytes:
    """Return the envelope's bytes: made once, then stored, signed, streamed and replayed."""
    return _encode(
        Envelope(
            id=draft.id,
            type=draft.type,
            schema_version=SCHEMA_VERSION,
            sequence=sequence,
            timestamp=format_instant(at_us),
            organization=organization,
            environment=environment,
            resource=Resource(draft.resource_type, draft.resource_id, href(draft.resource_type, draft.resource_id)),
            data=msgspec.Raw(draft.data),
            batch=msgspec.UNSET if draft.batch is None else draft.batch,
            previous=msgspec.UNSET if draft.previous is None else msgspec.Raw(draft.previous),
            diagnostics=diagnostics,
        ),
    )


def data_of(body: bytes) -> bytes:
    """Return the data in an envelope, to the byte as it was encoded."""
    return bytes(_decode_data(body).data)
