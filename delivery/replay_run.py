"""Going on with replays: one bounded step a transaction, behind first attempts and no faster than their endpoints take it.

A step locks the replay, then a few of its endpoints. At each it queues deliveries only as far as a small backlog is not
full: so an endpoint that is slow or paused holds up nobody else, and a pause or a cancellation is felt soon. What is live
waits for these locks: what can be read before is, and all is written in one statement.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import msgspec
import structlog
from msgspec import UNSET, structs
from sqlalchemy import Connection

from delivery.bodies import Bodies
from delivery.conditions import fulfils
from delivery.order import PARALLEL, park
from delivery.replay_jobs import wanted_of
from delivery.replay_shapes import read_selection
from delivery.requeue import ALREADY_QUEUED, requeue, taken_over
from delivery.rows import DeliveryRow, EndpointRow, ReplayPart, ReplayRow
from delivery.schema import LANE_AGAIN
from delivery.store import replays as store
from delivery.store.deliveries import adding, read_position, requeueing
from delivery.store.endpoints import lock_endpoints, numbering, subscription_of
from delivery.subscriptions import Pending, decide, subject_of, wanted_types
from engine import feed
from engine.clock import Clock
from engine.databases import Databases, Site
from engine.ids import IdSource
from engine.lookups import plan_once
from engine.sql import Change, write

STEP_ROWS: Final = 100
STEP_ENDPOINTS: Final = 8
BACKLOG: Final = 200
"""How much is queued ahead at an endpoint: what may still be sent after a pause or a cancellation."""
SCAN: Final = 10_000
"""How many numbers a step looks through at most for one that matches."""
STEP_US: Final = 50_000
FULL_US: Final = 250_000
PAUSED_US: Final = 2_000_000
"""When to look again at an endpoint that has all it may have waiting, and where that endpoint is paused."""
HELD_US: Final = 10_000_000
"""The same where the endpoint keeps an order: room is made by what the replay itself had queued, whose end is told."""
AHEAD_US: Final = 1_000_000
"""What is due of so long is queued in one step, each at its own instant: what goes at once would be felt by what is live, and so
would many steps."""
_log: Final = structlog.get_logger("gledger.replays")
LATE_US: Final = 100_000
"""How far a replay that fell behind its rate may catch up: what it did not send while it rested is no debt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepOutcome:
    """When (micros) the next step is, None: no replay of the site is running, and when something comes due at which endpoints.

    Each endpoint's instants are in their order; the first may be there already.
    """

    next_at: int | None
    due: Mapping[str, Sequence[int]] = field(default_factory=dict)
    events: frozenset[int] = frozenset()
    """The sequences of what is to be sent."""


