"""From the feed to delivery rows: every event once for every endpoint that had subscribed, numbered without a gap."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import Connection, select

from delivery.schema import deliveries, subscriptions
from delivery.shapes import EndpointChange
from engine.databases import Database
from tests.store.delivery_stage import SITE, Stage, make_stage

URL = "http://127.0.0.1:9/"


@pytest.fixture
async def stage(site_database: Database) -> AsyncIterator[Stage]:
    """A site with an empty feed."""
    made = await make_stage(site_database)
    yield made
    await made.close()


async def sequences(stage: Stage, endpoint_id: str) -> list[int]:
    """Return the feed sequences of an endpoint's deliveries, having checked that their numbers have no gap."""
    rows = await stage.rows(endpoint_id)
    assert [row.endpoint_sequence for row in rows] == list(range(1, len(rows) + 1))
    assert (await stage.endpoints.get(SITE, endpoint_id)).last_sequence == len(rows)
    return [row.sequence for row in rows]


async def test_endpoint_receives_from_its_creation_on(stage: Stage) -> None:
    """What was committed before it existed is not its business, though it is relayed after."""
    await stage.commit("entry.posted", "entry.posted")
    endpoint = await stage.endpoint(URL)
    await stage.commit("entry.posted", "hold.created")
    assert await stage.relay_all() == {endpoint.id}
    assert await sequences(stage, endpoint.id) == [3, 4]


async def test_only_what_matches_gets_a_row_and_a_number(stage: Stage) -> None:
    """Numbers count what the subscription matches, so a receiver sees no gap where nothing was meant for it."""
    endpoint = await stage.endpoint(URL, "hold.*", "entry.posted")
    await stage.commit("entry.created", "entry.posted", "account.created", "hold.created", "entry.created")
    await stage.relay_all()
    assert await sequences(stage, endpoint.id) == [2, 4]


async def test_change_of_a_subscription_takes_effect_at_its_place_in_the_feed(stage: Stage) -> None:
    """However late the relay is, each event meets the subscription of its own moment."""
    endpoint = await stage.endpoint(URL, "entry.*")
    await stage.commit("entry.posted", "hold.created")
    await stage.endpoints.change(SITE, endpoint.id, EndpointChange(event_types=["hold.*"]))
    await stage.commit("entry.posted", "hold.created")
    await stage.endpoints.change(SITE, endpoint.id, EndpointChange(event_types=["account.*"]))
    await stage.endpoints.change(SITE, endpoint.id, EndpointChange(event_types=["*"]))
    await stage.commit("entry.posted", "hold.created")
    await stage.relay_all()
    assert await sequences(stage, endpoint.id) == [1, 4, 5, 6]


async def test_change_that_leaves_the_subscription_alone_makes_no_version(stage: Stage) -> None:
    """A new URL or description moves nothing in the feed."""
    endpoint = await stage.endpoint(URL)
    await stage.commit("entry.posted")
    await stage.endpoints.change(SITE, endpoint.id, EndpointChange(url=URL + "other", description="d"))
    found = await stage.database.read(
        lambda conn: conn.execute(select(subscriptions.c.from_sequence)).scalars().all(), site_id=SITE.id
    )
    assert list(found) == [1]


async def test_feed_is_relayed_in_pages(stage: Stage) -> None:
    """A page is bounded and says that more waits; the next one goes on where it ended."""
    endpoint = await stage.endpoint(URL)
    await stage.commit(*["entry.posted"] * 7)
    relay = stage.relay(page_events=3)
    outcomes = [await relay.run(SITE) for _ in range(4)]
    assert [(one.moved, one.behind) for one in outcomes] == [(3, True), (3, True), (1, False), (0, False)]
    assert [one.endpoints_woken for one in outcomes] == [*[frozenset({endpoint.id})] * 3, frozenset()]
    assert await sequences(stage, endpoint.id) == list(range(1, 8))


async def test_events_nobody_wants_move_the_relay_too(stage: Stage) -> None:
    """A site without endpoints is not read from its beginning again when one comes."""
    await stage.commit(*["entry.posted"] * 5)
    assert (await stage.relay().run(SITE)).moved == 5
    assert (await stage.relay().run(SITE)).moved == 0


async def test_two_relays_make_every_row_once(stage: Stage) -> None:
    """Processes that relay the same site at the same time share the work, not the rows."""
    made = [await stage.endpoint(URL + str(number)) for number in range(3)]
    await stage.commit(*["entry.posted"] * 60)

    async def relay_until_done() -> int:
        moved, relay = 0, stage.relay(page_events=7)
        while moved_now := (await relay.run(SITE)).moved:
            moved += moved_now
        return moved

    moved = sum(await asyncio.gather(*[relay_until_done() for _ in range(4)]))
    moved += await relay_until_done()
    assert moved == 60
    for endpoint in made:
        assert await sequences(stage, endpoint.id) == list(range(1, 61))


