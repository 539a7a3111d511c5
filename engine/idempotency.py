"""Idempotency records: a key, what was asked under it and what was answered, written with the effect or not at all.

What the events of the same transaction tell is not kept a second time (see engine.answers).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from msgspec import Struct
from sqlalchemy import Connection, Row, delete, select

from engine import feed
from engine.answers import HOLE, restore
from engine.errors import IdempotencyKeyReused
from engine.events import data_of
from engine.fences import Absent
from engine.schema import IDEMPOTENCY_SLOTS, idempotency_keys
from engine.sql import Insert, among, write

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


class Remembered(Struct, frozen=True, kw_only=True):
    """An answer to be recorded under its key, and what is kept of it: with holes for what events from a sequence on tell."""

    key: IdempotencyKey
    answer: Answer
    kept: bytes
    from_sequence: int | None = None


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
    query = select(*columns["key", "fingerprint", "resource_id", "lock_version", "from_sequence", "body"]).where(
        columns.site_id == site_id,
        among(columns.slot, _slots(now_us, retention_days)),
        among(columns.key, keys),
        columns.created_at > now_us - retention_days * _DAY_US,
    )
    rows = conn.execute(query).all()
    wanted = [sequence for row in rows for sequence in _told(row)]
    events = feed.read_bodies(conn, site_id, wanted) if wanted else {}
    found: dict[str, tuple[bytes, Answer]] = {}
    for row in rows:
        body = bytes(row.body)
        if row.from_sequence is not None:
            body = restore(body, [data_of(events[sequence].body) for sequence in _told(row)])
        answer = Answer(body=body, resource_id=row.resource_id, lock_version=row.lock_version)
        found[row.key] = (bytes(row.fingerprint), answer)
    return found


def _told(row: Row[*tuple[Any, ...]]) -> range:
    """Return the sequences of the events whose data fills the holes of what is kept."""
    first = row.from_sequence
    return range(0) if first is None else range(first, first + bytes(row.body).count(HOLE))


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
    """Record the answers whole, in the transaction of their effect."""
    remembered = [Remembered(key=key, answer=answer, kept=answer.body) for key, answer in rows]
    write(conn, [records(site_id, remembered, now_us)])


def records(site_id: int, remembered: Sequence[Remembered], now_us: int) -> Insert:
    """Return the records of these answers, to be written together with their effect."""
    slot = now_us // _DAY_US % IDEMPOTENCY_SLOTS
    return Insert(
        table=idempotency_keys,
        rows=[
            {
                "site_id": site_id,
                "slot": slot,
                "key": each.key.key,
                "fingerprint": each.key.fingerprint,
                "resource_id": each.answer.resource_id,
                "lock_version": each.answer.lock_version,
                "from_sequence": each.from_sequence,
                "body": each.kept,
                "created_at": now_us,
            }
            for each in remembered
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
