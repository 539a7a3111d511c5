"""Every list and every resource speaks alike, asked over HTTP: pages, orders, ETags, what is unchanged, who changed it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
from starlette.types import ASGIApp

from gateway.route import Route
from gateway.routes import ROUTES
from gledger.parts import Parts
from openapi.operations import operation_id
from tests.api.stage import OpenSite, furnish, open_site

LISTS = [route for route in ROUTES if route.page]
READS = [
    route
    for route in ROUTES
    if route.method == "GET"
    and route.answer is not None
    and not route.page
    and route.path.endswith("}")
    and "{token}" not in route.path
    and route.tag != "Documents"
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Furnished:
    """A site with something of everything."""

    opened: OpenSite
    ids: dict[str, list[str]]

    def path(self, route: Route) -> str:
        """Return a path of the route that leads to something."""
        collection, _, rest = route.path.removeprefix("/v1/").partition("/")
        if not rest:
            return route.path
        known = self.ids.get(collection, [""])[0]
        parts = ["", "v1", collection, known, *rest.split("/")[1:]]
        return "/".join(parts)


@pytest.fixture(scope="module")
async def furnished(parts: Parts, app: ASGIApp) -> AsyncIterator[Furnished]:
    """The site of this module."""
    async with open_site(parts, app) as opened:
        ids = await furnish(opened, parts)
        top, low, *_ = ids["account_categories"]
        for member in (f"accounts/{ids['accounts'][0]}", f"accounts/{ids['accounts'][1]}", f"account_categories/{low}"):
            assert (await opened.client.put(f"/v1/account_categories/{top}/{member}")).status_code == 200
        yield Furnished(opened=opened, ids=ids)


async def every_page(furnished: Furnished, path: str, **query: Any) -> list[Any]:
    """Return all items of a list, one by one, each page reached by the link of the one before."""
    client, found = furnished.opened.client, []
    answer = await client.get(path, params={"limit": 1, **query})
    while True:
        assert answer.status_code == 200, answer.text
        page = answer.json()
        found += page["data"]
        assert ("link" in answer.headers) == page["has_more"]
        assert answer.headers["x-gledger-feed-cursor"].startswith("v1.")
        if not page["has_more"] or len(found) > 80:
            return found
        link = answer.headers["link"]
        answer = await client.get(link[link.index("<") + 1 : link.index(">")])


@pytest.mark.parametrize("route", LISTS, ids=operation_id)
async def test_a_list_is_what_its_pages_are(furnished: Furnished, route: Route) -> None:
    """By its links, nothing twice; an unknown parameter is refused; what is unchanged is not sent again."""
    client, path = furnished.opened.client, furnished.path(route)
    whole = await client.get(path)
    assert whole.status_code == 200, whole.text
    again = await client.get(path, headers={"if-none-match": f'"other", {whole.headers["etag"]}'})
    assert (again.status_code, again.content) == (304, b"")
    for name in ("etag", "x-gledger-feed-cursor", "x-gledger-request-id"):
        assert name in again.headers
    assert (await client.get(path, headers={"if-none-match": '"other"'})).status_code == 200
    assert (await client.get(path, params={"nobody": "1"})).status_code == 422
    if any(each.name == "limit" for each in route.query) and route.path != "/v1/events":
        items = whole.json()["data"]
        paged = await every_page(furnished, path)
        assert paged[: len(items)] == items[: len(paged)]
        keys = [str(item) for item in paged]
        assert len(set(keys)) == len(keys)


@pytest.mark.parametrize(
    "route", [each for each in LISTS if any(one.name == "order_by" for one in each.query)], ids=operation_id
)
async def test_a_list_is_the_same_from_either_end(furnished: Furnished, route: Route) -> None:
    """The oldest first is the newest first read backwards, in pages too."""
    path = furnished.path(route)
    newest = await every_page(furnished, path, order_by="-created_at")
    assert newest
    if len(newest) > 80:
        return
    assert await every_page(furnished, path, order_by="created_at") == newest[::-1]
    assert await every_page(furnished, path) == newest


async def test_entries_are_listed_by_when_they_take_effect(furnished: Furnished) -> None:
    """Either way and in pages; a cursor is of its order only, and no other list knows this one."""
    client = furnished.opened.client
    newest = await every_page(furnished, "/v1/entries")
    latest = await every_page(furnished, "/v1/entries", order_by="-effective_at")
    assert latest == sorted(newest, key=lambda each: (each["effective_at"], each["id"]), reverse=True)
    assert await every_page(furnished, "/v1/entries", order_by="effective_at") == latest[::-1]
    cursor = (await client.get("/v1/entries", params={"limit": 1})).json()["next_cursor"]
    refused = await client.get("/v1/entries", params={"order_by": "effective_at", "cursor": cursor})
    assert (refused.status_code, refused.json()["code"]) == (400, "cursor.invalid")
    assert (await client.get("/v1/accounts", params={"order_by": "effective_at"})).status_code == 422


@pytest.mark.parametrize("route", READS, ids=operation_id)
async def test_a_resource_that_is_unchanged_is_not_sent_again(furnished: Furnished, route: Route) -> None:
    """By its ETag, weak or strong, or by any; one that shows more than its version is always sent."""
    client, path = furnished.opened.client, furnished.path(route)
    answer = await client.get(path)
    assert answer.status_code == 200, answer.text
    etag = answer.headers["etag"]
    if (
        "lock_version" in answer.json()
        and answer.json()["lock_version"] is not None
        and route.etag
        and not route.derived
    ):
        assert etag == f'"{answer.json()["lock_version"]}"' or route.path.startswith("/v1/business_events")
    for given in (etag, f"W/{etag}", f'"x", {etag}', "*"):
        again = await client.get(path, headers={"if-none-match": given})
        assert again.status_code == (200 if route.derived else 304), given
        assert again.headers["etag"] == etag
    assert (await client.head(path, headers={"if-none-match": etag})).status_code == (200 if route.derived else 304)


async def test_what_has_changed_is_sent(furnished: Furnished) -> None:
    """And refused to whoever changes what it was."""
    client = furnished.opened.client
    path = f"/v1/entities/{furnished.ids['entities'][1]}"
    before = (await client.get(path)).headers["etag"]
    changed = await client.patch(path, json={"name": "Other", "country": "FR"}, headers={"if-match": before})
    assert changed.status_code == 200, changed.text
    again = await client.get(path, headers={"if-none-match": before})
    assert (again.status_code, again.json()["name"]) == (200, "Other")
    refused = await client.patch(path, json={"name": "Third"}, headers={"if-match": before})
    assert refused.status_code == 412
    category, account = furnished.ids["account_categories"][3], furnished.ids["accounts"][3]
    member = f"/v1/account_categories/{category}/accounts/{account}"
    assert (await client.put(member, headers={"if-match": '"7"'})).status_code == 412
    assert (await client.put(member, headers={"if-match": '"1"'})).status_code == 200
    endpoint = f"/v1/webhook_endpoints/{furnished.ids['webhook_endpoints'][3]}"
    version = (await client.get(endpoint)).headers["etag"]
    for verb in ("pause", "resume", "enable", "rotate_secret"):
        assert (await client.post(f"{endpoint}/{verb}", headers={"if-match": '"999"'})).status_code == 412, verb
    assert (await client.post(f"{endpoint}/pause", headers={"if-match": version})).status_code == 200
