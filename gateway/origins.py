"""Web origins: which pages may follow streams (Fetch, CORS protocol), and how a ticket is kept out of every log. Pure."""

from __future__ import annotations

from collections.abc import MutableMapping, Sequence
from typing import Any, Final
from urllib.parse import unquote_plus, urlsplit

_TICKETS: Final = "gledger.tickets"
_ASKED_BY_PAGES: Final = "authorization, x-api-key, last-event-id, cache-control, correlation-id, traceparent"
_SHOWN_TO_PAGES: Final = "x-gledger-request-id, correlation-id, ratelimit, ratelimit-policy, retry-after"


def origin_of(url: str) -> str:
    """Return the origin of a URL as browsers write it (RFC 6454 §6.2): without a scheme's own port."""
    parts = urlsplit(url)
    host = f"[{parts.hostname}]" if parts.hostname is not None and ":" in parts.hostname else parts.hostname
    own = {"http": 80, "https": 443}.get(parts.scheme)
    port = "" if parts.port in {None, own} else f":{parts.port}"
    return f"{parts.scheme}://{host}{port}"


def page_headers(origin: str | None, allowed: Sequence[str], *, preflight: bool) -> dict[str, str]:
    """Return the headers that let a page of an allowed origin read the answer; never for any origin, never with cookies."""
    found = {"vary": "origin"}
    if origin is None or origin not in allowed:
        return found
    found["access-control-allow-origin"] = origin
    if preflight:
        found["access-control-allow-methods"] = "GET"
        found["access-control-allow-headers"] = _ASKED_BY_PAGES
        found["access-control-max-age"] = "600"
    else:
        found["access-control-expose-headers"] = _SHOWN_TO_PAGES
    return found


def hide_tickets(scope: MutableMapping[str, Any]) -> None:
    """Take the tickets out of a request's query, so that whoever logs the address does not log them."""
    kept, tickets = [], []
    for part in scope["query_string"].split(b"&"):
        name, _, value = part.partition(b"=")
        if unquote_plus(name.decode("latin-1")) == "ticket":
            tickets.append(unquote_plus(value.decode("latin-1")))
        else:
            kept.append(part)
    if tickets:
        scope["query_string"] = b"&".join(kept)
        scope[_TICKETS] = tickets


def hidden_tickets(scope: MutableMapping[str, Any]) -> list[str]:
    """Return the tickets that a request brought."""
    found: list[str] = scope.get(_TICKETS, [])
    return found
