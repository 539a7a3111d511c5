"""The relay: reads a site's feed after its position and writes a delivery for every endpoint that subscribed to an event.

One transaction a page: the position, the rows and each endpoint's numbers move together or not at all. Events are read
before subscriptions, in a statement of its own: whoever changed a subscription before an event was committed had
committed that change, so the later statement sees it, however the two processes were scheduled.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec
from sqlalchemy import Connection

from delivery.bodies import Bodies
from delivery.claim import Claims
from delivery.conditions import Filter, fulfils
from delivery.forms import Form
from delivery.order import park
from delivery.retry import DEFAULT_SCHEDULE_S
from delivery.rows import DeliveryRow, EndpointRow
from delivery.schema import LANE_FIRST, LANE_PING
from delivery.store.deliveries import move_relay, take_relay
from delivery.store.endpoints import lock_endpoints, read_subscriptions, standing
from delivery.subscriptions import (
    SKIPPED_DELETED,
    Pending,
    Skipped,
    Subscription,
    decide,
    filter_of,
    is_operational,
    subject_of,
)
from engine import feed
from engine.clock import Clock
from engine.databases import Databases, Site
from engine.events import TEST_TYPE, FeedEvent
from engine.ids import IdSource
from engine.lookups import plan_once
from engine.sql import write

PAGE_EVENTS: Final = 500
PAGE_ROWS: Final = 5_000
"""A page ends after the event with which it has this many deliveries, however many endpoints there are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayOutcome:
    """How many events were turned into deliveries, which endpoints have something due that is not claimed, whether more waits.

    `next_due_at` (micros) is when the first of what waits for company is due.
    """

    moved: int
    endpoints_woken: frozenset[str]
    behind: bool
    next_due_at: int | None = None


Recipients = list[tuple[str, Pending | Skipped]]


class Relay:
    """Turns the feed into delivery rows, a bounded page a transaction."""

    def __init__(
        self,
        databases: Databases,
        *,
        clock: Clock,
        ids: IdSource,
        page_events: int = PAGE_EVENTS,
        retry_schedule_s: Sequence[int] = DEFAULT_SCHEDULE_S,
        bodies: Bodies | None = None,
    ) -> None:
        """`bodies` is what the dispatcher of the same process sends from."""
        self._databases = databases
        self._clock = clock
        self._ids = ids
        self._page_events = page_events
        self._schedule_s = retry_schedule_s
        self._bodies = bodies or Bodies()

    async def run(self, site: Site, claims: Claims | None = None) -> RelayOutcome:
        """Relay one page; nothing moves while another process relays this site.

        What is due of it is claimed in the same transaction, as far as the claims take it.
        """
        database = await self._databases.of(site)
        return await database.write(lambda conn: self._page(conn, site.id, claims), site_id=site.id)

    def _page(self, conn: Connection, site_id: int, claims: Claims | None) -> RelayOutcome:
        plan_once(conn)
        now_us = self._clock.now_us()
        position = take_relay(conn, site_id, now_us)
        if position is None:
            return RelayOutcome(moved=0, endpoints_woken=frozenset(), behind=False)
        events = feed.read_after(conn, site_id, position, self._page_events)
        if not events:
            return RelayOutcome(moved=0, endpoints_woken=frozenset(), behind=False)
        versions = read_subscriptions(conn, site_id, events[0].sequence, events[-1].sequence)
        plan = plan_page(events, versions)
        locked = lock_endpoints(conn, site_id, {endpoint_id for _, who in plan for endpoint_id, _ in who})
        rows = self._number(plan, locked, now_us)
        rows = park(conn, site_id, rows, {event.sequence: event for event in events}, locked)
        self._bodies.keep(site_id, (event for event, recipients in plan if recipients))
        woken = frozenset(
            row.endpoint_id
            for row in rows
            if row.due_at is not None and not row.waits_for and _takes_now(locked[row.endpoint_id], now_us)
        )
        behind = len(plan) < len(events) or len(events) == self._page_events
        position = plan[-1][0].sequence
        claimed = None
        # Where much waits it is turns that send, beside the relay: they need not wait for its long pages.
        if claims is not None and woken and not behind:
            claimed, woken = claims.claim(conn, woken, locked, rows, now_us)
        if claimed is None:
            move_relay(conn, site_id, rows, position, now_us)
        else:
            move_relay(conn, site_id, claimed.fresh, position, now_us, claimed.changes)
            write(conn, [standing(site_id, claimed.standings)])
        return RelayOutcome(
            moved=len(plan),
            endpoints_woken=woken,
            behind=behind,
            next_due_at=min(
                (row.due_at for row in rows if row.due_at is not None and row.due_at > now_us), default=None
            ),
        )

    def _number(
        self,
        plan: Sequence[tuple[FeedEvent, Recipients]],
        locked: Mapping[str, EndpointRow],
        now_us: int,
    ) -> list[DeliveryRow]:
        numbers = {endpoint_id: row.last_sequence for endpoint_id, row in locked.items()}
        rows: list[DeliveryRow] = []
        for event, recipients in plan:
            for endpoint_id, decided in recipients:
                endpoint = locked[endpoint_id]
                numbers[endpoint_id] += 1
                # It was deleted after this event: the event counts, and nobody is there to take it.
                decision = Skipped(reason=SKIPPED_DELETED) if endpoint.status == "deleted" else decided
                skipped = decision.reason if isinstance(decision, Skipped) else None
                first_us = (endpoint.retry_schedule or self._schedule_s)[0] * 1_000_000
                rows.append(
                    DeliveryRow(
                        id=self._ids.draw(now_us),
                        endpoint_id=endpoint_id,
                        event_id=event.id,
                        event_type=event.type,
                        sequence=event.sequence,
                        endpoint_sequence=numbers[endpoint_id],
                        state="pending" if skipped is None else "skipped",
                        reason=skipped,
                        attempts=0,
                        failures=0,
                        trigger="scheduled",
                        due_at=in_company(now_us + first_us, endpoint.form) if skipped is None else None,
                        lane=LANE_PING if _is_ping(event, endpoint) else LANE_FIRST,
                        generation=0,
                        claimed_at=None,
                        delivered_at=None,
                        created_at=now_us,
                        updated_at=now_us,
                    ),
                )
        return rows


