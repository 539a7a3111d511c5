"""Endpoints and their subscriptions as SQL. Whoever changes an endpoint's deliveries locks its row here first."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any, Final, NamedTuple, cast

import msgspec
from sqlalchemy import ColumnElement, Connection, and_, bindparam, delete, func, insert, or_, select, update
from sqlalchemy.engine import Row

from delivery.breaker import Circuit
from delivery.conditions import Filter
from delivery.forms import Form
from delivery.rows import EndpointRow, Identity, StoredSecret
from delivery.schema import endpoints, subscriptions
from delivery.subscriptions import Status, Subscription
from engine.listing import beyond, ordered
from engine.sql import Update, among, among_given

_DELETED: Final = "deleted"

# Made once: to make a statement, and what it is found again by, costs more than to run it.
_LOCK: Final = (
    select(endpoints)
    .where(endpoints.c.site_id == bindparam("site"), among_given(endpoints.c.id, "ids"))
    .order_by(endpoints.c.id)
    .with_for_update()
)
_OLDER: Final = subscriptions.alias("older")
_AT_FIRST: Final = (
    select(func.max(_OLDER.c.from_sequence))
    .where(
        _OLDER.c.site_id == subscriptions.c.site_id,
        _OLDER.c.endpoint_id == subscriptions.c.endpoint_id,
        _OLDER.c.from_sequence <= bindparam("first"),
    )
    .scalar_subquery()
)
_BEGINS: Final = subscriptions.c.from_sequence
_IN_FORCE: Final = (
    select(
        subscriptions.c.endpoint_id,
        _BEGINS,
        subscriptions.c.event_types,
        subscriptions.c.filter,
        subscriptions.c.status,
    )
    .where(subscriptions.c.site_id == bindparam("site"), bindparam("last") >= _BEGINS)
    .where(or_(bindparam("first") < _BEGINS, _BEGINS == _AT_FIRST))
    .order_by(subscriptions.c.endpoint_id, _BEGINS)
)


class Troubled(NamedTuple):
    """An endpoint that receives nothing or only fails: since when, and when it is probed, in microseconds."""

    id: str
    url: str
    status: str
    failing_since: int | None
    probe_at: int | None


def insert_endpoint(conn: Connection, site_id: int, row: EndpointRow) -> None:
    """Add an endpoint."""
    conn.execute(insert(endpoints).values(site_id=site_id, id=row.id, created_at=row.created_at, **_changeable(row)))


def save_endpoint(conn: Connection, site_id: int, row: EndpointRow) -> None:
    """Store everything that may have changed about an endpoint; its row is locked by the caller."""
    conn.execute(
        update(endpoints).where(endpoints.c.site_id == site_id, endpoints.c.id == row.id).values(**_changeable(row)),
    )


def count_endpoints(conn: Connection, site_id: int) -> int:
    """Return how many endpoints the site has."""
    return conn.execute(select(func.count()).select_from(endpoints).where(_present(site_id))).scalar_one()


def find_endpoint(conn: Connection, site_id: int, endpoint_id: str) -> EndpointRow | None:
    """Return an endpoint that is not deleted."""
    row = conn.execute(select(endpoints).where(_present(site_id), endpoints.c.id == endpoint_id)).first()
    return None if row is None else _endpoint(row)


def find_endpoints(conn: Connection, site_id: int, endpoint_ids: Iterable[str]) -> dict[str, EndpointRow]:
    """Return those of the endpoints that are not deleted."""
    query = select(endpoints).where(_present(site_id), among(endpoints.c.id, endpoint_ids))
    return {row.id: _endpoint(row) for row in conn.execute(query)}


def read_addresses(conn: Connection, site_id: int, endpoint_ids: Iterable[str]) -> dict[str, str]:
    """Return the addresses of those of the endpoints that are not deleted."""
    query = select(endpoints.c.id, endpoints.c.url).where(_present(site_id), among(endpoints.c.id, endpoint_ids))
    return {row.id: row.url for row in conn.execute(query)}


def newest_addresses(conn: Connection, site_id: int, limit: int) -> dict[str, str]:
    """Return the addresses of the newest endpoints that are not deleted, the newest first."""
    query = select(endpoints.c.id, endpoints.c.url).where(_present(site_id)).order_by(endpoints.c.id.desc())
    return {row.id: row.url for row in conn.execute(query.limit(limit))}


def troubled_endpoints(conn: Connection, site_id: int, limit: int) -> list[Troubled]:
    """Return endpoints that are not active, that fail, or whose circuit is open, the newest first.

    They are looked for among all of a site's, which are few: it may have only so many.
    """
    columns = endpoints.c
    query = select(columns.id, columns.url, columns.status, columns.failing_since, columns.circuit_probe_at).where(
        _present(site_id),
        or_(columns.status != "active", columns.failing_since.is_not(None), columns.circuit_probe_at.is_not(None)),
    )
    return [Troubled(*row) for row in conn.execute(query.order_by(columns.id.desc()).limit(limit))]


def page_endpoints(
    conn: Connection,
    site_id: int,
    *,
    limit: int,
    before: str | None,
    ascending: bool = False,
    metadata: Mapping[str, str] | None = None,
    containing: str | None = None,
) -> list[EndpointRow]:
    """Return endpoints that are not deleted, newest first or oldest first, after the one named by `before`.

    Those with some metadata, or with a text in address or description, are looked for among all of a site's, which are few:
    it may have only so many.
    """
    query = select(endpoints).where(_present(site_id), *beyond(endpoints.c.id, before, ascending=ascending))
    query = query.order_by(ordered(endpoints.c.id, ascending=ascending))
    if containing is not None:
        said = func.lower(endpoints.c.url + " " + func.coalesce(endpoints.c.description, ""))
        query = query.where(said.contains(containing.lower(), autoescape=True))
    if not metadata:
        return [_endpoint(row) for row in conn.execute(query.limit(limit))]
    found = (_endpoint(row) for row in conn.execute(query) if metadata.items() <= row.metadata.items())
    return list(islice(found, limit))


def lock_endpoints(conn: Connection, site_id: int, endpoint_ids: Iterable[str]) -> dict[str, EndpointRow]:
    """Lock endpoints until the transaction ends, deleted ones too, in the order of their ids, and return them."""
    found = conn.execute(_LOCK, {"site": site_id, "ids": sorted(endpoint_ids)})
    return {row.id: _endpoint(row) for row in found}


def numbering(site_id: int, last_sequences: Mapping[str, int]) -> Update:
    """Return the change of the last number that each of these locked endpoints has given to a delivery."""
    rows = [
        {"site_id": site_id, "id": endpoint_id, "last_sequence": number}
        for endpoint_id, number in sorted(last_sequences.items())
    ]
    return Update(table=endpoints, keys=("site_id", "id"), rows=rows)


def standing(site_id: int, rows: Iterable[EndpointRow]) -> Update:
    """Return the change of how these locked endpoints answered lately and what they were sent."""
    changed = [{"site_id": site_id, "id": row.id, **_standing(row)} for row in rows]
    return Update(table=endpoints, keys=("site_id", "id"), rows=changed)


def put_subscription(conn: Connection, site_id: int, endpoint_id: str, version: Subscription, now_us: int) -> None:
    """Store what is in force from a sequence on, in place of a version that no event has seen; the site is locked."""
    place = (
        subscriptions.c.site_id == site_id,
        subscriptions.c.endpoint_id == endpoint_id,
        subscriptions.c.from_sequence == version.from_sequence,
    )
    conn.execute(delete(subscriptions).where(*place))
    conn.execute(
        insert(subscriptions).values(
            site_id=site_id,
            endpoint_id=endpoint_id,
            from_sequence=version.from_sequence,
            event_types=list(version.event_types),
            filter=None if version.filter is None else msgspec.to_builtins(version.filter),
            status=version.status,
            created_at=now_us,
        ),
    )


def change_standing(
    conn: Connection,
    site_id: int,
    row: EndpointRow,
    *,
    status: str,
    reason: str | None,
    head: int,
    now_us: int,
) -> EndpointRow:
    """Give a locked endpoint another status from the feed's head on, whose site is locked too; return its new row."""
    changed = replace(row, status=status, status_reason=reason, lock_version=row.lock_version + 1, updated_at=now_us)
    save_endpoint(conn, site_id, changed)
    put_subscription(conn, site_id, row.id, subscription_of(changed, head), now_us)
    return changed


