"""API keys as a resource of a site: create, show, list, take back. Their form is in `keyformat`.

A key's secret is shown once, in the answer to its creation; a repeated creation under the same idempotency key gets the
first answer again without it. The record of the request is written in the transaction that creates the key.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

import msgspec
from sqlalchemy import Connection

from auth import store
from auth.errors import IdempotencyKeyReused, KeyLifetimeInvalid, KeyNotFound
from auth.keyformat import ApiKeyText, api_key_prefix, draw_api_key, hash_secret, same_hash
from auth.ports import ControlDatabase, Entropy, IdSource
from auth.principal import Principal, SiteRef
from auth.revocations import Revocations
from auth.scopes import SCOPES, grant
from auth.store import ApiKey, ApiKeyRecord

LIFETIME_MAX_US: Final = 90 * 86_400_000_000
"""The longest an API key lives, and how long it lives unless it is said."""

_ID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class IdempotentRequest:
    """A client's idempotency key and the hash of the request it stands for."""

    key: str
    request_hash: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class CreatedApiKey:
    """The answer to a creation; `secret` is the whole key to present, None in a replay."""

    api_key: ApiKey
    secret: str | None = field(repr=False)
    replayed: bool


class ApiKeys:
    """The use cases of API keys, one transaction each."""

    def __init__(
        self,
        control: ControlDatabase,
        *,
        ids: IdSource,
        pepper: bytes,
        revocations: Revocations,
        entropy: Entropy = os.urandom,
        idempotency_us: int = 7 * 86_400_000_000,
    ) -> None:
        self._control = control
        self._ids = ids
        self._pepper = pepper
        self._revocations = revocations
        self._entropy = entropy
        self._idempotency_us = idempotency_us

    async def create(
        self,
        creator: Principal,
        *,
        name: str,
        now_us: int,
        scopes: Iterable[str] | None = None,
        expires_at: int | None = None,
        idempotency: IdempotentRequest | None = None,
    ) -> CreatedApiKey:
        """Create a key of the creator's site with at most the creator's scopes, for at most 90 days.

        Raises ScopeUnknown, ScopeExceeded, KeyLifetimeInvalid, IdempotencyKeyReused.
        """
        granted = grant(scopes, creator.scopes)
        latest_at = now_us + LIFETIME_MAX_US
        ends_at = latest_at if expires_at is None else expires_at
        text = draw_api_key(creator.site.environment, self._entropy)
        record = new_api_key(
            text,
            id_=self._ids.draw(now_us),
            site=creator.site,
            name=name,
            scopes=granted,
            created_by=creator.id,
            expires_at=ends_at,
            now_us=now_us,
            pepper=self._pepper,
        )

        def run(conn: Connection) -> CreatedApiKey:
            if idempotency is not None and (first := self._first_answer(conn, creator.site.id, idempotency, now_us)):
                return CreatedApiKey(api_key=first, secret=None, replayed=True)
            # After the replay: the first answer stands even when its lifetime would be refused by now.
            if not now_us < ends_at <= latest_at:
                raise KeyLifetimeInvalid(ends_at, earliest_at=now_us, latest_at=latest_at)
            store.add_api_key(conn, record)
            if idempotency is not None:
                store.answer_request(conn, creator.site.id, idempotency.key, msgspec.json.encode(record.key))
            return CreatedApiKey(api_key=record.key, secret=text.text(), replayed=False)

        return await self._control.write(run)

    async def get(self, site_id: int, id_: str) -> ApiKey:
        """Return a site's key. Raises KeyNotFound."""
        _require_form(id_)
        record = await self._control.read(lambda conn: store.find_api_key(conn, site_id, id_))
        if record is None:
            raise KeyNotFound(id_)
        return record.key

    async def list(
        self, site_id: int, *, limit: int, before: str | None = None, ascending: bool = False
    ) -> list[ApiKey]:
        """Return a site's keys, the newest first or the oldest; `before` is the id of the last one seen.

        Raises KeyNotFound if it is none.
        """
        if before is not None:
            _require_form(before)
        records = await self._control.read(
            lambda conn: store.list_api_keys(conn, site_id, limit=limit, before=before, ascending=ascending)
        )
        return [record.key for record in records]

    async def revoke(self, site_id: int, id_: str, *, now_us: int) -> ApiKey:
        """Take a key back, in this process at once; doing it again changes nothing. Raises KeyNotFound."""
        _require_form(id_)

        def run(conn: Connection) -> ApiKeyRecord | None:
            store.revoke_api_keys(conn, site_id, [id_], now_us)
            return store.find_api_key(conn, site_id, id_)

        record = await self._control.write(run)
        if record is None:
            raise KeyNotFound(id_)
        self._revocations.add_api_key(record.key_id, record.key.expires_at)
        return record.key

    def _first_answer(self, conn: Connection, site_id: int, request: IdempotentRequest, now_us: int) -> ApiKey | None:
        forget_before = now_us - self._idempotency_us
        if store.claim_request(
            conn, site_id, request.key, request.request_hash, forget_before=forget_before, now_us=now_us
        ):
            return None
        request_hash, answer = store.find_request(conn, site_id, request.key)
        if not same_hash(request_hash, request.request_hash):
            raise IdempotencyKeyReused(request.key)
        return msgspec.json.decode(answer, type=ApiKey)


def new_api_key(
    text: ApiKeyText,
    *,
    id_: str,
    site: SiteRef,
    name: str,
    scopes: frozenset[str],
    created_by: str,
    expires_at: int,
    now_us: int,
    pepper: bytes,
) -> ApiKeyRecord:
    """Return the record of a new key: all of it but the secret."""
    key = ApiKey(
        id=id_,
        name=name,
        prefix=api_key_prefix(text.environment, text.key_id),
        last4=text.text()[-4:],
        scopes=tuple(scope for scope in SCOPES if scope in scopes),
        created_by=created_by,
        created_at=now_us,
        expires_at=expires_at,
    )
    return ApiKeyRecord(key=key, key_id=text.key_id, site=site, secret_hash=hash_api_key(pepper, text))


def hash_api_key(pepper: bytes, text: ApiKeyText) -> bytes:
    """Return the hash under which a key is stored: bound to its environment and its public part."""
    return hash_secret(pepper, "api_key", api_key_prefix(text.environment, text.key_id), text.secret)


def _require_form(id_: str) -> None:
    # What is no id has no key; PostgreSQL would call it an error instead.
    if _ID.fullmatch(id_) is None:
        raise KeyNotFound(id_)
