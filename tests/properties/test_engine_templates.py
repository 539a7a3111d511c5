"""Templates under random texts and values: exact where they come to something, a refusal where they do not, always soon."""

from __future__ import annotations

from decimal import ROUND_DOWN, ROUND_HALF_EVEN, ROUND_HALF_UP, ROUND_UP, Decimal, localcontext
from fractions import Fraction
from typing import Any, Final

import msgspec
from hypothesis import example, given, settings
from hypothesis import strategies as st

from engine.definitions import Definition
from engine.errors import Refused
from engine.event_errors import HandlerInvalid, TemplateInvalid, ValueUnusable
from engine.event_handlers import compiled
from engine.expressions import BITS_MAX, Path, Reader, Rounding, evaluate, number_of, rounded
from engine.templates import parse, parse_amount, render, render_amount
from tests.unit.engine.desk import Desk
from tests.unit.engine.handling import handler, happened, line, metadata_query

ROUNDINGS: Final[dict[Rounding, str]] = {
    "half_even": ROUND_HALF_EVEN,
    "half_up": ROUND_HALF_UP,
    "down": ROUND_DOWN,
    "up": ROUND_UP,
}
PIECES = ["{{", "}}", "{", "}", "event", ".", "amount", "variables", "[", "]", "'", '"', "0", "1", "9" * 29, ".5", "+", "-",
          "*", "/", "(", ")", ",", "min", "max", "round", " ", "\t", "é", "\x00", "\ud800", "fee", "wallet", "id"]  # fmt: skip
