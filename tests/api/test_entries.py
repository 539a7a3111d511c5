"""The life of entries over HTTP: conditions, reversals, parts, batches, dry runs, later posting, holds, exchange."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest

from gledger.parts import Parts, open_parts
from gledger.serve import Gateway
from tests.api.stage import OpenSite, open_client
from tests.api.test_problems import problem


@pytest.fixture
async def wallets(client: httpx2.AsyncClient) -> dict[str, str]:
    """Cash, a wallet that must not be negative with 100 on it, and fees; by name."""
    ledger = (await client.post("/v1/ledgers", json={"name": "Main"})).json()["id"]
    made = {}
    for name, kind, guarded in (("cash", "asset", False), ("wallet", "liability", True), ("fees", "revenue", False)):
        account = {"ledger_id": ledger, "name": name, "type": kind, "currency": "EUR", "allow_negative": not guarded}
        made[name] = (await client.post("/v1/accounts", json=account)).json()["id"]
    made["ledger"] = ledger
    await post(client, "/v1/entries", {"lines": lines(made["cash"], made["wallet"], 100)}, 201)
    return made


def lines(debit: str, credit: str, amount: int | str) -> list[dict[str, Any]]:
    """Return two lines."""
    return [
        {"account_id": debit, "direction": "debit", "amount": amount},
        {"account_id": credit, "direction": "credit", "amount": amount},
    ]


async def post(client: httpx2.AsyncClient, path: str, body: Any = None, status: int = 200, **headers: str) -> Any:
    """Post a body and return the answer's JSON after checking its status."""
    answer = await client.post(path, json=body, headers=headers)
    assert answer.status_code == status, answer.text
    return answer.json()


async def test_condition_names_line_account_balance_and_bound(
    client: httpx2.AsyncClient, wallets: dict[str, str]
) -> None:
    """And holds for amounts written as text."""
    body = {"lines": lines(wallets["wallet"], wallets["cash"], 30)}
    body["lines"][0]["available_balance_amount"] = {"gte": "70", "lt": 71}
    await post(client, "/v1/entries", body, 201)
    refused = await client.post("/v1/entries", json=body)
    found = problem(refused, "condition_failed", "/lines/0/available_balance_amount/gte")
    assert wallets["wallet"] in found["detail"]
    assert "40" in found["detail"]
    for given in ({"gte": 1.5}, {"gte": "9" * 20}, {"above": 1}):
        body["lines"][0]["available_balance_amount"] = given
        assert (await client.post("/v1/entries", json=body)).status_code == 422


async def test_entry_is_reversed_once_and_the_second_is_told_by_whom(
    client: httpx2.AsyncClient, wallets: dict[str, str]
) -> None:
    """With no body at all; a repeated key gets the first answer."""
    entry = await post(client, "/v1/entries", {"lines": lines(wallets["wallet"], wallets["cash"], 30)}, 201)
    path = f"/v1/entries/{entry['id']}/reverse"
    answer = await client.post(path, headers={"idempotency-key": "r1"})
    assert answer.status_code == 201
    assert answer.headers["location"] == f"/v1/entries/{answer.json()['id']}"
    again = await client.post(path, headers={"idempotency-key": "r1"})
    assert (again.status_code, again.content) == (201, answer.content)
    assert again.headers["idempotent-replayed"] == "true"
    assert answer.json()["id"] in problem(await client.post(path), "entry.already_reversed")["detail"]
    versions = (await client.get(f"/v1/entries/{entry['id']}/versions")).json()["data"]
    assert [(each["event_type"], each["entry"]["lock_version"]) for each in versions] == [
        ("entry.reversed", 2),
        ("entry.posted", 1),
    ]
    impact = (await client.get(f"/v1/events/{versions[1]['event_id']}/balance_impact")).json()
    assert {each["account_id"]: each["moved"]["posted"]["amount"] for each in impact["accounts"]} == {
        wallets["wallet"]: -30,
        wallets["cash"]: -30,
    }
    assert (await client.get(f"/v1/events/{versions[0]['event_id']}/balance_impact")).json()["accounts"] == []


