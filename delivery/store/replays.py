"""Replays and their parts as SQL. A replay's row is locked before endpoints; what its parts count is only ever added to."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from sqlalchemy import Connection, and_, exists, func, insert, literal, select
from sqlalchemy.engine import Row

from delivery.rows import DeliveryRow, ReplayPart, ReplayRow
from delivery.schema import LANE_AGAIN, LANE_IN_FLIGHT, deliveries, replay_parts, replays
from delivery.store.deliveries import COLUMNS, delivery_of
from delivery.store.filters import Wanted, matching
from engine.listing import beyond, ordered
from engine.schema import events
from engine.sql import Insert, Update, among, insert_rows, write

_REPLAY: Final = select(*(column for column in replays.c if column.name != "site_id"))
_PART: Final = tuple(column for column in replay_parts.c if column.name != "site_id")
_PART_KEYS: Final = ("site_id", "replay_id", "endpoint_id")
_COUNTS: Final = ("total", "queued", "delivered", "failed", "skipped")
_NUMBERS: Final = ("position", "until", *_COUNTS)
_FINAL: Final = frozenset({"delivered", "exhausted", "skipped"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """What of a selection belongs to one endpoint: how many deliveries, and between which endpoint sequences."""

    total: int
    first: int
    last: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """By how much a part's counts change."""

    queued: int = 0
    delivered: int = 0
    failed: int = 0
    skipped: int = 0


def insert_replay(conn: Connection, site_id: int, row: ReplayRow, parts: Sequence[ReplayPart]) -> None:
    """Add a replay with its parts."""
    conn.execute(insert(replays).values(site_id=site_id, **asdict(row)))
    insert_rows(conn, replay_parts, [{"site_id": site_id, **_part_values(part)} for part in parts])


def replaying(site_id: int, row: ReplayRow) -> Update:
    """Return the change of what may have changed about a replay; its row is locked."""
    changed = {
        "site_id": site_id,
        "id": row.id,
        "status": row.status,
        "due_at": row.due_at,
        "lock_version": row.lock_version,
        "updated_at": row.updated_at,
    }
    return Update(table=replays, keys=("site_id", "id"), rows=[changed])


def save_replay(conn: Connection, site_id: int, row: ReplayRow) -> None:
    """Store what may have changed about a replay; its row is locked."""
    write(conn, [replaying(site_id, row)])


def find_replay(conn: Connection, site_id: int, replay_id: str, *, lock: bool = False) -> ReplayRow | None:
    """Return a replay, its row locked where that is asked for."""
    query = _REPLAY.where(replays.c.site_id == site_id, replays.c.id == replay_id)
    row = conn.execute(query.with_for_update() if lock else query).first()
    return None if row is None else _replay(row)


def page_replays(
    conn: Connection, site_id: int, *, limit: int, before: str | None, ascending: bool = False
) -> list[ReplayRow]:
    """Return replays, the newest first or the oldest, after the one named by `before`."""
    query = _REPLAY.where(replays.c.site_id == site_id, *beyond(replays.c.id, before, ascending=ascending))
    query = query.order_by(ordered(replays.c.id, ascending=ascending)).limit(limit)
    return [_replay(row) for row in conn.execute(query)]


def take_due(conn: Connection, site_id: int, now_us: int) -> ReplayRow | None:
    """Lock the running replay whose step is due longest, and return it; one that another process has is passed over."""
    query = (
        _REPLAY.where(replays.c.site_id == site_id, _running(), replays.c.due_at <= now_us)
        .order_by(replays.c.due_at)
        .limit(1)
        .with_for_update(skip_locked=True)
    )
    row = conn.execute(query).first()
    return None if row is None else _replay(row)


def take_waiting(conn: Connection, site_id: int, replay_ids: Collection[str], longer_than: int) -> ReplayRow | None:
    """Lock one of these replays whose next step is due later than an instant, and return it."""
    query = (
        _REPLAY.where(replays.c.site_id == site_id, among(replays.c.id, sorted(replay_ids)))
        .where(_running(), replays.c.due_at > longer_than)
        .limit(1)
        .with_for_update(skip_locked=True)
    )
    row = conn.execute(query).first()
    return None if row is None else _replay(row)


def next_step(conn: Connection, site_id: int, but: str | None = None) -> int | None:
    """Return when (micros) the next step of a running replay is due, of all or all but one; None where none runs."""
    query = select(func.min(replays.c.due_at)).where(replays.c.site_id == site_id, _running())
    query = query if but is None else query.where(replays.c.id != but)
    return conn.execute(query).scalar()