async def test_endpoint_deleted_before_the_relay_came_is_skipped_and_numbered(stage: Stage) -> None:
    """Events from before a removal count for the endpoint; what waits and what is relayed later is skipped."""
    endpoint = await stage.endpoint(URL)
    await stage.commit("entry.posted")
    await stage.relay_all()
    await stage.commit("entry.posted")
    await stage.endpoints.delete(SITE, endpoint.id)
    await stage.commit("entry.posted")
    assert await stage.relay_all() == frozenset()
    rows = await stage.rows(endpoint.id)
    assert [(row.sequence, row.endpoint_sequence, row.status, row.reason) for row in rows] == [
        (1, 1, "skipped", "endpoint_deleted"),
        (2, 2, "skipped", "endpoint_deleted"),
    ]


async def test_first_wait_of_a_schedule_is_kept(stage: Stage) -> None:
    """A schedule that begins with a wait makes even the first attempt later."""
    endpoint = await stage.endpoint(URL, retry_schedule=[60, 5])
    await stage.commit("entry.posted")
    await stage.relay_all()
    assert (await stage.sweeper.run(SITE)).endpoints == frozenset()
    stage.clock.advance(seconds=60)
    assert (await stage.sweeper.run(SITE)).endpoints == {endpoint.id}


@pytest.mark.parametrize("seed", range(3))
async def test_concurrent_creation_commit_and_relay_leave_no_gap(stage: Stage, seed: int) -> None:
    """Endpoints that come while events are committed and relayed miss nothing after their first version, ever."""
    chance = random.Random(seed)

    async def commit() -> None:
        for _ in range(12):
            await stage.commit(*["entry.posted"] * chance.randint(1, 4))
            await asyncio.sleep(0)

    async def create() -> list[str]:
        return [(await stage.endpoint(URL + str(number))).id for number in range(6)]

    async def relay() -> None:
        one = stage.relay(page_events=5)
        for _ in range(25):
            await one.run(SITE)

    made, *_ = await asyncio.gather(create(), commit(), commit(), relay(), relay())
    await stage.relay_all()

    def read(conn: Connection) -> dict[str, int]:
        query = select(subscriptions.c.endpoint_id, subscriptions.c.from_sequence)
        return {row.endpoint_id: row.from_sequence for row in conn.execute(query)}

    begins = await stage.database.read(read, site_id=SITE.id)
    head = (await stage.endpoints.list(SITE, limit=1)).head.sequence
    for endpoint_id in made:
        assert await sequences(stage, endpoint_id) == list(range(begins[endpoint_id], head + 1))


@pytest.mark.parametrize("seed", range(3))
async def test_any_history_of_changes_decides_each_event_by_its_own_moment(stage: Stage, seed: int) -> None:
    """A random history of commits, pauses, filters and late relays gives the rows that a plain model gives."""
    chance = random.Random(seed)
    endpoint = await stage.endpoint(URL, "entry.*")
    patterns, expected, head = ["entry.*"], [], 0
    for _ in range(30):
        match chance.choice(["commit", "commit", "filter", "pause", "resume", "relay"]):
            case "commit":
                event_type = chance.choice(["entry.posted", "hold.created", "account.created"])
                await stage.commit(event_type)
                head += 1
                if any(one in {"*", event_type.split(".")[0] + ".*"} for one in patterns):
                    expected.append(head)
            case "filter":
                patterns = chance.choice([["entry.*"], ["hold.*", "account.*"], ["*"]])
                await stage.endpoints.change(SITE, endpoint.id, EndpointChange(event_types=patterns))
            case "pause":
                await stage.endpoints.pause(SITE, endpoint.id)
            case "resume":
                await stage.endpoints.resume(SITE, endpoint.id)
            case "relay":
                await stage.relay(page_events=chance.randint(1, 3)).run(SITE)
    await stage.relay_all()
    assert await sequences(stage, endpoint.id) == expected


async def test_failed_page_leaves_nothing(stage: Stage) -> None:
    """Position, rows and numbers are one transaction: an id drawn twice fails them all, and the next run makes them all."""
    endpoint = await stage.endpoint(URL)
    await stage.commit("entry.posted", "entry.posted")

    class Stuck:
        def draw(self, _now_us: int) -> str:
            return "0199c7d3-a400-7000-8000-00000000ffff"

    broken = stage.relay()
    broken._ids = Stuck()
    with pytest.raises(Exception, match=r"(?i)unique|duplicate"):
        await broken.run(SITE)
    found = await stage.database.read(lambda conn: conn.execute(select(deliveries.c.id)).all(), site_id=SITE.id)
    assert list(found) == []
    await stage.relay_all()
    assert await sequences(stage, endpoint.id) == [1, 2]
