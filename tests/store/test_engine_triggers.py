"""What was booked stays as it is: the database itself refuses, whoever asks."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, delete, text, update
from sqlalchemy.exc import DBAPIError

from engine.commands import ArchiveEntry
from engine.databases import Database
from engine.schema import entries, events, lines
from tests.databases import DIALECTS, PostgresAddress, Templates, fresh_postgres, fresh_sqlite
from tests.store.engine_stage import Stage, entry, make_stage

FIXED = {
    "ledger_id": "00000000-0000-7000-8000-000000000000",
    "external_id": "other",
    "fx_rate_id": "00000000-0000-7000-8000-000000000000",
    "partially_posts": "00000000-0000-7000-8000-000000000000",
    "reverses": "00000000-0000-7000-8000-000000000000",
    "business_event_id": "00000000-0000-7000-8000-000000000000",
    "created_at": 1,
    "id": "00000000-0000-7000-8000-000000000000",
    "site_id": 9,
}
REFUSED = "stays as it is"


@pytest.fixture(params=DIALECTS)
async def stage(
    request: pytest.FixtureRequest, templates: Templates, tmp_path: Path, postgres_with_roles: PostgresAddress
) -> AsyncIterator[Stage]:
    """A site with a posted, a pending and an archived entry, entered as the owner of the tables."""
    async with AsyncExitStack() as stack:
        if request.param == "sqlite":
            url = await fresh_sqlite(tmp_path, templates, "site")
        else:
            url = (await stack.enter_async_context(fresh_postgres(postgres_with_roles, templates, "site"))).owner_url
        database = Database.open(url)
        stack.push_async_callback(database.close)
        stage = await make_stage(database)
        cash, sales = await stage.accounts("asset", "revenue")
        await stage.run(entry(cash, sales, 5))
        await stage.run(entry(cash, sales, 5, status="pending"))
        given_up = (await stage.run(entry(cash, sales, 5, status="pending")))["id"]
        await stage.run(ArchiveEntry(entry_id=given_up))
        yield stage


async def refused(stage: Stage, statement: Any) -> None:
    """Run a statement that the database must refuse, and see that nothing changed."""
    before = await stage.rows()
    with pytest.raises(DBAPIError, match=REFUSED):
        await stage.write(lambda conn: conn.execute(statement))
    assert await stage.rows() == before


async def test_lines_and_events_cannot_be_changed_or_removed(stage: Stage) -> None:
    """Not one column of them, not even to what it is already."""
    for table in (lines, events):
        for column in table.columns:
            await refused(stage, update(table).values({column.name: column}))
        await refused(stage, delete(table))
    await refused(stage, delete(entries))


async def test_nothing_is_emptied_at_once(stage: Stage) -> None:
    """TRUNCATE asks no row; it is refused for the whole table."""
    if stage.database.dialect == "sqlite":
        assert "truncate" not in await stage.read(_all_triggers)
        return
    for table in (lines, events, entries):
        await refused(stage, text(f"TRUNCATE {table.name}"))
        await refused(stage, text(f"TRUNCATE {table.name} CASCADE"))


async def test_fixed_columns_of_an_entry_stay(stage: Stage) -> None:
    """Of a pending entry too: what it is was said when it was made."""
    for column, value in FIXED.items():
        await refused(stage, update(entries).where(entries.c.status == "pending").values({column: value}))


async def test_nothing_leads_out_of_a_final_status(stage: Stage) -> None:
    """Nor are its lines or its time of posting replaced."""
    for status in ("posted", "archived"):
        final = update(entries).where(entries.c.status == status)
        for other in {"accepted", "pending", "posted", "archived", "rejected"} - {status}:
            await refused(stage, final.values(status=other))
        await refused(stage, final.values(lines_version=entries.c.lines_version + 1))
        await refused(stage, final.values(posted_at=1))
        await refused(stage, final.values(effective_at=1))


async def test_what_may_change_about_a_final_entry_does(stage: Stage) -> None:
    """Description, metadata, its version, and what reversed it: the triggers stand in nobody's way."""
    changed = {"description": "d", "metadata": {"a": "b"}, "lock_version": 9, "updated_at": 9}
    changed["reversed_by"] = "00000000-0000-7000-8000-000000000000"
    assert await stage.write(lambda conn: conn.execute(update(entries).values(changed)).rowcount) == 3


async def test_balances_never_hold_a_negative_total(stage: Stage) -> None:
    """And a line never an amount that is none."""
    zero_line = (
        "INSERT INTO lines SELECT site_id, entry_id, version + 9, position, id, account_id, direction, 0, currency, "
        "normal_balance, status, metadata, posted_moved, pending_moved, account_lock_version + 99, posted_debits, posted_credits, pending_debits, "
        "pending_credits, effective_at, created_at FROM lines"
    )
    for statement in (
        "UPDATE balances SET posted_debits = -1",
        "UPDATE balances SET pending_credits = -1",
        zero_line,
    ):
        with pytest.raises(DBAPIError, match=r"ck_|CHECK"):
            await stage.write(partial(_run, text(statement)))


def _all_triggers(conn: Connection) -> str:
    return " ".join(conn.execute(text("SELECT lower(sql) FROM sqlite_master WHERE type = 'trigger'")).scalars())


def _run(statement: Any, conn: Connection) -> None:
    conn.execute(statement)
