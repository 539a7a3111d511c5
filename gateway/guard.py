"""Who may do this, how often: authenticate, authorise, limit; before anything of the request's body is read."""

from __future__ import annotations

import math
import re
from typing import Final

from starlette.requests import HTTPConnection

from auth.principal import Principal
from gateway.call import Services, Trace
from gateway.problems import Problem

_CORRELATION: Final = re.compile(r"[\x21-\x7e]{1,128}\Z")
_TRACEPARENT: Final = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}\Z")


async def authenticate(connection: HTTPConnection, services: Services, scope: str) -> Principal:
    """Return who calls, if they may; raises what auth raises.

    A header that is sent twice is no credential at all: nobody should have to guess which one counts.
    """
    tokens, api_keys = connection.headers.getlist("authorization"), connection.headers.getlist("x-api-key")
    if len(tokens) > 1 or len(api_keys) > 1:
        raise Problem(code="auth.invalid", detail="Credentials were sent twice.")
    token, api_key = tokens[0] if tokens else None, api_keys[0] if api_keys else None
    principal = await services.authenticator.authenticate(token, api_key, services.clock.now_us())
    principal.require(scope)
    return principal


def limit(principal: Principal, services: Services, headers: dict[str, str]) -> None:
    """Count the request against its credential; raises the problem of too many.

    The headers follow the RateLimit header fields for HTTP (draft-ietf-httpapi-ratelimit-headers).
    """
    limiter = services.limiter
    if not limiter.limit:
        return
    left, wait_s = limiter.take(principal.credential_id)
    headers["ratelimit-policy"] = f'"credential";q={limiter.limit};w={limiter.window_s}'
    headers["ratelimit"] = f'"credential";r={max(left, 0)};t={math.ceil(wait_s)}'
    if left < 0:
        wait = {"retry-after": str(max(1, math.ceil(wait_s)))}
        detail = f"These credentials may make {limiter.limit} requests in {limiter.window_s} s."
        raise Problem(code="rate_limit", detail=detail, headers=wait)


def trace_of(connection: HTTPConnection, request_id: str) -> Trace:
    """Return where the request is found again; raises the problem of an id that would not survive a log line."""
    correlation_id = connection.headers.get("correlation-id")
    if correlation_id is not None and not _CORRELATION.match(correlation_id):
        raise Problem(code="request.malformed", detail="correlation-id is 1 to 128 visible ASCII characters.")
    traceparent = connection.headers.get("traceparent")
    if traceparent is not None and not _TRACEPARENT.match(traceparent):
        traceparent = None
    return Trace(request_id=request_id, correlation_id=correlation_id, traceparent=traceparent)


def check_accept(connection: HTTPConnection, offered: str) -> None:
    """Raise the problem of an Accept header that leaves nothing of what is offered."""
    accept = connection.headers.get("accept")
    if not accept:
        return
    kind = offered.partition("/")[0]
    for part in accept.lower().split(","):
        name, _, parameters = part.partition(";")
        refused = any(
            each.strip().replace(" ", "") in {"q=0", "q=0.0", "q=0.00", "q=0.000"} for each in parameters.split(";")
        )
        if name.strip() in {"*/*", f"{kind}/*", offered, "application/problem+json"} and not refused:
            return
    raise Problem(code="not_acceptable", detail=f"This is shown as {offered} only.")
