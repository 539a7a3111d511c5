"""Reference data over HTTP, as an integrator meets it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx2
import msgspec
import pytest
from starlette.types import ASGIApp

from engine.events import EVENT_TYPES as KNOWN_TYPES
from engine.iso_3166 import COUNTRIES
from engine.iso_4217 import CURRENCIES
from gateway.catalogue import EVENT_TYPES
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


async def every(client: httpx2.AsyncClient, path: str) -> list[Any]:
    """Return all items of a list."""
    found, cursor = [], ""
    while True:
        page = await ask(client, "GET", f"{path}?limit=37{cursor}")
        found += page["data"]
        if not page["has_more"]:
            return found
        cursor = f"&cursor={page['next_cursor']}"


async def test_accounts_in_a_currency_of_ones_own(client: httpx2.AsyncClient) -> None:
    """Refused until it is defined, saying how; then it has its exponent, among the standard's."""
    ledger = await ask(client, "POST", "/v1/ledgers", {"name": "Main"}, 201)
    account = {"ledger_id": ledger["id"], "name": "Points", "type": "liability", "currency": "PTS"}
    refused = await ask(client, "POST", "/v1/accounts", account, 422)
    assert "POST /v1/currencies" in refused["detail"]
    made = await ask(client, "POST", "/v1/currencies", {"code": "PTS", "exponent": 3, "name": "Points"}, 201)
    assert (await ask(client, "POST", "/v1/accounts", account, 201))["currency_exponent"] == 3
    mismatch = await ask(client, "POST", "/v1/accounts", {**account, "currency_exponent": 2}, 422)
    assert mismatch["code"] == "currency_mismatch"
    assert (
        await ask(client, "GET", "/v1/currencies/PTS")
        == await ask(client, "GET", f"/v1/currencies/{made['id']}")
        == made
    )
    renamed = await ask(client, "PATCH", "/v1/currencies/PTS", {"name": "Miles", "metadata": {"a": "b"}})
    assert (renamed["name"], renamed["lock_version"]) == ("Miles", 2)
    assert [
        each["code"] for each in await every(client, "/v1/currencies?source=site&limit=1".partition("?")[0])
    ] == sorted([*CURRENCIES, "PTS"])
    found = (await ask(client, "GET", "/v1/currencies?metadata[a]=b"))["data"]
    assert [each["code"] for each in found] == ["PTS"]
    own = (await ask(client, "GET", "/v1/currencies?source=site"))["data"]
    assert [each["code"] for each in own] == ["PTS"]
    for body in ({"code": "PTS", "exponent": 1, "name": "x"}, {"code": "EUR", "exponent": 2, "name": "x"}):
        assert (await ask(client, "POST", "/v1/currencies", body, 422))["code"] == "validation.not_unique"
    assert (await ask(client, "PATCH", "/v1/currencies/EUR", {"name": "x"}, 422))["code"] == "validation.not_unique"
    assert (await ask(client, "GET", "/v1/currencies/EUR"))["exponent"] == 2
    for nobody in ("XXX", "eur", "E%20", "0" * 70):
        assert (await ask(client, "GET", f"/v1/currencies/{nobody}", status=404))["code"] == "not_found"


