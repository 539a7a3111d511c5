"""Claim: take what is due at some endpoints under a lease, in a transaction that holds those endpoints' locks.

Because every claim of an endpoint holds its lock, what is in flight is counted exactly, whoever claims. A lease that ran
out without being settled belongs to a process that died: its attempt is recorded as `interrupted`, takes nothing from the
endpoint's schedule, and the delivery is claimed again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Protocol

from msgspec import structs
from sqlalchemy import Connection

from delivery.bodies import Bodies
from delivery.pace import AHEAD_US, after_slot, free_slots
from delivery.rows import AttemptRow, DeliveryRow, EndpointRow
from delivery.schema import LANE_AGAIN, LANE_FIRST, LANE_IN_FLIGHT, LANE_PARKED, LANE_PING
from delivery.store.deliveries import leasing, recording
from delivery.store.leases import read_pings, read_waiting
from delivery.store.order import any_unfinished
from delivery.store.replays import counting_outcomes
from delivery.subscriptions import SKIPPED_DELETED
from engine.events import TEST_TYPE, FeedEvent
from engine.sql import Change

HEAD_START_US: Final = 10_000_000
"""How long a first attempt goes before one that is made again, at an endpoint too narrow to serve both."""

AGAIN_SHARE: Final = 4
"""One in so many places is for what is sent again while first attempts wait."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimed:
    """A delivery that is ours until its `due_at`, with what is needed to send it, `wait_us` after it was claimed."""

    delivery: DeliveryRow
    endpoint: EndpointRow
    event: FeedEvent
    wait_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What is claimed; endpoints with more due than they may have in flight; endpoints there was no free place for.

    `later` are endpoints that have more due than their rate allows now, and when (micros) to claim at them again.
    """

    claimed: list[Claimed]
    more: frozenset[str]
    unserved: list[str]
    later: dict[str, int]
    fresh: list[DeliveryRow]
    """The deliveries that were given, as they are now; these, the changes and the standings are to be stored."""
    changes: list[Change]
    standings: list[EndpointRow]


class Claims(Protocol):
    """Claims, in the transaction that queues deliveries, for whoever will send them."""

    def claim(
        self,
        conn: Connection,
        endpoint_ids: Collection[str],
        locked: Mapping[str, EndpointRow],
        fresh: Sequence[DeliveryRow],
        now_us: int,
    ) -> tuple[Claim | None, frozenset[str]]:
        """Return what is claimed at locked endpoints, of what they have and what is fresh, and those that were left out.

        The caller stores it.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """What one endpoint has: leases that live, leases that ran out, and what is due of the two lanes."""

    live: list[DeliveryRow]
    expired: list[DeliveryRow]
    first: list[DeliveryRow]
    again: list[DeliveryRow]

    @classmethod
    def sort(cls, rows: Sequence[DeliveryRow], now_us: int) -> Waiting:
        """Tell the rows apart, each kind in the order in which it is due."""
        ordered = sorted(rows, key=lambda row: (row.due_at or 0, row.endpoint_sequence))
        leased = [row for row in ordered if row.lane == LANE_IN_FLIGHT]
        return cls(
            live=[row for row in leased if (row.due_at or 0) > now_us],
            expired=[row for row in leased if (row.due_at or 0) <= now_us],
            first=[row for row in ordered if row.lane == LANE_FIRST],
            again=[row for row in ordered if row.lane == LANE_AGAIN],
        )

    def pick(self, limit: int, places: int) -> list[DeliveryRow]:
        """Return what to send now: first attempts before others, but never so that either kind waits for ever."""
        room = min(limit - len(self.live), places)
        if room <= 0:
            return []
        again = [*self.expired, *self.again]
        if limit < AGAIN_SHARE:
            late = sorted([*self.first, *again], key=lambda row: (row.due_at or 0) + HEAD_START_US * (row.attempts > 0))
            return late[:room]
        running = sum(row.attempts > 1 or row.trigger != "scheduled" for row in self.live)
        share = max(limit // AGAIN_SHARE - running, room - len(self.first), 0)
        taken = again[: min(share, room)]
        return [*self.first[: room - len(taken)], *taken]


def claim(
    conn: Connection,
    site_id: int,
    endpoint_ids: Sequence[str],
    locked: Mapping[str, EndpointRow],
    bodies: Bodies,
    *,
    now_us: int,
    free: int,
    settle_margin_us: int,
    fresh: Sequence[DeliveryRow] = (),
) -> Claim:
    """Claim what is due at endpoints that are locked, for at most `free` requests; the caller stores it in the same transaction.

    No endpoint gets more than a quarter of what is free, but always one. `fresh` are new deliveries of theirs that are to be stored
    with it.
    """
    now = _Round(now_us=now_us, free=free, settle_margin_us=settle_margin_us)
    asked = [locked[one] for one in endpoint_ids if one in locked and now.admits(locked[one])]
    waiting = read_waiting(conn, site_id, asked, now_us) if asked else {}
    due = _due(fresh, now_us)
    for endpoint in asked:
        if endpoint.status == "enabling":
            pings = [row for row in due[endpoint.id] if row.lane == LANE_PING]
            now.ping(endpoint, [*read_pings(conn, site_id, endpoint.id, now_us), *pings])
            continue
        rows = [*waiting[endpoint.id], *(row for row in due[endpoint.id] if row.lane != LANE_PING)]
        if endpoint.ordering_from and any_unfinished(conn, site_id, endpoint.id, endpoint.ordering_from):
            rows = _before_order(rows, endpoint)
        elif endpoint.ordering_from:
            endpoint = now.changed[endpoint.id] = replace(endpoint, ordering_from=0)  # noqa: PLW2901 - it is the same endpoint
        now.take(endpoint, Waiting.sort(rows, now_us))
    leased = {row.id: row for row in (*now.taken, *now.given_back)}
    after = [leased.pop(row.id, row) for row in fresh]
    events = bodies.read(conn, site_id, {row.sequence for row in now.taken}) if now.taken else {}
    return Claim(
        claimed=[
            Claimed(
                delivery=row,
                endpoint=locked[row.endpoint_id],
                event=events[row.sequence],
                wait_us=now.slots.get(row.id, now_us) - now_us,
            )
            for row in now.taken
        ],
        more=frozenset(now.more),
        unserved=now.unserved,
        later=now.later,
        fresh=after,
        changes=[
            leasing(site_id, leased.values()),
            counting_outcomes(site_id, now.given_back),
            recording(site_id, [_interrupted(row, now_us) for row in now.interrupted]),
        ],
        standings=list(now.changed.values()),
    )


def _before_order(rows: Sequence[DeliveryRow], endpoint: EndpointRow) -> list[DeliveryRow]:
    """Return what may go while what was numbered before the present order is not finished."""
    # A replay of what was sent before stands outside; what a catch-up appended does not.
    return [
        row
        for row in rows
        if row.endpoint_sequence <= endpoint.ordering_from or (row.trigger != "scheduled" and row.attempts)
    ]


def _due(fresh: Sequence[DeliveryRow], now_us: int) -> Mapping[str, list[DeliveryRow]]:
    """Return by endpoint what of deliveries that are not stored yet would be found as due if they were."""
    due: defaultdict[str, list[DeliveryRow]] = defaultdict(list)
    for row in fresh:
        if row.due_at is not None and row.due_at <= now_us and row.lane != LANE_PARKED:
            due[row.endpoint_id].append(row)
    return due


@dataclass(slots=True, kw_only=True)
class _Round:
    """What is claimed in one transaction, endpoint after endpoint."""

    now_us: int
    free: int
    settle_margin_us: int
    taken: list[DeliveryRow] = field(default_factory=list)
    given_back: list[DeliveryRow] = field(default_factory=list)
    interrupted: list[DeliveryRow] = field(default_factory=list)
    more: set[str] = field(default_factory=set)
    unserved: list[str] = field(default_factory=list)
    later: dict[str, int] = field(default_factory=dict)
    slots: dict[str, int] = field(default_factory=dict)
    changed: dict[str, EndpointRow] = field(default_factory=dict)

    def admits(self, endpoint: EndpointRow) -> bool:
        """Tell whether it is of use to read what waits at the endpoint: that may be very much."""
        if endpoint.status != "active":
            return True
        if endpoint.circuit.limit(endpoint.max_in_flight, self.now_us) == 0:
            self.more.add(endpoint.id)
            return False
        if endpoint.rate_limit is not None and not free_slots(endpoint.rate_next_at, endpoint.rate_limit, self.now_us):
            self.later[endpoint.id] = (endpoint.rate_next_at or self.now_us) - AHEAD_US
            return False
        return True

    def ping(self, endpoint: EndpointRow, rows: Sequence[DeliveryRow]) -> None:
        """Take one ping at an endpoint that is being enabled, and give everything else back that was left in flight."""
        pings = [row for row in rows if row.event_type == TEST_TYPE]
        lost = [row for row in rows if row.event_type != TEST_TYPE and (row.due_at or 0) <= self.now_us]
        self.given_back += [_give_back(row, endpoint, self.now_us) for row in lost]
        self.interrupted += lost
        live = [row for row in pings if row.lane == LANE_IN_FLIGHT and (row.due_at or 0) > self.now_us]
        if live or not pings:
            return
        if self.free <= len(self.taken):
            self.unserved.append(endpoint.id)
            return
        self.taken.append(_lease(pings[0], endpoint, self.now_us, self.settle_margin_us))
        self.interrupted += [row for row in pings[:1] if row.lane == LANE_IN_FLIGHT]

    def take(self, endpoint: EndpointRow, here: Waiting) -> None:
        """Take what goes out at one endpoint; at one that is not active give back what was left in flight."""
        if endpoint.status != "active":
            self.given_back += [_give_back(row, endpoint, self.now_us) for row in here.expired]
            self.interrupted += here.expired
            return
        places = self.free - len(self.taken)
        limit = endpoint.circuit.limit(endpoint.max_in_flight, self.now_us)
        room = min(places, max(1, places // 4))
        rate = endpoint.rate_limit
        slots = None if rate is None else free_slots(endpoint.rate_next_at, rate, self.now_us)
        picked = here.pick(limit, room if slots is None else min(room, len(slots)))
        self.taken += [_lease(row, endpoint, self.now_us, self.settle_margin_us) for row in picked]
        self.interrupted += [row for row in picked if row.lane == LANE_IN_FLIGHT]
        if rate is not None and slots is not None and picked:
            self.slots.update(zip((row.id for row in picked), slots, strict=False))
            next_at = after_slot(slots[len(picked) - 1], rate)
            self.changed[endpoint.id] = replace(endpoint, rate_next_at=next_at)
            if len(picked) == len(slots):
                self.later[endpoint.id] = next_at - AHEAD_US
        if _has_more(here, len(picked), limit):
            (self.more.add if picked or here.live else self.unserved.append)(endpoint.id)


def _has_more(here: Waiting, picked: int, limit: int) -> bool:
    # A lane that was read to its limit may go on behind it.
    cut = len(here.first) >= limit or len(here.again) >= limit
    return cut or len(here.first) + len(here.again) + len(here.expired) > picked


def _lease(row: DeliveryRow, endpoint: EndpointRow, now_us: int, settle_margin_us: int) -> DeliveryRow:
    return structs.replace(
        row,
        state="in_flight",
        lane=LANE_IN_FLIGHT,
        attempts=row.attempts + 1,
        trigger="scheduled" if row.lane == LANE_IN_FLIGHT else row.trigger,
        due_at=now_us + endpoint.timeout_s * 1_000_000 + settle_margin_us,
        generation=row.generation + 1,
        claimed_at=now_us,
        updated_at=now_us,
    )


def _give_back(row: DeliveryRow, endpoint: EndpointRow, now_us: int) -> DeliveryRow:
    deleted = endpoint.status == "deleted"
    return structs.replace(
        row,
        state="skipped" if deleted else "retrying",
        reason=SKIPPED_DELETED if deleted else row.reason,
        lane=LANE_AGAIN,
        trigger="scheduled",
        due_at=None if deleted else now_us,
        generation=row.generation + 1,
        claimed_at=None,
        updated_at=now_us,
    )


def _interrupted(row: DeliveryRow, now_us: int) -> AttemptRow:
    return AttemptRow(
        delivery_id=row.id,
        number=row.attempts,
        trigger=row.trigger,
        at=row.claimed_at or now_us,
        duration_ms=None,
        request=None,
        response=None,
        error_class="interrupted",
    )
