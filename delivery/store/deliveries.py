"""Deliveries and attempts as SQL: the relay's new rows, what the log shows, what a replay or a removal changes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from msgspec.structs import replace
from sqlalchemy import ColumnElement, Connection, and_, bindparam, delete, exists, literal, select, tuple_, update
from sqlalchemy.dialects.postgresql import insert as insert_postgresql
from sqlalchemy.dialects.sqlite import insert as insert_sqlite
from sqlalchemy.engine import Row

from delivery.rows import AttemptRow, DeliveryRow
from delivery.schema import LANE_AGAIN, LANE_IN_FLIGHT, LANE_PING, attempts, deliveries, endpoints, relays
from delivery.store.endpoints import numbering
from delivery.store.filters import Wanted, few, first_id, matching
from engine.fences import Held
from engine.lookups import in_order, lookup
from engine.schema import events
from engine.sql import Change, Insert, Update, among, write

COLUMNS: Final = tuple(column for column in deliveries.c if column.name != "site_id")
_COLUMN_NAMES: Final = tuple(column.name for column in COLUMNS)
_DELIVERY_NAMES: Final = DeliveryRow.__struct_fields__
_ATTEMPT_NAMES: Final = AttemptRow.__struct_fields__
_LEASED_NAMES: Final = tuple(
    "id state reason attempts trigger due_at lane generation claimed_at updated_at".split(),
)
_SETTLED_NAMES: Final = tuple(
    "id state reason failures trigger due_at lane claimed_at delivered_at last_status last_error updated_at".split(),
)
_CHANGED_NAMES: Final = tuple(
    (
        "id state reason attempts failures trigger due_at lane generation claimed_at delivered_at "
        "last_status last_error replay_id waits_for updated_at"
    ).split(),
)


_BY_ID: Final = lookup(COLUMNS, deliveries.c.id)
_IN_FLIGHT: Final = lookup(
    (deliveries.c.id, deliveries.c.generation), deliveries.c.id, deliveries.c.state == literal("in_flight")
)
# Made once: to make a statement, and what it is found again by, costs more than to run it.
_TAKE_RELAY: Final = (
    select(relays.c.position).where(relays.c.site_id == bindparam("site")).with_for_update(skip_locked=True)
)


def delivery_of(row: Row[*tuple[Any, ...]]) -> DeliveryRow:
    """Return the delivery that a row over COLUMNS holds."""
    return DeliveryRow(**dict(zip(_COLUMN_NAMES, row, strict=True)))


def take_relay(conn: Connection, site_id: int, now_us: int) -> int | None:
    """Lock the site's relay and return its position; None while another process has it. Made at 0 on first use."""
    position = conn.execute(_TAKE_RELAY, {"site": site_id}).scalar()
    if position is not None:
        return int(position)
    upsert = insert_postgresql if conn.dialect.name == "postgresql" else insert_sqlite
    made = conn.execute(
        upsert(relays).values(site_id=site_id, position=0, updated_at=now_us).on_conflict_do_nothing(),
    )
    return 0 if made.rowcount == 1 else None


def read_position(conn: Connection, site_id: int) -> int:
    """Return the sequence up to which the feed was turned into deliveries."""
    return conn.execute(select(relays.c.position).where(relays.c.site_id == site_id)).scalar() or 0


def move_relay(
    conn: Connection,
    site_id: int,
    rows: Sequence[DeliveryRow],
    position: int,
    now_us: int,
    along: Sequence[Change] = (),
) -> None:
    """Add a page's deliveries, the last number that each endpoint has given then, and how far the relay has come, in one statement.

    The relay's row is locked, and so are the endpoints. `along` is what else is written with them.
    """
    last = {row.endpoint_id: row.endpoint_sequence for row in rows}
    write(
        conn,
        [
            adding(site_id, rows),
            numbering(site_id, last),
            Update(
                table=relays,
                keys=("site_id",),
                rows=[{"site_id": site_id, "position": position, "updated_at": now_us}],
            ),
            *along,
        ],
    )


def adding(site_id: int, rows: Iterable[DeliveryRow]) -> Insert:
    """Return the change that adds deliveries."""
    return Insert(table=deliveries, rows=[{"site_id": site_id, **_values(row, _DELIVERY_NAMES)} for row in rows])


def leasing(site_id: int, rows: Iterable[DeliveryRow]) -> Update:
    """Return the change of deliveries that were claimed or given back; their endpoints are locked."""
    return _changing(site_id, rows, _LEASED_NAMES)


def settling(site_id: int, rows: Iterable[DeliveryRow]) -> Update:
    """Return the change of deliveries whose attempts are over; they are leased to who made these."""
    return _changing(site_id, rows, _SETTLED_NAMES)


