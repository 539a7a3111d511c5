"""An endpoint that the planner's statistics do not know was read as a whole, all that it ever received, at every turn."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import Connection, event, update

from delivery.schema import LANE_AGAIN, deliveries
from delivery.store.deliveries import find_deliveries, next_due, read_leased
from delivery.store.endpoints import lock_endpoints
from delivery.store.leases import read_waiting
from delivery.store.replays import count_backlog
from engine import feed
from engine.databases import Database
from tests.databases import PostgresDatabase
from tests.store.delivery_stage import SITE, make_stage

RECEIVED = 600
WANTED = 20
READ_MAX = 3 * WANTED
"""What may be looked at for so few."""


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for below in plan.get("Plans", []):
        yield from _nodes(below)


def _read(plan: dict[str, Any]) -> float:
    """Return how many rows a plan looked at in tables."""
    scans = [node for node in _nodes(plan) if "Relation Name" in node]
    assert scans
    seen = ("Actual Rows", "Rows Removed by Filter", "Rows Removed by Index Recheck")
    return sum(node["Actual Loops"] * sum(node.get(name, 0) for name in seen) for node in scans)


def _asked(conn: Connection, ask: Callable[[], object]) -> list[dict[str, Any]]:
    """Return the plans of what is asked, as they were carried out."""
    plans: list[dict[str, Any]] = []

    def explain(_conn: Any, cursor: Any, statement: str, parameters: Any, _context: Any, _many: bool) -> None:
        cursor.execute("EXPLAIN (ANALYZE, FORMAT JSON) " + statement, parameters)
        found = cursor.fetchone()[0]
        plans.append((json.loads(found) if isinstance(found, str) else found)[0]["Plan"])

    event.listen(conn, "before_cursor_execute", explain)
    ask()
    event.remove(conn, "before_cursor_execute", explain)
    return plans


@pytest.mark.parametrize("question", ["waiting", "leased", "found", "backlog", "bodies", "due"])
async def test_a_turn_looks_at_what_it_is_about(postgres_database: PostgresDatabase, question: str) -> None:
    """However much the endpoint has received: what is in flight, what waits, and the rows and events that are named."""
    database = Database.open(postgres_database.runtime_url)
    stage = await make_stage(database)
    endpoint = await stage.endpoint("https://partner.example/hook")
    await stage.commit(*["entry.posted"] * RECEIVED)
    await stage.relay_all()
    over = update(deliveries).where(deliveries.c.endpoint_sequence <= RECEIVED - WANTED)
    finished = over.values(state="delivered", due_at=None, lane=LANE_AGAIN)
    await stage.database.write(lambda conn: conn.execute(finished), site_id=SITE.id)
    named = [row.id for row in await stage.rows(endpoint.id)][-WANTED:]
    now_us = stage.clock.now_us()

    def ask(conn: Connection) -> list[dict[str, Any]]:
        locked = lock_endpoints(conn, SITE.id, [endpoint.id])
        questions: dict[str, Callable[[], object]] = {
            "waiting": lambda: read_waiting(conn, SITE.id, list(locked.values()), now_us),
            "leased": lambda: read_leased(conn, SITE.id, named),
            "found": lambda: find_deliveries(conn, SITE.id, named),
            "backlog": lambda: count_backlog(conn, SITE.id, endpoint.id, now_us, WANTED),
            "bodies": lambda: feed.read_bodies(conn, SITE.id, range(1, WANTED)),
            "due": lambda: next_due(conn, SITE.id),
        }
        return _asked(conn, questions[question])

    plans = await stage.database.write(ask, site_id=SITE.id)
    await stage.close()
    await database.close()
    assert [_read(plan) for plan in plans if _read(plan) > READ_MAX] == []
    assert len(plans) == 1