def read_parts(
    conn: Connection, site_id: int, replay_id: str, endpoint_ids: Sequence[str] | None = None
) -> list[ReplayPart]:
    """Return the parts of a replay that still have something to look at, of some endpoints or of all."""
    query = (
        select(*_PART)
        .where(replay_parts.c.site_id == site_id, replay_parts.c.replay_id == replay_id)
        .where(replay_parts.c.position < replay_parts.c.until)
        .order_by(replay_parts.c.endpoint_id)
    )
    if endpoint_ids is not None:
        query = query.where(among(replay_parts.c.endpoint_id, endpoint_ids))
    return [_part(row) for row in conn.execute(query)]


def moving(
    site_id: int,
    before: Sequence[ReplayPart],
    after: Sequence[ReplayPart],
    left: Mapping[tuple[str, str], Change],
) -> Insert:
    """Return the change of where parts stand and what they count; their replay is locked, so nobody else moves them.

    `left` is what other replays have left to this one: in the same statement, because others lock parts in one order.
    """
    names = ("position", "total", "queued", "skipped")
    moved = {
        (now.replay_id, now.endpoint_id): {name: getattr(now, name) - getattr(then, name) for name in names}
        for then, now in zip(before, after, strict=True)
    }
    for place, change in left.items():
        there = moved.setdefault(place, dict.fromkeys(names, 0))
        moved[place] = there | {name: there.get(name, 0) + by for name, by in asdict(change).items()}
    return _adding(site_id, moved)


def sum_parts(conn: Connection, site_id: int, replay_ids: Sequence[str]) -> dict[str, ReplayPart]:
    """Return the parts of each replay added up, as one part."""
    sums = [func.sum(replay_parts.c[name]).label(name) for name in _COUNTS]
    query = (
        select(replay_parts.c.replay_id, *sums)
        .where(replay_parts.c.site_id == site_id, among(replay_parts.c.replay_id, replay_ids))
        .group_by(replay_parts.c.replay_id)
    )
    return {
        row.replay_id: ReplayPart(
            replay_id=row.replay_id,
            endpoint_id="",
            position=0,
            until=0,
            numbers=None,
            **{name: int(getattr(row, name)) for name in _COUNTS},
        )
        for row in conn.execute(query)
    }


def counting(site_id: int, changes: Mapping[tuple[str, str], Change]) -> Insert:
    """Return the change that adds to the counts of parts, by replay and endpoint."""
    return _adding(site_id, {place: asdict(change) for place, change in changes.items()})


def counting_outcomes(site_id: int, rows: Iterable[DeliveryRow]) -> Insert:
    """Return the change that counts for their replays those of the deliveries that have just come to an end."""
    delivered: dict[tuple[str, str], int] = {}
    failed: dict[tuple[str, str], int] = {}
    for row in rows:
        if row.replay_id is not None and row.state in _FINAL:
            counted = delivered if row.state == "delivered" else failed
            place = row.replay_id, row.endpoint_id
            counted[place] = counted.get(place, 0) + 1
    return counting(
        site_id,
        {
            place: Change(delivered=delivered.get(place, 0), failed=failed.get(place, 0))
            for place in {*delivered, *failed}
        },
    )


def count_abandoned(conn: Connection, site_id: int, endpoint_id: str) -> None:
    """Count as failed what replays have waiting at a locked endpoint that is about to be skipped; nothing in flight."""
    query = (
        select(deliveries.c.replay_id, func.count())
        .where(
            deliveries.c.site_id == site_id,
            deliveries.c.endpoint_id == endpoint_id,
            deliveries.c.due_at.is_not(None),
            deliveries.c.lane != LANE_IN_FLIGHT,
            deliveries.c.replay_id.is_not(None),
        )
        .group_by(deliveries.c.replay_id)
    )
    changes = {(row[0], endpoint_id): Change(failed=row[1]) for row in conn.execute(query)}
    write(conn, [counting(site_id, changes)])


def count_wanted(conn: Connection, site_id: int, wanted: Wanted) -> dict[str, Share]:
    """Return how many deliveries match, by endpoint."""
    number = deliveries.c.endpoint_sequence
    query = (
        select(deliveries.c.endpoint_id, func.count(), func.min(number), func.max(number))
        .where(*matching(site_id, wanted))
        .group_by(deliveries.c.endpoint_id)
    )
    return {row[0]: Share(total=row[1], first=row[2], last=row[3]) for row in conn.execute(query)}


