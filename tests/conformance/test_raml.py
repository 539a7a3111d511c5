"""The RAML document as a parser that is not ours reads it: AMF, the reference implementation, of which RAML's authors take care."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from openapi import build as builder
from tests.conformance.streams.clients import NODE_FOLDER, NotHere, install_packages, node_program
from tests.conformance.streams.conftest import missing

_LINE: Final = {"account_id": "01890000-0000-7000-8000-000000000000", "direction": "debit", "amount": 100}
_CREDIT: Final = _LINE | {"direction": "credit", "amount": "100"}
_SAMPLES: Final[list[tuple[str, Any, bool]]] = [
    ("LedgerCreate", {"name": "Main"}, True),
    ("LedgerCreate", {"name": "Main", "metadata": {"team": "payments"}}, True),
    ("LedgerCreate", {"name": "Main", "metadata": {"team": 7}}, False),
    ("LedgerCreate", {"nam": "Main"}, False),
    ("LedgerCreate", {"name": "Main", "colour": "red"}, False),
    ("LedgerCreate", {"name": 7}, False),
    ("LedgerCreate", {"name": ""}, False),
    ("EntryCreate", {"lines": [_LINE, _CREDIT]}, True),
    ("EntryCreate", {"lines": [_LINE, _CREDIT], "external_id": None}, True),
    ("EntryCreate", {"lines": [_LINE, _CREDIT | {"direction": "both"}]}, False),
    ("EntryCreate", {"lines": [_LINE, _CREDIT | {"amount": "1 00"}]}, False),
    ("EntryCreate", {"lines": []}, False),
    ("EndpointCreate", {"url": "https://partner.example", "event_types": ["*"], "payload": "thin"}, True),
    ("EndpointCreate", {"url": "https://partner.example", "event_types": ["*"], "payload": ["/data/id"]}, True),
    ("EndpointCreate", {"url": "https://partner.example", "event_types": ["*"], "payload": "thick"}, False),
    ("Filter", {"all": [{"path": "/data/status", "equals": "posted"}, {"not": {"path": "/x", "exists": True}}]}, True),
    ("Filter", {"all": [{"path": "/data/status", "equals": {}}]}, False),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """What the parser made of a document."""

    wrong: list[str]
    operations: dict[str, dict[str, Any]]
    fits: list[bool]


def read(text: str) -> Read:
    """Have the parser read a document, and tell of each sample whether it is of its type."""
    try:
        install_packages()
    except NotHere as error:
        missing(str(error))
        raise
    given = json.dumps({"samples": [(name, payload) for name, payload, _ in _SAMPLES]})
    done = subprocess.run(
        [node_program(), NODE_FOLDER / "raml.mjs", given], input=text, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout)
    return Read(wrong=found["wrong"], operations=found["operations"], fits=found["fits"])


@cache
def committed() -> Read:
    """Return what the parser makes of the committed document."""
    return read((builder.FOLDER / "api.raml").read_text("utf-8"))


def described() -> dict[str, dict[str, Any]]:
    """Return the operations of the OpenAPI document by method and path."""
    paths = builder.build()["paths"].items()
    return {f"{method.upper()} {path}": each for path, methods in paths for method, each in methods.items()}


def test_the_document_is_valid_raml() -> None:
    """Every type, trait, security scheme and example holds."""
    assert committed().wrong == []


def test_every_operation_has_its_scopes_answers_and_bodies() -> None:
    """What the parser knows of each is what OpenAPI says of it: nothing is missing and nothing is more."""
    found = committed().operations
    assert sorted(found) == sorted(described())
    for name, operation in described().items():
        read_of = found[name]
        ways: list[tuple[str | None, list[str]]] = [
            next(iter(each.items()), (None, [])) for each in operation["security"]
        ]
        assert read_of["ways"] == [[way, scopes if way == "oauth2" else []] for way, scopes in ways], name
        assert read_of["statuses"] == sorted(operation["responses"]), name
        assert read_of["bodies"] == list(operation.get("requestBody", {}).get("content", {})), name
        asked = {each["name"] for each in operation["parameters"] if each.get("in") == "query"}
        assert {each.partition("[")[0] for each in read_of["query"]} == asked, name


def test_the_types_take_what_the_api_takes_and_refuse_what_it_refuses() -> None:
    """Optional and needed members, unions, maps, bounds, and what is not known."""
    assert committed().fits == [fits for _, _, fits in _SAMPLES]


def test_a_document_that_is_wrong_is_found_out() -> None:
    """The parser would tell: a type that is not there, a scope that is none."""
    small = (
        "#%RAML 1.0\ntitle: T\n/x:\n  get:\n    responses:\n      200:\n        body:\n          application/json:\n"
    )
    types = "types:\n" + "".join(
        f"  {name}: any\n" for name in ("LedgerCreate", "EntryCreate", "EndpointCreate", "Filter")
    )
    assert read(f"{small}            type: any\n{types}").wrong == []
    assert read(f"{small}            type: Missing\n{types}").wrong != []