async def test_pending_entry_is_changed_and_posted_in_part(client: httpx2.AsyncClient, wallets: dict[str, str]) -> None:
    """The rest stays, the part names where it comes from."""
    body = {"lines": lines(wallets["wallet"], wallets["cash"], 30), "status": "pending", "effective_date": "2026-02-03"}
    entry = await post(client, "/v1/entries", body, 201)
    assert (entry["effective_at"], entry["effective_date"]) == ("2026-02-03T00:00:00.000000Z", "2026-02-03")
    path = f"/v1/entries/{entry['id']}"
    changed = (await client.patch(path, json={"lines": lines(wallets["wallet"], wallets["fees"], 20)})).json()
    some = [{"id": each["id"], "amount": 5} for each in changed["lines"]]
    part = await post(client, f"{path}/partial_post", {"lines": some})
    assert (part["partially_posts"], part["status"]) == (entry["id"], "posted")
    assert [each["amount"] for each in (await client.get(path)).json()["lines"]] == [15, 15]
    problem(await client.post(f"{path}/partial_post", json={"lines": [{"id": some[0]["id"], "amount": 99}]}),
            "entry.part_exceeds", "/lines/0/amount")  # fmt: skip
    both = await client.post("/v1/entries", json={**body, "effective_at": "2026-02-03T00:00:00Z"})
    problem(both, "validation.invalid_value", "/effective_date")


async def test_closed_period_is_refused_until_it_is_opened_again(
    client: httpx2.AsyncClient, wallets: dict[str, str]
) -> None:
    """Also for a dry run."""
    path = f"/v1/ledgers/{wallets['ledger']}"
    assert (await client.patch(path, json={"closed_until": "2026-07-01T00:00:00Z"})).status_code == 200
    entry = {"lines": lines(wallets["wallet"], wallets["cash"], 1), "effective_date": "2026-06-30"}
    for where in ("/v1/entries", "/v1/entries/validate"):
        problem(await client.post(where, json=entry), "ledger.period_closed", "/effective_at")
    assert (await client.patch(path, json={"closed_until": None})).status_code == 200
    await post(client, "/v1/entries", entry, 201)
    problem(await client.patch(path, json={"closed_until": "2999-01-01T00:00:00Z"}),
            "validation.out_of_range", "/closed_until")  # fmt: skip


async def test_dry_run_tells_the_balances_and_leaves_no_trace(
    client: httpx2.AsyncClient, wallets: dict[str, str]
) -> None:
    """Nothing on the feed, nothing in the list, the same refusal as posting."""
    before = (await client.get("/v1/entries")).headers["x-gledger-feed-cursor"]
    tried = await post(client, "/v1/entries/validate", {"lines": lines(wallets["wallet"], wallets["cash"], 30)})
    assert tried["lines"][0]["resulting_balances"]["available"]["amount"] == 70
    too_much = {"lines": lines(wallets["wallet"], wallets["cash"], 101)}
    problem(await client.post("/v1/entries/validate", json=too_much), "insufficient_funds", "/lines/0/amount")
    assert (await client.get("/v1/entries")).headers["x-gledger-feed-cursor"] == before


async def test_independent_batch_answers_each_item(client: httpx2.AsyncClient, wallets: dict[str, str]) -> None:
    """As it would have been answered alone; what refers to an earlier item finds it."""
    body = {
        "mode": "independent",
        "entries": [
            {"local_id": "a", "lines": lines(wallets["wallet"], wallets["cash"], 30)},
            {"lines": lines(wallets["wallet"], wallets["cash"], 100)},
            {"operation": "reverse", "entry_id": "local:a"},
        ],
    }
    answer = await post(client, "/v1/entries/batch", body, 200, **{"idempotency-key": "b1"})
    assert [each["status"] for each in answer["data"]] == ["committed", "refused", "committed"]
    refused = answer["data"][1]["problem"]
    assert (refused["code"], refused["status"]) == ("insufficient_funds", 422)
    assert refused["errors"][0]["pointer"] == "/entries/1/lines/0/amount"
    assert answer["data"][2]["entry"]["reverses"] == answer["data"][0]["entry"]["id"]
    assert await post(client, "/v1/entries/batch", body, 200, **{"idempotency-key": "b1"}) == answer


