"""The arithmetic of templates: one small grammar, a limit on everything, exact fractions. Pure.

    expression = term { ("+" | "-") term }
    term       = factor { ("*" | "/") factor }
    factor     = "-" factor | "(" expression ")" | number | call | path
    call       = ("min" | "max" | "round") "(" expression { "," expression } ")"
    path       = name { "." name | "." digits | "[" digits "]" | "[" quoted text "]" }

Nothing is rounded on the way: a third times three is one. It knows nothing of what paths lead to.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from decimal import Decimal
from fractions import Fraction
from typing import Any, Final, Literal

from msgspec import Struct

from engine.event_errors import TemplateInvalid, ValueUnusable

Rounding = Literal["half_even", "half_up", "down", "up"]

NODES_MAX: Final = 64
DEPTH_MAX: Final = 16
SEGMENTS_MAX: Final = 12
PATH_LENGTH_MAX: Final = 200
WHOLE_DIGITS_MAX: Final = 30
DECIMALS_MAX: Final = 18
BITS_MAX: Final = 512
"""How large numerator and denominator of anything that is worked out may be."""

FUNCTIONS: Final = ("max", "min", "round")
_BLANK: Final = " \t\r\n"
_NUMBER: Final = re.compile(r"([0-9]+)(?:\.([0-9]+))?", re.ASCII)
_DECIMAL: Final = re.compile(r"-?([0-9]+)(?:\.([0-9]+))?\Z", re.ASCII)
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_SEGMENT: Final = re.compile(
    r"\.([A-Za-z0-9_]+)|\[([0-9]{1,4})\]|\[\"([^\"\\]{1,100})\"\]|\['([^'\\]{1,100})'\]", re.ASCII
)


class Number(Struct, frozen=True):
    """A number as it is written."""

    value: Fraction


class Path(Struct, frozen=True):
    """A way to a value: the names and places to go through, and how it is written."""

    segments: tuple[str, ...]
    text: str


class Negative(Struct, frozen=True):
    """The opposite of an expression."""

    operand: Expression


class Operation(Struct, frozen=True):
    """Two expressions and what joins them."""

    operator: str
    left: Expression
    right: Expression


class Call(Struct, frozen=True):
    """A function of expressions."""

    function: str
    arguments: tuple[Expression, ...]


Expression = Number | Path | Negative | Operation | Call
Lookup = Callable[[Path], Any]
"""Returns the value that a path leads to; raises ValueUnusable where it leads nowhere."""


def parse_path(text: str) -> Path:
    """Read a path that stands alone; raises TemplateInvalid."""
    reader = Reader(text, 0)
    path = reader.path()
    if reader.place < len(text):
        raise reader.expected("the end of the path")
    return path


def paths_of(expression: Expression) -> Iterator[Path]:
    """Return the paths of an expression, in order."""
    match expression:
        case Path():
            yield expression
        case Negative():
            yield from paths_of(expression.operand)
        case Operation():
            yield from paths_of(expression.left)
            yield from paths_of(expression.right)
        case Call():
            for argument in expression.arguments:
                yield from paths_of(argument)
        case Number():
            pass


def evaluate(expression: Expression, lookup: Lookup, rounding: Rounding) -> Fraction:
    """Return what an expression comes to, exactly; raises ValueUnusable."""
    match expression:
        case Number():
            return expression.value
        case Path():
            return number_at(expression, lookup)
        case Negative():
            return -evaluate(expression.operand, lookup, rounding)
        case Call():
            return _called(
                expression.function, [evaluate(each, lookup, rounding) for each in expression.arguments], rounding
            )
        case Operation():
            left, right = evaluate(expression.left, lookup, rounding), evaluate(expression.right, lookup, rounding)
            return _joined(expression.operator, left, right)


def number_at(path: Path, lookup: Lookup) -> Fraction:
    """Return the number that a path leads to; raises ValueUnusable where it is none."""
    value = lookup(path)
    number = number_of(value)
    if number is None:
        raise ValueUnusable(path.text, "is no number", path=path.segments)
    return number


def number_of(value: object) -> Fraction | None:
    """Return a JSON value as a number: an integer, a decimal, or text of digits; None where it is none of these."""
    if isinstance(value, bool):
        return None
    if isinstance(value, float):
        # The shortest decimal that reads back as the same double: what was written, up to 15 digits.
        exact = Fraction(Decimal(repr(value)))
        return exact if _fits(exact) else None
    if isinstance(value, int):
        return Fraction(value) if value.bit_length() <= BITS_MAX else None
    if isinstance(value, str):
        found = _DECIMAL.match(value)
        if found is not None and len(found[1]) <= WHOLE_DIGITS_MAX and len(found[2] or "") <= DECIMALS_MAX:
            return Fraction(value)
    return None


def rounded(value: Fraction, rounding: Rounding) -> int:
    """Return the whole number that a value is rounded to.

    Of two as near, `half_even` takes the even one and `half_up` the one further from zero; `down` goes towards zero and
    `up` away from it.
    """
    if rounding == "half_even":
        return round(value)
    magnitude, sign = abs(value), -1 if value < 0 else 1
    whole = magnitude.numerator // magnitude.denominator
    rest = magnitude - whole
    further = rest >= Fraction(1, 2) if rounding == "half_up" else rest > 0 and rounding == "up"
    return sign * (whole + further)


def _called(function: str, arguments: list[Fraction], rounding: Rounding) -> Fraction:
    if function == "min":
        return min(arguments)
    if function == "max":
        return max(arguments)
    return Fraction(rounded(arguments[0], rounding))


def _joined(operator: str, left: Fraction, right: Fraction) -> Fraction:
    if operator == "+":
        found = left + right
    elif operator == "-":
        found = left - right
    elif operator == "*":
        found = left * right
    elif right:
        found = left / right
    else:
        raise ValueUnusable("A division", "is by zero")
    if not _fits(found):
        raise ValueUnusable("A number on the way", "is too large")
    return found


def _fits(value: Fraction) -> bool:
    return value.numerator.bit_length() <= BITS_MAX and value.denominator.bit_length() <= BITS_MAX


class Reader:
    """Reads expressions out of a text, from a place in it on; `place` is where it stands, `nodes` how many parts it has read."""

    def __init__(self, text: str, place: int) -> None:
        """Take the whole text, so that errors can name places in it."""
        self.text = text
        self.place = place
        self.nodes = 0
        self._depth = 0

    def expression(self) -> Expression:
        """Read an expression with the blanks around it; raises TemplateInvalid."""
        self._depth += 1
        if self._depth > DEPTH_MAX:
            raise self._fault(f"brackets are nested more than {DEPTH_MAX} deep")
        left = self._term()
        while self.next() in {"+", "-"}:
            left = self._operation(left, self._term)
        self._depth -= 1
        return left

    def path(self) -> Path:
        """Read a path; raises TemplateInvalid."""
        start = self.place
        name = _NAME.match(self.text, start)
        if name is None:
            raise self.expected("a name")
        self.place = name.end()
        segments = [name[0]]
        while self.place < len(self.text) and self.text[self.place] in ".[":
            segment = _SEGMENT.match(self.text, self.place)
            if segment is None:
                raise self.expected('".name", "[0]" or "[\'name\']"')
            segments.append(next(group for group in segment.groups() if group is not None))
            self.place = segment.end()
        if len(segments) > SEGMENTS_MAX or self.place - start > PATH_LENGTH_MAX:
            self.place = start
            raise self._fault(f"the path is longer than {SEGMENTS_MAX} names or {PATH_LENGTH_MAX} characters")
        return Path(tuple(segments), self.text[start : self.place])

    def next(self) -> str:
        """Return the next character that is no blank, and stand on it; nothing at the end."""
        while self.place < len(self.text) and self.text[self.place] in _BLANK:
            self.place += 1
        return self.text[self.place : self.place + 1]

    def expected(self, what: str) -> TemplateInvalid:
        """Return the fault that something else stands here than what was expected."""
        found = self.text[self.place : self.place + 1]
        return self._fault(f"expected {what}, found {found!r}" if found else f"expected {what}, found the end")

    def _fault(self, why: str) -> TemplateInvalid:
        return TemplateInvalid(self.place + 1, why)

    def _count(self) -> None:
        self.nodes += 1
        if self.nodes > NODES_MAX:
            raise self._fault(f"the expression has more than {NODES_MAX} parts")

    def _operation(self, left: Expression, operand: Callable[[], Expression]) -> Operation:
        self._count()
        operator = self.text[self.place]
        self.place += 1
        return Operation(operator, left, operand())

    def _term(self) -> Expression:
        left = self._factor()
        while self.next() in {"*", "/"}:
            left = self._operation(left, self._factor)
        return left

    def _factor(self) -> Expression:
        self._count()
        found = self.next()
        if found == "-":
            self.place += 1
            return Negative(self._factor())
        if found == "(":
            return self._bracket()[0]
        if found.isascii() and found.isdigit():
            return self._number()
        if _NAME.match(found) is None:
            raise self.expected("a number, a path, a function or '('")
        start = self.place
        path = self.path()
        if self.next() != "(":
            return path
        if path.text not in FUNCTIONS:
            self.place = start
            raise self._fault(f"there is no function {path.text!r}, only {', '.join(FUNCTIONS)}")
        arguments = self._bracket(many=path.text != "round")
        return Call(path.text, arguments)

    def _bracket(self, *, many: bool = False) -> tuple[Expression, ...]:
        self.place += 1
        found = [self.expression()]
        while many and self.next() == ",":
            self.place += 1
            found.append(self.expression())
        if self.next() != ")":
            raise self.expected("',' or ')'" if many else "an operator or ')'")
        self.place += 1
        return tuple(found)

    def _number(self) -> Number:
        found = _NUMBER.match(self.text, self.place)
        if found is None:
            raise self.expected("a number")
        if len(found[1]) > WHOLE_DIGITS_MAX or len(found[2] or "") > DECIMALS_MAX:
            raise self._fault(
                f"a number has at most {WHOLE_DIGITS_MAX} digits before the point and {DECIMALS_MAX} after it"
            )
        self.place = found.end()
        return Number(Fraction(found[0]))
