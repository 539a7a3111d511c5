"""Mutation testing: a module is changed in one small way after the other, and its tests have to notice each.

    python -m tests.mutants engine.expressions tests/unit/engine/test_expressions.py tests/unit/engine/test_templates.py

Each mutant runs in a process of its own that never writes a file. What no test noticed is shown with its line, and the share that
was noticed is printed last; the status tells whether it reaches the bound.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import copy
import importlib.abc
import importlib.machinery
import importlib.util
import io
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import pytest

ROOT: Final = Path(__file__).parent.parent
TIMEOUT_S: Final = 10
_COMPARED: Final[dict[type[ast.cmpop], type[ast.cmpop]]] = {
    ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip
_JOINED: Final[dict[type[ast.operator], type[ast.operator]]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.FloorDiv, ast.FloorDiv: ast.Mult, ast.Div: ast.Mult,
    ast.Mod: ast.Mult, ast.Pow: ast.Mult, ast.BitOr: ast.BitAnd, ast.BitAnd: ast.BitOr,
}  # fmt: skip


class Mutated(importlib.abc.Loader, importlib.abc.MetaPathFinder):
    """Loads one module from a changed tree instead of its file."""

    def __init__(self, name: str, tree: ast.Module, path: Path) -> None:
        """Take the module's name, its changed tree, and the file it stands for."""
        self._name, self._tree, self._path = name, tree, path

    def find_spec(self, fullname: str, _path: Any = None, _target: Any = None) -> importlib.machinery.ModuleSpec | None:
        """Return how the module is loaded; every other one is somebody else's."""
        if fullname != self._name:
            return None
        return importlib.util.spec_from_file_location(fullname, self._path, loader=self)

    def exec_module(self, module: ModuleType) -> None:
        """Run the changed module."""
        exec(compile(self._tree, str(self._path), "exec"), module.__dict__)


def variants(node: ast.AST) -> Iterator[ast.AST]:
    """Return what may stand instead of a node: each a small mistake that somebody could make."""
    match node:
        case ast.Compare(ops=[operator, *_]) if type(operator) in _COMPARED:
            changed = copy.deepcopy(node)
            changed.ops[0] = _COMPARED[type(operator)]()
            yield changed
        case ast.BinOp(op=operator) if type(operator) in _JOINED:
            changed_operation = copy.deepcopy(node)
            changed_operation.op = _JOINED[type(operator)]()
            yield changed_operation
        case ast.BoolOp():
            other = copy.deepcopy(node)
            other.op = ast.Or() if isinstance(node.op, ast.And) else ast.And()
            yield other
            yield from (copy.deepcopy(value) for value in node.values)
        case ast.UnaryOp(op=ast.Not() | ast.USub()):
            yield copy.deepcopy(node.operand)
        case ast.Constant(value=bool() as value):
            yield ast.Constant(not value)
        case ast.Constant(value=int() as value):
            yield ast.Constant(value + 1)
            yield ast.Constant(value - 1)
        case ast.Constant(value=str() as value) if value:
            yield ast.Constant(f"XX{value}")
        case ast.Constant(value=None):
            yield ast.Constant("XX")
        case ast.IfExp():
            yield copy.deepcopy(node.body)
            yield copy.deepcopy(node.orelse)
        case ast.If() | ast.While():
            for value in (True, False) if isinstance(node, ast.If) else (False,):
                decided = copy.deepcopy(node)
                decided.test = ast.Constant(value)
                yield decided
        case ast.Return(value=ast.expr()):
            yield ast.Return(ast.Constant(None))
        case ast.Raise() | ast.AugAssign() | ast.Expr(value=ast.Call()) | ast.Continue():
            yield ast.Pass()
        case ast.Break():
            yield ast.Continue()
        case _:
            pass


def mutants(tree: ast.Module) -> Iterator[tuple[ast.Module, int, str]]:
    """Return the changed trees, each with the line and what stands there now; docstrings and annotations stay."""
    for place, node in enumerate(ast.walk(tree)):
        for changed in variants(node):
            made = copy.deepcopy(tree)
            # Walked in the same order, the copy has the same node at the same place.
            target = next(each for index, each in enumerate(ast.walk(made)) if index == place)
            if not _replace(made, target, changed):
                continue
            ast.fix_missing_locations(made)
            yield made, getattr(node, "lineno", 0), f"{ast.unparse(node)}  ->  {ast.unparse(changed)}"


def _replace(tree: ast.Module, target: ast.AST, changed: ast.AST) -> bool:
    for parent in ast.walk(tree):
        for name, value in ast.iter_fields(parent):
            if name in {"annotation", "returns", "decorator_list"}:
                continue
            if value is target:
                setattr(parent, name, ast.copy_location(changed, target))
                return not _is_docstring(parent, tree)
            if isinstance(value, list) and any(each is target for each in value):
                value[[each is target for each in value].index(True)] = ast.copy_location(changed, target)
                return True
    return False


def _is_docstring(parent: ast.AST, tree: ast.Module) -> bool:
    return isinstance(parent, ast.Expr) or parent is tree


def survives(name: str, tree: ast.Module, tests: Sequence[str]) -> bool:
    """Tell whether the tests pass with the module changed; one that hangs has been noticed."""
    child = os.fork()
    if child == 0:
        signal.alarm(TIMEOUT_S)
        path = ROOT / Path(*name.split(".")).with_suffix(".py")
        sys.meta_path.insert(0, Mutated(name, tree, path))
        silent = io.StringIO()
        with contextlib.redirect_stdout(silent), contextlib.redirect_stderr(silent):
            try:
                status = pytest.main(
                    [
                        "-x",
                        "-q",
                        "-c",
                        os.devnull,
                        f"--rootdir={ROOT}",
                        "--import-mode=importlib",
                        "--noconftest",
                        "-p",
                        "no:cacheprovider",
                        *tests,
                    ]
                )
            except BaseException:  # noqa: BLE001 - a module that cannot even be imported has been noticed too
                status = pytest.ExitCode.TESTS_FAILED
        os._exit(int(status))
    _, ended = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(ended) == 0


def _say(sentence: str) -> None:
    sys.stdout.write(f"{sentence}\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run every mutant of a module against its tests and say which were not noticed."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants")
    parser.add_argument("module", help="the module to change, as in engine.templates")
    parser.add_argument("tests", nargs="+", help="the test files that should notice")
    parser.add_argument("--at-least", type=float, default=85.0, help="the percentage that has to be noticed")
    parser.add_argument("--jobs", type=int, default=2)
    given = parser.parse_args(arguments)
    source = (ROOT / Path(*given.module.split(".")).with_suffix(".py")).read_text(encoding="utf-8")
    tree = ast.parse(source)
    if not survives(given.module, tree, given.tests):
        _say("The tests fail on the module as it is.")
        return 2
    cases = list(mutants(tree))
    with ThreadPoolExecutor(given.jobs) as pool:
        outcomes = list(pool.map(lambda case: survives(given.module, case[0], given.tests), cases))
    for (_, line, what), survived in zip(cases, outcomes, strict=True):
        if survived:
            _say(f"{given.module}:{line}: {what}")
    share = 100 * outcomes.count(False) / len(outcomes)
    _say(f"{given.module}: {outcomes.count(False)} of {len(outcomes)} mutants noticed, {share:.1f} %")
    return 0 if share >= given.at_least else 1


if __name__ == "__main__":
    sys.exit(main())