def requeueing(site_id: int, rows: Iterable[DeliveryRow]) -> Update:
    """Return the change of everything about deliveries that may change; their endpoints are locked."""
    return _changing(site_id, rows, _CHANGED_NAMES)


def recording(site_id: int, made: Iterable[AttemptRow]) -> Insert:
    """Return the change that adds attempts."""
    return Insert(table=attempts, rows=[{"site_id": site_id, **_values(row, _ATTEMPT_NAMES)} for row in made])


def _changing(site_id: int, rows: Iterable[DeliveryRow], names: Sequence[str]) -> Update:
    changed = [{"site_id": site_id, **_values(row, names)} for row in sorted(rows, key=lambda row: row.id)]
    return Update(table=deliveries, keys=("site_id", "id"), rows=changed)


def read_leased(conn: Connection, site_id: int, delivery_ids: Sequence[str]) -> dict[str, int]:
    """Return which of these deliveries are in flight, each with the generation of its lease; their endpoints are locked.

    Nobody changes a delivery that is in flight but its last claimer: with that generation it still is as it was claimed.
    """
    return {row.id: row.generation for row in _IN_FLIGHT.rows(conn, site_id, delivery_ids)}


def still_leased(site_id: int, rows: Iterable[DeliveryRow]) -> Held:
    """Return that these deliveries are in flight, each with the lease that it was claimed with; see `read_leased`.

    In the order of ids, as whoever takes leases over locks them.
    """
    leases = [{"id": row.id, "generation": row.generation} for row in sorted(rows, key=lambda row: row.id)]
    return Held(table=deliveries, equal={"site_id": site_id, "state": "in_flight"}, key="id", rows=leases)


def update_deliveries(conn: Connection, site_id: int, rows: Iterable[DeliveryRow]) -> None:
    """Store what may change about deliveries, in one statement; their endpoints are locked."""
    write(conn, [requeueing(site_id, rows)])


def skip_waiting(conn: Connection, site_id: int, endpoint_id: str, reason: str, now_us: int) -> int:
    """Skip everything of an endpoint that waits and is not in flight; return how many rows that were."""
    statement = (
        update(deliveries)
        .where(
            deliveries.c.site_id == site_id,
            deliveries.c.endpoint_id == endpoint_id,
            deliveries.c.due_at.is_not(None),
            deliveries.c.lane != LANE_IN_FLIGHT,
        )
        .values(state="skipped", reason=reason, due_at=None, updated_at=now_us)
    )
    return conn.execute(statement).rowcount


def unpark_pings(conn: Connection, site_id: int, endpoint_id: str) -> None:
    """Let pings that were not needed go like anything else."""
    conn.execute(
        update(deliveries)
        .where(
            deliveries.c.site_id == site_id,
            deliveries.c.endpoint_id == endpoint_id,
            deliveries.c.lane == LANE_PING,
            deliveries.c.due_at.is_not(None),
        )
        .values(lane=LANE_AGAIN),
    )


def find_delivery(conn: Connection, site_id: int, delivery_id: str) -> DeliveryRow | None:
    """Return a delivery."""
    query = select(*COLUMNS).where(deliveries.c.site_id == site_id, deliveries.c.id == delivery_id)
    row = conn.execute(query).first()
    return None if row is None else delivery_of(row)


def find_deliveries(conn: Connection, site_id: int, delivery_ids: Sequence[str]) -> dict[str, DeliveryRow]:
    """Return the deliveries with these ids."""
    return {row.id: delivery_of(row) for row in _BY_ID.rows(conn, site_id, delivery_ids)}


def page_deliveries(
    conn: Connection,
    site_id: int,
    wanted: Wanted,
    *,
    limit: int,
    after: int | None = None,
    before: str | None = None,
) -> list[DeliveryRow]:
    """Return deliveries that match; `before` is the id of the last one of the page before.

    With an endpoint and `after`: those with a larger endpoint sequence, ascending. Else the newest first: by id; by the
    event where a type, an event or a correlation id is asked for, whose events are found by an index; by number where only
    an endpoint is.
    """
    query = select(*COLUMNS).where(*matching(site_id, wanted)).limit(limit)
    number = deliveries.c.endpoint_sequence
    if wanted.endpoint_id is not None and after is not None:
        query = query.where(number > after).order_by(number)
    elif wanted.event_id is not None or wanted.correlation_id is not None:
        place = deliveries.c.sequence, deliveries.c.endpoint_id
        query = query.order_by(*(column.desc() for column in place))
        query = query if before is None else query.where(tuple_(*place) < _of(site_id, before, *place))
    elif few(wanted) or (wanted.endpoint_id is None and wanted.event_types is None):
        query = query.order_by(deliveries.c.id.desc())
        query = query if before is None else query.where(deliveries.c.id < before)
    elif wanted.event_types is not None:
        place = deliveries.c.sequence, deliveries.c.endpoint_id
        found = and_(events.c.site_id == deliveries.c.site_id, events.c.sequence == deliveries.c.sequence)
        query = query.join(events, found).where(events.c.site_id == site_id, among(events.c.type, wanted.event_types))
        query = query.order_by(events.c.sequence.desc(), deliveries.c.endpoint_id.desc())
        if before is not None:
            query = query.where(tuple_(*place) < _of(site_id, before, *place))
    else:
        query = query.order_by(number.desc())
        query = query if before is None else query.where(number < _of(site_id, before, number))
    return [delivery_of(row) for row in conn.execute(query)]


