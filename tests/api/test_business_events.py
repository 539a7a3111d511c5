"""Business events over HTTP: what is sent, what comes back, and what is wrong with it, in the words it was sent in."""

from __future__ import annotations

import json
from typing import Any

import httpx2
import pytest

NAMED = {"field": "event.name", "operator": "equals", "value": "Sale"}


async def made(client: httpx2.AsyncClient, path: str, body: dict[str, Any]) -> dict[str, Any]:
    """Make something and return it."""
    answer = await client.post(path, json=body)
    assert answer.status_code == 201, answer.text
    assert answer.headers["location"] == f"{path}/{answer.json()['id']}"
    return dict(answer.json())


@pytest.fixture
async def handler(client: httpx2.AsyncClient) -> dict[str, Any]:
    """What defines a handler that moves an amount between two accounts that there are."""
    ledger = await made(client, "/v1/ledgers", {"name": "Main"})
    lines = []
    for direction in ("debit", "credit"):
        account = {"ledger_id": ledger["id"], "name": direction, "type": "asset", "currency": "USD"}
        opened = await made(client, "/v1/accounts", account)
        lines.append({"account_id": opened["id"], "direction": direction, "amount": "{{ event.amount }}"})
    return {"name": "Sales", "conditions": NAMED, "entries": [{"lines": lines}]}


async def test_a_handler_lives_through_its_versions(client: httpx2.AsyncClient, handler: dict[str, Any]) -> None:
    """Made, changed under If-Match, archived, activated; each version can be read."""
    first = await made(client, "/v1/event_handlers", handler)
    path = f"/v1/event_handlers/{first['id']}"
    assert (await client.patch(path, json={"name": "x"}, headers={"if-match": '"7"'})).status_code == 412
    changed = await client.patch(path, json={"rounding": "up", "description": "d"}, headers={"if-match": '"1"'})
    assert (changed.status_code, changed.headers["etag"], changed.json()["rounding"]) == (200, '"2"', "up")
    for verb, status in (("archive", "archived"), ("activate", "active")):
        assert (await client.post(f"{path}/{verb}")).json()["status"] == status
    shown = await client.get(path)
    assert shown.headers["etag"] == '"4"'
    versions = await client.get(f"{path}/versions", params={"limit": 3})
    assert [each["lock_version"] for each in versions.json()["data"]] == [4, 3, 2]
    assert versions.json()["data"][0] == shown.json()
    rest = await client.get(f"{path}/versions", params={"cursor": versions.json()["next_cursor"]})
    assert rest.json()["data"] == [first]
    listed = await client.get("/v1/event_handlers", params={"status": "active", "name": "Sales"})
    assert listed.json()["data"] == [shown.json()]


async def test_an_event_is_posted_once_for_its_key(client: httpx2.AsyncClient, handler: dict[str, Any]) -> None:
    """In the header or in the body."""
    await made(client, "/v1/event_handlers", handler)
    event = {"name": "Sale", "custom_data": {"amount": "12"}, "effective_date": "2026-01-02"}
    answers = [await client.post("/v1/business_events", json=event, headers={"idempotency-key": "k"}) for _ in range(2)]
    assert answers[0].content == answers[1].content
    assert [each.headers.get("idempotent-replayed") for each in answers] == [None, "true"]
    in_body = [await client.post("/v1/business_events", json={**event, "idempotency_key": "b"}) for _ in range(2)]
    assert in_body[0].json()["id"] == in_body[1].json()["id"] != answers[0].json()["id"]
    posted = answers[0].json()
    assert posted["effective_at"] == posted["entries"][0]["effective_at"] == "2026-01-02T00:00:00.000000Z"
    shown = await client.get(f"/v1/business_events/{posted['id']}")
    assert shown.json() == posted
    listed = await client.get("/v1/business_events", params={"name": "Sale", "limit": 1})
    assert (listed.json()["data"][0]["id"], listed.json()["has_more"]) == (in_body[0].json()["id"], True)


