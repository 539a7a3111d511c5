"""Mutation testing: a module is changed in one small way after the other, and its tests have to notice each.

    python -m tests.mutants engine.expressions tests/unit/engine/test_expressions.py tests/unit/engine/test_templates.py

The tests are collected once, and run once to see which of them enter which function. Each mutant then is a fork of that
process: the changed function takes the place of the right one, and the tests that enter it run, the quickest first, up to the
first that notices. What changes a module outside of its functions is loaded anew. No file is ever written. What no test
noticed is shown with its line, and the share that was noticed is printed last; the status tells whether it reaches the bound.

What says how code is written and not what it does is left alone: annotations, decorators and what a class is declared with,
docstrings, the type that `cast` names, the values of a `Literal`, and `strict=` of a `zip`.
"""

from __future__ import annotations

import argparse
import ast
import copy
import gc
import importlib.abc
import importlib.machinery
import importlib.util
import os
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import _lru_cache_wrapper
from pathlib import Path
from types import CodeType, FrameType, FunctionType, ModuleType
from typing import Any, Final

import hypothesis
import msgspec
import pytest
from _pytest.runner import runtestprotocol

ROOT: Final = Path(__file__).parent.parent
OURS: Final = ("auth", "bench", "delivery", "engine", "gateway", "gledger", "openapi", "tests")
LEAST_S: Final = 5.0
SLOWER: Final = 10
"""How many times longer than before the tests of a mutant may take."""
LOCALS: Final = ".<locals>"
_COMPARED: Final[dict[type[ast.cmpop], type[ast.cmpop]]] = {
    ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip
_JOINED: Final[dict[type[ast.operator], type[ast.operator]]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.FloorDiv, ast.FloorDiv: ast.Mult, ast.Div: ast.Mult,
    ast.Mod: ast.Mult, ast.Pow: ast.Mult, ast.BitOr: ast.BitAnd, ast.BitAnd: ast.BitOr,
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """A changed module, compiled: where it was changed, how, and in which function, if it was in one."""

    line: int
    what: str
    code: CodeType
    function: str | None


class Mutated(importlib.abc.Loader, importlib.abc.MetaPathFinder):
    """Loads one module from changed code instead of its file."""

    def __init__(self, name: str, code: CodeType, path: Path) -> None:
        """Take the module's name, its changed code, and the file it stands for."""
        self._name, self._code, self._path = name, code, path

    def find_spec(self, fullname: str, _path: Any = None, _target: Any = None) -> importlib.machinery.ModuleSpec | None:
        """Return how the module is loaded; every other one is somebody else's."""
        if fullname != self._name:
            return None
        return importlib.util.spec_from_file_location(fullname, self._path, loader=self)

    def exec_module(self, module: ModuleType) -> None:
        """Run the changed module."""
        exec(self._code, module.__dict__)


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


def mutants(tree: ast.Module, path: str) -> Iterator[Mutant]:
    """Return the changed modules, one after the other; the tree is as it was when the last one was taken."""
    for node, function, put in list(_places(tree)):
        for changed in variants(node):
            put(ast.copy_location(changed, node))
            ast.fix_missing_locations(tree)
            yield Mutant(
                line=getattr(node, "lineno", 0),
                what=f"{ast.unparse(node)}  ->  {ast.unparse(changed)}",
                code=compile(tree, path, "exec"),
                function=function,
            )
            put(node)


def _places(tree: ast.Module) -> Iterator[tuple[ast.AST, str | None, Callable[[ast.AST], None]]]:
    """Return every node that may be changed, the function it is in, and how another one is put in its place."""
    waiting: list[tuple[ast.AST, str, str | None]] = [(tree, "", None)]
    while waiting:
        parent, within, function = waiting.pop(0)
        for name, value in ast.iter_fields(parent):
            if _is_left_alone(parent, name):
                continue
            inside, inner = within, function
            if isinstance(parent, ast.ClassDef) and name == "body":
                inside = f"{within}{parent.name}."
            elif isinstance(parent, ast.FunctionDef | ast.AsyncFunctionDef) and name == "body":
                inner = function or f"{within}{parent.name}"
            for index, each in enumerate(value if isinstance(value, list) else [value]):
                if isinstance(each, ast.AST) and not _is_unseen(parent, name, index, each):
                    yield each, inner, _putter(parent, name, index if isinstance(value, list) else None)
                    waiting.append((each, inside, inner))


def _putter(parent: ast.AST, name: str, index: int | None) -> Callable[[ast.AST], None]:
    def put(node: ast.AST) -> None:
        if index is None:
            setattr(parent, name, node)
        else:
            getattr(parent, name)[index] = node

    return put


def _is_left_alone(parent: ast.AST, name: str) -> bool:
    """Tell whether a field holds nothing that a test could notice."""
    if name in {"annotation", "returns", "decorator_list"} or (isinstance(parent, ast.ClassDef) and name == "keywords"):
        return True
    return isinstance(parent, ast.Subscript) and isinstance(parent.value, ast.Name) and parent.value.id == "Literal"


def _is_unseen(parent: ast.AST, name: str, index: int, node: ast.AST) -> bool:
    match parent:
        case ast.Expr():
            return isinstance(node, ast.Constant)
        case ast.Call(func=ast.Name(id="cast")):
            return name == "args" and index == 0
        case ast.Call(func=ast.Name(id="zip")):
            return name == "keywords"
        case _:
            return False


def put_in_place(code: CodeType, path: str) -> None:
    """Let the functions of a module that is loaded run changed code."""
    changed = dict(_functions(code))
    for function in gc.get_objects():
        if isinstance(function, FunctionType) and function.__code__.co_filename == path:
            present = function.__code__
            other = changed.get((present.co_qualname, present.co_firstlineno))
            if other is not None and other.co_freevars == present.co_freevars:
                function.__code__ = other


def _functions(code: CodeType) -> Iterator[tuple[tuple[str, int], CodeType]]:
    for each in code.co_consts:
        if isinstance(each, CodeType):
            yield (each.co_qualname, each.co_firstlineno), each
            yield from _functions(each)


@dataclass(slots=True)
class Trial:
    """The tests of a module, and its mutants held against them: a plugin that runs the tests in its own way."""

    module: str
    path: Path
    jobs: int
    say: Callable[[str], None]
    outcomes: dict[int, bool] = field(default_factory=dict)
    cases: list[Mutant] = field(default_factory=list)
    passed: bool = False

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Run the tests on the module as it is, then on every mutant."""
        entered, took = self._look(session)
        if not entered:
            return True
        self.passed = True
        self.cases = list(mutants(ast.parse(self.path.read_text(encoding="utf-8")), str(self.path)))
        running: dict[int, int] = {}
        for number, case in enumerate(self.cases):
            while len(running) >= self.jobs:
                self._reap(running)
            tests = [
                item
                for item in sorted(session.items, key=lambda item: took[item.nodeid])
                if case.function is None or case.function in entered[item.nodeid]
            ]
            allowed = max(LEAST_S, SLOWER * sum(took[item.nodeid] for item in tests))
            running[_forked(lambda case=case, tests=tests: self._survives(case, tests), allowed)] = number  # type: ignore[misc]
        while running:
            self._reap(running)
        return True

    def _look(self, session: pytest.Session) -> tuple[dict[str, set[str]], dict[str, float]]:
        """Return which functions of the module each test enters, and how long it takes; nothing where one fails."""
        reading, writing = os.pipe()

        def look() -> bool:
            entered, took = {}, {}
            remembering = [each for each in gc.get_objects() if isinstance(each, _lru_cache_wrapper)]
            for item in session.items:
                started = time.perf_counter()
                if not _passes(item):
                    break
                took[item.nodeid] = time.perf_counter() - started
                seen: set[str] = set()
                # What is remembered would not be entered again.
                for each in remembering:
                    each.cache_clear()
                sys.settrace(_watching(str(self.path), seen))
                _passes(item)
                sys.settrace(None)
                entered[item.nodeid] = seen
            else:
                with os.fdopen(writing, "wb") as answer:
                    answer.write(msgspec.json.encode([entered, took]))
            return True

        child = _forked(look, 0)
        os.close(writing)
        with os.fdopen(reading, "rb") as answer:
            told = answer.read()
        os.waitpid(child, 0)
        return msgspec.json.decode(told, type=tuple[dict[str, set[str]], dict[str, float]]) if told else ({}, {})

    def _survives(self, case: Mutant, tests: Sequence[pytest.Item]) -> bool:
        if case.function is not None:
            put_in_place(case.code, str(self.path))
            return all(_passes(item) for item in tests)
        for name in [name for name in sys.modules if name.partition(".")[0] in OURS]:
            del sys.modules[name]
        sys.meta_path.insert(0, Mutated(self.module, case.code, self.path))
        return pytest.main([*_OPTIONS, "-x", *(item.nodeid for item in tests)]) == pytest.ExitCode.OK

    def _reap(self, running: dict[int, int]) -> None:
        child, ended = os.wait()
        number = running.pop(child)
        self.outcomes[number] = os.waitstatus_to_exitcode(ended) == 0
        if self.outcomes[number]:
            self.say(f"{self.module}:{self.cases[number].line}: {self.cases[number].what}")


_OPTIONS: Final = ("-q", "-c", os.devnull, f"--rootdir={ROOT}", "--import-mode=importlib", "--noconftest",
                   "-p", "no:cacheprovider", "-p", "no:xdist", "-p", "no:warnings", "--tb=no", "-s",
                   "-o", "asyncio_default_fixture_loop_scope=function")  # fmt: skip


def _forked(run: Callable[[], bool], allowed_s: float) -> int:
    """Run something in a fork of this process that says nothing and ends with 0 where it is true; return its id."""
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        signal.setitimer(signal.ITIMER_REAL, allowed_s)
        silent = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silent, 1)
        os.dup2(silent, 2)
        status = 0 if run() else 1
    finally:
        os._exit(status)


def _passes(item: pytest.Item) -> bool:
    return not any(report.failed for report in runtestprotocol(item, log=False, nextitem=None))


def _watching(path: str, seen: set[str]) -> Callable[[FrameType, str, Any], None]:
    def watch(frame: FrameType, event: str, _argument: Any) -> None:
        if event == "call" and frame.f_code.co_filename == path:
            seen.add(frame.f_code.co_qualname.partition(LOCALS)[0])

    return watch


def _say(sentence: str) -> None:
    sys.__stderr__.write(f"{sentence}\n")  # type: ignore[union-attr]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run every mutant of a module against its tests and say which were not noticed."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants")
    parser.add_argument("module", help="the module to change, as in engine.templates")
    parser.add_argument("tests", nargs="+", help="the tests that should notice: files, folders, or single ones")
    parser.add_argument("--at-least", type=float, default=85.0, help="the percentage that has to be noticed")
    parser.add_argument("--jobs", type=int, default=2)
    given = parser.parse_args(arguments)
    # Nothing of a mutant is remembered, and nobody needs to see the smallest example that notices it.
    phases = (hypothesis.Phase.explicit, hypothesis.Phase.generate)
    hypothesis.settings.register_profile("mutants", database=None, derandomize=True, deadline=None, phases=phases)
    hypothesis.settings.load_profile("mutants")
    warnings.simplefilter("ignore", SyntaxWarning)
    path = ROOT / Path(*given.module.split(".")).with_suffix(".py")
    trial = Trial(given.module, path, given.jobs, _say)
    pytest.main([*_OPTIONS, *given.tests], plugins=[trial])
    if not trial.passed:
        _say("The tests fail on the module as it is.")
        return 2
    noticed = list(trial.outcomes.values()).count(False)
    share = 100 * noticed / len(trial.outcomes)
    _say(f"{given.module}: {noticed} of {len(trial.outcomes)} mutants noticed, {share:.1f} %")
    return 0 if share >= given.at_least else 1


if __name__ == "__main__":
    sys.exit(main())