def _of(site_id: int, delivery_id: str, *columns: ColumnElement[Any]) -> Any:
    """Return what a delivery has in these columns, as a value in a statement."""
    listed = deliveries.alias("listed")
    query = select(*(listed.c[column.name] for column in columns))
    return query.where(listed.c.site_id == site_id, listed.c.id == delivery_id).scalar_subquery()


def read_attempts(conn: Connection, site_id: int, delivery_id: str) -> list[AttemptRow]:
    """Return the attempts of a delivery in order."""
    columns = [column for column in attempts.c if column.name != "site_id"]
    query = (
        select(*columns)
        .where(attempts.c.site_id == site_id, attempts.c.delivery_id == delivery_id)
        .order_by(attempts.c.number)
    )
    rows = [AttemptRow(**row._mapping) for row in conn.execute(query)]  # noqa: SLF001 - SQLAlchemy's public name for a row by its column names
    return [
        replace(
            row,
            request=None if row.request is None else bytes(row.request),
            response=None if row.response is None else bytes(row.response),
            timings=None if row.timings is None else bytes(row.timings),
        )
        for row in rows
    ]


def forget_attempts(conn: Connection, site_id: int, older_than: int, limit: int) -> int:
    """Remove attempts that began before an instant, at most so many, of deliveries that are finished; return how many.

    Deliveries stay for ever, and say what came of their last attempt.
    """
    finished = exists().where(
        deliveries.c.site_id == attempts.c.site_id,
        deliveries.c.id == attempts.c.delivery_id,
        deliveries.c.due_at.is_(None),
    )
    old = (
        select(attempts.c.delivery_id, attempts.c.number)
        .where(
            attempts.c.site_id == site_id,
            # Ids begin with the time of their row: a delivery made later has no attempt from before.
            attempts.c.delivery_id < first_id(older_than),
            attempts.c.at < older_than,
            finished,
        )
        .order_by(attempts.c.delivery_id, attempts.c.number)
        .limit(limit)
    )
    place = tuple_(attempts.c.delivery_id, attempts.c.number)
    return conn.execute(delete(attempts).where(attempts.c.site_id == site_id, place.in_(old))).rowcount


def next_due(conn: Connection, site_id: int) -> list[tuple[str, int]]:
    """Return each endpoint that has something waiting and when (micros) the first of it is due.

    For an endpoint that is not active only leases count, and a ping: what else it has waits for it to be active again. Where the
    circuit is open nothing is due before its next probe.
    """

    def first(lane: int) -> Any:
        return (
            select(deliveries.c.due_at)
            .where(
                deliveries.c.site_id == endpoints.c.site_id,
                deliveries.c.endpoint_id == endpoints.c.id,
                deliveries.c.lane == lane,
                deliveries.c.due_at.is_not(None),
            )
            .order_by(deliveries.c.due_at, deliveries.c.endpoint_sequence)
            .limit(1)
            .scalar_subquery()
        )

    query = select(
        endpoints.c.id, endpoints.c.status, endpoints.c.circuit_probe_at, first(0), first(1), first(2), first(4)
    ).where(endpoints.c.site_id == site_id)
    found = []
    with in_order(conn):
        rows = conn.execute(query).all()
    for endpoint_id, status, probe_at, *times in rows:
        lanes = {"active": (0, 1, 2), "enabling": (0, 3)}.get(status, (0,))
        counted = [at for at in (times[lane] for lane in lanes) if at is not None]
        if counted:
            rests_until = probe_at or 0 if status == "active" else 0
            found.append((endpoint_id, max(min(counted), rests_until)))
    return found


def _values(row: DeliveryRow | AttemptRow, names: Sequence[str]) -> dict[str, Any]:
    return {name: getattr(row, name) for name in names}
