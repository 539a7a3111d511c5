"""The tables of a site's books, the same on SQLite and PostgreSQL; every one is keyed by its site first.

Instants are microseconds since the epoch. What must never change is guarded by triggers that the migrations create.
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
    PrimaryKeyConstraint,
    SmallInteger,
    String,
    Table,
    Text,
    text,
)

from engine.columns import Id as Id
from engine.columns import Json as Json
from engine.columns import metadata as metadata
from engine.resource_schema import acceptances as acceptances
from engine.resource_schema import account_categories as account_categories
from engine.resource_schema import balance_monitors as balance_monitors
from engine.resource_schema import category_accounts as category_accounts
from engine.resource_schema import category_balances as category_balances
from engine.resource_schema import category_links as category_links
from engine.resource_schema import currencies as currencies
from engine.resource_schema import entities as entities
from engine.resource_schema import fx_rates as fx_rates
from engine.resource_schema import holds as holds
from engine.resource_schema import metadata_pairs as metadata_pairs
from engine.resource_schema import products as products

IDEMPOTENCY_SLOTS: Final = 16
"""Idempotency keys live in slots by day, so that the index of random keys that a day writes to stays small."""

_LIVE: Final = text("external_id IS NOT NULL AND status IN ('accepted', 'pending', 'posted')")
_FORMER: Final = text("external_id IS NOT NULL AND status IN ('archived', 'rejected')")
_UNPOSTED: Final = text("status <> 'posted'")
_PART: Final = text("partially_posts IS NOT NULL")
_ACTIVE: Final = text("status = 'active'")
_PURPOSEFUL: Final = text("purpose IS NOT NULL")
_NAMED: Final = text("external_id IS NOT NULL")
_OWNED: Final = text("entity_id IS NOT NULL")
_CODED: Final = text("code IS NOT NULL")
_SHIFTED: Final = text("effective_at <> created_at")

feeds: Final = Table(
    "feeds",
    metadata,
    Column("site_id", BigInteger, primary_key=True, autoincrement=False),
    Column("organization", String(63), nullable=False),
    Column("environment", String(10), nullable=False),
    Column("epoch", String(16), nullable=False),
    Column("state", String(10), nullable=False),
    Column("head", BigInteger, nullable=False),
    Column("head_hash", LargeBinary, nullable=False),
    Column("last_at", BigInteger, nullable=False),
    # No hold expires before it.
    Column("holds_due_at", BigInteger),
    # How many entries were accepted to be posted later, and how many of them were dealt with.
    Column("accepted", BigInteger, nullable=False),
    Column("accepted_done", BigInteger, nullable=False),
    # Moved to shut out a batch that was decided on this head and whose fate is not known.
    Column("fence", BigInteger, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    CheckConstraint("head >= 0", name="head"),
)

ledgers: Final = Table(
    "ledgers",
    metadata,
    Column("site_id", BigInteger, nullable=False),
    Column("id", Id, nullable=False),
    Column("entity_id", Id),
    Column("name", Text, nullable=False),
    Column("description", Text),
    Column("status", String(10), nullable=False),
    Column("metadata", Json, nullable=False),
    # No entry takes effect before it.
    Column("closed_until", BigInteger),
    Column("lock_version", BigInteger, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    PrimaryKeyConstraint("site_id", "id"),
    Index("ix_ledgers_entity", "site_id", "entity_id", "id", postgresql_where=_OWNED, sqlite_where=_OWNED),
)

accounts: Final = Table(
    "accounts",
    metadata,
    Column("site_id", BigInteger, nullable=False),
    Column("id", Id, nullable=False),
    Column("ledger_id", Id, nullable=False),
    Column("entity_id", Id),
    Column("name", Text, nullable=False),
    Column("description", Text),
    Column("type", String(10), nullable=False),
    Column("normal_balance", String(6), nullable=False),
    Column("currency", String(16), nullable=False),
    Column("currency_exponent", SmallInteger, nullable=False),
    Column("code", Text),
    Column("external_id", Text),
    Column("allow_negative", Boolean, nullable=False),
    # What the books themselves use the account for.
    Column("purpose", String(16)),
    Column("limits", Json, nullable=False),
    # How many categories the account is in, and how many monitors watch it: where both are 0 a posting looks no further.
    Column("categories", Integer, nullable=False),
    Column("monitors", Integer, nullable=False),
    Column("status", String(10), nullable=False),
    Column("metadata", Json, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    PrimaryKeyConstraint("site_id", "id"),
    Index(
        "uq_accounts_external_id",
        "site_id",
        "external_id",
        unique=True,
        postgresql_where=_NAMED,
        sqlite_where=_NAMED,
    ),
    Index("ix_accounts_ledger", "site_id", "ledger_id", "id"),
    Index("ix_accounts_entity", "site_id", "entity_id", "id", postgresql_where=_OWNED, sqlite_where=_OWNED),
    Index(
        "uq_accounts_code",
        "site_id",
        "code",
        "ledger_id",
        unique=True,
        postgresql_where=_CODED,
        sqlite_where=_CODED,
    ),
    Index(
        "uq_accounts_purpose",
        "site_id",
        "ledger_id",
        "purpose",
        "currency",
        "currency_exponent",
        unique=True,
        postgresql_where=_PURPOSEFUL,
        sqlite_where=_PURPOSEFUL,
    ),
)

# What every posting rewrites stands apart from what an account is, so that the rewritten row is short.
balances: Final = Table(
    "balances",
    metadata,
    Column("site_id", BigInteger, nullable=False),
    Column("account_id", Id, nullable=False),
    Column("posted_debits", BigInteger, nullable=False),
    Column("posted_credits", BigInteger, nullable=False),
    Column("pending_debits", BigInteger, nullable=False),
    Column("pending_credits", BigInteger, nullable=False),
    Column("lock_version", BigInteger, nullable=False),
    PrimaryKeyConstraint("site_id", "account_id"),
    CheckConstraint(
        "posted_debits >= 0 AND posted_credits >= 0 AND pending_debits >= 0 AND pending_credits >= 0",
        name="totals",
    ),
    # Room on the page for the row's next versions: nothing indexed changes, so updates stay on it.
    postgresql_with={"fillfactor": 50},
)

entries: Final = Table(
    "entries",
    metadata,
    Column("site_id", BigInteger, nullable=False),
    Column("id", Id, nullable=False),
    Column("ledger_id", Id, nullable=False),
    Column("status", String(10), nullable=False),
    Column("description", Text),
    Column("external_id", Text),
    Column("metadata", Json, nullable=False),
    Column("effective_at", BigInteger, nullable=False),
    Column("posted_at", BigInteger),
    Column("lines_version", Integer, nullable=False),
    Column("lock_version", BigInteger, nullable=False),
    Column("reverses", Id),
    Column("reversed_by", Id),
    Column("partially_posts", Id),
    Column("fx_rate_id", Id),
    Column("held", Boolean, nullable=False),
    Column("business_event_id", Id),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    PrimaryKeyConstraint("site_id", "id"),
    Index("uq_entries_external_id", "site_id", "external_id", unique=True, postgresql_where=_LIVE, sqlite_where=_LIVE),
    Index("ix_entries_ledger", "site_id", "ledger_id", "id"),
    Index("ix_entries_effective", "site_id", "effective_at", "id"),
    # Most are posted, and are found among all.
    Index("ix_entries_status", "site_id", "status", "id", postgresql_where=_UNPOSTED, sqlite_where=_UNPOSTED),
    # Those that hold their external id no more.
    Index("ix_entries_external_id", "site_id", "external_id", postgresql_where=_FORMER, sqlite_where=_FORMER),
    Index("ix_entries_part", "site_id", "partially_posts", "id", postgresql_where=_PART, sqlite_where=_PART),
)

# A change of a pending entry adds a version of its lines; nothing changes or removes a line.
lines: Final = Table(
    "lines",
    metadata,
    Column("site_id", BigInteger, nullable=False),
    Column("entry_id", Id, nullable=False),
    Column("version", Integer, nullable=False),
    Column("position", SmallInteger, nullable=False),
    Column("id", Id, nullable=False),
    Column("account_id", Id, nullable=False),
    Column("direction", String(6), nullable=False),
    Column("amount", BigInteger, nullable=False),
    Column("currency", String(16), nullable=False),
    Column("normal_balance", String(6), nullable=False),
    Column("status", String(10), nullable=False),
    Column("metadata", Json, nullable=False),
    # What this version of the line moved of its account's totals, in its direction.
    Column("posted_moved", BigInteger, nullable=False),
    Column("pending_moved", BigInteger, nullable=False),
    Column("account_lock_version", BigInteger, nullable=False),
    Column("posted_debits", BigInteger, nullable=False),
    Column("posted_credits", BigInteger, nullable=False),
    Column("pending_debits", BigInteger, nullable=False),
    Column("pending_credits", BigInteger, nullable=False),
    Column("effective_at", BigInteger, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    PrimaryKeyConstraint("site_id", "entry_id", "version", "position"),
    Index("uq_lines_account_version", "site_id", "account_id", "account_lock_version", unique=True),
    # Lines that took effect when they were booked are found by their version; only the others cost an index.
    Index(
        "ix_lines_effective",
        "site_id",
        "account_id",
        "effective_at",
        "account_lock_version",
        postgresql_where=_SHIFTED,
        sqlite_where=_SHIFTED,
    ),
    CheckConstraint("amount > 0", name="amount"),
)

# What stretches of an account's lines come to (see engine.spans); made by the worker, and never changed.
spans: Final = Table(
    "spans",
    metadata,
    Column("site_id", BigInteger, nullable=False),
    Column("account_id", Id, nullable=False),
    Column("level", SmallInteger, nullable=False),
    Column("number", BigInteger, nullable=False),
    Column("first_at", BigInteger),
    Column("last_at", BigInteger),
    Column("posted_debits", BigInteger, nullable=False),
    Column("posted_credits", BigInteger, nullable=False),
    Column("pending_debits", BigInteger, nullable=False),
    Column("pending_credits", BigInteger, nullable=False),
    Column("parted", Boolean, nullable=False),
    PrimaryKeyConstraint("site_id", "account_id", "level", "number"),
)

span_parts: Final = Table(
    "span_parts",
    metadata,
    Column("site_id", BigInteger, nullable=False),
    Column("account_id", Id, nullable=False),
    Column("level", SmallInteger, nullable=False),
    Column("number", BigInteger, nullable=False),
    Column("first_at", BigInteger, nullable=False),
    Column("place", Integer, nullable=False),
    Column("body", LargeBinary, nullable=False),
    PrimaryKeyConstraint("site_id", "account_id", "level", "number", "first_at", "place"),
)

# How far the feed was looked at for accounts that have filled a span.
span_places: Final = Table(
    "span_places",
    metadata,
    Column("site_id", BigInteger, primary_key=True, autoincrement=False),
    Column("sequence", BigInteger, nullable=False),
)

events: Final = Table(
    "events",
    metadata,
    Column("site_id", BigInteger, nullable=False),
    Column("sequence", BigInteger, nullable=False),
    Column("id", Id, nullable=False),
    Column("type", String(40), nullable=False),
    Column("resource_id", Id, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("hash", LargeBinary, nullable=False),
    # As it stands in the body's diagnostics, so that what one request led to is found.
    Column("correlation_id", String(128)),
    PrimaryKeyConstraint("site_id", "sequence"),
    Index(
        "ix_events_correlation",
        "site_id",
        "correlation_id",
        "sequence",
        postgresql_where=text("correlation_id IS NOT NULL"),
        sqlite_where=text("correlation_id IS NOT NULL"),
    ),
    Index("uq_events_id", "site_id", "id", unique=True),
    Index("ix_events_type", "site_id", "type", "sequence"),
    Index("ix_events_resource", "site_id", "resource_id", "sequence"),
)

# A fact that the worker records carries a key of its own, so that recording it twice makes one event.
facts: Final = Table(
    "facts",
    metadata,
    Column("site_id", BigInteger, nullable=False),
    Column("key", String(200), nullable=False),
    Column("event_id", Id, nullable=False),
    PrimaryKeyConstraint("site_id", "key"),
)

idempotency_keys: Final = Table(
    "idempotency_keys",
    metadata,
    Column("site_id", BigInteger, nullable=False),
    Column("slot", SmallInteger, nullable=False),
    Column("key", String(255), nullable=False),
    Column("fingerprint", LargeBinary, nullable=False),
    Column("resource_id", Id),
    Column("lock_version", BigInteger),
    # Of the first event whose data is left out of the body: each byte 1 there stands for one event's, in order (see engine.answers).
    Column("from_sequence", BigInteger),
    Column("body", LargeBinary, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    PrimaryKeyConstraint("site_id", "slot", "key"),
    postgresql_partition_by="LIST (slot)",
)

event_handlers: Final = Table(
    "event_handlers",
    metadata,
    Column("site_id", BigInteger, nullable=False),
    Column("id", Id, nullable=False),
    Column("name", Text, nullable=False),
    Column("description", Text),
    Column("status", String(10), nullable=False),
    # The one name that an event must have for the handler to match; empty where it may match several.
    Column("event_name", Text, nullable=False),
    # Text, not JSON: it is shown as it was sent, and a database writes numbers in ways of its own.
    Column("definition", Text, nullable=False),
    Column("metadata", Json, nullable=False),
    Column("lock_version", BigInteger, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    PrimaryKeyConstraint("site_id", "id"),
    Index("ix_event_handlers_active", "site_id", "event_name", postgresql_where=_ACTIVE, sqlite_where=_ACTIVE),
)

# What happened has happened: nothing changes or removes a business event.
business_events: Final = Table(
    "business_events",
    metadata,
    Column("site_id", BigInteger, nullable=False),
    Column("id", Id, nullable=False),
    Column("name", Text, nullable=False),
    Column("description", Text),
    Column("custom_data", Text, nullable=False),
    Column("external_id", Text),
    Column("metadata", Json, nullable=False),
    Column("effective_at", BigInteger, nullable=False),
    Column("event_handler_id", Id, nullable=False),
    Column("event_handler_version", BigInteger, nullable=False),
    Column("entries", Json, nullable=False),
    Column("lock_version", BigInteger, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    PrimaryKeyConstraint("site_id", "id"),
    Index(
        "uq_business_events_external_id",
        "site_id",
        "external_id",
        unique=True,
        postgresql_where=_NAMED,
        sqlite_where=_NAMED,
    ),
    Index("ix_business_events_handler", "site_id", "event_handler_id", "id"),
)
