"""Whatever is wrong with a request, the answer says what, where, and under which id it is found again (RFC 9457)."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any, Final

import httpx2
import pytest
from prometheus_client import CollectorRegistry
from starlette.types import ASGIApp

from auth.principal import SiteRef
from auth.tokens import draw_jti, issue_token
from gateway.codes import CODES
from gateway.route import Route
from gateway.routes import ROUTES
from gateway.wire import BODY_MAX, BULK_BODY_MAX
from gledger.parts import Parts
from gledger.serve import Gateway
from openapi.operations import operation_id
from tests.api.stage import BASE_URL, OpenSite, furnish, new_token, open_client, open_site

JSON: Final = {"content-type": "application/json"}
NOBODY: Final = "01a1fcea-c843-7000-8084-afb8be9e573c"
TRACEPARENT: Final = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
BY_ID: Final = [route for route in ROUTES if "{id}" in route.path]


@pytest.fixture(scope="module")
async def site(parts: Parts, app: ASGIApp) -> AsyncIterator[OpenSite]:
    """One site for all: what is refused changes nothing."""
    async with open_site(parts, app) as opened:
        yield opened


@pytest.fixture(scope="module")
async def neighbour(parts: Parts, app: ASGIApp) -> AsyncIterator[OpenSite]:
    """Another organization's site."""
    async with open_site(parts, app) as opened:
        yield opened


@pytest.fixture(scope="module")
async def theirs(parts: Parts, neighbour: OpenSite) -> dict[str, list[str]]:
    """What the neighbour has; a test that changes a thing takes it out."""
    return await furnish(neighbour, parts)


def problem(answer: httpx2.Response, code: str, *pointers: str) -> dict[str, Any]:
    """Return the problem document of an answer after checking all that every one has."""
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    found: dict[str, Any] = answer.json()
    assert found["code"] == code, answer.text
    assert answer.status_code == found["status"] == CODES[code].status
    assert found["type"] == f"{BASE_URL}/errors/{code}"
    assert found["title"] == CODES[code].title
    assert found["detail"]
    assert found["retryable"] is CODES[code].retryable
    assert found["request_id"] == answer.headers["x-gledger-request-id"]
    assert found["correlation_id"] == answer.headers.get("correlation-id")
    assert [each["pointer"] for each in found["errors"]] == list(pointers), answer.text
    assert answer.headers["cache-control"] == "no-store"
    return found


async def post(client: httpx2.AsyncClient, body: bytes, path: str = "/v1/ledgers") -> httpx2.Response:
    """Post bytes that are said to be JSON."""
    return await client.post(path, content=body, headers=JSON)


def entry(amount: str) -> bytes:
    """Return an entry whose first amount is written like this."""
    line = '{"account_id": "external_id:%s", "direction": "%s", "amount": %s}'
    return ('{"lines": [' + line % ("a", "debit", amount) + "," + line % ("b", "credit", "5") + "]}").encode()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b'{"name":',
        b"{'name': 1}",
        b'{"name": "a"} x',
        b'\xef\xbb\xbf{"name": "a"}',
        b'{"name": "\xff"}',
        b'{"name": "\xed\xa0\x80"}',
        b'{"name": "\x00"}',
        b'{"name": NaN}',
        b'{"name": 1e400}',
        b'{"name": ' + b"9" * 5000 + b"}",
        b"[" * 100_000,
    ],
    ids=[
        "nothing", "cut off", "single quotes", "more after it", "byte order mark", "not UTF-8", "a surrogate in UTF-8",
        "a raw NUL", "NaN", "an infinite float", "thousands of digits", "a hundred thousand brackets",
    ],
)  # fmt: skip
async def test_what_is_not_json_is_malformed(client: httpx2.AsyncClient, body: bytes) -> None:
    """A body that cannot be read is refused as a whole; nothing in it has a place."""
    problem(await post(client, body), "request.malformed")


