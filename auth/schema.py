"""The tables of the control database, the same on SQLite and PostgreSQL. Instants are microseconds since the epoch.

No secret is in clear here: client secrets, API keys and sessions are hashes, passwords are hashed slowly and memory-hard
(argon2id), private signing keys are sealed by the vault.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)

control: Final = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    },
)

_Id: Final = Uuid(as_uuid=False).with_variant(String(36), "sqlite")
_Serial: Final = BigInteger().with_variant(Integer, "sqlite")
_ENVIRONMENTS: Final = "environment IN ('sandbox', 'production')"
_NOT_PREVIOUS: Final = text("state <> 'previous'")

organizations: Final = Table(
    "organizations",
    control,
    Column("slug", String(63), primary_key=True),
    Column("created_at", BigInteger, nullable=False),
)

sites: Final = Table(
    "sites",
    control,
    Column("id", _Serial, primary_key=True, autoincrement=True),
    Column("organization", String(63), ForeignKey("organizations.slug"), nullable=False),
    Column("environment", String(10), nullable=False),
    Column("state", String(10), nullable=False),
    Column("created_at", BigInteger, nullable=False),
    UniqueConstraint("organization", "environment"),
    CheckConstraint(_ENVIRONMENTS, name="environment"),
    CheckConstraint("state IN ('creating', 'active')", name="state"),
)

clients: Final = Table(
    "clients",
    control,
    Column("client_id", String(64), primary_key=True),
    Column("site_id", BigInteger, ForeignKey("sites.id"), nullable=False),
    Column("name", String(100), nullable=False),
    Column("secret_hash", LargeBinary, nullable=False),
    # A rotated secret may stay good for a while, so that a rotation fails no request.
    Column("previous_secret_hash", LargeBinary),
    Column("previous_expires_at", BigInteger),
    Column("scopes", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("rotated_at", BigInteger, nullable=False),
    # To the minute, when a request last came with it.
    Column("last_used_at", BigInteger),
    Column("revoked_at", BigInteger, index=True),
    Index(
        "uq_clients_site_id_name",
        "site_id",
        "name",
        unique=True,
        sqlite_where=text("revoked_at IS NULL"),
        postgresql_where=text("revoked_at IS NULL"),
    ),
)

api_keys: Final = Table(
    "api_keys",
    control,
    Column("id", _Id, primary_key=True),
    Column("key_id", String(12), nullable=False, unique=True),
    Column("site_id", BigInteger, ForeignKey("sites.id"), nullable=False),
    Column("name", String(100), nullable=False),
    Column("secret_hash", LargeBinary, nullable=False),
    Column("last4", String(4), nullable=False),
    Column("scopes", Text, nullable=False),
    Column("created_by", String(64), nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    Column("last_used_at", BigInteger),
    Column("revoked_at", BigInteger, index=True),
    Index(None, "site_id", "id"),
)

signing_keys: Final = Table(
    "signing_keys",
    control,
    Column("kid", String(64), primary_key=True),
    Column("environment", String(10), nullable=False),
    Column("state", String(10), nullable=False),
    Column("public_jwk", Text, nullable=False),
    Column("private_sealed", LargeBinary, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    # When it stopped signing; it verifies for as long as a token that it signed can live.
    Column("retired_at", BigInteger),
    CheckConstraint(_ENVIRONMENTS, name="environment"),
    CheckConstraint("state IN ('next', 'active', 'previous')", name="state"),
    CheckConstraint("(state = 'previous') = (retired_at IS NOT NULL)", name="retired"),
    # One key signs and one waits per environment, whoever creates them at the same time.
    Index(
        "uq_signing_keys_environment_state",
        "environment",
        "state",
        unique=True,
        sqlite_where=_NOT_PREVIOUS,
        postgresql_where=_NOT_PREVIOUS,
    ),
)

revocations: Final = Table(
    "revocations",
    control,
    Column("jti", String(64), primary_key=True),
    Column("site_id", BigInteger, ForeignKey("sites.id"), nullable=False),
    Column("expires_at", BigInteger, nullable=False, index=True),
    Column("revoked_at", BigInteger, nullable=False, index=True),
)

credential_requests: Final = Table(
    "credential_requests",
    control,
    Column("site_id", BigInteger, ForeignKey("sites.id"), primary_key=True, autoincrement=False),
    Column("key", String(255), primary_key=True),
    Column("request_hash", LargeBinary, nullable=False),
    # The first answer as JSON, without the secret that it showed.
    Column("answer", LargeBinary, nullable=False),
    Column("created_at", BigInteger, nullable=False),
)

administrators: Final = Table(
    "administrators",
    control,
    Column("id", _Id, primary_key=True),
    Column("organization", String(63), ForeignKey("organizations.slug"), nullable=False, index=True),
    # In lower case; a person is known by it in the whole deployment.
    Column("email", String(254), nullable=False, unique=True),
    Column("password_hash", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("password_changed_at", BigInteger, nullable=False),
)

sessions: Final = Table(
    "sessions",
    control,
    Column("id", _Id, primary_key=True),
    # SHA-256 of what the cookie holds: whoever reads this table can open nothing with it.
    Column("token_hash", LargeBinary, nullable=False, unique=True),
    Column("administrator_id", _Id, ForeignKey("administrators.id"), nullable=False, index=True),
    # The site that the session looks at: of the administrator's own organization.
    Column("site_id", BigInteger, ForeignKey("sites.id"), nullable=False),
    Column("address", String(64), nullable=False),
    Column("user_agent", String(300), nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("seen_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False, index=True),
)

# How often somebody failed to sign in of late: as a person from an address, and from an address at all.
sign_in_failures: Final = Table(
    "sign_in_failures",
    control,
    Column("subject", LargeBinary, primary_key=True),
    Column("failures", Integer, nullable=False),
    Column("last_at", BigInteger, nullable=False, index=True),
)
