"""The delivery log, on SQLite and on PostgreSQL: what it finds, how, what it says of an attempt, what it forgets."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import asyncpg
import pytest
from msgspec import structs
from sqlalchemy import Connection, event
from sqlalchemy.engine import make_url

from delivery.log import DeliveryFilter
from delivery.rows import DeliveryRow
from delivery.schema import LANE_AGAIN
from delivery.shapes import Delivery
from delivery.store.deliveries import adding, page_deliveries
from delivery.store.filters import Wanted
from engine.databases import Database
from engine.money import format_instant
from engine.schema import events
from engine.sql import insert_rows, write
from tests.databases import PostgresDatabase
from tests.fakes.receiver import DROPPED, OK, SERVER_ERROR, Receiver, Reply
from tests.store.delivery_stage import SITE, Stage, make_stage


@pytest.fixture
async def stage(site_database: Database) -> AsyncIterator[Stage]:
    """A site with an empty feed."""
    made = await make_stage(site_database)
    yield made
    await made.close()


async def _found(stage: Stage, **wanted: Any) -> list[int]:
    """Return the sequences of what is found, over pages of two."""
    found: list[Delivery] = []
    while True:
        before = found[-1].id if found else None
        page = await stage.log.deliveries(SITE, DeliveryFilter(**wanted), limit=2, before=before)
        found += page.data
        if not page.has_more:
            return [row.sequence for row in found]


async def test_each_filter_finds_what_matches_newest_first(stage: Stage, receiver: Receiver) -> None:
    """By event, cause, time, place in the feed and the last answer, alone and together, page by page."""
    receiver.script("/hook", OK, SERVER_ERROR, DROPPED, DROPPED, Reply(status=404), OK)
    endpoint = await stage.endpoint(receiver.url("/hook"), max_in_flight=1)
    began = stage.clock.now_us()
    first = await stage.commit("entry.posted", "entry.posted", "account.created")
    await stage.deliver()
    stage.clock.advance(seconds=1)
    await stage.commit("entry.posted", "entry.posted")
    await stage.deliver()
    later = stage.clock.now_us()
    assert await _found(stage) == [5, 4, 3, 2, 1]
    assert await _found(stage, endpoint_id=endpoint.id) == [5, 4, 3, 2, 1]
    assert await _found(stage, event_id=first[1]) == [2]
    assert await _found(stage, event_type="entry.posted") == [5, 4, 2, 1]
    assert await _found(stage, event_type="entry.posted", endpoint_id=endpoint.id) == [5, 4, 2, 1]
    assert await _found(stage, event_type="hold.created") == []
    assert await _found(stage, created_from=later) == [5, 4]
    assert await _found(stage, created_to=later - 1) == [3, 2, 1]
    assert await _found(stage, created_from=began, created_to=began, sequence_from=2) == [3, 2]
    assert await _found(stage, sequence_from=2, sequence_to=3) == [3, 2]
    assert await _found(stage, last_response="2xx") == [5, 1]
    assert await _found(stage, last_response="5xx") == [2]
    assert await _found(stage, last_response="4xx") == [4]
    assert await _found(stage, last_response="none") == [3]
    assert await _found(stage, last_error="connection_lost") == [3]
    assert await _found(stage, last_error="connection_lost", last_response="5xx") == []
    assert await _found(stage, status="retrying", event_type="entry.posted") == [4, 2]
    assert await _found(stage, status="pending") == []
    (row,) = (await stage.log.deliveries(SITE, DeliveryFilter(event_id=first[1]), limit=1)).data
    assert (row.last_status, row.last_error) == (500, "http_5xx")


async def test_what_one_request_led_to_is_found_by_its_correlation_id(stage: Stage, receiver: Receiver) -> None:
    """The id that the request carried finds every delivery of every event it led to."""
    await stage.endpoint(receiver.url("/hook"))
    await stage.commit("entry.posted", correlation_id="order-7")
    await stage.commit("entry.posted", correlation_id="order-8")
    await stage.commit("entry.created", "entry.posted", correlation_id="order-7")
    await stage.deliver()
    assert await _found(stage, correlation_id="order-7") == [4, 3, 1]
    assert await _found(stage, correlation_id="order-7", event_type="entry.posted") == [4, 1]
    assert await _found(stage, correlation_id="order-9") == []


async def test_an_attempt_tells_its_request_its_answer_and_how_long_each_part_took(
    stage: Stage, receiver: Receiver
) -> None:
    """Credentials are masked both ways, the body is named, not kept, and the next attempt's time stands beside it."""
    receiver.script("/hook", Reply(status=500, headers={"Set-Cookie": "session=s3cret", "X-Note": "n"}, body=b"no"))
    endpoint = await stage.endpoint(receiver.url("/hook"), headers={"X-Api-Key": "s3cret"})
    (event_id,) = await stage.commit("entry.posted")
    await stage.deliver()
    (row,) = await stage.rows(endpoint.id)
    (attempt,) = await stage.attempts(row)
    assert attempt.request is not None
    assert attempt.response is not None
    assert attempt.timings is not None
    assert (attempt.request.event, attempt.request.body_bytes) == (
        f"/v1/events/{event_id}",
        len(receiver.received[0].body),
    )
    assert "webhook-signature" in attempt.request.headers
    assert (attempt.response.headers["set-cookie"], attempt.response.headers["x-note"]) == ("***", "n")
    timings = attempt.timings
    assert timings.tls_ms is None
    assert timings.connect_ms is not None
    assert timings.first_byte_ms is not None
    assert 0 <= timings.connect_ms <= timings.first_byte_ms <= timings.total_ms
    assert attempt.next_attempt_at == row.next_attempt_at == format_instant(stage.clock.now_us() + 5_000_000)


