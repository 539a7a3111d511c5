"""What the gateway counts, as Prometheus metrics."""

from __future__ import annotations

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metrics:
    """The counters of one process; the delivery side of the same process may register its own beside them."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Register every metric."""
        self._registry = registry
        self.requests: Final = Counter(
            "gledger_http_requests_total",
            "Requests by operation and status.",
            ("method", "route", "status"),
            registry=registry,
        )
        self.latency: Final = Histogram(
            "gledger_http_request_seconds",
            "How long requests took.",
            ("method", "route"),
            buckets=_SECONDS,
            registry=registry,
        )
        self.problems: Final = Counter(
            "gledger_http_problems_total",
            "Problem documents by code.",
            ("code",),
            registry=registry,
        )
        self.streams: Final = Gauge(
            "gledger_streams",
            "Open streams by kind.",
            ("kind",),
            registry=registry,
        )
        self.streamed: Final = Counter(
            "gledger_streamed_events_total",
            "Events written to streams.",
            ("kind",),
            registry=registry,
        )

    def render(self) -> tuple[bytes, str]:
        """Return the metrics as text and their media type."""
        return generate_latest(self._registry), CONTENT_TYPE_LATEST
