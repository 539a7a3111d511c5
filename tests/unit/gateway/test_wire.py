"""Bytes in and out: what is JSON, what is too much, and that the same request always has the same canonical bytes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request
from starlette.types import Message

from gateway import wire
from gateway.bodies import LedgerCreate
from gateway.entry_bodies import EntryCreate
from gateway.problems import Problem

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=20)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)


def parse(text: str | bytes) -> wire.Document:
    """Parse a body that is said to be JSON."""
    return wire.parse(text.encode() if isinstance(text, str) else text, "application/json")


def shuffled(value: Any, draw: st.DataObject) -> Any:
    """Return the same value with the fields of its objects in another order."""
    if isinstance(value, dict):
        return {name: shuffled(value[name], draw) for name in draw.draw(st.permutations(list(value)))}
    return [shuffled(each, draw) for each in value] if isinstance(value, list) else value


def request(messages: Iterator[Message], content_length: str | None = None) -> Request:
    """Return a request whose body comes in these messages."""

    async def receive() -> Message:
        return next(messages)

    headers = [] if content_length is None else [(b"content-length", content_length.encode())]
    return Request({"type": "http", "method": "POST", "path": "/", "headers": headers}, receive)


def pieces(*bodies: bytes) -> Iterator[Message]:
    """Return the messages of a body that comes in pieces."""
    last = len(bodies) - 1
    return iter([{"type": "http.request", "body": body, "more_body": at < last} for at, body in enumerate(bodies)])


@given(VALUES)
def test_json_is_read_as_what_it_says(value: Any) -> None:
    """Parsing loses nothing, and neither do the canonical bytes."""
    document = parse(json.dumps(value))
    assert document.value == value
    assert json.loads(document.canonical) == value


def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object of these fields; raises ValueError where one stands twice."""
    if len(dict(pairs)) != len(pairs):
        raise ValueError("twice")
    return dict(pairs)


def refuse(constant: str) -> None:
    """Refuse NaN and the infinities, which are Python's JSON and nobody else's."""
    raise ValueError(constant)


@given(VALUES, st.booleans(), st.data())
def test_what_was_cut_and_pasted_is_read_as_python_reads_it_or_refused_with_it(
    value: Any, escaped: bool, draw: st.DataObject
) -> None:
    """Whatever is left out, repeated or moved: what is no JSON, or has a field twice, is refused, and nothing else is."""
    text = json.dumps(value, ensure_ascii=escaped)
    places = sorted(draw.draw(st.lists(st.integers(0, len(text)), min_size=2, max_size=2)))
    piece = text[places[0] : places[1]]
    at = draw.draw(st.integers(0, len(text)))
    text = draw.draw(st.sampled_from([text, text[: places[0]] + text[places[1] :], text[:at] + piece + text[at:]]))
    try:
        expected = json.loads(text, object_pairs_hook=once, parse_constant=refuse)
        msgspec.json.encode(expected)
    except (ValueError, OverflowError):
        with pytest.raises(Problem):
            parse(text)
    else:
        assert parse(text).value == expected


@given(VALUES, st.data(), st.sampled_from([None, 1, "\t"]), st.booleans())
def test_the_same_request_has_the_same_canonical_bytes(
    value: Any, draw: st.DataObject, indent: int | str | None, ascii_only: bool
) -> None:
    """Field order, white space and escapes are not part of what was asked."""
    other = json.dumps(shuffled(value, draw), indent=indent, ensure_ascii=ascii_only)
    assert parse(other).canonical == parse(json.dumps(value)).canonical


@pytest.mark.parametrize(("one", "other"), [("5", "5.0"), ("5", "0.5e1"), ("0", "-0.0"), ('"/"', '"\\/"')])
def test_two_spellings_of_a_value_are_one(one: str, other: str) -> None:
    """JSON Schema calls 5 and 5.0 the same integer, and so do we."""
    assert parse(one) == parse(other)


@given(VALUES, VALUES)
def test_other_requests_have_other_canonical_bytes(one: Any, other: Any) -> None:
    """A key that was used for one request is not taken for another."""
    first, second = parse(json.dumps(one)), parse(json.dumps(other))
    assert (first.canonical == second.canonical) == (
        json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
    )


@given(st.binary(max_size=60) | st.text('{}[]":,\\ud80001.eE-+ \x00a', max_size=40).map(str.encode))
def test_whatever_comes_is_json_or_a_problem(body: bytes) -> None:
    """No byte string is our mistake."""
    try:
        document = parse(body)
    except Problem as problem:
        assert problem.code in {"request.malformed", "validation.duplicate_field", "validation.invalid_text"}
    else:
        assert parse(document.canonical) == document


@pytest.mark.parametrize(
    "content_type", ["application/json", "application/json; charset=utf-8", "Application/JSON ;a=b"]
)
def test_json_may_be_called_so_with_parameters(content_type: str) -> None:
    """The media type counts, in any case; its parameters do not."""
    assert wire.parse(b"{}", content_type).value == {}


@pytest.mark.parametrize("content_type", [None, "", "text/json", "application/json+x", "json"])
def test_what_is_not_called_json_is_not_read(content_type: str | None) -> None:
    """The body is not looked at: it may be anything."""
    with pytest.raises(Problem) as refused:
        wire.parse(b"{", content_type)
    assert refused.value.code == "unsupported_media_type"


