"""How an endpoint stands after a batch of attempts: its circuit, since when it fails, whether it is disabled or enabled again.

What follows for the feed is stored beside it, as facts to be submitted. What becomes of operational events raises none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from sqlalchemy import Connection

from delivery.failing import FAILING_AT, FIRST, Policy, next_warning, percent_failed
from delivery.registration import endpoint_fact
from delivery.retry import Delivered, Disabled, Exhausted, Outcome, Retry
from delivery.rows import DeliveryRow, EndpointRow, Fact
from delivery.shapes import encode, show_delivery, show_endpoint
from delivery.store.deliveries import unpark_pings
from delivery.store.endpoints import change_standing
from delivery.subscriptions import is_operational
from engine.events import TEST_TYPE

PING_FAILED: Final = "ping_failed"
_FAILED_TOO_LONG: Final = "failing"


@dataclass(slots=True, kw_only=True)
class Standing:
    """An endpoint while a batch is settled: its row as it becomes, and what the feed is to be told.

    `head` is the feed's, None where the site is not locked: then the endpoint's status stays as it is for now.
    """

    row: EndpointRow
    head: int | None
    policy: Policy
    changed: bool = False
    status: str | None = None
    reason: str | None = None
    told: bool = False
    warning: int | None = None
    warned_by: str = ""
    facts: list[Fact] = field(default_factory=list)

    @property
    def untouched(self) -> bool:
        """Whether nothing follows for the endpoint, or for the feed, from what was noted."""
        return not self.changed and not self.facts and self.status is None and self.warning is None

    def note(self, before: DeliveryRow, after: DeliveryRow, outcome: Outcome, *, now_us: int, chance: float) -> None:
        """Take in what came of one attempt: the delivery before and after it."""
        self._note_circuit(before, outcome, now_us, chance)
        if is_ping(before, self.row):
            self._note_ping(after, outcome)
            return
        quiet = is_operational(after.event_type)
        if isinstance(outcome, Disabled) and self.row.status in {"active", "paused", "enabling"}:
            self._disable(outcome.error_class, tell=not quiet and self.row.status != "enabling")
        if quiet or self.row.status == "deleted":
            return
        if after.state == "delivered":
            self._note_success(after)
        elif not (isinstance(outcome, Retry) and not outcome.charged):
            self._note_failure(after, now_us)

    def store(self, conn: Connection, site_id: int, now_us: int) -> list[Fact]:
        """Store another status and return the facts, in the order in which they became true; `changed` is the caller's to store."""
        facts = list(self.facts)
        if self.warning is not None:
            percent = 0 if self.warning == FIRST else self.warning
            once = f"{self.row.failing_since}:{self.warning}:{self.warned_by}"
            shown = show_endpoint(self.row, self.policy, failing_percent=percent)
            facts.append(endpoint_fact("endpoint.failing", self.row, once, shown))
        if self.status is None or self.head is None:
            return facts
        self.row = change_standing(
            conn, site_id, self.row, status=self.status, reason=self.reason, head=self.head, now_us=now_us
        )
        self.changed = False
        if self.status == "active":
            unpark_pings(conn, site_id, self.row.id)
        if self.told:
            event_type = "endpoint.enabled" if self.status == "active" else "endpoint.disabled"
            shown = show_endpoint(self.row, self.policy)
            facts.append(endpoint_fact(event_type, self.row, str(self.row.lock_version), shown))
        return facts

    def _note_circuit(self, row: DeliveryRow, outcome: Outcome, now_us: int, chance: float) -> None:
        before = self.row.circuit
        match outcome:
            case Delivered() | Disabled(then=Delivered()):
                after = before.succeeded(self.row.max_in_flight)
            case Retry(charged=False):
                return
            case _:
                after = before.failed(row.claimed_at or now_us, now_us=now_us, chance=chance)
        if after is not before:
            self._change(replace(self.row, circuit=after))

    def _note_ping(self, row: DeliveryRow, outcome: Outcome) -> None:
        if self.status == "disabled":
            return
        if row.state == "delivered" and not isinstance(outcome, Disabled):
            self._change(replace(self.row, failing_since=None, warned=0))
            self.status, self.reason, self.told = "active", None, True
        elif row.state == "exhausted" or isinstance(outcome, Disabled):
            # It never left being disabled: nothing new is to be told.
            self._disable(outcome.error_class if isinstance(outcome, Disabled) else PING_FAILED, tell=False)

    def _note_success(self, row: DeliveryRow) -> None:
        if self.row.exhausted_since:
            self.facts.append(_delivery_fact("delivery.recovered", row))
        if self.row.exhausted_since or self.row.failing_since is not None:
            self._change(replace(self.row, exhausted_since=0, failing_since=None, warned=0))
            self.warning = None

    def _note_failure(self, row: DeliveryRow, now_us: int) -> None:
        if row.state == "exhausted":
            self.facts.append(_delivery_fact("delivery.exhausted", row))
            self._change(replace(self.row, exhausted_since=self.row.exhausted_since + 1))
        if self.row.failing_since is None:
            self._change(replace(self.row, failing_since=now_us))
        disable_after_s = self.row.disable_after_s or self.policy.disable_after_s
        percent = percent_failed(self.row.failing_since or now_us, now_us, disable_after_s)
        failed_enough = row.state == "exhausted" or row.failures >= FAILING_AT
        warning = next_warning(self.row.warned, percent, failed_enough=failed_enough)
        if warning is not None:
            # Failing again within the same microsecond is another time of failing.
            self.warning, self.warned_by = warning, f"{row.id}:{row.attempts}"
            self._change(replace(self.row, warned=warning))
        if percent == 100 and self.row.status in {"active", "paused"}:
            self._disable(_FAILED_TOO_LONG, tell=True)

    def _disable(self, reason: str, *, tell: bool) -> None:
        if self.status != "disabled":
            self.status, self.reason = "disabled", reason
        self.told = self.told or tell

    def _change(self, row: EndpointRow) -> None:
        self.row, self.changed = row, True


def is_ping(row: DeliveryRow, endpoint: EndpointRow) -> bool:
    """Tell whether the delivery decides whether the endpoint is enabled again."""
    return endpoint.status == "enabling" and row.event_type == TEST_TYPE


def after_attempt(row: DeliveryRow, outcome: Outcome, endpoint: EndpointRow) -> Outcome:
    """Return the outcome as it holds for this delivery: a ping has one chance, but for failures of ours."""
    if is_ping(row, endpoint) and isinstance(outcome, Retry) and outcome.charged:
        return Exhausted(error_class=outcome.error_class)
    return outcome


def changed_rows(standings: Mapping[str, Standing]) -> list[EndpointRow]:
    """Return the endpoints that are still to be stored."""
    return [one.row for one in standings.values() if one.changed]


def _delivery_fact(event_type: str, row: DeliveryRow) -> Fact:
    return Fact(
        key=f"{event_type}:{row.id}:{row.attempts}",
        type=event_type,
        resource_type="delivery",
        resource_id=row.id,
        data=encode(show_delivery(row)),
    )
