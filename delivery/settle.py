"""Settle: store what came of attempts, many in a transaction that holds their endpoints' locks.

Only the last claimer of a delivery can settle it; whoever lost the lease meanwhile changes nothing. What follows for the
feed (a delivery exhausted or recovered, an endpoint failing or disabled) is stored beside it, as facts to be submitted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from sqlalchemy import Connection

from delivery.claim import Claimed
from delivery.order import PARALLEL, release
from delivery.registration import endpoint_fact
from delivery.retry import Delivered, Disabled, Exhausted, Failure, History, Outcome, Reply, Retry, judge
from delivery.rows import AttemptRow, DeliveryRow, EndpointRow, Fact
from delivery.schema import LANE_AGAIN
from delivery.shapes import encode, show_delivery, show_endpoint
from delivery.store.deliveries import find_deliveries, insert_attempts, update_deliveries
from delivery.store.endpoints import change_standing, save_standings
from delivery.store.facts import insert_facts
from delivery.store.replays import count_outcomes
from delivery.store.tallies import add_tallies
from delivery.subscriptions import SKIPPED_DELETED, is_operational
from delivery.tally import Tally, tally

FAILING_AT: Final = 4
"""The endpoint is called failing when a delivery to it failed so often, or was given up, with no success since."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """An attempt that is over; `request`, `response` and `timings` are the JSON they are shown as, `at` is when it began (micros)."""

    claimed: Claimed
    result: Reply | Failure
    at: int
    duration_ms: int
    request: bytes | None
    response: bytes | None
    timings: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """What was stored: each attempt with its outcome, those that came too late, when endpoints are due again (micros).

    `endpoints` are the locked rows as they are now.
    """

    settled: list[tuple[Finished, Outcome]]
    stale: list[Finished]
    retries: dict[str, int]
    facts: int
    endpoints: dict[str, EndpointRow]
    turned: dict[str, bool]
    """Endpoints whose circuit changed: whether it is open now."""


@dataclass(slots=True, kw_only=True)
class _Standing:
    """An endpoint while a batch is settled: its row as it becomes, and what the feed is to be told."""

    row: EndpointRow
    changed: bool = False
    gone: bool = False
    tell_gone: bool = False
    failing: str | None = None
    facts: list[Fact] = field(default_factory=list)


def settle(
    conn: Connection,
    site_id: int,
    finished: Sequence[Finished],
    locked: Mapping[str, EndpointRow],
    *,
    head: int,
    now_us: int,
    schedule_s: Sequence[int],
    chance: Callable[[], float],
) -> Settlement:
    """Settle attempts at endpoints that are locked.

    `head` is the feed's, locked too if an attempt may disable its endpoint (`disables`); `schedule_s` is for endpoints
    without their own; `chance` draws from [0, 1) to jitter.
    """
    present = find_deliveries(conn, site_id, [one.claimed.delivery.id for one in finished])
    standings = {row.id: _Standing(row=row) for row in locked.values()}
    settled: list[tuple[Finished, Outcome]] = []
    stale: list[Finished] = []
    rows: list[DeliveryRow] = []
    for one in finished:
        row = present.get(one.claimed.delivery.id)
        if row is None or row.state != "in_flight" or row.generation != one.claimed.delivery.generation:
            stale.append(one)
            continue
        standing = standings[row.endpoint_id]
        history = History(attempts=row.attempts - 1, failures=row.failures)
        schedule = standing.row.retry_schedule or schedule_s
        outcome = judge(one.result, history, schedule, now_us=now_us, chance=chance())
        after = replace(
            _after(row, outcome, standing.row, now_us),
            last_status=one.result.status if isinstance(one.result, Reply) else None,
            last_error=None if isinstance(outcome, Delivered) else outcome.error_class,
        )
        rows.append(after)
        _judge_endpoint(standing, row, outcome, now_us, chance())
        _note(standing, after, outcome, now_us)
        settled.append((one, outcome))
    update_deliveries(conn, site_id, rows)
    count_outcomes(conn, site_id, rows)
    _let_go(conn, site_id, rows, standings, now_us)
    due = {row.id: row.due_at for row in rows}
    insert_attempts(conn, site_id, [_attempt(one, outcome, due) for one, outcome in settled])
    add_tallies(conn, site_id, _tallies(settled, now_us))
    facts = [fact for one in standings.values() for fact in _store(conn, site_id, one, head, now_us, schedule_s)]
    save_standings(conn, site_id, [one.row for one in standings.values() if one.changed and not one.gone])
    insert_facts(conn, site_id, facts, now_us)
    return Settlement(
        settled=settled,
        stale=stale,
        retries=_retries(rows, standings),
        facts=len(facts),
        endpoints={one.row.id: one.row for one in standings.values()},
        turned={
            one.row.id: one.row.circuit.probe_at is not None
            for one in standings.values()
            if (locked[one.row.id].circuit.probe_at is None) != (one.row.circuit.probe_at is None)
        },
    )


def _tallies(settled: Sequence[tuple[Finished, Outcome]], now_us: int) -> list[Tally]:
    results: dict[str, list[tuple[bool, int]]] = {}
    for one, outcome in settled:
        endpoint_id = one.claimed.delivery.endpoint_id
        results.setdefault(endpoint_id, []).append((isinstance(outcome, Delivered), one.duration_ms))
    return [tally(endpoint_id, now_us, found) for endpoint_id, found in results.items()]


def disables(finished: Sequence[Finished]) -> bool:
    """Tell whether one of the attempts may disable its endpoint: then the site is locked before the endpoints."""
    return any(isinstance(one.result, Reply) and one.result.status == 410 for one in finished)


def _after(row: DeliveryRow, outcome: Outcome, endpoint: EndpointRow, now_us: int) -> DeliveryRow:
    """Return the delivery as it is after the outcome."""
    over = replace(
        row, due_at=None, lane=LANE_AGAIN, trigger="scheduled", reason=None, claimed_at=None, updated_at=now_us
    )
    match outcome:
        case Delivered():
            return replace(over, state="delivered", delivered_at=row.delivered_at or now_us)
        case Disabled(then=then):
            return _after(row, then, endpoint, now_us)
        case Retry() | Exhausted() if endpoint.status == "deleted":
            return replace(over, state="skipped", reason=SKIPPED_DELETED)
        case Exhausted(error_class=error_class):
            return replace(over, state="exhausted", reason=error_class, failures=row.failures + 1)
        case Retry(after_us=after_us, charged=charged):
            return replace(over, state="retrying", due_at=now_us + after_us, failures=row.failures + charged)


def _let_go(
    conn: Connection,
    site_id: int,
    rows: Sequence[DeliveryRow],
    standings: Mapping[str, _Standing],
    now_us: int,
) -> None:
    """Let go what waited for deliveries that are finished, at endpoints that keep an order."""
    for endpoint_id, standing in standings.items():
        endpoint = standing.row
        if endpoint.ordering == PARALLEL:
            continue
        here = [row for row in rows if row.endpoint_id == endpoint_id]
        passed = {row.id for row in here if row.state == "exhausted" and endpoint.on_exhausted != "block"}
        finished = [row.id for row in here if row.state in {"delivered", "skipped"} or row.id in passed]
        flagged = len(passed & release(conn, site_id, endpoint_id, finished, now_us)) if finished else 0
        if flagged:
            standing.row = replace(endpoint, passed_over=endpoint.passed_over + flagged)
            standing.changed = True


def _judge_endpoint(standing: _Standing, row: DeliveryRow, outcome: Outcome, now_us: int, chance: float) -> None:
    """Take into the endpoint's circuit how it answered; a failure of ours says nothing about it."""
    before = standing.row.circuit
    match outcome:
        case Delivered():
            after = before.succeeded(standing.row.max_in_flight)
        case Retry(charged=False):
            return
        case _:
            after = before.failed(row.claimed_at or now_us, now_us=now_us, chance=chance)
    if after is not before:
        standing.row = replace(standing.row, circuit=after)
        standing.changed = True


