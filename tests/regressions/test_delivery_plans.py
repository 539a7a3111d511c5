"""An endpoint that the planner's statistics do not know was read as a whole, all that it ever received, at every turn."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from sqlalchemy import Connection, event, update

from delivery.rows import DeliveryRow
from delivery.schema import LANE_AGAIN, deliveries
from delivery.store.deliveries import find_deliveries, leasing, next_due, read_leased, settling, still_leased
from delivery.store.endpoints import lock_endpoints
from delivery.store.filters import Wanted
from delivery.store.leases import read_waiting
from delivery.store.replays import count_backlog, read_share
from delivery.store.tallies import tallying
from delivery.tally import tally
from engine import feed, lookups
from engine.databases import Database
from engine.fences import write_behind
from engine.lookups import plan_once
from engine.sql import write
from tests.databases import PostgresDatabase
from tests.store.delivery_stage import SITE, make_stage

RECEIVED = 600
WANTED = 20
MANY = 8
"""So many that a column which says the same in all is given once."""
LOOKED_AT_MAX = 3 * WANTED
CHANGES = 20
"""How often every row changes: some pages of its index each time."""


def _looked_at(conn: Connection, ask: Callable[[], object]) -> int:
    """Return how many rows of tables were looked at to answer."""
    read = "SELECT coalesce(sum(seq_tup_read + idx_tup_fetch), 0) FROM pg_stat_xact_user_tables"
    before = conn.exec_driver_sql(read).scalar_one()
    ask()
    return int(conn.exec_driver_sql(read).scalar_one() - before)


def _plan_apart(conn: Connection) -> None:
    conn.exec_driver_sql("SET LOCAL plan_cache_mode = force_generic_plan")


def _count_apart(conn: Connection, rows: Sequence[DeliveryRow]) -> None:
    """Look for leases that are gone, before an attempt is counted."""
    counted = tallying(SITE.id, [tally(rows[0].endpoint_id, 0, [(True, 1)])])
    assert not write_behind(conn, still_leased(SITE.id, rows), [counted])


@pytest.mark.parametrize(
    "question", ["waiting", "leased", "found", "backlog", "bodies", "due", "share", "leasing", "settling", "apart"]
)
@pytest.mark.parametrize("planned", ["each time", "at first", "amid a backlog"])
async def test_a_turn_looks_at_what_it_is_about(
    postgres_database: PostgresDatabase, question: str, planned: str
) -> None:
    """However much the endpoint has received: what is in flight, what waits, and the rows and events that are named.

    Also by a plan that is kept from when there was next to nothing, or that was made when rows had changed so often that the index
    of what waits was larger than any other.
    """
    database = Database.open(postgres_database.runtime_url, pool_size=1)
    stage = await make_stage(database)
    endpoint = await stage.endpoint("https://partner.example/hook")

    async def ask(named: Sequence[str]) -> int:
        def run(conn: Connection) -> int:
            if planned != "each time":
                # As the connections are that run a statement as a transaction of its own, or as a turn has it.
                _plan_apart(conn) if question == "apart" else plan_once(conn)
            locked = lock_endpoints(conn, SITE.id, [endpoint.id])
            now_us = stage.clock.now_us()
            questions: dict[str, Callable[[], object]] = {
                "waiting": lambda: read_waiting(conn, SITE.id, list(locked.values()), now_us),
                "leased": lambda: read_leased(conn, SITE.id, named),
                "found": lambda: find_deliveries(conn, SITE.id, named),
                "backlog": lambda: count_backlog(conn, SITE.id, endpoint.id, now_us, WANTED),
                "bodies": lambda: feed.read_bodies(conn, SITE.id, range(1, WANTED)),
                "leasing": lambda: write(conn, [leasing(SITE.id, find_deliveries(conn, SITE.id, named).values())]),
                "settling": lambda: write(conn, [settling(SITE.id, find_deliveries(conn, SITE.id, named).values())]),
                "apart": lambda: _count_apart(conn, list(find_deliveries(conn, SITE.id, named).values())),
                "share": lambda: read_share(
                    conn, SITE.id, Wanted(endpoint_id=endpoint.id), after=0, until=MANY + RECEIVED, limit=WANTED
                ),
                "due": lambda: next_due(conn, SITE.id),
            }
            return _looked_at(conn, questions[question])

        return await database.write(run, site_id=SITE.id)

    await stage.commit(*["entry.posted"] * MANY)
    await stage.relay_all()
    if planned == "at first":
        await ask([row.id for row in await stage.rows(endpoint.id)])
    await stage.commit(*["entry.posted"] * RECEIVED)
    await stage.relay_all()
    if planned == "amid a backlog":
        for _ in range(CHANGES):
            moved = update(deliveries).values(due_at=deliveries.c.due_at - 1)
            await database.write(lambda conn, moved=moved: conn.execute(moved), site_id=SITE.id)  # type: ignore[misc]
    over = update(deliveries).where(deliveries.c.endpoint_sequence <= RECEIVED)
    finished = over.values(state="delivered", due_at=None, lane=LANE_AGAIN)
    await database.write(lambda conn: conn.execute(finished), site_id=SITE.id)
    looked_at = await ask([row.id for row in await stage.rows(endpoint.id)][-WANTED:])
    await stage.close()
    await database.close()
    assert looked_at <= LOOKED_AT_MAX


async def test_a_plan_is_kept_for_some_seconds(
    postgres_database: PostgresDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was planned when there was next to nothing read 33,000 rows for a delivery, for as long as its connection lived."""
    database = Database.open(postgres_database.runtime_url, pool_size=1)
    asked: list[str] = []
    event.listen(database._writer.sync_engine, "after_cursor_execute", lambda *given: asked.append(given[2]))
    for _ in range(3):
        await database.write(plan_once)
    assert asked.count("DISCARD PLANS") == 1
    monkeypatch.setattr(lookups, "PLANS_KEPT_S", 0.0)
    await database.write(lambda conn: conn.info.clear())
    for _ in range(3):
        await database.write(plan_once)
    assert asked.count("DISCARD PLANS") == 4
    await database.close()
