"""Tickets for what cannot send a header: what they are bound to, when they end, and that no log shows them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import aiohttp
import msgspec
import pytest
from websockets.exceptions import InvalidStatus

from tests.journeys.conftest import Production, SiteClient
from tests.processes import GatewayProgram
from tests.streams import open_socket, open_stream

PAGE: Final = "https://dashboard.example"
STRANGER: Final = "https://evil.example"


@pytest.fixture(scope="module")
async def gateway(production: Production) -> AsyncIterator[GatewayProgram]:
    """A gateway that lets pages of one origin follow, and logs all it can."""
    program = production.deployment.gateway(STREAM_ORIGINS=f"{PAGE},http://localhost:3000", LOG_LEVEL="debug")
    await program.ready()
    yield program
    assert await program.stop() == 0, program.tail()


async def make_ticket(
    site: SiteClient, url: str, *, headers: dict[str, str] | None = None, status: int = 201, **body: Any
) -> Any:
    """Make a ticket at a gateway and return the answer."""
    address = f"{url}/v1/stream_tickets"
    async with site.http.post(address, json=body, headers=headers or site.headers) as answer:
        assert answer.status == status, await answer.text()
        return await answer.json(content_type=None)


async def refusal(site: SiteClient, url: str, query: str, headers: dict[str, str] | None = None) -> tuple[int, str]:
    """Return how the stream refuses a request, which the socket must do alike."""
    async with site.http.get(f"{url}/v1/events/stream{query}", headers=headers) as answer:
        status, code = answer.status, (await answer.json(content_type=None))["code"]
    with pytest.raises(InvalidStatus) as refused:
        async with open_socket(url, headers, query=query):
            pass
    response = refused.value.response
    assert (response.status_code, msgspec.json.decode(response.body or b"")["code"]) == (status, code)
    return status, str(code)


async def test_a_ticket_opens_both_kinds_of_stream_again_and_again_at_any_gateway(
    site: SiteClient, gateway: GatewayProgram
) -> None:
    """It serves the reconnects of a client that sends no header at all, from its last cursor."""
    made = await make_ticket(site, site.urls[0])
    query = f"?ticket={made['ticket']}"
    feed = await site.feed()
    for url in (*site.urls, gateway.url):
        async with open_stream(site.http, url, query=f"{query}&from=start") as stream:
            assert await stream.bodies(len(feed)) == feed
            cursor = (await stream.event("checkpoint")).id if stream.waiting else None
        async with open_socket(url, query=f"{query}&from=start") as socket:
            assert await socket.until(len(feed)) == feed
            cursor = socket.cursors[None]
        async with open_stream(site.http, url, query=f"{query}&cursor={cursor}") as stream:
            assert (await stream.event("ready")).id == cursor


async def test_a_ticket_lets_through_its_filter_and_parameters_only_narrow_it(site: SiteClient) -> None:
    """Whatever the page asks for, it sees no event that the backend did not mean it to see."""
    wanted = {"types": ["entry.*"], "account_id": site.debit}
    made = await make_ticket(site, site.urls[0], filter=wanted)
    third = await site.ask(
        "POST", "/v1/accounts", {"ledger_id": await ledger_of(site), "name": "x", "type": "asset", "currency": "USD"}
    )
    for amount in (1, 2):
        await site.ask("POST", "/v1/entries", site.entry(amount, metadata={"amount": str(amount)}))
        other = site.entry(amount)
        other["lines"][0]["account_id"] = third["id"]
        await site.ask("POST", "/v1/entries", other)
    mine = [each for each in await site.feed() if site.debit.encode() in each and b'"entry.posted"' in each]
    assert len(mine) == 2
    query = f"?ticket={made['ticket']}&from=start"
    for extra, expected in (
        ("", mine),
        ("&types=*", mine),
        (f"&account_id={site.credit}", mine),
        ("&metadata[amount]=2", mine[1:]),
    ):
        async with open_stream(site.http, site.urls[1], query=query + extra) as stream:
            assert await stream.bodies(len(expected)) == expected
        async with open_socket(site.urls[1], query=query + extra) as socket:
            assert await socket.until(len(expected)) == expected
    async with open_socket(site.urls[1], query=query + f"&account_id={third['id']}") as socket:
        await socket.say("subscribe", subscription="all", from_="start", filter={"types": ["*"]})
        assert await socket.until(2, "all") == mine
        assert None not in socket.events, "nothing touches both accounts"


async def ledger_of(site: SiteClient) -> str:
    """Return the site's ledger."""
    return str((await site.ask("GET", f"/v1/accounts/{site.debit}"))["ledger_id"])


