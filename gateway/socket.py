"""The feed over WebSocket (RFC 6455): JSON arrays of envelopes, each followed by a checkpoint.

Close codes: 1000 and 4000–4099 may reconnect from the last checkpoint, 4400–4499 not with the same request.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from contextlib import aclosing
from typing import Final

from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from auth.principal import Principal
from engine.databases import Site
from gateway import wire
from gateway.call import Services, site_of
from gateway.following import Checkpoint, Closing, Events, Start, follow
from gateway.tailer import Frame

CLOSE_CODES: Final = {
    "draining": 4000,
    "lifetime": 4001,
    "unavailable": 4002,
    "slow": 4003,
    "auth.expired": 4401,
    "auth.revoked": 4403,
    "cursor.expired": 4410,
    "request.malformed": 4400,
}
_MESSAGE_MAX: Final = 4096


async def serve(
    socket: WebSocket,
    services: Services,
    principal: Principal,
    start: Start,
    wanted: Callable[[str], bool],
) -> None:
    """Accept, say ready, and write the feed until one side ends it; a message is always awaited beside every send."""
    await socket.accept()
    site = site_of(principal)
    ended = asyncio.Event()
    services.metrics.streams.labels("websocket").inc()
    try:
        async with asyncio.TaskGroup() as group:
            listening = group.create_task(_listen(socket, ended))
            await _write(socket, services, site, principal, start, wanted, ended)
            ended.set()
            listening.cancel()
    except* (WebSocketDisconnect, ConnectionError):
        pass
    finally:
        services.metrics.streams.labels("websocket").dec()


async def _write(
    socket: WebSocket,
    services: Services,
    site: Site,
    principal: Principal,
    start: Start,
    wanted: Callable[[str], bool],
    ended: asyncio.Event,
) -> None:
    timeout_s = services.stream.send_timeout_s
    written = services.metrics.streamed.labels("websocket")
    try:
        await _send(socket, _told("ready", cursor=start.cursor, head=start.head.cursor()), timeout_s)
        async with aclosing(follow(services, site, principal, start, wanted, ended)) as steps:
            async for step in steps:
                match step:
                    case Events(frames=frames, cursor=cursor):
                        await _send(socket, _array(frames), timeout_s)
                        await _send(socket, _told("checkpoint", cursor=cursor), timeout_s)
                        written.inc(len(frames))
                    case Checkpoint(cursor=cursor):
                        await _send(socket, _told("checkpoint", cursor=cursor), timeout_s)
                    case Closing(reason=reason, reconnect=reconnect, cursor=cursor):
                        told = _told("closing", reason=reason, reconnect=reconnect, cursor=cursor)
                        await _send(socket, told, timeout_s)
                        await socket.close(CLOSE_CODES[reason], reason)
    except TimeoutError:
        with contextlib.suppress(Exception):
            await socket.close(CLOSE_CODES["slow"], "slow")


async def _listen(socket: WebSocket, ended: asyncio.Event) -> None:
    """Take what the client says: a ping is answered, anything else is an error it is told of."""
    try:
        while True:
            message = await socket.receive()
            if message["type"] == "websocket.disconnect":
                return
            text = message.get("text") or ""
            if len(text) <= _MESSAGE_MAX and _is_ping(text):
                await socket.send_text(_told("pong"))
            elif socket.application_state is WebSocketState.CONNECTED:
                await socket.send_text(
                    _told("error", code="request.malformed", detail='Send {"type":"ping"}, or nothing.')
                )
    finally:
        ended.set()


def _is_ping(text: str) -> bool:
    try:
        value = wire.decode_any(text)
    except ValueError:
        return False
    return isinstance(value, dict) and value.get("type") == "ping"


async def _send(socket: WebSocket, text: str, timeout_s: float) -> None:
    async with asyncio.timeout(timeout_s):
        await socket.send_text(text)


def _array(frames: list[Frame]) -> str:
    return "[" + b",".join([each.body for each in frames]).decode() + "]"


def _told(kind: str, **fields: object) -> str:
    return wire.encode({"type": kind, **fields}).decode()
