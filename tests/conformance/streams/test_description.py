"""The description of the streams that the server hands out is valid by the specification's own schema."""

from __future__ import annotations

import json
from typing import Final

import pytest
from jsonschema import Draft7Validator

from tests.conformance.streams.clients import NotHere, install_packages
from tests.conformance.streams.conftest import Server, missing

SCHEMA: Final = "@asyncapi/specs/schemas/3.0.0-without-$id.json"


async def test_the_document_is_valid_asyncapi(server: Server) -> None:
    """AsyncAPI 3.0, by the JSON Schema that the initiative publishes."""
    try:
        modules = install_packages()
    except NotHere as error:
        missing(str(error))
        raise
    validator = Draft7Validator(json.loads((modules / SCHEMA).read_text("utf-8")))
    async with server.http.get(f"{server.url}/asyncapi.json") as answer:
        document = await answer.json()
    assert [(each.json_path, each.message) for each in validator.iter_errors(document)] == []
    with pytest.raises(AssertionError):
        assert list(validator.iter_errors({**document, "channels": 7})) == []
