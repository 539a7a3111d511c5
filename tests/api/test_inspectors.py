"""Inspectors over HTTP: they answer as they are told, keep what arrived in order, and are of one sandbox."""

from __future__ import annotations

import httpx2
import pytest

from delivery.inspector_shapes import BODY_KEPT_MAX, KEPT_MAX
from gledger.parts import Parts
from gledger.sites import bootstrap
from tests.api.stage import BASE_URL, OpenSite


async def _make(client: httpx2.AsyncClient, **body: object) -> tuple[str, str]:
    made = await client.post("/v1/inspectors", json=body)
    assert made.status_code == 201, made.text
    return made.json()["id"], made.json()["url"].removeprefix(BASE_URL)


async def test_what_arrives_is_kept_in_order_and_answered_as_told(
    client: httpx2.AsyncClient, anonymous: httpx2.AsyncClient
) -> None:
    """Each request has a number, its headers and its body; the answer is the one that was in force."""
    inspector_id, path = await _make(client)
    assert (await anonymous.post(path, content=b'{"a": 1}', headers={"webhook-id": "m1"})).json() == {"received": 1}
    for status in (500, 410, 429):
        await client.patch(f"/v1/inspectors/{inspector_id}", json={"status": status, "retry_after_s": 7})
        answer = await anonymous.post(path, content=b"\xff\x00")
        assert answer.status_code == status
        assert answer.headers.get("retry-after") == ("7" if status == 429 else None)
    found = (await client.get(f"/v1/inspectors/{inspector_id}/requests")).json()["data"]
    assert [(each["number"], each["answered"]) for each in found] == [(1, 200), (2, 500), (3, 410), (4, 429)]
    assert (found[0]["headers"]["webhook-id"], found[0]["body"]) == ("m1", '{"a": 1}')
    later = await client.get(f"/v1/inspectors/{inspector_id}/requests?after=2&limit=1")
    assert ([each["number"] for each in later.json()["data"]], later.json()["has_more"]) == ([3], True)


async def test_an_inspector_keeps_a_bounded_number_of_bounded_bodies(
    client: httpx2.AsyncClient, anonymous: httpx2.AsyncClient
) -> None:
    """The oldest ones go; a body is kept by its beginning, and says so."""
    inspector_id, path = await _make(client)
    await anonymous.post(path, content=b"x" * (BODY_KEPT_MAX + 1))
    [first] = (await client.get(f"/v1/inspectors/{inspector_id}/requests")).json()["data"]
    assert (len(first["body"]), first["truncated"]) == (BODY_KEPT_MAX, True)
    for _ in range(KEPT_MAX + 1):
        await anonymous.post(path, content=b"{}")
    kept = (await client.get(f"/v1/inspectors/{inspector_id}/requests?limit=1")).json()["data"]
    assert kept[0]["number"] == 3


async def test_an_inspector_is_of_one_sandbox(
    client: httpx2.AsyncClient,
    other_client: httpx2.AsyncClient,
    anonymous: httpx2.AsyncClient,
    site: OpenSite,
    parts: Parts,
) -> None:
    """Another site neither reads nor changes it, its address works under its own organization only, production has none."""
    inspector_id, path = await _make(client)
    for method, where in (("GET", ""), ("PATCH", ""), ("GET", "/requests")):
        body = {"status": 500} if method == "PATCH" else None
        answer = await other_client.request(method, f"/v1/inspectors/{inspector_id}{where}", json=body)
        assert answer.status_code == 404
    token = path.rpartition("/")[2]
    for elsewhere in (
        f"/inspect/nobody/{token}",
        f"/inspect/{site.site.organization}/{'a' * 26}",
        f"/inspect/{site.site.organization}/x",
    ):
        assert (await anonymous.post(elsewhere, content=b"{}")).status_code == 404
    made = await bootstrap(parts, site.site.organization, "production")
    answer = await anonymous.post("/v1/inspectors", json={}, headers={"x-api-key": made.api_key})
    assert answer.status_code == 404


@pytest.mark.parametrize(
    "body", [{"status": 302}, {"delay_ms": -1}, {"delay_ms": 20_001}, {"retry_after_s": 0}, {"x": 1}]
)
async def test_what_an_inspector_cannot_do_is_refused(client: httpx2.AsyncClient, body: dict[str, int]) -> None:
    """It answers 200, 410, 429 or 500, at most twenty seconds late."""
    assert (await client.post("/v1/inspectors", json=body)).status_code == 422


async def test_an_endpoint_may_be_an_inspector_of_this_very_server(client: httpx2.AsyncClient) -> None:
    """The rule that the gateway sends nothing to itself knows this one exception, and no way around it."""
    _, path = await _make(client)
    own = BASE_URL.replace("http://", "https://")
    for url, status in ((f"{own}{path}", 201), (f"{own}/v1/entries", 422), (f"{own}/inspect/../v1/entries", 422)):
        answer = await client.post("/v1/webhook_endpoints", json={"url": url, "event_types": ["*"]})
        assert answer.status_code == status, (url, answer.text)
