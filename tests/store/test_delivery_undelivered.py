"""What is not delivered, and why: one list, on SQLite and on PostgreSQL, found by an index."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from sqlalchemy import Connection, text

from delivery.log import DeliveryFilter
from engine.databases import Database
from tests.fakes.receiver import SERVER_ERROR, Receiver
from tests.store.delivery_stage import SITE, Stage, make_stage

UNDELIVERED = DeliveryFilter(status="undelivered")


@pytest.fixture
async def stage(site_database: Database) -> AsyncIterator[Stage]:
    """A site with an empty feed."""
    made = await make_stage(site_database)
    yield made
    await made.close()


async def test_everything_that_is_not_delivered_says_why(stage: Stage, receiver: Receiver) -> None:
    """Paused, resting, waiting for its turn, failed, given up, skipped: each with its reason, and nothing that was delivered."""
    for path in ("/failing", "/ordered", "/resting", "/over"):
        receiver.script(path, SERVER_ERROR)
    made = {
        "paused": await stage.endpoint(receiver.url("/paused")),
        "failing": await stage.endpoint(receiver.url("/failing")),
        "ordered": await stage.endpoint(receiver.url("/ordered"), ordering="ordered"),
        "over": await stage.endpoint(receiver.url("/over"), retry_schedule=[0]),
        "fine": await stage.endpoint(receiver.url("/fine")),
    }
    await stage.endpoints.pause(SITE, made["paused"].id)
    await stage.commit("entry.posted", "entry.posted")
    await stage.deliver()
    skipped = (await stage.rows(made["failing"].id))[1]
    await stage.skip.skip_one(SITE, skipped.id)
    found = (await stage.log.deliveries(SITE, UNDELIVERED, limit=100)).data
    names = {endpoint.id: name for name, endpoint in made.items()}
    reasons = sorted((names[row.endpoint_id], row.endpoint_sequence, row.status, row.reason) for row in found)
    assert reasons == [
        ("failing", 1, "retrying", "http_5xx"),
        ("failing", 2, "skipped", "by_request"),
        ("ordered", 1, "retrying", "http_5xx"),
        ("ordered", 2, "pending", "waits_for_order"),
        ("over", 1, "exhausted", "http_5xx"),
        ("over", 2, "exhausted", "http_5xx"),
        ("paused", 1, "pending", "endpoint_paused"),
        ("paused", 2, "pending", "endpoint_paused"),
    ]
    first = await stage.log.deliveries(SITE, UNDELIVERED, limit=5)
    rest = await stage.log.deliveries(SITE, UNDELIVERED, limit=5, before=first.data[-1].id)
    assert [row.id for row in (*first.data, *rest.data)] == sorted((row.id for row in found), reverse=True)
    at_one = DeliveryFilter(status="undelivered", endpoint_id=made["over"].id)
    assert {row.reason for row in (await stage.log.deliveries(SITE, at_one, limit=5)).data} == {"http_5xx"}


async def test_open_circuit_is_a_reason(stage: Stage, receiver: Receiver) -> None:
    """What waits for an endpoint that is left alone says so."""
    receiver.script("/hook", SERVER_ERROR)
    await stage.endpoint(receiver.url("/hook"))
    await stage.commit(*["entry.posted"] * 8)
    await stage.deliver()
    found = (await stage.log.deliveries(SITE, UNDELIVERED, limit=100)).data
    assert {row.reason for row in found} == {"circuit_open"}


async def test_list_is_found_by_its_index(stage: Stage) -> None:
    """However many deliveries there are that arrived."""
    explain = {"sqlite": "EXPLAIN QUERY PLAN", "postgresql": "EXPLAIN"}[stage.database.dialect]

    def plan(conn: Connection) -> str:
        query = (
            "SELECT id FROM deliveries WHERE site_id = 7 AND deliveries.state IN ('pending', 'retrying', 'exhausted', 'skipped') "
            "ORDER BY id DESC LIMIT 10"
        )
        return " ".join(str(tuple(row)) for row in conn.execute(text(f"{explain} {query}")))

    assert "ix_deliveries_undelivered" in await stage.database.read(plan, site_id=SITE.id)