@pytest.mark.parametrize(
    "inside",
    [b"", b'"\\u0041"', b'{"a": 1, "a": 2}'],
    ids=["brackets", "an escape", "a duplicate"],
)
async def test_no_depth_of_nesting_is_our_mistake(client: httpx2.AsyncClient, inside: bytes) -> None:
    """However close to the limit a body is nested, whoever reads it next does not fall over it."""
    for depth in (*range(900, 1000, 3), 3000, 9000, 50_000):
        answer = await post(client, b'{"name":' + b"[" * depth + inside + b"]" * depth + b"}")
        assert answer.status_code in {400, 422}, depth


@pytest.mark.parametrize(
    ("body", "code", "pointers"),
    [
        (b"[]", "validation.invalid_type", ("",)),
        (b"null", "validation.invalid_type", ("",)),
        (b"{}", "validation.required_field_missing", ("/name",)),
        (b'{"name": null}', "validation.invalid_type", ("/name",)),
        (b'{"name": ""}', "validation.out_of_range", ("/name",)),
        (b'{"name": "a", "na/m~e": 1, "b": 2}', "validation.unknown_field", ("/na~1m~0e", "/b")),
        (b'{"name": "a", "name": "a"}', "validation.duplicate_field", ("/name",)),
        (b'{"name": "a", "metadata": {"k": "1", "k": "2"}}', "validation.duplicate_field", ("/metadata/k",)),
        (b'{"name": "a\\u0000"}', "validation.invalid_text", ("/name",)),
        (b'{"name": "\\ud800"}', "validation.invalid_text", ("/name",)),
        (b'{"name": "\\udc00\\ud800"}', "validation.invalid_text", ("/name",)),
        (b'{"name": "a", "metadata": {"\\ud800": ""}}', "validation.invalid_text", ("/metadata",)),
        (b'{"name": "a", "metadata": {"k": 1}}', "validation.invalid_type", ("/metadata/k",)),
        (b'{"name": 1.5, "description": [], "x": 0}', "validation.invalid_type", ("/name", "/description", "/x")),
    ],
)
async def test_everything_that_is_wrong_is_named_with_its_place(
    client: httpx2.AsyncClient, body: bytes, code: str, pointers: Iterable[str]
) -> None:
    """All faults come at once, each with a JSON pointer (RFC 6901)."""
    found = problem(await post(client, body), code, *pointers)
    assert found["errors"][0]["code"] == code


@pytest.mark.parametrize(
    ("amount", "code"),
    [
        ("1.5", "validation.invalid_type"),
        ("1e30", "validation.invalid_type"),
        ("0", "amount_out_of_range"),
        ("-1", "amount_out_of_range"),
        ("9223372036854775808", "amount_out_of_range"),
        ("9" * 40, "amount_out_of_range"),
        ('"0"', "amount_out_of_range"),
        ('"-5"', "amount_out_of_range"),
        ('"9223372036854775808"', "amount_out_of_range"),
        ('"5\\n"', "validation.invalid_value"),
        ('"٥"', "validation.invalid_value"),
        ('""', "validation.invalid_value"),
        ("true", "validation.invalid_type"),
        ("null", "validation.invalid_type"),
    ],
)
async def test_an_amount_is_a_whole_number_in_range(client: httpx2.AsyncClient, amount: str, code: str) -> None:
    """What is no amount is refused before anything looks at accounts."""
    problem(await post(client, entry(amount), "/v1/entries"), code, "/lines/0/amount")


@pytest.mark.parametrize(
    "amount", ["5", "5.0", "0.5e1", '"5"', '"005"', "9223372036854775807", '"9223372036854775807"']
)
async def test_an_amount_may_be_written_in_several_ways(client: httpx2.AsyncClient, amount: str) -> None:
    """An amount that is one gets as far as the accounts, all of which are looked for."""
    answer = await post(client, entry(amount), "/v1/entries")
    problem(answer, "account.not_found", "/lines/0/account_id", "/lines/1/account_id")


