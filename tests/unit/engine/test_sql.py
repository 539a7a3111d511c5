"""The multi-row statements as text: typed arrays, one placeholder a column whatever the number of rows."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import BigInteger, Column, MetaData, Table, Uuid, select
from sqlalchemy.dialects import postgresql, sqlite

from engine.fences import Absent, Fence, Held, behind
from engine.ids import uuid7
from engine.parameters import converter, type_name
from engine.schema import metadata
from engine.sql import Insert, Update, among, together


def table(name: str) -> Table:
    """Return a table of the books."""
    return metadata.tables[name]


def id_of(number: int) -> str:
    """Return an id."""
    return uuid7(number, 0, 0)


def ledger(number: int) -> dict[str, Any]:
    """Return a row of a ledger: some columns are the same for all of them."""
    return {"site_id": 7, "id": id_of(number), "metadata": {}, "created_at": number}


def test_insert_takes_one_typed_array_for_each_column() -> None:
    """JSON travels as text and is cast where it arrives, because the driver takes no array of documents."""
    statement, parameters = together([Insert(table=table("ledgers"), rows=[ledger(1), ledger(2)])])
    assert statement == (
        "INSERT INTO ledgers (site_id, id, metadata, created_at) "
        "SELECT given.site_id, given.id, CAST(given.metadata AS jsonb), given.created_at "
        "FROM unnest(CAST(CAST($1 AS text) AS bigint[]), CAST(CAST($2 AS text) AS uuid[]), CAST($3 AS text[]), "
        "CAST(CAST($4 AS text) AS bigint[])) "
        "AS given (site_id, id, metadata, created_at)"
    )
    assert parameters == ("{7,7}", f"{{{id_of(1)},{id_of(2)}}}", ["{}", "{}"], "{1,2}")


def test_column_that_says_the_same_in_many_rows_is_sent_once() -> None:
    """An array costs as much as it is long; what differs is still an array, so that the rows are counted."""
    statement, parameters = together([Insert(table=table("ledgers"), rows=[ledger(number) for number in range(8)])])
    assert statement == (
        "INSERT INTO ledgers (site_id, id, metadata, created_at) "
        "SELECT CAST($1 AS bigint), given.id, CAST(CAST($3 AS text) AS jsonb), given.created_at "
        "FROM unnest(CAST(CAST($2 AS text) AS uuid[]), CAST(CAST($4 AS text) AS bigint[])) AS given (id, created_at)"
    )
    assert parameters == (7, f"{{{','.join(map(id_of, range(8)))}}}", "{}", "{0,1,2,3,4,5,6,7}")


def test_update_finds_each_row_by_its_whole_key_and_sets_the_rest() -> None:
    """The look-up stands by itself, so that no plan can read a whole site to find one row; keys are arrays always."""
    rows = [{"site_id": 7, "id": id_of(number), "name": "a", "metadata": {}} for number in range(9)]
    for count, name, document in ((1, "given.name", "given.metadata"), (9, "CAST($3 AS text)", "CAST($4 AS text)")):
        change = Update(table=table("ledgers"), keys=("site_id", "id"), rows=rows[:count])
        statement, _ = together([change])
        more = ", CAST(CAST($3 AS text) AS text[]), CAST($4 AS text[])" if count == 1 else ""
        listed = "site_id, id, name, metadata" if count == 1 else "site_id, id"
        assert statement == (
            f"UPDATE ledgers SET name = {name}, metadata = CAST({document} AS jsonb) "
            "FROM (SELECT place.ctid AS place, listed.* "
            f"FROM unnest(CAST(CAST($1 AS text) AS bigint[]), CAST(CAST($2 AS text) AS uuid[]){more}) AS listed ({listed}) "
            "CROSS JOIN LATERAL (SELECT ledgers.ctid FROM ledgers "
            "WHERE ledgers.site_id = listed.site_id AND ledgers.id = listed.id LIMIT 1) AS place) AS given "
            "WHERE ledgers.ctid = given.place"
        )


def test_what_is_added_to_what_is_there_is_one_statement_for_any_numbers() -> None:
    """Counts that happen to be the same in all rows are arrays too, so that no occasion needs a statement of its own."""
    part = [{"site_id": 7, "id": id_of(number), "entries": 1} for number in range(9)]
    statement, _ = together([Update(table=spans(), keys=("site_id", "id"), rows=part, adds=("entries",))])
    assert statement.startswith("UPDATE spans SET entries = spans.entries + given.entries FROM (")
    statement, _ = together([Insert(table=spans(), rows=part, adds_to=("site_id", "id"))])
    assert statement.startswith(
        "INSERT INTO spans (site_id, id, entries) SELECT given.site_id, given.id, given.entries "
    )
    assert statement.endswith(" ON CONFLICT (site_id, id) DO UPDATE SET entries = spans.entries + excluded.entries")


def spans() -> Table:
    """Return a table that counts."""
    columns = [Column("site_id", BigInteger), Column("id", Uuid), Column("entries", BigInteger)]
    return Table("spans", MetaData(), *columns)


def changes() -> list[Insert | Update]:
    """Return three changes of one statement."""
    return [
        Insert(table=table("ledgers"), rows=[{"site_id": 1, "metadata": {}}]),
        Insert(table=table("facts"), rows=[{"site_id": 1, "key": "k"}]),
        Update(table=table("feeds"), keys=("site_id",), rows=[{"site_id": 1, "head": 5}]),
    ]


def test_several_changes_are_one_statement_with_numbers_that_go_on() -> None:
    """One round trip; documents are encoded on the way, everything else goes as it is."""
    statement, parameters = together(changes())
    first, second, last = statement.split("part_")[1], statement.split("part_")[2].split(") UPDATE")[0], "UPDATE feeds"
    assert first.startswith("0 AS (INSERT INTO ledgers")
    assert second.startswith("1 AS (INSERT INTO facts")
    assert statement.startswith("WITH ")
    assert statement.index(last) > statement.index("part_1")
    assert [f"${number} " in statement for number in range(1, 8)] == [True] * 6 + [False]
    assert parameters == ("{1}", ["{}"], "{1}", "{k}", "{1}", "{5}")


def test_every_part_behind_a_fence_selects_from_it() -> None:
    """A part that does not is run to its end whatever the fence finds."""
    unless = Absent(
        table=table("idempotency_keys"), equal={"site_id": 1}, among={"key": ["a"]}, larger={"created_at": 3}
    )
    fence = Fence(
        table=table("feeds"), keys={"site_id": 1}, expected={"head": 4}, row={"head": 5, "last_at": 6}, unless=unless
    )
    statement, parameters = behind(fence, changes())
    assert statement.startswith(
        "WITH fence AS (UPDATE feeds SET head = CAST($1 AS bigint), last_at = CAST($2 AS bigint) "
        "WHERE feeds.site_id = CAST($3 AS bigint) AND feeds.head IS NOT DISTINCT FROM CAST($4 AS bigint) "
        "AND NOT EXISTS (SELECT FROM idempotency_keys AS held WHERE held.site_id = CAST($5 AS bigint) "
        "AND held.key = ANY (CAST($6 AS text[])) AND held.created_at > CAST($7 AS bigint)) RETURNING feeds.site_id), "
    )
    assert statement.endswith("SELECT count(*) FROM fence")
    assert statement.count("FROM fence CROSS JOIN unnest(") == statement.count("part_") == 3
    assert parameters == (5, 6, 1, 4, 1, ["a"], 3, "{1}", ["{}"], "{1}", "{k}", "{1}", "{5}")


def test_rows_that_must_be_there_are_looked_up_locked_and_counted() -> None:
    """One that is not there any more, or is not as it was, and no part finds anything to select from."""
    held = Held(
        table=table("ledgers"),
        equal={"site_id": 1, "name": "n"},
        key="id",
        rows=[{"id": id_of(1), "lock_version": 4}, {"id": id_of(2), "lock_version": 5}],
    )
    statement, parameters = behind(held, changes())
    assert statement.startswith(
        "WITH fence AS (SELECT count(*) FROM unnest(CAST(CAST($3 AS text) AS uuid[]), CAST(CAST($4 AS text) AS bigint[])) "
        "AS listed (id, lock_version) CROSS JOIN LATERAL (SELECT FROM ledgers AS held "
        "WHERE held.site_id = CAST($1 AS bigint) AND held.name = CAST($2 AS text) "
        "AND held.lock_version = listed.lock_version AND held.id >= listed.id AND held.id <= listed.id "
        "ORDER BY held.id LIMIT 1 FOR UPDATE) AS found "
        "HAVING count(*) = CAST($5 AS bigint)), part_0 AS (INSERT INTO ledgers "
    )
    assert statement.endswith("SELECT count(*) FROM fence")
    assert statement.count("FROM fence CROSS JOIN unnest(") == statement.count("part_") == 3
    assert parameters[:5] == (1, "n", f"{{{id_of(1)},{id_of(2)}}}", "{4,5}", 2)
    assert parameters[5:] == ("{1}", ["{}"], "{1}", "{k}", "{1}", "{5}")


@pytest.mark.parametrize(
    ("kind", "values", "sent"),
    [
        ("bigint", [0, -(2**63), 2**63 - 1], "{0,-9223372036854775808,9223372036854775807}"),
        ("integer", [None, 5], "{NULL,5}"),
        ("smallint", [None], "{NULL}"),
        ("uuid", [id_of(1), None, id_of(2)], f"{{{id_of(1)},NULL,{id_of(2)}}}"),
        ("uuid", [None, None], "{NULL,NULL}"),
        ("text", ["debit", "credit", "Zürich"], "{debit,credit,Zürich}"),
        ("text", ["a", "b,c"], '{"a","b,c"}'),
        ("text", ["a", ""], '{"a",""}'),
        ("text", ["Null", None, "\\N"], '{"Null",NULL,"\\\\N"}'),
        ("text", ['say "a"', "a b"], '{"say \\"a\\"","a b"}'),
    ],
)
def test_numbers_ids_and_texts_are_sent_as_the_text_of_an_array(kind: str, values: list[Any], sent: str) -> None:
    """The driver looks at every element of a list, and at a text once; what is missing is no text."""
    convert = converter(kind, same=False)
    assert convert is not None
    assert convert(values) == sent


@pytest.mark.parametrize("stands", ["", "a", f"{id_of(1)},{id_of(2)}", "NULL", id_of(1)[:-1]])
def test_what_is_no_id_does_not_pass_for_several_or_for_none(stands: str) -> None:
    """The text of an array is taken apart at its commas: one more would move all that follows to another row."""
    convert = converter("uuid", same=False)
    assert convert is not None
    with pytest.raises(ValueError, match="none"):
        convert([id_of(3), stands])


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
    assert type_name(table(name).c[column]) == kind


def test_every_column_has_a_type_that_an_array_can_carry() -> None:
    """A new column of a new type is noticed here, not in the first batch that writes it."""
    for each in metadata.tables.values():
        for column in each.columns:
            if type_name(column) == "text":
                assert column.type.__visit_name__ in {"string", "text"}, f"{each.name}.{column.name}"
