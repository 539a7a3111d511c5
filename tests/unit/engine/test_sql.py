"""The multi-row statements as text: typed arrays, one placeholder a column whatever the number of rows."""

from __future__ import annotations

import pytest
from sqlalchemy import Table, select
from sqlalchemy.dialects import postgresql, sqlite

from engine.schema import metadata
from engine.sql import _array_type, _together, among


def table(name: str) -> Table:
    """Return a table of the books."""
    return metadata.tables[name]


def test_insert_takes_one_typed_array_for_each_column() -> None:
    """JSON travels as text and is cast where it arrives, because the driver takes no array of documents."""
    statement, _ = _together(((table("ledgers"), ("site_id", "id", "metadata", "created_at"), None),))
    assert statement == (
        "INSERT INTO ledgers (site_id, id, metadata, created_at) "
        "SELECT given.site_id, given.id, CAST(given.metadata AS jsonb), given.created_at "
        "FROM unnest(CAST($1 AS bigint[]), CAST($2 AS uuid[]), CAST($3 AS text[]), CAST($4 AS bigint[])) "
        "AS given (site_id, id, metadata, created_at)"
    )


def test_update_finds_each_row_by_its_whole_key_and_sets_the_rest() -> None:
    """The look-up stands by itself, so that no plan can read a whole site to find one row."""
    statement, _ = _together(((table("ledgers"), ("site_id", "id", "name", "metadata"), ("site_id", "id")),))
    assert statement == (
        "UPDATE ledgers SET name = given.name, metadata = CAST(given.metadata AS jsonb) "
        "FROM (SELECT place.ctid AS place, listed.* "
        "FROM unnest(CAST($1 AS bigint[]), CAST($2 AS uuid[]), CAST($3 AS text[]), CAST($4 AS text[])) "
        "AS listed (site_id, id, name, metadata) "
        "CROSS JOIN LATERAL (SELECT ledgers.ctid FROM ledgers "
        "WHERE ledgers.site_id = listed.site_id AND ledgers.id = listed.id LIMIT 1) AS place) AS given "
        "WHERE ledgers.ctid = given.place"
    )


def test_several_changes_are_one_statement_with_numbers_that_go_on() -> None:
    """One round trip; documents are encoded on the way, everything else goes as it is."""
    statement, takers = _together(
        (
            (table("ledgers"), ("site_id", "metadata"), None),
            (table("facts"), ("site_id", "key"), None),
            (table("feeds"), ("site_id", "head"), ("site_id",)),
        ),
    )
    first, second, last = statement.split("part_")[1], statement.split("part_")[2].split(") UPDATE")[0], "UPDATE feeds"
    assert first.startswith("0 AS (INSERT INTO ledgers")
    assert second.startswith("1 AS (INSERT INTO facts")
    assert statement.startswith("WITH ")
    assert statement.index(last) > statement.index("part_1")
    assert [f"${number} " in statement for number in range(1, 8)] == [True] * 6 + [False]
    assert [[(name, convert is not None) for name, convert in columns] for columns in takers] == [
        [("site_id", False), ("metadata", True)],
        [("site_id", False), ("key", False)],
        [("site_id", False), ("head", False)],
    ]


def test_membership_is_one_statement_whatever_the_number_of_values() -> None:
    """One parameter: no limit of a driver is reached, and one plan serves all."""
    column = table("entries").c.id
    for dialect in (postgresql.dialect(), sqlite.dialect()):  # type: ignore[no-untyped-call]
        texts = {
            str(select(column).where(among(column, ["a"] * size)).compile(dialect=dialect)) for size in (0, 1, 40_000)
        }
        assert len(texts) == 1


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
    for each in metadata.tables.values():
        for column in each.columns:
            if _array_type(column) == "text":
                assert column.type.__visit_name__ in {"string", "text"}, f"{each.name}.{column.name}"
