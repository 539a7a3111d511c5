"""One field finds anything of the visitor's own site; what somebody wrote into names and texts is shown as text and nothing else."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any, Final

import httpx2
import pytest
from starlette.types import ASGIApp

from delivery.relay import Relay
from gateway.portal.deliveries import ENDPOINTS_OFFERED
from gateway.portal.table import PAGES
from gledger.parts import Parts
from tests.api.stage import OpenSite, furnish, open_site
from tests.api.test_portal import NOWHERE, sign_in
from tests.api.test_portal import browser as browser

EVIL: Final = """'"><script>alert(1)</script><img src=x onerror=alert(2)>{{ 7*7 }}</title></textarea>"""


async def test_any_id_leads_to_what_it_is(browser: httpx2.AsyncClient, site: OpenSite, parts: Parts) -> None:
    """Of a resource to its page, of a request to what came of it, of somebody's own to the entry, the account, the deliveries."""
    made = await furnish(site, parts)
    lines = [
        {"account_id": made["accounts"][0], "direction": "debit", "amount": 1},
        {"account_id": made["accounts"][1], "direction": "credit", "amount": 1},
    ]
    posted = await site.client.post(
        "/v1/entries", json={"lines": lines, "external_id": "invoice 7/2026"}, headers={"correlation-id": "order-7&x=1"}
    )
    event = (await site.client.get(f"/v1/events?resource_id={posted.json()['id']}")).json()["data"][0]
    for collection, place in (
        ("deliveries", "deliveries"),
        ("events", "events"),
        ("entries", "entries"),
        ("accounts", "accounts"),
        ("ledgers", "books"),
        ("webhook_endpoints", "endpoints"),
        ("replays", "replays"),
    ):
        found = made[collection][0]
        answer = await browser.get("/portal/find", params={"q": f" {found} "})
        assert (answer.status_code, answer.headers["location"]) == (303, f"/portal/{place}/{found}"), collection
    asked = await browser.get("/portal/find", params={"q": posted.headers["x-gledger-request-id"]})
    assert asked.headers["location"] == f"/portal/events/{event['id']}"
    named = await browser.get("/portal/find", params={"q": "invoice 7/2026"})
    assert named.headers["location"] == f"/portal/entries/{posted.json()['id']}"
    await site.client.post("/v1/ledgers", json={"name": "Later"}, headers={"correlation-id": "told-to-nobody"})
    told = await browser.get("/portal/find", params={"q": "told-to-nobody"})
    assert told.headers["location"].startswith("/portal/events/")
    deliveries = await browser.get("/portal/find", params={"q": "order-7&x=1"})
    assert deliveries.headers["location"].startswith("/portal/events/")
    await Relay(parts.databases, clock=parts.clock, ids=parts.ids).run(site.site)
    deliveries = await browser.get("/portal/find", params={"q": "order-7&x=1"})
    assert deliveries.headers["location"] == "/portal/deliveries?q=order-7%26x%3D1"
    for nothing in (NOWHERE, "nobody", "0189", EVIL):
        answer = await browser.get("/portal/find", params={"q": nothing})
        assert (answer.status_code, "Nothing found" in answer.text) == (404, True), nothing
    assert (await browser.get("/portal/find?q=")).headers["location"] == "/portal"


async def test_nothing_of_another_organization_is_found(
    browser: httpx2.AsyncClient, site: OpenSite, app: ASGIApp, parts: Parts
) -> None:
    """By no id, by no request, by no reference."""
    made = await furnish(site, parts)
    posted = await site.client.post("/v1/ledgers", json={"name": "Mine"})
    wanted = [made[each][0] for each in ("deliveries", "events", "entries", "accounts", "ledgers", "webhook_endpoints")]
    async with open_site(parts, app) as elsewhere:
        stranger = await sign_in(app, parts, elsewhere)
        for each in (*wanted, posted.headers["x-gledger-request-id"]):
            assert (await browser.get("/portal/find", params={"q": each})).status_code == 303
            assert (await stranger.get("/portal/find", params={"q": each})).status_code == 404
        await stranger.aclose()