def _note(standing: _Standing, row: DeliveryRow, outcome: Outcome, now_us: int) -> None:
    """Take into the endpoint's standing what became of one delivery; what becomes of operational events raises none."""
    endpoint = standing.row
    quiet = is_operational(row.event_type)
    if isinstance(outcome, Disabled) and endpoint.status in {"active", "paused"}:
        standing.gone = True
        standing.tell_gone = standing.tell_gone or not quiet
    if quiet or endpoint.status == "deleted":
        return
    if row.state == "delivered":
        if endpoint.exhausted_since:
            standing.facts.append(_delivery_fact("delivery.recovered", row))
        if endpoint.exhausted_since or endpoint.failing_since is not None:
            standing.row = replace(endpoint, exhausted_since=0, failing_since=None)
            standing.changed = True
        return
    if row.state == "exhausted":
        standing.facts.append(_delivery_fact("delivery.exhausted", row))
        standing.row = replace(standing.row, exhausted_since=endpoint.exhausted_since + 1)
        standing.changed = True
    if endpoint.failing_since is None and (row.state == "exhausted" or row.failures >= FAILING_AT):
        standing.row = replace(standing.row, failing_since=now_us)
        standing.failing = f"{row.id}:{row.attempts}"
        standing.changed = True


def _store(
    conn: Connection,
    site_id: int,
    standing: _Standing,
    head: int,
    now_us: int,
    schedule_s: Sequence[int],
) -> list[Fact]:
    """Store what changed about an endpoint and return the facts of it, in the order in which they became true."""
    facts = list(standing.facts)
    if standing.failing is not None:
        shown = show_endpoint(standing.row, schedule_s)
        facts.append(endpoint_fact("endpoint.failing", standing.row, standing.failing, shown))
    if standing.gone:
        standing.row = change_standing(
            conn,
            site_id,
            standing.row,
            status="disabled",
            reason="gone",
            head=head,
            now_us=now_us,
        )
        if standing.tell_gone:
            once = str(standing.row.lock_version)
            shown = show_endpoint(standing.row, schedule_s)
            facts.append(endpoint_fact("endpoint.disabled", standing.row, once, shown))
    return facts


