"""The protocol of streams between real processes: every word a client may say, and every word it is told."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.journeys.conftest import Production, SiteClient, open_site
from tests.streams import Socket, open_socket, open_stream

MANY: Final = 1_200
NO_WORDS: Final[tuple[tuple[str | bytes, str, str | None], ...]] = (
    ("x", "request.malformed", None),
    ("[]", "validation.invalid_value", "/type"),
    ('"ping"', "validation.invalid_value", "/type"),
    ("{}", "validation.invalid_value", "/type"),
    ('{"type":"cat"}', "validation.invalid_value", "/type"),
    ('{"type":["ping"]}', "validation.invalid_value", "/type"),
    ('{"type":"ping","x":1}', "validation.unknown_field", "/x"),
    ('{"type":"ping","type":"ping"}', "validation.duplicate_field", "/type"),
    ('{"type":"subscribe"}', "validation.required_field_missing", "/subscription"),
    ('{"type":"subscribe","subscription":"ä"}', "validation.invalid_value", "/subscription"),
    ('{"type":"subscribe","subscription":"a","from":"noon"}', "validation.invalid_time", "/from"),
    ('{"type":"subscribe","subscription":"a","window":0}', "validation.out_of_range", "/window"),
    ('{"type":"subscribe","subscription":"a","cursor":"v1.x"}', "cursor.invalid", None),
    (
        '{"type":"subscribe","subscription":"a","filter":{"types":["x"]}}',
        "validation.invalid_value",
        "/filter/types",
    ),
    ('{"type":"subscribe","subscription":"a","filter":{"cat":1}}', "validation.unknown_field", "/filter/cat"),
    ('{"type":"unsubscribe","subscription":"a"}', "not_found", None),
    ('{"type":"ack","cursor":"v1.b50f206e797d.99999.14d6db7870b2"}', "cursor.invalid", None),
    ('{"type":"ack","cursor":"x"}', "cursor.invalid", None),
    ('{"type":"ping"' + " " * 20_000 + "}", "request.malformed", None),
    (b'{"type":"ping"}', "request.malformed", None),
    ("[" * 10_000, "request.malformed", None),
)


async def key_for(site: SiteClient, seconds: float) -> str:
    """Make an API key that may read events for a while."""
    ends = datetime.now(UTC) + timedelta(seconds=seconds)
    wanted = {"name": "short", "scopes": ["events.read"], "expires_at": ends.isoformat()}
    return str((await site.ask("POST", "/v1/api_keys", wanted))["key"])


async def post(site: SiteClient, count: int) -> None:
    """Post entries one by one, in turns at both gateways."""
    for number in range(count):
        await site.ask("POST", "/v1/entries", site.entry(1 + number), at=number % len(site.urls))


async def post_many(site: SiteClient, count: int) -> None:
    """Post entries by the hundred."""
    for _ in range(count // 100):
        await site.ask("POST", "/v1/entries/batch", {"entries": [site.entry(1)] * 100})


async def refused(socket: Socket, kind: str, /, **members: Any) -> dict[str, Any]:
    """Say something that is refused, and return the error."""
    await socket.say(kind, **members)
    name = members.get("subscription")
    return await socket.word("error", name if isinstance(name, str) else None)


async def test_subscriptions_stand_beside_the_first_stream_each_with_its_filter_and_cursor(site: SiteClient) -> None:
    """All are the feed through their filter; each resumes from its own cursor; ended ones say nothing more."""
    async with open_socket(site.urls[0], site.headers) as socket:
        ready = await socket.word("ready")
        assert (ready["organization"], ready["environment"]) == (site.credentials.organization, "sandbox")
        await socket.say("subscribe", subscription="all", from_="start")
        await socket.say("subscribe", subscription="accounts", from_="start", filter={"types": ["account.*"]})
        await socket.say("subscribe", subscription="later", cursor=ready["cursor"], filter={"account_id": site.debit})
        await post(site, 5)
        feed = await site.feed()
        assert await socket.until(len(feed), "all") == feed
        assert await socket.until(5) == feed[-5:]
        assert await socket.until(5, "later") == feed[-5:]
        assert socket.events["accounts"] == [each for each in feed if b'"type":"account.' in each]
        await socket.say("unsubscribe", subscription="all")
        ended = await socket.word("unsubscribed", "all")
        await post(site, 2)
        await socket.until(7)
        await socket.until(7, "later")
        assert len(socket.events["all"]) == len(feed)
        await socket.say("subscribe", subscription="all", cursor=ended["cursor"])
        assert (await socket.until(len(feed) + 2, "all"))[len(feed) :] == (await site.feed())[-2:]
        await socket.say("unsubscribe")
        await socket.word("unsubscribed")
        await post(site, 1)
        await socket.until(8, "later")
        await socket.say("ping")
        await socket.word("pong")
        assert len(socket.events[None]) == 7


async def test_several_sites_are_followed_over_one_connection_each_by_its_own_credential(
    production: Production, site: SiteClient
) -> None:
    """Sandbox and production of one organization, and another organization's: no event under another's name."""
    organization = site.credentials.organization
    live_credentials = await production.deployment.bootstrap(organization, "production")
    other = await open_site(production.deployment, production.http, site.urls, f"{organization}-other")
    async with open_socket(site.urls[0], site.headers, query="?from=start") as socket:
        for name, key in (("live", live_credentials.api_key), ("other", other.credentials.api_key)):
            headers = {"authorization": f"Bearer {key}"}
            made = await site.ask("POST", "/v1/stream_tickets", {}, headers=headers)
            await socket.say("subscribe", subscription=name, from_="start", ticket=made["ticket"])
        assert (await socket.word("ready", "live"))["environment"] == "production"
        await post(site, 2)
        await post(other, 3)
        assert await socket.until(6, "other") == await other.feed()
        assert await socket.until(5) == await site.feed()
        assert "live" not in socket.events
        for brought in (None, "other"):
            last = msgspec.json.decode(socket.events[brought][-1])
            assert last["organization"] == organization + ("-other" if brought else "")
        error = await refused(socket, "subscribe", subscription="mixed", cursor=socket.cursors["other"])
        assert error["code"] == "cursor.invalid", "a cursor of one site is none of another"


async def test_a_window_holds_back_what_is_not_acknowledged(site: SiteClient) -> None:
    """At most so many events are on their way, however many wait; every acknowledgement lets as many through again."""
    await post(site, 30)
    feed = await site.feed()
    async with open_socket(site.urls[0], site.headers, query="?from=start&window=10") as socket:
        await socket.say("subscribe", subscription="slow", from_="start", window=3)
        seen = 0
        while seen < len(feed):
            had = len(await socket.until(seen + 1))
            assert had - seen <= 10
            await _quiet(socket)
            assert len(socket.events[None]) <= seen + 10
            seen = len(socket.events[None])
            await socket.say("ack", cursor=socket.cursors[None])
        assert socket.events[None] == feed
        assert socket.events["slow"] == feed[:3], "an acknowledgement of one stream is none of another"
        while len(socket.events["slow"]) < len(feed):
            before = len(socket.events["slow"])
            await socket.say("ack", subscription="slow", cursor=socket.cursors["slow"])
            await socket.until(before + 1, "slow")
            assert len(socket.events["slow"]) <= before + 3
        assert socket.events["slow"] == feed


async def _quiet(socket: Socket) -> None:
    """Read until the answer to a ping: whatever was on its way has come."""
    for _ in range(3):
        await socket.say("ping")
        await socket.word("pong")


async def test_a_new_credential_in_band_keeps_the_stream_going(site: SiteClient) -> None:
    """Past the first one's time, without a gap; one of another site, or none at all, is refused and changes nothing."""
    headers = {"authorization": f"Bearer {await key_for(site, 4)}"}
    async with open_socket(site.urls[0], headers) as socket:
        await socket.say("subscribe", subscription="beside", from_="start")
        warned = await socket.word("expiring")
        for said in ({}, {"token": "x"}, {"ticket": "x"}, {"token": "x", "ticket": "y"}):
            assert (await refused(socket, "refresh", **said))["code"] == "auth.invalid"
        await socket.say("refresh", token=await key_for(site, 600))
        renewed = await socket.word("refreshed")
        assert renewed["expires_at"] > warned["expires_at"]
        ends = datetime.fromisoformat(warned["expires_at"])
        while datetime.now(UTC) < ends + timedelta(seconds=1):
            await socket.say("ping")
            await socket.word("pong")
            await asyncio.sleep(0.1)
        await post(site, 3)
        assert await socket.until(3) == (await site.feed())[-3:]
        assert await socket.until(6, "beside") == await site.feed()
        assert "closing" not in [each["type"] for each in socket.words]


