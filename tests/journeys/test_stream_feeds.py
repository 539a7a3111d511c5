"""Several sites' feeds over one connection of server-sent events, between real processes: each is whole, whatever the others do."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from typing import Any, Final

import aiohttp
import msgspec
import pytest

from engine.cursors import parse_feed_cursor
from gateway.starting import FEEDS_MAX, PLACES
from tests.journeys.conftest import Production, SiteClient, open_site
from tests.journeys.test_stream_tickets import make_ticket
from tests.journeys.test_streams import post_large, raw_stream
from tests.processes import until
from tests.streams import Block, Blocks, open_stream

SEED: Final = 20_261_122
ENTRIES: Final = 60


@pytest.fixture
async def sites(production: Production, site: SiteClient) -> list[SiteClient]:
    """A sandbox, another organization's, and the production of the first, which has no event."""
    organization = site.credentials.organization
    other = await open_site(production.deployment, production.http, site.urls, f"{organization}-other")
    live = await production.deployment.bootstrap(organization, "production")
    return [site, other, SiteClient(http=site.http, urls=site.urls, credentials=live)]


def name_of(site: SiteClient) -> str:
    """Return what a site's feed is called."""
    return f"{site.credentials.organization}.{site.credentials.environment}"


async def query_of(sites: Sequence[SiteClient], **wanted: Any) -> str:
    """Return the query with a ticket of each site."""
    made = [(await make_ticket(each, each.urls[0], **wanted))["ticket"] for each in sites]
    return "?" + "&".join(f"ticket={each}" for each in made)


async def post(site: SiteClient, count: int) -> None:
    """Post entries one by one, in turns at both gateways."""
    for number in range(count):
        await site.ask("POST", "/v1/entries", site.entry(1 + number), at=number % len(site.urls))


def sorted_out(bodies: Sequence[bytes]) -> dict[str, list[bytes]]:
    """Return envelopes by the feed they say they are of."""
    found: dict[str, list[bytes]] = {}
    for body in bodies:
        said = msgspec.json.decode(body)
        found.setdefault(f"{said['organization']}.{said['environment']}", []).append(body)
    return found


async def until_word(stream: Blocks, kind: str, name: str | None) -> Block:
    """Return the next word of this kind about this feed."""
    while True:
        block = await stream.event(kind)
        if block.value.get("subscription") == name:
            return block


async def test_each_feed_is_whole_and_every_id_has_the_place_in_all_of_them(sites: list[SiteClient]) -> None:
    """The bytes are the lists'; from any block's id on, at the other gateway, comes exactly what was not yet there."""
    one, other = sites[:2]
    query = await query_of(sites)
    posting = asyncio.gather(post(one, 20), post(other, 30))
    seen: list[tuple[str, bytes]] = []
    async with open_stream(one.http, one.urls[0], query=f"{query}&from=start") as stream:
        for each in sites:
            ready = await stream.read()
            assert ready is not None
            word = ready.value
            assert (word["type"], word["subscription"]) == ("ready", name_of(each))
            assert word["subscription"] == f"{word['organization']}.{word['environment']}"
            assert ready.id.split(PLACES)[sites.index(each)] == word["cursor"]
        while len(seen) < 3 + 20 + 3 + 30:
            block = await stream.read()
            assert block is not None
            if "." in block.event:
                seen.append((block.id, block.data))
    await posting
    feeds = {name_of(each): await each.feed() for each in (one, other)}
    assert sorted_out([body for _, body in seen]) == feeds
    for at in range(0, len(seen), 7):
        places = [parse_feed_cursor(each).sequence for each in seen[at][0].split(PLACES)]
        so_far = sorted_out([body for _, body in seen[: at + 1]])
        assert places == [len(so_far.get(name_of(each), ())) for each in sites], "the id is not the place in each feed"
        async with open_stream(one.http, one.urls[1], {"last-event-id": seen[at][0]}, query=query) as stream:
            rest = sorted_out(await stream.bodies(len(seen) - at - 1))
            assert {name: feed[len(feed) - len(rest.get(name, ())) :] for name, feed in feeds.items()} == {
                name: rest.get(name, []) for name in feeds
            }
    # A snapshot of each site, and then all of them together from there.
    heads = PLACES.join([await each.feed_cursor() for each in sites])
    async with open_stream(one.http, one.urls[1], query=f"{query}&cursor={heads}") as stream:
        await post(other, 1)
        assert await stream.bodies(1) == (await other.feed())[-1:]