async def test_a_ticket_opens_nothing_but_streams_and_nothing_else_is_a_ticket(site: SiteClient) -> None:
    """Neither in a header nor on another operation; no token, key or forgery stands for one."""
    made = (await make_ticket(site, site.urls[0]))["ticket"]
    for headers in ({"authorization": f"Bearer {made}"}, {"x-api-key": made}):
        assert await refusal(site, site.urls[0], "", headers) == (401, "auth.invalid")
        await site.ask("GET", "/v1/events", headers=headers, status=401)
    async with site.http.get(f"{site.urls[0]}/v1/events?ticket={made}") as answer:
        assert answer.status == 401
    head, _, rest = made.partition(".")
    claims, _, signature = rest.partition(".")
    for forged in (
        await site.token(),
        site.credentials.api_key,
        "",
        "x",
        f"{head}.{claims}.{signature[:-4]}AAAA",
        f"{head}.{claims[:-2]}AA.{signature}",
        made + "x" * 3000,
    ):
        assert await refusal(site, site.urls[0], f"?ticket={forged}") == (401, "auth.invalid")
    with pytest.raises(InvalidStatus) as refused:
        async with open_socket(site.urls[0], query=f"?ticket={made}&ticket={made}"):
            pass
    assert refused.value.response.status_code == 401, "a socket is opened with one"
    assert await refusal(site, site.urls[0], f"?ticket={made}", site.headers) == (401, "auth.invalid")


async def test_a_ticket_is_taken_from_pages_of_its_origin_alone(site: SiteClient, gateway: GatewayProgram) -> None:
    """A page that stole it sends its own origin and gets nothing; one without an origin is no page's."""
    for bound_to, sent, let_in in (
        (PAGE, PAGE, True),
        (PAGE, STRANGER, False),
        (PAGE, None, False),
        (PAGE, "http://localhost:3000", False),
        (PAGE, "null", False),
        (None, None, True),
        (None, PAGE, False),
    ):
        made = await make_ticket(site, gateway.url, origin=bound_to)
        query = f"?ticket={made['ticket']}&from=start"
        headers = {} if sent is None else {"origin": sent}
        if not let_in:
            assert await refusal(site, gateway.url, query, headers) == (403, "auth.origin_not_allowed")
            continue
        async with open_stream(site.http, gateway.url, headers, query=query) as stream:
            assert await stream.bodies(3) == await site.feed()
            assert stream.answer.headers.get("access-control-allow-origin") == sent
        async with open_socket(gateway.url, query=query, origin=sent) as socket:
            await socket.until(3)


async def test_a_ticket_for_a_page_of_this_server_needs_no_origin_header(site: SiteClient) -> None:
    """A browser sends none with a request to where the page came from."""
    own = site.urls[0]
    public_url = (await site.ask("GET", "/.well-known/oauth-authorization-server/sandbox"))["issuer"]
    origin = public_url.removesuffix("/sandbox")
    made = await make_ticket(site, own, origin=origin)
    for headers in ({}, {"origin": origin}):
        async with open_stream(site.http, own, headers, query=f"?ticket={made['ticket']}") as stream:
            await stream.event("ready")


async def test_what_a_ticket_cannot_be_is_refused_when_it_is_made(site: SiteClient, gateway: GatewayProgram) -> None:
    """An origin that is not let in, a type that there is none of, eleven minutes, a caller who may not read events."""
    for body, pointer in (
        ({"origin": STRANGER}, "/origin"),
        ({"filter": {"types": ["no.such"]}}, "/filter/types"),
        ({"filter": {"resource_type": "cat"}}, "/filter/resource_type"),
        ({"filter": {"account_id": "x"}}, "/filter/account_id"),
        ({"filter": {"metadata": {str(number): "" for number in range(11)}}}, "/filter/metadata"),
        ({"expires_in": 601}, "/expires_in"),
        ({"colour": "red"}, "/colour"),
    ):
        refused = await make_ticket(site, gateway.url, status=422, **body)
        assert pointer in [each["pointer"] for each in refused["errors"]]
    wanted = {"name": "reader", "scopes": ["ledger.read"]}
    key = (await site.ask("POST", "/v1/api_keys", wanted))["key"]
    refused = await make_ticket(site, gateway.url, headers={"authorization": f"Bearer {key}"}, status=403)
    assert refused["code"] == "auth.insufficient_scope"


