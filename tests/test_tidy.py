"""The house rules that a linter does not know: sizes, names, places, and nothing left lying about."""

from __future__ import annotations

import ast
import re
import subprocess
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest

ROOT: Final = Path(__file__).parent.parent
PYPROJECT: Final[dict[str, Any]] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PACKAGES: Final[tuple[str, ...]] = tuple(PYPROJECT["tool"]["importlinter"]["root_packages"])
# Top-level folders with Python in them that are no part of the product.
BESIDE_THE_PRODUCT: Final = {"tests", "bench", "docs", "examples", "ops", "sdks"}

MODULE_LINES_MAX: Final = 400
FUNCTION_LINES_MAX: Final = 60
BANNED_NAMES: Final = re.compile(r"^_?(util|helper|common|misc|manager|service)s?$")
BANNED_TEXT: Final = {
    "a path of one machine": re.compile(rf"{re.escape(str(ROOT))}\b|/root/|/home/[a-z]"),
    "the address of a package registry": re.compile(
        r"pypi\.org|pythonhosted\.org|--(extra-)?index-url|--find-links|registry\.npmjs", re.IGNORECASE
    ),
}
PURE: Final = re.compile(r"\bPure[.:]")

Function = ast.FunctionDef | ast.AsyncFunctionDef


@cache
def files() -> tuple[Path, ...]:
    """Return every file that is or would be committed."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    if listed.returncode == 0:
        found = [ROOT / name for name in listed.stdout.decode().split("\0") if name]
    else:
        found = [
            path for path in ROOT.rglob("*") if not any(part.startswith(".") for part in path.parts[len(ROOT.parts) :])
        ]
    return tuple(sorted(path for path in found if path.is_file()))


def sources(*folders: str) -> list[Path]:
    """Return the Python files below these top-level folders; a migration is a list of statements, not a story."""
    return [
        path
        for path in files()
        if path.suffix == ".py" and path.relative_to(ROOT).parts[0] in folders and path.parent.name != "versions"
    ]


@cache
def tree(path: Path) -> ast.Module:
    """Return a file's syntax tree."""
    return ast.parse(path.read_text(encoding="utf-8"))


def functions(path: Path) -> Iterator[Function]:
    """Return every function of a file, nested ones too."""
    return (node for node in ast.walk(tree(path)) if isinstance(node, Function))


def at(path: Path, node: ast.AST | None = None) -> str:
    """Return a place as an editor opens it."""
    line = "" if node is None else f":{getattr(node, 'lineno', 1)}"
    return f"{path.relative_to(ROOT)}{line}"


def module_name(path: Path) -> str:
    """Return the dotted name of a product module."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def length(function: Function) -> int:
    """Return a function's lines without its decorators and docstring."""
    lines = (function.end_lineno or function.lineno) - function.lineno + 1
    first = function.body[0]
    if ast.get_docstring(function) is not None:
        lines -= (first.end_lineno or first.lineno) - first.lineno + 1
    return lines


def test_no_module_is_longer_than_400_lines() -> None:
    """A module tells one story."""
    long = {at(path): len(path.read_text(encoding="utf-8").splitlines()) for path in sources(*PACKAGES)}
    assert {name: lines for name, lines in long.items() if lines > MODULE_LINES_MAX} == {}


def test_no_function_is_longer_than_60_lines() -> None:
    """A function fits one screen."""
    long = {
        f"{at(path, function)} {function.name}": length(function)
        for path in sources(*PACKAGES, "tests", "bench")
        for function in functions(path)
        if length(function) > FUNCTION_LINES_MAX
    }
    assert long == {}


def test_no_import_stands_inside_a_function() -> None:
    """A hidden import is a hidden cycle."""
    hidden = [
        at(path, node)
        for path in sources(*PACKAGES, "tests", "bench")
        for function in functions(path)
        for node in ast.walk(function)
        if isinstance(node, ast.Import | ast.ImportFrom)
    ]
    assert hidden == []