def _delivery_fact(event_type: str, row: DeliveryRow) -> Fact:
    return Fact(
        key=f"{event_type}:{row.id}:{row.attempts}",
        type=event_type,
        resource_type="delivery",
        resource_id=row.id,
        data=encode(show_delivery(row)),
    )


def _attempt(one: Finished, outcome: Outcome, due: Mapping[str, int | None]) -> AttemptRow:
    return AttemptRow(
        delivery_id=one.claimed.delivery.id,
        number=one.claimed.delivery.attempts,
        trigger=one.claimed.delivery.trigger,
        at=one.at,
        duration_ms=one.duration_ms,
        request=one.request,
        response=one.response,
        timings=one.timings,
        next_attempt_at=due[one.claimed.delivery.id],
        error_class=None if isinstance(outcome, Delivered) else outcome.error_class,
    )


def _retries(rows: Sequence[DeliveryRow], standings: Mapping[str, _Standing]) -> dict[str, int]:
    """Return when each endpoint that is still active is due again: the first of its retries, or the next probe."""
    due: dict[str, int] = {}
    for row in rows:
        endpoint = standings[row.endpoint_id].row
        # Where the circuit has opened others may wait than those that were settled.
        at = endpoint.circuit.probe_at or row.due_at
        if at is not None and endpoint.status == "active":
            due[row.endpoint_id] = min(at, due.get(row.endpoint_id, at))
    return due