async def test_pages_of_an_allowed_origin_may_use_headers_of_their_own(
    site: SiteClient, gateway: GatewayProgram
) -> None:
    """The browser's question before such a request is answered for that origin and no other; refusals can be read too."""
    address = f"{gateway.url}/v1/events/stream"
    asked = {"access-control-request-method": "GET", "access-control-request-headers": "authorization,last-event-id"}
    async with site.http.options(address, headers={"origin": PAGE, **asked}) as answer:
        assert answer.status == 204
        assert answer.headers["access-control-allow-origin"] == PAGE
        allowed = {each.strip() for each in answer.headers["access-control-allow-headers"].split(",")}
        assert {"authorization", "last-event-id"} <= allowed
        assert "access-control-allow-credentials" not in answer.headers
    for origin, seen in ((PAGE, PAGE), (STRANGER, None)):
        async with site.http.get(f"{address}?cursor=x", headers={"origin": origin, **site.headers}) as answer:
            assert answer.status == 400
            assert answer.headers.get("access-control-allow-origin") == seen
            assert answer.headers["vary"].lower() == "origin"
    async with site.http.get(f"{gateway.url}/v1/events", headers={"origin": PAGE, **site.headers}) as answer:
        assert "access-control-allow-origin" not in answer.headers


async def test_a_ticket_ends_with_the_credential_that_made_it(site: SiteClient) -> None:
    """It expires no later, and is revoked with it, open streams too."""
    ends = datetime.now(UTC) + timedelta(seconds=60)
    wanted = {"name": "short", "scopes": ["events.read"], "expires_at": ends.isoformat()}
    made_key = await site.ask("POST", "/v1/api_keys", wanted)
    bearer = {"authorization": f"Bearer {made_key['key']}"}
    made = await make_ticket(site, site.urls[0], headers=bearer)
    assert datetime.fromisoformat(made["expires_at"]) <= ends
    query = f"?ticket={made['ticket']}"
    async with (
        open_stream(site.http, site.urls[1], query=query) as stream,
        open_socket(site.urls[1], query=query) as socket,
    ):
        await stream.event("ready")
        await site.ask("DELETE", f"/v1/api_keys/{made_key['id']}")
        assert (await stream.event("closing")).value["reason"] == "auth.revoked"
        assert (await socket.word("closing"))["reason"] == "auth.revoked"
    assert await refusal(site, site.urls[1], query) == (401, "auth.revoked")


async def test_a_ticket_that_ran_out_ends_its_stream_after_a_warning_and_opens_none(site: SiteClient) -> None:
    """Nothing comes after its time, on either kind of stream."""
    made = await make_ticket(site, site.urls[0], expires_in=3)
    query = f"?ticket={made['ticket']}"
    async with (
        open_stream(site.http, site.urls[0], query=query) as stream,
        open_socket(site.urls[1], query=query) as socket,
    ):
        warned = await stream.event("expiring")
        assert warned.value["expires_at"] == made["expires_at"]
        assert (await socket.word("expiring"))["expires_at"] == made["expires_at"]
        assert (await stream.event("closing")).value["reason"] == "auth.expired"
        assert await stream.read() is None
        assert (await socket.word("closing"))["reconnect"] is False
        await site.ask("POST", "/v1/entries", site.entry(1))
        await socket.connection.wait_closed()
        assert socket.connection.close_code == 4401
    assert await refusal(site, site.urls[0], query) == (401, "auth.expired")


async def test_no_log_shows_a_ticket(site: SiteClient, gateway: GatewayProgram) -> None:
    """Not in an address, not where one is refused, at any level."""
    made = (await make_ticket(site, gateway.url))["ticket"]
    for query in (f"?ticket={made}", f"?from=start&%74icket={made}"):
        async with open_stream(site.http, gateway.url, query=query) as stream:
            await stream.event("ready")
        async with open_socket(gateway.url, query=query) as socket:
            await socket.word("ready")
            await socket.say("subscribe", subscription="x", ticket=made + "x")
            await socket.word("error", "x")
    broken = made[:-6] + "AAAAAA"
    await refusal(site, gateway.url, f"?ticket={broken}")
    log = gateway.log.read_text("utf-8")
    assert "/v1/events/socket" in log, "the log says nothing of addresses: the test proves nothing"
    for part in made.split("."):
        assert part not in log


async def test_many_pages_may_share_a_ticket(site: SiteClient) -> None:
    """Fifty pages with one ticket are fifty streams; a ticket is no lock."""
    made = await make_ticket(site, site.urls[0])

    async def follow(at: int) -> list[bytes]:
        query = f"?ticket={made['ticket']}&from=start"
        async with aiohttp.ClientSession() as http, open_stream(http, site.urls[at % 2], query=query) as stream:
            return await stream.bodies(3)

    feed = await site.feed()
    assert await asyncio.gather(*map(follow, range(50))) == [feed] * 50
