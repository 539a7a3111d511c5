"""Order at an endpoint: what waits for its turn is parked, and goes the moment the one before it is finished.

A delivery of an ordered endpoint holds its keys from the relay until it is finished; `waits_for` counts the keys that an
earlier one holds too. Everything here happens under the lock of the endpoint's row. A replay of what is finished stands outside
this order; one of many has the same order in itself, by keys of its own.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache

from msgspec import structs
from sqlalchemy import Connection

from delivery.order_keys import order_keys, own_keys
from delivery.rows import DeliveryRow, EndpointRow
from delivery.schema import LANE_AGAIN, LANE_FIRST, LANE_PARKED
from delivery.store import order as store
from delivery.store.deliveries import find_deliveries, update_deliveries
from delivery.store.order import Held
from engine import feed
from engine.events import FeedEvent
from engine.filters import About, about

PARALLEL = "parallel"
ORDERED = "ordered"


def park(
    conn: Connection,
    site_id: int,
    rows: Sequence[DeliveryRow],
    events: Mapping[int, FeedEvent],
    locked: Mapping[str, EndpointRow],
) -> list[DeliveryRow]:
    """Return new deliveries, parked where they wait for others, and note the keys they hold."""
    # An event that goes to several endpoints is read once.
    abouts: dict[int, Callable[[], About]] = {}
    keys: dict[str, frozenset[str]] = {}
    by_endpoint: dict[str, list[DeliveryRow]] = defaultdict(list)
    for row in rows:
        endpoint = locked[row.endpoint_id]
        if endpoint.ordering == PARALLEL or row.due_at is None:
            continue
        ask = abouts.setdefault(row.sequence, _asker(events[row.sequence]))
        keys[row.id] = order_keys(endpoint.ordering, endpoint.ordering_key, ask)
        by_endpoint[endpoint.id].append(row)
    waits: dict[str, int] = {}
    for endpoint_id, several in by_endpoint.items():
        waits |= _hold(conn, site_id, endpoint_id, several, keys)
    return [
        structs.replace(row, lane=LANE_PARKED, waits_for=waits[row.id]) if waits.get(row.id) else row for row in rows
    ]


def park_again(
    conn: Connection, site_id: int, rows: Sequence[DeliveryRow], endpoint: EndpointRow, replay_id: str
) -> list[DeliveryRow]:
    """Return what a replay sends again, in its order, parked where it waits for others of this replay; and for nothing else."""
    if endpoint.ordering == PARALLEL or not rows:
        return list(rows)
    looks = endpoint.ordering != ORDERED
    events = feed.read_bodies(conn, site_id, [row.sequence for row in rows]) if looks else {}
    keys = {
        row.id: own_keys(replay_id, order_keys(endpoint.ordering, endpoint.ordering_key, _asker_of(events, row)))
        for row in rows
    }
    waits = _hold(conn, site_id, endpoint.id, rows, keys)
    return [structs.replace(row, lane=LANE_PARKED, waits_for=waits[row.id]) if waits[row.id] else row for row in rows]


def _hold(
    conn: Connection,
    site_id: int,
    endpoint_id: str,
    rows: Sequence[DeliveryRow],
    keys: Mapping[str, frozenset[str]],
) -> dict[str, int]:
    """Note the keys that deliveries hold from now on; return how many of its keys each has to wait for."""
    held = set(store.first_holders(conn, site_id, endpoint_id, frozenset[str]().union(*(keys[row.id] for row in rows))))
    waits: dict[str, int] = {}
    noted: list[Held] = []
    for row in rows:
        waits[row.id] = len(keys[row.id] & held)
        held |= keys[row.id]
        noted += [
            Held(key=key, endpoint_sequence=row.endpoint_sequence, delivery_id=row.id) for key in sorted(keys[row.id])
        ]
    store.insert_keys(conn, site_id, endpoint_id, noted)
    return waits


def release(
    conn: Connection, site_id: int, endpoint_id: str, delivery_ids: Sequence[str], now_us: int
) -> frozenset[str]:
    """Let go what waited for these finished deliveries; return which of them held a key."""
    taken = store.take_keys(conn, site_id, endpoint_id, delivery_ids)
    if not taken:
        return frozenset()
    earliest: dict[str, int] = {}
    for one in taken:
        earliest[one.key] = min(one.endpoint_sequence, earliest.get(one.key, one.endpoint_sequence))
    heads = store.first_holders(conn, site_id, endpoint_id, earliest)
    # One that stands before what was taken has its key already: what was taken stood in the middle.
    freed = Counter(head.delivery_id for key, head in heads.items() if head.endpoint_sequence > earliest[key])
    rows = find_deliveries(conn, site_id, list(freed)).values()
    update_deliveries(conn, site_id, [_freed(row, freed[row.id], now_us) for row in rows])
    return frozenset(one.delivery_id for one in taken)


def reorder(conn: Connection, site_id: int, before: EndpointRow, after: EndpointRow, now_us: int) -> EndpointRow:
    """Return the endpoint as its changed options make it, and let go what no longer has to wait.

    What is numbered already goes on as it was ordered; what is numbered from now on waits until all of that is finished.
    """
    if after.ordering == PARALLEL:
        if before.ordering != PARALLEL:
            store.unpark_all(conn, site_id, after.id, now_us)
            store.forget_keys(conn, site_id, after.id)
        return replace(after, ordering_from=0)
    if before.on_exhausted == "block" and after.on_exhausted == "skip_and_flag":
        passed = store.read_blocking(conn, site_id, after.id)
        release(conn, site_id, after.id, passed, now_us)
        after = replace(after, passed_over=after.passed_over + len(passed))
    if (after.ordering, after.ordering_key) != (before.ordering, before.ordering_key):
        return replace(after, ordering_from=after.last_sequence)
    return after


def _freed(row: DeliveryRow, keys: int, now_us: int) -> DeliveryRow:
    left = row.waits_for - keys
    lane = LANE_FIRST if row.trigger == "scheduled" else LANE_AGAIN
    # It keeps the time from which it was due, so that what was numbered earlier goes earlier.
    return structs.replace(row, waits_for=left, lane=row.lane if left else lane, updated_at=now_us)


def _asker(event: FeedEvent) -> Callable[[], About]:
    return cache(lambda: about(event.body))


def _asker_of(events: Mapping[int, FeedEvent], row: DeliveryRow) -> Callable[[], About]:
    return lambda: about(events[row.sequence].body)