async def test_an_event_is_on_the_feed_before_its_entries(client: httpx2.AsyncClient, handler: dict[str, Any]) -> None:
    """With the place it can be read at."""
    await made(client, "/v1/event_handlers", handler)
    posted = await made(client, "/v1/business_events", {"name": "Sale", "custom_data": {"amount": 5}})
    *_, handled, happened, entered = (await client.get("/v1/events")).json()["data"]
    assert [each["type"] for each in (handled, happened, entered)] == [
        "event_handler.created",
        "business_event.created",
        "entry.posted",
    ]
    assert happened["data"] == posted
    assert happened["resource"]["href"] == f"/v1/business_events/{posted['id']}"
    assert (await client.get(happened["resource"]["href"])).json() == posted


async def test_what_an_event_did_to_balances_is_told(client: httpx2.AsyncClient, handler: dict[str, Any]) -> None:
    """All of its entries together, each account once, as they stand: a pending one does what it does when it is posted."""
    first, second = handler["entries"][0]["lines"]
    back = {
        "status": "pending",
        "lines": [{**first, "direction": "credit", "amount": 3}, {**second, "direction": "debit", "amount": 3}],
    }
    await made(client, "/v1/event_handlers", {**handler, "entries": [*handler["entries"], back]})
    await made(client, "/v1/business_events", {"name": "Sale", "custom_data": {"amount": 100}})
    posted = await made(client, "/v1/business_events", {"name": "Sale", "custom_data": {"amount": 10}})

    async def moved() -> list[list[int]]:
        answer = await client.get(f"/v1/business_events/{posted['id']}/balance_impact")
        assert (answer.status_code, answer.json()["business_event_id"]) == (200, posted["id"])
        assert "x-gledger-feed-cursor" in answer.headers
        return [[each["moved"][name]["amount"] for name in ("posted", "pending")] for each in answer.json()["accounts"]]

    assert await moved() == [[10, 7], [-10, -7]]
    answer = await client.post(f"/v1/entries/{posted['entries'][1]['id']}/post")
    assert answer.status_code == 200, answer.text
    assert await moved() == [[7, 7], [-7, -7]]
    nobody = await client.get("/v1/business_events/01a1fcea-c843-7000-8084-afb8be9e573c/balance_impact")
    assert (nobody.status_code, nobody.json()["code"]) == (404, "not_found")


async def test_a_trial_of_a_handler_and_a_sample(client: httpx2.AsyncClient, handler: dict[str, Any]) -> None:
    """What it would be and what it would make; nothing is there afterwards."""
    sample = {"name": "Sale", "custom_data": {"amount": 5}}
    trial = await client.post("/v1/event_handlers/validate", json={"event_handler": handler, "business_event": sample})
    assert trial.status_code == 200, trial.text
    assert trial.json()["event_handler"]["name"] == "Sales"
    assert [each["amount"] for each in trial.json()["business_event"]["entries"][0]["lines"]] == [5, 5]
    for path in ("/v1/event_handlers", "/v1/business_events", "/v1/entries"):
        assert (await client.get(path)).json()["data"] == []
    refused = await client.post("/v1/business_events/validate", json=sample)
    assert (refused.status_code, refused.json()["code"]) == (422, "handler.none_matches")


