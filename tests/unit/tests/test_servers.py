"""The PostgreSQL that tests run on comes and goes as tests want."""

from __future__ import annotations

import asyncpg

from tests.servers import Postgres


async def one_value(server: Postgres, query: str) -> object:
    """Run one query on a connection of its own."""
    connection = await asyncpg.connect(server.url().replace("+asyncpg", ""))
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()


async def test_what_was_committed_survives_a_crash_at_the_same_address() -> None:
    """A crash and a restart lose nothing, and clients find the server where it was."""
    with Postgres() as server:
        port = server.port
        await one_value(server, "CREATE TABLE kept AS SELECT 7 AS number")
        server.kill()
        assert server.pid is None
        server.start()
        assert server.port == port
        assert await one_value(server, "SELECT number FROM kept") == 7
        server.stop()
        server.start()
        assert await one_value(server, "SELECT current_setting('max_connections')") == "200"
