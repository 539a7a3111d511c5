"""What a batch asks about categories is found by whole keys, whatever the planner believes about a site."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import asyncpg
from sqlalchemy import Connection, event
from sqlalchemy.engine import make_url

from engine import category_store
from engine.books import Books
from engine.databases import Database
from engine.ids import Ids
from tests.databases import PostgresDatabase

KNOWN, NEW = 1, 2
ACCOUNTS = 2000
CATEGORIES = 300


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for below in plan.get("Plans", []):
        yield from _nodes(below)


async def _fill(url: str, accounts: list[str], categories: list[str]) -> None:
    """Give two sites the same categories, each linked to the one before; only one of them is in the statistics."""
    owner = await asyncpg.connect(make_url(url).set(drivername="postgresql").render_as_string(hide_password=False))
    try:
        for site_id in (KNOWN, NEW):
            tables: dict[str, list[tuple[Any, ...]]] = {
                "category_accounts": [
                    (site_id, categories[number % CATEGORIES], each) for number, each in enumerate(accounts)
                ],
                "category_links": [
                    (site_id, categories[number // 2], categories[number]) for number in range(1, CATEGORIES)
                ],
                "account_categories": [
                    (site_id, each, None, "n", None, "debit", "EUR", 2, None, "[]", 1, "{}", 0, 0)
                    for each in categories
                ],
                "category_balances": [(site_id, each, 0, 0, 0, 0, 1) for each in categories],
                "balance_monitors": [
                    (
                        site_id,
                        each,
                        "account_category",
                        each,
                        None,
                        "posted",
                        "gt",
                        0,
                        "active",
                        False,
                        0,
                        "{}",
                        1,
                        0,
                        0,
                    )
                    for each in categories
                ],
            }
            for table, rows in tables.items():
                await owner.copy_records_to_table(table, records=rows)
                if site_id == KNOWN:
                    await owner.execute(f"ANALYZE {table}")
    finally:
        await owner.close()


async def test_a_batch_reads_the_categories_of_its_accounts_and_no_others(postgres_database: PostgresDatabase) -> None:
    """However many accounts and categories a site has that the statistics do not know."""
    ids = [Ids().draw(1_700_000_000_000_000 + number * 1000) for number in range(ACCOUNTS + CATEGORIES)]
    accounts, categories = ids[:ACCOUNTS], ids[ACCOUNTS:]
    await _fill(postgres_database.owner_url, accounts, categories)
    plans: list[tuple[str, Any]] = []

    def read(conn: Connection) -> None:
        def explain(conn: Connection, cursor: Any, statement: str, parameters: Any, context: Any, many: Any) -> None:
            if statement.startswith(("SELECT", "WITH")):
                second = conn.connection.cursor()
                second.execute("EXPLAIN (ANALYZE, FORMAT JSON) " + statement, parameters)
                [found] = second.fetchone() or [None]
                plans.append((statement, json.loads(found) if isinstance(found, str) else found))

        event.listen(conn, "before_cursor_execute", explain)
        books = Books()
        touched: list[Any] = [
            ({"id": each, "external_id": None, "code": None, "purpose": None, "categories": 1, "monitors": 0}, None)
            for each in accounts[290:295]
        ]
        books.learn(accounts=touched)
        category_store.learn(conn, NEW, books, ())
        event.remove(conn, "before_cursor_execute", explain)
        assert len(books.known("account_category")) > 5

    database = Database.open(postgres_database.runtime_url)
    try:
        await database.read(read, site_id=NEW)
    finally:
        await database.close()
    assert len(plans) == 5
    for statement, plan in plans:
        nodes = list(_nodes(plan[0]["Plan"]))
        scans = [node for node in nodes if "Relation Name" in node]
        assert scans, statement
        read_rows = sum(
            (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"] for node in scans
        )
        thrown_away = sum(
            node.get("Rows Removed by Join Filter", 0) + node.get("Rows Removed by Index Recheck", 0) for node in nodes
        )
        assert read_rows + thrown_away <= 60, (statement, plan)
