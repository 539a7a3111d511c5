"""What the delivery side counts, as Prometheus metrics."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 300.0, 3600.0)


class DeliveryMeter:
    """Counts attempts and how long events took to arrive."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Register the metrics."""
        self._attempts = Counter(
            "gledger_delivery_attempts_total",
            "Attempts by outcome (delivered, retry, exhausted, disabled) and error class.",
            ("outcome", "error_class"),
            registry=registry,
        )
        self._duration = Histogram(
            "gledger_delivery_attempt_seconds",
            "How long attempts took.",
            buckets=_SECONDS,
            registry=registry,
        )
        self._lag = Histogram(
            "gledger_delivery_lag_seconds",
            "From commit to delivered.",
            buckets=_SECONDS,
            registry=registry,
        )

    def attempted(self, outcome: str, error_class: str | None, duration_s: float) -> None:
        """Count a settled attempt."""
        self._attempts.labels(outcome, error_class or "").inc()
        self._duration.observe(duration_s)

    def delivered(self, commit_to_delivered_s: float) -> None:
        """Record how long an event took from its commit to its endpoint."""
        self._lag.observe(commit_to_delivered_s)
