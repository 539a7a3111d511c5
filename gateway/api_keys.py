"""API keys over HTTP: created by whoever has `ledger.admin`, never with more than its creator may do."""

from __future__ import annotations

from typing import Any

from msgspec import Struct
from starlette.responses import Response

from auth.keys import IdempotentRequest
from auth.store import ApiKey as StoredKey
from engine.cursors import page_cursor, parse_page_cursor
from engine.money import format_instant
from gateway import bodies, lists, wire
from gateway.call import Call
from gateway.query import Asked


class ApiKey(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An API key as its site sees it; the key itself is shown once, at its creation."""

    id: str
    name: str
    prefix: str
    last4: str
    scopes: tuple[str, ...]
    created_by: str
    created_at: str
    expires_at: str
    last_used_at: str | None
    revoked_at: str | None


class CreatedApiKey(ApiKey, frozen=True, kw_only=True):
    """A key that was just created; `key` is null when the request was answered before."""

    key: str | None


async def create_key(call: Call, _asked: Asked) -> Response:
    """Create an API key; it is shown here and never again."""
    document = await call.document()
    wanted = wire.decode(document, bodies.ApiKeyCreate)
    key = call.idempotency(document)
    done = await call.services.api_keys.create(
        call.principal,
        name=wanted.name,
        scopes=wanted.scopes,
        expires_at=wire.instant_of(wanted.expires_at, "/expires_at"),
        now_us=call.services.clock.now_us(),
        idempotency=None if key is None else IdempotentRequest(key=key.key, request_hash=key.fingerprint),
    )
    shown = CreatedApiKey(**_fields(done.api_key), key=done.secret)
    headers = {"location": f"/v1/api_keys/{done.api_key.id}"}
    if done.replayed:
        headers[lists.REPLAYED] = "true"
    return wire.reply(wire.encode(shown), status=201, headers=headers)


async def list_keys(call: Call, asked: Asked) -> Response:
    """List API keys, the newest first."""
    cursor, limit = asked.get("cursor"), asked.get("limit") or 50
    before = None if cursor is None else parse_page_cursor(cursor)
    head = await call.services.engine.head(call.site)
    found = await call.services.api_keys.list(call.site.id, limit=limit + 1, before=before, ascending=asked.ascending)
    shown = [ApiKey(**_fields(each)) for each in found[:limit]]
    next_cursor = page_cursor(shown[-1].id) if len(found) > limit else None
    return lists.listed(call, list(shown), next_cursor, head.cursor())


async def get_key(call: Call, _asked: Asked) -> Response:
    """Return one API key."""
    found = await call.services.api_keys.get(call.site.id, call.path_id("API key"))
    return wire.reply(wire.encode(ApiKey(**_fields(found))))


async def revoke_key(call: Call, _asked: Asked) -> Response:
    """Take an API key back; doing it again changes nothing."""
    await call.empty_document()
    now_us = call.services.clock.now_us()
    found = await call.services.api_keys.revoke(call.site.id, call.path_id("API key"), now_us=now_us)
    return wire.reply(wire.encode(ApiKey(**_fields(found))))


def _fields(key: StoredKey) -> dict[str, Any]:
    return {
        "id": key.id,
        "name": key.name,
        "prefix": key.prefix,
        "last4": key.last4,
        "scopes": key.scopes,
        "created_by": key.created_by,
        "created_at": format_instant(key.created_at),
        "expires_at": format_instant(key.expires_at),
        "last_used_at": None if key.last_used_at is None else format_instant(key.last_used_at),
        "revoked_at": None if key.revoked_at is None else format_instant(key.revoked_at),
    }
