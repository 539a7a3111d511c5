"""Idempotency records: a key, what was asked under it and what was answered, written with the effect or not at all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from msgspec import Struct
from sqlalchemy import Connection, delete, select

from engine.errors import IdempotencyKeyReused
from engine.schema import IDEMPOTENCY_SLOTS, idempotency_keys
from engine.sql import Absent, Insert, among, write

_DAY_US: Final = 86_400_000_000
RETENTION_DAYS_MAX: Final = IDEMPOTENCY_SLOTS - 3


class IdempotencyKey(Struct, frozen=True, kw_only=True):
    """A client's key and the SHA-256 fingerprint of its request: method, path and canonical body."""

    key: str
    fingerprint: bytes


class Answer(Struct, frozen=True, kw_only=True):
    """What a request was answered: the body's bytes, the resource it names and that resource's version."""

    body: bytes
    resource_id: str | None
    lock_version: int | None


def find(
    conn: Connection,
    site_id: int,
    keys: Sequence[str],
    now_us: int,
    retention_days: int = 7,
) -> dict[str, tuple[bytes, Answer]]:
    """Return fingerprint and answer of those keys that were used within the retention."""
    if not keys:
        return {}
    columns = idempotency_keys.c
    query = select(columns.key, columns.fingerprint, columns.body, columns.resource_id, columns.lock_version).where(
        columns.site_id == site_id,
        among(columns.slot, _slots(now_us, retention_days)),
        among(columns.key, keys),
        columns.created_at > now_us - retention_days * _DAY_US,
    )
    return {
        row.key: (
            bytes(row.fingerprint),
            Answer(body=bytes(row.body), resource_id=row.resource_id, lock_version=row.lock_version),
        )
        for row in conn.execute(query)
    }


def unused(site_id: int, keys: Sequence[str], now_us: int, retention_days: int) -> Absent | None:
    """Return the condition that none of the keys was used within the retention."""
    if not keys:
        return None
    return Absent(
        table=idempotency_keys,
        equal={"site_id": site_id},
        among={"slot": _slots(now_us, retention_days), "key": keys},
        larger={"created_at": now_us - retention_days * _DAY_US},
    )


def _slots(now_us: int, retention_days: int) -> list[int]:
    """Return the slots of the days that count, tomorrow among them: a clock may be behind the one that recorded a key."""
    today = now_us // _DAY_US
    return [(today - age) % IDEMPOTENCY_SLOTS for age in range(-1, retention_days + 1)]


def store(conn: Connection, site_id: int, rows: Sequence[tuple[IdempotencyKey, Answer]], now_us: int) -> None:
    """Record the answers, in the transaction of their effect."""
    write(conn, [records(site_id, rows, now_us)])


def records(site_id: int, rows: Sequence[tuple[IdempotencyKey, Answer]], now_us: int) -> Insert:
    """Return the records of these answers, to be written together with their effect."""
    slot = now_us // _DAY_US % IDEMPOTENCY_SLOTS
    return Insert(
        table=idempotency_keys,
        rows=[
            {
                "site_id": site_id,
                "slot": slot,
                "key": key.key,
                "fingerprint": key.fingerprint,
                "resource_id": answer.resource_id,
                "lock_version": answer.lock_version,
                "body": answer.body,
                "created_at": now_us,
            }
            for key, answer in rows
        ],
    )


def answer_for(found: dict[str, tuple[bytes, Answer]], key: IdempotencyKey | None) -> Answer | None:
    """Return the first answer to the same request; raises IdempotencyKeyReused where the key was for another one."""
    if key is None or key.key not in found:
        return None
    fingerprint, answer = found[key.key]
    if fingerprint != key.fingerprint:
        raise IdempotencyKeyReused(key.key)
    return answer


def forget(conn: Connection, site_id: int, now_us: int, retention_days: int = 7) -> int:
    """Remove the records that are past their retention, whole slots at a time; return how many."""
    kept = _slots(now_us, retention_days)
    old = [slot for slot in range(IDEMPOTENCY_SLOTS) if slot not in kept]
    statement = delete(idempotency_keys).where(
        idempotency_keys.c.site_id == site_id,
        among(idempotency_keys.c.slot, old),
        idempotency_keys.c.created_at <= now_us - retention_days * _DAY_US,
    )
    return conn.execute(statement).rowcount