@pytest.mark.parametrize(("path", "limit"), [("/v1/ledgers", BODY_MAX), ("/v1/entries/batch", BULK_BODY_MAX)])
async def test_a_body_that_says_it_is_too_large_is_not_read(client: httpx2.AsyncClient, path: str, limit: int) -> None:
    """The declared length is enough to refuse."""
    read = 0

    async def body() -> AsyncIterator[bytes]:
        nonlocal read
        read += 1
        yield b"{}"

    answer = await client.post(path, content=body(), headers={**JSON, "content-length": str(limit + 1)})
    problem(answer, "request.too_large")
    assert read == 0


@pytest.mark.parametrize(("path", "limit"), [("/v1/ledgers", BODY_MAX), ("/v1/entries/batch", BULK_BODY_MAX)])
async def test_a_chunked_body_is_cut_off_where_it_is_too_large(
    client: httpx2.AsyncClient, path: str, limit: int
) -> None:
    """Who does not say how much is coming is read until it is too much, and no further."""
    sent = 0

    async def body() -> AsyncIterator[bytes]:
        nonlocal sent
        while sent < 4 * limit:
            sent += 65_536
            yield b" " * 65_536

    problem(await client.post(path, content=body(), headers=JSON), "request.too_large")
    assert sent <= limit + 2 * 65_536


@pytest.mark.parametrize("media_type", [None, "text/plain", "application/x-www-form-urlencoded", "application/jsonp"])
async def test_a_body_of_another_media_type_is_not_guessed_at(
    client: httpx2.AsyncClient, media_type: str | None
) -> None:
    """JSON is taken when it is called JSON."""
    headers = {} if media_type is None else {"content-type": media_type}
    problem(await client.post("/v1/ledgers", content=b'{"name": "a"}', headers=headers), "unsupported_media_type")


@pytest.mark.parametrize(
    ("path", "accept"),
    [
        ("/v1/ledgers", "text/html"),
        ("/v1/ledgers", "application/json;q=0"),
        ("/v1/events/stream", "application/json"),
        ("/docs", "application/json"),
    ],
)
async def test_what_cannot_be_shown_as_asked_is_not_acceptable(
    client: httpx2.AsyncClient, path: str, accept: str
) -> None:
    """Nobody gets a form of answer that they said they cannot read."""
    problem(await client.get(path, headers={"accept": accept}), "not_acceptable")


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("PUT", "/v1/ledgers", "GET, HEAD, OPTIONS, POST"),
        ("DELETE", f"/v1/ledgers/{NOBODY}", "GET, HEAD, OPTIONS, PATCH"),
        ("GET", "/v1/entries/batch", "OPTIONS, POST"),
        ("GET", "/oauth/token", "OPTIONS, POST"),
        ("TRACE", "/healthz", "GET, HEAD, OPTIONS"),
    ],
)
async def test_a_method_that_a_path_does_not_take_is_told_which_it_takes(
    client: httpx2.AsyncClient, method: str, path: str, allow: str
) -> None:
    """405 comes with Allow, and OPTIONS says the same."""
    answer = await client.request(method, path)
    problem(answer, "method_not_allowed")
    assert answer.headers["allow"] == allow
    options = await client.options(path)
    assert (options.status_code, options.headers["allow"]) == (204, allow)


@pytest.mark.parametrize("path", ["/nothing", "/v1", "/v1/ledgers/", "/v1/Ledgers", "/docs/..%2fapp.py", "/%ff%00"])
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_nothing_is_found_where_nothing_is(anonymous: httpx2.AsyncClient, method: str, path: str) -> None:
    """A path that is not in the table is nothing, whoever asks."""
    problem(await anonymous.request(method, path), "not_found")


