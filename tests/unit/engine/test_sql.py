"""The multi-row statements of PostgreSQL as text: typed arrays, one placeholder a column whatever the number of rows."""

from __future__ import annotations

import pytest
from sqlalchemy import Table

from engine.schema import metadata
from engine.sql import _array_type, _unnest_insert, _unnest_update


def table(name: str) -> Table:
    """Return a table of the books."""
    return metadata.tables[name]


def test_insert_takes_one_typed_array_for_each_column() -> None:
    """JSON travels as text and is cast where it arrives, because the driver takes no array of documents."""
    assert _unnest_insert(table("ledgers"), ("site_id", "id", "metadata", "created_at")) == (
        "INSERT INTO ledgers (site_id, id, metadata, created_at) "
        "SELECT site_id, id, CAST(metadata AS jsonb), created_at "
        "FROM unnest(CAST(:site_id AS bigint[]), CAST(:id AS uuid[]), CAST(:metadata AS text[]), "
        "CAST(:created_at AS bigint[])) AS given (site_id, id, metadata, created_at)"
    )


def test_update_sets_what_is_no_key() -> None:
    """Rows are found by all keys, the site among them."""
    assert _unnest_update(table("ledgers"), ("site_id", "id"), ("site_id", "id", "name", "metadata")) == (
        "UPDATE ledgers SET name = given.name, metadata = CAST(given.metadata AS jsonb) "
        "FROM unnest(CAST(:site_id AS bigint[]), CAST(:id AS uuid[]), CAST(:name AS text[]), "
        "CAST(:metadata AS text[])) AS given (site_id, id, name, metadata) "
        "WHERE ledgers.site_id = given.site_id AND ledgers.id = given.id"
    )


@pytest.mark.parametrize(
    ("place", "kind"),
    [
        ("events.body", "bytea"),
        ("events.sequence", "bigint"),
        ("events.id", "uuid"),
        ("events.type", "text"),
        ("entries.lines_version", "integer"),
        ("entries.metadata", "jsonb"),
        ("entries.description", "text"),
        ("lines.position", "smallint"),
        ("accounts.allow_negative", "boolean"),
    ],
)
def test_array_has_the_type_of_its_column(place: str, kind: str) -> None:
    """What is not named here goes as text, which every column would refuse rather than misread."""
    name, column = place.split(".")
    assert _array_type(table(name).c[column]) == kind


def test_every_column_has_a_type_that_an_array_can_carry() -> None:
    """A new column of a new type is noticed here, not in the first batch that writes it."""
    spelled = {"text": ("VARCHAR", "TEXT", "String", "Text", "string", "text")}
    for each in metadata.tables.values():
        for column in each.columns:
            if _array_type(column) == "text":
                assert column.type.__visit_name__ in spelled["text"], f"{each.name}.{column.name}"
