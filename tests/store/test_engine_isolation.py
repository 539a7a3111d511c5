"""On PostgreSQL a transaction sees and writes its own site and nothing else, whatever statement it sends."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any

import asyncpg
import pytest
from sqlalchemy import Connection, delete, insert, select, text, update
from sqlalchemy.exc import DBAPIError, ProgrammingError

from engine.category_commands import CreateCategory, CreateMonitor, LinkCategory, PlaceAccount
from engine.commands import AcceptEntry, CreateHold
from engine.databases import Database, begin_with
from engine.fx_commands import CreateFxRate
from engine.reference_commands import CreateReference
from engine.schema import accounts, balances, entries, events, feeds, idempotency_keys, ledgers, lines, metadata
from tests.databases import PostgresDatabase
from tests.store.engine_stage import OTHER, SITE, Stage, entry, key, make_stage
from tests.unit.engine.handling import handler, happened, line
from tests.unit.engine.knowing import REFERENCE

EVERYTHING = sorted(metadata.tables.values(), key=lambda table: table.name)


def rows_of(query: Any, conn: Connection) -> list[Any]:
    """Return the rows of a query, by column."""
    return list(conn.execute(query).mappings().all())


def run(statement: Any, conn: Connection) -> None:
    """Run a statement."""
    conn.execute(statement)


@pytest.fixture
async def stages(postgres_database: PostgresDatabase) -> AsyncIterator[tuple[Stage, Stage]]:
    """Two sites in one database, each with rows in every table."""
    database = Database.open(postgres_database.runtime_url)
    made = []
    for site in (SITE, OTHER):
        stage = await make_stage(database, site)
        cash, sales = await stage.accounts("asset", "revenue")
        await stage.account(metadata={"kind": "cash"})
        await stage.submit(entry(cash, sales, 5), key("k"))
        top, low = [
            (await stage.run(CreateCategory(name="n", currency="EUR", normal_balance="debit")))["id"] for _ in range(2)
        ]
        await stage.run(PlaceAccount(category_id=low, account_id=cash, inside=True))
        await stage.run(LinkCategory(category_id=top, child_id=low, inside=True))
        await stage.run(CreateMonitor(subject="account", subject_id=cash, field="posted", operator="gt", value=1))
        await stage.run(AcceptEntry(entry=entry(cash, sales, 5)))
        for kind, fields in REFERENCE.items():
            await stage.run(CreateReference(kind=kind, fields=fields))
        await stage.run(CreateFxRate(base="EUR", quote="USD", rate="1"))
        await stage.run(CreateHold(entry=entry(cash, sales, 5, status="pending", held=True)))
        await stage.run(handler(entries=[{"lines": [line(cash, "debit", 1), line(sales, "credit", 1)]}]))
        await stage.run(happened())
        made.append(stage)
    yield made[0], made[1]
    await database.close()


def test_every_table_of_the_books_belongs_to_sites() -> None:
    """Its first key is the site; otherwise nothing below proves anything about it."""
    assert [table.name for table in EVERYTHING if next(iter(table.primary_key.columns)).name != "site_id"] == []


async def test_site_sees_no_row_of_another(stages: tuple[Stage, Stage]) -> None:
    """Not without a condition, and not by asking for the other site by name."""
    mine, _ = stages
    seen = await mine.rows()
    for table in EVERYTHING:
        # Facts and the sums that history keeps come by workers, not by commands.
        if table.name not in {"facts", "spans", "span_parts", "span_places"}:
            assert {row[0] for row in seen[table.name]} == {SITE.id}, table.name
        assert await mine.read(partial(rows_of, select(table).where(table.c.site_id == OTHER.id))) == []


async def test_site_changes_no_row_of_another(stages: tuple[Stage, Stage]) -> None:
    """An update of the other site's rows finds none."""
    mine, other = stages
    before = await other.rows()
    for table in (feeds, ledgers, accounts, balances, entries):
        column = next(name for name in ("head", "lock_version", "updated_at") if name in table.c)
        await mine.write(partial(run, update(table).where(table.c.site_id == OTHER.id).values({column: 99})))
    assert await other.rows() == before


async def test_site_removes_no_row_of_another(stages: tuple[Stage, Stage]) -> None:
    """Where removing is allowed at all, it removes one's own."""
    mine, other = stages
    statement = delete(idempotency_keys).where(idempotency_keys.c.site_id == OTHER.id)
    assert await mine.write(lambda conn: conn.execute(statement).rowcount) == 0
    assert len((await other.rows())["idempotency_keys"]) == 1


async def test_site_cannot_write_a_row_for_another(stages: tuple[Stage, Stage]) -> None:
    """Neither add one nor give one of its own away."""
    mine, other = stages
    before = await other.rows()
    for table in (ledgers, accounts, balances, entries, lines, events, idempotency_keys):
        [row, *_] = await mine.read(partial(rows_of, select(table)))
        given = {**row, "site_id": OTHER.id}
        with pytest.raises(DBAPIError, match="row-level security"):
            await mine.write(partial(run, insert(table).values(**given)))
    for table in (ledgers, accounts, balances):
        with pytest.raises(DBAPIError, match="row-level security"):
            await mine.write(partial(run, update(table).values(site_id=OTHER.id)))
    assert await other.rows() == before