@pytest.mark.parametrize(
    ("query", "code", "pointers"),
    [
        ("x=1", "validation.unknown_field", ("?x",)),
        ("limit=0", "validation.out_of_range", ("?limit",)),
        ("limit=101", "validation.out_of_range", ("?limit",)),
        ("limit=٥", "validation.out_of_range", ("?limit",)),
        ("limit=5&limit=5", "validation.duplicate_field", ("?limit",)),
        ("limit=&y=1", "validation.out_of_range", ("?limit", "?y")),
        ("metadata=a", "validation.unknown_field", ("?metadata",)),
        ("metadata[]=a", "validation.invalid_value", ("?metadata[]",)),
        ("metadata[a]=%00", "validation.invalid_value", ("?metadata[a]",)),
        ("created_at[eq]=2026-11-21T10:00:00Z", "validation.invalid_value", ("?created_at[eq]",)),
        ("created_at[gte]=yesterday", "validation.invalid_time", ("?created_at[gte]",)),
        ("cursor=x", "cursor.invalid", ()),
        ("cursor=p1.x", "cursor.invalid", ()),
    ],
)
async def test_a_query_is_read_strictly(
    client: httpx2.AsyncClient, query: str, code: str, pointers: Iterable[str]
) -> None:
    """A filter that is misspelt must not silently select everything."""
    problem(await client.get(f"/v1/ledgers?{query}"), code, *pointers)


async def test_ids_for_finding_it_again_are_echoed(client: httpx2.AsyncClient) -> None:
    """Answers and problems alike carry the caller's ids and our own."""
    headers = {"correlation-id": "order-17", "traceparent": TRACEPARENT}
    for path in ("/v1/ledgers", "/v1/ledgers?x=1", "/nothing", "/healthz", "/errors"):
        answer = await client.get(path, headers=headers)
        assert answer.headers["correlation-id"] == "order-17"
        assert answer.headers["traceparent"] == TRACEPARENT
        assert len(answer.headers["x-gledger-request-id"]) == 36
    assert problem(await client.get("/nothing", headers=headers), "not_found")["correlation_id"] == "order-17"


@pytest.mark.parametrize("correlation_id", ["two words", "", "x" * 129, "ü"])
async def test_an_id_that_would_not_survive_a_log_line_is_refused(
    client: httpx2.AsyncClient, correlation_id: str
) -> None:
    """What the caller calls a request is echoed as it is, or not taken at all."""
    answer = await client.get("/healthz", headers=[(b"correlation-id", correlation_id.encode())])
    problem(answer, "request.malformed")


@pytest.mark.parametrize("key", ["two words", "", "x" * 256, "ü"])
async def test_an_idempotency_key_is_visible_ascii(client: httpx2.AsyncClient, key: str) -> None:
    """A key that could be read in two ways is none."""
    answer = await client.post("/v1/ledgers", json={"name": "a"}, headers=[(b"idempotency-key", key.encode())])
    problem(answer, "idempotency.key_invalid")


@pytest.mark.parametrize("etag", ["3", 'W/"3"', '"3", "4"', '"three"', '""', f'"{"1" * 19}"'])
async def test_if_match_takes_one_strong_etag(client: httpx2.AsyncClient, etag: str) -> None:
    """An ETag of another form would never match; it is refused, not passed over."""
    answer = await client.patch(f"/v1/ledgers/{NOBODY}", json={"name": "a"}, headers={"if-match": etag})
    problem(answer, "request.malformed")


async def test_who_says_nothing_about_themselves_is_asked(anonymous: httpx2.AsyncClient) -> None:
    """Without credentials nothing of the API answers, and the challenge names no error (RFC 6750 §3.1)."""
    for route in ROUTES:
        if route.scope is not None:
            answer = await anonymous.request(route.method, route.path.replace("{id}", NOBODY))
            problem(answer, "auth.missing")
            assert answer.headers["www-authenticate"] == 'Bearer realm="gledger"'


