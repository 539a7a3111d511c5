"""Texts with `{{ expressions }}` in them: read once, rendered for each business event. Pure.

A template that is an amount is one expression or digits, and comes to a whole number of minor units; any other is text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from fractions import Fraction
from typing import Final

from msgspec import Struct

from engine.event_errors import TemplateInvalid, ValueUnusable
from engine.expressions import Expression, Lookup, Path, Reader, Rounding, evaluate, number_of, paths_of, rounded

TEMPLATE_LENGTH_MAX: Final = 1_000
EXPRESSIONS_MAX: Final = 16
TEXT_DECIMALS: Final = 12
"""How many decimals a number that was worked out has at most where it stands in a text."""

_OPEN: Final = "{{"
_CLOSE: Final = "}}"
_WHOLE: Final = re.compile(r"[0-9]{1,19}\Z", re.ASCII)
_SIGNED: Final = re.compile(r"-?[0-9]{1,19}\Z", re.ASCII)


class Template(Struct, frozen=True):
    """A text that was read: pieces that stand as they are, and expressions between them, of so many nodes together."""

    parts: tuple[str | Expression, ...]
    nodes: int = 0

    def paths(self) -> Iterator[Path]:
        """Return the paths of all expressions."""
        for part in self.parts:
            if not isinstance(part, str):
                yield from paths_of(part)

    @property
    def literal(self) -> str | None:
        """The text where nothing in it is to be rendered."""
        if not self.parts:
            return ""
        first = self.parts[0]
        return first if len(self.parts) == 1 and isinstance(first, str) else None


def parse(text: str) -> Template:
    """Read a template; raises TemplateInvalid naming the place and what was expected there."""
    if len(text) > TEMPLATE_LENGTH_MAX:
        raise TemplateInvalid(TEMPLATE_LENGTH_MAX + 1, f"a template has at most {TEMPLATE_LENGTH_MAX} characters")
    parts: list[str | Expression] = []
    expressions = nodes = place = 0
    while place < len(text):
        start = text.find(_OPEN, place)
        if start < 0:
            parts.append(text[place:])
            break
        if start > place:
            parts.append(text[place:start])
        expressions += 1
        if expressions > EXPRESSIONS_MAX:
            raise TemplateInvalid(start + 1, f"a template has at most {EXPRESSIONS_MAX} expressions")
        reader = Reader(text, start + len(_OPEN))
        parts.append(reader.expression())
        nodes += reader.nodes
        if reader.next() != "}" or not text.startswith(_CLOSE, reader.place):
            raise reader.expected("an operator or '}}'")
        place = reader.place + len(_CLOSE)
    return Template(tuple(parts), nodes)


def parse_amount(text: str, *, signed: bool = False) -> Template:
    """Read a template that is an amount: one expression, or a whole number, with a sign where one may be.

    Raises TemplateInvalid.
    """
    template = parse(text.strip())
    literal, whole = template.literal, _SIGNED if signed else _WHOLE
    if len(template.parts) != 1 or (literal is not None and whole.match(literal) is None):
        raise TemplateInvalid(1, "an amount is one '{{ expression }}' or a whole number, with nothing beside it")
    return template


def render(template: Template, lookup: Lookup, rounding: Rounding) -> str:
    """Return the text with what its expressions come to; raises ValueUnusable."""
    return "".join(part if isinstance(part, str) else _text(part, lookup, rounding) for part in template.parts)


def render_amount(template: Template, lookup: Lookup, rounding: Rounding) -> int:
    """Return what an amount comes to, rounded to a whole number of minor units; raises ValueUnusable."""
    [part] = template.parts
    return int(part) if isinstance(part, str) else rounded(evaluate(part, lookup, rounding), rounding)


def _text(expression: Expression, lookup: Lookup, rounding: Rounding) -> str:
    if not isinstance(expression, Path):
        return _decimal(evaluate(expression, lookup, rounding), rounding)
    value = lookup(expression)
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    number = number_of(value)
    if number is None:
        raise ValueUnusable(expression.text, "is neither text nor a number", path=expression.segments)
    return _decimal(number, rounding)


def _decimal(value: Fraction, rounding: Rounding) -> str:
    """Return a number as text, without an exponent and without zeros at its end."""
    shifted = rounded(value * 10**TEXT_DECIMALS, rounding)
    whole, decimals = divmod(abs(shifted), 10**TEXT_DECIMALS)
    sign = "-" if shifted < 0 else ""
    shown = f"{decimals:0{TEXT_DECIMALS}d}".rstrip("0")
    return f"{sign}{whole}.{shown}" if shown else f"{sign}{whole}"
