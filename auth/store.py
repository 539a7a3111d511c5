"""The SQL of organizations, sites and credentials: one function, one purpose; none begins or commits.

`control` is the metadata of the database that these functions run in.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from sqlalchemy import ColumnElement, Connection, Row, Table, delete, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from auth.keyformat import api_key_prefix
from auth.principal import SiteRef
from auth.schema import (
    api_keys,
    clients,
    credential_requests,
    organizations,
    revocations,
    signing_keys,
    sites,
)
from auth.schema import (
    control as control,
)
from auth.scopes import format_scope, parse_scope


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteRecord:
    """A site as the control database knows it: `creating` until all of it exists, then `active`."""

    id: int
    organization: str
    environment: str
    state: str
    created_at: int

    @property
    def ref(self) -> SiteRef:
        """The site as a credential's holder sees it."""
        return SiteRef(id=self.id, organization=self.organization, environment=self.environment)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientRecord:
    """An OAuth client with the hashes of the secrets that are good for it."""

    client_id: str
    site: SiteRef
    name: str
    secret_hash: bytes
    previous_secret_hash: bytes | None
    previous_expires_at: int | None
    scopes: frozenset[str]


class ApiKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """An API key as its site sees it; `prefix` and `last4` are all that is ever shown again of the key itself."""

    id: str
    name: str
    prefix: str
    last4: str
    scopes: tuple[str, ...]
    created_by: str
    created_at: int
    expires_at: int
    last_used_at: int | None = None
    revoked_at: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKeyRecord:
    """An API key with its hash, its public part and the site it opens."""

    key: ApiKey
    key_id: str
    site: SiteRef
    secret_hash: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningKeyRecord:
    """A key that signs tokens, will sign them, or did."""

    kid: str
    environment: str
    state: str
    public_jwk: str
    private_sealed: bytes
    created_at: int
    retired_at: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RevokedSince:
    """What was taken back: tokens and API keys with the instant they would have run out at, and clients."""

    tokens: dict[str, int]
    api_keys: dict[str, int]
    clients: tuple[str, ...]


_SITE: Final = (sites.c.id, sites.c.organization, sites.c.environment)


def add_site(conn: Connection, organization: str, environment: str, now_us: int) -> SiteRecord:
    """Create the organization and the site unless they exist; return the site whatever its state."""
    _insert_new(conn, organizations, {"slug": organization, "created_at": now_us})
    _insert_new(
        conn,
        sites,
        {"organization": organization, "environment": environment, "state": "creating", "created_at": now_us},
    )
    site = find_site(conn, organization, environment)
    if site is None:  # pragma: no cover
        raise LookupError(organization, environment)
    return site


def find_site(conn: Connection, organization: str, environment: str, *, lock: bool = False) -> SiteRecord | None:
    """Return a site by its names; with `lock`, whoever else wants to change it waits."""
    query = select(sites).where(sites.c.organization == organization, sites.c.environment == environment)
    row = conn.execute(query.with_for_update() if lock else query).mappings().one_or_none()
    return None if row is None else SiteRecord(**row)


def list_sites(conn: Connection) -> list[SiteRecord]:
    """Return all sites in the order in which they were created."""
    return [SiteRecord(**row) for row in conn.execute(select(sites).order_by(sites.c.id)).mappings()]


def activate_site(conn: Connection, site_id: int) -> None:
    """Mark that all of a site exists."""
    conn.execute(update(sites).where(sites.c.id == site_id).values(state="active"))


def add_client(conn: Connection, client: ClientRecord, now_us: int) -> bool:
    """Store a new client unless its site has one of this name; return whether it was stored."""
    return _insert_new(
        conn,
        clients,
        {
            "client_id": client.client_id,
            "site_id": client.site.id,
            "name": client.name,
            "secret_hash": client.secret_hash,
            "scopes": format_scope(client.scopes),
            "created_at": now_us,
            "rotated_at": now_us,
        },
    )


def find_client(conn: Connection, client_id: str, *, lock: bool = False) -> ClientRecord | None:
    """Return a client of an active site that was not revoked."""
    return _client(conn, clients.c.client_id == client_id, sites.c.state == "active", lock=lock)


def find_client_named(conn: Connection, site_id: int, name: str, *, lock: bool = False) -> ClientRecord | None:
    """Return a site's client by its name, whatever the site's state."""
    return _client(conn, clients.c.site_id == site_id, clients.c.name == name, lock=lock)


