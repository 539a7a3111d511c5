"""How answers look: one resource, a page of them, what a write came to; each with the headers it always has."""

from __future__ import annotations

from typing import Any, Final, TypeVar
from urllib.parse import urlencode

from msgspec import Struct
from starlette.responses import Response

from engine.fold import Committed
from engine.ledger import Answered
from engine.queries import Page
from gateway import wire
from gateway.call import Call

AnyStruct = TypeVar("AnyStruct", bound=Struct)

FEED_CURSOR: Final = "x-gledger-feed-cursor"
REPLAYED: Final = "idempotent-replayed"


def one(found: Answered[AnyStruct], lock_version: int | None = None) -> Response:
    """Return one resource, with the feed's cursor of its snapshot."""
    headers = {FEED_CURSOR: found.feed_cursor}
    return wire.reply(wire.encode(found.value), lock_version=lock_version, headers=headers)


def page(call: Call, found: Answered[Page[Any]]) -> Response:
    """Return a page of a list, with the feed's cursor of its snapshot and a link to the next page."""
    return listed(call, found.value.items, found.value.next_cursor, found.feed_cursor)


def listed(call: Call, items: list[Any], next_cursor: str | None, feed_cursor: str) -> Response:
    """Return items as a page."""
    headers = {FEED_CURSOR: feed_cursor}
    if next_cursor is not None:
        headers["link"] = next_link(call, "cursor", next_cursor)
    body = wire.encode({"data": items, "has_more": next_cursor is not None, "next_cursor": next_cursor})
    return wire.reply(body, headers=headers)


def next_link(call: Call, name: str, cursor: str) -> str:
    """Return the Link header (RFC 8288) of this list's next page."""
    kept = [(key, value) for key, value in call.request.query_params.multi_items() if key != name]
    return f'<{call.request.scope["path"]}?{urlencode([*kept, (name, cursor)])}>; rel="next"'


def committed(done: Committed, *, status: int = 200, location: str | None = None) -> Response:
    """Return what a write came to; a repeated request says that it was answered before."""
    headers: dict[str, str] = {}
    if location is not None:
        headers["location"] = location
    if done.replayed:
        headers[REPLAYED] = "true"
    return wire.reply(done.body, status=status, lock_version=done.lock_version, headers=headers)
