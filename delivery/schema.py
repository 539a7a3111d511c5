"""The tables of a site's webhooks, the same on SQLite and PostgreSQL; every one is keyed by its site first.

Instants are microseconds since the epoch. Whoever changes an endpoint's deliveries holds the lock of its `endpoints` row.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    SmallInteger,
    String,
    Table,
    Text,
    text,
)

from delivery.tally import BOUNDS_MS
from engine.schema import Id, Json
from engine.schema import metadata as books

metadata: Final = MetaData(naming_convention=books.naming_convention)

LANE_IN_FLIGHT: Final = 0
LANE_FIRST: Final = 1
LANE_AGAIN: Final = 2
LANE_PARKED: Final = 3
LANE_PING: Final = 4

_UNFINISHED: Final = text("due_at IS NOT NULL")
_TROUBLED: Final = text("state IN ('retrying', 'exhausted', 'skipped')")
UNDELIVERED: Final = text("deliveries.state IN ('pending', 'retrying', 'exhausted', 'skipped')")
_UNDELIVERED: Final = text("state IN ('pending', 'retrying', 'exhausted', 'skipped')")
_FAILED: Final = text("last_error IS NOT NULL")
_RUNNING: Final = text("status = 'running'")

endpoints: Final = Table(
    "endpoints",
    metadata,
    Column("site_id", BigInteger, nullable=False),
    Column("id", Id, nullable=False),
    Column("url", Text, nullable=False),
    Column("description", Text),
    Column("metadata", Json, nullable=False),
    Column("event_types", Json, nullable=False),
    # A condition on the event's members, as it was given; NULL: every event of those types.
    Column("filter", Json),
    # How events are sent: payload, format, compression, batches.
    Column("form", Json, nullable=False),
    # Names in clear for the list; the values may be credentials and are sealed, all in one piece.
    Column("header_names", Json, nullable=False),
    Column("headers_sealed", LargeBinary),
    # Certificates in clear, the private key of ours sealed.
    Column("tls", Json),
    Column("tls_key_sealed", LargeBinary),
    # Sealed signing secrets, the newest first: [{"sealed": base64, "expires_at": micros or null}, …].
    Column("secrets", Json, nullable=False),
    Column("timeout_s", Integer, nullable=False),
    Column("max_in_flight", Integer, nullable=False),
    # parallel, ordered, or ordered_by with its key; what an exhausted delivery does to those behind it: block or skip_and_flag.
    Column("ordering", String(10), nullable=False),
    Column("ordering_key", Text),
    Column("on_exhausted", String(14), nullable=False),
    # Requests a second at most.
    Column("rate_limit", Integer),
    # After so long without a success it is disabled.
    Column("disable_after_s", Integer),
    Column("retry_schedule", Json),
    # active, paused, disabled, enabling (a ping has to pass) or deleted.
    Column("status", String(10), nullable=False),
    Column("status_reason", String(40)),
    Column("last_sequence", BigInteger, nullable=False),
    # When attempts began to fail without a success between, and how many deliveries were exhausted since.
    Column("failing_since", BigInteger),
    Column("exhausted_since", Integer, nullable=False),
    # What was told of it at last, see delivery.failing: 0 nothing.
    Column("warned", SmallInteger, nullable=False),
    # The circuit breaker, see delivery.breaker. The last two are NULL while the circuit is closed.
    Column("circuit_window", Integer, nullable=False),
    Column("circuit_strikes", Integer, nullable=False),
    Column("circuit_trips", Integer, nullable=False),
    Column("circuit_opened_at", BigInteger),
    Column("circuit_probe_at", BigInteger),
    # While it is not 0: what has a larger endpoint sequence waits until everything up to this one is finished.
    Column("ordering_from", BigInteger, nullable=False),
    # How many exhausted deliveries did not hold up those behind them.
    Column("passed_over", Integer, nullable=False),
    # When the next request may begin, of an endpoint with a rate limit.
    Column("rate_next_at", BigInteger),
    Column("lock_version", BigInteger, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    PrimaryKeyConstraint("site_id", "id"),
    CheckConstraint("last_sequence >= 0", name="last_sequence"),
)

# What an endpoint subscribed to, from a place in the feed on; the version in force at a sequence is the last one at or
# before it. Nothing changes a version but another change before the next event.
subscriptions: Final = Table(
    "subscriptions",
    metadata,
    Column("site_id", BigInteger, nullable=False),
    Column("endpoint_id", Id, nullable=False),
    Column("from_sequence", BigInteger, nullable=False),
    Column("event_types", Json, nullable=False),
    Column("filter", Json),
    Column("status", String(10), nullable=False),
    Column("created_at", BigInteger, nullable=False),
    PrimaryKeyConstraint("site_id", "endpoint_id", "from_sequence"),
)

# How far the site's feed has been turned into deliveries.
relays: Final = Table(
    "relays",
    metadata,
    Column("site_id", BigInteger, nullable=False),
    Column("position", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    PrimaryKeyConstraint("site_id"),
)

deliveries: Final = Table(
    "deliveries",
    metadata,
    Column("site_id", BigInteger, nullable=False),
    Column("id", Id, nullable=False),
    Column("endpoint_id", Id, nullable=False),
    Column("event_id", Id, nullable=False),
    Column("event_type", String(40), nullable=False),
    Column("sequence", BigInteger, nullable=False),
    Column("endpoint_sequence", BigInteger, nullable=False),
    # pending, in_flight, retrying, delivered, exhausted or skipped.
    Column("state", String(10), nullable=False),
    Column("reason", String(40)),
    # How many attempts were begun, and how many of them failed by the endpoint's fault in the present schedule.
    Column("attempts", Integer, nullable=False),
    Column("failures", Integer, nullable=False),
    # What asks for the next attempt: scheduled, replay or manual.
    Column("trigger", String(10), nullable=False),
    # When somebody must look at this row next: the next attempt, or the end of the lease. NULL: never, it is finished.
    Column("due_at", BigInteger),
    # Who waits: what is in flight, first attempts, everything that is sent again, what waits for others to be finished,
    # the ping that decides whether a disabled endpoint is enabled.
    Column("lane", SmallInteger, nullable=False),
    # Grows with every claim, so that only the last claimer can settle.
    Column("generation", Integer, nullable=False),
    Column("claimed_at", BigInteger),
    Column("delivered_at", BigInteger),
    # What came of the last attempt: the HTTP status where there was an answer, the error class where it failed.
    Column("last_status", SmallInteger),
    Column("last_error", String(40)),
    # The replay that queued it last and counts what becomes of it.
    Column("replay_id", Id),
    # How many of its order keys an earlier unfinished delivery holds: parked until that is 0.
    Column("waits_for", Integer, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    PrimaryKeyConstraint("site_id", "id"),
    # One row per event and endpoint, for ever; an event's deliveries are found here too.
    Index("uq_deliveries_event", "site_id", "sequence", "endpoint_id", unique=True),
    Index("uq_deliveries_endpoint_sequence", "site_id", "endpoint_id", "endpoint_sequence", unique=True),
    Index(
        "ix_deliveries_due",
        "site_id",
        "endpoint_id",
        "lane",
        "due_at",
        "endpoint_sequence",
        postgresql_where=_UNFINISHED,
        sqlite_where=_UNFINISHED,
    ),
    Index(
        "ix_deliveries_troubled",
        "site_id",
        "state",
        "id",
        postgresql_where=_TROUBLED,
        sqlite_where=_TROUBLED,
    ),
    # What is not delivered, on one list; what is under way is on its way.
    Index(
        "ix_deliveries_undelivered",
        "site_id",
        "id",
        postgresql_where=_UNDELIVERED,
        sqlite_where=_UNDELIVERED,
    ),
    Index(
        "ix_deliveries_failed",
        "site_id",
        "last_error",
        "id",
        postgresql_where=_FAILED,
        sqlite_where=_FAILED,
    ),
    # Rows are rewritten twice in their first second: room on the page keeps the new versions beside the old.
    postgresql_with={"fillfactor": 70},
)

# What keeps deliveries in order: the keys of those that are not finished, of endpoints that ask for an order.
order_keys: Final = Table(
    "order_keys",
    metadata,
    Column("site_id", BigInteger, nullable=False),
    Column("endpoint_id", Id, nullable=False),
    Column("key", String(32), nullable=False),
    Column("endpoint_sequence", BigInteger, nullable=False),
    Column("delivery_id", Id, nullable=False),
    PrimaryKeyConstraint("site_id", "endpoint_id", "key", "endpoint_sequence"),
    Index("ix_order_keys_delivery", "site_id", "delivery_id"),
)

attempts: Final = Table(
    "attempts",
    metadata,
    Column("site_id", BigInteger, nullable=False),
    Column("delivery_id", Id, nullable=False),
    Column("number", Integer, nullable=False),
    Column("trigger", String(10), nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("duration_ms", Integer),
    # JSON as it is shown; NULL where no request left, or no response came.
    Column("request", LargeBinary),
    Column("response", LargeBinary),
    # JSON as it is shown: milliseconds of name look-up, connecting, TLS, first byte.
    Column("timings", LargeBinary),
    # When the next attempt was due then; NULL where none was planned.
    Column("next_attempt_at", BigInteger),
    Column("error_class", String(40)),
    PrimaryKeyConstraint("site_id", "delivery_id", "number"),
)

# Replays of many deliveries. Whoever goes on with one holds the lock of its row, then those of endpoints, never the other way.
replays: Final = Table(
    "replays",
    metadata,
    Column("site_id", BigInteger, nullable=False),
    Column("id", Id, nullable=False),
    # What was asked for, as it was asked.
    Column("selection", LargeBinary, nullable=False),
    Column("rate_per_s", Integer, nullable=False),
    # running, paused, canceled, or queued: everything it found waits for an attempt or had one.
    Column("status", String(10), nullable=False),
    # When the next step is due; NULL: none is.
    Column("due_at", BigInteger),
    Column("lock_version", BigInteger, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    PrimaryKeyConstraint("site_id", "id"),
    Index("ix_replays_running", "site_id", "due_at", postgresql_where=_RUNNING, sqlite_where=_RUNNING),
)

# A replay's share at one endpoint: where it stands and what came of it. Changed under the lock of that endpoint.
replay_parts: Final = Table(
    "replay_parts",
    metadata,
    Column("site_id", BigInteger, nullable=False),
    Column("replay_id", Id, nullable=False),
    Column("endpoint_id", Id, nullable=False),
    # Endpoint sequences, of a catch-up feed sequences: what lies after `position` and up to `until` is still to be looked at.
    Column("position", BigInteger, nullable=False),
    Column("until", BigInteger, nullable=False),
    # Where deliveries were chosen one by one: their endpoint sequences, ascending.
    Column("numbers", Json),
    Column("total", BigInteger, nullable=False),
    Column("queued", BigInteger, nullable=False),
    Column("delivered", BigInteger, nullable=False),
    Column("failed", BigInteger, nullable=False),
    Column("skipped", BigInteger, nullable=False),
    PrimaryKeyConstraint("site_id", "replay_id", "endpoint_id"),
    postgresql_with={"fillfactor": 70},
)

TALLY_CLASSES: Final = (*tuple(f"up_to_{bound}_ms" for bound in BOUNDS_MS), "longer")

# Attempts counted by hour, under the endpoint's lock, so that figures cost no look at the attempts.
delivery_tallies: Final = Table(
    "delivery_tallies",
    metadata,
    Column("site_id", BigInteger, nullable=False),
    Column("hour", Integer, nullable=False),
    Column("endpoint_id", Id, nullable=False),
    Column("attempts", BigInteger, nullable=False),
    Column("delivered", BigInteger, nullable=False),
    *(Column(name, BigInteger, nullable=False) for name in TALLY_CLASSES),
    PrimaryKeyConstraint("site_id", "hour", "endpoint_id"),
)

# Throw-away receivers of a sandbox, and the newest requests that each received.
inspectors: Final = Table(
    "inspectors",
    metadata,
    Column("site_id", BigInteger, nullable=False),
    Column("id", Id, nullable=False),
    Column("token", String(32), nullable=False),
    Column("status", SmallInteger, nullable=False),
    Column("retry_after_s", Integer, nullable=False),
    Column("delay_ms", Integer, nullable=False),
    Column("received", BigInteger, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    PrimaryKeyConstraint("site_id", "id"),
    Index("uq_inspectors_token", "site_id", "token", unique=True),
)

inspected: Final = Table(
    "inspected",
    metadata,
    Column("site_id", BigInteger, nullable=False),
    Column("inspector_id", Id, nullable=False),
    Column("number", BigInteger, nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("headers", Json, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("truncated", Boolean, nullable=False),
    Column("answered", SmallInteger, nullable=False),
    PrimaryKeyConstraint("site_id", "inspector_id", "number"),
)

# Facts on their way to the feed: stored with the effect, submitted later, deleted when the engine has them.
outgoing_facts: Final = Table(
    "outgoing_facts",
    metadata,
    Column("site_id", BigInteger, nullable=False),
    Column("key", String(200), nullable=False),
    Column("type", String(40), nullable=False),
    Column("resource_type", String(20), nullable=False),
    Column("resource_id", Id, nullable=False),
    Column("data", LargeBinary, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    PrimaryKeyConstraint("site_id", "key"),
)
