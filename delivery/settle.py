"""Settle: store what came of attempts, many in a transaction that holds their endpoints' locks.

Only the last claimer of a delivery can settle it; whoever lost the lease meanwhile changes nothing. What follows for the
feed (a delivery exhausted or recovered, an endpoint failing or disabled) is stored beside it, as facts to be submitted. What
delivered and changes nothing about its endpoint needs no lock: it is one statement, behind the leases.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from msgspec import structs
from sqlalchemy import Connection

from delivery.claim import Claimed
from delivery.failing import Policy, percent_failed
from delivery.order import PARALLEL, release
from delivery.retry import (
    Delivered,
    Disabled,
    Exhausted,
    Failure,
    History,
    Outcome,
    Reply,
    Retry,
    asks_to_disable,
    error_of,
    judge,
)
from delivery.rows import AttemptRow, DeliveryRow, EndpointRow
from delivery.schema import LANE_AGAIN, LANE_PING
from delivery.standing import Standing, after_attempt, changed_rows, is_ping
from delivery.store.deliveries import read_leased, recording, settling, still_leased
from delivery.store.endpoints import standing
from delivery.store.facts import insert_facts
from delivery.store.replays import counting_outcomes
from delivery.store.tallies import tallying
from delivery.subscriptions import SKIPPED_DELETED
from delivery.tally import Tally, tally
from engine.fences import write_behind
from engine.lookups import plan_afresh
from engine.sql import Change, write

LEASE_LEFT_US: Final = 1_000_000
"""A lease must last for so long for its attempt to be settled apart."""


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

    @property
    def replays(self) -> set[str]:
        """The replays that something of was settled."""
        found = (one.claimed.delivery.replay_id for one, _ in self.settled)
        return {replay_id for replay_id in found if replay_id is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class Apart:
    """Attempts that delivered and change nothing but their deliveries, and these as they are then."""

    settled: list[tuple[Finished, Outcome]]
    rows: list[DeliveryRow]

    @property
    def settlement(self) -> Settlement:
        """What it comes to when it is stored."""
        return Settlement(settled=self.settled, stale=[], retries={}, facts=0, endpoints={}, turned={})


def settle(
    conn: Connection,
    site_id: int,
    finished: Sequence[Finished],
    locked: Mapping[str, EndpointRow],
    *,
    head: int | None,
    now_us: int,
    policy: Policy,
    chance: Callable[[], float],
) -> Settlement:
    """Settle attempts at endpoints that are locked.

    `head` is the feed's, locked too if an attempt may change its endpoint's status (`may_change_status`), else None; `policy` is
    for endpoints that say nothing else; `chance` draws from [0, 1) to jitter.
    """
    leased = read_leased(conn, site_id, [one.claimed.delivery.id for one in finished]) if finished else {}
    standings = {row.id: Standing(row=row, head=head, policy=policy) for row in locked.values()}
    settled: list[tuple[Finished, Outcome]] = []
    stale: list[Finished] = []
    rows: list[DeliveryRow] = []
    for one in finished:
        row = one.claimed.delivery
        if leased.get(row.id) != row.generation:
            stale.append(one)
            continue
        after, outcome = _judged(one, standings[row.endpoint_id], now_us=now_us, chance=chance)
        rows.append(after)
        settled.append((one, outcome))
    write(conn, _stored(site_id, settled, rows, now_us))
    _let_go(conn, site_id, rows, standings, now_us)
    facts = [fact for one in standings.values() for fact in one.store(conn, site_id, now_us)]
    write(conn, [standing(site_id, changed_rows(standings))])
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


def judge_apart(
    finished: Sequence[Finished], endpoints: Mapping[str, EndpointRow], *, now_us: int, policy: Policy
) -> Apart:
    """Return which attempts can be settled apart, by what is known of their endpoints.

    Those that delivered where nothing else follows from it: no order in which the next one goes, nothing about how the endpoint
    stands. Not where another attempt at the endpoint is for a turn, which takes them in the order in which they ended; nor a lease that is
    about to run out, which others may take over. What is known may be a little old: a failure that another process has noted
    since then is not made up for by this success, but by the next.
    """
    judged: list[tuple[Finished, Outcome, DeliveryRow]] = []
    for_turn: set[str] = set()
    for one in finished:
        delivery = one.claimed.delivery
        here = Standing(row=endpoints.get(delivery.endpoint_id, one.claimed.endpoint), head=None, policy=policy)
        plain = here.row.status == "active" and here.row.ordering == PARALLEL
        if plain and (delivery.due_at or 0) > now_us + LEASE_LEFT_US:
            after, outcome = _judged(one, here, now_us=now_us, chance=lambda: 0.0)
            if after.state == "delivered" and here.untouched:
                judged.append((one, outcome, after))
                continue
        for_turn.add(delivery.endpoint_id)
    kept = [each for each in judged if each[2].endpoint_id not in for_turn]
    return Apart(settled=[(one, outcome) for one, outcome, _ in kept], rows=[after for *_, after in kept])


def settle_apart(conn: Connection, site_id: int, apart: Apart, now_us: int) -> bool:
    """Settle in one statement what can be settled apart, if all of it is leased still; tell whether it was, or nothing is stored."""
    plan_afresh(conn)
    leases = still_leased(site_id, [one.claimed.delivery for one, _ in apart.settled])
    return write_behind(conn, leases, _stored(site_id, apart.settled, apart.rows, now_us))


def _judged(one: Finished, here: Standing, *, now_us: int, chance: Callable[[], float]) -> tuple[DeliveryRow, Outcome]:
    """Return the delivery as it is after an attempt, and the outcome, which is noted about how its endpoint stands."""
    row = one.claimed.delivery
    history = History(attempts=row.attempts - 1, failures=row.failures)
    schedule = here.row.retry_schedule or here.policy.retry_schedule_s
    judged = judge(one.result, history, schedule, now_us=now_us, chance=chance())
    outcome = after_attempt(row, judged, here.row)
    after = structs.replace(
        _after(row, outcome, here.row, now_us),
        last_status=one.result.status if isinstance(one.result, Reply) else None,
        last_error=error_of(outcome),
    )
    here.note(row, after, outcome, now_us=now_us, chance=chance())
    return after, outcome


def _stored(
    site_id: int, settled: Sequence[tuple[Finished, Outcome]], rows: Sequence[DeliveryRow], now_us: int
) -> list[Change]:
    """Return what is stored of attempts whatever follows from them: themselves, their deliveries, what replays and the hour count."""
    due = {row.id: row.due_at for row in rows}
    made = [_attempt(one, outcome, due) for one, outcome in settled]
    return [
        recording(site_id, made),
        settling(site_id, rows),
        counting_outcomes(site_id, rows),
        tallying(site_id, _tallies(settled, now_us)),
    ]


def _tallies(settled: Sequence[tuple[Finished, Outcome]], now_us: int) -> list[Tally]:
    results: dict[str, list[tuple[bool, int]]] = {}
    for one, outcome in settled:
        endpoint_id = one.claimed.delivery.endpoint_id
        results.setdefault(endpoint_id, []).append((error_of(outcome) is None, one.duration_ms))
    return [tally(endpoint_id, now_us, found) for endpoint_id, found in results.items()]


def may_change_status(finished: Sequence[Finished], policy: Policy, now_us: int) -> bool:
    """Tell whether one of the attempts may disable or enable its endpoint: then the site is locked before the endpoints."""
    return any(_may_change_status(one, policy, now_us) for one in finished)


def _may_change_status(one: Finished, policy: Policy, now_us: int) -> bool:
    endpoint = one.claimed.endpoint
    if endpoint.status == "enabling" or (isinstance(one.result, Reply) and asks_to_disable(one.result)):
        return True
    if endpoint.failing_since is None:
        return False
    return percent_failed(endpoint.failing_since, now_us, endpoint.disable_after_s or policy.disable_after_s) == 100


def _after(row: DeliveryRow, outcome: Outcome, endpoint: EndpointRow, now_us: int) -> DeliveryRow:
    """Return the delivery as it is after the outcome."""
    over = structs.replace(
        row, due_at=None, lane=LANE_AGAIN, trigger="scheduled", reason=None, claimed_at=None, updated_at=now_us
    )
    match outcome:
        case Delivered():
            return structs.replace(over, state="delivered", delivered_at=row.delivered_at or now_us)
        case Disabled(then=then):
            return _after(row, then, endpoint, now_us)
        case Retry() | Exhausted() if endpoint.status == "deleted":
            return structs.replace(over, state="skipped", reason=SKIPPED_DELETED)
        case Exhausted(error_class=error_class):
            return structs.replace(over, state="exhausted", reason=error_class, failures=row.failures + 1)
        case Retry(after_us=after_us, charged=charged):
            return structs.replace(
                over,
                state="retrying",
                due_at=now_us + after_us,
                failures=row.failures + charged,
                lane=LANE_PING if is_ping(row, endpoint) else LANE_AGAIN,
            )


def _let_go(
    conn: Connection,
    site_id: int,
    rows: Sequence[DeliveryRow],
    standings: Mapping[str, Standing],
    now_us: int,
) -> None:
    """Let go what waited for deliveries that are finished, at endpoints that keep an order."""
    for endpoint_id, kept in standings.items():
        endpoint = kept.row
        if endpoint.ordering == PARALLEL:
            continue
        here = [row for row in rows if row.endpoint_id == endpoint_id]
        passed = {row.id for row in here if row.state == "exhausted" and endpoint.on_exhausted != "block"}
        finished = [row.id for row in here if row.state in {"delivered", "skipped"} or row.id in passed]
        flagged = len(passed & release(conn, site_id, endpoint_id, finished, now_us)) if finished else 0
        if flagged:
            kept.row = replace(endpoint, passed_over=endpoint.passed_over + flagged)
            kept.changed = True


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
        error_class=error_of(outcome),
    )


def _retries(rows: Sequence[DeliveryRow], standings: Mapping[str, Standing]) -> dict[str, int]:
    """Return when each endpoint that is still active is due again: the first of its retries, or the next probe."""
    due: dict[str, int] = {}
    for row in rows:
        endpoint = standings[row.endpoint_id].row
        # Where the circuit has opened others may wait than those that were settled.
        at = endpoint.circuit.probe_at or row.due_at
        if at is not None and endpoint.status == "active":
            due[row.endpoint_id] = min(at, due.get(row.endpoint_id, at))
    return due