async def test_entities_and_what_belongs_to_them(client: httpx2.AsyncClient) -> None:
    """Found by their country and their external id; ledgers, accounts and lines by the entity."""
    body = {"type": "company", "name": "Acme", "legal_name": "Acme GmbH", "country": "DE", "external_id": "acme"}
    acme = await ask(client, "POST", "/v1/entities", body, 201)
    person = await ask(client, "POST", "/v1/entities", {"type": "individual", "name": "Ann"}, 201)
    assert (await ask(client, "POST", "/v1/entities", {**body, "name": "x"}, 422))["code"] == "validation.not_unique"
    wrong = await ask(client, "POST", "/v1/entities", {**body, "external_id": "x", "country": "ZZ"}, 422)
    assert (wrong["errors"][0]["pointer"], "/v1/countries" in wrong["errors"][0]["detail"]) == ("/country", True)
    for query, found in (("country=DE", [acme]), ("external_id=acme", [acme]), ("type=individual", [person])):
        assert (await ask(client, "GET", f"/v1/entities?{query}"))["data"] == found
    ledger = await ask(client, "POST", "/v1/ledgers", {"name": "Main", "entity_id": acme["id"]}, 201)
    account = {"ledger_id": ledger["id"], "name": "Cash", "type": "asset", "currency": "EUR", "code": "1000"}
    cash = await ask(client, "POST", "/v1/accounts", account, 201)
    wallet = await ask(client, "POST", "/v1/accounts", {**account, "code": "2000", "entity_id": person["id"]}, 201)
    taken = await ask(client, "POST", "/v1/accounts", account, 409)
    assert (taken["code"], cash["id"] in taken["detail"]) == ("account.code_taken", True)
    assert (await ask(client, "PATCH", f"/v1/accounts/{wallet['id']}", {"code": "1000"}, 409))[
        "code"
    ] == "account.code_taken"
    lines = [
        {"account_id": cash["id"], "direction": "debit", "amount": 5},
        {"account_id": wallet["id"], "direction": "credit", "amount": 5},
    ]
    await ask(client, "POST", "/v1/entries", {"lines": lines}, 201)
    assert [each["id"] for each in (await ask(client, "GET", f"/v1/ledgers?entity_id={acme['id']}"))["data"]] == [
        ledger["id"]
    ]
    mine = (await ask(client, "GET", f"/v1/accounts?entity_id={acme['id']}"))["data"]
    assert [each["id"] for each in mine] == [cash["id"]]
    [line] = (await ask(client, "GET", f"/v1/lines?entity_id={person['id']}&amount[gte]=5"))["data"]
    assert (line["account_id"], line["ledger_id"], line["entity_id"]) == (wallet["id"], ledger["id"], person["id"])
    assert (await ask(client, "GET", f"/v1/lines?entity_id={person['id']}&amount[gt]=5"))["data"] == []
    for amount in ("-1", "1.5", "x", "9223372036854775808"):
        assert (await client.get(f"/v1/lines?amount[gte]={amount}")).status_code == 422
    freed = await ask(client, "PATCH", f"/v1/accounts/{cash['id']}", {"entity_id": None})
    assert freed["entity_id"] is None
    refused = await ask(client, "PATCH", f"/v1/ledgers/{ledger['id']}", {"entity_id": cash["id"]}, 404)
    assert refused["code"] == "not_found"


async def test_products_countries_and_types_of_events(client: httpx2.AsyncClient) -> None:
    """Whole, in order, each by itself too."""
    product = await ask(client, "POST", "/v1/products", {"code": "card", "name": "Card"}, 201)
    assert (await ask(client, "GET", "/v1/products?code=card"))["data"] == [product]
    assert (await ask(client, "POST", "/v1/products", {"code": "card", "name": "x"}, 422))[
        "code"
    ] == "validation.not_unique"
    assert [each["code"] for each in await every(client, "/v1/countries")] == sorted(COUNTRIES)
    assert (await ask(client, "GET", "/v1/countries/DE"))["code3"] == "DEU"
    assert (await ask(client, "GET", "/v1/countries/de", status=404))["code"] == "not_found"
    types = await every(client, "/v1/event_types")
    assert [each["name"] for each in types] == sorted(EVENT_TYPES)
    assert types[0] == await ask(client, "GET", f"/v1/event_types/{types[0]['name']}")


def test_every_event_that_is_made_has_a_sample_of_its_shape() -> None:
    """Those that are not made yet are not promised."""
    assert KNOWN_TYPES - set(EVENT_TYPES) == {
        each for each in KNOWN_TYPES if each.startswith(("settlement.", "reconciliation."))
    }
    for each in EVENT_TYPES.values():
        sample = msgspec.json.decode(msgspec.json.encode(each.sample))
        assert (sample["type"], sample["resource"]["type"]) == (each.name, each.resource_type)
        assert sample["data"]
