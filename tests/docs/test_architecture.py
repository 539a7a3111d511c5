"""What the documents say about the code is so: every place resolves, and the way of an entry begins where requests do."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from gateway.routes import ROUTES
from tests.docs.documents import ROOT, documents, name, places, resolves

ARCHITECTURE: Final = ROOT / "docs" / "ARCHITECTURE.md"
HOPS: Final = (
    "gateway/routes.py::ROUTES",
    "gateway/entries.py::post_entry",
    "engine/ledger.py::Engine.submit",
    "engine/writer.py::Writer.submit",
    "engine/batch.py::run_batch",
    "engine/posting.py::decide",
    "engine/store.py::save",
    "delivery/relay.py::Relay.run",
    "delivery/dispatch.py::Dispatcher.wake",
    "delivery/sender.py::Sender.post",
    "delivery/settle.py::settle",
)


@pytest.mark.parametrize("document", documents(), ids=name)
def test_every_place_in_the_code_that_a_document_names_is_there(document: Path) -> None:
    """A file that moved or a symbol with a new name takes its documents along."""
    gone = [f"{file}::{symbol}" for file, symbol in places(document) if not resolves(file, symbol)]
    assert gone == []


def test_a_place_that_is_not_there_does_not_resolve() -> None:
    """Neither another file, nor another symbol, nor a method of another class, nor what stands inside a function."""
    assert resolves("engine/writer.py", "Writer.submit")
    assert resolves("engine/writer.py", "")
    for file, symbol in (
        ("engine/writers.py", ""),
        ("engine/writer.py", "submit"),
        ("engine/writer.py", "Writer.send"),
        ("engine/ledger.py", "Engine.ask.read"),
    ):
        assert not resolves(file, symbol)


def test_the_way_of_an_entry_is_told_in_its_order() -> None:
    """From the route table to the settled delivery, each hop is named, in the order in which they are taken."""
    section = ARCHITECTURE.read_text(encoding="utf-8").partition("## The way of an entry")[2].partition("\n## ")[0]
    found = [section.find(f"`{hop}`") for hop in HOPS]
    assert -1 not in found, HOPS[found.index(-1)]
    assert found == sorted(found)
    [route] = [each for each in ROUTES if (each.method, each.path) == ("POST", "/v1/entries")]
    assert f"{route.handler.__module__.replace('.', '/')}.py::{route.handler.__name__}" == HOPS[1]


def test_every_package_has_its_place_in_the_house() -> None:
    """The drawing names each package of the program."""
    text = ARCHITECTURE.read_text(encoding="utf-8")
    packages = [path.parent.name for path in ROOT.glob("*/__init__.py") if path.parent.name not in {"tests", "bench"}]
    assert len(packages) == 6
    assert [each for each in packages if f"{each}/" not in text] == []