class ReplayRunner:
    """Takes steps of a site's running replays; any number of processes may."""

    def __init__(
        self,
        databases: Databases,
        *,
        clock: Clock,
        ids: IdSource,
        chance: Callable[[], float] = random.random,
        bodies: Bodies | None = None,
    ) -> None:
        """`bodies` is what the dispatcher of the same process sends from."""
        self._databases = databases
        self._clock = clock
        self._ids = ids
        self._chance = chance
        self._bodies = bodies or Bodies()

    async def next_at(self, site: Site) -> int | None:
        """Return when (micros) the next step is due; None where no replay is running."""
        database = await self._databases.of(site)
        return await database.read(lambda conn: store.next_step(conn, site.id), site_id=site.id)

    async def step(
        self, site: Site, settled: Collection[str] = (), *, share: float = 1.0, ahead_us: int = AHEAD_US
    ) -> StepOutcome:
        """Take one step of the replay whose step is due longest; nothing happens where none is.

        One of those of which something was settled goes on before it is due, if what it waits for is that. `share` is how much of
        its rate the replay takes, and what is queued comes due within `ahead_us`, or is one delivery.
        """
        database = await self._databases.of(site)
        outcome = await database.write(
            lambda conn: self._step(conn, site.id, settled, share, ahead_us), site_id=site.id
        )
        if outcome.events:
            # Now, and not where it is claimed: others wait there for the endpoint's lock, and read what is not there.
            try:
                await database.read(lambda conn: self._bodies.read(conn, site.id, outcome.events), site_id=site.id)
            except Exception as error:  # noqa: BLE001 - the step is taken, whatever became of this
                _log.warning("replay.events_not_read", site_id=site.id, error=str(error))
        return outcome

    def _step(
        self, conn: Connection, site_id: int, settled: Collection[str], share: float, ahead_us: int
    ) -> StepOutcome:
        plan_once(conn)
        now_us = self._clock.now_us()
        # Nothing but an order has a replay wait so long.
        row = store.take_waiting(conn, site_id, settled, now_us + 2 * PAUSED_US) if settled else None
        row = row or store.take_due(conn, site_id, now_us)
        if row is None:
            return StepOutcome(next_at=store.next_step(conn, site_id))
        others_at = store.next_step(conn, site_id, but=row.id)
        open_parts = store.read_parts(conn, site_id, row.id)
        chosen = self._choose([part.endpoint_id for part in open_parts])
        # As it is about now, with what was queued ahead: it bounds what waits, and need not be exact.
        backlogs = {each: store.count_backlog(conn, site_id, each, now_us + AHEAD_US, BACKLOG) for each in chosen}
        locked = lock_endpoints(conn, site_id, chosen)
        parts = [part for part in open_parts if part.endpoint_id in locked]
        if any(endpoint.ordering != PARALLEL for endpoint in locked.values()):
            # What was settled, and counted, meanwhile will wake nobody again.
            parts = store.read_parts(conn, site_id, row.id, chosen)
        rate_per_s = max(row.rate_per_s * share, 1.0)
        step = _Step(conn, site_id, self._ids, row, now_us, backlogs, rate_per_s, ahead_us)
        after = [step.advance(part, locked[part.endpoint_id]) for part in parts]
        finished = all(part.position >= part.until for part in after) and len(after) == len(open_parts)
        moved = any(one.position != two.position for one, two in zip(parts, after, strict=True))
        waits = STEP_US if moved else min((_wait_us(each, step.held) for each in locked.values()), default=FULL_US)
        # Others have their turn the next time.
        idle_us = waits if len(after) == len(open_parts) else min(waits, FULL_US)
        queued_us = round(len(step.rows) * 1_000_000 / rate_per_s)
        saved = _next(row, queued_us or idle_us, now_us, catches_up=queued_us > 0, finished=finished)
        step.store([store.moving(site_id, parts, after, step.left), store.replaying(site_id, saved)])
        next_at = min((at for at in (others_at, saved.due_at) if at is not None), default=None)
        return StepOutcome(next_at=next_at, due=step.due, events=frozenset(row.sequence for row in step.rows))

    def _choose(self, endpoint_ids: Sequence[str]) -> list[str]:
        """Return the endpoints of this step; where there are many, another stretch of them every time."""
        start = int(self._chance() * len(endpoint_ids)) if len(endpoint_ids) > STEP_ENDPOINTS else 0
        return [*endpoint_ids[start:], *endpoint_ids[:start]][:STEP_ENDPOINTS]