async def test_a_subscription_ends_with_its_own_credential_and_the_connection_goes_on(site: SiteClient) -> None:
    """Told by name, with a reason; the connection's own stream takes no notice."""
    async with open_socket(site.urls[0], site.headers) as socket:
        await socket.say("subscribe", subscription="short", token=await key_for(site, 2))
        await socket.word("expiring", "short")
        closing = await socket.word("closing", "short")
        assert (closing["reason"], closing["reconnect"]) == ("auth.expired", False)
        # Whoever heard the last word may have the name again at once.
        await socket.say("subscribe", subscription="short")
        await socket.word("ready", "short")
        assert "short" not in socket.events
        await post(site, 2)
        await socket.until(2)
        await socket.until(2, "short")


async def test_a_message_that_is_no_word_is_refused_and_the_stream_goes_on(site: SiteClient) -> None:
    """The error names what is wrong; nothing is subscribed by half."""
    async with open_socket(site.urls[0], site.headers) as socket:
        await socket.word("ready")
        for message, code, pointer in NO_WORDS:
            await socket.connection.send(message)
            word = await socket.read()
            assert word is not None
            assert (word["type"], word["code"]) == ("error", code), (message[:80], word)
            assert pointer is None or [each["pointer"] for each in word["errors"]] == [pointer], message[:80]
        await post(site, 1)
        await socket.until(1)
        assert set(socket.events) == {None}


