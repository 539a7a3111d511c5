"""The circuit breaker of an endpoint: how many requests it may have at once, by how it answered before. Pure.

An endpoint has a *window*. A new one begins with a few requests at once, and every success widens the window by one, which
doubles it with each round of answers, up to the endpoint's `max_in_flight`. Every failure is a strike, every success takes
two strikes back: when failures outnumber successes two to one by `STRIKES_TO_OPEN`, the circuit opens and nothing is sent.
When it has rested, one request probes. A probe that fails has it rest twice as long; the first success closes the circuit
with a narrow window, so that what waited comes as a ramp and not all at once.

While a circuit is open nothing uses up anything: what is not sent is not charged to any delivery's schedule.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

STRIKES_TO_OPEN: Final = 5
TAKEN_BACK: Final = 2
"""Strikes that a success takes back."""

WINDOW_NEW: Final = 5
"""How many requests an endpoint that has not answered yet may have at once: if they all fail, no more follow."""

WINDOW_PROBE: Final = 1

REST_MIN_US: Final = 5_000_000
REST_MAX_US: Final = 300_000_000
_JITTER: Final = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Circuit:
    """What is remembered of how an endpoint answered; instants are microseconds, None where the circuit is closed.

    `trips` counts the rests since it was closed last, `opened_at` is when the present rest began.
    """

    window: int = WINDOW_NEW
    strikes: int = 0
    trips: int = 0
    opened_at: int | None = None
    probe_at: int | None = None

    def limit(self, max_in_flight: int, now_us: int) -> int:
        """Return how many requests the endpoint may have at once now."""
        if self.probe_at is not None and now_us < self.probe_at:
            return 0
        return min(self.window, max_in_flight)

    def succeeded(self, max_in_flight: int) -> Circuit:
        """Return the circuit after an answer that is a success, whoever asked and when."""
        if self.probe_at is not None:
            return Circuit(window=WINDOW_PROBE + 1)
        if self.window >= max_in_flight and self.strikes == 0:
            return self
        return replace(
            self,
            window=max(self.window, min(self.window + 1, max_in_flight)),
            strikes=max(self.strikes - TAKEN_BACK, 0),
        )

    def failed(self, begun_at: int, *, now_us: int, chance: float) -> Circuit:
        """Return the circuit after a failure that is the endpoint's; `chance` in [0, 1) jitters how long it rests.

        A request that was no probe, because it was under way when the circuit opened, says nothing that is not known.
        """
        if self.probe_at is not None:
            return self if begun_at < self.probe_at else _opened(self.trips, now_us, chance)
        if self.strikes + 1 >= STRIKES_TO_OPEN:
            return _opened(self.trips, now_us, chance)
        return replace(self, strikes=self.strikes + 1)

    def probe_now(self, now_us: int) -> Circuit:
        """Return the circuit with its rest cut short, because somebody asked."""
        return self if self.probe_at is None else replace(self, probe_at=min(self.probe_at, now_us))


def _opened(trips: int, now_us: int, chance: float) -> Circuit:
    """Return a circuit that rests, after so many rests in succession."""
    rest_us = min(REST_MIN_US << min(trips, 16), REST_MAX_US)
    probe_at = now_us + round(rest_us * (1 + _JITTER * (2 * chance - 1)))
    return Circuit(window=WINDOW_PROBE, trips=trips + 1, opened_at=now_us, probe_at=probe_at)