def test_no_module_has_a_name_that_says_nothing() -> None:
    """A name is a noun of the field."""
    named = [at(path) for path in sources(*PACKAGES, "tests", "bench") if BANNED_NAMES.match(path.stem)]
    named += [at(path) for path in sources(*PACKAGES) if BANNED_NAMES.match(path.parent.name)]
    assert named == []


def test_every_module_says_what_it_is() -> None:
    """A module begins with a docstring."""
    silent = [at(path) for path in sources(*PACKAGES, "tests", "bench") if not ast.get_docstring(tree(path))]
    assert silent == []


def test_every_test_says_what_it_promises() -> None:
    """A test has a docstring: one sentence of meaning."""
    silent = [
        at(path, function)
        for path in sources("tests")
        if path.name.startswith("test_")
        for function in functions(path)
        if function.name.startswith("test_") and not ast.get_docstring(function)
    ]
    assert silent == []


def test_no_test_sleeps() -> None:
    """A test waits for a signal, or looks again and again in a loop with a deadline; time in the simulation costs none."""
    asleep = []
    for path in sources("tests"):
        if (ROOT / "tests" / "simulation") in path.parents:
            continue
        in_loops = {
            id(node)
            for loop in ast.walk(tree(path))
            if isinstance(loop, ast.While | ast.For | ast.AsyncFor)
            for node in ast.walk(loop)
        }
        asleep += [
            at(path, node)
            for node in ast.walk(tree(path))
            if isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr == "sleep"
            and id(node) not in in_loops
            and not (node.args and isinstance(node.args[0], ast.Constant) and node.args[0].value == 0)
        ]
    assert asleep == []


def test_nothing_of_ours_is_mocked() -> None:
    """Fakes are classes in `tests/fakes`, for the clock and the receiver only."""
    mocking = [at(path) for path in sources("tests") if imported(path) & {"unittest.mock", "unittest", "mock"}]
    assert mocking == []


def test_the_contracts_name_every_top_level_package() -> None:
    """A package that import-linter does not know could import anything."""
    found = {path.relative_to(ROOT).parts[0] for path in files() if path.suffix == ".py" and path.parent != ROOT}
    assert found - BESIDE_THE_PRODUCT == set(PACKAGES)


def test_every_module_that_calls_itself_pure_is_held_to_it() -> None:
    """The contract of the pure core lists exactly the modules whose docstring says `Pure`."""
    claimed = {
        module_name(path)
        for path in sources(*PACKAGES)
        if PURE.search((ast.get_docstring(tree(path)) or "").partition("\n\n")[0])
    }
    [contract] = [c for c in PYPROJECT["tool"]["importlinter"]["contracts"] if c["name"].startswith("The pure core")]
    assert claimed == set(contract["source_modules"])


def test_no_module_is_unreferenced() -> None:
    """What nothing in the product imports or runs is dead."""
    every = sources(*PACKAGES, "bench")
    referenced = {name for path in every for name in imported(path) if name != module_name(path)}
    referenced |= {target.partition(":")[0] for target in PYPROJECT["project"]["scripts"].values()}
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    referenced |= set(re.findall(r"python -m ([a-z_.]+)", makefile))
    dead = [
        at(path)
        for path in sources(*PACKAGES)
        if path.name not in {"__init__.py", "__main__.py"}
        and "migrations" not in path.parts
        and module_name(path) not in referenced
    ]
    assert dead == []


@pytest.mark.parametrize("what", BANNED_TEXT)
def test_the_repository_speaks_of_the_product_only(what: str) -> None:
    """No file names the machine it was written on or where its packages came from."""
    told = []
    for path in files():
        if path == Path(__file__):
            continue
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError:
            continue
        told += [f"{at(path)}:{number}" for number, line in enumerate(lines, 1) if BANNED_TEXT[what].search(line)]
    assert told == []


@cache
def imported(path: Path) -> frozenset[str]:
    """Return the dotted names a file imports; of `from a import b` both `a` and `a.b`."""
    names: set[str] = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module is not None and node.level == 0:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(names)
