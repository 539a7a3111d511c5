"""What SSE and WebSocket share: where a stream starts, what it wants, and the one loop that moves its position.

History and live are the same reading; only the wait between differs.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from typing import Final

from starlette.requests import HTTPConnection

from auth.principal import Principal
from engine.cursors import feed_cursor
from engine.databases import Site
from engine.errors import CursorExpired, CursorInvalid, EngineError, Fault
from engine.events import EVENT_TYPES, genesis_hash
from engine.feed import Head
from engine.money import parse_instant
from gateway.call import Services
from gateway.problems import invalid
from gateway.query import Asked, Parameter
from gateway.tailer import Frame

CURSOR_PARAMETER: Final = Parameter(
    name="cursor",
    kind="cursor",
    meaning="Where to resume: the events after this cursor. The Last-Event-ID header goes before it.",
    aliases=("last_event_id", "lastEventId"),
)
FROM_PARAMETER: Final = Parameter(
    name="from",
    kind="text",
    meaning="Where to start without a cursor: `start`, `now` (unless given), or a time.",
)
TYPES_PARAMETER: Final = Parameter(
    name="types",
    kind="text",
    meaning="Event types, comma separated; `entry.*` is a family, `*` is all.",
)
_CHECK_S: Final = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Events:
    """Frames to write, and the place after the last one."""

    frames: list[Frame]
    cursor: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """Nothing to write, and how far the stream has come."""

    cursor: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Closing:
    """The stream ends: why, whether the client may come back, and from where it resumes."""

    reason: str
    reconnect: bool
    cursor: str


Step = Events | Checkpoint | Closing


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """Where a stream begins."""

    position: int
    cursor: str
    head: Head


def types_wanted(text: str | None) -> Callable[[str], bool]:
    """Return which event types a `types` parameter lets through; raises the problem of one that names none."""
    if text is None or text == "*":
        return _everything
    types = expand_types(text)
    return types.__contains__


def expand_types(text: str) -> frozenset[str]:
    """Return the event types that a `types` parameter names."""
    found: set[str] = set()
    unknown: list[str] = []
    for pattern in (part.strip() for part in text.split(",")):
        family = pattern.removesuffix("*") if pattern.endswith(".*") else None
        matching = {each for each in EVENT_TYPES if pattern in {"*", each} or (family and each.startswith(family))}
        found |= matching
        if not matching:
            unknown.append(pattern)
    if unknown:
        names = ", ".join(repr(each) for each in unknown[:10])
        raise invalid([Fault(code="validation.invalid_value", pointer="?types", detail=f"Not event types: {names}.")])
    return frozenset(found)


async def start_of(services: Services, site: Site, asked: Asked, connection: HTTPConnection) -> Start:
    """Return where a stream begins; raises CursorInvalid, CursorExpired, or the problem of a wrong `from`."""
    last_event_id = connection.headers.get("last-event-id")
    cursor = last_event_id if last_event_id is not None else asked.get("cursor")
    engine = services.engine
    if cursor is not None:
        if not cursor.isascii():
            raise CursorInvalid("it is malformed")
        position, head = await engine.resolve(site, cursor)
        return Start(position=position, cursor=cursor, head=head)
    begin = asked.get("from") or "now"
    if begin == "now":
        head = await engine.head(site)
        return Start(position=head.sequence, cursor=head.cursor(), head=head)
    if begin == "start":
        position, head = await engine.start(site)
    else:
        try:
            at_us = parse_instant(begin)
        except ValueError:
            detail = "`from` is start, now, or an RFC 3339 time with an offset."
            raise invalid([Fault(code="validation.invalid_time", pointer="?from", detail=detail)]) from None
        position, head = await engine.place_at(site, at_us)
    page = await engine.read_after(site, position - 1, 1) if position else None
    event_hash = page[0][0].hash if page else None
    return Start(position=position, cursor=_cursor(head, site, position, event_hash), head=head)


async def follow(
    services: Services,
    site: Site,
    principal: Principal,
    start: Start,
    wanted: Callable[[str], bool],
    ended: asyncio.Event,
) -> AsyncGenerator[Step, None]:
    """Move over the feed from a place: events as they are there, checkpoints while they are not, a last word at the end.

    `ended` is set when the client is gone.
    """
    settings = services.stream
    loop = asyncio.get_running_loop()
    position, cursor = start.position, start.cursor
    born = spoken = loop.time()
    try:
        async with services.tailers.listening(site) as tailer:
            while not ended.is_set():
                closing = _closing(services, principal, loop.time() - born > settings.lifetime_s, cursor)
                if closing is not None:
                    yield closing
                    return
                taken = await tailer.take(position, wanted)
                if taken.cursor is not None:
                    position, cursor = taken.position, taken.cursor
                    if taken.frames:
                        yield Events(frames=taken.frames, cursor=cursor)
                        spoken = loop.time()
                    elif loop.time() - spoken > settings.idle_checkpoint_s:
                        yield Checkpoint(cursor=cursor)
                        spoken = loop.time()
                    else:
                        await asyncio.sleep(0)
                    continue
                silence = settings.idle_checkpoint_s - (loop.time() - spoken)
                if silence <= 0:
                    yield Checkpoint(cursor=cursor)
                    spoken = loop.time()
                    continue
                await tailer.wait(position, min(_CHECK_S, silence))
    except CursorExpired:
        yield Closing(reason="cursor.expired", reconnect=False, cursor=cursor)
    except EngineError:
        yield Closing(reason="unavailable", reconnect=True, cursor=cursor)


def _closing(services: Services, principal: Principal, too_old: bool, cursor: str) -> Closing | None:
    if services.tailers.draining.is_set():
        return Closing(reason="draining", reconnect=True, cursor=cursor)
    if services.authenticator.revoked(principal):
        return Closing(reason="auth.revoked", reconnect=False, cursor=cursor)
    if services.clock.now_us() >= principal.expires_at:
        return Closing(reason="auth.expired", reconnect=False, cursor=cursor)
    if too_old:
        return Closing(reason="lifetime", reconnect=True, cursor=cursor)
    return None


def _everything(_event_type: str) -> bool:
    return True


def _cursor(head: Head, site: Site, position: int, event_hash: bytes | None) -> str:
    if event_hash is None:
        event_hash = genesis_hash(site.id, head.epoch)
    return feed_cursor(head.epoch, position, event_hash)
