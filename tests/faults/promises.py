"""What must hold after anything died: the books, the feed, the webhooks and the streams, looked at from outside."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from typing import Any, Final

import aiohttp
import msgspec
from standardwebhooks import Webhook

from tests.fakes.receiver import Receiver
from tests.faults.follower import Follower
from tests.faults.load import Book, Load
from tests.processes import Deployment, until

SETTLE_S: Final = 60.0
"""How long deliveries and streams may take to catch up: a killed worker's leases run out after timeout and margin."""


async def read_feed(load: Load, http: aiohttp.ClientSession) -> list[bytes]:
    """Return the bytes of every event, over the list."""
    found: list[bytes] = []
    after = ""
    while True:
        raw = await _get(load, http, f"/v1/events?limit=1000{after}")
        page = msgspec.json.decode(raw, type=_Page)
        found += [bytes(each) for each in page.data]
        if not page.has_more:
            return found
        after = f"&after={page.next_cursor}"


async def check_everything(
    deployment: Deployment,
    load: Load,
    http: aiohttp.ClientSession,
    book: Book,
    receiver: Receiver,
    endpoint: dict[str, Any],
    followers: list[Follower],
) -> None:
    """Hold the deployment to every promise; each is one assertion with what was found."""
    feed = await read_feed(load, http)
    envelopes = [msgspec.json.decode(each) for each in feed]
    assert [each["sequence"] for each in envelopes] == list(range(1, len(feed) + 1))
    assert [each["timestamp"] for each in envelopes] == sorted(each["timestamp"] for each in envelopes)
    _check_entries(load, envelopes)
    await _check_balances(load, http, book)
    for follower in followers:
        await follower.until(len(feed), timeout_s=SETTLE_S)
        assert follower.bodies == feed, f"{follower.url} did not see exactly the feed"
    await _check_webhooks(load, http, receiver, endpoint, feed, envelopes)
    verified = await deployment.run("verify")
    assert (verified.code, verified.err) == (0, ""), verified.out + verified.err


def _check_entries(load: Load, envelopes: list[dict[str, Any]]) -> None:
    posted = [each["data"] for each in envelopes if each["type"] == "entry.posted"]
    by_key = {each["metadata"]["key"]: each["id"] for each in posted}
    twice = [key for key, count in Counter(each["metadata"]["key"] for each in posted).items() if count > 1]
    assert twice == [], "an entry was posted twice"
    lost = {key for key, entry_id in load.acknowledged.items() if by_key.get(key) != entry_id}
    assert lost == set(), "an acknowledged entry is not in the feed"
    assert by_key.keys() == load.acknowledged.keys(), "an entry was posted that nobody was told of"


async def _check_balances(load: Load, http: aiohttp.ClientSession, book: Book) -> None:
    debits = credits_ = 0
    for account_id in (book.debit, *book.credits):
        posted = (await load.ask(http, "GET", f"/v1/accounts/{account_id}/balance", None))["posted"]
        debits += int(posted["debits"])
        credits_ += int(posted["credits"])
    assert debits == credits_ == sum(load.amounts[key] for key in load.acknowledged)


async def _check_webhooks(
    load: Load,
    http: aiohttp.ClientSession,
    receiver: Receiver,
    endpoint: dict[str, Any],
    feed: list[bytes],
    envelopes: list[dict[str, Any]],
) -> None:
    """Every event after the endpoint's registration arrived, with the feed's bytes and an endpoint's number without gap."""
    expected = [(body, each) for body, each in zip(feed, envelopes, strict=True) if each["type"].startswith("entry.")]
    await _until_received(load, http, receiver, endpoint["id"], len(expected))
    signed = Webhook(endpoint["secret"])
    numbers: dict[int, tuple[str, bytes]] = {}
    for request in receiver.received:
        # Not `verify`, which takes nothing older than five minutes: a story may be longer.
        name, sent_s = request.headers["webhook-id"], int(request.headers["webhook-timestamp"])
        signature = signed.sign(name, datetime.fromtimestamp(sent_s, UTC), request.body.decode())
        assert signature in request.headers["webhook-signature"].split(" ")
        number = int(request.headers["x-gledger-endpoint-sequence"])
        arrived = (name, request.body)
        assert numbers.setdefault(number, arrived) == arrived, "an endpoint's number was given to two events"
    assert sorted(numbers) == list(range(1, len(expected) + 1))
    assert [numbers[number] for number in sorted(numbers)] == [(each["id"], body) for body, each in expected]


async def _until_received(
    load: Load, http: aiohttp.ClientSession, receiver: Receiver, endpoint_id: str, count: int
) -> None:
    """Return when so many webhooks arrived and the endpoint's last number is that; says what waits where it takes too long."""

    async def received() -> int | None:
        arrived = {request.headers["webhook-id"] for request in receiver.received}
        shown = await load.ask(http, "GET", f"/v1/webhook_endpoints/{endpoint_id}", None)
        return shown["last_sequence"] if len(arrived) >= count <= shown["last_sequence"] else None

    try:
        last = await until(received, timeout_s=SETTLE_S)
    except TimeoutError:
        states = ", ".join(await _undelivered(load, http, endpoint_id))
        raise TimeoutError(f"{len(receiver.received)} of {count} webhooks arrived; waiting: {states}") from None
    assert last == count


async def _undelivered(load: Load, http: aiohttp.ClientSession, endpoint_id: str) -> list[str]:
    page = await load.ask(http, "GET", f"/v1/deliveries?endpoint_id={endpoint_id}&limit=1000", None)
    return [
        f"{each['endpoint_sequence']} {each['status']} ({each['attempts']} attempts, next {each['next_attempt_at']})"
        for each in page["data"]
        if each["status"] != "delivered"
    ][:10]


async def _get(load: Load, http: aiohttp.ClientSession, path: str) -> bytes:
    headers = {"authorization": f"Bearer {load.credentials.api_key}"}
    async with http.get(load.gateways[0] + path, headers=headers) as answer:
        raw = await answer.read()
        assert answer.status == 200, raw
        return raw


class _Page(msgspec.Struct):
    data: list[msgspec.Raw]
    has_more: bool
    next_cursor: str | None
