"""One row of the table of operations: everything that routing, guarding and OpenAPI need to know of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Literal

from msgspec import Struct
from starlette.responses import Response

from gateway import wire
from gateway.call import Call
from gateway.query import Asked, Parameter

Handler = Callable[[Call, Asked], Awaitable[Response]]


class Route(Struct, frozen=True, kw_only=True):
    """One operation.

    `scope` None is public. `body` is the shape it takes; `answer` the shape it gives, a page of it where `page` is true.
    `refusals` are the codes it answers beside those that every operation of its kind may.
    `pages`: a page of an allowed web origin may call it, with a ticket or a header.
    """

    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
    path: str
    handler: Handler
    tag: str
    scope: str | None = None
    body: Any = None
    body_optional: bool = False
    answer: Any = None
    page: bool = False
    status: int = 200
    also: tuple[int, ...] = ()
    """Other statuses that the same answer comes with."""
    prefer_async: bool = False
    query: tuple[Parameter, ...] = ()
    idempotent: bool = False
    conditional: bool = False
    etag: bool = False
    derived: bool = False
    """Whether it shows more than its version tells of: progress, or what stands beside it."""
    feed_cursor: bool = False
    media_type: str = "application/json"
    body_max: int = wire.BODY_MAX
    refusals: tuple[str, ...] = ()
    form: tuple[str, ...] = ()
    pages: bool = False
