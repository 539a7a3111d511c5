"""What the tables hold, as values: an endpoint, a delivery, an attempt, a fact. Pure; instants are microseconds since the epoch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from msgspec import Struct

from delivery.breaker import Circuit
from delivery.conditions import Filter
from delivery.forms import Form


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredSecret:
    """A sealed signing key; `expires_at` is None for the newest one, `public` is there for `v1a` only."""

    sealed: bytes
    expires_at: int | None
    version: Literal["v1", "v1a"] = "v1"
    public: str | None = None


class Identity(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What TLS to an endpoint is made with, in PEM: our certificate and its chain, and who may vouch for the endpoint.

    `expires_at` (micros) is our certificate's.
    """

    certificate: str | None = None
    ca: str | None = None
    expires_at: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointRow:
    """An endpoint as it is stored; `retry_schedule` None stands for the default."""

    id: str
    url: str
    description: str | None
    metadata: dict[str, str]
    event_types: tuple[str, ...]
    filter: Filter | None
    form: Form
    header_names: tuple[str, ...]
    headers_sealed: bytes | None
    tls: Identity | None
    tls_key_sealed: bytes | None
    secrets: tuple[StoredSecret, ...]
    timeout_s: int
    max_in_flight: int
    ordering: str
    ordering_key: str | None
    on_exhausted: str
    rate_limit: int | None
    disable_after_s: int | None
    retry_schedule: tuple[int, ...] | None
    status: str
    status_reason: str | None
    last_sequence: int
    failing_since: int | None
    warned: int
    exhausted_since: int
    circuit: Circuit
    ordering_from: int
    passed_over: int
    rate_next_at: int | None
    lock_version: int
    created_at: int
    updated_at: int

    def signing_secrets(self, now_us: int) -> tuple[StoredSecret, ...]:
        """Return the keys that sign now, the newest first."""
        return tuple(one for one in self.secrets if one.expires_at is None or one.expires_at > now_us)


class DeliveryRow(Struct, frozen=True, kw_only=True):
    """A delivery as it is stored; see delivery.schema for what the columns mean.

    It is made and changed several times on its way: as a frozen dataclass that was a seventh of what a turn costs.
    """

    id: str
    endpoint_id: str
    event_id: str
    event_type: str
    sequence: int
    endpoint_sequence: int
    state: str
    reason: str | None
    attempts: int
    failures: int
    trigger: str
    due_at: int | None
    lane: int
    generation: int
    claimed_at: int | None
    delivered_at: int | None
    created_at: int
    updated_at: int
    last_status: int | None = None
    last_error: str | None = None
    replay_id: str | None = None
    waits_for: int = 0


class AttemptRow(Struct, frozen=True, kw_only=True):
    """An attempt as it is stored; request, response and timings are the JSON they are shown as."""

    delivery_id: str
    number: int
    trigger: str
    at: int
    duration_ms: int | None
    request: bytes | None
    response: bytes | None
    error_class: str | None
    timings: bytes | None = None
    next_attempt_at: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayRow:
    """A replay as it is stored; `selection` is the JSON it was asked for with."""

    id: str
    selection: bytes
    rate_per_s: int
    status: str
    due_at: int | None
    lock_version: int
    created_at: int
    updated_at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayPart:
    """A replay's share at one endpoint; see delivery.schema for what the columns mean."""

    replay_id: str
    endpoint_id: str
    position: int
    until: int
    numbers: tuple[int, ...] | None
    total: int
    queued: int = 0
    delivered: int = 0
    failed: int = 0
    skipped: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """Something that became true: its unique key, the event type, what it is about, and that as JSON."""

    key: str
    type: str
    resource_type: str
    resource_id: str
    data: bytes
