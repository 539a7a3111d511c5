"""Fresh databases are fresh, migrated, and entered as a role that owns nothing."""

from __future__ import annotations

import pytest
from sqlalchemy import Connection, func, insert, select, text
from sqlalchemy.exc import ProgrammingError

from engine.databases import Database
from engine.schema import feeds
from tests.databases import PostgresDatabase

TABLE_OWNERS = text("SELECT count(*) FROM pg_tables WHERE tableowner = current_user")


def leave_a_trace(connection: Connection) -> int:
    """Make the database differ from its template and say how it was before."""
    before = connection.execute(select(func.count()).select_from(feeds)).scalar_one()
    row = {"site_id": 1, "organization": "acme", "environment": "sandbox", "epoch": "e", "state": "active"}
    counts = {"head": 0, "accepted": 0, "accepted_done": 0, "fence": 0}
    connection.execute(insert(feeds).values(**row, **counts, head_hash=b"", last_at=0, created_at=0))
    return before


@pytest.mark.parametrize("_again", [1, 2])
async def test_no_test_sees_what_another_wrote(site_database: Database, _again: int) -> None:
    """Each test has its own copy, twice in a row."""
    assert await site_database.write(leave_a_trace, site_id=1) == 0


async def test_the_control_database_is_migrated(control_database: Database) -> None:
    """Its tables are there on both databases."""
    rows = await control_database.read(lambda connection: connection.execute(text("SELECT * FROM organizations")).all())
    assert rows == []


async def test_a_test_connects_as_a_role_that_owns_nothing(postgres_database: PostgresDatabase) -> None:
    """No table is the runtime role's, and it can make none."""
    database = Database.open(postgres_database.runtime_url)
    try:
        assert await database.read(lambda connection: connection.execute(TABLE_OWNERS).scalar_one()) == 0
        with pytest.raises(ProgrammingError, match="permission denied"):
            await database.write(lambda connection: connection.execute(text("CREATE TABLE mine (id int)")))
    finally:
        await database.close()
