"""The bytes of streams, as proxies, polyfills and browsers of every age take them; and every form a cursor may come in."""

from __future__ import annotations

import asyncio
import re
from typing import Final

import msgspec
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from tests.journeys.conftest import Production, SiteClient, open_site
from tests.journeys.test_streams import raw_stream
from tests.processes import until
from tests.streams import open_socket, open_stream

BLOCK: Final = re.compile(rb"(retry: [0-9]+\n)?id: [A-Za-z0-9._-]+\nevent: [a-z_.]+\ndata: \{[^\n\r]*\}\n\Z")


async def test_every_block_has_an_id_and_ends_and_nothing_in_between_buffers_them(site: SiteClient) -> None:
    """Line feeds alone, one line of data, an id on each: a client that forgets the id of a block without one loses its place."""
    async with raw_stream(site, 0) as stream:
        pieces = b""
        while pieces.count(b"\n\n") < 4:
            raw = await stream.reader.read(4096)
            pieces += b"".join(re.split(rb"[0-9a-f]+\r\n", raw)).replace(b"\r\n", b"")
        blocks = pieces.split(b"\n\n")[:4]
        for block in blocks:
            assert BLOCK.match(block + b"\n"), block
    async with site.http.get(f"{site.urls[0]}/v1/events/stream", headers=site.headers) as answer:
        assert answer.headers["content-type"].partition(";")[0] == "text/event-stream"
        assert answer.headers["x-accel-buffering"] == "no"
        assert {"no-store", "no-transform"} <= set(answer.headers["cache-control"].replace(",", " ").split())
        assert "content-encoding" not in answer.headers
    async with site.http.head(f"{site.urls[0]}/v1/events/stream", headers=site.headers) as answer:
        assert answer.status == 200
        async with asyncio.timeout(5):
            assert await answer.read() == b""


async def test_a_cursor_comes_under_every_name_and_the_header_goes_first(site: SiteClient) -> None:
    """Polyfills send it as a parameter of their own; browsers repeat the page's and send the header beside it."""
    feed = await site.feed()
    async with open_stream(site.http, site.urls[0], site.headers, query="?from=start") as stream:
        cursors = [(await stream.event("ready")).id]
        for _ in feed:
            block = await stream.read()
            assert block is not None
            cursors.append(block.id)
    for name in ("cursor", "last_event_id", "lastEventId"):
        query = f"?{name}={cursors[1]}"
        async with open_stream(site.http, site.urls[1], site.headers, query=query) as stream:
            assert await stream.bodies(len(feed) - 1) == feed[1:]
        headers = {**site.headers, "last-event-id": cursors[2]}
        async with open_stream(site.http, site.urls[1], headers, query=query + "&from=start") as stream:
            assert await stream.bodies(len(feed) - 2) == feed[2:]
        async with open_socket(site.urls[1], headers, query=query) as socket:
            assert await socket.until(len(feed) - 2) == feed[2:]


async def test_a_stream_begins_at_an_instant(site: SiteClient) -> None:
    """With the first event of that time or later; before all events at the first, after all with the next."""
    await site.ask("POST", "/v1/entries", site.entry(1))
    feed = await site.feed()
    times = [msgspec.json.decode(each)["timestamp"] for each in feed]
    for at, expected in ((times[2], feed[2:]), ("2020-01-01T00:00:00Z", feed)):
        for query in (f"?from={at}", f"?from={at.replace('Z', '%2B00:00')}"):
            async with open_stream(site.http, site.urls[0], site.headers, query=query) as stream:
                assert await stream.bodies(len(expected)) == expected
            async with open_socket(site.urls[1], site.headers, query=query) as socket:
                assert await socket.until(len(expected)) == expected
    async with open_stream(site.http, site.urls[0], site.headers, query="?from=2100-01-01T00:00:00Z") as stream:
        assert (await stream.event("ready")).id == await site.feed_cursor()
        await site.ask("POST", "/v1/entries", site.entry(2))
        assert await stream.bodies(1) == (await site.feed())[-1:]
    for at in ("yesterday", "2026-11-21", "2026-11-21T10:00:00"):
        async with site.http.get(f"{site.urls[0]}/v1/events/stream?from={at}", headers=site.headers) as answer:
            assert (answer.status, (await answer.json(content_type=None))["code"]) == (422, "validation.invalid_time")


