"""Replays over HTTP: shapes, refusals, and that a site sees its own only."""

from __future__ import annotations

import httpx2
import pytest

from delivery.relay import Relay
from gledger.parts import Parts
from tests.api.stage import OpenSite, furnish


async def test_a_replay_is_previewed_begun_steered_and_listed(site: OpenSite, parts: Parts) -> None:
    """Each operation answers with the replay as it is then, under its version."""
    known = await furnish(site, parts)
    client = site.client
    chosen = {"delivery_ids": known["deliveries"][:3]}
    preview = await client.post("/v1/replays/preview", json=chosen)
    assert (preview.status_code, preview.json()["total"]) == (200, 3)
    made = await client.post("/v1/replays", json=chosen, headers={"idempotency-key": "r-1"})
    assert made.status_code == 201
    again = await client.post("/v1/replays", json=chosen, headers={"idempotency-key": "r-1"})
    assert (again.json(), again.headers["idempotent-replayed"]) == (made.json(), "true")
    place = made.headers["location"]
    assert place == f"/v1/replays/{made.json()['id']}"
    paused = await client.post(f"{place}/pause", headers={"if-match": made.headers["etag"]})
    assert (paused.json()["status"], paused.headers["etag"]) == ("paused", '"2"')
    stale = await client.post(f"{place}/resume", headers={"if-match": made.headers["etag"]})
    assert stale.status_code == 412
    assert (await client.post(f"{place}/cancel")).json()["status"] == "canceled"
    refused = await client.post(f"{place}/resume")
    assert (refused.status_code, refused.json()["code"]) == (409, "replay.finished")
    assert (await client.get(place)).json()["status"] == "canceled"
    first = await client.get("/v1/replays", params={"limit": 2})
    rest = await client.get("/v1/replays", params={"limit": 100, "cursor": first.json()["next_cursor"]})
    ids = [each["id"] for each in (*first.json()["data"], *rest.json()["data"])]
    assert ids == sorted({made.json()["id"], *known["replays"]}, reverse=True)


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, ""),
        ({"filter": {}}, "/filter"),
        ({"filter": {"until": "soon"}}, "/filter/until"),
        ({"delivery_ids": ["01a1fd0b-eef6-7000-835e-95ab9f5c099d"]}, "/delivery_ids/0"),
        ({"filter": {"event_types": ["no.such"]}}, "/event_types"),
        ({"filter": {"sequence_from": 0}}, "/filter/sequence_from"),
        ({"filter": {"sequence_from": 1}, "rate_per_s": 0}, "/rate_per_s"),
    ],
)
async def test_what_selects_nothing_is_refused_by_name(
    client: httpx2.AsyncClient, body: dict[str, object], pointer: str
) -> None:
    """The problem names the member that is wrong."""
    for path in ("/v1/replays", "/v1/replays/preview"):
        answer = await client.post(path, json=body)
        assert answer.status_code == 422
        assert [each["pointer"] for each in answer.json()["errors"]] == [pointer]


async def test_another_sites_replay_and_endpoint_are_not_there(
    site: OpenSite, parts: Parts, other_client: httpx2.AsyncClient
) -> None:
    """Ids of another site name nothing, in a path or in a body."""
    known = await furnish(site, parts)
    for verb in ("pause", "resume", "cancel"):
        assert (await other_client.post(f"/v1/replays/{known['replays'][0]}/{verb}")).status_code == 404
    assert (await other_client.get(f"/v1/replays/{known['replays'][0]}")).status_code == 404
    body = {"catch_up": {"endpoint_id": known["webhook_endpoints"][0]}}
    assert (await other_client.post("/v1/replays", json=body)).status_code == 404


async def test_deliveries_are_found_by_what_they_are_about(site: OpenSite, parts: Parts) -> None:
    """Each filter of the list reaches the log; an open bound in time leaves its end out."""
    known = await furnish(site, parts)
    client = site.client
    whole = (await client.get("/v1/deliveries", params={"limit": 1000})).json()["data"]

    async def found(**params: str | int) -> set[str]:
        answer = await client.get("/v1/deliveries", params={"limit": 1000, **params})
        assert answer.status_code == 200, answer.text
        return {each["id"] for each in answer.json()["data"]}

    one = whole[0]
    same = {each["id"] for each in whole if each["event_id"] == one["event_id"]}
    assert await found(event_id=one["event_id"]) == same
    assert await found(sequence_from=one["sequence"], sequence_to=one["sequence"]) == same
    assert await found(**{"created_at[gt]": max(each["created_at"] for each in whole)}) == set()
    assert await found(**{"created_at[gte]": min(each["created_at"] for each in whole)}) == await found()
    assert await found(last_response="5xx") == await found(last_error="timeout") == set()
    ledger = {"name": "Found"}
    await client.post("/v1/ledgers", json=ledger, headers={"correlation-id": "order-7"})
    await Relay(parts.databases, clock=parts.clock, ids=parts.ids).run(site.site)
    assert len(await found(correlation_id="order-7")) == len(known["webhook_endpoints"])
    assert await found(correlation_id="order-8") == set()