class _Step:
    """One step while it is taken: what it may still queue, and when that comes due."""

    def __init__(
        self,
        conn: Connection,
        site_id: int,
        ids: IdSource,
        row: ReplayRow,
        now_us: int,
        backlogs: Mapping[str, int],
        rate_per_s: float,
        ahead_us: int,
    ) -> None:
        self._conn = conn
        self._site_id = site_id
        self._ids = ids
        self._selection = read_selection(row)
        self._now_us = now_us
        self._backlogs = backlogs
        self._rate_per_s = rate_per_s
        self._budget = min(STEP_ROWS, max(1, int(rate_per_s * ahead_us / 1_000_000)))
        self._last_sequences: dict[str, int] = {}
        self.rows: list[DeliveryRow] = []
        """What is queued and not stored yet."""
        self.due: defaultdict[str, list[int]] = defaultdict(list)
        self.left: dict[tuple[str, str], store.Change] = {}
        """What other replays were still waiting for, and is this one's now."""
        self.held: set[str] = set()
        """Endpoints whose order keeps as much of this replay waiting as may wait."""

    def advance(self, part: ReplayPart, endpoint: EndpointRow) -> ReplayPart:
        """Queue what may be queued now at a locked endpoint; return the part as it is then."""
        if endpoint.status not in {"active", "paused"}:
            # Disabled or removed meanwhile: what is left is not sent.
            return _closed(replace(part, skipped=part.skipped + max(part.total - part.queued - part.skipped, 0)))
        backlog = self._backlogs[endpoint.id]
        if endpoint.ordering != PARALLEL:
            # What waits for its turn is not due, but it was queued ahead all the same.
            own = part.queued - part.delivered - part.failed
            backlog = max(backlog, own)
            if own >= BACKLOG:
                self.held.add(endpoint.id)
        room = min(BACKLOG - backlog, self._budget - len(self.rows))
        if room <= 0:
            return part
        if self._selection.catch_up is not UNSET:
            after = self._append(part, endpoint, room)
        else:
            after = self._send_again(part, endpoint, room)
        return _closed(after) if after.position >= after.until else after

    def store(self, changes: Sequence[Change]) -> None:
        """Write what is queued, and the changes."""
        appends = self._selection.catch_up is not UNSET
        queued = adding(self._site_id, self.rows) if appends else requeueing(self._site_id, self.rows)
        write(self._conn, [queued, numbering(self._site_id, self._last_sequences), *changes])

    def _queue(self, endpoint: EndpointRow, rows: Sequence[DeliveryRow]) -> None:
        """Let each be due when the rate has it, behind what the step has queued already."""
        for row in rows:
            due_at = self._now_us + int(len(self.rows) * 1_000_000 / self._rate_per_s)
            self.rows.append(structs.replace(row, due_at=due_at))
            # Also where it is paused: it may be resumed before.
            self.due[endpoint.id].append(due_at)

    def _send_again(self, part: ReplayPart, endpoint: EndpointRow, room: int) -> ReplayPart:
        rows, position = self._read(part, room)
        again = [row for row in rows if row.state not in ALREADY_QUEUED]
        self.left |= taken_over(again)
        self._queue(endpoint, requeue(self._conn, self._site_id, endpoint, again, part.replay_id, self._now_us))
        return replace(
            part,
            position=position,
            queued=part.queued + len(again),
            skipped=part.skipped + len(rows) - len(again),
        )

    def _read(self, part: ReplayPart, room: int) -> tuple[list[DeliveryRow], int]:
        """Return the next deliveries that match, and the number up to which they are then dealt with."""
        if part.numbers is not None:
            numbers = [number for number in part.numbers if number > part.position][:room]
            rows = store.read_numbers(self._conn, self._site_id, part.endpoint_id, numbers)
            return rows, numbers[-1] if numbers else part.until
        assert self._selection.filter is not UNSET  # noqa: S101 - what has no numbers and catches up nothing has a filter
        wanted = wanted_of(self._selection.filter, part.endpoint_id)
        until = min(part.until, part.position + SCAN)
        rows = store.read_share(self._conn, self._site_id, wanted, after=part.position, until=until, limit=room)
        return rows, rows[-1].endpoint_sequence if len(rows) == room else until

    def _append(self, part: ReplayPart, endpoint: EndpointRow, room: int) -> ReplayPart:
        """Give the next events that the endpoint has no delivery of the endpoint's next numbers."""
        # What the relay has yet to decide it will number itself, if the subscription was in force then.
        relayed = read_position(self._conn, self._site_id)
        until = min(part.until, relayed, part.position + SCAN)
        if until <= part.position:
            return part
        types = wanted_types(endpoint.event_types)
        events = feed.read_after(self._conn, self._site_id, part.position, room, types, until)
        version = [replace(subscription_of(endpoint, 0), from_sequence=0)]
        numbered = store.read_numbered(self._conn, self._site_id, endpoint.id, [event.sequence for event in events])
        missing = [
            event
            for event in events
            if event.sequence not in numbered
            and isinstance(decide(endpoint.id, version, event, subject_of(event)), Pending)
            and (endpoint.filter is None or fulfils(endpoint.filter, msgspec.json.decode(event.body)))
        ]
        rows = [
            DeliveryRow(
                id=self._ids.draw(self._now_us),
                endpoint_id=endpoint.id,
                event_id=event.id,
                event_type=event.type,
                sequence=event.sequence,
                endpoint_sequence=number,
                state="pending",
                reason=None,
                attempts=0,
                failures=0,
                trigger="replay",
                due_at=self._now_us,
                lane=LANE_AGAIN,
                generation=0,
                claimed_at=None,
                delivered_at=None,
                created_at=self._now_us,
                updated_at=self._now_us,
                replay_id=part.replay_id,
            )
            for number, event in enumerate(missing, endpoint.last_sequence + 1)
        ]
        by_sequence = {event.sequence: event for event in missing}
        # They have numbers behind all others: so they take their turn behind them, and what comes later behind these.
        self._queue(endpoint, park(self._conn, self._site_id, rows, by_sequence, {endpoint.id: endpoint}))
        if rows:
            self._last_sequences[endpoint.id] = rows[-1].endpoint_sequence
        position = events[-1].sequence if len(events) == room else until
        return replace(part, position=position, queued=part.queued + len(rows))


def _closed(part: ReplayPart) -> ReplayPart:
    """Return a part that looked at everything: what it counted at first was what matched then."""
    return replace(part, position=part.until, total=part.queued + part.skipped)


def _wait_us(endpoint: EndpointRow, held: Collection[str]) -> int:
    """Return when to look again at an endpoint that took nothing."""
    if endpoint.status != "active":
        return PAUSED_US
    return HELD_US if endpoint.id in held else FULL_US


def _next(row: ReplayRow, wait_us: int, now_us: int, *, catches_up: bool, finished: bool) -> ReplayRow:
    """Return the replay after a step, the next of which is so much later; one that catches up counts from when it was due."""
    if finished:
        return replace(row, status="queued", due_at=None, lock_version=row.lock_version + 1, updated_at=now_us)
    begun = max(row.due_at or now_us, now_us - LATE_US) if catches_up else now_us
    return replace(row, due_at=begun + wait_us)
