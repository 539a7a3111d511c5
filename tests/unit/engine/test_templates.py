"""Templates: texts and amounts with expressions in them, what they come to, and what is refused where."""

from __future__ import annotations

from typing import Any

import pytest

from engine.event_errors import TemplateInvalid, ValueUnusable
from engine.expressions import Path, Rounding
from engine.templates import Template, parse, parse_amount, render, render_amount

VALUES: dict[str, Any] = {
    "a.text": "Jane's {{ wallet }}",
    "a.empty": "",
    "a.number": 1500,
    "a.negative": "-0.50",
    "a.decimal": 10.5,
    "a.yes": True,
    "a.no": False,
    "a.null": None,
    "a.list": [1],
    "a.object": {},
}


def lookup(path: Path) -> Any:
    """Return a value of the table above."""
    return VALUES[path.text]


def text_of(template: str, rounding: Rounding = "half_even") -> str:
    """Return what a text comes to."""
    return render(parse(template), lookup, rounding)


def amount_of(template: str, rounding: Rounding = "half_even") -> int:
    """Return what an amount comes to."""
    return render_amount(parse_amount(template), lookup, rounding)


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("", ""),
        ("plain } text { with }} brackets", "plain } text { with }} brackets"),
        ("Top up for {{a.text}}", "Top up for Jane's {{ wallet }}"),
        ("{{ a.number }}{{a.number}} {{a.number}}.", "15001500 1500."),
        ("{{a.empty}}", ""),
        ("{{ a.yes }}/{{ a.no }}", "true/false"),
        ("{{ a.decimal }}", "10.5"),
        ("{{ a.negative }}", "-0.50"),
        ("{{ a.negative * 1 }}", "-0.5"),
        ("{{ a.number / 100 }} EUR", "15 EUR"),
        ("{{ 1 / 3 }}", "0.333333333333"),
        ("{{ 2 / 3 }}", "0.666666666667"),
        ("{{ -2 / 3 }}", "-0.666666666667"),
        ("{{ -0.000000000001 * 1 }}", "-0.000000000001"),
        ("{{ 0.000000000001 }}", "0.000000000001"),
        ("{{ 0.0000000000001 }}", "0"),
        ("{{ 10 * 10 }}", "100"),
    ],
)
def test_a_text_is_rendered(template: str, text: str) -> None:
    """Text as it is, numbers without an exponent and without zeros at the end; nothing is rendered twice."""
    assert text_of(template) == text


def test_a_number_in_a_text_is_rounded_as_the_handler_rounds() -> None:
    """After twelve decimals."""
    assert [text_of("{{ 2 / 3 }}", each) for each in ("down", "up")] == ["0.666666666666", "0.666666666667"]


@pytest.mark.parametrize("name", ["a.null", "a.list", "a.object"])
def test_what_is_neither_text_nor_a_number_is_refused(name: str) -> None:
    """An object in a description would be a mistake that nobody sees."""
    with pytest.raises(ValueUnusable, match=rf"{name} is neither text nor a number\."):
        text_of(f"x {{{{{name}}}}}")


@pytest.mark.parametrize(
    ("template", "amount"),
    [
        ("100", 100),
        (" 100\n", 100),
        ("9223372036854775808", 9223372036854775808),
        ("{{ a.number }}", 1500),
        ("  {{a.number * 0.02}} ", 30),
        ("{{ 0.5 }}", 0),
        ("{{ 1.5 }}", 2),
        ("{{ -1 }}", -1),
    ],
)
def test_an_amount_comes_to_a_whole_number(template: str, amount: int) -> None:
    """Rounded once, at the end; its size and sign are for others to judge."""
    assert amount_of(template) == amount


def test_an_amount_is_rounded_as_the_handler_rounds() -> None:
    """Each way differs from the others somewhere."""
    ways: tuple[Rounding, ...] = ("half_even", "half_up", "down", "up")
    assert [[amount_of(text, each) for each in ways] for text in ("{{ 2.5 }}", "{{ 2.4 }}", "{{ 3.5 }}")] == [
        [2, 3, 2, 3],
        [2, 2, 2, 3],
        [4, 4, 3, 4],
    ]


ONE_THING = "At character 1: an amount is one '{{ expression }}' or a whole number, with nothing beside it."


@pytest.mark.parametrize(
    "template", ["", " ", "ten", "1.5", "-1", "1e3", "{{ a.number }}00", "1{{ a.number }}", "{{1}}{{2}}", "1" * 20, "١"]
)
def test_what_is_no_amount_is_refused(template: str) -> None:
    """A text beside the expression would make another number of it."""
    with pytest.raises(TemplateInvalid) as refused:
        parse_amount(template)
    assert refused.value.detail == ONE_THING


@pytest.mark.parametrize(
    ("template", "character", "why"),
    [
        ("{{", 3, "expected a number, a path, a function or '(', found the end"),
        ("Hello {{ }}", 10, "expected a number, a path, a function or '(', found '}'"),
        ("{{ a.text", 10, "expected an operator or '}}', found the end"),
        ("{{ a.text }", 11, "expected an operator or '}}', found '}'"),
        ("{{ a.text } }", 11, "expected an operator or '}}', found '}'"),
        ("{{ a.text b }}", 11, "expected an operator or '}}', found 'b'"),
        ("{{ a.text | upper }}", 11, "expected an operator or '}}', found '|'"),
        ("{{{ a.text }}}", 3, "expected a number, a path, a function or '(', found '{'"),
        ("x" * 1001, 1001, "a template has at most 1000 characters"),
        ("{{1}}" * 17, 81, "a template has at most 16 expressions"),
    ],
)
def test_what_cannot_be_read_is_named_by_its_character(template: str, character: int, why: str) -> None:
    """In the whole template, so that an editor finds it."""
    with pytest.raises(TemplateInvalid) as refused:
        parse(template)
    assert refused.value.detail == f"At character {character}: {why}."


def test_the_limits_themselves_are_allowed() -> None:
    """A thousand characters, sixteen expressions."""
    assert text_of("x" * 1000) == "x" * 1000
    assert text_of("{{1}}" * 16) == "1" * 16


@pytest.mark.parametrize(("template", "literal"), [("", ""), ("plain", "plain"), ("a {{1}}", None), ("{{1}}", None)])
def test_a_template_knows_whether_there_is_anything_to_render(template: str, literal: str | None) -> None:
    """What is not can be checked when the handler is made."""
    assert parse(template).literal == literal


def test_a_template_knows_its_paths_and_how_many_parts_it_has() -> None:
    """In all its expressions together."""
    template = parse("{{ a.b + 1 }} and {{ max(c.d, a.b) }}")
    assert [path.text for path in template.paths()] == ["a.b", "c.d", "a.b"]
    assert template.nodes == 6
    assert parse("plain") == Template(("plain",), 0)


def test_quoted_names_may_hold_what_ends_an_expression() -> None:
    """Two brackets inside a quoted name are a part of the name."""
    assert [path.segments for path in parse("{{ a['}}'] }}").paths()] == [("a", "}}")]
