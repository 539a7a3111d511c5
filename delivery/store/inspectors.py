"""Inspectors as SQL: throw-away receivers and the newest requests that each of them keeps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, delete, func, insert, select, update

from delivery.inspector_shapes import KEPT_MAX
from delivery.schema import inspected, inspectors


@dataclass(frozen=True, slots=True, kw_only=True)
class InspectorRow:
    """An inspector as it is stored; instants are microseconds."""

    id: str
    token: str
    status: int
    retry_after_s: int
    delay_ms: int
    received: int
    created_at: int
    expires_at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class InspectedRow:
    """A received request as it is stored."""

    number: int
    at: int
    headers: Mapping[str, str]
    body: bytes
    truncated: bool
    answered: int


_COLUMNS = tuple(column for column in inspectors.c if column.name != "site_id")
_REQUEST = tuple(column for column in inspected.c if column.name not in {"site_id", "inspector_id"})


def insert_inspector(conn: Connection, site_id: int, row: InspectorRow) -> None:
    """Add an inspector, and forget those that have run out with what they kept."""
    gone = select(inspectors.c.id).where(inspectors.c.site_id == site_id, inspectors.c.expires_at < row.created_at)
    conn.execute(delete(inspected).where(inspected.c.site_id == site_id, inspected.c.inspector_id.in_(gone)))
    conn.execute(
        delete(inspectors).where(inspectors.c.site_id == site_id, inspectors.c.expires_at < row.created_at),
    )
    values = {name: getattr(row, name) for name in InspectorRow.__dataclass_fields__}
    conn.execute(insert(inspectors).values(site_id=site_id, **values))


def count_inspectors(conn: Connection, site_id: int) -> int:
    """Return how many inspectors a site has."""
    return int(
        conn.execute(select(func.count()).select_from(inspectors).where(inspectors.c.site_id == site_id)).scalar_one(),
    )


def list_inspectors(conn: Connection, site_id: int, now_us: int) -> list[InspectorRow]:
    """Return a site's inspectors, the newest first."""
    query = select(*_COLUMNS).where(inspectors.c.site_id == site_id, inspectors.c.expires_at > now_us)
    return [_inspector(row) for row in conn.execute(query.order_by(inspectors.c.id.desc()))]


def find_inspector(conn: Connection, site_id: int, inspector_id: str, now_us: int) -> InspectorRow | None:
    """Return an inspector that has not run out."""
    query = select(*_COLUMNS).where(
        inspectors.c.site_id == site_id, inspectors.c.id == inspector_id, inspectors.c.expires_at > now_us
    )
    row = conn.execute(query).first()
    return None if row is None else _inspector(row)


def lock_inspector(conn: Connection, site_id: int, token: str, now_us: int) -> InspectorRow | None:
    """Lock the inspector of a token until the transaction ends, and return it if it has not run out."""
    query = select(*_COLUMNS).where(
        inspectors.c.site_id == site_id, inspectors.c.token == token, inspectors.c.expires_at > now_us
    )
    row = conn.execute(query.with_for_update()).first()
    return None if row is None else _inspector(row)


def change_inspector(conn: Connection, site_id: int, inspector_id: str, values: Mapping[str, int]) -> None:
    """Store how an inspector answers from now on."""
    found = update(inspectors).where(inspectors.c.site_id == site_id, inspectors.c.id == inspector_id)
    conn.execute(found.values(**values))


def keep_request(conn: Connection, site_id: int, inspector_id: str, row: InspectedRow) -> None:
    """Add what a locked inspector received, and forget what is one too many."""
    values = {name: getattr(row, name) for name in InspectedRow.__dataclass_fields__}
    conn.execute(insert(inspected).values(site_id=site_id, inspector_id=inspector_id, **values))
    conn.execute(
        delete(inspected).where(
            inspected.c.site_id == site_id,
            inspected.c.inspector_id == inspector_id,
            inspected.c.number <= row.number - KEPT_MAX,
        ),
    )
    change_inspector(conn, site_id, inspector_id, {"received": row.number})


def list_requests(conn: Connection, site_id: int, inspector_id: str, after: int, limit: int) -> list[InspectedRow]:
    """Return what an inspector received after a number, in order."""
    query = (
        select(*_REQUEST)
        .where(inspected.c.site_id == site_id, inspected.c.inspector_id == inspector_id, inspected.c.number > after)
        .order_by(inspected.c.number)
        .limit(limit)
    )
    return [
        InspectedRow(**{**row._mapping, "body": bytes(row.body)})  # noqa: SLF001 - SQLAlchemy's public name for it
        for row in conn.execute(query)
    ]


def _inspector(row: Row[*tuple[Any, ...]]) -> InspectorRow:
    return InspectorRow(**row._mapping)  # noqa: SLF001 - see above
