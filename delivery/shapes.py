"""Endpoints, deliveries and attempts as the API shows them, what it takes about them, and their one encoder. Pure."""

from __future__ import annotations

from typing import Annotated, Final, Literal, cast

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from delivery.conditions import Filter
from delivery.failing import Policy
from delivery.forms import Compression, Format, MaxBatch, MaxWait, Payload, SchemaVersion
from delivery.options import (
    OVERLAP_MAX_S,
    Description,
    DisableAfter,
    EventPatterns,
    Headers,
    MaxInFlight,
    Metadata,
    OnExhausted,
    Ordering,
    OrderingKey,
    Pem,
    PrivateKeyPem,
    RateLimit,
    RetrySchedule,
    Signature,
    TimeoutSeconds,
    Url,
)
from delivery.rows import AttemptRow, DeliveryRow, EndpointRow
from engine.money import format_instant

WAITS_FOR_ORDER: Final = "waits_for_order"
"""The reason of a pending delivery that earlier ones have to go before."""

MASK: Final = "***"
"""Stands where a custom header's value would be: it may be a credential, and none is shown twice."""

EndpointStatus = Literal["active", "paused", "disabled", "enabling"]
DeliveryStatus = Literal["pending", "in_flight", "retrying", "delivered", "exhausted", "skipped"]
Trigger = Literal["scheduled", "manual", "replay"]