def in_company(due_at: int, form: Form) -> int:
    """Return when a first attempt is due that may wait for others: what comes within the same stretch goes together."""
    stretch_us = form.max_wait_ms * 1000
    return due_at if not stretch_us else (due_at // stretch_us + 1) * stretch_us


def _is_ping(event: FeedEvent, endpoint: EndpointRow) -> bool:
    return endpoint.status == "enabling" and event.type == TEST_TYPE


def _takes_now(endpoint: EndpointRow, now_us: int) -> bool:
    if endpoint.status == "enabling":
        return True
    return endpoint.status == "active" and endpoint.circuit.limit(endpoint.max_in_flight, now_us) > 0


def plan_page(
    events: Sequence[FeedEvent],
    versions: Mapping[str, Sequence[Subscription]],
    rows_max: int = PAGE_ROWS,
) -> list[tuple[FeedEvent, Recipients]]:
    """Return who gets each event, for as many of the events as make at most about `rows_max` deliveries, at least one."""
    starts = sorted({one.from_sequence for several in versions.values() for one in several})
    # Between two changes of a subscription the recipients of a type are the same; operational events differ one by one.
    known: dict[tuple[str, int], list[_Candidate]] = {}
    plan: list[tuple[FeedEvent, Recipients]] = []
    rows = 0
    for event in events:
        place = (event.type, bisect_right(starts, event.sequence))
        candidates = None if is_operational(event.type) else known.get(place)
        if candidates is None:
            candidates = known[place] = _candidates(event, versions)
        recipients = _fulfilling(event, candidates)
        plan.append((event, recipients))
        rows += len(recipients)
        if rows >= rows_max:
            break
    return plan


_Candidate = tuple[str, Pending | Skipped, Filter | None]


def _candidates(event: FeedEvent, versions: Mapping[str, Sequence[Subscription]]) -> list[_Candidate]:
    subject = subject_of(event)
    found: list[_Candidate] = []
    for endpoint_id, several in versions.items():
        decision = decide(endpoint_id, several, event, subject)
        if decision is not None:
            found.append((endpoint_id, decision, filter_of(several, event)))
    return found


def _fulfilling(event: FeedEvent, candidates: Sequence[_Candidate]) -> Recipients:
    """Return the candidates whose filter the event fulfils; it is read only if one of them has a filter."""
    content = msgspec.json.decode(event.body) if any(condition is not None for _, _, condition in candidates) else None
    return [
        (endpoint_id, decision)
        for endpoint_id, decision, condition in candidates
        if condition is None or fulfils(condition, content)
    ]
