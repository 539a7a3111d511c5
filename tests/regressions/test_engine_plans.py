"""A site that the planner's statistics do not know was read as a whole for every batch."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import asyncpg
import pytest
from sqlalchemy import Connection, insert
from sqlalchemy.engine import make_url

from engine.databases import Database
from engine.ids import Ids
from engine.schema import balances, feeds, idempotency_keys
from engine.sql import Absent, Fence, Update, behind, insert_rows, together, write_behind
from tests.databases import PostgresDatabase

KNOWN, NEW = 1, 2
ACCOUNTS = 500
TOUCHED = 50
_FEED = {
    **dict.fromkeys(("head", "last_at", "accepted", "accepted_done", "fence", "created_at"), 0),
    **dict.fromkeys(("organization", "environment", "epoch", "state"), "x"),
    "head_hash": b"",
}


def _rows(site_id: int, ids: list[str]) -> list[dict[str, Any]]:
    zero = dict.fromkeys(("posted_debits", "posted_credits", "pending_debits", "pending_credits", "lock_version"), 0)
    return [{"site_id": site_id, "account_id": account_id, **zero} for account_id in ids]


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for below in plan.get("Plans", []):
        yield from _nodes(below)


@pytest.mark.parametrize("fenced", [False, True])
async def test_changing_accounts_of_a_site_without_statistics_looks_each_one_up(
    postgres_database: PostgresDatabase, *, fenced: bool
) -> None:
    """However many accounts the site has, a batch touches those it changes."""
    ids = [Ids().draw(1_700_000_000_000_000 + number * 1000) for number in range(ACCOUNTS)]
    owner = await asyncpg.connect(
        make_url(postgres_database.owner_url).set(drivername="postgresql").render_as_string(False)
    )
    try:
        for site_id in (KNOWN, NEW):
            rows = [tuple(row.values()) for row in _rows(site_id, ids)]
            await owner.copy_records_to_table("balances", records=rows, columns=list(_rows(site_id, ids)[0]))
            feed = {**_FEED, "site_id": site_id}
            await owner.copy_records_to_table("feeds", records=[tuple(feed.values())], columns=list(feed))
            if site_id == KNOWN:
                await owner.execute("ANALYZE balances")
    finally:
        await owner.close()
    change = Update(table=balances, keys=("site_id", "account_id"), rows=_rows(NEW, ids[:TOUCHED]))
    fence = Fence(table=feeds, keys={"site_id": NEW}, expected={"head": 0}, row={"head": 1})
    statement, parameters = behind(fence, [change]) if fenced else together([change])

    def explain(conn: Connection) -> Any:
        found = conn.exec_driver_sql("EXPLAIN (ANALYZE, FORMAT JSON) " + statement, parameters).scalar_one()
        return json.loads(found) if isinstance(found, str) else found

    database = Database.open(postgres_database.runtime_url)
    try:
        plan = await database.write(explain, site_id=NEW)
    finally:
        await database.close()
    nodes = list(_nodes(plan[0]["Plan"]))
    scans = [node for node in nodes if node.get("Relation Name") == "balances" and "Scan" in node["Node Type"]]
    assert scans
    assert all(node["Actual Rows"] <= 1 for node in scans)
    assert sum(node.get("Rows Removed by Join Filter", 0) for node in nodes) == 0


async def test_plan_that_is_kept_reads_no_table_as_a_whole(postgres_database: PostgresDatabase) -> None:
    """It was made when everything was empty and nothing was known, and is used when the site is large."""
    ids = [Ids().draw(1_700_000_000_000_000 + number * 1000) for number in range(ACCOUNTS)]
    unused = Absent(
        table=idempotency_keys, equal={"site_id": NEW}, among={"slot": [1], "key": ["k"]}, larger={"created_at": 0}
    )

    def write(conn: Connection, head: int, touched: int) -> int:
        fence = Fence(
            table=feeds, keys={"site_id": NEW}, expected={"head": head}, row={"head": head + 1}, unless=unused
        )
        change = Update(table=balances, keys=("site_id", "account_id"), rows=_rows(NEW, ids[:touched]))
        conn.exec_driver_sql("SET LOCAL plan_cache_mode = force_generic_plan")
        assert write_behind(conn, fence, [change])
        read = "SELECT sum(seq_tup_read) FROM pg_stat_xact_user_tables"
        return int(conn.exec_driver_sql(read).scalar_one())

    database = Database.open(postgres_database.runtime_url, pool_size=1)
    try:
        feed = insert(feeds).values(**_FEED | {"site_id": NEW, "state": "active"})
        await database.write(lambda conn: conn.execute(feed), site_id=NEW)
        assert await database.write(lambda conn: write(conn, 0, TOUCHED), site_id=NEW) == 0
        await database.write(lambda conn: insert_rows(conn, balances, _rows(NEW, ids)), site_id=NEW)
        assert await database.write(lambda conn: write(conn, 1, TOUCHED), site_id=NEW) == 0
    finally:
        await database.close()
