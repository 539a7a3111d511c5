"""Two gateways and a worker: whatever is done at one holds at the other, on every channel the same bytes."""

from __future__ import annotations

import asyncio
import contextlib
import time
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec
from standardwebhooks import Webhook
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.fakes.receiver import Receiver
from tests.faults.follower import Follower
from tests.journeys.conftest import SiteClient

REVOKED_WITHIN_S: Final = 5.0


async def test_an_entry_arrives_on_every_channel_as_the_same_bytes(site: SiteClient, receiver: Receiver) -> None:
    """Webhook, SSE, WebSocket, one event and the list carry one encoding, over either gateway."""
    endpoint = await site.ask("POST", "/v1/webhook_endpoints", {"url": receiver.url("/hook"), "event_types": ["*"]})
    before = len(await site.feed())
    entries = [await site.ask("POST", "/v1/entries", site.entry(amount), at=amount % 2) for amount in range(1, 6)]
    feed = await site.feed(at=1)
    assert feed == await site.feed(at=0)
    events = [msgspec.json.decode(each) for each in feed]
    assert [each["sequence"] for each in events] == list(range(1, len(feed) + 1))
    assert [each["data"] for each in events[before:]] == entries
    requests = await receiver.wait_for_count(5, "/hook")
    assert sorted(each.body for each in requests) == sorted(feed[before:])
    for each in requests:
        Webhook(endpoint["secret"]).verify(each.body, dict(each.headers))
    assert sorted(int(each.headers["x-gledger-endpoint-sequence"]) for each in requests) == [1, 2, 3, 4, 5]
    for at in (0, 1):
        assert await _read_sse(site, at, len(feed)) == feed
        assert await _read_socket(site, at, len(feed)) == feed
    async with site.http.get(f"{site.urls[0]}/v1/events/{events[-1]['id']}", headers=site.headers) as answer:
        assert await answer.read() == feed[-1]


async def test_a_key_used_at_both_gateways_at_once_posts_once(site: SiteClient) -> None:
    """Twenty requests with one key, half at each gateway, are one entry; another request under the key is refused."""

    async def post(at: int) -> tuple[str, bool]:
        url = f"{site.urls[at]}/v1/entries"
        headers = site.headers | {"idempotency-key": "one"}
        async with site.http.post(url, json=site.entry(7), headers=headers) as answer:
            assert answer.status == 201, await answer.text()
            return (await answer.json())["id"], answer.headers.get("idempotent-replayed") == "true"

    answers = await asyncio.gather(*(post(number % 2) for number in range(20)))
    assert len({entry_id for entry_id, _ in answers}) == 1
    assert sorted(replayed for _, replayed in answers) == [False] + [True] * 19
    refused = await site.ask("POST", "/v1/entries", site.entry(8), at=1, status=422, headers={"idempotency-key": "one"})
    assert refused["code"] == "idempotency.key_reused"
    balance = await site.ask("GET", f"/v1/accounts/{site.debit}/balance", at=1)
    assert int(balance["posted"]["debits"]) == 7


async def test_a_token_revoked_at_one_gateway_is_refused_at_the_other_and_its_streams_end(site: SiteClient) -> None:
    """Within five seconds, an open SSE stream and an open WebSocket too, each told why before it ends."""
    token = await site.token(at=0)
    bearer = {"authorization": f"Bearer {token}"}
    socket_url = site.urls[1].replace("http", "ws") + "/v1/events/socket"
    async with (
        site.http.get(f"{site.urls[1]}/v1/events/stream", headers=bearer) as stream,
        connect(socket_url, additional_headers=bearer, proxy=None) as socket,
    ):
        assert stream.status == 200
        async with site.http.post(f"{site.urls[0]}/oauth/revoke", data={"token": token}, headers=site.basic) as answer:
            assert answer.status == 200, await answer.text()
        began = time.monotonic()
        sse = await asyncio.wait_for(stream.read(), REVOKED_WITHIN_S + 1)
        frames = await _frames(socket)
        assert time.monotonic() - began < REVOKED_WITHIN_S
    assert _last_block(sse) == ("closing", {"reason": "auth.revoked", "reconnect": False})
    assert frames[-1]["type"] == "closing"
    assert frames[-1]["reason"] == "auth.revoked"
    assert socket.close_code == 4403
    for url in site.urls:
        async with site.http.get(f"{url}/v1/ledgers", headers=bearer) as answer:
            assert (answer.status, (await answer.json())["code"]) == (401, "auth.revoked")


async def test_a_credential_that_runs_out_ends_its_streams_with_a_last_word(site: SiteClient) -> None:
    """A stream does not outlive the credential it was opened with."""
    wanted = {
        "name": "short",
        "scopes": ["events.read"],
        "expires_at": (datetime.now(UTC) + timedelta(seconds=3)).isoformat(),
    }
    key = (await site.ask("POST", "/v1/api_keys", wanted))["key"]
    bearer = {"authorization": f"Bearer {key}"}
    socket_url = site.urls[0].replace("http", "ws") + "/v1/events/socket"
    async with (
        site.http.get(f"{site.urls[1]}/v1/events/stream", headers=bearer) as stream,
        connect(socket_url, additional_headers=bearer, proxy=None) as socket,
    ):
        assert stream.status == 200
        sse = await asyncio.wait_for(stream.read(), 3 + REVOKED_WITHIN_S)
        frames = await _frames(socket)
    assert _last_block(sse) == ("closing", {"reason": "auth.expired", "reconnect": False})
    assert (frames[-1]["type"], frames[-1]["reason"], socket.close_code) == ("closing", "auth.expired", 4401)
    async with site.http.get(f"{site.urls[0]}/v1/events", headers=bearer) as answer:
        assert (answer.status, (await answer.json())["code"]) == (401, "auth.expired")


async def _read_sse(site: SiteClient, at: int, count: int) -> list[bytes]:
    follower = Follower(url=site.urls[at], token=site.credentials.api_key)
    following = asyncio.create_task(follower.run(site.http))
    try:
        await follower.until(count, timeout_s=10)
    finally:
        following.cancel()
    return follower.bodies


async def _read_socket(site: SiteClient, at: int, count: int) -> list[bytes]:
    found: list[bytes] = []
    url = site.urls[at].replace("http", "ws") + "/v1/events/socket?from=start"
    async with asyncio.timeout(10), connect(url, additional_headers=site.headers, proxy=None, max_size=None) as socket:
        async for message in socket:
            raw = message.encode() if isinstance(message, str) else message
            if raw.startswith(b"["):
                found += [bytes(each) for each in msgspec.json.decode(raw, type=list[msgspec.Raw])]
            if len(found) >= count:
                break
    return found


async def _frames(socket: ClientConnection) -> list[Any]:
    """Return everything the server says until it closes."""
    frames = []
    with contextlib.suppress(ConnectionClosed):
        while True:
            frames.append(msgspec.json.decode(await socket.recv()))
    return frames


def _last_block(raw: bytes) -> tuple[str, dict[str, Any]]:
    """Return the name of a stream's last block, and why it ended."""
    block = raw.rstrip(b"\n").split(b"\n\n")[-1]
    fields = dict(line.split(b": ", 1) for line in block.split(b"\n"))
    data = msgspec.json.decode(fields[b"data"])
    return fields[b"event"].decode(), {"reason": data["reason"], "reconnect": data["reconnect"]}