SOUP = st.lists(st.sampled_from(PIECES), max_size=60).map("".join) | st.text(max_size=60)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20)
    | st.sampled_from(["1500", "-0.5", "9" * 40, "1e9", "external_id:a", "debit", "posted"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["amount", "id", "0", "x"]), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


def numbers() -> st.SearchStrategy[Any]:
    """Return expressions with what they come to: a text and a fraction."""
    whole = st.integers(0, 10**12).map(lambda value: (str(value), Fraction(value)))
    decimal = st.decimals(0, 10**6, places=4).map(lambda value: (f"{value:f}", Fraction(value)))

    def join(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
        pairs = st.tuples(inner, inner)
        return st.one_of(
            pairs.map(lambda two: (f"({two[0][0]} + {two[1][0]})", two[0][1] + two[1][1])),
            pairs.map(lambda two: (f"({two[0][0]}-{two[1][0]})", two[0][1] - two[1][1])),
            pairs.map(lambda two: (f"({two[0][0]} * {two[1][0]})", two[0][1] * two[1][1])),
            # Not filtered: hypothesis tells of what a filter refused by the text of all the strategies within one another.
            pairs.map(lambda two: (f"({two[0][0]}/{two[1][0]})", two[0][1] / two[1][1]) if two[1][1] else two[0]),
            pairs.map(lambda two: (f"min({two[0][0]}, {two[1][0]})", min(two[0][1], two[1][1]))),
            pairs.map(lambda two: (f"max({two[0][0]},{two[1][0]})", max(two[0][1], two[1][1]))),
            inner.map(lambda one: (f"-{one[0]}", -one[1])),
        )

    return st.recursive(whole | decimal, join, max_leaves=8)


@given(numbers())
def test_arithmetic_is_exact(case: tuple[str, Fraction]) -> None:
    """Against fractions put together beside the text."""
    text, expected = case
    reader = Reader(text, 0)
    try:
        expression = reader.expression()
    except TemplateInvalid as invalid:
        assert "nested" in invalid.detail or "parts" in invalid.detail
        return
    assert reader.place == len(text)
    assert evaluate(expression, lambda path: path, "half_even") == expected


@given(st.fractions(max_denominator=10**6), st.sampled_from(sorted(ROUNDINGS)))
def test_rounding_is_that_of_decimal_arithmetic(value: Fraction, rounding: Rounding) -> None:
    """The same four ways, with the same names, wherever the decimal is exact."""
    with localcontext() as context:
        context.prec = 200
        shifted = Decimal(value.numerator) / Decimal(value.denominator)
        if Fraction(shifted) == value:
            assert rounded(value, rounding) == int(shifted.quantize(Decimal(1), rounding=ROUNDINGS[rounding]))
    assert abs(rounded(value, rounding) - value) < 1


@given(st.integers(1, 10**15), st.sampled_from(sorted(ROUNDINGS)), st.decimals(0, 1, places=6))
def test_what_is_split_by_an_amount_adds_up(amount: int, rounding: Rounding, share: Decimal) -> None:
    """A part that was rounded once, and what is left of the whole."""
    part = parse_amount(f"{{{{ event.amount * {share:f} }}}}")
    cut = render_amount(part, lambda _path: amount, rounding)
    rest = parse_amount("{{ event.amount - fee }}")
    values = {"event.amount": amount, "fee": cut}
    assert render_amount(rest, lambda path: values[path.text], rounding) + cut == amount
    assert 0 <= cut <= amount


@settings(max_examples=400)
@given(SOUP, JSON, st.sampled_from(sorted(ROUNDINGS)))
@example("{{event.x}}", 5e-324, "half_even")
@example("{{event.x/event.x}}", 0.0, "up")
def test_any_text_is_read_or_refused_and_any_value_rendered_or_refused(
    text: str, value: Any, rounding: Rounding
) -> None:
    """Nothing else ever happens, and what is refused names a character of the text."""

    def lookup(path: Path) -> Any:
        if path.segments[-1] == "id":
            raise ValueUnusable(path.text, "is not there")
        return value

    for read, use in ((parse, render), (parse_amount, render_amount)):
        try:
            template = read(text)
            use(template, lookup, rounding)
        except TemplateInvalid as invalid:
            place = int(invalid.detail.removeprefix("At character ").partition(":")[0])
            assert 1 <= place <= len(text) + 1
        except ValueUnusable:
            pass


@given(JSON)
def test_any_json_value_is_a_number_or_is_none(value: Any) -> None:
    """And those that are fit what arithmetic may hold."""
    found = number_of(value)
    assert found is None or max(found.numerator.bit_length(), found.denominator.bit_length()) <= BITS_MAX


@settings(max_examples=200)
@given(st.data())
def test_any_handler_is_made_or_refused_and_handles_or_refuses_any_event(data: st.DataObject) -> None:
    """The books never meet anything but an entry or a refusal, and every refusal of a definition has a place."""
    desk = Desk()
    for name in "ab":
        desk.account(external_id=name, metadata={"user": name})
    text = st.sampled_from(
        ["external_id:a", "{{ w.id }}", "{{ event.x }}", "debit", "credit", "{{ fee }}", "1", "posted"]
    ) | SOUP.map(lambda soup: msgspec.json.decode(msgspec.json.encode(soup.encode("utf-8", "replace").decode())))
    lines = [line(data.draw(text), data.draw(text), data.draw(text)) for _ in range(2)]
    parts: dict[str, Any] = {
        "entries": [{"lines": lines, "description": data.draw(text), "external_id": data.draw(text)}],
        "variables": {"w": metadata_query(user=data.draw(text)), "fee": {"type": "amount", "value": data.draw(text) or "1"}},
        "rounding": data.draw(st.sampled_from(sorted(ROUNDINGS))),
    }  # fmt: skip
    try:
        command = handler(**parts)
    except msgspec.ValidationError:
        return
    try:
        desk.run(command)
    except HandlerInvalid as invalid:
        assert all(each.pointer.startswith(("/entries/0/", "/variables/")) for each in invalid.faults())
        return
    before = {name: desk.totals(desk.books.account_named(name) or "") for name in "ab"}
    try:
        decision = desk.run(happened(x=data.draw(JSON), amount=data.draw(JSON)))
    except Refused:
        assert {name: desk.totals(desk.books.account_named(name) or "") for name in "ab"} == before
    else:
        moved = [row for row in decision.lines if row["direction"] == "debit"]
        assert sum(row["amount"] for row in moved) * 2 == sum(row["amount"] for row in decision.lines)


@given(st.binary(max_size=40))
def test_a_definition_that_is_stored_is_read_as_it_was(noise: bytes) -> None:
    """Reading it twice gives the same, whatever stood in it."""
    texts = noise.decode("utf-8", "ignore").replace("\x00", "").replace("{{", "")
    definition = handler(entries=[{"lines": [line("external_id:a", "debit", 1)] * 2, "description": texts}]).definition
    stored = msgspec.json.encode(definition).decode()
    assert msgspec.json.decode(stored, type=Definition) == definition
    assert compiled(stored).entries[0].description == (parse(texts))
