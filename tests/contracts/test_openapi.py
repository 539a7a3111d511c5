"""The committed OpenAPI documents are the route table, and are valid."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from openapi_spec_validator import OpenAPIV31SpecValidator

from auth.scopes import SCOPES
from gateway.codes import CODES
from gateway.route import Route
from gateway.routes import ROUTES
from openapi import asyncapi
from openapi import build as builder
from openapi.operations import CODES_EXTENSION, operation_id, problem_codes

DOCUMENT = builder.build()
OPERATIONS: dict[str, dict[str, Any]] = {
    f"{method.upper()} {path}": operation
    for path, methods in DOCUMENT["paths"].items()
    for method, operation in methods.items()
}


def references(value: Any) -> Iterator[str]:
    """Return every reference in a document."""
    if isinstance(value, dict):
        for name, each in value.items():
            if name == "$ref":
                yield each
            else:
                yield from references(each)
    elif isinstance(value, list):
        for each in value:
            yield from references(each)


def resolve(pointer: str) -> Any:
    """Return what a reference within the document points to."""
    found: Any = DOCUMENT
    for token in pointer.removeprefix("#/").split("/"):
        found = found[token]
    return found


def test_the_committed_documents_are_the_built_ones() -> None:
    """Whoever changes the API sees it in the diff."""
    for name, text in builder.render(builder.build(), asyncapi.build()).items():
        where = builder.difference((builder.FOLDER / name).read_text(encoding="utf-8"), text)
        assert where is None, f"openapi/{name} differs from the route table at {where}; run `make openapi`"


def test_both_documents_say_the_same() -> None:
    """JSON and YAML are two spellings of one document."""
    texts = builder.render(DOCUMENT, {})
    assert json.loads(texts["openapi.json"]) == yaml.safe_load(texts["openapi.yaml"]) == DOCUMENT


def test_the_document_is_valid_openapi() -> None:
    """The specification's own schema accepts it."""
    assert list(OpenAPIV31SpecValidator(DOCUMENT).iter_errors()) == []


def test_every_operation_of_the_table_is_described_once() -> None:
    """Nothing is served that is not described, and nothing is described twice."""
    assert sorted(OPERATIONS) == sorted(f"{route.method} {route.path}" for route in ROUTES)


def test_operation_ids_are_unique() -> None:
    """A generated client has one function for each operation."""
    ids = [operation_id(route) for route in ROUTES]
    assert len(set(ids)) == len(ids)
    assert all(name.isidentifier() for name in ids)


def test_every_operation_is_explained() -> None:
    """An operation has a summary and a tag that the document introduces."""
    introduced = {tag["name"] for tag in DOCUMENT["tags"]}
    for name, operation in OPERATIONS.items():
        assert operation["summary"].endswith("."), name
        assert set(operation["tags"]) <= introduced, name


def test_every_component_is_used_and_every_reference_resolves() -> None:
    """No dead schema, no dangling reference."""
    used = set(references(DOCUMENT))
    for each in used:
        resolve(each)
    made = {
        f"#/components/{kind}/{name}"
        for kind, components in DOCUMENT["components"].items()
        if kind != "securitySchemes"
        for name in components
    }
    assert made == used


def test_the_scopes_of_the_document_are_the_scopes_there_are() -> None:
    """A client may ask the token endpoint for any scope that an operation names."""
    flow = DOCUMENT["components"]["securitySchemes"]["oauth2"]["flows"]["clientCredentials"]
    assert flow["scopes"] == dict(SCOPES)
    needed = {
        scope
        for operation in OPERATIONS.values()
        for way in operation["security"]
        for each in way.values()
        for scope in each
    }
    assert needed <= set(SCOPES)


@pytest.mark.parametrize("route", ROUTES, ids=operation_id)
def test_the_codes_of_an_answer_have_its_status(route: Route) -> None:
    """Every code an operation may answer stands at the answer of the code's own status, and nowhere else."""
    answers = OPERATIONS[f"{route.method} {route.path}"]["responses"]
    told: list[str] = []
    for status, answer in answers.items():
        whole = resolve(answer["$ref"]) if "$ref" in answer else answer
        codes = whole.get(CODES_EXTENSION, [])
        assert all(CODES[code].status == int(status) for code in codes)
        assert all(f"`{code}`" in whole["description"] for code in codes)
        told += codes
    assert sorted(told) == sorted(problem_codes(route))
    assert set(route.refusals) <= set(told)


def test_a_check_passes_where_nothing_differs(capsys: pytest.CaptureFixture[str]) -> None:
    """`--check` says nothing when there is nothing to say."""
    assert builder.main(["--check"]) == 0
    assert capsys.readouterr().err == ""


def test_a_check_names_the_first_difference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line says which file differs, and where."""
    monkeypatch.setattr(builder, "FOLDER", tmp_path)
    assert builder.main([]) == 0
    changed = copy.deepcopy(DOCUMENT)
    changed["paths"]["/v1/entries"]["post"]["summary"] = "Post."
    (tmp_path / "openapi.json").write_text(builder.render(changed, {})["openapi.json"], encoding="utf-8")
    assert builder.main(["--check"]) == 1
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("openapi/openapi.json differs from the route table at /paths/~1v1~1entries/post/summary;")


@pytest.mark.parametrize(
    ("committed", "where"),
    [
        ("", "/"),
        ("a: [1, 2", "the beginning: it cannot be read"),
        ("a: [1]\nb: {c: 1}\n", "/a/1"),
        ("a: [1, 2]\nb: {}\n", "/b/c"),
        ("a: [1, 2]\nb: {c: 1, d: 2}\n", "/b/d"),
        ("a: [1, 2]\nb: {c: 1}\n", "its layout"),
    ],
)
def test_a_difference_is_named_by_its_pointer(committed: str, where: str) -> None:
    """Whatever differs, the place is named."""
    assert builder.difference(committed, "a:\n- 1\n- 2\nb:\n  c: 1\n") == where
