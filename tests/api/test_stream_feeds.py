"""Several sites' feeds over one connection of server-sent events: which requests are one, and where they begin."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final

import msgspec
import pytest
from starlette.types import ASGIApp, Message

from gledger.parts import Parts
from tests.api.stage import OpenSite, open_site
from tests.streams import check_word

ORIGIN: Final = "http://ledger.example"


@pytest.fixture
async def other(parts: Parts, app: ASGIApp) -> AsyncIterator[OpenSite]:
    """Another organization's site."""
    async with open_site(parts, app) as opened:
        yield opened


async def ticket(site: OpenSite, **wanted: Any) -> str:
    """Make a ticket."""
    answer = await site.client.post("/v1/stream_tickets", json=wanted)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["ticket"])


async def named(site: OpenSite, count: int) -> list[str]:
    """Commit so many events; return the cursor before them and the one after each."""
    for _ in range(count):
        assert (await site.client.post("/v1/ledgers", json={"name": "Main"})).status_code == 201
    found = [(await site.client.get(f"/v1/events?limit={at}")).json()["next_cursor"] for at in range(1, count + 1)]
    return [found[0].replace(".1.", ".0."), *found]


async def asked(
    app: ASGIApp, query: str, headers: dict[str, str] | None = None, blocks: int = 1
) -> tuple[int, dict[str, Any], list[dict[str, Any]]]:
    """Return a stream's status, the problem where it is one, and else its first words and events; then hang up."""
    sent: list[Message] = []
    enough = asyncio.Event()

    def body() -> bytes:
        return b"".join(each.get("body", b"") for each in sent)

    async def receive() -> Message:
        await enough.wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)
        if sent[0]["status"] != 200 or body().count(b"\n\n") >= blocks:
            enough.set()

    scope: dict[str, Any] = {
        "type": "http",
        "method": "GET",
        "path": "/v1/events/stream",
        "query_string": query.encode(),
        "headers": [(name.encode(), value.encode()) for name, value in (headers or {}).items()],
    }
    async with asyncio.timeout(10):
        await app(scope, receive, send)
    if sent[0]["status"] != 200:
        return sent[0]["status"], msgspec.json.decode(body()), []
    found = []
    for block in body().split(b"\n\n")[:-1]:
        fields = dict(line.split(b": ", 1) for line in block.split(b"\n"))
        value = msgspec.json.decode(fields[b"data"])
        if "." not in value["type"]:
            check_word(value)
        found.append({"id": fields[b"id"].decode(), **value})
    return 200, {}, found


async def test_what_belongs_to_no_one_connection_is_refused(app: ASGIApp, site: OpenSite, other: OpenSite) -> None:
    """A site twice, too many feeds, a ticket beside a header, one that is broken, one of a page among those of none."""
    one, two = await ticket(site), await ticket(other)
    page = await ticket(other, origin=ORIGIN)
    narrow = await ticket(site, filter={"types": ["entry.*"]})
    headers = {"authorization": f"Bearer {one}"}
    for query, given, status, code in (
        (f"ticket={one}&ticket={one}", {}, 422, "validation.duplicate_field"),
        (f"ticket={one}&ticket={two}&ticket={narrow}", {}, 422, "validation.duplicate_field"),
        ("&".join([f"ticket={one}"] * 17), {}, 422, "validation.out_of_range"),
        (f"ticket={one}&ticket={two}", headers, 401, "auth.invalid"),
        (f"ticket={one}&ticket={two}x", {}, 401, "auth.invalid"),
        (f"ticket={one}&ticket=", {}, 401, "auth.invalid"),
        (f"ticket=&ticket={one}", {}, 401, "auth.invalid"),
        (f"ticket={one}&ticket={page}", {"origin": ORIGIN}, 403, "auth.origin_not_allowed"),
        (f"ticket={page}&ticket={one}", {"origin": ORIGIN}, 403, "auth.origin_not_allowed"),
    ):
        answered, problem, _ = await asked(app, query, given)
        assert (answered, problem["code"]) == (status, code), query
        if status == 422:
            assert [each["pointer"] for each in problem["errors"]] == ["?ticket"]