async def test_only_finished_and_old_attempts_are_forgotten(stage: Stage, receiver: Receiver) -> None:
    """What is past its retention goes, in bounded transactions; what is unfinished or young stays, deliveries always."""
    receiver.script("/bad", SERVER_ERROR)
    good = await stage.endpoint(receiver.url("/good"))
    bad = await stage.endpoint(receiver.url("/bad"))
    await stage.commit("entry.posted", "entry.posted")
    await stage.deliver()
    stage.clock.advance(seconds=100)
    cutoff = stage.clock.now_us() - 50_000_000
    await stage.commit("entry.posted")
    (old, *_) = await stage.rows(good.id)
    await stage.replay.replay_one(SITE, old.id)
    await stage.relay_all()
    dispatcher = stage.dispatcher()
    dispatcher.wake(SITE, good.id)
    await dispatcher.idle()
    assert await stage.log.forget_attempts(SITE, cutoff) == 2
    assert await stage.log.forget_attempts(SITE, cutoff) == 0
    kept = [len(await stage.attempts(row)) for row in await stage.rows(good.id)]
    assert kept == [1, 0, 1]
    assert [len(await stage.attempts(row)) for row in await stage.rows(bad.id)] == [1, 1, 0]


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for below in plan.get("Plans", []):
        yield from _nodes(below)


def _many(stage: Stage, endpoint_ids: list[str], count: int) -> tuple[list[dict[str, Any]], list[DeliveryRow]]:
    """Return events and their deliveries: nearly all of one type and delivered."""
    now = stage.clock.now_us()
    made: list[dict[str, Any]] = []
    rows: list[DeliveryRow] = []
    for sequence in range(1, count + 1):
        at = now + sequence * 1_000_000
        rare = sequence % 1000 == 0
        event_id = stage.ids.draw(at)
        kind = "account.created" if rare else "entry.posted"
        made.append(
            {"site_id": SITE.id, "sequence": sequence, "id": event_id, "type": kind, "resource_id": event_id,
             "created_at": at, "body": b"{}", "hash": b"", "correlation_id": f"c-{sequence}" if rare else None}
        )  # fmt: skip
        for endpoint_id in endpoint_ids:
            row = DeliveryRow(
                id=stage.ids.draw(at), endpoint_id=endpoint_id, event_id=event_id, event_type=kind, sequence=sequence,
                endpoint_sequence=sequence, state="delivered", reason=None, attempts=1, failures=0,
                trigger="scheduled", due_at=None, lane=LANE_AGAIN, generation=1, claimed_at=None, delivered_at=at,
                created_at=at, updated_at=at, last_status=200,
            )  # fmt: skip
            rows.append(
                structs.replace(row, state="exhausted", last_status=500, last_error="http_5xx") if rare else row
            )
    return made, rows


