"""The simulator: it finds nothing in the product, the same seed is the same story, and it finds what is planted."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest
from sqlalchemy import Connection

from delivery import claim, relay
from delivery.relay import Relay, RelayOutcome
from delivery.rows import DeliveryRow
from delivery.store.deliveries import move_relay, take_relay
from engine import feed
from engine.databases import Site
from engine.errors import Unavailable
from engine.filters import EventFilter
from engine.sql import Change
from gateway import socket, sse
from gateway.frames import Checkpoint, Expiring
from gateway.tailer import Tailer, Taken
from tests.simulation.scenario import simulate
from tests.simulation.world import Books

SEEDS = 24
FOUND = (5, 114)
"""Seeds that found something once: an answer to a client that had left, a feed's last word that was ahead of its place in the id."""
BITES_WITHIN = 1000


@pytest.fixture(scope="module")
def books() -> Iterator[Books]:
    """A database in memory for all seeds."""
    made = Books()
    yield made
    made.close()


def first_found(books: Books) -> tuple[int, list[str]]:
    """Return the first seed that breaks a promise and what it broke."""
    for seed in range(1, BITES_WITHIN + 1):
        outcome = simulate(seed, books)
        if outcome.broken:
            return seed, outcome.broken
    raise AssertionError("nothing was found")


@pytest.mark.parametrize("first", range(1, SEEDS + 1, 6))
def test_no_promise_is_broken(books: Books, first: int) -> None:
    """Whoever dies, stalls or is cut off, and whenever: once it is calm, all that was promised holds."""
    outcomes = [simulate(seed, books) for seed in range(first, first + 6)]
    assert [(each.seed, each.broken) for each in outcomes if each.broken] == []
    assert sum(each.kills for each in outcomes) > 0


@pytest.mark.parametrize("seed", FOUND)
def test_what_a_seed_found_once_stays_mended(books: Books, seed: int) -> None:
    """The story that told of it has no broken promise any more."""
    assert simulate(seed, books).broken == []


def test_same_seed_is_the_same_story(books: Books) -> None:
    """Every arrival at its instant and every death; another seed is another story."""
    stories = [[simulate(seed, books) for seed in range(4242, 4248)] for _ in range(2)]
    assert stories[0] == stories[1]
    assert len({each.digest for each in stories[0]}) == 6


def test_broken_lease_check_is_found(books: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted: whoever claims takes every lease for one that has run out."""
    sort = claim.Waiting.sort

    def careless(rows: Sequence[DeliveryRow], now_us: int) -> claim.Waiting:
        waiting = sort(rows, now_us)
        return replace(waiting, live=[], expired=[*waiting.live, *waiting.expired])

    monkeypatch.setattr(claim.Waiting, "sort", careless)
    _, broken = first_found(books)
    assert any("requests at once" in each for each in broken)


def test_swapped_order_of_two_writes_is_found(books: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted: the relay stores its new position before the deliveries, in a transaction of its own."""
    page = Relay._page

    async def hasty(self: Relay, site: Site, claims: claim.Claims) -> RelayOutcome:
        database = await self._databases.of(site)

        def ahead(conn: Connection) -> int | None:
            position = take_relay(conn, site.id, 0)
            found = [] if position is None else feed.read_after(conn, site.id, position, self._page_events)
            if found:
                move_relay(conn, site.id, [], found[-1].sequence, 0)
            return position

        def then(conn: Connection) -> RelayOutcome:
            move_relay(conn, site.id, [], position or 0, 0)
            return page(self, conn, site.id, claims)

        position = await database.write(ahead, site_id=site.id)
        return await database.write(then, site_id=site.id)

    monkeypatch.setattr(Relay, "run", hasty)
    _, broken = first_found(books)
    assert any("deliveries for" in each for each in broken)


def test_broken_cursor_update_is_found(books: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted: after a page the relay's position is the feed's head, and not the last event of the page."""

    def too_far(
        conn: Connection,
        site_id: int,
        rows: Sequence[DeliveryRow],
        _position: int,
        now_us: int,
        along: Sequence[Change] = (),
    ) -> None:
        move_relay(conn, site_id, rows, feed.read_head(conn, site_id).sequence, now_us, along)

    monkeypatch.setattr(relay, "move_relay", too_far)
    _, broken = first_found(books)
    assert any("deliveries for" in each for each in broken)


def test_broken_place_in_the_ring_is_found(books: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted: whoever has fallen out of the ring goes on at its first event instead of reading the database."""
    take = Tailer.take

    async def careless(self: Tailer, position: int, wanted: EventFilter | None, limit: int) -> Taken | None:
        first = self._ring[0].sequence - 1 if self._ring else 0
        return await take(self, max(position, first), wanted, limit)

    monkeypatch.setattr(Tailer, "take", careless)
    _, broken = first_found(books)
    assert any(" saw " in each for each in broken)


def test_checkpoint_ahead_of_its_events_is_found(books: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted: a WebSocket is told that it has come past an array before the array is written."""

    async def hasty(self: socket._Session, subscription: socket._Subscription, taken: Taken) -> None:
        place = subscription.place
        async with self._sending:
            if not (place.ended or place.muted):
                subscription.sent(taken)
                word = Checkpoint(subscription=place.name, cursor=taken.cursor)
                await self._put(word, taken.array, word)
                subscription.told = taken.cursor

    monkeypatch.setattr(socket._Session, "_send_events", hasty)
    _, broken = first_found(books)
    assert any(" saw " in each for each in broken)


def test_stream_that_is_not_looked_at_is_found(books: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted: a wake-up is all that moves a tailer; the poll that makes up for lost ones looks at nothing."""

    async def trusting(self: Tailer) -> None:
        while True:
            self._woken.clear()
            try:
                await self._read_new()
            except Unavailable:
                await asyncio.sleep(1)
            else:
                await self._woken.wait()

    monkeypatch.setattr(Tailer, "_follow", trusting)
    _, broken = first_found(books)
    assert any(" saw " in each for each in broken)


def test_place_told_before_its_events_are_written_is_found(books: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted: of several feeds over one connection a block's id says where each is, and not what of it was written."""
    said = sse.EventStream._said

    def hasty(self: sse.EventStream, at: int, step: Taken | Checkpoint | Expiring, told: sse._Told) -> bytes:
        for other, place in enumerate(self._places):
            told.move(other, place.cursor)
        return said(self, at, step, told)

    monkeypatch.setattr(sse.EventStream, "_said", hasty)
    _, broken = first_found(books)
    assert any("blocks of two feeds" in each for each in broken)