def test_every_field_that_stands_twice_is_named_where_it_first_stands() -> None:
    """Which of two values counts is not for us to guess."""
    with pytest.raises(Problem) as refused:
        parse('{"a": [{"b/c": 1, "b/c": 2}], "d": 1, "d": 1, "d": 1}')
    assert [fault.pointer for fault in refused.value.faults] == ["/a/0/b~1c", "/d"]
    assert {fault.code for fault in refused.value.faults} == {"validation.duplicate_field"}


@pytest.mark.parametrize(
    ("body", "pointers"),
    [
        ('"\\u0000"', [""]),
        ('{"a": ["ok", "\\ud83d", "\\ud83d\\ude00"], "b": "\\ude00\\ud83d"}', ["/a/1", "/b"]),
        ('{"a": {"\\u0000": 1}}', ["/a"]),
    ],
)
def test_text_that_a_database_would_refuse_is_refused_here(body: str, pointers: list[str]) -> None:
    """NUL and half surrogate pairs have places; whole pairs are characters."""
    with pytest.raises(Problem) as refused:
        parse(body)
    assert [fault.pointer for fault in refused.value.faults] == pointers


async def test_a_body_of_exactly_the_limit_is_read() -> None:
    """The limit is the last size that is allowed."""
    assert await wire.read_body(request(pieces(b"abc", b"", b"de"), "5"), 5) == b"abcde"


@pytest.mark.parametrize("content_length", ["6", None, "5"])
async def test_a_byte_more_than_the_limit_is_too_large(content_length: str | None) -> None:
    """Whatever its length says."""
    with pytest.raises(Problem) as refused:
        await wire.read_body(request(pieces(b"abc", b"def"), content_length), 5)
    assert refused.value.code == "request.too_large"
    assert refused.value.headers == {"connection": "close"}


async def test_a_declared_length_that_is_too_large_is_refused_unread() -> None:
    """Nothing of the body is waited for."""
    with pytest.raises(Problem) as refused:
        await wire.read_body(request(iter(()), "6"), 5)
    assert refused.value.code == "request.too_large"


async def test_a_client_that_goes_in_the_middle_has_sent_nothing() -> None:
    """Half a request is none."""
    gone: list[Message] = [{"type": "http.request", "body": b"{", "more_body": True}, {"type": "http.disconnect"}]
    with pytest.raises(Problem) as refused:
        await wire.read_body(request(iter(gone)), 5)
    assert refused.value.code == "request.malformed"


def test_a_body_in_its_shape_is_decoded() -> None:
    """What is left out has its default."""
    assert wire.decode(parse('{"name": "Main"}'), LedgerCreate) == LedgerCreate(name="Main")


def test_everything_that_is_wrong_with_a_body_is_listed() -> None:
    """The first fault gives the problem its code; the others stand beside it."""
    with pytest.raises(Problem) as refused:
        wire.decode(parse('{"lines": [{"direction": "up", "amount": 0}], "x": 1}'), EntryCreate)
    problem = refused.value
    assert [(fault.code, fault.pointer) for fault in problem.faults] == [
        ("validation.required_field_missing", "/lines/0/account_id"),
        ("validation.invalid_value", "/lines/0/direction"),
        ("amount_out_of_range", "/lines/0/amount"),
        ("validation.unknown_field", "/x"),
    ]
    assert problem.code == "validation.required_field_missing"
    assert problem.detail.endswith("And 3 more, see errors.")


@pytest.mark.parametrize("value", [1, "1", "007", 2**63 - 1, str(2**63 - 1)])
def test_an_amount_is_an_integer_or_digits(value: int | str) -> None:
    """Both spellings are one number."""
    assert wire.amount_of(value, "/amount") == int(value)


@pytest.mark.parametrize("value", [0, -1, "0", 2**63, str(2**63)])
def test_an_amount_out_of_range_is_named(value: int | str) -> None:
    """What 64 bits cannot hold is refused at its place."""
    with pytest.raises(Problem) as refused:
        wire.amount_of(value, "/lines/3/amount")
    assert [(fault.code, fault.pointer) for fault in refused.value.faults] == [
        ("amount_out_of_range", "/lines/3/amount")
    ]


def test_a_time_is_rfc_3339_with_an_offset() -> None:
    """Microseconds since the epoch; none where none is given."""
    assert wire.instant_of("1970-01-01T01:00:00.000001+01:00", "/at") == 1
    assert wire.instant_of(None, "/at") is None
    with pytest.raises(Problem) as refused:
        wire.instant_of("1970-01-01T00:00:00", "/at")
    assert [(fault.code, fault.pointer) for fault in refused.value.faults] == [("validation.invalid_time", "/at")]


def test_an_answer_has_its_version_and_is_not_kept() -> None:
    """The ETag is the version in quotes; caches keep nothing unless the answer says so."""
    answer = wire.reply(b"{}", lock_version=7)
    assert (answer.headers["etag"], answer.headers["cache-control"]) == ('"7"', "no-store")
    assert wire.reply(b"{}", headers={"cache-control": "public"}).headers["cache-control"] == "public"
    assert "etag" not in wire.reply(b"{}").headers
