"""Clients that follow the feed over the simulated network, come back with their last cursor, and keep all that they were sent."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import msgspec
from sqlalchemy import Row

from engine.cursors import parse_feed_cursor
from engine.money import format_instant, parse_instant
from gateway.frames import StreamFilter
from gateway.starting import PLACES
from tests.simulation.connection import Broken, Connection, Wanted
from tests.simulation.world import SITE, World
from tests.stream_services import follower

SILENCE_S: Final = 9.0
"""Longer than a stream is ever silent: then the connection is dead, though nobody said so."""
LATER_US: Final = 3_000_000
EXTRA: Final = "extra"
_WITHOUT_END: Final = 4_000_000_000_000_000


@dataclass(slots=True, kw_only=True)
class Track:
    """One stream of a client: what it lets through, where the client is in it, and what it got."""

    filter: StreamFilter
    begin: str = "start"
    cursor: str | None = None
    got: list[tuple[int, str]] = field(default_factory=list)

    def expected(self, stored: Sequence[Row[Any]]) -> list[tuple[int, str]]:
        """Return what of the feed it should get; worked out from the stored bytes, without the product's own filter.

        What is committed while a stream begins may be of an earlier time than it asked for.
        """
        wanted, since = self.filter, 0 if self.begin == "start" else parse_instant(self.begin)
        first = self.got[0][0] if self.got else len(stored) + 1
        return [
            (row.sequence, row.id)
            for row in stored
            if (row.created_at >= since or row.sequence >= first)
            and (wanted.types is None or row.type.startswith("entry."))
            and (wanted.account_id is None or wanted.account_id.encode() in row.body)
        ]


def audience(world: World, connect: Callable[[Connection], None], accounts: list[str]) -> list[Follower]:
    """Return who follows: everything and parts of it, from the start and from a time, over both kinds of stream."""
    account, entries = StreamFilter(account_id=accounts[0]), StreamFilter(types=["entry.*"])
    later = format_instant(world.now_us() + LATER_US)
    return [
        Follower(world, connect, "blocks", "sse", Track(filter=StreamFilter())),
        Follower(world, connect, "blocks of an account", "sse", Track(filter=account)),
        Follower(world, connect, "arrays", "websocket", Track(filter=StreamFilter()), Track(filter=account), window=3),
        Follower(world, connect, "blocks of two feeds", "sse", Track(filter=StreamFilter()), Track(filter=account)),
        Follower(world, connect, "later arrays", "websocket", Track(filter=entries, begin=later)),
    ]


class Follower:
    """A client with one stream or with two beside each other, whom any gateway may serve."""

    def __init__(
        self,
        world: World,
        connect: Callable[[Connection], None],
        name: str,
        kind: Literal["sse", "websocket"],
        *tracks: Track,
        window: int | None = None,
    ) -> None:
        self.name = name
        self.tracks = tracks
        self._main, self._extra = tracks[0], tracks[1] if len(tracks) > 1 else None
        self._world = world
        self._connect = connect
        self._kind = kind
        self._window = window
        self._connections = 0
        self._unsubscribing = False

    async def run(self) -> None:
        """Follow until cancelled."""
        if self._main.begin != "start":
            await asyncio.sleep((parse_instant(self._main.begin) - self._world.now_us()) / 1_000_000)
        while True:
            connection = self._open()
            try:
                if self._kind == "sse":
                    await self._read_blocks(connection)
                else:
                    await self._read_messages(connection)
            except (Broken, TimeoutError):
                pass
            finally:
                connection.leave()
            await asyncio.sleep(2 * self._world.dice.random())

    def _open(self) -> Connection:
        world = self._world
        self._connections += 1
        tracks = self.tracks if self._kind == "sse" else self.tracks[:1]
        cursors = [track.cursor for track in tracks if track.cursor]
        wanted = Wanted(
            kind=self._kind,
            principals=tuple(
                follower(SITE, f"{self.name}-{self._connections}-{at}", self._ends_at()) for at in range(len(tracks))
            ),
            cursor=PLACES.join(cursors) or None,
            begin=None if cursors else self._main.begin,
            filters=tuple(track.filter for track in tracks),
            window=self._window,
        )
        connection = Connection(world, wanted)
        self._connect(connection)
        return connection

    def _ends_at(self) -> int:
        lives_us = self._world.dice.randint(5_000_000, 90_000_000) if self._world.faults else _WITHOUT_END
        return min(self._world.now_us() + lives_us, _WITHOUT_END)

    async def _pause(self) -> None:
        """Read slowly at times, slower than a server waits."""
        if self._world.faults and self._world.dice.random() < 0.05:
            await asyncio.sleep(20 * self._world.dice.random())

    async def _read_blocks(self, connection: Connection) -> None:
        rest = b""
        while True:
            await self._pause()
            message = await connection.read(SILENCE_S)
            *blocks, rest = (rest + message.get("body", b"")).split(b"\n\n")
            for block in blocks:
                fields = dict(line.split(b": ", 1) for line in block.split(b"\n"))
                self._read_block(fields[b"event"].decode(), fields[b"id"].decode(), fields[b"data"])

    def _read_block(self, kind: str, cursor: str, data: bytes) -> None:
        """Take an event for the feed it is of, or a word, and go on to where its id says in each feed."""
        places = cursor.split(PLACES)
        if "." in kind:
            # The first lets through everything: its place moves with its own events alone.
            at = 0 if places[0] != self._main.cursor else len(places) - 1
            self._take(self.tracks[at], data, places[at])
        else:
            word = msgspec.json.decode(data)
            if word["cursor"] != (places[int(word["subscription"])] if "subscription" in word else cursor):
                self._world.broken.append(f"{self.name} was told {word} at {cursor}")
        for track, place in zip(self.tracks, places, strict=True):
            self._move(track, kind, place)

    async def _read_messages(self, connection: Connection) -> None:
        waiting: list[msgspec.Raw] = []
        if self._extra is not None:
            self._subscribe(connection, self._extra)
        while True:
            await self._pause()
            message = await connection.read(SILENCE_S)
            if message["type"] == "websocket.close":
                return
            text = message.get("text")
            if text is None:
                continue
            if text.startswith("["):
                waiting = msgspec.json.decode(text, type=list[msgspec.Raw])
                continue
            self._hear(connection, msgspec.json.decode(text), waiting)
            waiting = []

    def _hear(self, connection: Connection, word: dict[str, Any], waiting: list[msgspec.Raw]) -> None:
        name, kind = word.get("subscription"), word["type"]
        track = self._main if name is None else self._extra
        if track is None or (waiting and kind != "checkpoint"):
            self._world.broken.append(f"{self.name} was told {word} after {len(waiting)} events")
            return
        for body in waiting:
            self._take(track, bytes(body), None)
        if kind == "error" and word["code"] == "not_found":
            # What was said of a subscription crossed its end.
            return
        if kind == "error" and word["code"] != "unavailable":
            self._world.broken.append(f"{self.name} was told {word}")
        if "cursor" in word:
            self._move(track, kind, word["cursor"])
        if kind == "checkpoint":
            self._answer(connection, name, word["cursor"])
        elif kind == "unsubscribed" or (kind in {"closing", "error"} and track is self._extra):
            self._subscribe(connection, track)

    def _answer(self, connection: Connection, name: str | None, cursor: str) -> None:
        """Acknowledge a checkpoint where somebody waits for that, and now and then end the stream beside the first."""
        if name is None:
            if self._window is not None or self._world.dice.random() < 0.2:
                self._say(connection, type="ack", cursor=cursor)
        elif not self._unsubscribing:
            self._say(connection, type="ack", cursor=cursor, subscription=name)
            if self._world.dice.random() < 0.1:
                self._unsubscribing = True
                self._say(connection, type="unsubscribe", subscription=name)

    def _subscribe(self, connection: Connection, track: Track) -> None:
        self._unsubscribing = False
        place = {"from": track.begin} if track.cursor is None else {"cursor": track.cursor}
        wanted = msgspec.to_builtins(track.filter)
        self._say(connection, type="subscribe", subscription=EXTRA, filter=wanted, window=2, **place)

    def _say(self, connection: Connection, **members: Any) -> None:
        connection.say(msgspec.json.encode(members).decode())

    def _take(self, track: Track, body: bytes, cursor: str | None) -> None:
        envelope = msgspec.json.decode(body)
        if cursor is not None and parse_feed_cursor(cursor).sequence != envelope["sequence"]:
            self._world.broken.append(f"the cursor {cursor} stands at the event {envelope['sequence']}")
        self._world.note("streamed", self.name, envelope["sequence"])
        track.got.append((envelope["sequence"], envelope["id"]))

    def _move(self, track: Track, kind: str, cursor: str) -> None:
        """Store a cursor; a stream never says one behind what it said before, nor begins or ends elsewhere than where it was."""
        before, now = track.cursor, parse_feed_cursor(cursor).sequence
        was = now if before is None else parse_feed_cursor(before).sequence
        if now < was or (now > was and kind in {"ready", "unsubscribed"}):
            self._world.broken.append(f"{self.name} at {before} was told {kind} at {cursor}")
        track.cursor = cursor