async def test_a_credential_that_is_none_is_refused(client: httpx2.AsyncClient, site: OpenSite) -> None:
    """Forged, garbled, of another scheme, or sent twice: all the same."""
    token = client.headers["authorization"].removeprefix("Bearer ")
    head, body, signature = token.split(".")
    forged = f"{head}.{body}.{signature[:-4]}{'AAAA' if signature[-4:] != 'AAAA' else 'BBBB'}"
    for headers in (
        [("authorization", f"Bearer {forged}")],
        [("authorization", f"Bearer {head}.{body}.")],
        [("authorization", "Bearer x")],
        [("authorization", "Bearer glk_sbx_nobody_knows")],
        [("x-api-key", "x")],
        [("x-api-key", token)],
        [("authorization", f"Bearer {token}"), ("authorization", f"Bearer {token}")],
        [("authorization", f"Bearer {token}"), ("x-api-key", site.credentials.api_key)],
    ):
        del client.headers["authorization"]
        answer = await client.get("/v1/ledgers", headers=headers)
        problem(answer, "auth.invalid")
        assert answer.headers["www-authenticate"] == 'Bearer realm="gledger", error="invalid_token"'
        client.headers["authorization"] = f"Bearer {token}"
    assert (await client.get("/v1/ledgers")).status_code == 200


async def test_a_token_past_its_time_is_told_so(parts: Parts, client: httpx2.AsyncClient, site: OpenSite) -> None:
    """Expired is not forged: the client knows that a new token will do."""
    token, _ = issue_token(
        parts.authority.keyring.signing_key("sandbox"),
        parts.authority.issuers,
        client_id=site.credentials.client_id,
        site=SiteRef(id=site.site.id, organization=site.site.organization, environment="sandbox"),
        scopes=["ledger.read"],
        jti=draw_jti(parts.authority.entropy),
        now_us=parts.clock.now_us() - 3_600_000_000,
    )
    problem(await client.get("/v1/ledgers", headers={"authorization": f"Bearer {token}"}), "auth.expired")


async def test_a_token_that_was_taken_back_is_told_so(site: OpenSite) -> None:
    """Revocation is in force when its answer is there, for that token alone."""
    token = await new_token(site)
    headers = {"authorization": f"Bearer {token}"}
    assert (await site.client.get("/v1/ledgers", headers=headers)).status_code == 200
    revoked = await site.client.post("/oauth/revoke", data={"token": token}, auth=site.basic)
    assert revoked.status_code == 200
    problem(await site.client.get("/v1/ledgers", headers=headers), "auth.revoked")
    assert (await site.client.get("/v1/ledgers")).status_code == 200


@pytest.mark.parametrize("route", [route for route in ROUTES if route.scope], ids=operation_id)
async def test_every_scope_but_the_right_one_is_not_enough(site: OpenSite, route: Route) -> None:
    """Each operation asks for its own scope, before it looks at anything else of the request."""
    token = await new_token(site, " ".join(sorted(site.credentials.scopes - {route.scope})))
    headers = {"authorization": f"Bearer {token}"}
    answer = await site.client.request(route.method, route.path.replace("{id}", NOBODY), headers=headers)
    found = problem(answer, "auth.insufficient_scope")
    assert route.scope is not None
    assert route.scope in found["detail"]
    assert answer.headers["www-authenticate"] == 'Bearer realm="gledger", error="insufficient_scope"'


BODIES = {
    "/v1/entries/{id}/partial_post": {"lines": [{"id": NOBODY, "amount": 1}]},
    "/v1/inspectors/{id}": {"status": 500},
}
REQUIRED = {"interval": "day", "from": "2026-01-01T00:00:00Z", "to": "2026-01-02T00:00:00Z"}
FOUND_AND_REFUSED = {"entry.not_posted", "validation.invalid_value"}


