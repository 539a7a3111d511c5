"""The feed over WebSocket (RFC 6455): JSON arrays of envelopes, each followed by a checkpoint; subscriptions beside the first.

Close codes: 1000 and 4000 to 4099 may reconnect from the last checkpoint, 4400 to 4499 not with the same request.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from typing import Any, Final

from msgspec import UNSET, Struct, UnsetType
from msgspec.structs import replace
from starlette.websockets import WebSocket, WebSocketDisconnect

from auth.principal import Principal
from engine.cursors import parse_feed_cursor
from engine.errors import CursorInvalid, Fault
from engine.filters import EventFilter
from engine.money import format_instant
from gateway import frames, guard, wire
from gateway.call import CUT, Services, site_of
from gateway.following import Following
from gateway.frames import (
    CLIENT_FRAMES,
    Ack,
    AnyClientFrame,
    Checkpoint,
    Closing,
    Expiring,
    Ping,
    Pong,
    Refresh,
    Refreshed,
    ServerFrame,
    Subscribe,
    Unsubscribe,
    Unsubscribed,
)
from gateway.problems import Problem, invalid, problem_of
from gateway.starting import Start, filter_of, narrowed, start_of
from gateway.tailer import Taken
from gateway.tickets import SCOPE, open_ticket

CLOSE_CODES: Final = {
    "draining": 4000,
    "lifetime": 4001,
    "unavailable": 4002,
    "auth.expired": 4401,
    "auth.revoked": 4403,
}
SUBSCRIPTIONS_MAX: Final = 16
MESSAGE_MAX: Final = 16 * 1024
_WORDS: Final[dict[str, type[AnyClientFrame]]] = {str(each.__struct_config__.tag): each for each in CLIENT_FRAMES}


class Opening(Struct, frozen=True, kw_only=True):
    """What a connection was opened with: by whom, from where, what it lets through, how many events before one is done."""

    principal: Principal
    within: EventFilter | None
    wanted: EventFilter | None
    start: Start
    window: int | None


@dataclass(slots=True, kw_only=True)
class _Subscription:
    """One following on the connection; `within` is what its own credential lets through, `shares` whether that is the connection's."""

    place: Following
    within: EventFilter | None
    window: int | None
    shares: bool
    told: str
    """The cursor of the last checkpoint that was written."""

    unacknowledged: deque[tuple[int, int]] = field(default_factory=deque)
    """For each array that was sent: the place after it, and how many events it had."""

    def sent(self, taken: Taken) -> None:
        """Count what was sent against the window."""
        if self.window is not None:
            self.unacknowledged.append((taken.position, len(taken.frames)))
            self._allow()

    def acknowledge(self, sequence: int) -> None:
        """Make room for what is done. Raises CursorInvalid for what was never sent."""
        if sequence > self.place.position:
            raise CursorInvalid("the stream has not come that far")
        while self.unacknowledged and self.unacknowledged[0][0] <= sequence:
            self.unacknowledged.popleft()
        self._allow()

    def _allow(self) -> None:
        if self.window is not None:
            self.place.allowance = max(0, self.window - sum(count for _, count in self.unacknowledged))
            self.place.nudge()


async def serve(socket: WebSocket, services: Services, opening: Opening) -> None:
    """Accept and write the feed until one side ends it; a message is always awaited beside every send."""
    await socket.accept()
    services.metrics.streams.labels("websocket").inc()
    try:
        await _Session(socket, services, opening).run()
    finally:
        services.metrics.streams.labels("websocket").dec()