async def test_everything_that_is_wrong_with_a_handler_is_told(
    client: httpx2.AsyncClient, handler: dict[str, Any]
) -> None:
    """Each at its place, and in the words it was sent in."""
    line = {"account_id": "{{ who.id }}", "direction": "up", "amount": "{{ event.amount + }}"}
    wrong = {**handler, "conditions": {**NAMED, "operator": "gt"}, "entries": [{"lines": [line, line]}]}
    answer = await client.post("/v1/event_handlers", json=wrong)
    assert (answer.status_code, answer.json()["code"]) == (422, "validation.invalid_template")
    places = [
        f"/entries/0/lines/{index}/{part}" for index in range(2) for part in ("account_id", "direction", "amount")
    ]
    assert [each["pointer"] for each in answer.json()["errors"]] == ["/conditions/value", *places]

    theirs = {name: value for name, value in handler.items() if name != "entries"}
    bad = {"ledger_account_id": "{{ who.id }}", "direction": "debit", "amount": "1"}
    template = {"ledger_entries": [bad, bad]}
    answer = await client.post("/v1/event_handlers", json={**theirs, "ledger_transaction_template": template})
    assert [each["pointer"] for each in answer.json()["errors"]] == [
        f"/ledger_transaction_template/ledger_entries/{index}/ledger_account_id" for index in range(2)
    ]
    unknown = {**theirs, "ledger_transaction_template": {**template, "surprise": 1}}
    answer = await client.post("/v1/event_handlers", json=unknown)
    assert [(each["code"], each["pointer"]) for each in answer.json()["errors"]] == [
        ("validation.unknown_field", "/ledger_transaction_template/surprise"),
    ]


@pytest.mark.parametrize(
    ("custom_data", "status"),
    [
        ({"amount": 1, "x": "y" * 65_000}, 201),
        ({"amount": 1, "x": "y" * 65_536}, 422),
        ({"amount": 1, "x": [[[[[[[[[[[[[[{}]]]]]]]]]]]]]]}, 201),
        ({"amount": 1, "x": [[[[[[[[[[[[[[[{}]]]]]]]]]]]]]]]}, 422),
    ],
)
async def test_custom_data_is_bounded(
    client: httpx2.AsyncClient, handler: dict[str, Any], custom_data: dict[str, Any], status: int
) -> None:
    """In bytes and in depth."""
    await made(client, "/v1/event_handlers", handler)
    answer = await client.post("/v1/business_events", json={"name": "Sale", "custom_data": custom_data})
    assert answer.status_code == status, answer.text
    if status == 422:
        assert [(each["code"], each["pointer"]) for each in answer.json()["errors"]] == [
            ("validation.out_of_range", "/custom_data"),
        ]


@pytest.mark.parametrize("depth", [8, 9, 300, 900, 5000])
async def test_conditions_are_bounded_however_deep_they_are(
    client: httpx2.AsyncClient, handler: dict[str, Any], depth: int
) -> None:
    """Too deep is refused, never too much for whoever reads it."""
    conditions = '{"not":' * (depth - 1) + json.dumps(NAMED) + "}" * (depth - 1)
    body = json.dumps({**handler, "conditions": "HERE"}).replace('"HERE"', conditions)
    answer = await client.post("/v1/event_handlers", content=body, headers={"content-type": "application/json"})
    assert (answer.status_code == 201) is (depth <= 8), answer.text
    assert answer.status_code in {201, 400, 422}
    if answer.status_code == 201:
        path = f"/v1/event_handlers/{answer.json()['id']}"
        deeper = f'{{"conditions":{{"not":{conditions}}}}}'
        changed = await client.patch(path, content=deeper, headers={"content-type": "application/json"})
        assert [each["pointer"] for each in changed.json()["errors"]] == ["/conditions"]


async def test_numbers_come_back_as_they_were_sent(client: httpx2.AsyncClient, handler: dict[str, Any]) -> None:
    """Also those that a database would write in ways of its own."""
    await made(client, "/v1/event_handlers", handler)
    body = b'{"name":"Sale","custom_data":{"amount":1,"a":1e22,"b":0.1,"c":18446744073709551615,"d":-1.5e-7}}'
    answer = await client.post("/v1/business_events", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 201, answer.text
    data = {"amount": 1, "a": 1e22, "b": 0.1, "c": 18446744073709551615, "d": -1.5e-7}
    shown = await client.get(f"/v1/business_events/{answer.json()['id']}")
    assert answer.json()["custom_data"] == shown.json()["custom_data"] == data
