"""Inspectors over HTTP: made and read with a credential; what is sent to their addresses comes from anybody who knows one."""

from __future__ import annotations

import asyncio

from starlette.responses import Response

from auth.errors import SiteUnknown
from delivery.errors import InspectorNotFound
from delivery.inspector import ENVIRONMENT
from delivery.inspector_shapes import InspectorChange, InspectorCreate
from engine.databases import Site
from gateway import lists, wire
from gateway.call import Call
from gateway.query import Asked


async def create_inspector(call: Call, _asked: Asked) -> Response:
    """Make a throw-away receiver in the sandbox; register its `url` as an endpoint."""
    body = await call.document()
    made = await call.services.inspectors.create(call.site, wire.decode(body, InspectorCreate))
    return wire.reply(wire.encode(made), status=201, headers={"location": f"/v1/inspectors/{made.id}"})


async def list_inspectors(call: Call, _asked: Asked) -> Response:
    """List the sandbox's inspectors, the newest first."""
    head = await call.services.engine.head(call.site)
    return lists.listed(call, list(await call.services.inspectors.list(call.site)), None, head.cursor())


async def get_inspector(call: Call, _asked: Asked) -> Response:
    """Return one inspector."""
    return wire.reply(wire.encode(await call.services.inspectors.get(call.site, call.path_id("inspector"))))


async def change_inspector(call: Call, _asked: Asked) -> Response:
    """Have an inspector answer 500, 410, 429 with Retry-After, or late."""
    change = wire.decode(await call.document(), InspectorChange)
    changed = await call.services.inspectors.change(call.site, call.path_id("inspector"), change)
    return wire.reply(wire.encode(changed))


async def list_requests(call: Call, asked: Asked) -> Response:
    """List what an inspector received, in order of arrival; it keeps the newest 200."""
    head = await call.services.engine.head(call.site)
    found, more = await call.services.inspectors.requests(
        call.site, call.path_id("inspector"), after=asked.get("after") or 0, limit=asked.get("limit") or 50
    )
    following = str(found[-1].number) if more else None
    body = wire.encode({"data": found, "has_more": more, "next_cursor": following})
    headers = {lists.FEED_CURSOR: head.cursor()}
    if following is not None:
        headers["link"] = lists.next_link(call, "after", following)
    return wire.reply(body, headers=headers)


async def receive(call: Call, _asked: Asked) -> Response:
    """Take a request that was sent to an inspector, and answer as the inspector was told to."""
    body = await wire.read_body(call.request, call.body_max)
    try:
        record = await call.services.clients.find_site(call.path["organization"], ENVIRONMENT)
    except SiteUnknown:
        raise InspectorNotFound(call.path["token"][:8]) from None
    site = Site(id=record.id, organization=record.organization, environment=record.environment)
    headers = {name: value[:2000] for name, value in list(call.request.headers.items())[:100]}
    told = await call.services.inspectors.receive(site, call.path["token"], headers, body)
    if told.delay_ms:
        await asyncio.sleep(told.delay_ms / 1000)
    extra = {"retry-after": str(told.retry_after_s)} if told.status == 429 else {}
    return wire.reply(wire.encode({"received": told.received + 1}), status=told.status, headers=extra)
