"""The books, the feed and the deliveries of a site."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_ID = sa.Uuid(as_uuid=False).with_variant(sa.String(length=36), "sqlite")
_JSON = sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")


_TABLES = (
    "acceptances",
    "account_categories",
    "accounts",
    "attempts",
    "balance_monitors",
    "balances",
    "business_events",
    "category_accounts",
    "category_balances",
    "category_links",
    "currencies",
    "deliveries",
    "delivery_tallies",
    "endpoints",
    "entities",
    "entries",
    "event_handlers",
    "events",
    "facts",
    "feeds",
    "fx_rates",
    "holds",
    "idempotency_keys",
    "inspected",
    "inspectors",
    "ledgers",
    "lines",
    "metadata_pairs",
    "order_keys",
    "outgoing_facts",
    "products",
    "relays",
    "replay_parts",
    "replays",
    "span_parts",
    "span_places",
    "spans",
    "subscriptions",
)
_SLOTS = 16

# What the program may do beside reading and adding; it owns nothing. Lines, events and business events are for ever.
_CHANGES = {
    "acceptances": "UPDATE",
    "feeds": "UPDATE",
    "ledgers": "UPDATE",
    "accounts": "UPDATE",
    "balances": "UPDATE",
    "account_categories": "UPDATE",
    "category_balances": "UPDATE",
    "category_accounts": "DELETE",
    "category_links": "DELETE",
    "balance_monitors": "UPDATE",
    "entries": "UPDATE",
    "event_handlers": "UPDATE",
    "entities": "UPDATE",
    "currencies": "UPDATE",
    "products": "UPDATE",
    "holds": "UPDATE",
    "idempotency_keys": "DELETE",
    "endpoints": "UPDATE, DELETE",
    "subscriptions": "UPDATE, DELETE",
    "relays": "UPDATE",
    "span_places": "UPDATE",
    "deliveries": "UPDATE",
    "attempts": "DELETE",
    "delivery_tallies": "UPDATE",
    "inspected": "DELETE",
    "inspectors": "UPDATE, DELETE",
    "metadata_pairs": "DELETE",
    "replays": "UPDATE",
    "replay_parts": "UPDATE",
    "order_keys": "DELETE",
    "outgoing_facts": "DELETE",
}
_FOR_EVER = ("lines", "events", "business_events")
_TALLY_CLASSES = (
    *(f"up_to_{bound}_ms" for bound in (10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 15000)),
    "longer",
)
# What never changes about an entry, and the statuses that nothing leads out of.
_FIXED = (
    "site_id",
    "id",
    "ledger_id",
    "external_id",
    "reverses",
    "partially_posts",
    "fx_rate_id",
    "held",
    "business_event_id",
    "created_at",
)
_FINAL = "('posted', 'archived', 'rejected')"
_ENTRY_BROKEN = " OR ".join(f"NEW.{column} IS DISTINCT FROM OLD.{column}" for column in _FIXED) + (
    f" OR (OLD.status IN {_FINAL} AND (NEW.status IS DISTINCT FROM OLD.status"
    " OR NEW.posted_at IS DISTINCT FROM OLD.posted_at OR NEW.effective_at IS DISTINCT FROM OLD.effective_at OR NEW.lines_version IS DISTINCT FROM OLD.lines_version))"
)


def upgrade() -> None:
    """Bring an empty database to the first schema."""
    op.create_table(
        "acceptances",
        sa.Column("site_id", sa.BigInteger(), nullable=False),
        sa.Column("id", _ID, nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("lines", _JSON, nullable=False),
        sa.Column("rejection", _JSON, nullable=True),
        sa.Column("diagnostics", _JSON, nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("site_id", "id", name=op.f("pk_acceptances")),
    )
    op.create_index("uq_acceptances_position", "acceptances", ["site_id", "position"], unique=True)
    op.create_table(
        "accounts",
        sa.Column("site_id", sa.BigInteger(), nullable=False),
        sa.Column("id", _ID, nullable=False),
        sa.Column("ledger_id", _ID, nullable=False),
        sa.Column("entity_id", _ID, nullable=True),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("type", sa.String(length=10), nullable=False),
        sa.Column("normal_balance", sa.String(length=6), nullable=False),
        sa.Column("currency", sa.String(length=16), nullable=False),
        sa.Column("currency_exponent", sa.SmallInteger(), nullable=False),
        sa.Column("code", sa.Text(), nullable=True),
        sa.Column("external_id", sa.Text(), nullable=True),
        sa.Column("allow_negative", sa.Boolean(), nullable=False),
        sa.Column("purpose", sa.String(length=16), nullable=True),
        sa.Column("limits", _JSON, nullable=False),
        sa.Column("categories", sa.Integer(), nullable=False),
        sa.Column("monitors", sa.Integer(), nullable=False),
        sa.Column("status", sa.String(length=10), nullable=False),
        sa.Column("metadata", _JSON, nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("site_id", "id", name=op.f("pk_accounts")),
    )
    op.create_index(
        "uq_accounts_purpose",
        "accounts",
        ["site_id", "ledger_id", "purpose", "currency", "currency_exponent"],
        unique=True,
        postgresql_where=sa.text("purpose IS NOT NULL"),
        sqlite_where=sa.text("purpose IS NOT NULL"),
    )
    op.create_index(
        "ix_accounts_entity",
        "accounts",
        ["site_id", "entity_id", "id"],
        unique=False,
        postgresql_where=sa.text("entity_id IS NOT NULL"),
        sqlite_where=sa.text("entity_id IS NOT NULL"),
    )
    op.create_index(
        "uq_accounts_code",
        "accounts",
        ["site_id", "code", "ledger_id"],
        unique=True,
        postgresql_where=sa.text("code IS NOT NULL"),
        sqlite_where=sa.text("code IS NOT NULL"),
    )
    op.create_index("ix_accounts_ledger", "accounts", ["site_id", "ledger_id", "id"], unique=False)
    op.create_index(
        "uq_accounts_external_id",
        "accounts",
        ["site_id", "external_id"],
        unique=True,
        postgresql_where=sa.text("external_id IS NOT NULL"),
        sqlite_where=sa.text("external_id IS NOT NULL"),
    )
    op.create_table(
        "metadata_pairs",
        sa.Column("site_id", sa.BigInteger(), nullable=False),
        sa.Column("owner", sa.String(length=20), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("id", _ID, nullable=False),
        sa.PrimaryKeyConstraint("site_id", "owner", "key", "value", "id", name=op.f("pk_metadata_pairs")),
    )
    op.create_table(
        "balances",
        sa.Column("site_id", sa.BigInteger(), nullable=False),
        sa.Column("account_id", _ID, nullable=False),
        sa.Column("posted_debits", sa.BigInteger(), nullable=False),
        sa.Column("posted_credits", sa.BigInteger(), nullable=False),
        sa.Column("pending_debits", sa.BigInteger(), nullable=False),
        sa.Column("pending_credits", sa.BigInteger(), nullable=False),
        sa.Column("lock_version", sa.BigInteger(), nullable=False),
        sa.CheckConstraint(
            "posted_debits >= 0 AND posted_credits >= 0 AND pending_debits >= 0 AND pending_credits >= 0",
            name=op.f("ck_balances_totals"),
        ),
        sa.PrimaryKeyConstraint("site_id", "account_id", name=op.f("pk_balances")),
        postgresql_with={"fillfactor": 50},
    )
    op.create_table(
        "account_categories",
        sa.Column("site_id", sa.BigInteger(), nullable=False),
        sa.Column("id", _ID, nullable=False),
        sa.Column("ledger_id", _ID, nullable=True),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("normal_balance", sa.String(length=6), nullable=False),
        sa.Column("currency", sa.String(length=16), nullable=False),
        sa.Column("currency_exponent", sa.SmallInteger(), nullable=False),
        sa.Column("external_id", sa.Text(), nullable=True),
        sa.Column("limits", _JSON, nullable=False),
        sa.Column("monitors", sa.Integer(), nullable=False),
        sa.Column("metadata", _JSON, nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("site_id", "id", name=op.f("pk_account_categories")),
    )
    op.create_index("ix_account_categories_ledger", "account_categories", ["site_id", "ledger_id", "id"], unique=False)
    op.create_index(
        "uq_account_categories_external_id",
        "account_categories",
        ["site_id", "external_id"],
        unique=True,
        postgresql_where=sa.text("external_id IS NOT NULL"),
        sqlite_where=sa.text("external_id IS NOT NULL"),
    )
    op.create_table(
        "category_balances",
        sa.Column("site_id", sa.BigInteger(), nullable=False),
        sa.Column("category_id", _ID, nullable=False),
        sa.Column("posted_debits", sa.BigInteger(), nullable=False),
        sa.Column("posted_credits", sa.BigInteger(), nullable=False),
        sa.Column("pending_debits", sa.BigInteger(), nullable=False),
        sa.Column("pending_credits", sa.BigInteger(), nullable=False),
        sa.Column("lock_version", sa.BigInteger(), nullable=False),
        sa.CheckConstraint(
            "posted_debits >= 0 AND posted_credits >= 0 AND pending_debits >= 0 AND pending_credits >= 0",
            name=op.f("ck_category_balances_totals"),
        ),
        sa.PrimaryKeyConstraint("site_id", "category_id", name=op.f("pk_category_balances")),
        postgresql_with={"fillfactor": 50},
    )
    op.create_table(
        "category_accounts",
        sa.Column("site_id", sa.BigInteger(), nullable=False),
        sa.Column("category_id", _ID, nullable=False),
        sa.Column("account_id", _ID, nullable=False),
        sa.PrimaryKeyConstraint("site_id", "category_id", "account_id", name=op.f("pk_category_accounts")),
    )
    op.create_index(
        "ix_category_accounts_account", "category_accounts", ["site_id", "account_id", "category_id"], unique=False
    )
    op.create_table(
        "category_links",
        sa.Column("site_id", sa.BigInteger(), nullable=False),
        sa.Column("parent_id", _ID, nullable=False),
        sa.Column("child_id", _ID, nullable=False),
        sa.PrimaryKeyConstraint("site_id", "parent_id", "child_id", name=op.f("pk_category_links")),
    )
    op.create_index("ix_category_links_child", "category_links", ["site_id", "child_id", "parent_id"], unique=False)
    op.create_table(
        "balance_monitors",
        sa.Column("site_id", sa.BigInteger(), nullable=False),
        sa.Column("id", _ID, nullable=False),
        sa.Column("subject", sa.String(length=20), nullable=False),
        sa.Column("subject_id", _ID, nullable=False),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("field", sa.String(length=20), nullable=False),
        sa.Column("operator", sa.String(length=3), nullable=False),
        sa.Column("value", sa.BigInteger(), nullable=False),
        sa.Column("status", sa.String(length=10), nullable=False),
        sa.Column("triggered", sa.Boolean(), nullable=False),
        sa.Column("observed", sa.BigInteger(), nullable=False),
        sa.Column("metadata", _JSON, nullable=False),
        sa.Column("lock_version", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("site_id", "id", name=op.f("pk_balance_monitors")),
    )
    op.create_index("ix_balance_monitors_subject", "balance_monitors", ["site_id", "subject_id", "id"], unique=False)
    op.create_table(
        "entries",
        sa.Column("site_id", sa.BigInteger(), nullable=False),
        sa.Column("id", _ID, nullable=False),
        sa.Column("ledger_id", _ID, nullable=False),
        sa.Column("status", sa.String(length=10), nullable=False),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("external_id", sa.Text(), nullable=True),
        sa.Column("metadata", _JSON, nullable=False),
        sa.Column("effective_at", sa.BigInteger(), nullable=False),
        sa.Column("posted_at", sa.BigInteger(), nullable=True),
        sa.Column("lines_version", sa.Integer(), nullable=False),
        sa.Column("lock_version", sa.BigInteger(), nullable=False),
        sa.Column("reverses", _ID, nullable=True),
        sa.Column("reversed_by", _ID, nullable=True),
        sa.Column("partially_posts", _ID, nullable=True),
        sa.Column("fx_rate_id", _ID, nullable=True),
        sa.Column("held", sa.Boolean(), nullable=False),
        sa.Column("business_event_id", _ID, nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("site_id", "id", name=op.f("pk_entries")),
    )
    op.create_index("ix_entries_effective", "entries", ["site_id", "effective_at", "id"], unique=False)
    op.create_index(
        "ix_entries_external_id",
        "entries",
        ["site_id", "external_id"],
        unique=False,
        postgresql_where=sa.text("external_id IS NOT NULL AND status IN ('archived', 'rejected')"),
        sqlite_where=sa.text("external_id IS NOT NULL AND status IN ('archived', 'rejected')"),
    )
    op.create_index("ix_entries_ledger", "entries", ["site_id", "ledger_id", "id"], unique=False)
    op.create_index(
        "ix_entries_part",
        "entries",
        ["site_id", "partially_posts", "id"],
        unique=False,
        postgresql_where=sa.text("partially_posts IS NOT NULL"),
        sqlite_where=sa.text("partially_posts IS NOT NULL"),
    )
    op.create_index(
        "ix_entries_status",
        "entries",
        ["site_id", "status", "id"],
        unique=False,
        postgresql_where=sa.text("status <> 'posted'"),
        sqlite_where=sa.text("status <> 'posted'"),
    )
    op.create_index(
        "uq_entries_external_id",
        "entries",
        ["site_id", "external_id"],
        unique=True,
        postgresql_where=sa.text("external_id IS NOT NULL AND status IN ('accepted', 'pending', 'posted')"),
        sqlite_where=sa.text("external_id IS NOT NULL AND status IN ('accepted', 'pending', 'posted')"),
    )
    op.create_table(
        "event_handlers",
        sa.Column("site_id", sa.BigInteger(), nullable=False),
        sa.Column("id", _ID, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("status", sa.String(length=10), nullable=False),
        sa.Column("event_name", sa.Text(), nullable=False),
        sa.Column("definition", sa.Text(), nullable=False),
        sa.Column("metadata", _JSON, nullable=False),
        sa.Column("lock_version", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("site_id", "id", name=op.f("pk_event_handlers")),
    )
    op.create_index(
        "ix_event_handlers_active",
        "event_handlers",
        ["site_id", "event_name"],
        unique=False,
        postgresql_where=sa.text("status = 'active'"),
        sqlite_where=sa.text("status = 'active'"),
    )
    op.create_table(
        "business_events",
        sa.Column("site_id", sa.BigInteger(), nullable=False),
        sa.Column("id", _ID, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("custom_data", sa.Text(), nullable=False),
        sa.Column("external_id", sa.Text(), nullable=True),
        sa.Column("metadata", _JSON, nullable=False),
        sa.Column("effective_at", sa.BigInteger(), nullable=False),
        sa.Column("event_handler_id", _ID, nullable=False),
        sa.Column("event_handler_version", sa.BigInteger(), nullable=False),
        sa.Column("entries", _JSON, nullable=False),
        sa.Column("lock_version", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("site_id", "id", name=op.f("pk_business_events")),
    )
    op.create_index(
        "ix_business_events_handler", "business_events", ["site_id", "event_handler_id", "id"], unique=False
    )
    op.create_index(
        "uq_business_events_external_id",
        "business_events",
        ["site_id", "external_id"],
        unique=True,
        postgresql_where=sa.text("external_id IS NOT NULL"),
        sqlite_where=sa.text("external_id IS NOT NULL"),
    )
    op.create_table(
        "events",
        sa.Column("site_id", sa.BigInteger(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("id", _ID, nullable=False),
        sa.Column("type", sa.String(length=40), nullable=False),
        sa.Column("resource_id", _ID, nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.Column("correlation_id", sa.String(length=128), nullable=True),
        sa.PrimaryKeyConstraint("site_id", "sequence", name=op.f("pk_events")),
    )
    op.create_index(
        "ix_events_correlation",
        "events",
        ["site_id", "correlation_id", "sequence"],
        unique=False,
        postgresql_where=sa.text("correlation_id IS NOT NULL"),
        sqlite_where=sa.text("correlation_id IS NOT NULL"),
    )
    op.create_index("ix_events_resource", "events", ["site_id", "resource_id", "sequence"], unique=False)
    op.create_index("ix_events_type", "events", ["site_id", "type", "sequence"], unique=False)
    op.create_index("uq_events_id", "events", ["site_id", "id"], unique=True)
    op.create_table(
        "facts",
        sa.Column("site_id", sa.BigInteger(), nullable=False),
        sa.Column("key", sa.String(length=200), nullable=False),
        sa.Column("event_id", _ID, nullable=False),
        sa.PrimaryKeyConstraint("site_id", "key", name=op.f("pk_facts")),
    )
    op.create_table(
        "feeds",
        sa.Column("site_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("organization", sa.String(length=63), nullable=False),
        sa.Column("environment", sa.String(length=10), nullable=False),
        sa.Column("epoch", sa.String(length=16), nullable=False),
        sa.Column("state", sa.String(length=10), nullable=False),
        sa.Column("head", sa.BigInteger(), nullable=False),
        sa.Column("head_hash", sa.LargeBinary(), nullable=False),
        sa.Column("last_at", sa.BigInteger(), nullable=False),
        sa.Column("holds_due_at", sa.BigInteger(), nullable=True),
        sa.Column("accepted", sa.BigInteger(), nullable=False),
        sa.Column("accepted_done", sa.BigInteger(), nullable=False),
        sa.Column("fence", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("head >= 0", name=op.f("ck_feeds_head")),
        sa.PrimaryKeyConstraint("site_id", name=op.f("pk_feeds")),
    )
    op.create_table(
        "fx_rates",
        sa.Column("site_id", sa.BigInteger(), nullable=False),
        sa.Column("id", _ID, nullable=False),
        sa.Column("base", sa.String(length=16), nullable=False),
        sa.Column("quote", sa.String(length=16), nullable=False),
        sa.Column("rate", sa.String(length=40), nullable=False),
        sa.Column("source", sa.Text(), nullable=True),
        sa.Column("valid_until", sa.BigInteger(), nullable=True),
        sa.Column("metadata", _JSON, nullable=False),
        sa.Column("lock_version", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("site_id", "id", name=op.f("pk_fx_rates")),
    )
    op.create_index("ix_fx_rates_pair", "fx_rates", ["site_id", "base", "quote", "id"], unique=False)
    op.create_table(
        "holds",
        sa.Column("site_id", sa.BigInteger(), nullable=False),
        sa.Column("id", _ID, nullable=False),
        sa.Column("ledger_id", _ID, nullable=False),
        sa.Column("status", sa.String(length=10), nullable=False),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("external_id", sa.Text(), nullable=True),
        sa.Column("metadata", _JSON, nullable=False),
        sa.Column("lines", _JSON, nullable=False),
        sa.Column("captures", _JSON, nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("lock_version", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("site_id", "id", name=op.f("pk_holds")),
    )
    op.create_index(
        "ix_holds_due",
        "holds",
        ["site_id", "expires_at", "id"],
        unique=False,
        postgresql_where=sa.text("status = 'open'"),
        sqlite_where=sa.text("status = 'open'"),
    )
    op.create_index("ix_holds_status", "holds", ["site_id", "status", "id"], unique=False)
    op.create_index(
        "ix_holds_external_id",
        "holds",
        ["site_id", "external_id", "id"],
        unique=False,
        postgresql_where=sa.text("external_id IS NOT NULL"),
        sqlite_where=sa.text("external_id IS NOT NULL"),
    )
    op.create_table(
        "idempotency_keys",
        sa.Column("site_id", sa.BigInteger(), nullable=False),
        sa.Column("slot", sa.SmallInteger(), nullable=False),
        sa.Column("key", sa.String(length=255), nullable=False),
        sa.Column("fingerprint", sa.LargeBinary(), nullable=False),
        sa.Column("resource_id", _ID, nullable=True),
        sa.Column("lock_version", sa.BigInteger(), nullable=True),
        sa.Column("from_sequence", sa.BigInteger(), nullable=True),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("site_id", "slot", "key", name=op.f("pk_idempotency_keys")),
        postgresql_partition_by="LIST (slot)",
    )
    op.create_table(
        "ledgers",
        sa.Column("site_id", sa.BigInteger(), nullable=False),
        sa.Column("id", _ID, nullable=False),
        sa.Column("entity_id", _ID, nullable=True),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("status", sa.String(length=10), nullable=False),
        sa.Column("metadata", _JSON, nullable=False),
        sa.Column("closed_until", sa.BigInteger(), nullable=True),
        sa.Column("lock_version", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("site_id", "id", name=op.f("pk_ledgers")),
    )
    op.create_index(
        "ix_ledgers_entity",
        "ledgers",
        ["site_id", "entity_id", "id"],
        unique=False,
        postgresql_where=sa.text("entity_id IS NOT NULL"),
        sqlite_where=sa.text("entity_id IS NOT NULL"),
    )
    op.create_table(
        "entities",
        sa.Column("site_id", sa.BigInteger(), nullable=False),
        sa.Column("id", _ID, nullable=False),
        sa.Column("type", sa.String(length=10), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("legal_name", sa.Text(), nullable=True),
        sa.Column("country", sa.String(length=2), nullable=True),
        sa.Column("external_id", sa.Text(), nullable=True),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("metadata", _JSON, nullable=False),
        sa.Column("lock_version", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("site_id", "id", name=op.f("pk_entities")),
    )
    op.create_index(
        "uq_entities_external_id",
        "entities",
        ["site_id", "external_id"],
        unique=True,
        postgresql_where=sa.text("external_id IS NOT NULL"),
        sqlite_where=sa.text("external_id IS NOT NULL"),
    )
    op.create_table(
        "currencies",
        sa.Column("site_id", sa.BigInteger(), nullable=False),
        sa.Column("id", _ID, nullable=False),
        sa.Column("code", sa.String(length=16), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("exponent", sa.SmallInteger(), nullable=False),
        sa.Column("metadata", _JSON, nullable=False),
        sa.Column("lock_version", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("site_id", "id", name=op.f("pk_currencies")),
    )
    op.create_index("uq_currencies_code", "currencies", ["site_id", "code"], unique=True)
    op.create_table(
        "products",
        sa.Column("site_id", sa.BigInteger(), nullable=False),
        sa.Column("id", _ID, nullable=False),
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("metadata", _JSON, nullable=False),
        sa.Column("lock_version", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("site_id", "id", name=op.f("pk_products")),
    )
    op.create_index("uq_products_code", "products", ["site_id", "code"], unique=True)
    op.create_table(
        "lines",
        sa.Column("site_id", sa.BigInteger(), nullable=False),
        sa.Column("entry_id", _ID, nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("position", sa.SmallInteger(), nullable=False),
        sa.Column("id", _ID, nullable=False),
        sa.Column("account_id", _ID, nullable=False),
        sa.Column("direction", sa.String(length=6), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.String(length=16), nullable=False),
        sa.Column("normal_balance", sa.String(length=6), nullable=False),
        sa.Column("status", sa.String(length=10), nullable=False),
        sa.Column("metadata", _JSON, nullable=False),
        sa.Column("posted_moved", sa.BigInteger(), nullable=False),
        sa.Column("pending_moved", sa.BigInteger(), nullable=False),
        sa.Column("account_lock_version", sa.BigInteger(), nullable=False),
        sa.Column("posted_debits", sa.BigInteger(), nullable=False),
        sa.Column("posted_credits", sa.BigInteger(), nullable=False),
        sa.Column("pending_debits", sa.BigInteger(), nullable=False),
        sa.Column("pending_credits", sa.BigInteger(), nullable=False),
        sa.Column("effective_at", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("amount > 0", name=op.f("ck_lines_amount")),
        sa.PrimaryKeyConstraint("site_id", "entry_id", "version", "position", name=op.f("pk_lines")),
    )
    op.create_index("uq_lines_account_version", "lines", ["site_id", "account_id", "account_lock_version"], unique=True)
    op.create_index(
        "ix_lines_effective",
        "lines",
        ["site_id", "account_id", "effective_at", "account_lock_version"],
        unique=False,
        postgresql_where=sa.text("effective_at <> created_at"),
        sqlite_where=sa.text("effective_at <> created_at"),
    )
    op.create_table(
        "spans",
        sa.Column("site_id", sa.BigInteger(), nullable=False),
        sa.Column("account_id", _ID, nullable=False),
        sa.Column("level", sa.SmallInteger(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("first_at", sa.BigInteger(), nullable=True),
        sa.Column("last_at", sa.BigInteger(), nullable=True),
        sa.Column("posted_debits", sa.BigInteger(), nullable=False),
        sa.Column("posted_credits", sa.BigInteger(), nullable=False),
        sa.Column("pending_debits", sa.BigInteger(), nullable=False),
        sa.Column("pending_credits", sa.BigInteger(), nullable=False),
        sa.Column("parted", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("site_id", "account_id", "level", "number", name=op.f("pk_spans")),
    )
    op.create_table(
        "span_parts",
        sa.Column("site_id", sa.BigInteger(), nullable=False),
        sa.Column("account_id", _ID, nullable=False),
        sa.Column("level", sa.SmallInteger(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("first_at", sa.BigInteger(), nullable=False),
        sa.Column("place", sa.Integer(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint(
            "site_id", "account_id", "level", "number", "first_at", "place", name=op.f("pk_span_parts")
        ),
    )
    op.create_table(
        "span_places",
        sa.Column("site_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("site_id", name=op.f("pk_span_places")),
    )
    op.create_table(
        "attempts",
        sa.Column("site_id", sa.BigInteger(), nullable=False),
        sa.Column("delivery_id", _ID, nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("trigger", sa.String(length=10), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("duration_ms", sa.Integer(), nullable=True),
        sa.Column("request", sa.LargeBinary(), nullable=True),
        sa.Column("response", sa.LargeBinary(), nullable=True),
        sa.Column("timings", sa.LargeBinary(), nullable=True),
        sa.Column("next_attempt_at", sa.BigInteger(), nullable=True),
        sa.Column("error_class", sa.String(length=40), nullable=True),
        sa.PrimaryKeyConstraint("site_id", "delivery_id", "number", name=op.f("pk_attempts")),
    )
    op.create_table(
        "deliveries",
        sa.Column("site_id", sa.BigInteger(), nullable=False),
        sa.Column("id", _ID, nullable=False),
        sa.Column("endpoint_id", _ID, nullable=False),
        sa.Column("event_id", _ID, nullable=False),
        sa.Column("event_type", sa.String(length=40), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("endpoint_sequence", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(length=10), nullable=False),
        sa.Column("reason", sa.String(length=40), nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("trigger", sa.String(length=10), nullable=False),
        sa.Column("due_at", sa.BigInteger(), nullable=True),
        sa.Column("lane", sa.SmallInteger(), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("claimed_at", sa.BigInteger(), nullable=True),
        sa.Column("delivered_at", sa.BigInteger(), nullable=True),
        sa.Column("last_status", sa.SmallInteger(), nullable=True),
        sa.Column("last_error", sa.String(length=40), nullable=True),
        sa.Column("replay_id", _ID, nullable=True),
        sa.Column("waits_for", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("site_id", "id", name=op.f("pk_deliveries")),
        postgresql_with={"fillfactor": 70},
    )
    op.create_index(
        "ix_deliveries_due",
        "deliveries",
        ["site_id", "endpoint_id", "lane", "due_at", "endpoint_sequence"],
        unique=False,
        postgresql_where=sa.text("due_at IS NOT NULL"),
        sqlite_where=sa.text("due_at IS NOT NULL"),
    )
    op.create_index(
        "ix_deliveries_failed",
        "deliveries",
        ["site_id", "last_error", "id"],
        unique=False,
        postgresql_where=sa.text("last_error IS NOT NULL"),
        sqlite_where=sa.text("last_error IS NOT NULL"),
    )
    op.create_index(
        "ix_deliveries_troubled",
        "deliveries",
        ["site_id", "state", "id"],
        unique=False,
        postgresql_where=sa.text("state IN ('retrying', 'exhausted', 'skipped')"),
        sqlite_where=sa.text("state IN ('retrying', 'exhausted', 'skipped')"),
    )
    op.create_index(
        "ix_deliveries_undelivered",
        "deliveries",
        ["site_id", "id"],
        unique=False,
        postgresql_where=sa.text("state IN ('pending', 'retrying', 'exhausted', 'skipped')"),
        sqlite_where=sa.text("state IN ('pending', 'retrying', 'exhausted', 'skipped')"),
    )
    op.create_index(
        "uq_deliveries_endpoint_sequence", "deliveries", ["site_id", "endpoint_id", "endpoint_sequence"], unique=True
    )
    op.create_index("uq_deliveries_event", "deliveries", ["site_id", "sequence", "endpoint_id"], unique=True)
    op.create_table(
        "endpoints",
        sa.Column("site_id", sa.BigInteger(), nullable=False),
        sa.Column("id", _ID, nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("metadata", _JSON, nullable=False),
        sa.Column("event_types", _JSON, nullable=False),
        sa.Column("filter", _JSON, nullable=True),
        sa.Column("form", _JSON, nullable=False),
        sa.Column("header_names", _JSON, nullable=False),
        sa.Column("headers_sealed", sa.LargeBinary(), nullable=True),
        sa.Column("tls", _JSON, nullable=True),
        sa.Column("tls_key_sealed", sa.LargeBinary(), nullable=True),
        sa.Column("secrets", _JSON, nullable=False),
        sa.Column("timeout_s", sa.Integer(), nullable=False),
        sa.Column("max_in_flight", sa.Integer(), nullable=False),
        sa.Column("ordering", sa.String(length=10), nullable=False),
        sa.Column("ordering_key", sa.Text(), nullable=True),
        sa.Column("on_exhausted", sa.String(length=14), nullable=False),
        sa.Column("rate_limit", sa.Integer(), nullable=True),
        sa.Column("disable_after_s", sa.Integer(), nullable=True),
        sa.Column("retry_schedule", _JSON, nullable=True),
        sa.Column("status", sa.String(length=10), nullable=False),
        sa.Column("status_reason", sa.String(length=40), nullable=True),
        sa.Column("last_sequence", sa.BigInteger(), nullable=False),
        sa.Column("failing_since", sa.BigInteger(), nullable=True),
        sa.Column("exhausted_since", sa.Integer(), nullable=False),
        sa.Column("warned", sa.SmallInteger(), nullable=False),
        sa.Column("circuit_window", sa.Integer(), nullable=False),
        sa.Column("circuit_strikes", sa.Integer(), nullable=False),
        sa.Column("circuit_trips", sa.Integer(), nullable=False),
        sa.Column("circuit_opened_at", sa.BigInteger(), nullable=True),
        sa.Column("circuit_probe_at", sa.BigInteger(), nullable=True),
        sa.Column("ordering_from", sa.BigInteger(), nullable=False),
        sa.Column("passed_over", sa.Integer(), nullable=False),
        sa.Column("rate_next_at", sa.BigInteger(), nullable=True),
        sa.Column("lock_version", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("last_sequence >= 0", name=op.f("ck_endpoints_last_sequence")),
        sa.PrimaryKeyConstraint("site_id", "id", name=op.f("pk_endpoints")),
    )
    op.create_table(
        "order_keys",
        sa.Column("site_id", sa.BigInteger(), nullable=False),
        sa.Column("endpoint_id", _ID, nullable=False),
        sa.Column("key", sa.String(length=32), nullable=False),
        sa.Column("endpoint_sequence", sa.BigInteger(), nullable=False),
        sa.Column("delivery_id", _ID, nullable=False),
        sa.PrimaryKeyConstraint("site_id", "endpoint_id", "key", "endpoint_sequence", name=op.f("pk_order_keys")),
    )
    op.create_index("ix_order_keys_delivery", "order_keys", ["site_id", "delivery_id"], unique=False)
    op.create_table(
        "outgoing_facts",
        sa.Column("site_id", sa.BigInteger(), nullable=False),
        sa.Column("key", sa.String(length=200), nullable=False),
        sa.Column("type", sa.String(length=40), nullable=False),
        sa.Column("resource_type", sa.String(length=20), nullable=False),
        sa.Column("resource_id", _ID, nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("site_id", "key", name=op.f("pk_outgoing_facts")),
    )
    op.create_table(
        "relays",
        sa.Column("site_id", sa.BigInteger(), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("site_id", name=op.f("pk_relays")),
    )
    op.create_table(
        "replay_parts",
        sa.Column("site_id", sa.BigInteger(), nullable=False),
        sa.Column("replay_id", _ID, nullable=False),
        sa.Column("endpoint_id", _ID, nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("until", sa.BigInteger(), nullable=False),
        sa.Column("numbers", _JSON, nullable=True),
        sa.Column("total", sa.BigInteger(), nullable=False),
        sa.Column("queued", sa.BigInteger(), nullable=False),
        sa.Column("delivered", sa.BigInteger(), nullable=False),
        sa.Column("failed", sa.BigInteger(), nullable=False),
        sa.Column("skipped", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("site_id", "replay_id", "endpoint_id", name=op.f("pk_replay_parts")),
        postgresql_with={"fillfactor": 70},
    )
    op.create_table(
        "replays",
        sa.Column("site_id", sa.BigInteger(), nullable=False),
        sa.Column("id", _ID, nullable=False),
        sa.Column("selection", sa.LargeBinary(), nullable=False),
        sa.Column("rate_per_s", sa.Integer(), nullable=False),
        sa.Column("status", sa.String(length=10), nullable=False),
        sa.Column("due_at", sa.BigInteger(), nullable=True),
        sa.Column("lock_version", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("site_id", "id", name=op.f("pk_replays")),
    )
    op.create_index(
        "ix_replays_running",
        "replays",
        ["site_id", "due_at"],
        unique=False,
        postgresql_where=sa.text("status = 'running'"),
        sqlite_where=sa.text("status = 'running'"),
    )
    op.create_table(
        "subscriptions",
        sa.Column("site_id", sa.BigInteger(), nullable=False),
        sa.Column("endpoint_id", _ID, nullable=False),
        sa.Column("from_sequence", sa.BigInteger(), nullable=False),
        sa.Column("event_types", _JSON, nullable=False),
        sa.Column("filter", _JSON, nullable=True),
        sa.Column("status", sa.String(length=10), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("site_id", "endpoint_id", "from_sequence", name=op.f("pk_subscriptions")),
    )
    op.create_table(
        "inspectors",
        sa.Column("site_id", sa.BigInteger(), nullable=False),
        sa.Column("id", _ID, nullable=False),
        sa.Column("token", sa.String(length=32), nullable=False),
        sa.Column("status", sa.SmallInteger(), nullable=False),
        sa.Column("retry_after_s", sa.Integer(), nullable=False),
        sa.Column("delay_ms", sa.Integer(), nullable=False),
        sa.Column("received", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("site_id", "id", name=op.f("pk_inspectors")),
    )
    op.create_index("uq_inspectors_token", "inspectors", ["site_id", "token"], unique=True)
    op.create_table(
        "inspected",
        sa.Column("site_id", sa.BigInteger(), nullable=False),
        sa.Column("inspector_id", _ID, nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("headers", _JSON, nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("truncated", sa.Boolean(), nullable=False),
        sa.Column("answered", sa.SmallInteger(), nullable=False),
        sa.PrimaryKeyConstraint("site_id", "inspector_id", "number", name=op.f("pk_inspected")),
    )
    op.create_table(
        "delivery_tallies",
        sa.Column("site_id", sa.BigInteger(), nullable=False),
        sa.Column("hour", sa.Integer(), nullable=False),
        sa.Column("endpoint_id", _ID, nullable=False),
        sa.Column("attempts", sa.BigInteger(), nullable=False),
        sa.Column("delivered", sa.BigInteger(), nullable=False),
        *(sa.Column(name, sa.BigInteger(), nullable=False) for name in _TALLY_CLASSES),
        sa.PrimaryKeyConstraint("site_id", "hour", "endpoint_id", name=op.f("pk_delivery_tallies")),
    )
    # ### end Alembic commands ###
    if op.get_bind().dialect.name == "postgresql":
        _guard_postgresql()
        _isolate_sites()
    else:
        _guard_sqlite()


def _guard_postgresql() -> None:
    """Let triggers refuse what must never happen, whoever asks."""
    op.execute(
        """
        CREATE FUNCTION gledger_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            RAISE EXCEPTION '% on % is refused: what was booked stays as it is', TG_OP, TG_TABLE_NAME
                USING ERRCODE = 'integrity_constraint_violation';
        END $$
        """
    )
    for table in _FOR_EVER:
        op.execute(
            f"CREATE TRIGGER {table}_stay BEFORE UPDATE OR DELETE ON {table} "
            "FOR EACH ROW EXECUTE FUNCTION gledger_refuse()"
        )
    op.execute("CREATE TRIGGER entries_stay BEFORE DELETE ON entries FOR EACH ROW EXECUTE FUNCTION gledger_refuse()")
    op.execute(
        f"CREATE TRIGGER entries_keep BEFORE UPDATE ON entries FOR EACH ROW WHEN ({_ENTRY_BROKEN}) "
        "EXECUTE FUNCTION gledger_refuse()"
    )
    for table in (*_FOR_EVER, "entries"):
        op.execute(
            f"CREATE TRIGGER {table}_whole BEFORE TRUNCATE ON {table} FOR EACH STATEMENT EXECUTE FUNCTION gledger_refuse()"
        )


def _isolate_sites() -> None:
    """Partition the keys, show each transaction the rows of its own site only, and grant what the program needs."""
    # Kept for days only and asked for seldom: not worth the time that compressing a batch's answer takes.
    op.execute("ALTER TABLE idempotency_keys ALTER COLUMN body SET STORAGE EXTERNAL")
    for slot in range(_SLOTS):
        op.execute(f"CREATE TABLE idempotency_keys_{slot} PARTITION OF idempotency_keys FOR VALUES IN ({slot})")
        op.execute(f"ALTER TABLE idempotency_keys_{slot} ENABLE ROW LEVEL SECURITY")
    op.execute(
        """
        DO $$ BEGIN
            IF NOT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = 'gledger_runtime') THEN
                CREATE ROLE gledger_runtime NOLOGIN;
            END IF;
        EXCEPTION WHEN duplicate_object OR unique_violation THEN
            NULL;
        END $$
        """
    )
    for table in _TABLES:
        op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
        op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
        op.execute(
            f"CREATE POLICY one_site ON {table} USING (site_id = CAST(current_setting('gledger.site_id') AS bigint))"
        )
        allowed = f"SELECT, INSERT, {_CHANGES[table]}" if table in _CHANGES else "SELECT, INSERT"
        op.execute(f"GRANT {allowed} ON {table} TO gledger_runtime")


def _guard_sqlite() -> None:
    """Let triggers refuse what must never happen, whoever asks."""
    for table in _FOR_EVER:
        for verb in ("UPDATE", "DELETE"):
            _refuse_sqlite(f"{table}_stay_{verb.lower()}", f"{verb} ON {table}", table)
    _refuse_sqlite("entries_stay", "DELETE ON entries", "entries")
    broken = _ENTRY_BROKEN.replace("IS DISTINCT FROM", "IS NOT")
    _refuse_sqlite("entries_keep", f"UPDATE ON entries WHEN {broken}", "entries")


def _refuse_sqlite(name: str, when: str, table: str) -> None:
    op.execute(
        f"CREATE TRIGGER {name} BEFORE {when} "
        f"BEGIN SELECT RAISE(ABORT, 'a change of {table} is refused: what was booked stays as it is'); END"
    )