async def test_a_chosen_endpoint_stays_chosen_however_many_there_are(
    browser: httpx2.AsyncClient, site: OpenSite
) -> None:
    """The filter offers the newest ones and the one that is chosen; any is found by its address."""
    body: dict[str, Any] = {"url": "https://partner.example/the-oldest", "event_types": ["*"]}
    oldest = (await site.client.post("/v1/webhook_endpoints", json=body)).json()["id"]
    for number in range(ENDPOINTS_OFFERED):
        await site.client.post("/v1/webhook_endpoints", json={**body, "url": f"https://partner.example/{number}"})
    text = (await browser.get(f"/portal/deliveries?endpoint_id={oldest}")).text
    assert f'<option value="{oldest}" selected>https://partner.example/the-oldest</option>' in text
    assert "the-oldest" not in (await browser.get("/portal/deliveries")).text
    found = await browser.get("/portal/endpoints", params={"q": "THE-OLDEST"})
    assert found.text.count("data-href=") == 1
    assert oldest in found.text


class _Elements(HTMLParser):
    """Notes the elements and attributes of a page that could run something."""

    def __init__(self) -> None:
        super().__init__()
        self.wrong: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note what no template of ours has."""
        given = dict(attrs)
        if tag in {"img", "iframe", "object", "embed", "base", "style"} or (tag == "script" and "src" not in given):
            self.wrong.append(tag)
        for name, value in attrs:
            if name.startswith("on") or name == "style":
                self.wrong.append(name)
            if name in {"href", "src", "action"} and re.match(r"\s*(javascript|data):", value or "", re.IGNORECASE):
                self.wrong.append(f"{name}={value}")


@pytest.fixture
async def evil(site: OpenSite, parts: Parts) -> dict[str, list[str]]:
    """A site on which every text that can be written is an attack."""
    client = site.client
    made = await furnish(site, parts)

    async def make(path: str, body: dict[str, Any], **headers: str) -> dict[str, Any]:
        answer = await client.post(
            path, json=body, headers={name.replace("_", "-"): each for name, each in headers.items()}
        )
        assert answer.is_success, (path, answer.text)
        return dict(answer.json())

    noted: dict[str, Any] = {"description": EVIL, "metadata": {EVIL: EVIL}}
    ledger = await make("/v1/ledgers", {"name": EVIL, **noted})
    accounts = [
        await make(
            "/v1/accounts",
            {"ledger_id": ledger["id"], "name": EVIL, "type": "asset", "currency": "USD", "external_id": f"{EVIL}{side}",
             "code": f"{number}'\"><b>", **noted},
        )
        for number, side in enumerate(("debit", "credit"))
    ]  # fmt: skip
    lines = [
        {"account_id": each["id"], "direction": side, "amount": 1, "metadata": {EVIL: EVIL}}
        for each, side in zip(accounts, ("debit", "credit"), strict=True)
    ]
    entry = await make(
        "/v1/entries", {"lines": lines, "external_id": EVIL, **noted}, correlation_id='"><script>alert(3)</script>'
    )
    hold = await make("/v1/holds", {"lines": lines, "external_id": f"{EVIL}hold", **noted})
    endpoint = await make(
        "/v1/webhook_endpoints",
        {
            "url": "https://partner.example/'%22%3E%3Cscript%3E",
            "event_types": ["*"],
            "headers": {"X-Evil": EVIL[:40]},
            **noted,
        },
    )
    key = await make("/v1/api_keys", {"name": EVIL[:100]})
    events = (await client.get(f"/v1/events?resource_id={entry['id']}")).json()["data"]
    return made | {
        "books": [ledger["id"]], "accounts": [each["id"] for each in accounts], "entries": [entry["id"], hold["id"]],
        "endpoints": [endpoint["id"]], "events": [each["id"] for each in events], "keys": [key["id"]],
    }  # fmt: skip


async def test_what_somebody_wrote_is_text_on_every_page(
    browser: httpx2.AsyncClient, evil: dict[str, list[str]]
) -> None:
    """No element, no handler and no address of theirs is in any page, wherever their text is shown; nor is it a template."""
    paths = [each.path for each in PAGES if each.method == "GET" and "{" not in each.path and not each.live]
    for collection in ("books", "accounts", "entries", "endpoints", "events", "deliveries", "replays"):
        paths += [f"/portal/{collection}/{each}" for each in evil[collection][:2]]
    paths += [
        f"/portal/{name}" for name in ("deliveries?q=%22%3E%3Cscript%3E", "find?q=%22%3E%3Cimg%3E", "%3Cscript%3E")
    ]
    shown = 0
    for path in paths:
        text = (await browser.get(path)).text
        page = _Elements()
        page.feed(text)
        assert page.wrong == [], path
        assert "<script>alert" not in text, path
        assert ">49<" not in text, path
        shown += "&lt;script&gt;alert" in text
    assert shown >= 10
