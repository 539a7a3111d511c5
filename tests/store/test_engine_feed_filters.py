"""Reading the feed through filters: what the database finds is what the bodies say, however little of it is searched at once."""

from __future__ import annotations

import random
from functools import partial
from typing import Final

import pytest
from sqlalchemy import Connection

from engine import feed
from engine.commands import UpdateEntry
from engine.databases import Database
from engine.events import FeedEvent
from engine.filters import EventFilter, about
from tests.store.engine_stage import OTHER, SITE, Stage, entry, make_stage

SEED: Final = 20_261_121
TEXTS: Final = ("7", "", 'a"b\\c', "ä€😀", "\t\n", "%_", "'; --")


@pytest.fixture
async def stage(site_database: Database) -> Stage:
    """A site with four accounts and entries between them, some changed later, with metadata that needs escaping."""
    made = await make_stage(site_database)
    chance = random.Random(SEED)
    accounts = await made.accounts("asset", "revenue", "liability", "expense")
    for number in range(24):
        debit, credit = chance.sample(accounts, 2)
        metadata = {chance.choice(TEXTS) or "key": chance.choice(TEXTS)}
        posted = await made.run(entry(debit, credit, 1 + number, metadata=metadata))
        if number % 4 == 0:
            change = UpdateEntry(entry_id=posted["id"], if_match=None, metadata={"key": chance.choice(TEXTS)})
            await made.run(change)
    return made


def filters(events: list[FeedEvent]) -> list[EventFilter]:
    """Return filters of every kind, of which some match much, some little and some nothing."""
    found = [EventFilter(), EventFilter(types=frozenset({"entry.posted"})), EventFilter(types=frozenset())]
    for event in (events[0], events[3], events[-1]):
        told = about(event.body)
        found += [EventFilter(resource_id=told.resource_id), EventFilter(resource_type=told.resource_type)]
        found += [EventFilter(account_id=each) for each in sorted(told.accounts)]
        found += [EventFilter(ledger_id=each) for each in sorted(told.ledgers)]
    found += [EventFilter(metadata=((name, value),)) for name in (*TEXTS, "key") for value in TEXTS]
    wide = EventFilter(types=frozenset({"entry.posted", "entry.updated"}))
    accounts = sorted(about(events[-1].body).accounts)
    return [
        *found,
        EventFilter(account_id=accounts[0], also=EventFilter(account_id=accounts[1])),
        EventFilter(account_id=accounts[0], also=wide),
        EventFilter(metadata=(("key", "7"),), also=EventFilter(account_id=accounts[0], also=wide)),
    ]


@pytest.mark.parametrize(("limit", "searched"), [(1, 2), (2, 7), (100, 3), (100, 5_000)])
async def test_what_is_found_piece_by_piece_is_what_matches(stage: Stage, limit: int, searched: int) -> None:
    """Every matching event once, in order, to the head, whatever one statement may return or search."""
    events = await stage.events()
    matched = 0
    for wanted in filters(events):
        expected = [each for each in events if wanted.matches(each.type, partial(about, each.body))]
        assert await stage.read(partial(_all, limit, searched, wanted)) == expected, wanted
        matched += bool(expected)
    assert matched > 15, "hardly a filter matched anything"


def _all(limit: int, searched: int, wanted: EventFilter, conn: Connection) -> list[FeedEvent]:
    """Read a whole feed through a filter, piece by piece."""
    head = feed.read_head(conn, SITE.id)
    found: list[FeedEvent] = []
    place = 0
    while place < head.sequence:
        some, looked = feed.read_matching(conn, SITE.id, head, place, limit, wanted, searched=searched)
        assert looked > place, "it stands still"
        assert len(some) <= limit
        found += some
        place = looked
    return found


async def test_a_place_between_matches_is_a_cursor_like_any_other(stage: Stage) -> None:
    """What was passed over is behind it, and it resolves."""
    for wanted in filters(await stage.events()):
        _, head, place = await stage.engine.read_matching(SITE, 0, 3, wanted)
        sequence, _ = await stage.engine.resolve(SITE, place.cursor)
        assert sequence == place.sequence <= head.sequence


async def test_a_filter_finds_nothing_of_another_site(stage: Stage, site_database: Database) -> None:
    """Whatever it names."""
    other = await make_stage(site_database, OTHER)
    mine = {each.id for each in await stage.events()}
    for wanted in filters(await stage.events()):
        page = await other.engine.events_after(OTHER, None, 1_000, wanted)
        assert mine.isdisjoint(each.id for each in page.events)