class _Session:
    """One connection: its own stream, which lives as long as the connection may, and the subscriptions beside it."""

    def __init__(self, socket: WebSocket, services: Services, opening: Opening) -> None:
        self._socket = socket
        self._services = services
        self._sending = asyncio.Lock()
        self._closed = False
        self._start = opening.start
        place = Following(services, opening.principal, opening.start, opening.wanted)
        place.allowance = opening.window
        place.cut = socket.scope.get("state", {}).get(CUT, place.end)
        self._own = _Subscription(
            place=place, within=opening.within, window=opening.window, shares=True, told=opening.start.cursor
        )
        self._named: dict[str, _Subscription] = {}
        self._tasks: dict[asyncio.Task[None], None] = {}
        self._written = services.metrics.streamed.labels("websocket")

    async def run(self) -> None:
        """Follow and listen until the client is gone."""
        self._follow(self._own, self._start)
        try:
            while (message := await self._socket.receive())["type"] != "websocket.disconnect":
                await self._hear(message)
        except WebSocketDisconnect:
            pass
        finally:
            self._closed = True
            for each in (self._own, *self._named.values()):
                each.place.end()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def _follow(self, subscription: _Subscription, start: Start) -> None:
        task = asyncio.get_running_loop().create_task(self._write(subscription, start))
        self._tasks[task] = None
        task.add_done_callback(self._tasks.pop)

    async def _write(self, subscription: _Subscription, start: Start) -> None:
        place = subscription.place
        try:
            with place.watched():
                if start.reset is not None:
                    await self._send(_named(start.reset, place.name))
                await self._send(place.ready(start))
                while (step := await place.step()) is not None:
                    if isinstance(step, Taken):
                        await self._send_events(subscription, step)
                    elif isinstance(step, Closing):
                        await self._end(subscription, step)
                        return
                    else:
                        await self._send_word(subscription, step)
        except WebSocketDisconnect:
            place.end()

    async def _end(self, subscription: _Subscription, word: Closing) -> None:
        """Say a subscription's last word and forget it; the connection's own takes the connection with it."""
        # Forgotten first: whoever hears the word may ask for a subscription of the same name at once.
        self._named = {name: each for name, each in self._named.items() if each is not subscription}
        await self._send(word)
        if subscription is not self._own:
            return
        async with self._sending:
            if not self._closed:
                self._closed = True
                await self._socket.close(CLOSE_CODES[word.reason], word.reason)

    async def _hear(self, message: Any) -> None:
        """Do what the client says, or tell it what is wrong with it; either way every stream goes on."""
        name: str | UnsetType = UNSET
        try:
            said = _read(message)
            name = getattr(said, "subscription", None) or UNSET
            match said:
                case Ping():
                    await self._send(Pong())
                case Subscribe():
                    await self._subscribe(said)
                case Unsubscribe():
                    await self._unsubscribe(said)
                case Ack():
                    self._find(said.subscription).acknowledge(parse_feed_cursor(said.cursor).sequence)
                case Refresh():
                    await self._refresh(said)
        except WebSocketDisconnect:
            raise
        except Exception as error:  # noqa: BLE001 - every failure is answered
            problem = problem_of(error)
            self._services.metrics.problems.labels(problem.code).inc()
            await self._send(_refusal(problem, name))

    async def _subscribe(self, said: Subscribe) -> None:
        if said.subscription in self._named:
            raise Problem(code="validation.invalid_value", detail="A subscription of this name is open.")
        if len(self._named) >= SUBSCRIPTIONS_MAX:
            raise Problem(code="validation.out_of_range", detail=f"At most {SUBSCRIPTIONS_MAX} subscriptions.")
        shares = said.ticket is None and said.token is None
        principal, within = (self._own.place.principal, self._own.within) if shares else await self._admit(said)
        guard.limit(principal, self._services, {})
        wanted = narrowed(filter_of(said.filter), within)
        site = site_of(principal)
        start = await start_of(self._services, site, said.cursor, said.from_, said.on_expired, "/from")
        place = Following(self._services, principal, start, wanted, said.subscription)
        place.cut = self._own.place.cut
        place.allowance = said.window
        made = _Subscription(place=place, within=within, window=said.window, shares=shares, told=start.cursor)
        self._named[said.subscription] = made
        self._follow(made, start)

    async def _unsubscribe(self, said: Unsubscribe) -> None:
        ended = self._find(said.subscription)
        if ended is self._own:
            ended.place.mute()
        else:
            del self._named[ended.place.name or ""]
            ended.place.end()
        # What was being written is written: nothing of it comes after this word.
        async with self._sending:
            await self._put(Unsubscribed(subscription=ended.place.name, cursor=ended.told))

    async def _refresh(self, said: Refresh) -> None:
        renewed = self._find(said.subscription)
        principal, within = await self._admit(said)
        guard.limit(principal, self._services, {})
        if principal.site != renewed.place.principal.site or within != renewed.within:
            raise Problem(code="auth.invalid", detail="The credential is of another site, or for another filter.")
        sharing = [self._own, *(each for each in self._named.values() if each.shares)]
        for each in sharing if renewed is self._own else [renewed]:
            each.place.refresh(principal)
        at = format_instant(principal.expires_at)
        await self._send(Refreshed(subscription=renewed.place.name, expires_at=at))

    async def _admit(self, said: Subscribe | Refresh) -> tuple[Principal, EventFilter | None]:
        """Return who a credential within a message lets in, and what it lets through at most; raises what auth raises."""
        if (said.ticket is None) == (said.token is None):
            raise Problem(code="auth.invalid", detail="Send a ticket or a token: one of them.")
        services = self._services
        if said.ticket is not None:
            return open_ticket(said.ticket, services, self._socket.headers.get("origin"))
        bearer = f"Bearer {said.token}"
        principal = await services.authenticator.authenticate(bearer, None, services.clock.now_us())
        principal.require(SCOPE)
        return principal, None

    def _find(self, name: str | None) -> _Subscription:
        found = self._own if name is None else self._named.get(name)
        if found is None:
            raise Problem(code="not_found", detail="No subscription of this name is open.")
        return found

    async def _send_events(self, subscription: _Subscription, taken: Taken) -> None:
        """Write an array and its checkpoint, unless the subscription ended while another was written."""
        place = subscription.place
        async with self._sending:
            if not (place.ended or place.muted):
                subscription.sent(taken)
                await self._put(taken.array, Checkpoint(subscription=place.name, cursor=taken.cursor))
                subscription.told = taken.cursor
                self._written.inc(len(taken.frames))

    async def _send_word(self, subscription: _Subscription, word: Checkpoint | Expiring) -> None:
        """Write how far a subscription has come, unless it ended while another was written."""
        async with self._sending:
            if not subscription.place.ended:
                await self._put(word)
                subscription.told = word.cursor

    async def _send(self, word: ServerFrame) -> None:
        async with self._sending:
            await self._put(word)

    async def _put(self, *words: str | ServerFrame) -> None:
        """Write; the ticker breaks off a connection whose client takes nothing for too long."""
        place = self._own.place
        place.writing(asyncio.get_running_loop().time())
        try:
            for word in words:
                if not self._closed:
                    await self._socket.send_text(word if isinstance(word, str) else wire.encode(word).decode())
        except WebSocketDisconnect:
            # What the client said before it left is still heard, and is answered to nobody.
            self._closed = True
            raise
        finally:
            place.writing(None)


