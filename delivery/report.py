"""What is said of attempts that were settled: a log line each, and what is counted."""

from __future__ import annotations

from typing import Final, Protocol

import structlog

from delivery.retry import Delivered, Disabled, Exhausted, Outcome, Reply, Retry, error_of
from delivery.settle import Settlement
from engine.databases import Site

_log: Final = structlog.get_logger("gledger.delivery")


class Meter(Protocol):
    """Counts what happens; `outcome` is delivered, retry, exhausted or disabled."""

    def attempted(self, outcome: str, error_class: str | None, duration_s: float) -> None:
        """An attempt was settled."""

    def delivered(self, commit_to_delivered_s: float) -> None:
        """An endpoint has an event, so long after the event was committed."""


class Report:
    """Says what was settled."""

    def __init__(self, meter: Meter | None) -> None:
        self._meter = meter

    def settled(self, site: Site, settlement: Settlement) -> None:
        """Say it of each attempt, of circuits that changed, and of leases that were lost meanwhile."""
        for one, outcome in settlement.settled:
            delivery = one.claimed.delivery
            error_class = error_of(outcome)
            _log.info(
                "delivery.attempted",
                site_id=site.id,
                endpoint_id=delivery.endpoint_id,
                delivery_id=delivery.id,
                event_id=delivery.event_id,
                event_type=delivery.event_type,
                sequence=delivery.sequence,
                endpoint_sequence=delivery.endpoint_sequence,
                attempt=delivery.attempts,
                trigger=delivery.trigger,
                outcome=_outcome_name(outcome),
                status=one.result.status if isinstance(one.result, Reply) else None,
                error_class=error_class,
                duration_ms=one.duration_ms,
            )
            if self._meter is not None:
                self._meter.attempted(_outcome_name(outcome), error_class, one.duration_ms / 1000)
                if isinstance(outcome, Delivered):
                    arrived_us = one.at + one.duration_ms * 1000
                    self._meter.delivered((arrived_us - one.claimed.event.created_at) / 1_000_000)
        for endpoint_id, is_open in settlement.turned.items():
            _log.warning("delivery.circuit", site_id=site.id, endpoint_id=endpoint_id, open=is_open)
        for one in settlement.stale:
            _log.warning("delivery.lease_lost", site_id=site.id, delivery_id=one.claimed.delivery.id)


def _outcome_name(outcome: Outcome) -> str:
    match outcome:
        case Delivered():
            return "delivered"
        case Retry():
            return "retry"
        case Exhausted():
            return "exhausted"
        case Disabled():
            return "disabled"
