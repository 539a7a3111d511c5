"""Query parameters: each operation's own, each once, each in its form; everything else is refused, naming it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import QueryParams

from engine.queries import BOUND_OPERATORS
from gateway.problems import Problem
from gateway.query import CREATED, CURSOR, LIMIT, METADATA, TEXT_MAX, Asked, Parameter, read
from gateway.routes import ROUTES

SOME_ID = "01a1fcea-c843-7000-8084-afb8be9e573c"
EVERY_KIND = (
    LIMIT,
    CURSOR,
    METADATA,
    CREATED,
    Parameter(name="ledger_id", kind="id", meaning="An id."),
    Parameter(name="code", kind="text", meaning="A text."),
    Parameter(name="status", kind="choice", choices=("open", "closed"), meaning="A choice."),
    Parameter(name="closed", kind="boolean", meaning="Yes or no."),
    Parameter(name="from", kind="cursor", meaning="A cursor.", aliases=("since",)),
)


def asked(*pairs: tuple[str, str]) -> Asked:
    """Read these pairs."""
    return read(QueryParams(list(pairs)), EVERY_KIND)


def refused(*pairs: tuple[str, str]) -> list[tuple[str, str]]:
    """Return the code and pointer of every fault that these pairs have."""
    with pytest.raises(Problem) as problem:
        asked(*pairs)
    assert problem.value.code == problem.value.faults[0].code
    return [(fault.code, fault.pointer) for fault in problem.value.faults]


def test_every_kind_is_read_as_what_it_is() -> None:
    """A number is a number, a bound an instant, an alias the parameter it stands for."""
    found = asked(
        ("limit", "7"),
        ("ledger_id", SOME_ID),
        ("code", "a=b&c"),
        ("status", "open"),
        ("closed", "false"),
        ("since", "v1.x"),
        ("metadata[a b]", ""),
        ("metadata[c]", "é"),
        ("created_at[gte]", "1970-01-01T00:00:00Z"),
        ("created_at[lt]", "1970-01-01T00:00:01Z"),
    )
    assert dict(found.values) == {
        "limit": 7, "ledger_id": SOME_ID, "code": "a=b&c", "status": "open", "closed": False, "from": "v1.x",
    }  # fmt: skip
    assert found.metadata == {"a b": "", "c": "é"}
    assert found.bounds == {"created_at": {"gte": 0, "lt": 1_000_000}}


def test_nothing_asked_is_everything_wanted() -> None:
    """Without parameters a list is its first page."""
    selection = asked().selection("status")
    assert (selection.limit, selection.cursor, selection.equals) == (50, None, {})


def test_a_selection_has_the_columns_that_were_asked_for() -> None:
    """Only what was given narrows the list."""
    selection = asked(("status", "open"), ("limit", "3"), ("cursor", "p1.x")).selection("status", "code")
    assert (selection.limit, selection.cursor, selection.equals) == (3, "p1.x", {"status": "open"})


@pytest.mark.parametrize(
    ("pair", "code"),
    [
        (("limit", "0"), "validation.out_of_range"),
        (("limit", "101"), "validation.out_of_range"),
        (("limit", "-1"), "validation.out_of_range"),
        (("limit", "1.0"), "validation.out_of_range"),
        (("limit", "1\n"), "validation.out_of_range"),
        (("limit", "٥"), "validation.out_of_range"),
        (("limit", "9" * 400), "validation.out_of_range"),
        (("ledger_id", SOME_ID.upper()), "validation.invalid_value"),
        (("ledger_id", SOME_ID + "\n"), "validation.invalid_value"),
        (("status", "Open"), "validation.invalid_value"),
        (("closed", "yes"), "validation.invalid_value"),
        (("code", "\x00"), "validation.out_of_range"),
        (("code", "x" * (TEXT_MAX + 1)), "validation.out_of_range"),
        (("metadata", "a"), "validation.unknown_field"),
        (("metadata[]", "a"), "validation.invalid_value"),
        (("metadata[\x00]", "a"), "validation.invalid_value"),
        (("metadata[a]", "x" * 501), "validation.invalid_value"),
        (("metadata[a][b]", "x"), "validation.unknown_field"),
        (("metadata[a]\n", "x"), "validation.unknown_field"),
        (("status[a]", "open"), "validation.unknown_field"),
        (("created_at", "1970-01-01T00:00:00Z"), "validation.unknown_field"),
        (("created_at[eq]", "1970-01-01T00:00:00Z"), "validation.invalid_value"),
        (("created_at[gt]", "1970-01-01"), "validation.invalid_time"),
        (("Limit", "1"), "validation.unknown_field"),
        (("", ""), "validation.unknown_field"),
    ],
)
def test_what_is_not_in_its_form_is_refused_by_name(pair: tuple[str, str], code: str) -> None:
    """The pointer is the parameter as it was sent."""
    assert refused(pair) == [(code, f"?{pair[0]}")]


@pytest.mark.parametrize(
    ("pair", "detail"),
    [
        (("created_at", "1970-01-01T00:00:00Z"), "Write `created_at[gte]=time`: bounds, also gt, lt, lte."),
        (("metadata", "a"), "Write `metadata[key]=value`: only what has this pair."),
        (("status[eq]", "open"), "Write `status=…`, without brackets."),
        (("state", "open"), f"There is no such query parameter here; there are {', '.join(each.name for each in EVERY_KIND)}."),
        (("created_at[gt]", "1970-01-01T00:00:00 01:00"), "An RFC 3339 time with an offset; in an address `+` is written `%2B`."),
        (("created_at[gt]", "1970-01-01"), "An RFC 3339 time with an offset."),
    ],
)  # fmt: skip
def test_who_writes_a_parameter_wrongly_is_told_how_it_is_written(pair: tuple[str, str], detail: str) -> None:
    """A parameter that exists in another form is not said not to exist."""
    with pytest.raises(Problem) as problem:
        asked(pair)
    assert [fault.detail for fault in problem.value.faults] == [detail]


def test_where_nothing_can_be_asked_that_is_said() -> None:
    """An empty list of names would read like a mistake."""
    with pytest.raises(Problem) as problem:
        read(QueryParams([("limit", "1")]), ())
    assert [fault.detail for fault in problem.value.faults] == ["There are no query parameters here."]


def test_all_that_is_wrong_comes_at_once() -> None:
    """One answer is enough to repair a request."""
    assert refused(("limit", "0"), ("nope", ""), ("status", "x")) == [
        ("validation.out_of_range", "?limit"),
        ("validation.unknown_field", "?nope"),
        ("validation.invalid_value", "?status"),
    ]


@pytest.mark.parametrize(
    "pairs",
    [
        [("limit", "5"), ("limit", "5")],
        [("from", "a"), ("since", "a")],
        [("metadata[a]", "1"), ("metadata[a]", "1")],
        [("created_at[gt]", "1970-01-01T00:00:00Z"), ("created_at[gt]", "1970-01-01T00:00:00Z")],
    ],
)
def test_what_is_given_twice_is_refused(pairs: list[tuple[str, str]]) -> None:
    """Nobody guesses which of two counts, not even where they agree."""
    assert [pointer for _, pointer in refused(*pairs)] == [f"?{pairs[-1][0]}"]


def test_a_cursor_is_ascii() -> None:
    """What cannot be a cursor is refused as one, before anything is looked up."""
    with pytest.raises(Problem) as problem:
        asked(("cursor", "é"))
    assert problem.value.code == "cursor.invalid"


@pytest.mark.parametrize("operator", BOUND_OPERATORS)
def test_every_bound_is_taken(operator: str) -> None:
    """Four operators, as the meaning of the parameter says."""
    assert asked((f"created_at[{operator}]", "1970-01-01T00:00:00Z")).bounds["created_at"] == {operator: 0}


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["limit", "cursor", "metadata[a]", "created_at[gte]", "status", "ledger_id", "x"])
            | st.text(max_size=12),
            st.text(max_size=12) | st.sampled_from(["1", "open", SOME_ID, "2026-11-21T10:00:00Z"]),
        ),
        max_size=5,
    )
)
def test_whatever_is_asked_is_understood_or_refused(pairs: list[tuple[str, str]]) -> None:
    """No query is our mistake."""
    try:
        found: Any = asked(*pairs)
    except Problem as problem:
        assert problem.code == "cursor.invalid" or problem.faults
    else:
        assert len(found.values) + len(found.metadata) + sum(map(len, found.bounds.values())) == len(pairs)


def test_every_route_reads_nothing_as_nothing() -> None:
    """What a route does not require may be left out, and then has no value."""
    for route in ROUTES:
        optional = [each for each in route.query if not each.required]
        assert read(QueryParams(), optional) == Asked(values={}, metadata={}, bounds={})


def test_what_is_required_and_left_out_is_named() -> None:
    """Each of them once; one that was given wrongly is wrong, not missing."""
    needed = [Parameter(name=name, kind="instant", meaning="A time.", required=True) for name in ("from", "to", "at")]
    with pytest.raises(Problem) as refused:
        read(QueryParams("from=x&to=2026-01-01T00:00:00Z"), needed)
    assert [(each.code, each.pointer) for each in refused.value.faults] == [
        ("validation.invalid_time", "?from"),
        ("validation.required_field_missing", "?at"),
    ]
    assert read(QueryParams("at=1970-01-01T00:00:01Z"), needed[2:]).values == {"at": 1_000_000}
