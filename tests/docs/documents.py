"""The documents as tests read them: files, links, code blocks, places in the code."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
_BLOCK: Final = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK: Final = re.compile(r"\]\(([^)\s]+)\)")
_PLACE: Final = re.compile(r"`((?:\w+/)+\w+\.py)(?:::([\w.]+))?`")
_HEADING: Final = re.compile(r"^#+ (.*)$", re.MULTILINE)
_NO_ANCHOR: Final = re.compile(r"[^\w\- ]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A code block: the name of the document it stands in, its language, its text."""

    document: str
    language: str
    text: str


def documents() -> list[Path]:
    """Return every document that people read."""
    return [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]


def name(path: Path) -> str:
    """Return a document's name as it stands in the repository."""
    return str(path.relative_to(ROOT))


def blocks(path: Path, language: str) -> list[Block]:
    """Return a document's code blocks in a language."""
    found = _BLOCK.findall(path.read_text(encoding="utf-8"))
    return [Block(document=path.name, language=kind, text=text) for kind, text in found if kind == language]


def links(path: Path) -> list[str]:
    """Return where a document's links lead that stay in the repository."""
    prose = _BLOCK.sub("", path.read_text(encoding="utf-8"))
    return [target for target in _LINK.findall(prose) if "://" not in target]


def anchors(path: Path) -> set[str]:
    """Return the anchors that a document's headings make, as they are made where it is shown."""
    prose = _BLOCK.sub("", path.read_text(encoding="utf-8"))
    return {_NO_ANCHOR.sub("", heading.lower()).replace(" ", "-") for heading in _HEADING.findall(prose)}


def places(path: Path) -> list[tuple[str, str]]:
    """Return the places in the code that a document names: files, and symbols where it names some."""
    return _PLACE.findall(path.read_text(encoding="utf-8"))


def resolves(file: str, symbol: str) -> bool:
    """Tell whether a file of the repository exists and defines the symbol, a dotted one in its class."""
    path = ROOT / file
    if not path.is_file():
        return False
    body = _parsed(path).body
    for part in symbol.split(".") if symbol else ():
        node = next((each for each in body if part in set(_defined(each))), None)
        if node is None:
            return False
        body = node.body if isinstance(node, ast.ClassDef) else []
    return True


@cache
def _parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def _defined(node: ast.stmt) -> Iterator[str]:
    match node:
        case ast.ClassDef() | ast.FunctionDef() | ast.AsyncFunctionDef():
            yield node.name
        case ast.AnnAssign(target=ast.Name(id=target)):
            yield target
        case ast.Assign():
            yield from (each.id for each in node.targets if isinstance(each, ast.Name))
