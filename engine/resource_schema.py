"""The tables of what stands beside the books: holds, categories, monitors. `engine.schema` has them all."""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Index,
    Integer,
    PrimaryKeyConstraint,
    SmallInteger,
    String,
    Table,
    Text,
    text,
)

from engine.columns import Id, Json, metadata

_NAMED: Final = text("external_id IS NOT NULL")

account_categories: Final = Table(
    "account_categories",
    metadata,
    Column("site_id", BigInteger, nullable=False),
    Column("id", Id, nullable=False),
    Column("ledger_id", Id),
    Column("name", Text, nullable=False),
    Column("description", Text),
    Column("normal_balance", String(6), nullable=False),
    Column("currency", String(16), nullable=False),
    Column("currency_exponent", SmallInteger, nullable=False),
    Column("external_id", Text),
    Column("limits", Json, nullable=False),
    Column("monitors", Integer, nullable=False),
    Column("metadata", Json, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    PrimaryKeyConstraint("site_id", "id"),
    Index(
        "uq_account_categories_external_id",
        "site_id",
        "external_id",
        unique=True,
        postgresql_where=_NAMED,
        sqlite_where=_NAMED,
    ),
    Index("ix_account_categories_ledger", "site_id", "ledger_id", "id"),
)

# What the accounts of a category, each counted once, add up to; moved in the transaction that moves them.
category_balances: Final = Table(
    "category_balances",
    metadata,
    Column("site_id", BigInteger, nullable=False),
    Column("category_id", Id, nullable=False),
    Column("posted_debits", BigInteger, nullable=False),
    Column("posted_credits", BigInteger, nullable=False),
    Column("pending_debits", BigInteger, nullable=False),
    Column("pending_credits", BigInteger, nullable=False),
    Column("lock_version", BigInteger, nullable=False),
    PrimaryKeyConstraint("site_id", "category_id"),
    CheckConstraint(
        "posted_debits >= 0 AND posted_credits >= 0 AND pending_debits >= 0 AND pending_credits >= 0",
        name="totals",
    ),
    postgresql_with={"fillfactor": 50},
)

category_accounts: Final = Table(
    "category_accounts",
    metadata,
    Column("site_id", BigInteger, nullable=False),
    Column("category_id", Id, nullable=False),
    Column("account_id", Id, nullable=False),
    PrimaryKeyConstraint("site_id", "category_id", "account_id"),
    Index("ix_category_accounts_account", "site_id", "account_id", "category_id"),
)

category_links: Final = Table(
    "category_links",
    metadata,
    Column("site_id", BigInteger, nullable=False),
    Column("parent_id", Id, nullable=False),
    Column("child_id", Id, nullable=False),
    PrimaryKeyConstraint("site_id", "parent_id", "child_id"),
    Index("ix_category_links_child", "site_id", "child_id", "parent_id"),
)

balance_monitors: Final = Table(
    "balance_monitors",
    metadata,
    Column("site_id", BigInteger, nullable=False),
    Column("id", Id, nullable=False),
    Column("subject", String(20), nullable=False),
    Column("subject_id", Id, nullable=False),
    Column("description", Text),
    Column("field", String(20), nullable=False),
    Column("operator", String(3), nullable=False),
    Column("value", BigInteger, nullable=False),
    Column("status", String(10), nullable=False),
    Column("triggered", Boolean, nullable=False),
    Column("observed", BigInteger, nullable=False),
    Column("metadata", Json, nullable=False),
    Column("lock_version", BigInteger, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    PrimaryKeyConstraint("site_id", "id"),
    Index("ix_balance_monitors_subject", "site_id", "subject_id", "id"),
)

# Each pair of the metadata of whatever has some: the owner is the name of its table.
metadata_pairs: Final = Table(
    "metadata_pairs",
    metadata,
    Column("site_id", BigInteger, nullable=False),
    Column("owner", String(20), nullable=False),
    Column("key", Text, nullable=False),
    Column("value", Text, nullable=False),
    Column("id", Id, nullable=False),
    PrimaryKeyConstraint("site_id", "owner", "key", "value", "id"),
)

_OPEN: Final = text("status = 'open'")

# What an entry was accepted with, under its id; posted or rejected in the order of positions.
acceptances: Final = Table(
    "acceptances",
    metadata,
    Column("site_id", BigInteger, nullable=False),
    Column("id", Id, nullable=False),
    Column("position", BigInteger, nullable=False),
    Column("lines", Json, nullable=False),
    Column("rejection", Json),
    Column("diagnostics", Json, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    PrimaryKeyConstraint("site_id", "id"),
    Index("uq_acceptances_position", "site_id", "position", unique=True),
)

fx_rates: Final = Table(
    "fx_rates",
    metadata,
    Column("site_id", BigInteger, nullable=False),
    Column("id", Id, nullable=False),
    Column("base", String(16), nullable=False),
    Column("quote", String(16), nullable=False),
    Column("rate", String(40), nullable=False),
    Column("source", Text),
    Column("valid_until", BigInteger),
    Column("metadata", Json, nullable=False),
    Column("lock_version", BigInteger, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    PrimaryKeyConstraint("site_id", "id"),
    Index("ix_fx_rates_pair", "site_id", "base", "quote", "id"),
)

entities: Final = Table(
    "entities",
    metadata,
    Column("site_id", BigInteger, nullable=False),
    Column("id", Id, nullable=False),
    Column("type", String(10), nullable=False),
    Column("name", Text, nullable=False),
    Column("legal_name", Text),
    Column("country", String(2)),
    Column("external_id", Text),
    Column("description", Text),
    Column("metadata", Json, nullable=False),
    Column("lock_version", BigInteger, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    PrimaryKeyConstraint("site_id", "id"),
    Index(
        "uq_entities_external_id",
        "site_id",
        "external_id",
        unique=True,
        postgresql_where=_NAMED,
        sqlite_where=_NAMED,
    ),
)

# Those of a site's own; what ISO 4217 lists is in engine.iso_4217.
currencies: Final = Table(
    "currencies",
    metadata,
    Column("site_id", BigInteger, nullable=False),
    Column("id", Id, nullable=False),
    Column("code", String(16), nullable=False),
    Column("name", Text, nullable=False),
    Column("exponent", SmallInteger, nullable=False),
    Column("metadata", Json, nullable=False),
    Column("lock_version", BigInteger, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    PrimaryKeyConstraint("site_id", "id"),
    Index("uq_currencies_code", "site_id", "code", unique=True),
)

products: Final = Table(
    "products",
    metadata,
    Column("site_id", BigInteger, nullable=False),
    Column("id", Id, nullable=False),
    Column("code", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("description", Text),
    Column("metadata", Json, nullable=False),
    Column("lock_version", BigInteger, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    PrimaryKeyConstraint("site_id", "id"),
    Index("uq_products_code", "site_id", "code", unique=True),
)

# A hold's id is its entry's.
holds: Final = Table(
    "holds",
    metadata,
    Column("site_id", BigInteger, nullable=False),
    Column("id", Id, nullable=False),
    Column("ledger_id", Id, nullable=False),
    Column("status", String(10), nullable=False),
    Column("description", Text),
    Column("external_id", Text),
    Column("metadata", Json, nullable=False),
    Column("lines", Json, nullable=False),
    Column("captures", Json, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    Column("lock_version", BigInteger, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    PrimaryKeyConstraint("site_id", "id"),
    Index("ix_holds_due", "site_id", "expires_at", "id", postgresql_where=_OPEN, sqlite_where=_OPEN),
    Index("ix_holds_status", "site_id", "status", "id"),
    Index("ix_holds_external_id", "site_id", "external_id", "id", postgresql_where=_NAMED, sqlite_where=_NAMED),
)
