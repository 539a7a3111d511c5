"""Limits, categories and monitors over HTTP: as an integrator meets them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
from starlette.types import ASGIApp

from gledger.parts import Parts
from tests.api.stage import open_site


@pytest.fixture
async def client(parts: Parts, app: ASGIApp) -> AsyncIterator[httpx2.AsyncClient]:
    """A client of a fresh site."""
    async with open_site(parts, app) as opened:
        yield opened.client


async def ask(client: httpx2.AsyncClient, method: str, path: str, body: Any = None, status: int = 200) -> Any:
    """Return the answer to a request, which must have this status."""
    answer = await client.request(method, path, json=body)
    assert answer.status_code == status, answer.text
    return answer.json()


async def account(client: httpx2.AsyncClient, kind: str, **options: Any) -> str:
    """Open an account in the site's ledger."""
    ledgers = (await ask(client, "GET", "/v1/ledgers"))["data"]
    ledger = ledgers[0] if ledgers else await ask(client, "POST", "/v1/ledgers", {"name": "Main"}, 201)
    body = {"ledger_id": ledger["id"], "name": kind, "type": kind, "currency": "USD", **options}
    return str((await ask(client, "POST", "/v1/accounts", body, 201))["id"])


def transfer(debit: str, credit: str, amount: int) -> dict[str, Any]:
    """Return the body of an entry."""
    return {
        "lines": [
            {"account_id": debit, "direction": "debit", "amount": amount},
            {"account_id": credit, "direction": "credit", "amount": amount},
        ]
    }


async def test_a_limit_is_set_shown_kept_and_changed(client: httpx2.AsyncClient) -> None:
    """The refusal names the line, the account, the balance and the limit."""
    cash = await account(client, "asset")
    wallet = await account(client, "liability", limits=[{"balance": "posted", "at_most": "100"}])
    refused = await ask(client, "POST", "/v1/entries", transfer(cash, wallet, 101), 422)
    assert (refused["code"], refused["errors"][0]["pointer"]) == ("condition_failed", "/lines/1/amount")
    for word in (wallet, "posted", "101", "at most 100"):
        assert word in refused["detail"]
    limits = [{"balance": "posted", "at_most": 101, "at_least": None}]
    changed = await ask(client, "PATCH", f"/v1/accounts/{wallet}", {"limits": limits})
    assert changed["limits"] == limits
    await ask(client, "POST", "/v1/entries", transfer(cash, wallet, 101), 201)
    refused = await ask(client, "PATCH", f"/v1/accounts/{wallet}", {"limits": [{"balance": "posted"}]}, 422)
    assert refused["errors"][0]["pointer"] == "/limits/0"


async def test_categories_in_categories(client: httpx2.AsyncClient) -> None:
    """Filled, linked, listed, asked for; a circle is refused; taking out is as easy as putting in."""
    cash, one, two = [await account(client, kind) for kind in ("asset", "liability", "liability")]
    body = {"currency": "USD", "normal_balance": "credit"}
    top, low = [
        (await ask(client, "POST", "/v1/account_categories", {"name": name, **body}, 201))["id"]
        for name in ("All", "Wallets")
    ]
    for member in (one, two):
        added = await ask(client, "PUT", f"/v1/account_categories/{low}/accounts/{member}")
        assert (added["member_id"], added["is_member"]) == (member, True)
    await ask(client, "PUT", f"/v1/account_categories/{top}/account_categories/{low}")
    entry = await ask(client, "POST", "/v1/entries", transfer(cash, two, 7), 201)
    found = await ask(client, "GET", f"/v1/account_categories/{top}")
    assert found["balances"]["posted"] == {"debits": 0, "credits": 7, "amount": 7}
    assert (await ask(client, "GET", f"/v1/account_categories/{top}/balance?as_of=2000-01-01T00:00:00Z"))["posted"][
        "amount"
    ] == 0
    circle = await ask(client, "PUT", f"/v1/account_categories/{low}/account_categories/{top}", None, 422)
    assert circle["code"] == "account_category.cycle"
    for path, ids in (
        (f"/v1/account_categories/{low}/accounts", [two, one]),
        (f"/v1/account_categories/{top}/accounts", []),
        (f"/v1/account_categories/{top}/account_categories", [low]),
        (f"/v1/account_categories?account_id={one}", [low]),
        (f"/v1/account_categories?parent_account_category_id={top}", [low]),
        (f"/v1/accounts?account_category_id={top}", [two, one]),
        (f"/v1/entries?account_category_id={top}", [entry["id"]]),
    ):
        assert [each["id"] for each in (await ask(client, "GET", path))["data"]] == ids, path
    gone = await ask(client, "DELETE", f"/v1/account_categories/{low}/accounts/{two}")
    assert (gone["is_member"], gone["balances"]["posted"]["amount"]) == (False, 0)
    await ask(client, "DELETE", f"/v1/account_categories/{top}/account_categories/{low}")
    assert (await ask(client, "GET", f"/v1/account_categories/{top}/account_categories"))["data"] == []


async def test_a_monitor_and_its_edges_in_the_feed(client: httpx2.AsyncClient) -> None:
    """The event carries the monitor with its new state; archived, it stays to be read."""
    cash, wallet = await account(client, "asset"), await account(client, "liability")
    condition = {"field": "available", "operator": "lt", "value": 10}
    made = await ask(client, "POST", "/v1/balance_monitors", {"account_id": wallet, "condition": condition}, 201)
    assert (made["triggered"], made["observed"], made["condition"]) == (True, 0, condition)
    await ask(client, "POST", "/v1/entries", transfer(cash, wallet, 10), 201)
    told = (await ask(client, "GET", "/v1/events?types=balance.*"))["data"]
    assert [(each["type"], each["resource"]["href"]) for each in told] == [
        ("balance.threshold_recovered", f"/v1/balance_monitors/{made['id']}")
    ]
    assert told[0]["data"] == await ask(client, "GET", f"/v1/balance_monitors/{made['id']}")
    assert [x["id"] for x in (await ask(client, "GET", "/v1/balance_monitors?triggered=false"))["data"]] == [made["id"]]
    assert (await ask(client, "GET", f"/v1/balance_monitors?account_category_id={made['id']}"))["data"] == []
    archived = await ask(client, "DELETE", f"/v1/balance_monitors/{made['id']}")
    assert archived["status"] == "archived"
    refused = await ask(client, "PATCH", f"/v1/balance_monitors/{made['id']}", {"description": "x"}, 409)
    assert refused["code"] == "balance_monitor.archived"


@pytest.mark.parametrize("names", [(), ("account_id", "account_category_id")])
async def test_a_monitor_watches_exactly_one_thing(client: httpx2.AsyncClient, names: tuple[str, ...]) -> None:
    """Neither and both are refused before anything is asked of the books."""
    body = {"condition": {"field": "posted", "operator": "gt", "value": 0}}
    wallet = await account(client, "liability")
    refused = await ask(client, "POST", "/v1/balance_monitors", {**body, **dict.fromkeys(names, wallet)}, 422)
    assert refused["code"] == ("validation.invalid_value" if names else "validation.required_field_missing")
