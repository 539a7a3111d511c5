"""When an endpoint is left alone, when it is probed, and how it gets back to full speed."""

from __future__ import annotations

from delivery.breaker import REST_MAX_US, REST_MIN_US, STRIKES_TO_OPEN, WINDOW_NEW, Circuit

NOW_US = 1_760_000_000_000_000
MIDDLE = 0.5
"""A chance that jitters nothing."""


def fail(circuit: Circuit, times: int, now_us: int = NOW_US) -> Circuit:
    """Return the circuit after failures of requests that have just begun."""
    for _ in range(times):
        circuit = circuit.failed(now_us, now_us=now_us, chance=MIDDLE)
    return circuit


def test_new_endpoint_is_trusted_with_a_few_requests() -> None:
    """Until it has answered it gets a few at once, and never more than it may have."""
    assert Circuit().limit(256, NOW_US) == WINDOW_NEW
    assert Circuit().limit(2, NOW_US) == 2


def test_successes_widen_the_window_to_the_limit_and_no_further() -> None:
    """Every success adds one place; at full width it changes nothing, so nothing is stored."""
    circuit = Circuit()
    for _ in range(100):
        circuit = circuit.succeeded(16)
    assert circuit.limit(256, NOW_US) == 16
    assert circuit.succeeded(16) is circuit


def test_failures_in_a_row_open_the_circuit() -> None:
    """One failure fewer leaves it closed."""
    assert fail(Circuit(), STRIKES_TO_OPEN - 1).limit(16, NOW_US) == WINDOW_NEW
    opened = fail(Circuit(), STRIKES_TO_OPEN)
    assert (opened.opened_at, opened.probe_at) == (NOW_US, NOW_US + REST_MIN_US)
    assert opened.limit(16, NOW_US + REST_MIN_US - 1) == 0
    assert opened.limit(16, NOW_US + REST_MIN_US) == 1


def test_two_failures_for_each_success_do_not_open_it_and_three_do() -> None:
    """The share decides, not only an unbroken row."""
    steady, worse = Circuit(), Circuit()
    for _ in range(2):
        steady = fail(steady, 2).succeeded(16)
        worse = fail(worse, 3).succeeded(16)
    assert fail(steady, 2).probe_at is None
    assert fail(worse, 3).probe_at is not None


def test_requests_that_were_under_way_do_not_prolong_the_rest() -> None:
    """Sixteen that time out together open the circuit once."""
    opened = fail(Circuit(), STRIKES_TO_OPEN)
    assert opened.failed(NOW_US - 1, now_us=NOW_US + 1_000_000, chance=MIDDLE) is opened


def test_failed_probe_doubles_the_rest_up_to_the_longest() -> None:
    """It is asked less and less often, and never more seldom than every few minutes."""
    circuit, now_us, rests = fail(Circuit(), STRIKES_TO_OPEN), NOW_US, []
    for _ in range(12):
        assert circuit.probe_at is not None
        rests.append(circuit.probe_at - now_us)
        now_us = circuit.probe_at
        circuit = circuit.failed(now_us, now_us=now_us, chance=MIDDLE)
    assert rests[:3] == [REST_MIN_US, 2 * REST_MIN_US, 4 * REST_MIN_US]
    assert rests[-1] == REST_MAX_US


def test_first_success_closes_it_and_the_window_grows_from_there() -> None:
    """What waited comes as a ramp: two at once, then more with every success."""
    closed = fail(Circuit(), STRIKES_TO_OPEN).succeeded(16)
    assert (closed.probe_at, closed.opened_at, closed.trips, closed.limit(16, NOW_US)) == (None, None, 0, 2)
    assert closed.succeeded(16).succeeded(16).limit(16, NOW_US) == 4


def test_rest_is_cut_short_on_request() -> None:
    """Somebody who knows that the endpoint is well again need not wait; a closed circuit stays as it is."""
    opened = fail(Circuit(), STRIKES_TO_OPEN)
    assert opened.probe_now(NOW_US + 1).limit(16, NOW_US + 1) == 1
    assert opened.probe_now(NOW_US + REST_MAX_US).probe_at == opened.probe_at
    assert Circuit().probe_now(NOW_US) == Circuit()