def subscription_of(row: EndpointRow, head: int) -> Subscription:
    """Return what an endpoint subscribes to from the event after the head on."""
    return Subscription(
        from_sequence=head + 1,
        event_types=row.event_types,
        filter=row.filter,
        status=cast("Status", row.status),
    )


def read_subscriptions(conn: Connection, site_id: int, first: int, last: int) -> dict[str, list[Subscription]]:
    """Return, by endpoint and ascending, the versions that are in force somewhere from `first` to `last`."""
    found: dict[str, list[Subscription]] = {}
    for row in conn.execute(_IN_FORCE, {"site": site_id, "first": first, "last": last}):
        version = Subscription(
            from_sequence=row.from_sequence,
            event_types=tuple(row.event_types),
            filter=_filter(row.filter),
            status=row.status,
        )
        found.setdefault(row.endpoint_id, []).append(version)
    return found


def _filter(stored: Any) -> Filter | None:
    return None if stored is None else msgspec.convert(stored, Filter)


def _present(site_id: int) -> ColumnElement[bool]:
    return and_(endpoints.c.site_id == site_id, endpoints.c.status != _DELETED)


def _changeable(row: EndpointRow) -> dict[str, Any]:
    return {
        "url": row.url,
        "description": row.description,
        "metadata": row.metadata,
        "event_types": list(row.event_types),
        "filter": None if row.filter is None else msgspec.to_builtins(row.filter),
        "form": msgspec.to_builtins(row.form),
        "header_names": list(row.header_names),
        "headers_sealed": row.headers_sealed,
        "tls": None if row.tls is None else msgspec.to_builtins(row.tls),
        "tls_key_sealed": row.tls_key_sealed,
        "secrets": [
            {
                "sealed": base64.b64encode(one.sealed).decode(),
                "expires_at": one.expires_at,
                "version": one.version,
                "public": one.public,
            }
            for one in row.secrets
        ],
        "timeout_s": row.timeout_s,
        "max_in_flight": row.max_in_flight,
        "ordering": row.ordering,
        "ordering_key": row.ordering_key,
        "on_exhausted": row.on_exhausted,
        "rate_limit": row.rate_limit,
        "disable_after_s": row.disable_after_s,
        "retry_schedule": None if row.retry_schedule is None else list(row.retry_schedule),
        "status": row.status,
        "status_reason": row.status_reason,
        "last_sequence": row.last_sequence,
        "lock_version": row.lock_version,
        "updated_at": row.updated_at,
        **_standing(row),
    }


