"""Questions about time over HTTP: what they take, what they refuse, the headers and pages that every list has."""

from __future__ import annotations

from typing import Any, Final

import httpx2
import pytest

from tests.api.test_problems import problem

JANUARY: Final = {"from": "2026-01-01T00:00:00Z", "to": "2026-02-01T00:00:00Z"}


@pytest.fixture
async def cash(client: httpx2.AsyncClient) -> str:
    """An account with 100 on the 5th, 20 on the 10th of January, and 3 that are reserved for the 12th."""
    ledger = (await client.post("/v1/ledgers", json={"name": "Main"})).json()
    account = {"ledger_id": ledger["id"], "name": "Cash", "type": "asset", "currency": "EUR"}
    cash, other = [
        (await client.post("/v1/accounts", json={**account, "code": code})).json()["id"] for code in ("1000", "2000")
    ]
    for amount, day, status in ((100, "05", "posted"), (20, "10", "posted"), (3, "12", "pending")):
        lines = [
            {"account_id": cash, "direction": "debit", "amount": amount},
            {"account_id": other, "direction": "credit", "amount": amount},
        ]
        entry = {"lines": lines, "effective_at": f"2026-01-{day}T12:00:00Z", "status": status, "description": day}
        assert (await client.post("/v1/entries", json=entry)).status_code == 201
    return str(cash)


async def get(client: httpx2.AsyncClient, path: str, **query: str) -> Any:
    """Return what an operation answers."""
    answer = await client.get(path, params=query)
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-gledger-feed-cursor"].startswith("v1.")
    return answer.json()


async def test_balance_is_asked_for_at_a_moment(client: httpx2.AsyncClient, cash: str) -> None:
    """By effective time, inclusive; by version; by recording time; the ETag is the version that was looked at."""
    path = f"/v1/accounts/{cash}/balance"
    for query, amount in (
        ({"as_of": "2026-01-05T11:59:59.999999Z"}, 0),
        ({"as_of": "2026-01-05T13:00:00+01:00"}, 100),
        ({"as_of": "2026-12-31T00:00:00Z"}, 120),
        ({"as_of_lock_version": "2"}, 100),
        ({"as_of_lock_version": "1"}, 0),
        ({"known_at": "2026-01-31T00:00:00Z"}, 0),
        ({"as_of": "2026-01-10T12:00:00Z", "as_of_lock_version": "2"}, 100),
    ):
        assert (await get(client, path, **query))["posted"]["amount"] == amount, query
    present = await client.get(path)
    assert present.headers["etag"] == '"4"'
    assert present.json()["pending"]["amount"] == 123
    assert (await client.get(path, params={"as_of_lock_version": "2"})).headers["etag"] == '"2"'


async def test_moment_that_makes_no_sense_is_refused(client: httpx2.AsyncClient, cash: str) -> None:
    """A version of the future, two ways of telling what was known, a time that is none."""
    path = f"/v1/accounts/{cash}/balance"
    now = "2026-01-01T00:00:00Z"
    problem(
        await client.get(path, params={"as_of_lock_version": "5"}), "validation.out_of_range", "?as_of_lock_version"
    )
    both = {"as_of_lock_version": "2", "known_at": now}
    problem(await client.get(path, params=both), "validation.invalid_value", "?known_at")
    problem(await client.get(path, params={"as_of": "yesterday"}), "validation.invalid_time", "?as_of")
    problem(
        await client.get(f"/v1/accounts/{cash}/statement", params={"from": now, "to": now}),
        "validation.out_of_range",
        "?to",
    )
    problem(
        await client.get(f"/v1/accounts/{cash}/balance_history"),
        "validation.required_field_missing",
        "?interval",
        "?from",
        "?to",
    )


async def test_statement_opens_shows_and_closes(client: httpx2.AsyncClient, cash: str) -> None:
    """Page by page, with a link to the next one."""
    path = f"/v1/accounts/{cash}/statement"
    query = {"from": "2026-01-06T00:00:00Z", "to": "2026-01-20T00:00:00Z", "limit": "1"}
    answer = await client.get(path, params=query)
    first = answer.json()
    assert (first["opening_balances"]["posted"]["amount"], first["closing_balances"]["pending"]["amount"]) == (100, 123)
    assert [(each["amount"], each["description"]) for each in first["data"]] == [(20, "10")]
    assert answer.links["next"]["url"].startswith(f"{path}?from=")
    second = (await client.get(answer.links["next"]["url"])).json()
    assert [(each["status"], each["balances"]["pending"]["amount"]) for each in second["data"]] == [("pending", 123)]
    assert (second["has_more"], second["next_cursor"], second["lock_version"]) == (False, None, first["lock_version"])
    for cursor in ("p1.5", "s1.1.2", "s1.a.b.c.d.e.f.g", "t1.x"):
        problem(await client.get(path, params={**query, "cursor": cursor}), "cursor.invalid")


async def test_series_tells_the_balance_of_every_day(client: httpx2.AsyncClient, cash: str) -> None:
    """Whole days; a day on which nothing happened has the balance of the day before."""
    path = f"/v1/accounts/{cash}/balance_history"
    days = await get(client, path, interval="day", **JANUARY, limit="10")
    assert [each["posted"]["amount"] for each in days["data"]] == [0] * 4 + [100] * 5 + [120]
    assert (days["data"][0]["from"], days["data"][0]["to"]) == (
        "2026-01-01T00:00:00.000000Z",
        "2026-01-02T00:00:00.000000Z",
    )
    rest = await get(client, path, interval="day", **JANUARY, cursor=days["next_cursor"])
    assert [each["from"][8:10] for each in rest["data"]] == [f"{day:02}" for day in range(11, 32)]
    [month] = (await get(client, path, interval="month", **JANUARY))["data"]
    assert month["available"] == {"debits": 120, "credits": 0, "amount": 120}


async def test_trial_balance_agrees(client: httpx2.AsyncClient, cash: str) -> None:
    """Both sides, at the end of its pages."""
    ledger = (await get(client, f"/v1/accounts/{cash}"))["ledger_id"]
    path = f"/v1/ledgers/{ledger}/trial_balance"
    whole = await get(client, path, as_of="2026-01-05T12:00:00Z")
    assert [(each["debit_balance"], each["credit_balance"]) for each in whole["data"]] == [(100, 0), (0, 100)]
    [total] = whole["sums"]
    assert (total["debits"], total["credits"], total["currency"]) == (100, 100, "EUR")
    first = await get(client, path, limit="1")
    second = await get(client, path, limit="1", cursor=first["next_cursor"])
    assert [(each["debits"], each["credits"]) for each in (first["sums"][0], second["sums"][0])] == [
        (120, 0),
        (120, 120),
    ]
    assert first["known_at"] == second["known_at"]
    for cursor in ("t1.x", "p1.5", f"t1.{cash}", f"t1.{cash}.5.EUR-2-1", f"t1.{cash}.5.eur-2-1-1-1-1"):
        problem(await client.get(path, params={"cursor": cursor}), "cursor.invalid")