def _read(message: Any) -> AnyClientFrame:
    """Return what the client says; raises the problem of what is no word of the protocol."""
    text = message.get("text")
    if text is None or len(text) > MESSAGE_MAX:
        detail = f"A message is JSON text of at most {MESSAGE_MAX} characters."
        raise Problem(code="request.malformed", detail=detail)
    document = wire.parse(text.encode("utf-8", "surrogatepass"), "application/json")
    kind = document.value.get("type") if isinstance(document.value, dict) else None
    shape = _WORDS.get(kind) if isinstance(kind, str) else None
    if shape is None:
        detail = f"A message is an object whose type is one of {', '.join(_WORDS)}."
        raise invalid([Fault(code="validation.invalid_value", pointer="/type", detail=detail)])
    return wire.decode(document, shape)


def _refusal(problem: Problem, name: str | UnsetType) -> frames.Error:
    return frames.Error(
        subscription=name,
        code=problem.code,
        detail=problem.detail,
        errors=[frames.ErrorFault(each.code, each.pointer, each.detail) for each in problem.faults],
        earliest=problem.extra.get("earliest", UNSET),
        head=problem.extra.get("head", UNSET),
    )


def _named(word: ServerFrame, name: str | UnsetType) -> ServerFrame:
    return replace(word, subscription=name)
