"""Reading the feed: pages, filters, cursors that are recognised or refused, and how far back it is served."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from sqlalchemy import event

from engine import feed
from engine.cursors import feed_cursor
from engine.databases import Database
from engine.errors import CursorExpired, CursorInvalid
from engine.events import genesis_hash
from engine.filters import EventFilter
from engine.ledger import Limits
from tests.store.engine_stage import EPOCH, OTHER, SITE, Stage, entry, make_stage

DAY_S = 86_400


@pytest.fixture
async def stage(site_database: Database) -> Stage:
    """A site with one ledger, two accounts and six entries, a day between each: events 1 to 9."""
    made = await make_stage(site_database)
    cash, sales = await made.accounts("asset", "revenue")
    for number in range(6):
        made.clock.advance(seconds=DAY_S)
        await made.run(entry(cash, sales, 1, status="pending" if number % 2 else "posted"))
    return made


async def test_feed_is_read_in_pages_from_its_start(stage: Stage) -> None:
    """Every event once, in order; the last page leads to the head and says that no more waits."""
    page = await stage.engine.events_after(SITE, None, 4)
    seen = [event.sequence for event in page.events]
    while page.has_more:
        page = await stage.engine.events_after(SITE, page.next_cursor, 4)
        seen += [event.sequence for event in page.events]
    cursor = page.next_cursor
    assert (seen, cursor) == (list(range(1, 10)), page.head_cursor)
    assert (await stage.engine.events_after(SITE, cursor, 4)).events == []


async def test_page_that_is_exactly_full_is_the_last(stage: Stage) -> None:
    """Nine of nine are all."""
    assert (await stage.engine.events_after(SITE, None, 9)).has_more is False
    assert (await stage.engine.events_after(SITE, None, 8)).has_more is True


async def test_filtered_page_stands_behind_what_it_passed_over(stage: Stage) -> None:
    """Whoever follows with a filter does not read the same past again."""
    page = await stage.engine.events_after(SITE, None, 10, EventFilter(types=frozenset({"entry.created"})))
    assert [event.sequence for event in page.events] == [5, 7, 9]
    assert page.next_cursor == page.head_cursor
    part = await stage.engine.events_after(SITE, None, 2, EventFilter(types=frozenset({"entry.created"})))
    assert part.has_more
    rest = await stage.engine.events_after(SITE, part.next_cursor, 2, EventFilter(types=frozenset({"entry.created"})))
    assert [event.sequence for event in rest.events] == [9]
    none = await stage.engine.events_after(SITE, None, 2, EventFilter(types=frozenset({"hold.created"})))
    assert (none.events, none.next_cursor) == ([], none.head_cursor)


async def test_every_place_of_the_feed_has_a_cursor_that_leads_back_to_it(stage: Stage) -> None:
    """From the genesis to the head."""
    head = await stage.engine.head(SITE)
    for sequence in range(head.sequence + 1):
        cursor = await stage.read(lambda conn, at=sequence: feed.cursor_at(conn, SITE.id, head, at))  # type: ignore[misc]
        assert (await stage.engine.resolve(SITE, cursor))[0] == sequence


async def test_cursor_of_elsewhere_is_refused(stage: Stage) -> None:
    """Of another site, another epoch, another history, the future, or no cursor at all."""
    other = await make_stage(stage.database, OTHER)
    head = await stage.engine.head(SITE)
    for cursor in (
        (await other.engine.head(OTHER)).cursor(),
        feed_cursor("e2", 3, head.hash),
        feed_cursor(EPOCH, 3, head.hash),
        feed_cursor(EPOCH, 0, head.hash),
        feed_cursor(EPOCH, head.sequence, genesis_hash(SITE.id, EPOCH)),
        feed_cursor(EPOCH, head.sequence + 1, head.hash),
        feed_cursor(EPOCH, 2**63 - 1, head.hash),
        "garbage",
    ):
        with pytest.raises(CursorInvalid):
            await stage.engine.events_after(SITE, cursor, 10)
        with pytest.raises(CursorInvalid):
            await stage.engine.resolve(SITE, cursor)


async def test_feed_is_served_as_far_back_as_is_kept(stage: Stage) -> None:
    """An older cursor is told the earliest place and the head; the event itself is gone; nothing was removed."""
    engine = stage.another(Limits(feed_retention_days=2))
    events = await stage.events()
    page = await engine.events_after(SITE, None, 10)
    assert [event.sequence for event in page.events] == [7, 8, 9]
    head = await engine.head(SITE)
    with pytest.raises(CursorExpired) as expired:
        await engine.events_after(SITE, feed_cursor(EPOCH, 5, events[4].hash), 10)
    assert (expired.value.earliest, expired.value.head) == (feed_cursor(EPOCH, 6, events[5].hash), head.cursor())
    assert [event.sequence for event in (await engine.events_after(SITE, expired.value.earliest, 10)).events] == [
        7,
        8,
        9,
    ]
    assert (await engine.start(SITE))[0].sequence == 6
    assert await engine.event(SITE, events[5].id) is None
    assert await engine.event(SITE, events[6].id) == events[6]
    assert await stage.engine.event(SITE, events[5].id) == events[5]


async def test_place_of_an_instant_is_behind_the_last_event_before_it(stage: Stage) -> None:
    """To the microsecond; before the first it is the start, after the last the head."""
    events = await stage.events()
    for at_us, sequence in (
        (0, 0),
        (events[4].created_at, 4),
        (events[4].created_at + 1, 5),
        (events[-1].created_at, 8),
        (events[-1].created_at + 1, 9),
    ):
        assert (await stage.engine.place_at(SITE, at_us))[0].sequence == sequence


async def test_places_of_many_instants_are_found_together(stage: Stage) -> None:
    """In whatever order they are asked for, each is behind the last event before it; the head's comes last."""
    page = await stage.engine.events_after(SITE, None, 10)
    at = [event.created_at for event in page.events]
    instants = [0, at[0], at[0] + 1, at[-1], at[-1] + 1, at[4], at[4] - 1, at[4] + 1, at[4], 2**60]
    expected = [sum(each < instant for each in at) for instant in instants]
    assert await stage.engine.sequences_at(SITE, instants) == [*expected, 9]
    assert await stage.engine.sequences_at(SITE, []) == [9]


