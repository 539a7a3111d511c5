"""The portal through ASGI: the door, what keeps others out, what every page has, and that each page is of one site."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest
from starlette.types import ASGIApp

from gateway.portal.explorer import DOCUMENTS
from gateway.portal.rendering import STATIC
from gateway.portal.table import PAGES
from gledger.parts import Parts, open_parts
from gledger.serve import Gateway
from gledger.settings import Settings
from gledger.sites import bootstrap, first_administrator
from tests.api.conftest import MASTER_KEY
from tests.api.stage import BASE_URL, OpenSite, furnish, open_client, open_site

SAME_ORIGIN = {"sec-fetch-site": "same-origin"}
NOWHERE = "01890000-0000-7000-8000-000000000000"


async def sign_in(app: ASGIApp, parts: Parts, opened: OpenSite) -> httpx2.AsyncClient:
    """Return a browser in which the site's first administrator is signed in."""
    email, password = await first_administrator(parts, opened.site.organization)
    if password is None:
        password = (await parts.authority.people.reset(email, now_us=parts.clock.now_us())).password
    browser = httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url=BASE_URL)
    answer = await browser.post("/portal/sign-in", data={"email": email, "password": password}, headers=SAME_ORIGIN)
    assert (answer.status_code, answer.headers["location"]) == (303, "/portal"), answer.text
    return browser


async def form_token(browser: httpx2.AsyncClient) -> str:
    """Return the form token of a page."""
    found = re.search(r'name="form-token" content="([0-9a-f]{64})"', (await browser.get("/portal")).text)
    assert found is not None
    return found[1]


@pytest.fixture
async def browser(app: ASGIApp, parts: Parts, site: OpenSite) -> AsyncIterator[httpx2.AsyncClient]:
    """A browser of the fresh site's administrator."""
    opened = await sign_in(app, parts, site)
    yield opened
    await opened.aclose()


async def test_every_page_but_the_door_sends_a_stranger_to_the_door(anonymous: httpx2.AsyncClient) -> None:
    """Nothing of a site is shown before somebody signed in; a live part says so by its status."""
    for each in PAGES:
        path = each.path.replace("{id}", NOWHERE).replace("{verb}", "pause")
        answer = await anonymous.request(each.method, path, headers=SAME_ORIGIN)
        if each.public:
            assert answer.status_code in {200, 401}, path
        elif each.live:
            assert answer.status_code == 401, path
        else:
            assert (answer.status_code, answer.headers["location"].partition("?")[0]) == (303, "/portal/sign-in"), path


async def test_after_signing_in_one_is_where_one_wanted_to_be(
    anonymous: httpx2.AsyncClient, parts: Parts, site: OpenSite
) -> None:
    """A link from a message survives the door; a link to elsewhere does not."""
    email, password = await first_administrator(parts, site.site.organization)
    sent = await anonymous.get("/portal/deliveries?status=exhausted")
    assert sent.headers["location"] == "/portal/sign-in?next=/portal/deliveries%3Fstatus%3Dexhausted"
    for after, lands in (
        ("/portal/deliveries?status=exhausted", "/portal/deliveries?status=exhausted"),
        ("https://evil.example/portal", "/portal"),
        ("//evil.example/portal", "/portal"),
        ("/\\evil.example/portal", "/portal"),
        ("/portal\n/x", "/portal"),
    ):
        form = {"email": email, "password": password, "next": after}
        answer = await anonymous.post("/portal/sign-in", data=form, headers=SAME_ORIGIN)
        assert answer.headers["location"] == lands


async def test_a_wrong_password_is_refused_and_then_throttled(
    anonymous: httpx2.AsyncClient, parts: Parts, site: OpenSite
) -> None:
    """The page says neither which of the two was wrong, nor locks anybody out: it says how long to wait."""
    email, _ = await first_administrator(parts, site.site.organization)
    form = {"email": email, "password": "not the password at all"}
    for _ in range(5):
        refused = await anonymous.post("/portal/sign-in", data=form, headers=SAME_ORIGIN)
        assert refused.status_code == 401
        assert "do not belong together" in refused.text
        assert "set-cookie" not in refused.headers
    throttled = await anonymous.post("/portal/sign-in", data=form, headers=SAME_ORIGIN)
    assert throttled.status_code == 429
    assert int(throttled.headers["retry-after"]) >= 1


