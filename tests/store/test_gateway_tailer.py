"""One reader of a feed for many streams, over real books: ring and database give the same, and a restored feed is noticed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy import update

from engine.databases import Database
from engine.errors import Unavailable
from engine.filters import EventFilter
from engine.schema import feeds
from gateway.following import Following
from gateway.starting import Start
from gateway.tailer import Tailer, Taken
from gateway.tailers import Tailers
from tests.store.engine_stage import EPOCH, SITE, Stage, entry, make_stage
from tests.stream_services import follower, stream_services


class Listener:
    """Somebody who notes that the feed moved."""

    def __init__(self) -> None:
        self.moved = asyncio.Event()

    def nudge(self) -> None:
        """Note it."""
        self.moved.set()


@pytest.fixture
async def stage(site_database: Database) -> Stage:
    """A site with two accounts."""
    made = await make_stage(site_database)
    made.cash, made.sales = await made.accounts("asset", "revenue")  # type: ignore[attr-defined]
    return made


async def post(stage: Stage, count: int) -> None:
    """Post entries."""
    for _ in range(count):
        await stage.run(entry(stage.cash, stage.sales))  # type: ignore[attr-defined]


@pytest.fixture
async def tailer(stage: Stage) -> AsyncIterator[Tailer]:
    """A tailer of the site's feed that somebody listens to."""
    made = Tailer(stage.engine, SITE)
    await made.join(Listener(), EPOCH)
    yield made
    await made.stop()


async def caught_up(tailer: Tailer, sequence: int) -> None:
    """Return when the tailer has read so far."""
    listener = Listener()
    await tailer.join(listener, EPOCH)
    tailer.wake(sequence)
    async with asyncio.timeout(10):
        while tailer.read < sequence:
            listener.moved.clear()
            if tailer.read < sequence:
                await listener.moved.wait()
    tailer.leave(listener)


async def taken(tailer: Tailer, wanted: EventFilter | None, limit: int, position: int = 0) -> list[bytes]:
    """Take everything after a place, so many at a time."""
    found: list[bytes] = []
    while (some := await tailer.take(position, wanted, limit)) is not None:
        assert some.position > position
        assert len(some.frames) <= limit
        assert (some.sse, some.array) == (
            _joined(some),
            "[" + ",".join(each.body.decode() for each in some.frames) + "]",
        )
        found += [each.body for each in some.frames]
        position = some.position
    return found


def _joined(some: Taken) -> bytes:
    return b"".join(each.sse for each in some.frames)


@pytest.mark.parametrize("limit", [1, 3, 256])
async def test_what_is_taken_from_ring_and_database_is_the_feed(stage: Stage, tailer: Tailer, limit: int) -> None:
    """The first events are in the database only, the last in the ring; with a filter and without, no seam shows."""
    await post(stage, 12)
    events = await stage.events()
    await caught_up(tailer, events[-1].sequence)
    for wanted in (None, EventFilter(types=frozenset({"entry.posted"})), EventFilter(account_id=stage.cash)):  # type: ignore[attr-defined]
        expected = [
            each.body
            for each in events
            if wanted is None or stage.cash.encode() in each.body  # type: ignore[attr-defined]
        ]
        if wanted is not None and wanted.types is not None:
            expected = [each.body for each in events if each.type == "entry.posted"]
        assert await taken(tailer, wanted, limit) == expected


async def test_many_who_want_the_same_share_what_was_joined(stage: Stage, tailer: Tailer) -> None:
    """A thousand dashboards at one place cost one join."""
    place = tailer.read
    await post(stage, 3)
    await caught_up(tailer, place + 3)
    first, second = [await tailer.take(place, None, 256) for _ in range(2)]
    assert first is not None
    assert first is second
    await post(stage, 1)
    await caught_up(tailer, place + 4)
    third = await tailer.take(place, None, 256)
    assert third is not None
    assert len(third.frames) == 4


@pytest.mark.parametrize("change", [{"epoch": "e2"}, {"head": 1}])
async def test_a_feed_that_was_restored_is_not_followed_on(
    stage: Stage, tailer: Tailer, change: dict[str, object]
) -> None:
    """Another epoch, or a head behind what was read: nothing is taken from it under the old cursors."""
    place = tailer.read
    await stage.write(lambda conn: conn.execute(update(feeds).where(feeds.c.site_id == SITE.id).values(**change)))
    listener = Listener()
    await tailer.join(listener, EPOCH)
    async with asyncio.timeout(10):
        while not tailer.restored:
            listener.moved.clear()
            tailer.wake(place + 1)
            await listener.moved.wait()
    with pytest.raises(Unavailable):
        await tailer.take(0, None, 256)


async def test_a_stream_of_a_feed_that_was_restored_meanwhile_does_not_begin(stage: Stage, tailer: Tailer) -> None:
    """Its place was found in the feed as it was: in another one the same number is another event."""
    listener = Listener()
    with pytest.raises(Unavailable):
        await tailer.join(listener, "e2")
    assert not tailer.idle, "the first listener is still there"


async def test_a_stream_that_begins_slowly_is_not_left_with_a_tailer_that_was_swept_away(stage: Stage) -> None:
    """Between the look for its place and its first step others may come and go: it joins the tailer there is then."""
    tailers = Tailers(stage.engine, stage.clock)
    services = stream_services(stage.engine, tailers, stage.clock)
    principal = follower(SITE, "token", stage.clock.now_us() + 600_000_000)
    head = await stage.engine.head(SITE)
    start = Start(site=SITE, position=head.sequence, cursor=head.cursor(), head=head)
    slow, quick = (Following(services, principal, start, None) for _ in range(2))
    with slow.watched():
        with quick.watched():
            step = asyncio.create_task(quick.step())
            await post(stage, 1)
            tailers.wake(SITE, head.sequence + 1)
            assert await step is not None
        await tailers.sweep()
        step = asyncio.create_task(slow.step())
        await post(stage, 1)
        found = await step
        assert isinstance(found, Taken)
        assert not tailers.of(SITE).idle, "nobody would ever end what it listens to"
    assert tailers.of(SITE).idle
    await tailers.close()


async def test_many_who_are_behind_at_one_place_share_a_reading(
    stage: Stage, tailer: Tailer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a restart the ring is empty and everybody is behind; who goes away takes nobody along."""
    await post(stage, 3)
    await caught_up(tailer, (await stage.events())[-1].sequence)
    read, asked = stage.engine.read_matching, 0

    async def counted(*given: Any) -> Any:
        nonlocal asked
        asked += 1
        return await read(*given)

    monkeypatch.setattr(stage.engine, "read_matching", counted)
    behind = [asyncio.ensure_future(tailer.take(0, None, 256)) for _ in range(50)]
    await asyncio.sleep(0)
    behind[0].cancel()
    found = await asyncio.gather(*behind, return_exceptions=True)
    assert isinstance(found[0], asyncio.CancelledError)
    assert asked == 1
    assert len({id(each) for each in found[1:]}) == 1
    assert isinstance(found[1], Taken)
    assert [each.sequence for each in found[1].frames] == list(range(1, found[1].position + 1))
    assert not tailer._histories