async def test_a_message_without_end_ends_the_connection_with_the_code_that_says_so(site: SiteClient) -> None:
    """Sixteen kilobytes are answered; what is larger than a connection takes at once is not even read."""
    async with open_socket(site.urls[0], site.headers) as socket:
        await socket.word("ready")
        await socket.connection.send("x" * 20_000)
        assert (await socket.word("error"))["code"] == "request.malformed"
        await socket.connection.send("x" * 70_000)
        with pytest.raises(ConnectionClosed) as closed:
            await socket.word("never")
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1009


async def test_a_connection_has_at_most_sixteen_subscriptions_and_one_of_a_name(site: SiteClient) -> None:
    """More are refused; an ended one makes room."""
    async with open_socket(site.urls[0], site.headers) as socket:
        for number in range(16):
            await socket.say("subscribe", subscription=f"s{number}")
            await socket.word("ready", f"s{number}")
        assert (await refused(socket, "subscribe", subscription="more"))["code"] == "validation.out_of_range"
        assert (await refused(socket, "subscribe", subscription="s3"))["code"] == "validation.invalid_value"
        await socket.say("unsubscribe", subscription="s3")
        await socket.word("unsubscribed", "s3")
        await socket.say("subscribe", subscription="more")
        await socket.word("ready", "more")


async def test_a_cursor_of_another_history_is_an_error_or_on_request_a_reset(site: SiteClient) -> None:
    """A browser cannot see why it was refused: for it the stream opens, says what is lost, and goes on from the head."""
    head = (await site.feed_cursor()).split(".")
    elsewhere = ".".join((head[0], "deadbeef", "1", "0" * 12))
    forged = ".".join((head[0], head[1], "2", "0" * 12))
    future = ".".join((head[0], head[1], "1000", "0" * 12))
    for cursor in (elsewhere, forged, future):
        query = f"?cursor={cursor}&on_expired=reset"
        async with open_stream(site.http, site.urls[0], site.headers, query=query) as stream:
            first = await stream.read()
            assert first is not None
            assert (first.event, first.value["reason"]) == ("reset", "cursor.invalid")
            assert first.id == first.value["head"] == first.value["cursor"] == await site.feed_cursor()
            assert (await stream.event("ready")).id == first.id
            earliest = first.value["earliest"]
            await post(site, 1)
            assert await stream.bodies(1) == (await site.feed())[-1:]
        async with open_socket(site.urls[1], site.headers, query=query) as socket:
            assert (await socket.word("reset"))["earliest"] == earliest
            await socket.word("ready")
            await socket.say("subscribe", subscription="a", cursor=cursor, on_expired="reset")
            await socket.word("reset", "a")
        async with open_stream(site.http, site.urls[0], site.headers, query=f"?cursor={earliest}") as stream:
            feed = await site.feed()
            assert await stream.bodies(len(feed)) == feed
        for query in (f"?cursor={cursor}", "?cursor=garbage&on_expired=reset"):
            with pytest.raises(InvalidStatus) as error:
                async with open_socket(site.urls[0], site.headers, query=query):
                    pass
            assert error.value.response.status_code == 400