async def test_a_cursor_must_have_a_place_in_each_feed_in_the_order_of_the_tickets(
    app: ASGIApp, site: OpenSite, other: OpenSite
) -> None:
    """Fewer, more, in another order, of the future, half of one: refused, saying of which feed, and nothing is guessed."""
    (_, one, *_), (_, two, *_) = await named(site, 2), await named(other, 2)
    query = f"ticket={await ticket(site)}&ticket={await ticket(other)}"
    mine, theirs = (f"{each.site.organization}.sandbox" for each in (site, other))
    ahead = two.replace(".1.", ".9.")
    for cursor, said in (
        (one, "places in 1 feeds"),
        (f"{one}_{two}_{two}", "places in 3 feeds"),
        (f"{two}_{one}", f"in {mine} it belongs to another feed"),
        (f"{one}_{one}", f"in {theirs} it belongs to another feed"),
        (f"{one}_{ahead}", f"in {theirs} it is ahead of the feed"),
        (f"{one}_", f"in {theirs} it is malformed"),
        (f"_{two}", f"in {mine} it is malformed"),
        ("_", f"in {mine} it is malformed"),
        ("_" * 900, "places in 901 feeds"),
        (f"{one}_{two}x", f"in {theirs} it is malformed"),
    ):
        for extra in ("", "&on_expired=reset"):
            if extra and not said.endswith(("malformed", "feeds")):
                continue
            given = {} if extra else {"last-event-id": cursor}
            status, problem, _ = await asked(app, f"{query}&cursor={cursor}{extra}", given)
            assert (status, problem["code"]) == (400, "cursor.invalid"), cursor
            assert said in problem["detail"]
    status, problem, _ = await asked(app, f"ticket={await ticket(site)}&cursor={one}_{two}")
    assert (status, problem["code"]) == (400, "cursor.invalid"), "one feed has no cursor of two"
    _, _, found = await asked(app, f"{query}&cursor={one}_{two}", blocks=4)
    assert [each.get("subscription") for each in found[:2]] == [mine, theirs]
    assert [each["cursor"] for each in found[:2]] == [one, two]
    assert {each["id"] for each in found[:2]} == {f"{one}_{two}"}
    assert {each["organization"]: each["sequence"] for each in found[2:]} == {
        site.site.organization: 2,
        other.site.organization: 2,
    }


async def test_where_one_feed_no_longer_serves_its_place_the_answer_has_places_in_all(
    later: ASGIApp, site: OpenSite, other: OpenSite
) -> None:
    """410 names the feed; `earliest` goes on as it is; a browser is told a reset of that feed alone, and the other resumes."""
    ones, twos = await named(site, 3), await named(other, 3)
    query = f"ticket={await ticket(site)}&ticket={await ticket(other)}"
    mine, theirs = (f"{each.site.organization}.sandbox" for each in (site, other))
    status, problem, _ = await asked(later, f"{query}&cursor={ones[3]}_{twos[1]}")
    assert (status, problem["code"]) == (410, "cursor.expired")
    assert theirs in problem["detail"]
    assert mine not in problem["detail"]
    assert problem["earliest"] == problem["head"] == f"{ones[3]}_{twos[3]}"
    status, problem, _ = await asked(later, f"{query}&cursor={ones[1]}_{twos[1]}")
    assert theirs in problem["detail"]
    assert mine in problem["detail"]
    assert (await asked(later, f"{query}&cursor={problem['earliest']}"))[0] == 200
    status, _, found = await asked(later, f"{query}&cursor={ones[3]}_{twos[1]}&on_expired=reset", blocks=3)
    assert [(each["type"], each["subscription"]) for each in found] == [
        ("ready", mine),
        ("reset", theirs),
        ("ready", theirs),
    ]
    assert found[1]["earliest"] == found[1]["cursor"] == twos[3]
    assert {each["id"] for each in found} == {f"{ones[3]}_{twos[3]}"}


async def test_filters_hold_for_every_feed_and_each_ticket_narrows_its_own(
    app: ASGIApp, site: OpenSite, other: OpenSite
) -> None:
    """A ticket's filter is of its own feed; a parameter is of all."""
    await named(site, 2)
    await named(other, 2)
    narrow = await ticket(site, filter={"types": ["account.*"]})
    query = f"ticket={narrow}&ticket={await ticket(other)}&from=start"
    _, _, found = await asked(app, query, blocks=4)
    assert [each["organization"] for each in found[2:]] == [other.site.organization] * 2
    _, _, found = await asked(app, f"ticket={await ticket(site)}&ticket={await ticket(other)}&from=start", blocks=6)
    assert len(found) == 6
    status, problem, _ = await asked(app, query + "&types=no.such")
    assert (status, problem["code"]) == (422, "validation.invalid_value")
