"""Replays of many deliveries over HTTP."""

from __future__ import annotations

from starlette.responses import Response

from delivery.replay_shapes import Replay, ReplayCreate
from engine.cursors import page_cursor, parse_page_cursor
from engine.fold import Committed
from gateway import lists, wire
from gateway.call import Call
from gateway.query import Asked


async def create_replay(call: Call, _asked: Asked) -> Response:
    """Replay many deliveries as a job: chosen ones, all that match a filter, or what an endpoint never had."""
    document = await call.document()
    draft = wire.decode(document, ReplayCreate)
    begun = await call.services.replays.create(call.site, draft, key=call.idempotency(document))
    answer = Committed(body=begun.body, resource_id=begun.replay_id, lock_version=1, replayed=begun.replayed)
    return lists.committed(answer, status=201, location=f"/v1/replays/{begun.replay_id}")


async def preview_replay(call: Call, _asked: Asked) -> Response:
    """Count what a replay would send, by endpoint; nothing is sent."""
    draft = wire.decode(await call.document(), ReplayCreate)
    return wire.reply(wire.encode(await call.services.replays.preview(call.site, draft)))


async def list_replays(call: Call, asked: Asked) -> Response:
    """List replays, the newest first."""
    cursor = asked.get("cursor")
    before = None if cursor is None else parse_page_cursor(cursor)
    limit = asked.get("limit") or 50
    page = await call.services.replays.list(call.site, limit=limit, before=before, ascending=asked.ascending)
    next_cursor = page_cursor(page.data[-1].id) if page.has_more else None
    return lists.listed(call, list(page.data), next_cursor, page.head.cursor())


async def get_replay(call: Call, _asked: Asked) -> Response:
    """Return one replay with its progress."""
    return _shown(await call.services.replays.get(call.site, call.path_id("replay")))


async def pause_replay(call: Call, _asked: Asked) -> Response:
    """Queue nothing more until it is resumed."""
    await call.empty_document()
    return _shown(await call.services.replays.pause(call.site, call.path_id("replay"), if_match=call.if_match()))


async def resume_replay(call: Call, _asked: Asked) -> Response:
    """Go on where it was paused."""
    await call.empty_document()
    return _shown(await call.services.replays.resume(call.site, call.path_id("replay"), if_match=call.if_match()))


async def cancel_replay(call: Call, _asked: Asked) -> Response:
    """Queue nothing more, for ever; the little that is queued already is still sent."""
    await call.empty_document()
    return _shown(await call.services.replays.cancel(call.site, call.path_id("replay"), if_match=call.if_match()))


def _shown(replay: Replay) -> Response:
    return wire.reply(wire.encode(replay), lock_version=replay.lock_version)