async def test_a_connection_of_several_feeds_cut_at_any_byte_resumes_them_all(
    production: Production, sites: list[SiteClient]
) -> None:
    """Cut at random, a gateway killed under it, while all are written: the pieces are the feeds."""
    chance = random.Random(SEED)
    doomed = production.deployment.gateway()
    await doomed.ready()
    one, other = (
        SiteClient(
            http=each.http,
            urls=[doomed.url, *each.urls],
            credentials=each.credentials,
            debit=each.debit,
            credit=each.credit,
        )
        for each in sites[:2]
    )
    tickets = [(await make_ticket(each, each.urls[1]))["ticket"] for each in (one, other)]
    posting = asyncio.gather(*(post(each, ENTRIES) for each in sites[:2]))
    found: list[bytes] = []
    cursor: str | None = None
    goal, cuts = 2 * (3 + ENTRIES), 0
    async with asyncio.timeout(60):
        while len(found) < goal:
            if cuts == 6:
                doomed.kill()
            at = cuts % 3 if cuts < 6 else 1 + cuts % 2
            async with raw_stream(one, at, cursor, tickets=tickets) as stream:
                left = chance.randrange(200, 10_000)
                while left > 0 and len(found) + len(stream.bodies) < goal and not stream.ended:
                    left -= await stream.read(min(left, 1_000))
                found += stream.bodies
                cursor = stream.cursor or cursor
            cuts += 1
    await posting
    assert sorted_out(found) == {name_of(each): await each.feed() for each in sites[:2]}
    assert cuts > 10, "hardly anything was cut"


async def test_a_credential_that_ends_takes_its_own_feed_alone(sites: list[SiteClient]) -> None:
    """The others go on, its place stays in every id, and with the last one the connection ends."""
    one, other = sites[:2]
    short = (await make_ticket(one, one.urls[0], expires_in=3, filter={"types": ["account.*"]}))["ticket"]
    made_key = await other.ask("POST", "/v1/api_keys", {"name": "x", "scopes": ["events.read"]})
    bearer = {"authorization": f"Bearer {made_key['key']}"}
    long = (await make_ticket(other, other.urls[0], headers=bearer))["ticket"]
    async with open_stream(one.http, one.urls[0], query=f"?ticket={short}&ticket={long}") as stream:
        assert (await stream.event("expiring")).value["subscription"] == name_of(one)
        # What a filter passes over moves the place too, though nothing is said of it.
        await post(one, 1)
        ended = await until_word(stream, "closing", name_of(one))
        assert (ended.value["reason"], ended.value["reconnect"]) == ("auth.expired", False)
        assert ended.value["cursor"] == ended.id.partition(PLACES)[0]
        await post(one, 2)
        await post(other, 2)
        assert sorted_out(await stream.bodies(2)) == {name_of(other): (await other.feed())[-2:]}
        await other.ask("DELETE", f"/v1/api_keys/{made_key['id']}")
        assert (await until_word(stream, "closing", name_of(other))).value["reason"] == "auth.revoked"
        last = await stream.event("closing")
        assert "subscription" not in last.value
        assert last.value["cursor"] == last.id
        assert last.retry is not None
        assert await stream.read() is None
    again = await query_of([one, other])
    async with open_stream(one.http, one.urls[1], {"last-event-id": last.id}, query=again) as stream:
        assert sorted_out(await stream.bodies(2)) == {name_of(one): (await one.feed())[-2:]}