def change_client_secret(
    conn: Connection, client: ClientRecord, secret_hash: bytes, *, previous_expires_at: int | None, now_us: int
) -> None:
    """Give a client a new secret; the one it had stays good until an instant, or not at all."""
    conn.execute(
        update(clients)
        .where(clients.c.client_id == client.client_id)
        .values(
            secret_hash=secret_hash,
            previous_secret_hash=None if previous_expires_at is None else client.secret_hash,
            previous_expires_at=previous_expires_at,
            rotated_at=now_us,
        )
    )


def revoke_client(conn: Connection, client_id: str, now_us: int) -> bool:
    """Take a client back; return whether there was one to take back."""
    found = update(clients).where(clients.c.client_id == client_id, clients.c.revoked_at.is_(None))
    return conn.execute(found.values(revoked_at=now_us)).rowcount == 1


def add_api_key(conn: Connection, record: ApiKeyRecord) -> None:
    """Store a new API key."""
    key = record.key
    conn.execute(
        insert(api_keys).values(
            id=key.id,
            key_id=record.key_id,
            site_id=record.site.id,
            name=key.name,
            secret_hash=record.secret_hash,
            last4=key.last4,
            scopes=format_scope(key.scopes),
            created_by=key.created_by,
            created_at=key.created_at,
            expires_at=key.expires_at,
        )
    )


def find_api_key_text(conn: Connection, key_id: str) -> ApiKeyRecord | None:
    """Return an API key of an active site by its public part, revoked and expired ones too."""
    return next(iter(_api_keys(conn, api_keys.c.key_id == key_id, sites.c.state == "active")), None)


def find_api_key(conn: Connection, site_id: int, id_: str) -> ApiKeyRecord | None:
    """Return a site's API key by its id."""
    return next(iter(_api_keys(conn, api_keys.c.site_id == site_id, api_keys.c.id == id_)), None)


def list_api_keys(
    conn: Connection, site_id: int, *, limit: int, before: str | None, ascending: bool = False
) -> list[ApiKeyRecord]:
    """Return a site's API keys, the newest first or the oldest, starting after an id."""
    conditions = [api_keys.c.site_id == site_id]
    if before is not None:
        conditions.append(api_keys.c.id > before if ascending else api_keys.c.id < before)
    return _api_keys(conn, *conditions, limit=limit, ascending=ascending)


def list_api_keys_named(conn: Connection, site_id: int, name: str, *, created_by: str) -> list[ApiKeyRecord]:
    """Return the API keys of a name that a caller created and nobody took back."""
    return _api_keys(
        conn,
        api_keys.c.site_id == site_id,
        api_keys.c.name == name,
        api_keys.c.created_by == created_by,
        api_keys.c.revoked_at.is_(None),
    )


def revoke_api_keys(conn: Connection, site_id: int, ids: Iterable[str], now_us: int) -> None:
    """Take API keys of a site back; one that was taken back before keeps its instant."""
    found = update(api_keys).where(
        api_keys.c.site_id == site_id, api_keys.c.id.in_(list(ids)), api_keys.c.revoked_at.is_(None)
    )
    conn.execute(found.values(revoked_at=now_us))


def list_signing_keys(conn: Connection) -> list[SigningKeyRecord]:
    """Return the signing keys of all environments, the oldest first."""
    rows = conn.execute(select(signing_keys).order_by(signing_keys.c.created_at, signing_keys.c.kid)).mappings()
    return [SigningKeyRecord(**row) for row in rows]


def add_signing_key(conn: Connection, record: SigningKeyRecord) -> bool:
    """Store a signing key unless its environment has one in this state already; return whether it was stored."""
    return _insert_new(
        conn,
        signing_keys,
        {
            "kid": record.kid,
            "environment": record.environment,
            "state": record.state,
            "public_jwk": record.public_jwk,
            "private_sealed": record.private_sealed,
            "created_at": record.created_at,
            "retired_at": record.retired_at,
        },
    )


def move_signing_key(conn: Connection, kid: str, *, was: str, state: str, retired_at: int | None) -> bool:
    """Move a signing key on from the state it was in; return whether it was still in that state."""
    found = update(signing_keys).where(signing_keys.c.kid == kid, signing_keys.c.state == was)
    return conn.execute(found.values(state=state, retired_at=retired_at)).rowcount == 1


def forget_signing_keys(conn: Connection, environment: str, retired_before: int) -> None:
    """Remove the keys whose last token has run out."""
    conn.execute(
        delete(signing_keys).where(
            signing_keys.c.environment == environment, signing_keys.c.retired_at < retired_before
        )
    )


def add_revocation(conn: Connection, jti: str, site_id: int, *, expires_at: int, now_us: int) -> None:
    """Remember that a token was taken back, and forget those that have run out."""
    conn.execute(delete(revocations).where(revocations.c.expires_at < now_us))
    _insert_new(conn, revocations, {"jti": jti, "site_id": site_id, "expires_at": expires_at, "revoked_at": now_us})