async def test_a_cursor_that_is_none_of_this_feed_is_refused_and_never_misread(
    production: Production, site: SiteClient
) -> None:
    """Of the future, of another site, of another history, cut off, too long, not ASCII, twice: an answer that says so."""
    other = await open_site(production.deployment, production.http, site.urls, f"{site.credentials.organization}-b")
    head = await site.feed_cursor()
    version, epoch, sequence, digits = head.split(".")
    await site.ask("POST", "/v1/entries", site.entry(1))
    wrong = {
        f"{version}.{epoch}.{int(sequence) + 2}.{digits}": "cursor.invalid",
        f"{version}.{epoch}.{int(sequence) + 1}.{digits}": "cursor.invalid",
        f"{version}.{epoch}.{sequence}.{'0' * 12}": "cursor.invalid",
        f"v2.{epoch}.{sequence}.{digits}": "cursor.invalid",
        f"{version}.{epoch}.{'9' * 19}.{digits}": "cursor.invalid",
        f"{version}.{epoch}.-1.{digits}": "cursor.invalid",
        f"{version}.{epoch}.0{sequence}.{digits}": "cursor.invalid",
        head[:-1]: "cursor.invalid",
        head + "%00": "validation.out_of_range",
        await other.feed_cursor(): "cursor.invalid",
        "": "cursor.invalid",
        "x" * 900: "cursor.invalid",
        "%C3%A4": "cursor.invalid",
    }
    for cursor, code in wrong.items():
        async with site.http.get(f"{site.urls[0]}/v1/events/stream?cursor={cursor}", headers=site.headers) as answer:
            body = await answer.json(content_type=None)
            assert body["code"] == code, (cursor[:60], body)
            assert other.credentials.organization not in str(body)
            assert answer.status in {400, 422}
    async with site.http.get(f"{site.urls[0]}/v1/events/stream?cursor={'x' * 10_240}", headers=site.headers) as answer:
        assert answer.status in {400, 422}
    for bad in ("x" * 10_000, "v1.\u00e4"):
        headers = {**site.headers, "last-event-id": bad}
        async with site.http.get(f"{site.urls[0]}/v1/events/stream", headers=headers) as answer:
            assert (answer.status, (await answer.json(content_type=None))["code"]) == (400, "cursor.invalid")


async def test_a_client_that_hangs_up_is_noticed_though_nothing_is_sent(site: SiteClient) -> None:
    """A handler that only writes would never learn of it, and keep the process from ending."""

    async def counted() -> tuple[float, ...]:
        async with site.http.get(f"{site.urls[0]}/metrics") as answer:
            text = await answer.text()
        return tuple(float(each) for each in re.findall(r"gledger_streams\{[^}]*\} (\S+)", text))

    async def back() -> bool | None:
        return await counted() == before or None

    async with open_stream(site.http, site.urls[0], site.headers), open_socket(site.urls[0], site.headers):
        pass

    async def none() -> tuple[float, ...] | None:
        found = await counted()
        return found if set(found) == {0.0} else None

    before = await until(none, timeout_s=20)
    async with raw_stream(site, 0) as stream, open_socket(site.urls[0], site.headers) as socket:
        await stream.read(100)
        await socket.word("ready")
        assert await counted() != before
        socket.connection.transport.abort()
    await until(back, timeout_s=5)


async def test_a_refused_socket_is_a_problem_document_before_the_upgrade(site: SiteClient) -> None:
    """A client reads the reason where a close code would have to stand for it."""
    address = site.urls[0].replace("http", "ws") + "/v1/events/socket?types=cat&colour=red"
    with pytest.raises(InvalidStatus) as refused:
        async with connect(address, additional_headers=site.headers, proxy=None):
            pass
    response = refused.value.response
    assert response.status_code == 422
    assert response.headers["content-type"] == "application/problem+json"
    assert b"colour" in (response.body or b"")