@pytest.mark.parametrize("route", BY_ID, ids=operation_id)
async def test_what_is_another_sites_is_not_there(
    client: httpx2.AsyncClient, neighbour: OpenSite, theirs: dict[str, list[str]], route: Route
) -> None:
    """Another site's id and an id that nothing has get the same answer, to the byte; its own site finds it."""
    known = theirs[route.path.split("/")[2]].pop()
    member = theirs["accounts" if "/accounts/{member" in route.path else "account_categories"][0]
    path = route.path.replace("{member_id}", member)
    body = None if route.body is None or route.body_optional else BODIES.get(route.path, {"metadata": {"seen": "yes"}})

    query = {each.name: REQUIRED[each.name] for each in route.query if each.required}

    async def told(resource_id: str) -> str:
        answer = await client.request(route.method, path.replace("{id}", resource_id), json=body, params=query)
        found = problem(answer, "not_found")
        return json.dumps(found).replace(resource_id, "ID").replace(found["request_id"], "REQUEST")

    assert await told(known) == await told(NOBODY)
    answer = await neighbour.client.request(route.method, path.replace("{id}", known), json=body, params=query)
    # It is there, whether or not it is one of those that can be dealt with like this.
    assert answer.status_code < 300 or answer.json()["code"] in FOUND_AND_REFUSED, answer.text


@asynccontextmanager
async def asking(parts: Parts, **changed: Any) -> AsyncIterator[tuple[Gateway, httpx2.AsyncClient]]:
    """Open a client of another gateway over the same parts, with other settings."""
    settings = dataclasses.replace(parts.settings, **changed)
    gateway = Gateway(dataclasses.replace(parts, settings=settings, registry=CollectorRegistry()))
    async with open_client(gateway.app) as client:
        yield gateway, client


async def test_too_many_requests_are_told_when_to_come_back(parts: Parts, site: OpenSite) -> None:
    """Each credential has its own allowance, and every answer says how much of it is left."""
    headers = {"authorization": site.client.headers["authorization"]}
    async with asking(parts, rate_limit_per_s=1) as (_, client):
        first = await client.get("/v1/ledgers", headers=headers)
        assert first.status_code == 200
        assert first.headers["ratelimit-policy"] == '"credential";q=1;w=1'
        assert first.headers["ratelimit"] == '"credential";r=0;t=1'
        second = await client.get("/v1/ledgers", headers=headers)
        problem(second, "rate_limit")
        assert second.headers["retry-after"] == "1"
        other = await client.get("/v1/ledgers", headers={"x-api-key": site.credentials.api_key})
        assert other.status_code == 200
        assert (await client.get("/healthz")).status_code == 200


async def test_a_process_that_goes_down_says_that_it_is_not_ready(parts: Parts) -> None:
    """It still answers, names what is missing, and asks to be tried again."""
    async with asking(parts) as (gateway, client):
        assert (await client.get("/readyz")).json() == {
            "status": "ready",
            "checks": {"control_database": True, "accepting": True},
        }
        gateway.tailers.drain()
        answer = await client.get("/readyz")
        assert problem(answer, "unavailable")["checks"] == {"control_database": True, "accepting": False}
        assert answer.headers["retry-after"] == "1"
        assert (await client.get("/healthz")).status_code == 200


async def test_metrics_are_for_who_has_their_token(parts: Parts) -> None:
    """The token of the metrics opens them, and nothing else does."""
    async with asking(parts, metrics_token="scrape") as (_, client):
        for headers in ({}, {"authorization": "Bearer x"}, {"authorization": "scrape"}):
            problem(await client.get("/metrics", headers=headers), "auth.missing")
        answer = await client.get("/metrics", headers={"authorization": "Bearer scrape"})
        assert answer.status_code == 200
        assert "gledger_http_problems_total" in answer.text


@pytest.mark.parametrize("code", CODES)
async def test_every_code_has_its_page(anonymous: httpx2.AsyncClient, code: str) -> None:
    """A problem's `type` resolves on the server that sent it."""
    answer = await anonymous.get(f"/errors/{code}")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/html")
    assert code in answer.text
    assert CODES[code].title in answer.text


async def test_the_list_of_codes_leads_to_every_page(anonymous: httpx2.AsyncClient) -> None:
    """Nothing that can go wrong is missing from the list."""
    listed = (await anonymous.get("/errors")).text
    assert [code for code in CODES if f"/errors/{code}" not in listed] == []