async def test_a_form_of_another_site_is_not_taken(browser: httpx2.AsyncClient) -> None:
    """Neither from another origin, nor without saying where from, nor without the session's own token."""
    token = await form_token(browser)
    for headers in (
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"sec-fetch-site": "none"},
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {},
    ):
        answer = await browser.post("/portal/sign-out", data={"form_token": token}, headers=headers)
        assert answer.status_code == 403, headers
    planted = await browser.post(
        "/portal/sign-in", data={"email": "a@b.example"}, headers={"sec-fetch-site": "cross-site"}
    )
    assert planted.status_code == 403
    for form in ({}, {"form_token": ""}, {"form_token": "0" * 64}):
        assert (await browser.post("/portal/sign-out", data=form, headers=SAME_ORIGIN)).status_code == 403
    assert (await browser.get("/portal")).status_code == 200
    left = await browser.post("/portal/sign-out", data={"form_token": token}, headers={"origin": BASE_URL})
    assert left.headers["location"] == "/portal/sign-in"
    assert (await browser.get("/portal")).status_code == 303


async def test_signing_in_draws_another_token_and_ends_the_old_session(
    browser: httpx2.AsyncClient, app: ASGIApp, parts: Parts, site: OpenSite
) -> None:
    """A token that somebody planted before is worth nothing afterwards."""
    before = browser.cookies["gledger"]
    email, _ = await first_administrator(parts, site.site.organization)
    password = (await parts.authority.people.reset(email, now_us=parts.clock.now_us())).password
    answer = await browser.post("/portal/sign-in", data={"email": email, "password": password}, headers=SAME_ORIGIN)
    assert answer.status_code == 303
    assert browser.cookies["gledger"] != before
    async with open_client(app, {"cookie": f"gledger={before}"}) as planted:
        assert (await planted.get("/portal")).status_code == 303


async def test_every_answer_has_the_headers_that_keep_a_page_to_itself(browser: httpx2.AsyncClient) -> None:
    """No inline script or style is allowed, none is there, nobody frames the page, nothing keeps it."""
    for path in (
        "/portal",
        "/portal/deliveries",
        "/portal/nowhere",
        "/portal/static/portal.js",
        "/portal/static/nothing",
    ):
        answer = await browser.get(path)
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["x-content-type-options"] == "nosniff"
        if answer.headers["content-type"].startswith("text/html"):
            assert answer.headers["cache-control"] == "no-store"
            assert not re.search(r"<script(?![^>]*\bsrc=)|\son[a-z]+=|\sstyle=|<style", answer.text)
            assert not re.search(r'(?:src|href)="(?:https?:)?//(?!www\.standardwebhooks\.com)', answer.text)


async def test_under_tls_the_cookie_is_bound_to_the_host(tmp_path: Path, redis_server: str) -> None:
    """`__Host-` keeps it from other hosts and from clear text; scripts never see it; the page says to come by TLS only."""
    settings = Settings.from_env(
        {
            "GLEDGER_DATA": str(tmp_path),
            "GLEDGER_REDIS_URL": redis_server,
            "GLEDGER_MASTER_KEY": MASTER_KEY,
            "GLEDGER_PUBLIC_URL": "https://ledger.example",
        }
    )
    async with open_parts(settings) as parts, open_client(Gateway(parts).app) as client:
        await bootstrap(parts, "acme", "sandbox")
        email, password = await first_administrator(parts, "acme")
        form = {"email": email, "password": password}
        answer = await client.post("/portal/sign-in", data=form, headers={"origin": "https://ledger.example"})
    cookie = answer.headers["set-cookie"].lower()
    assert cookie.startswith("__host-gledger=")
    assert all(part in cookie for part in ("; secure", "; httponly", "; path=/", "; samesite=lax"))
    assert "domain" not in cookie
    assert answer.headers["strict-transport-security"] == "max-age=31536000"


@pytest.mark.parametrize("name", STATIC)
async def test_what_pages_are_made_of_may_be_kept_for_ever(anonymous: httpx2.AsyncClient, name: str) -> None:
    """Its address changes with its content."""
    answer = await anonymous.get(f"/portal/static/{name}")
    assert (answer.status_code, answer.headers["content-type"]) == (200, STATIC[name])
    assert "immutable" in answer.headers["cache-control"]