@pytest.fixture
async def known_stage(postgres_database: PostgresDatabase) -> AsyncIterator[Stage]:
    """A site on PostgreSQL."""
    database = Database.open(postgres_database.runtime_url)
    made = await make_stage(database)
    yield made
    await made.close()
    await database.close()


async def test_every_filter_is_served_by_an_index(
    known_stage: Stage, postgres_database: PostgresDatabase, receiver: Receiver
) -> None:
    """However much was delivered, a page reads about what it shows, once the planner knows the tables."""
    stage = known_stage
    endpoints = [(await stage.endpoint(receiver.url("/a"))).id, (await stage.endpoint(receiver.url("/b"))).id]
    made, rows = _many(stage, endpoints, 5_000)

    def fill(conn: Connection) -> None:
        insert_rows(conn, events, made)
        write(conn, [adding(SITE.id, rows)])

    await stage.database.write(fill, site_id=SITE.id)
    owner = await asyncpg.connect(
        make_url(postgres_database.owner_url).set(drivername="postgresql").render_as_string(False)
    )
    await owner.execute("ANALYZE events, deliveries")
    await owner.close()
    middle = rows[len(rows) // 2]
    for wanted in (
        Wanted(),
        Wanted(endpoint_id=endpoints[0]),
        Wanted(event_types=("account.created",)),
        Wanted(event_types=("entry.posted",), endpoint_id=endpoints[1]),
        Wanted(event_types=("account.created",), endpoint_id=endpoints[1]),
        Wanted(states=("exhausted",)),
        Wanted(states=("retrying",), endpoint_id=endpoints[0]),
        Wanted(states=("pending",)),
        Wanted(errors=("http_5xx",)),
        Wanted(event_id=middle.event_id),
        Wanted(correlation_id="c-3000"),
        Wanted(sequence_from=middle.sequence, sequence_to=middle.sequence + 20),
        Wanted(created_from=middle.created_at, created_to=middle.created_at + 20_000_000),
        Wanted(answered=False),
    ):
        plan = await _explained(stage, wanted)
        read = [node for node in _nodes(plan) if "Relation Name" in node or "Index Name" in node]
        touched = sum(node["Actual Rows"] * node["Actual Loops"] for node in read)
        dropped = sum(node.get("Rows Removed by Filter", 0) for node in read)
        assert not [node for node in read if node["Node Type"] == "Seq Scan"], (wanted, plan)
        assert touched + dropped <= 500, (wanted, plan)


async def _explained(stage: Stage, wanted: Wanted) -> dict[str, Any]:
    """Return the plan of a page's one statement, as it was run."""
    plans: list[dict[str, Any]] = []

    def run(conn: Connection) -> None:
        def explain(_conn: Any, cursor: Any, statement: str, parameters: Any, _context: Any, _many: bool) -> None:
            if statement.startswith("SELECT"):
                cursor.execute("EXPLAIN (ANALYZE, FORMAT JSON) " + statement, parameters)
                found = cursor.fetchone()[0]
                plans.append((json.loads(found) if isinstance(found, str) else found)[0]["Plan"])

        event.listen(conn, "before_cursor_execute", explain)
        page_deliveries(conn, SITE.id, wanted, limit=51)
        event.remove(conn, "before_cursor_execute", explain)

    await stage.database.write(run, site_id=SITE.id)
    return plans[0]