@pytest.mark.parametrize(
    ("item", "code", "pointer"),
    [
        ({"operation": "post"}, "validation.required_field_missing", "/entries/0/entry_id"),
        ({}, "validation.required_field_missing", "/entries/0/lines"),
        ({"operation": "archive", "entry_id": "local:x", "status": "posted"}, "validation.unknown_field",
         "/entries/0/status"),
        ({"operation": "post", "entry_id": "local:x"}, "validation.invalid_value", "/entries/0/entry_id"),
        ({"operation": "eat"}, "validation.invalid_value", "/entries/0/operation"),
    ],
)  # fmt: skip
async def test_items_that_make_no_sense_are_refused_where_they_stand(
    client: httpx2.AsyncClient, item: dict[str, Any], code: str, pointer: str
) -> None:
    """Before anything is decided, or with the batch."""
    problem(await client.post("/v1/entries/batch", json={"entries": [item]}), code, pointer)


async def test_local_names_are_unique(client: httpx2.AsyncClient, wallets: dict[str, str]) -> None:
    """The later one is named."""
    item = {"local_id": "a", "lines": lines(wallets["wallet"], wallets["cash"], 1)}
    answer = await client.post("/v1/entries/batch", json={"entries": [item, item]})
    problem(answer, "validation.not_unique", "/entries/1/local_id")


async def test_entry_is_accepted_and_posted_later(
    client: httpx2.AsyncClient, site: OpenSite, parts: Parts, wallets: dict[str, str]
) -> None:
    """RFC 7240: 202, Location, Preference-Applied; a repeated key is answered as the first was, whatever it prefers."""
    body = {"lines": lines(wallets["wallet"], wallets["cash"], 30)}
    headers = {"prefer": "wait=5, respond-async", "idempotency-key": "k1"}
    answer = await client.post("/v1/entries", json=body, headers=headers)
    assert (answer.status_code, answer.json()["status"]) == (202, "accepted")
    assert answer.headers["preference-applied"] == "respond-async"
    again = await client.post("/v1/entries", json=body, headers={"idempotency-key": "k1"})
    assert (again.status_code, again.content) == (202, answer.content)
    rejected = {"lines": lines(wallets["wallet"], wallets["cash"], 71)}
    other = await client.post("/v1/entries", json=rejected, headers={"prefer": "respond-async"})
    await parts.engine.tend(site.site)
    assert (await client.get(answer.headers["location"])).json()["status"] == "posted"
    found = (await client.get(other.headers["location"])).json()
    assert (found["status"], found["rejection"]["code"]) == ("rejected", "insufficient_funds")
    types = [each["type"] for each in (await client.get("/v1/events", params={"limit": 100})).json()["data"]]
    assert types[-4:] == ["entry.created", "entry.created", "entry.posted", "entry.rejected"]
    pending = await client.post("/v1/entries", json={**body, "status": "pending"}, headers={"prefer": "respond-async"})
    assert (pending.status_code, pending.json()["status"]) == (201, "pending")


