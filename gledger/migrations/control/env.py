"""Alembic's entry: the connection is handed in, so that one transaction covers the whole upgrade."""

from __future__ import annotations

from alembic import context

from gledger.migrations import tables_of, version_table

config = context.config
kind = config.attributes["kind"]
connection = config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=tables_of(kind),
    version_table=version_table(kind),
    render_as_batch=connection.dialect.name == "sqlite",
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
