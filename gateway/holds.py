"""Holds over HTTP: reserve, capture whole or in part, release."""

from __future__ import annotations

from starlette.responses import Response

from engine import hold_queries
from engine.commands import ReleaseHold
from gateway import hold_bodies, lists, wire
from gateway.call import Call
from gateway.ledgers import submit
from gateway.query import Asked


async def create_hold(call: Call, _asked: Asked) -> Response:
    """Reserve funds until a time, a week from now unless given."""
    document = await call.document()
    hold = wire.decode(document, hold_bodies.HoldCreate)
    key = call.idempotency(document, hold.idempotency_key)
    done = await call.services.engine.submit(call.site, hold.command(), key=key, diagnostics=call.trace.diagnostics())
    return lists.committed(done, status=201, location=f"/v1/holds/{done.resource_id}")


async def list_holds(call: Call, asked: Asked) -> Response:
    """List holds, the newest first."""
    wanted = asked.selection("ledger_id", "status", "external_id")
    return lists.page(
        call,
        await call.services.engine.ask(
            call.site, hold_queries.list_holds, wanted, asked.get("account_id"), asked.get("account_category_id")
        ),
    )


async def get_hold(call: Call, _asked: Asked) -> Response:
    """Return one hold."""
    found = await call.services.engine.ask(call.site, hold_queries.hold, call.path_id("hold"))
    return lists.one(found, found.value.lock_version)


async def capture_hold(call: Call, _asked: Asked) -> Response:
    """Post what a hold reserves, or a part of it; `final` frees the rest."""
    document = await call.optional_document()
    command = wire.decode(document, hold_bodies.HoldCapture).command(call.path_id("hold"), call.if_match())
    return await submit(call, command, call.idempotency(document))


async def release_hold(call: Call, _asked: Asked) -> Response:
    """Free what a hold reserves."""
    document = await call.empty_document()
    command = ReleaseHold(hold_id=call.path_id("hold"), if_match=call.if_match())
    return await submit(call, command, call.idempotency(document))