async def test_same_requests_are_answered_with_the_same_bytes_by_another_gateway(
    client: httpx2.AsyncClient, wallets: dict[str, str], parts: Parts
) -> None:
    """Whatever was asked, the problem of an item that was refused included; an endpoint is refused under the key of an entry."""
    move = lines(wallets["cash"], wallets["wallet"], 10)
    poor = {"lines": lines(wallets["wallet"], wallets["fees"], 10_000)}
    later = "2999-01-01T00:00:00Z"
    asked: list[tuple[str, Any, dict[str, str]]] = [
        ("/v1/ledgers", {"name": "\x01 Zürich", "metadata": {"a": "\x7f"}}, {}),
        ("/v1/accounts", {"ledger_id": wallets["ledger"], "name": "A", "type": "asset", "currency": "EUR"}, {}),
        ("/v1/entries", {"lines": move}, {}),
        ("/v1/entries", {"lines": move}, {"prefer": "respond-async"}),
        (
            "/v1/entries/batch",
            {"entries": [{"local_id": "a", "lines": move}, {"operation": "reverse", "entry_id": "local:a"}]},
            {},
        ),
        ("/v1/entries/batch", {"mode": "independent", "entries": [{"lines": move}, poor, {"lines": move}]}, {}),
        ("/v1/holds", {"lines": move, "expires_at": later}, {}),
    ]

    async def ask(by: httpx2.AsyncClient) -> list[tuple[int, bytes]]:
        found = [
            await by.post(path, json=body, headers={**more, "idempotency-key": f"k{number}"})
            for number, (path, body, more) in enumerate(asked)
        ]
        assert {each.status_code // 100 for each in found} == {2}, [each.text for each in found]
        return [(each.status_code, each.content) for each in found]

    first = await ask(client)
    bearer = {"authorization": client.headers["authorization"]}
    async with open_parts(parts.settings) as started, open_client(Gateway(started).app, bearer) as other:
        assert await ask(other) == first
        endpoint = {"url": "https://partner.example/hook", "event_types": ["*"]}
        again = await other.post("/v1/webhook_endpoints", json=endpoint, headers={"idempotency-key": "k2"})
        problem(again, "idempotency.key_reused")


async def test_hold_is_reserved_captured_and_listed(client: httpx2.AsyncClient, wallets: dict[str, str]) -> None:
    """`held` shows in the balance; the second end of a hold is told of the first."""
    body = {"lines": lines(wallets["wallet"], wallets["cash"], 60), "expires_at": "2999-01-01T00:00:00Z"}
    hold = await post(client, "/v1/holds", body, 201)
    balance = (await client.get(f"/v1/accounts/{wallets['wallet']}/balance")).json()
    assert (balance["held"], balance["available"]["amount"]) == (60, 40)
    path = f"/v1/holds/{hold['id']}"
    part = await post(client, f"{path}/capture", {"amount": "25"})
    assert (part["status"], part["lines"][0]["held"]) == ("open", 35)
    problem(await client.post(f"{path}/capture", json={"amount": 36}), "hold.capture_exceeds", "/amount")
    problem(await client.post(f"/v1/entries/{hold['id']}/archive"), "entry.is_hold")
    done = await post(client, f"{path}/capture", {"amount": 5, "final": True})
    assert (done["status"], len(done["captures"])) == ("captured", 2)
    assert "captured" in problem(await client.post(f"{path}/release"), "hold.not_open")["detail"]
    listed = (await client.get("/v1/holds", params={"status": "captured", "account_id": wallets["wallet"]})).json()
    assert [each["id"] for each in listed["data"]] == [hold["id"]]
    both = await client.post(f"{path}/capture", json={"amount": 1, "lines": [{"id": hold["id"], "amount": 1}]})
    problem(both, "validation.invalid_value", "/lines")


async def test_exchange_names_its_rate(client: httpx2.AsyncClient, wallets: dict[str, str]) -> None:
    """Without one, with one that is over, with the wrong amount: each is its own problem."""
    account = {"ledger_id": wallets["ledger"], "name": "Dollars", "type": "liability", "currency": "USD"}
    dollars = (await client.post("/v1/accounts", json=account)).json()["id"]
    entry: dict[str, Any] = {"lines": lines(wallets["wallet"], dollars, 50)}
    entry["lines"][1]["amount"] = 55
    problem(await client.post("/v1/entries", json=entry), "fx_rate_required", "/lines")
    rate = await post(client, "/v1/fx_rates", {"base": "EUR", "quote": "USD", "rate": "1.1", "source": "desk"}, 201)
    posted = await post(client, "/v1/entries", {**entry, "fx_rate_id": rate["id"]}, 201)
    assert [each["currency"] for each in posted["lines"]] == ["EUR", "USD", "EUR", "USD"]
    entry["lines"][1]["amount"] = 56
    problem(await client.post("/v1/entries", json={**entry, "fx_rate_id": rate["id"]}), "fx_amount_mismatch", "/lines")
    old = {"base": "EUR", "quote": "USD", "rate": "1.1", "valid_until": "2020-01-01T00:00:00Z"}
    old_id = (await post(client, "/v1/fx_rates", old, 201))["id"]
    problem(await client.post("/v1/entries", json={**entry, "fx_rate_id": old_id}), "fx_rate_expired", "/fx_rate_id")
    for wrong in ("0", "0.000", "-1", "1e5", "01", ""):
        refused = await client.post("/v1/fx_rates", json={"base": "EUR", "quote": "USD", "rate": wrong})
        problem(refused, "validation.invalid_value", "/rate")
    same = await client.post("/v1/fx_rates", json={"base": "EUR", "quote": "EUR", "rate": "1"})
    problem(same, "validation.invalid_value", "/quote")
