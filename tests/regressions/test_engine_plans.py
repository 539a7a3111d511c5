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
from engine.fences import Absent, Fence, behind, write_behind
from engine.ids import Ids
from engine.reader import read_present
from engine.schema import accounts, balances, feeds, idempotency_keys
from engine.sql import Update, insert_rows, together
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


async def test_plan_that_is_kept_reads_no_account_but_those_asked_for(postgres_database: PostgresDatabase) -> None:
    """The statement that reads accounts and their totals was planned when there were none."""
    ids = [Ids().draw(1_700_000_000_000_000 + number * 1000) for number in range(ACCOUNTS)]
    opened: dict[str, Any] = dict.fromkeys(("entity_id", "description", "code", "external_id", "purpose"))
    opened |= dict.fromkeys(("currency_exponent", "categories", "monitors", "created_at", "updated_at"), 0)
    opened |= {"name": "A", "type": "asset", "normal_balance": "debit", "currency": "EUR", "status": "open"}
    rows: list[dict[str, Any]] = [
        {
            **opened,
            "site_id": NEW,
            "id": each,
            "ledger_id": ids[0],
            "allow_negative": True,
            "limits": [],
            "metadata": {},
        }
        for each in ids
    ]

    def look(conn: Connection, wanted: list[str]) -> tuple[int, int]:
        conn.exec_driver_sql("SET LOCAL plan_cache_mode = force_generic_plan")
        found = len(read_present(conn, NEW, wanted).accounts)
        read = "SELECT sum(seq_tup_read) + sum(coalesce(idx_tup_fetch, 0)) FROM pg_stat_xact_user_tables"
        return found, int(conn.exec_driver_sql(read).scalar_one())

    def fill(conn: Connection) -> None:
        insert_rows(conn, accounts, rows)
        insert_rows(conn, balances, _rows(NEW, ids))

    database = Database.open(postgres_database.runtime_url, pool_size=1)
    try:
        feed = insert(feeds).values(**_FEED | {"site_id": NEW, "state": "active"})
        await database.write(lambda conn: conn.execute(feed), site_id=NEW)
        assert (await database.write(lambda conn: look(conn, ids[:TOUCHED]), site_id=NEW))[0] == 0
        await database.write(fill, site_id=NEW)
        found, read = await database.write(lambda conn: look(conn, ids[:TOUCHED]), site_id=NEW)
    finally:
        await database.close()
    assert found == TOUCHED
    # And the site's row, of which there may be two versions.
    assert 2 * TOUCHED < read <= 2 * TOUCHED + 2
