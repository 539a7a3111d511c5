"""The AsyncAPI document speaks of every message there is, and of nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from gateway.frames import CLIENT_FRAMES, SERVER_FRAMES, AnyClientFrame
from gateway.routes import ROUTES, SOCKET_PATH
from openapi import asyncapi

DOCUMENT = asyncapi.build()


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


def test_every_reference_resolves_and_nothing_is_left_over() -> None:
    """No dangling reference, no dead schema or message."""
    used = set(references(DOCUMENT))
    for each in used:
        found: Any = DOCUMENT
        for token in each.removeprefix("#/").split("/"):
            found = found[token]
    made = {
        f"#/components/{kind}/{name}"
        for kind in ("messages", "schemas", "securitySchemes")
        for name in DOCUMENT["components"][kind]
    }
    assert made <= used


def test_every_word_of_the_protocol_is_a_message_of_the_socket() -> None:
    """What is encoded and what is decoded, each with its tag."""
    messages = DOCUMENT["channels"]["socket"]["messages"]
    assert set(messages) == {"Events", *(each.__name__ for each in (*SERVER_FRAMES, *CLIENT_FRAMES))}
    assert set(CLIENT_FRAMES) == set(AnyClientFrame.__args__)
    for each in (*SERVER_FRAMES, *CLIENT_FRAMES):
        schema = DOCUMENT["components"]["schemas"][each.__name__]
        assert schema["properties"]["type"]["enum"] == [each.__struct_config__.tag]
        assert "type" in schema["required"]
    assert asyncapi.STREAM_PATH in {route.path for route in ROUTES}
    assert DOCUMENT["channels"]["socket"]["address"] == SOCKET_PATH
