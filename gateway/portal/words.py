"""What an error class or a reason means to whoever has to do something about it, and spans of time in words. Pure."""

from __future__ import annotations

from typing import Final

from engine.money import parse_instant

ERRORS: Final = {
    "http_5xx": "Your receiver failed while it handled this; its own log of this moment says why.",
    "http_4xx": "Your receiver refused this: a wrong path, an authorization that it asks for, or a signature check that fails.",
    "http_3xx": "Your receiver redirected. Webhooks follow no redirect: register the final address.",
    "gone": "Your receiver answered 410 Gone, which asks for nothing more: the endpoint was disabled.",
    "timeout": "No whole answer came in the time that the endpoint has: answer 2xx first and do the work afterwards.",
    "connection_failed": "Nobody took the connection: does the receiver run, and is its port open to this server?",
    "connection_lost": "The connection ended before the answer. This may have arrived: webhook-id tells whether you have it.",
    "dns_not_found": "There is no host of that name: look at the address and its DNS record.",
    "dns_unavailable": "The name could not be looked up just then. That is no fault of yours, and mostly soon over.",
    "tls": "No TLS connection came about: a certificate that ended, that is for another host, or that no trusted authority signed.",
    "tls_key_sealed": "This server cannot open the endpoint's private key: give the client certificate and its key again.",
    "destination_not_allowed": "The address leads into a network that this server does not call.",
    "aborted_by_endpoint": "Your receiver asked that this delivery be given up (webhook-delivery: abort-message).",
    "disabled_by_endpoint": "Your receiver asked to be disabled (webhook-delivery: disable).",
    "interrupted": "The worker went away during the request. Whether this arrived is not known, so it is sent again.",
    "invalid_response": "What came back was no HTTP answer.",
    "invalid_request": "No request could be made of this address and these headers.",
    "proxy_unavailable": "The proxy that this server calls through did not work. That is no fault of yours.",
    "secret_unavailable": "This server could not open the endpoint's signing key just then. That is no fault of yours.",
    "internal": "This server failed before it called you. That is no fault of yours.",
}
"""Error classes, in the order in which they are offered; any other can be written into a filter."""

REASONS: Final = {
    "circuit_open": "The endpoint failed too often in a row. One request probes it; the first success sends the rest.",
    "waits_for_order": "An earlier delivery has to be settled first: this endpoint keeps the order.",
    "endpoint_paused": "The endpoint is paused. This is sent when it is resumed.",
    "endpoint_disabled": "The endpoint is disabled. Replay this when it is enabled again.",
    "endpoint_deleted": "The endpoint was removed.",
    "by_request": "Somebody gave this up. It can still be replayed.",
}


def meaning(code: str | None) -> str:
    """Return what an error class or a reason means; nothing for one without words."""
    return "" if code is None else REASONS.get(code) or ERRORS.get(code, "")


def since(at: str, start: str) -> str:
    """Return how long after an instant another one was, as people say it: +12 ms."""
    passed_ms = (parse_instant(at) - parse_instant(start)) / 1000
    sign, span = "−" if passed_ms < 0 else "+", abs(passed_ms)
    for limit, unit, name in (
        (1000, 1, "ms"),
        (60_000, 1000, "s"),
        (3_600_000, 60_000, "min"),
        (86_400_000, 3_600_000, "h"),
    ):
        if span < limit:
            count = f"{span / unit:.1f}".removesuffix(".0") if unit > 1 else str(round(span))
            return f"{sign}{count} {name}"
    return f"{sign}{span / 86_400_000:.1f} d"
