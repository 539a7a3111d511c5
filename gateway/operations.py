"""How the process is doing: alive, ready, measured."""

from __future__ import annotations

import hmac
from ipaddress import ip_address

from starlette.responses import Response

from gateway import wire
from gateway.call import Call
from gateway.problems import Problem
from gateway.query import Asked


async def health(_call: Call, _asked: Asked) -> Response:
    """Say that the process answers."""
    return wire.reply(b'{"status":"ok"}')


async def readiness(call: Call, _asked: Asked) -> Response:
    """Say whether the process can serve: each part it needs, by name."""
    checks = dict(await call.services.ready())
    checks["accepting"] = not call.services.tailers.draining.is_set()
    if not all(checks.values()):
        down = ", ".join(name for name, up in checks.items() if not up)
        raise Problem(code="unavailable", detail=f"Not ready: {down}.", extra={"checks": checks})
    return wire.reply(wire.encode({"status": "ready", "checks": checks}))


async def metrics(call: Call, _asked: Asked) -> Response:
    """Return the process's metrics for Prometheus: with the metrics token, or to this machine where none is set."""
    wanted = call.services.metrics_token
    client = call.request.client
    if wanted is None:
        if client is None or not ip_address(client.host).is_loopback:
            raise Problem(code="auth.missing", detail="Without a metrics token, only this machine is answered.")
    else:
        given = call.request.headers.get("authorization", "")
        if not hmac.compare_digest(given.encode(), f"Bearer {wanted}".encode()):
            raise Problem(code="auth.missing", detail="Send the metrics token as Bearer.")
    body, media_type = call.services.metrics.render()
    return Response(body, headers={"content-type": media_type, "cache-control": "no-store"})