class TlsGiven(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How TLS to an endpoint is made, in PEM: a client certificate with its key, and the authorities to trust instead."""

    certificate: Pem | None = None
    private_key: PrivateKeyPem | None = None
    ca: Pem | None = None


class TlsShown(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How TLS to an endpoint is made; the private key is never shown."""

    certificate: str | None
    ca: str | None
    expires_at: str | None


class EndpointCreate(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What registers a webhook endpoint."""

    url: Url
    event_types: EventPatterns
    description: Description | None = None
    metadata: Metadata = {}
    headers: Headers = {}
    timeout_s: TimeoutSeconds | None = None
    max_in_flight: MaxInFlight | None = None
    retry_schedule: RetrySchedule | None = None
    ordering: Ordering = "parallel"
    ordering_key: OrderingKey | None = None
    on_exhausted: OnExhausted = "block"
    rate_limit: RateLimit | None = None
    disable_after_s: DisableAfter | None = None
    signature: Signature | None = None
    tls: TlsGiven | None = None
    filter: Filter | None = None
    payload: Payload | None = None
    format: Format | None = None
    schema_version: SchemaVersion | None = None
    compression: Compression | None = None
    max_batch: MaxBatch | None = None
    max_wait_ms: MaxWait | None = None


class EndpointChange(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What changes about an endpoint; what is left out stays, `null` goes back to the default."""

    url: Url | UnsetType = UNSET
    event_types: EventPatterns | UnsetType = UNSET
    description: Description | UnsetType | None = UNSET
    metadata: Metadata | UnsetType = UNSET
    headers: Headers | UnsetType = UNSET
    timeout_s: TimeoutSeconds | UnsetType | None = UNSET
    max_in_flight: MaxInFlight | UnsetType | None = UNSET
    retry_schedule: RetrySchedule | UnsetType | None = UNSET
    ordering: Ordering | UnsetType = UNSET
    ordering_key: OrderingKey | UnsetType | None = UNSET
    on_exhausted: OnExhausted | UnsetType = UNSET
    rate_limit: RateLimit | UnsetType | None = UNSET
    disable_after_s: DisableAfter | UnsetType | None = UNSET
    tls: TlsGiven | UnsetType | None = UNSET
    filter: Filter | UnsetType | None = UNSET
    payload: Payload | UnsetType | None = UNSET
    format: Format | UnsetType | None = UNSET
    schema_version: SchemaVersion | UnsetType | None = UNSET
    compression: Compression | UnsetType | None = UNSET
    max_batch: MaxBatch | UnsetType | None = UNSET
    max_wait_ms: MaxWait | UnsetType | None = UNSET


class RotateSecret(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a secret is replaced: the new one's kind, the old one's unless given, and how long the old one goes on signing."""

    signature: Signature | UnsetType | None = UNSET
    overlap_s: Annotated[int, Meta(ge=0, le=OVERLAP_MAX_S)] | UnsetType | None = UNSET


class SigningKeyShown(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A key that signs now: `public_key` (`whpk_…`) verifies `v1a`; the secret of `v1` is not shown again."""

    signature: Signature
    public_key: str | None
    expires_at: str | None


class CircuitState(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An endpoint's circuit breaker: `open` while it failed too often; then one request probes at `next_probe_at`.

    `window` is how many requests it is trusted with at once, up to its `max_in_flight`.
    """

    state: Literal["closed", "open"]
    window: int
    opened_at: str | None
    next_probe_at: str | None


class Endpoint(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A webhook endpoint.

    `secret` is there at creation and rotation only, and `null` when those are answered again; for `v1a` there is none to
    share: `signing_keys` has the public key.
    """

    id: str
    url: str
    event_types: list[str]
    description: str | None
    metadata: dict[str, str]
    headers: dict[str, str]
    timeout_s: int
    max_in_flight: int
    retry_schedule: list[int]
    ordering: Ordering
    ordering_key: str | None
    on_exhausted: OnExhausted
    passed_over: int
    rate_limit: int | None
    disable_after_s: int
    filter: Filter | None
    payload: Payload
    format: Format
    schema_version: int
    compression: Compression
    max_batch: int
    max_wait_ms: int
    signing_keys: list[SigningKeyShown]
    tls: TlsShown | None
    status: EndpointStatus
    status_reason: str | None
    last_sequence: int
    failing_since: str | None
    circuit: CircuitState
    lock_version: int
    created_at: str
    updated_at: str
    secret: str | UnsetType | None = UNSET
    failing_percent: int | UnsetType = UNSET


class EndpointTest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A test event was recorded; it reaches the endpoint through the feed like any other."""

    endpoint_id: str
    event_type: Literal["endpoint.test"] = "endpoint.test"


class Delivery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One event for one endpoint. `event` is the stored envelope, there when it was asked for."""

    id: str
    endpoint_id: str
    event_id: str
    event_type: str
    sequence: int
    endpoint_sequence: int
    status: DeliveryStatus
    reason: str | None
    attempts: int
    last_status: int | None
    last_error: str | None
    next_attempt_at: str | None
    delivered_at: str | None
    created_at: str
    updated_at: str
    event: msgspec.Raw | UnsetType = UNSET


class AttemptRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The request of an attempt; custom headers show their names only.

    The body is not kept twice: it is made of the event at `event`, with those of the other deliveries in
    `X-GLedger-Delivery-Id` where it was a batch, by `payload` and what the headers say. `body_bytes` and `body_sha256` are
    of the body as it was sent.
    """

    url: str
    headers: dict[str, str]
    event: str
    payload: Payload
    body_bytes: int
    body_sha256: str


class AttemptResponse(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The response of an attempt; `body` is its beginning as text, cookies and credentials are masked."""

    status: int
    headers: dict[str, str]
    body: str
    truncated: bool


class AttemptTimings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Milliseconds of an attempt's parts; `null` for what did not happen, or was not needed on a kept connection."""

    dns_ms: float | None
    connect_ms: float | None
    tls_ms: float | None
    first_byte_ms: float | None
    total_ms: float
    connection_reused: bool


class Attempt(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One HTTP request of a delivery; `next_attempt_at` is when the next one was due then."""

    number: int
    trigger: Trigger
    at: str
    duration_ms: int | None
    timings: AttemptTimings | None
    next_attempt_at: str | None
    request: AttemptRequest | None
    response: AttemptResponse | None
    error_class: str | None


encode: Final = msgspec.json.Encoder().encode
_request: Final = msgspec.json.Decoder(AttemptRequest)
_response: Final = msgspec.json.Decoder(AttemptResponse)
_timings: Final = msgspec.json.Decoder(AttemptTimings)


def show_endpoint(row: EndpointRow, policy: Policy, *, failing_percent: int | UnsetType = UNSET) -> Endpoint:
    """Return an endpoint as the API shows it, without its secret; `policy` is where it says nothing else."""
    return Endpoint(
        id=row.id,
        url=row.url,
        event_types=list(row.event_types),
        description=row.description,
        metadata=row.metadata,
        headers=dict.fromkeys(row.header_names, MASK),
        timeout_s=row.timeout_s,
        max_in_flight=row.max_in_flight,
        retry_schedule=list(row.retry_schedule or policy.retry_schedule_s),
        ordering=cast("Ordering", row.ordering),
        ordering_key=row.ordering_key,
        on_exhausted=cast("OnExhausted", row.on_exhausted),
        passed_over=row.passed_over,
        rate_limit=row.rate_limit,
        disable_after_s=row.disable_after_s or policy.disable_after_s,
        failing_percent=failing_percent,
        filter=row.filter,
        **msgspec.structs.asdict(row.form),
        tls=None
        if row.tls is None
        else TlsShown(certificate=row.tls.certificate, ca=row.tls.ca, expires_at=_instant(row.tls.expires_at)),
        signing_keys=[
            SigningKeyShown(signature=one.version, public_key=one.public, expires_at=_instant(one.expires_at))
            for one in row.secrets
        ],
        status=cast("EndpointStatus", row.status),
        status_reason=row.status_reason,
        last_sequence=row.last_sequence,
        failing_since=_instant(row.failing_since),
        circuit=CircuitState(
            state="closed" if row.circuit.probe_at is None else "open",
            window=min(row.circuit.window, row.max_in_flight),
            opened_at=_instant(row.circuit.opened_at),
            next_probe_at=_instant(row.circuit.probe_at),
        ),
        lock_version=row.lock_version,
        created_at=format_instant(row.created_at),
        updated_at=format_instant(row.updated_at),
    )


def why_waiting(row: DeliveryRow, endpoint: EndpointRow | None) -> str | None:
    """Return why a delivery that is due some time has not gone yet; None where nothing but its time holds it."""
    if row.state not in {"pending", "retrying"} or endpoint is None:
        return None
    if endpoint.status != "active":
        return "endpoint_paused" if endpoint.status == "paused" else "endpoint_disabled"
    if row.waits_for:
        return WAITS_FOR_ORDER
    return "circuit_open" if endpoint.circuit.probe_at is not None else row.last_error


def show_delivery(row: DeliveryRow, event: bytes | None = None, *, reason: str | None = None) -> Delivery:
    """Return a delivery as the API shows it; `event` is the stored envelope where it is to be included.

    `reason` is why it waits, where it is in no state that has a reason of its own.
    """
    return Delivery(
        id=row.id,
        endpoint_id=row.endpoint_id,
        event_id=row.event_id,
        event_type=row.event_type,
        sequence=row.sequence,
        endpoint_sequence=row.endpoint_sequence,
        status=cast("DeliveryStatus", row.state),
        reason=row.reason or reason or (WAITS_FOR_ORDER if row.waits_for else None),
        attempts=row.attempts,
        last_status=row.last_status,
        last_error=row.last_error,
        # What waits for its turn is due when the one before it is finished, and nobody knows when that is.
        next_attempt_at=_instant(row.due_at) if row.state in {"pending", "retrying"} and not row.waits_for else None,
        delivered_at=_instant(row.delivered_at),
        created_at=format_instant(row.created_at),
        updated_at=format_instant(row.updated_at),
        event=UNSET if event is None else msgspec.Raw(event),
    )


def show_attempt(row: AttemptRow) -> Attempt:
    """Return an attempt as the API shows it."""
    return Attempt(
        number=row.number,
        trigger=cast("Trigger", row.trigger),
        at=format_instant(row.at),
        duration_ms=row.duration_ms,
        timings=None if row.timings is None else _timings.decode(row.timings),
        next_attempt_at=_instant(row.next_attempt_at),
        request=None if row.request is None else _request.decode(row.request),
        response=None if row.response is None else _response.decode(row.response),
        error_class=row.error_class,
    )


def _instant(at_us: int | None) -> str | None:
    return None if at_us is None else format_instant(at_us)