async def test_every_page_of_a_furnished_site_can_be_opened(
    browser: httpx2.AsyncClient, site: OpenSite, parts: Parts
) -> None:
    """Each list and each resource, as they are after something of everything was made."""
    made = await furnish(site, parts)
    paths = [each.path for each in PAGES if each.method == "GET" and "{" not in each.path and not each.live]
    paths += [
        f"/portal/books/{made['ledgers'][0]}",
        f"/portal/accounts/{made['accounts'][0]}",
        f"/portal/accounts/{made['accounts'][-1]}",
        f"/portal/entries/{made['entries'][0]}",
        f"/portal/endpoints/{made['webhook_endpoints'][0]}",
        f"/portal/endpoints/{made['webhook_endpoints'][0]}/test-answer",
        f"/portal/events/{made['events'][0]}",
        f"/portal/deliveries/{made['deliveries'][0]}",
        f"/portal/deliveries/{made['deliveries'][0]}/attempts",
        f"/portal/deliveries?q={made['events'][0]}&since=1h&status=pending&sequence_from=1",
        "/portal/deliveries?last_error=timeout&status=exhausted",
        "/portal/checklist",
    ]
    for path in paths:
        answer = await browser.get(path)
        assert answer.status_code == (303 if path in {"/portal/sign-in", "/portal/find"} else 200), (path, answer.text)
    older = re.search(r'href="(/portal/deliveries\?cursor=[^"]+)"', (await browser.get("/portal/deliveries")).text)
    assert older is not None
    assert (await browser.get(older[1])).status_code == 200


async def test_every_description_can_be_downloaded_from_the_explorer(browser: httpx2.AsyncClient) -> None:
    """Each link leads to a document of its kind."""
    page = (await browser.get("/portal/explorer")).text
    for path in DOCUMENTS:
        assert f'href="{path}" download' in page
        answer = await browser.get(path)
        assert (answer.status_code, len(answer.text) > 1000) == (200, True), path
    raml = await browser.get("/api.raml")
    assert raml.headers["content-type"] == "application/raml+yaml"
    assert raml.text.startswith("#%RAML 1.0\n")


async def test_another_organizations_administrator_finds_nothing_by_any_id(
    browser: httpx2.AsyncClient, site: OpenSite, app: ASGIApp, parts: Parts
) -> None:
    """Every page and every action that takes an id says that there is no such thing, and nothing happens."""
    made = await furnish(site, parts)
    token = await form_token(browser)
    key = (await site.client.post("/v1/api_keys", json={"name": "theirs"})).json()
    replay = (await site.client.post("/v1/replays", json={"delivery_ids": [made["deliveries"][0]]})).json()
    inspector = (await site.client.post("/v1/inspectors", json={})).json()
    await site.client.post(inspector["url"], content=b"arrived")
    ids = {
        "/portal/deliveries": made["deliveries"][0],
        "/portal/replays": replay["id"],
        "/portal/endpoints": made["webhook_endpoints"][0],
        "/portal/events": made["events"][0],
        "/portal/books": made["ledgers"][0],
        "/portal/accounts": made["accounts"][0],
        "/portal/entries": made["entries"][0],
        "/portal/inspectors": inspector["id"],
        "/portal/keys": key["id"],
        "/portal/clients": site.credentials.client_id,
        "/portal/sessions": (
            await parts.authority.sessions.find(browser.cookies["gledger"], now_us=parts.clock.now_us())
        ).session.id,  # type: ignore[union-attr]
    }
    verbs = {"/portal/replays": "cancel", "/portal/endpoints": "pause", "/portal/clients": "revoke"}
    asked = 0
    async with open_site(parts, app) as elsewhere:
        stranger = await sign_in(app, parts, elsewhere)
        theirs = await form_token(stranger)
        for each in PAGES:
            if "{id}" not in each.path:
                continue
            collection = each.path.partition("/{id}")[0]
            path = each.path.replace("{id}", ids[collection]).replace("{number}", "1")
            path = path.replace("{verb}", verbs.get(collection, "pause"))
            form = {"form_token": theirs} if each.method == "POST" else None
            if each.handler.__name__ == "change":
                form = {**(form or {}), "url": "https://evil.example", "event_types": "*"}
            answer = await stranger.request(each.method, path, data=form, headers=SAME_ORIGIN)
            assert answer.status_code == 404, (each.method, path, answer.status_code)
            asked += 1
        await stranger.aclose()
    assert asked >= 20
    mine = await browser.get(f"/portal/inspectors/{inspector['id']}/requests/1")
    assert mine.json()["text"] == "arrived"
    assert (await browser.get(f"/portal/inspectors/{inspector['id']}/requests/2")).status_code == 404
    assert token == await form_token(browser)
    endpoint = (await site.client.get(f"/v1/webhook_endpoints/{made['webhook_endpoints'][0]}")).json()
    assert (endpoint["status"], endpoint["url"]) == ("active", "https://partner.example/hook")
    assert (await site.client.get(f"/v1/api_keys/{key['id']}")).json()["revoked_at"] is None