async def test_a_filter_that_passes_over_much_says_how_far_the_stream_has_come(site: SiteClient) -> None:
    """Long before the idle timer, from history and live: who comes back starts there and not at the beginning."""
    await post_many(site, MANY)
    nothing = "types=settlement.completed&account_id=" + site.debit
    for query in (f"?from=start&{nothing}", "?from=start&types=settlement.completed", "?from=start&metadata[a]=b"):
        async with open_stream(site.http, site.urls[0], site.headers, query=query) as stream:
            async with asyncio.timeout(8):
                checkpoint = await stream.event("checkpoint")
            assert int(checkpoint.id.split(".")[2]) >= 1_000
    async with open_socket(site.urls[0], site.headers) as socket:
        await socket.say("subscribe", subscription="none", from_="start", filter={"types": ["settlement.completed"]})
        checkpoint_word = await socket.word("checkpoint", "none")
        await socket.say("unsubscribe", subscription="none")
        ended = await socket.word("unsubscribed", "none")
        assert int(ended["cursor"].split(".")[2]) >= int(checkpoint_word["cursor"].split(".")[2])
    async with open_stream(site.http, site.urls[1], site.headers, query=f"?{nothing}") as stream:
        await stream.event("ready")
        began = int((await site.feed_cursor()).split(".")[2])
        async with asyncio.timeout(12):
            await post_many(site, MANY)
            checkpoint = await stream.event("checkpoint")
        assert int(checkpoint.id.split(".")[2]) >= began + 1_000


async def test_the_list_and_both_streams_filter_alike(site: SiteClient) -> None:
    """Account, ledger, resource, metadata and types: one meaning, whoever is asked, live and from history."""
    ledger = (await site.ask("GET", f"/v1/accounts/{site.debit}"))["ledger_id"]
    entries = [
        await site.ask("POST", "/v1/entries", site.entry(1, metadata={"shop": str(number % 2), "ä\\": '"'}))
        for number in range(4)
    ]
    await site.ask("PATCH", f"/v1/entries/{entries[0]['id']}", {"metadata": {"shop": "1"}})
    queries = {
        f"account_id={site.credit}": 6,
        f"ledger_id={ledger}": 8,
        f"resource_type=entry&resource_id={entries[0]['id']}": 2,
        "resource_type=account": 2,
        "metadata[shop]=0": 3,
        "metadata[shop]=1&types=entry.posted": 2,
        'metadata[ä\\]="': 5,
        f"types=account.*&account_id={site.debit}": 1,
        f"resource_id={site.debit}&account_id={site.credit}": 0,
    }
    for query, count in queries.items():
        async with site.http.get(f"{site.urls[1]}/v1/events?{query}", headers=site.headers) as answer:
            page = msgspec.json.decode(await answer.read())
        found = [each for each in await site.feed() if msgspec.json.decode(each) in page["data"]]
        assert (len(found), page["has_more"]) == (count, False), query
        async with open_stream(site.http, site.urls[0], site.headers, query=f"?from=start&{query}") as stream:
            assert await stream.bodies(count) == found
        async with open_socket(site.urls[1], site.headers, query=f"?from=start&{query}") as socket:
            assert (await socket.until(count) if count else []) == found


async def test_draining_says_when_to_come_back_and_not_to_all_the_same(
    production: Production, site: SiteClient
) -> None:
    """Every stream is told its own time."""
    gateway = production.deployment.gateway()
    await gateway.ready()
    waits: list[int] = []

    async def follow() -> None:
        async with open_socket(gateway.url, site.headers) as socket:
            await socket.word("ready")
            opened.release()
            waits.append((await socket.word("closing"))["retry_ms"])
            with pytest.raises(ConnectionClosed):
                await socket.read()

    opened = asyncio.Semaphore(0)
    following = [asyncio.create_task(follow()) for _ in range(10)]
    for _ in following:
        await opened.acquire()
    assert await gateway.stop() == 0, gateway.tail()
    await asyncio.gather(*following)
    assert len(set(waits)) > 5
    assert min(waits) >= 2_000
    assert max(waits) <= 10_000