def _standing(row: EndpointRow) -> dict[str, Any]:
    return {
        "failing_since": row.failing_since,
        "exhausted_since": row.exhausted_since,
        "warned": row.warned,
        "circuit_window": row.circuit.window,
        "circuit_strikes": row.circuit.strikes,
        "circuit_trips": row.circuit.trips,
        "circuit_opened_at": row.circuit.opened_at,
        "circuit_probe_at": row.circuit.probe_at,
        "ordering_from": row.ordering_from,
        "passed_over": row.passed_over,
        "rate_next_at": row.rate_next_at,
    }


def _endpoint(row: Row[*tuple[Any, ...]]) -> EndpointRow:
    fields = row._mapping  # noqa: SLF001 - SQLAlchemy's public name for a row by its column names
    schedule: Sequence[int] | None = fields["retry_schedule"]
    sealed = fields["headers_sealed"]
    return EndpointRow(
        id=fields["id"],
        url=fields["url"],
        description=fields["description"],
        metadata=fields["metadata"],
        event_types=tuple(fields["event_types"]),
        filter=_filter(fields["filter"]),
        form=msgspec.convert(fields["form"], Form),
        header_names=tuple(fields["header_names"]),
        headers_sealed=None if sealed is None else bytes(sealed),
        tls=None if fields["tls"] is None else msgspec.convert(fields["tls"], Identity),
        tls_key_sealed=None if fields["tls_key_sealed"] is None else bytes(fields["tls_key_sealed"]),
        secrets=tuple(StoredSecret(**{**one, "sealed": base64.b64decode(one["sealed"])}) for one in fields["secrets"]),
        timeout_s=fields["timeout_s"],
        max_in_flight=fields["max_in_flight"],
        ordering=fields["ordering"],
        ordering_key=fields["ordering_key"],
        on_exhausted=fields["on_exhausted"],
        rate_limit=fields["rate_limit"],
        disable_after_s=fields["disable_after_s"],
        retry_schedule=None if schedule is None else tuple(schedule),
        status=fields["status"],
        status_reason=fields["status_reason"],
        last_sequence=fields["last_sequence"],
        failing_since=fields["failing_since"],
        exhausted_since=fields["exhausted_since"],
        warned=fields["warned"],
        circuit=Circuit(
            window=fields["circuit_window"],
            strikes=fields["circuit_strikes"],
            trips=fields["circuit_trips"],
            opened_at=fields["circuit_opened_at"],
            probe_at=fields["circuit_probe_at"],
        ),
        ordering_from=fields["ordering_from"],
        passed_over=fields["passed_over"],
        rate_next_at=fields["rate_next_at"],
        lock_version=fields["lock_version"],
        created_at=fields["created_at"],
        updated_at=fields["updated_at"],
    )
