"""Webhook endpoints and the delivery log over HTTP."""

from __future__ import annotations

from typing import Final

from starlette.responses import Response

from delivery.endpoints import Written
from delivery.log import DeliveryFilter
from delivery.shapes import Delivery, Endpoint, EndpointChange, EndpointCreate, RotateSecret
from engine.cursors import page_cursor, parse_page_cursor
from engine.errors import Fault
from engine.fold import Committed
from gateway import lists, wire
from gateway.call import Call
from gateway.problems import invalid
from gateway.query import Asked

FILTERS: Final = (
    "endpoint_id",
    "status",
    "event_type",
    "event_id",
    "correlation_id",
    "sequence_from",
    "sequence_to",
    "last_response",
    "last_error",
)
"""The query parameters that are members of a DeliveryFilter."""


async def create_endpoint(call: Call, _asked: Asked) -> Response:
    """Register an endpoint; its secret is shown here and never again."""
    document = await call.document()
    draft = wire.decode(document, EndpointCreate)
    done = await call.services.endpoints.create(call.site, draft, key=call.idempotency(document))
    return _written(done, status=201, location=f"/v1/webhook_endpoints/{done.resource_id}")


async def list_endpoints(call: Call, asked: Asked) -> Response:
    """List endpoints, the newest first."""
    page = await call.services.endpoints.list(
        call.site,
        limit=asked.get("limit") or 50,
        before=_before(asked),
        ascending=asked.ascending,
        metadata=asked.metadata,
    )
    next_cursor = page_cursor(page.data[-1].id) if page.has_more else None
    return lists.listed(call, list(page.data), next_cursor, page.head.cursor())


async def get_endpoint(call: Call, _asked: Asked) -> Response:
    """Return one endpoint."""
    return _endpoint(await call.services.endpoints.get(call.site, call.path_id("endpoint")))


async def change_endpoint(call: Call, _asked: Asked) -> Response:
    """Change an endpoint; a new subscription is in force from the feed's head on."""
    change = wire.decode(await call.document(), EndpointChange)
    endpoint_id = call.path_id("endpoint")
    return _endpoint(await call.services.endpoints.change(call.site, endpoint_id, change, if_match=call.if_match()))


async def delete_endpoint(call: Call, _asked: Asked) -> Response:
    """Remove an endpoint; what was still to be delivered is skipped."""
    await call.empty_document()
    await call.services.endpoints.delete(call.site, call.path_id("endpoint"), if_match=call.if_match())
    return Response(status_code=204)


async def pause_endpoint(call: Call, _asked: Asked) -> Response:
    """Stop sending; deliveries wait."""
    await call.empty_document()
    return _endpoint(await call.services.endpoints.pause(call.site, call.path_id("endpoint"), if_match=call.if_match()))


async def resume_endpoint(call: Call, _asked: Asked) -> Response:
    """Send again what waited."""
    await call.empty_document()
    return _endpoint(
        await call.services.endpoints.resume(call.site, call.path_id("endpoint"), if_match=call.if_match())
    )


async def enable_endpoint(call: Call, _asked: Asked) -> Response:
    """Enable an endpoint that was disabled."""
    await call.empty_document()
    return _endpoint(
        await call.services.endpoints.enable(call.site, call.path_id("endpoint"), if_match=call.if_match())
    )


async def rotate_secret(call: Call, _asked: Asked) -> Response:
    """Make a new secret; the old one signs too for a day, or for as long as is asked for."""
    document = await call.optional_document()
    done = await call.services.endpoints.rotate_secret(
        call.site,
        call.path_id("endpoint"),
        wire.decode(document, RotateSecret),
        key=call.idempotency(document),
        if_match=call.if_match(),
    )
    return _written(done)


async def test_endpoint(call: Call, _asked: Asked) -> Response:
    """Send the endpoint a test event, through the feed like any other."""
    document = await call.empty_document()
    endpoint_id = call.path_id("endpoint")
    await call.services.endpoints.test(call.site, endpoint_id, key=call.idempotency(document))
    return wire.reply(wire.encode({"endpoint_id": endpoint_id, "event_type": "endpoint.test"}), status=202)


async def list_deliveries(call: Call, asked: Asked) -> Response:
    """List deliveries: the newest first, or with `after` an endpoint's in order of its numbers."""
    after, limit = asked.get("after"), asked.get("limit") or 50
    if after is not None and asked.get("endpoint_id") is None:
        fault = Fault(
            code="validation.required_field_missing",
            pointer="?endpoint_id",
            detail="`after` counts an endpoint's events.",
        )
        raise invalid([fault])
    created = asked.bounds.get("created_at", {})
    # Instants are whole microseconds, so an open bound is the closed one beside it.
    from_us = [at for at in (created.get("gte"), _beside(created.get("gt"), 1)) if at is not None]
    to_us = [at for at in (created.get("lte"), _beside(created.get("lt"), -1)) if at is not None]
    matching = DeliveryFilter(
        created_from=max(from_us, default=None),
        created_to=min(to_us, default=None),
        **{name: asked.get(name) for name in FILTERS},
    )
    page = await call.services.log.deliveries(
        call.site,
        matching,
        limit=limit,
        after=after,
        before=_before(asked),
        include_event=asked.get("include") == "event",
    )
    next_cursor = page_cursor(page.data[-1].id) if page.has_more and after is None else None
    if after is None or not page.has_more:
        return lists.listed(call, list(page.data), next_cursor, page.head.cursor())
    following = str(page.data[-1].endpoint_sequence)
    body = wire.encode({"data": page.data, "has_more": True, "next_cursor": following})
    headers = {lists.FEED_CURSOR: page.head.cursor(), "link": lists.next_link(call, "after", following)}
    return wire.reply(body, headers=headers)


async def get_delivery(call: Call, asked: Asked) -> Response:
    """Return one delivery."""
    include = asked.get("include") == "event"
    return _delivery(
        await call.services.log.delivery(call.site, call.path_id("delivery"), include_event=include),
    )


async def list_attempts(call: Call, _asked: Asked) -> Response:
    """List the attempts of a delivery, the first one first."""
    head = await call.services.engine.head(call.site)
    found = await call.services.log.attempts(call.site, call.path_id("delivery"))
    return lists.listed(call, list(found), None, head.cursor())


async def replay_delivery(call: Call, _asked: Asked) -> Response:
    """Deliver again: the same delivery, event id and sequences, one more attempt."""
    await call.empty_document()
    return _delivery(await call.services.replay.replay_one(call.site, call.path_id("delivery")), status=202)


async def skip_delivery(call: Call, _asked: Asked) -> Response:
    """Give a delivery up: what waits for it in an ordered endpoint goes on."""
    await call.empty_document()
    return _delivery(await call.services.skip.skip_one(call.site, call.path_id("delivery")))


def _beside(at_us: int | None, step: int) -> int | None:
    return None if at_us is None else at_us + step


def _before(asked: Asked) -> str | None:
    cursor = asked.get("cursor")
    return None if cursor is None else parse_page_cursor(cursor)


def _endpoint(endpoint: Endpoint) -> Response:
    return wire.reply(wire.encode(endpoint), lock_version=endpoint.lock_version)


def _delivery(delivery: Delivery, status: int = 200) -> Response:
    return wire.reply(wire.encode(delivery), status=status)


def _written(done: Written, *, status: int = 200, location: str | None = None) -> Response:
    answer = Committed(
        body=done.body,
        resource_id=done.resource_id,
        lock_version=done.lock_version,
        replayed=done.replayed,
    )
    return lists.committed(answer, status=status, location=location)