async def test_a_token_of_the_explorer_has_the_chosen_scopes_and_ends_with_the_session(
    browser: httpx2.AsyncClient, anonymous: httpx2.AsyncClient
) -> None:
    """Ten minutes at most, nothing that was not chosen, worth nothing once the session that made it is over."""
    token = await form_token(browser)
    form: dict[str, str | list[str]] = {"form_token": token}
    for wrong in ([], ["ledger.read", "everything"]):
        refused = await browser.post("/portal/explorer/token", data={**form, "scope": wrong}, headers=SAME_ORIGIN)
        assert refused.status_code == 422, wrong
    chosen = {**form, "scope": ["ledger.read", "events.read"]}
    made = (await browser.post("/portal/explorer/token", data=chosen, headers=SAME_ORIGIN)).json()
    assert 0 < made["expires_in"] <= 600
    assert set(made["scope"].split()) == {"ledger.read", "events.read"}
    bearer = {"authorization": f"Bearer {made['access_token']}"}
    assert (await anonymous.get("/v1/ledgers", headers=bearer)).status_code == 200
    assert (await anonymous.post("/v1/ledgers", json={"name": "x"}, headers=bearer)).status_code == 403
    assert (await browser.post("/portal/sign-out", data=form, headers=SAME_ORIGIN)).status_code == 303
    assert (await anonymous.get("/v1/ledgers", headers=bearer)).status_code == 401


async def test_turning_to_an_environment_that_is_not_there_says_how_it_is_made(browser: httpx2.AsyncClient) -> None:
    """The session looks at what it looked at before."""
    form = {"form_token": await form_token(browser), "environment": "production"}
    answer = await browser.post("/portal/environment", data=form, headers=SAME_ORIGIN)
    assert (answer.status_code, "--environment production" in answer.text) == (404, True)
    answer = await browser.post("/portal/environment", data={**form, "environment": "<b>"}, headers=SAME_ORIGIN)
    assert answer.status_code == 404
    assert form["form_token"] == await form_token(browser)


async def test_the_explorer_makes_no_token_for_production(
    browser: httpx2.AsyncClient, parts: Parts, site: OpenSite
) -> None:
    """Not on its page and not by its address; a form of the sandbox changes nothing there, and it has no inspectors."""
    await bootstrap(parts, site.site.organization, "production")
    before = await form_token(browser)
    turned = {"form_token": before, "environment": "production"}
    assert (await browser.post("/portal/environment", data=turned, headers=SAME_ORIGIN)).status_code == 303
    stale = await browser.post("/portal/keys", data={"form_token": before, "name": "x"}, headers=SAME_ORIGIN)
    assert stale.status_code == 403
    form = {"form_token": await form_token(browser), "scope": "ledger.read"}
    refused = await browser.post("/portal/explorer/token", data=form, headers=SAME_ORIGIN)
    assert (refused.status_code, "eyJ" in refused.text) == (403, False)
    page = (await browser.get("/portal/explorer")).text
    assert '<form class="card filters" data-mint' not in page
    assert "no tokens for production" in page
    assert (await browser.post("/portal/inspectors", data=form, headers=SAME_ORIGIN)).status_code == 404