@pytest.mark.parametrize("used_before", [False, True])
async def test_transaction_that_names_no_site_is_refused(stages: tuple[Stage, Stage], *, used_before: bool) -> None:
    """On a fresh connection and on one that served a site a moment ago: the setting ends with its transaction."""
    mine, _ = stages
    if not used_before:
        await mine.database.close()
    for table in EVERYTHING:
        with pytest.raises(DBAPIError, match=r"gledger.site_id|invalid input syntax for type bigint"):
            await mine.database.read(partial(rows_of, select(table).limit(1)))


async def test_transaction_that_did_nothing_leaves_its_site_to_nobody(stages: tuple[Stage, Stage]) -> None:
    """It never began; the one that begins next on its connection is in no site, by whichever way it came by it."""
    mine, other = stages
    nothing: Callable[[Connection], None] = lambda _conn: None  # noqa: E731 - what a transaction may come to
    await mine.database.write(nothing, site_id=mine.site.id)
    with pytest.raises(DBAPIError, match=r"gledger.site_id|invalid input syntax for type bigint"):
        await mine.database.write(partial(rows_of, select(ledgers)))
    await mine.database.write(nothing, site_id=mine.site.id)
    [found] = await other.read(partial(rows_of, select(feeds)))
    assert found["site_id"] == other.site.id


async def test_settings_hold_for_the_transaction_that_began_with_them(stages: tuple[Stage, Stage]) -> None:
    """Given before its first statement or after; not for the one after it on the same connection."""
    mine, _ = stages
    setting = "SELECT set_config('gledger.tried', 'yes', true);"

    def tried(conn: Connection) -> str | None:
        found: str | None = conn.execute(text("SELECT current_setting('gledger.tried', true)")).scalar()
        return found

    def with_it(conn: Connection) -> str | None:
        begin_with(conn, setting)
        return tried(conn)

    def late(conn: Connection) -> tuple[str | None, str | None]:
        before = tried(conn)
        begin_with(conn, setting)
        return before, tried(conn)

    assert [await mine.write(each) for each in (with_it, tried, late, tried)] == ["yes", "", ("", "yes"), ""]


async def test_transaction_that_did_not_begin_as_it_should_leaves_no_connection_behind(
    stages: tuple[Stage, Stage],
) -> None:
    """Its connection would be in a transaction of which nobody knows: the next one would begin as a part of that."""
    mine, other = stages

    def fails(conn: Connection) -> None:
        begin_with(conn, "SELECT 1 / 0;")
        conn.execute(select(feeds))

    for _ in range(3):
        with pytest.raises(DBAPIError, match="division by zero"):
            await mine.write(fails)
    # Both are the same pool's: what was left is what would be taken next.
    for stage in (other, mine):
        [found] = await stage.database.write(partial(rows_of, select(feeds)), site_id=stage.site.id)
        assert found["site_id"] == stage.site.id


async def test_transaction_enters_its_site_in_one_journey(
    stages: tuple[Stage, Stage], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A read is three: it begins, asks and ends."""
    mine, _ = stages
    sent: list[str] = []
    execute = asyncpg.Connection.execute

    async def noted(self: asyncpg.Connection, query: str, *arguments: Any, timeout: float | None = None) -> Any:
        sent.append(query)
        return await execute(self, query, *arguments, timeout=timeout)

    monkeypatch.setattr(asyncpg.Connection, "execute", noted)
    assert len(await mine.read(partial(rows_of, select(feeds)))) == 1
    assert [each.split(";")[0] for each in sent] == ["BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", "ROLLBACK"]
    assert f"set_config('gledger.site_id', '{mine.site.id}', true)" in sent[0]


async def test_row_level_security_holds_for_the_owner_too(postgres_database: PostgresDatabase) -> None:
    """It is forced on every table, and every policy checks what is written as well as what is read."""
    database = Database.open(postgres_database.owner_url)
    forced = text("SELECT relname FROM pg_class WHERE relrowsecurity AND relforcerowsecurity")
    policies = text("SELECT tablename, cmd, qual, coalesce(with_check, qual) = qual AS whole FROM pg_policies")
    try:
        holds = {row["relname"] for row in await database.read(partial(rows_of, forced))}
        found = {row["tablename"]: row for row in await database.read(partial(rows_of, policies))}
    finally:
        await database.close()
    for table in EVERYTHING:
        assert table.name in holds
        assert (found[table.name]["cmd"], found[table.name]["whole"]) == ("ALL", True)
        assert "gledger.site_id" in found[table.name]["qual"]


async def test_partitions_of_the_keys_cannot_be_read_around_the_policy(stages: tuple[Stage, Stage]) -> None:
    """A partition is a table too; the program may not touch it by its own name."""
    mine, _ = stages
    with pytest.raises(ProgrammingError, match="permission denied"):
        await mine.read(lambda conn: conn.execute(text("SELECT * FROM idempotency_keys_0")).all())