def count_unnumbered(
    conn: Connection, site_id: int, endpoint_id: str, types: Sequence[str], after: int, until: int
) -> int:
    """Return how many events of some types, after one sequence and up to another, have no delivery for the endpoint."""
    numbered = exists().where(
        deliveries.c.site_id == events.c.site_id,
        deliveries.c.sequence == events.c.sequence,
        deliveries.c.endpoint_id == endpoint_id,
    )
    query = select(func.count()).where(
        events.c.site_id == site_id,
        events.c.sequence > after,
        events.c.sequence <= until,
        among(events.c.type, types),
        ~numbered,
    )
    return int(conn.execute(query).scalar_one())


def read_numbered(conn: Connection, site_id: int, endpoint_id: str, sequences: Sequence[int]) -> set[int]:
    """Return which of these events have a delivery for the endpoint."""
    query = select(deliveries.c.sequence).where(
        deliveries.c.site_id == site_id,
        deliveries.c.endpoint_id == endpoint_id,
        among(deliveries.c.sequence, sequences),
    )
    return set(conn.execute(query).scalars())


def read_share(
    conn: Connection, site_id: int, wanted: Wanted, *, after: int, until: int, limit: int
) -> list[DeliveryRow]:
    """Return an endpoint's deliveries that match, by endpoint sequence after one number and up to another."""
    number = deliveries.c.endpoint_sequence
    query = (
        select(*COLUMNS)
        .where(and_(*matching(site_id, wanted)), number > after, number <= until)
        .order_by(number)
        .limit(limit)
    )
    return [delivery_of(row) for row in conn.execute(query)]


def read_numbers(conn: Connection, site_id: int, endpoint_id: str, numbers: Sequence[int]) -> list[DeliveryRow]:
    """Return an endpoint's deliveries with these endpoint sequences, in their order."""
    query = (
        select(*COLUMNS)
        .where(deliveries.c.site_id == site_id, deliveries.c.endpoint_id == endpoint_id)
        .where(among(deliveries.c.endpoint_sequence, numbers))
        .order_by(deliveries.c.endpoint_sequence)
    )
    return [delivery_of(row) for row in conn.execute(query)]


def count_backlog(conn: Connection, site_id: int, endpoint_id: str, now_us: int, most: int) -> int:
    """Return how much of what is to be sent again is due at an endpoint, counted up to `most`."""
    due = (
        select(literal(1))
        .where(
            deliveries.c.site_id == site_id,
            deliveries.c.endpoint_id == endpoint_id,
            deliveries.c.lane == LANE_AGAIN,
            deliveries.c.due_at.is_not(None),
            deliveries.c.due_at <= now_us,
        )
        # In the order of the one index that finds a lane; any other would lead through all that the endpoint ever had.
        .order_by(deliveries.c.due_at)
        .limit(most)
        .subquery()
    )
    return int(conn.execute(select(func.count()).select_from(due)).scalar_one())


def _adding(site_id: int, changes: Mapping[tuple[str, str], Mapping[str, int]]) -> Insert:
    """Return the change that adds to the numbers of parts that are there, in one order, because their endpoints need not be locked."""
    rows = [
        {"site_id": site_id, "replay_id": replay_id, "endpoint_id": endpoint_id, **dict.fromkeys(_NUMBERS, 0), **change}
        for (replay_id, endpoint_id), change in sorted(changes.items())
    ]
    return Insert(table=replay_parts, rows=rows, adds_to=_PART_KEYS)


def _running() -> Any:
    # Written out, not bound: a partial index is only considered for a value that the planner can see.
    return replays.c.status == literal("running", literal_execute=True)


def _part_values(part: ReplayPart) -> dict[str, Any]:
    return {**asdict(part), "numbers": None if part.numbers is None else list(part.numbers)}


def _replay(row: Row[*tuple[Any, ...]]) -> ReplayRow:
    values = dict(row._mapping)  # noqa: SLF001 - SQLAlchemy's public name for a row by its column names
    return ReplayRow(**{**values, "selection": bytes(values["selection"])})


def _part(row: Row[*tuple[Any, ...]]) -> ReplayPart:
    values = dict(row._mapping)  # noqa: SLF001 - see above
    numbers = values["numbers"]
    return ReplayPart(**{**values, "numbers": None if numbers is None else tuple(numbers)})
