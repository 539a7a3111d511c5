"""The mutants that tests are held against: what is changed, what is left alone, and how a change takes its place."""

from __future__ import annotations

import ast
from typing import Any

import pytest

from tests.mutants import mutants, put_in_place

PLACE = "a module that is only here"


def changes(source: str) -> list[tuple[str, str | None]]:
    """Return how a module is changed, and in which function."""
    return [(" ".join(each.what.split()), each.function) for each in mutants(ast.parse(source), PLACE)]


def test_each_mutant_is_one_mistake() -> None:
    """In its function, or in none."""
    source = "BOUND = 1\nclass A:\n    def f(self, x):\n        def g(): return -x\n        return x < BOUND"
    assert sorted(changes(source), key=str) == sorted(
        [
            ("1 -> 2", None),
            ("1 -> 0", None),
            ("return -x -> return None", "A.f"),
            ("-x -> x", "A.f"),
            ("return x < BOUND -> return None", "A.f"),
            ("x < BOUND -> x <= BOUND", "A.f"),
        ],
        key=str,
    )


@pytest.mark.parametrize(
    "source",
    [
        '"""Words."""',
        "def f(x: int = y) -> Annotated[int, 5]:\n    '''Words.'''",
        "@dataclass(frozen=True)\nclass A(Struct, tag='x'):\n    '''Words.'''\n    b: Final[Literal['c']]",
        "Kind = Literal['one', 'two']",
        "found = cast('dict[str, int]', other)",
        "found = zip(one, other, strict=True)",
    ],
)
def test_what_says_how_code_is_written_is_left_alone(source: str) -> None:
    """No test could tell."""
    assert changes(source) == []


def test_the_tree_is_as_it_was_in_the_end() -> None:
    """Each mutant has one change and none of those before it."""
    source = "def f(x):\n    if x > 1 and x < 5:\n        return 'few'\n    raise ValueError('many')"
    tree = ast.parse(source)
    codes = [each.code for each in mutants(tree, PLACE)]
    assert ast.dump(tree) == ast.dump(ast.parse(source))
    assert len(codes) > 10
    assert len({each.co_consts[0] for each in codes}) == len(codes)


def test_changed_code_takes_the_place_of_the_right_one() -> None:
    """Wherever the function has gone to meanwhile."""
    source = "class A:\n    @property\n    def two(self): return 1 + 1\ndef f(): return [each + 1 for each in (1, 2)]"
    module: dict[str, Any] = {}
    exec(compile(source, PLACE, "exec"), module)
    kept, made = module["f"], module["A"]()
    for each in mutants(ast.parse(source), PLACE):
        if each.what.startswith(("1 + 1", "each + 1")):
            put_in_place(each.code, PLACE)
            assert (made.two, kept()) == ((0, [2, 3]) if each.function == "A.two" else (2, [0, 1]))
    put_in_place(compile(source, PLACE, "exec"), PLACE)
    assert (made.two, kept()) == (2, [2, 3])
