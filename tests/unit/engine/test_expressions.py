"""Expressions: what is read, what each comes to, what is refused and at which character, and every limit."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest

from engine import expressions
from engine.errors import Refused
from engine.event_errors import TemplateInvalid, ValueUnusable
from engine.expressions import Path, Reader, Rounding, evaluate, number_of, parse_path, paths_of, rounded

VALUES = {"event.amount": 1000, "event.rate": "0.02", "event.decimal": 10.25, "event.text": "ten", "event.flag": True}


def lookup(path: Path) -> Any:
    """Return a value of the table above."""
    return VALUES[path.text]


def work_out(text: str, rounding: Rounding = "half_even") -> Fraction:
    """Read a whole text as an expression and return what it comes to."""
    reader = Reader(text, 0)
    expression = reader.expression()
    assert reader.place == len(text), text[reader.place :]
    return evaluate(expression, lookup, rounding)


@pytest.mark.parametrize(
    ("text", "comes_to"),
    [
        ("7", 7),
        ("0.02", Fraction(1, 50)),
        (" 1 + 2 ", 3),
        ("1+2*3", 7),
        ("(1+2)*3", 9),
        ("10-4-3", 3),
        ("10-(4-3)", 9),
        ("100/10/2", 5),
        ("100/(10/2)", 20),
        ("2*3/4", Fraction(3, 2)),
        ("1/3*3", 1),
        ("-3", -3),
        ("--3", 3),
        ("2*-3", -6),
        ("5 - -3", 8),
        ("event.amount", 1000),
        ("event.amount * 0.02", 20),
        ("event.amount*event.rate", 20),
        ("event.decimal * 100", 1025),
        ("min(3, 1, 2)", 1),
        ("max(3, 1+9, 2)", 10),
        ("min(7)", 7),
        ("round(2.5)", 2),
        ("round(3.5) + 1", 5),
        ("max(min(event.amount, 50), 10)\t\n", 50),
        ("((((1))))", 1),
    ],
)
def test_an_expression_comes_to_its_value(text: str, comes_to: Fraction | int) -> None:
    """As at school, and exactly."""
    assert work_out(text) == comes_to


@pytest.mark.parametrize(
    ("text", "character", "why"),
    [
        ("", 1, "expected a number, a path, a function or '(', found the end"),
        ("1 +", 4, "expected a number, a path, a function or '(', found the end"),
        ("* 2", 1, "expected a number, a path, a function or '(', found '*'"),
        ("(1", 3, "expected an operator or ')', found the end"),
        ("(1, 2)", 3, "expected an operator or ')', found ','"),
        ("min(1, 2", 9, "expected ',' or ')', found the end"),
        ("min()", 5, "expected a number, a path, a function or '(', found ')'"),
        ("round(1, 2)", 8, "expected an operator or ')', found ','"),
        ("1 + eval(2)", 5, "there is no function 'eval', only max, min, round"),
        ("event.min(1)", 1, "there is no function 'event.min', only max, min, round"),
        (".5", 1, "expected a number, a path, a function or '(', found '.'"),
        ("event.", 6, 'expected ".name", "[0]" or "[\'name\']", found \'.\''),
        ("event[", 6, 'expected ".name", "[0]" or "[\'name\']", found \'[\''),
        ("event['a]", 6, 'expected ".name", "[0]" or "[\'name\']", found \'[\''),
        ("event[-1]", 6, 'expected ".name", "[0]" or "[\'name\']", found \'[\''),
        ("'text'", 1, "expected a number, a path, a function or '(', found \"'\""),
        ("é", 1, "expected a number, a path, a function or '(', found 'é'"),
        ("٣", 1, "expected a number, a path, a function or '(', found '٣'"),
        ("1" * 31, 1, "a number has at most 30 digits before the point and 18 after it"),
        ("0." + "1" * 19, 1, "a number has at most 30 digits before the point and 18 after it"),
        ("(" * 16 + "1" + ")" * 16, 17, "brackets are nested more than 16 deep"),
        ("+".join(["1"] * 33), 65, "the expression has more than 64 parts"),
        ("-" * 64 + "1", 65, "the expression has more than 64 parts"),
        ("1+" + ".".join("a" * 13), 3, "the path is longer than 12 names or 200 characters"),
        ("a" * 201, 1, "the path is longer than 12 names or 200 characters"),
    ],
)
def test_what_cannot_be_read_is_named_by_its_character(text: str, character: int, why: str) -> None:
    """Counted from one, with what was expected there."""
    with pytest.raises(TemplateInvalid) as refused:
        Reader(text, 0).expression()
    assert refused.value.detail == f"At character {character}: {why}."


@pytest.mark.parametrize(
    "text",
    [
        "1" * 30 + "." + "1" * 18,
        "(" * 15 + "1" + ")" * 15,
        "+".join(["1"] * 32),
        "-" * 63 + "1",
        "event" + ".a" * 11,
        "a" * 200,
    ],
)
def test_what_is_as_large_as_it_may_be_is_read(text: str) -> None:
    """The limits themselves are allowed."""
    reader = Reader(text, 0)
    reader.expression()
    assert reader.place == len(text)


@pytest.mark.parametrize(
    ("text", "segments"),
    [
        ("event.name", ("event", "name")),
        ("event.items.0.amount", ("event", "items", "0", "amount")),
        ("event.items[12].x", ("event", "items", "12", "x")),
        ("event['user-id'][\"b c\"]", ("event", "user-id", "b c")),
        ("_a1.B_2", ("_a1", "B_2")),
    ],
)
def test_a_path_goes_through_names_places_and_quoted_names(text: str, segments: tuple[str, ...]) -> None:
    """Several spellings of one thing."""
    assert parse_path(text) == Path(segments, text)


@pytest.mark.parametrize(
    "text", ["", "event.name ", " event", "event.a b", "event..a", "1a", "event['']", "event[99999]"]
)
def test_what_is_no_path_is_refused(text: str) -> None:
    """A path stands alone."""
    with pytest.raises(TemplateInvalid):
        parse_path(text)


def test_the_rest_of_a_path_is_named() -> None:
    """What follows it is what is wrong."""
    with pytest.raises(TemplateInvalid, match=r"At character 8: expected the end of the path, found ' '\."):
        parse_path("event.a b")


def test_every_path_of_an_expression_is_found() -> None:
    """Whatever it stands in."""
    expression = Reader("-(a.b + 2) * max(c.d, 1 / e.f)", 0).expression()
    assert [path.text for path in paths_of(expression)] == ["a.b", "c.d", "e.f"]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("1 / 0", "A division is by zero"),
        ("1 / (event.amount - 1000)", "A division is by zero"),
        ("event.text", "event.text is no number"),
        ("event.flag + 1", "event.flag is no number"),
        ("*".join(["9" * 30] * 6), "A number on the way is too large"),
        ("1/" + "/".join(["9" * 30] * 6), "A number on the way is too large"),
    ],
)
def test_what_comes_to_nothing_is_refused(text: str, what: str) -> None:
    """With the reason."""
    with pytest.raises(ValueUnusable) as refused:
        work_out(text)
    assert refused.value.detail == f"{what}."


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (5, 5),
        (-5, -5),
        ("1500", 1500),
        ("-0.5", Fraction(-1, 2)),
        ("007", 7),
        (10.25, Fraction(41, 4)),
        (0.1, Fraction(1, 10)),
        (1e21, 10**21),
        ("9" * 30 + "." + "9" * 18, Fraction("9" * 30 + "." + "9" * 18)),
        (True, None),
        (None, None),
        ("", None),
        ("1e3", None),
        ("+1", None),
        (" 1", None),
        ("1 ", None),
        ("1\n", None),
        ("1.", None),
        (".5", None),
        ("1_000", None),
        ("1/2", None),
        ("٣", None),
        ("9" * 31, None),
        ("0." + "9" * 19, None),
        (1e300, None),
        (5e-324, None),
        (10**200, None),
        ([1], None),
        ({}, None),
    ],
)
def test_numbers_are_integers_decimals_and_their_text(value: object, number: Fraction | int | None) -> None:
    """Nothing else is one, however Python reads it."""
    assert number_of(value) == number


@pytest.mark.parametrize(
    ("rounding", "results"),
    [
        ("half_even", [-2, -2, -2, 0, 0, 0, 2, 2, 2, 2]),
        ("half_up", [-3, -2, -2, -1, 0, 1, 2, 2, 2, 3]),
        ("down", [-2, -1, -1, 0, 0, 0, 1, 1, 2, 2]),
        ("up", [-3, -2, -2, -1, 0, 1, 2, 2, 2, 3]),
    ],
)
def test_rounding_is_as_it_says(rounding: Rounding, results: list[int]) -> None:
    """Halves both ways, signs both ways, and whole numbers stay."""
    values = ["-2.5", "-1.6", "-1.5", "-0.5", "0", "0.5", "1.5", "1.6", "2", "2.5"]
    assert [rounded(Fraction(value), rounding) for value in values] == results


def test_up_and_half_up_differ_below_the_half() -> None:
    """A cent of a cent goes up only where it is told to."""
    assert [rounded(Fraction("1.001"), each) for each in ("up", "half_up")] == [2, 1]
    assert [rounded(Fraction("-1.001"), each) for each in ("up", "half_up")] == [-2, -1]


def test_round_rounds_as_the_handler_does() -> None:
    """One way of rounding for all of it."""
    assert [work_out("round(2.5)", each) for each in ("half_even", "half_up", "down", "up")] == [2, 3, 2, 3]


def test_reading_says_how_many_parts_it_read() -> None:
    """What a handler's limit is counted by: numbers, paths, functions and operators."""
    reader = Reader("-1 + min(a.b, 2)", 0)
    reader.expression()
    assert reader.nodes == 6


def test_both_refusals_are_the_books_own() -> None:
    """They reach a client by the table of problems."""
    assert issubclass(TemplateInvalid, Refused)
    assert issubclass(ValueUnusable, Refused)
    assert expressions.FUNCTIONS == ("max", "min", "round")


def test_brackets_beside_each_other_are_not_deep() -> None:
    """Only those within each other count."""
    reader = Reader("+".join(["(1)"] * 20), 0)
    assert evaluate(reader.expression(), lambda _: None, "half_even") == 20