async def test_same_bytes_are_read_wherever_one_asks(stage: Stage) -> None:
    """By id, by sequence, in a page, in a tail."""
    events = await stage.events()
    by_sequence = await stage.read(lambda conn: feed.read_bodies(conn, SITE.id, [2, 5, 99]))
    assert by_sequence == {2: events[1], 5: events[4]}
    assert await stage.engine.event(SITE, events[4].id) == events[4]
    tail, head = await stage.engine.read_after(SITE, 4, 1)
    assert (tail, head.sequence) == ([events[4]], 9)
    assert await stage.engine.event(SITE, "00000000-0000-7000-8000-000000000000") is None


async def test_making_a_site_again_changes_nothing(stage: Stage) -> None:
    """It is re-runnable: the feed that is there stays."""
    before = await stage.rows()
    await stage.write(lambda conn: feed.create_site(conn, SITE, "e9", 1))
    assert await stage.rows() == before


async def test_many_who_come_back_at_once_are_each_told_their_place(stage: Stage) -> None:
    """After a restart everybody comes back: a few statements answer all of them, each as if it were alone."""
    page = await stage.engine.events_after(SITE, None, 4)
    await make_stage(stage.database, OTHER)
    elsewhere = (await stage.engine.head(OTHER)).cursor()
    first, fourth, head = (
        (await stage.engine.start(SITE))[0].cursor,
        page.next_cursor,
        page.head_cursor,
    )
    statements: list[str] = []
    event.listen(stage.database._reader.sync_engine, "after_cursor_execute", lambda *given: statements.append(given[2]))
    asked = [first, fourth, head, elsewhere, "v1.0.0.0"] * 40
    found: list[Any] = await asyncio.gather(
        *(stage.engine.resolve(SITE, each) for each in asked), return_exceptions=True
    )
    assert [each[0] for each in found if isinstance(each, tuple)] == [0, 4, 9] * 40
    assert all(
        isinstance(found[number], CursorInvalid) for number, each in enumerate(asked) if each in {elsewhere, "v1.0.0.0"}
    )
    assert len(statements) < 20