async def test_a_quiet_feed_and_a_busy_one_do_not_wait_for_each_other(
    production: Production, sites: list[SiteClient]
) -> None:
    """What is quiet says how far it is while the other brings megabytes; its one event does not stand behind all of those."""
    gateway = production.deployment.gateway(STREAM_CHECKPOINT_S="1")
    await gateway.ready()
    busy, quiet = sites[:2]
    query = await query_of([busy, quiet])
    await post_large(busy)
    await post(quiet, 1)
    feeds = {name_of(each): await each.feed() for each in (busy, quiet)}
    count = sum(map(len, feeds.values()))
    async with open_stream(busy.http, gateway.url, query=f"{query}&from=start") as stream:
        found = await stream.bodies(count)
        places = [at for at, body in enumerate(found) if name_of(quiet) in sorted_out([body])]
        assert sorted_out(found) == feeds
        assert places[-1] < len(found) / 2, "the quiet feed stood behind the busy one"
        for each in (busy, quiet):
            await until_word(stream, "checkpoint", name_of(each))
    assert await gateway.stop() == 0, gateway.tail()


async def test_who_does_not_read_several_feeds_costs_nobody_and_catches_up(sites: list[SiteClient]) -> None:
    """The connection stands still, in all its feeds, and then has every one of them whole."""
    one, other = sites[:2]
    tickets = [(await make_ticket(each, each.urls[0]))["ticket"] for each in (one, other)]
    async with raw_stream(one, 0, tickets=tickets) as stalled:
        await stalled.read(1)
        await asyncio.gather(post_large(one), post_large(other))
        feeds = {name_of(each): await each.feed() for each in (one, other)}
        count = sum(map(len, feeds.values()))
        query = "&".join(["?from=start", *(f"ticket={each}" for each in tickets)])
        async with open_stream(one.http, one.urls[0], query=query) as stream:
            assert sorted_out(await stream.bodies(count)) == feeds, "who reads was held up by who does not"
        async with asyncio.timeout(60):
            while len(stalled.bodies) < count:
                await stalled.read(1 << 20)
                assert not stalled.ended, "the stalled reader was cut off"
        assert sorted_out(stalled.bodies) == feeds


async def test_a_process_that_drains_ends_all_feeds_with_one_word(
    production: Production, sites: list[SiteClient]
) -> None:
    """The last word is of the connection, and its cursor goes on in every feed."""
    gateway = production.deployment.gateway()
    await gateway.ready()
    one, other = sites[:2]
    query = await query_of([one, other])
    async with open_stream(one.http, gateway.url, query=query) as stream:
        await asyncio.gather(post(one, 2), post(other, 2))
        await stream.bodies(4)
        stopping = asyncio.create_task(gateway.stop())
        last = await stream.event("closing")
        assert await stream.read() is None
        assert await stopping == 0, gateway.tail()
    assert last.value["reason"] == "draining"
    assert "subscription" not in last.value
    heads = [await each.feed_cursor() for each in (one, other)]
    assert last.id == last.value["cursor"] == PLACES.join(heads)
    await post(other, 1)
    async with open_stream(one.http, one.urls[0], query=f"{query}&cursor={last.id}") as stream:
        assert await stream.bodies(1) == (await other.feed())[-1:]


async def test_as_many_feeds_as_may_be_fit_an_address_and_a_header(production: Production, site: SiteClient) -> None:
    """Sixteen tickets in the address, sixteen places in Last-Event-ID, by a server as it is started."""
    others = [
        await open_site(production.deployment, production.http, site.urls, f"{site.credentials.organization}-{number}")
        for number in range(FEEDS_MAX - 1)
    ]
    sites = [site, *others]
    tickets = [(await make_ticket(each, each.urls[0]))["ticket"] for each in sites]
    async with aiohttp.ClientSession() as http:
        url = f"{site.urls[0]}/v1/events/stream?from=start&" + "&".join(f"ticket={each}" for each in tickets)
        async with http.get(url) as answer:
            assert answer.status == 200, await answer.text()
            stream = Blocks(answer)
            found = sorted_out(await stream.bodies(3 * FEEDS_MAX))
    assert found == {name_of(each): await each.feed() for each in sites}
    cursor = PLACES.join([await each.feed_cursor() for each in sites])
    async with raw_stream(site, 1, cursor, tickets=tickets) as resumed:
        await post(others[-1], 1)

        async def came() -> bool | None:
            await resumed.read(1 << 16)
            return bool(resumed.bodies) or None

        await until(came, timeout_s=20)
        assert resumed.bodies == (await others[-1].feed())[-1:]