def revoked_since(conn: Connection, since: int, *, clients_since: int, now_us: int) -> RevokedSince:
    """Return what was taken back at or after an instant and would still be good otherwise."""
    tokens = select(revocations.c.jti, revocations.c.expires_at).where(
        revocations.c.revoked_at >= since, revocations.c.expires_at > now_us
    )
    keys = select(api_keys.c.key_id, api_keys.c.expires_at).where(
        api_keys.c.revoked_at >= since, api_keys.c.expires_at > now_us
    )
    gone = select(clients.c.client_id).where(clients.c.revoked_at >= clients_since)
    return RevokedSince(
        tokens={row.jti: row.expires_at for row in conn.execute(tokens)},
        api_keys={row.key_id: row.expires_at for row in conn.execute(keys)},
        clients=tuple(conn.execute(gone).scalars()),
    )


def is_revoked(conn: Connection, jti: str) -> bool:
    """Tell whether a token was taken back."""
    return conn.execute(select(revocations.c.jti).where(revocations.c.jti == jti)).one_or_none() is not None


def claim_request(
    conn: Connection, site_id: int, key: str, request_hash: bytes, *, forget_before: int, now_us: int
) -> bool:
    """Make an idempotency key this transaction's; False if it belongs to an earlier one, which has then ended."""
    conn.execute(
        delete(credential_requests).where(
            credential_requests.c.site_id == site_id, credential_requests.c.created_at < forget_before
        )
    )
    values = {"site_id": site_id, "key": key, "request_hash": request_hash, "answer": b"", "created_at": now_us}
    return _insert_new(conn, credential_requests, values)


def answer_request(conn: Connection, site_id: int, key: str, answer: bytes) -> None:
    """Store the answer of a request whose idempotency key this transaction claimed."""
    found = update(credential_requests).where(
        credential_requests.c.site_id == site_id, credential_requests.c.key == key
    )
    conn.execute(found.values(answer=answer))


def find_request(conn: Connection, site_id: int, key: str) -> tuple[bytes, bytes]:
    """Return the hash and the answer of the request that a key belongs to."""
    row = conn.execute(
        select(credential_requests.c.request_hash, credential_requests.c.answer).where(
            credential_requests.c.site_id == site_id, credential_requests.c.key == key
        )
    ).one()
    return row.request_hash, row.answer


def _client(conn: Connection, *conditions: ColumnElement[bool], lock: bool) -> ClientRecord | None:
    query = (
        select(clients, sites.c.organization, sites.c.environment)
        .join(sites, sites.c.id == clients.c.site_id)
        .where(clients.c.revoked_at.is_(None), *conditions)
    )
    row = conn.execute(query.with_for_update(of=clients) if lock else query).one_or_none()
    if row is None:
        return None
    return ClientRecord(
        client_id=row.client_id,
        site=SiteRef(id=row.site_id, organization=row.organization, environment=row.environment),
        name=row.name,
        secret_hash=row.secret_hash,
        previous_secret_hash=row.previous_secret_hash,
        previous_expires_at=row.previous_expires_at,
        scopes=parse_scope(row.scopes),
    )


def _api_keys(
    conn: Connection, *conditions: ColumnElement[bool], limit: int | None = None, ascending: bool = False
) -> list[ApiKeyRecord]:
    query = (
        select(api_keys, sites.c.organization, sites.c.environment)
        .join(sites, sites.c.id == api_keys.c.site_id)
        .where(*conditions)
        .order_by(api_keys.c.id.asc() if ascending else api_keys.c.id.desc())
        .limit(limit)
    )
    return [_api_key_record(row) for row in conn.execute(query)]


def _api_key_record(row: Row[Any]) -> ApiKeyRecord:
    key = ApiKey(
        id=row.id,
        name=row.name,
        prefix=api_key_prefix(row.environment, row.key_id),
        last4=row.last4,
        scopes=tuple(row.scopes.split()),
        created_by=row.created_by,
        created_at=row.created_at,
        expires_at=row.expires_at,
        last_used_at=row.last_used_at,
        revoked_at=row.revoked_at,
    )
    site = SiteRef(id=row.site_id, organization=row.organization, environment=row.environment)
    return ApiKeyRecord(key=key, key_id=row.key_id, site=site, secret_hash=row.secret_hash)


def _insert_new(conn: Connection, table: Table, values: dict[str, Any]) -> bool:
    """Insert a row unless a unique constraint says that it exists; on PostgreSQL this waits for whoever is inserting it."""
    dialect = postgresql if conn.dialect.name == "postgresql" else sqlite
    return conn.execute(dialect.insert(table).values(**values).on_conflict_do_nothing()).rowcount == 1
