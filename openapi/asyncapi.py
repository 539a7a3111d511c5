"""AsyncAPI 3.0 of the streams, built from the shapes that encode and decode their messages.

Two channels: server-sent events, whose messages are the `data:` of a block, and the WebSocket, on which the client speaks too.
"""

from __future__ import annotations

from typing import Any, Final

from engine.events import Envelope
from gateway.codes import CODES
from gateway.frames import CLIENT_FRAMES, SERVER_FRAMES, Error, Pong, Refreshed, Unsubscribed
from gateway.query import Parameter
from gateway.routes import SOCKET_PATH, SOCKET_QUERY
from gateway.socket import CLOSE_CODES, MESSAGE_MAX, SUBSCRIPTIONS_MAX
from gateway.starting import FEEDS_MAX, STREAM_PARAMETERS
from openapi.operations import query_schema
from openapi.schemas import Json, ref, schemas, shapes

VERSION: Final = "1.0.0"
STREAM_PATH: Final = "/v1/events/stream"
_DESCRIPTION: Final = f"""\
The feed of a site as it grows: the same events as webhooks carry and `GET /v1/events` lists, as the same bytes, over server-sent \
events and over WebSocket. A stream resumes from a cursor without a gap or a duplicate. `docs/streams.md` tells it to people.

On the WebSocket an array is events, an object is a word about a stream. Close codes 4000 to 4099 may come back with the same \
request, 4400 to 4499 not. At most {SUBSCRIPTIONS_MAX} subscriptions stand beside the stream a connection was opened with; a \
client's message has at most {MESSAGE_MAX} characters.
"""
_ONLY_ON_SOCKETS: Final = (Unsubscribed, Refreshed, Pong, Error)
_MESSAGES: Final = "#/components/messages/"


def build() -> Json:
    """Return the document."""
    said = [each.__name__ for each in SERVER_FRAMES]
    heard = [each.__name__ for each in CLIENT_FRAMES]
    in_blocks = [each.__name__ for each in SERVER_FRAMES if each not in _ONLY_ON_SOCKETS]
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "GLedger Live streams",
            "version": VERSION,
            "description": _DESCRIPTION,
            "license": {"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": {"socket": _server("ws", "WebSocket"), "stream": _server("http", "Server-sent events")},
        "channels": _channels(said, heard, in_blocks),
        "operations": {
            "sendOnSocket": _operation("send", "socket", "Write the feed, and words about it.", ["Events", *said]),
            "hearOnSocket": _operation("receive", "socket", "Do what the client asks.", heard),
            "sendInStream": _operation("send", "stream", "Write the feed, and words about it.", ["Event", *in_blocks]),
        },
        "components": {
            "messages": {
                "Events": _events(),
                "Event": {
                    "name": "Event",
                    "title": "An event",
                    "summary": "One envelope, on one line.",
                    "headers": _block_headers("The event's type."),
                    "payload": ref("Envelope"),
                },
                **{each.__name__: _message(each) for each in (*SERVER_FRAMES, *CLIENT_FRAMES)},
            },
            "schemas": _schemas(),
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "description": "An access token or an API key."},
                "apiKey": {"type": "httpApiKey", "in": "header", "name": "X-API-Key", "description": "An API key."},
                "ticket": {
                    "type": "httpApiKey", "in": "query", "name": "ticket",
                    "description": "A stream ticket, made by `POST /v1/stream_tickets`.",
                },
            },
        },
    }  # fmt: skip


def _channels(said: list[str], heard: list[str], in_blocks: list[str]) -> Json:
    return {
        "socket": {
            "address": SOCKET_PATH,
            "title": "WebSocket",
            "description": "What is refused is refused before the upgrade, as a problem document with its HTTP status.",
            "servers": [{"$ref": "#/servers/socket"}],
            "messages": _messages(["Events", *said, *heard]),
            "bindings": {"ws": {"method": "GET", "query": _query(SOCKET_QUERY), "bindingVersion": "0.1.0"}},
            "x-gledger-close-codes": {str(code): reason for reason, code in CLOSE_CODES.items()},
        },
        "stream": {
            "address": STREAM_PATH,
            "title": "Server-sent events",
            "description": "A message is the `data:` of a block; its headers here are the block's `id:` and `event:`. With "
            f"several tickets, each of another site (at most {FEEDS_MAX}), the feeds of all of them: words then say by "
            "`subscription` of which feed they are, and the `id:` has the place in each.",
            "servers": [{"$ref": "#/servers/stream"}],
            "messages": _messages(["Event", *in_blocks]),
            "x-gledger-query": _query(STREAM_PARAMETERS),
        },
    }


def _server(protocol: str, title: str) -> Json:
    return {
        "host": "{host}",
        "protocol": protocol,
        "title": title,
        "description": f"The server that this document came from; `{protocol}s` where it is served over TLS.",
        "variables": {"host": {"default": "127.0.0.1:8080", "description": "Host and port of the gateway."}},
        "security": [{"$ref": f"#/components/securitySchemes/{name}"} for name in ("bearer", "apiKey", "ticket")],
    }


def _messages(names: list[str]) -> Json:
    return {name: {"$ref": _MESSAGES + name} for name in names}


def _operation(action: str, channel: str, summary: str, names: list[str]) -> Json:
    return {
        "action": action,
        "channel": {"$ref": f"#/channels/{channel}"},
        "summary": summary,
        "messages": [{"$ref": f"#/channels/{channel}/messages/{name}"} for name in names],
    }


def _query(parameters: tuple[Parameter, ...]) -> Json:
    properties: Json = {}
    for each in parameters:
        for name in (each.name, *each.aliases):
            properties[name] = query_schema(each) | {"description": each.meaning}
    return {"type": "object", "properties": properties, "additionalProperties": False}


def _events() -> Json:
    return {
        "name": "Events",
        "title": "Events",
        "summary": "Envelopes in the feed's order, followed by the checkpoint that stands after them.",
        "payload": {"type": "array", "minItems": 1, "items": ref("Envelope")},
    }


def _message(shape: type[Any]) -> Json:
    said = " ".join((shape.__doc__ or "").split())
    found: Json = {"name": shape.__name__, "title": shape.__name__, "summary": said, "payload": ref(shape.__name__)}
    if shape in SERVER_FRAMES and shape not in _ONLY_ON_SOCKETS:
        found["headers"] = _block_headers(f"`{shape.__struct_config__.tag}`.")
    return found


def _block_headers(event: str) -> Json:
    return {
        "type": "object",
        "description": "Of a block of server-sent events; a WebSocket has none.",
        "properties": {
            "id": {
                "type": "string",
                "pattern": "^[A-Za-z0-9._-]+$",
                "description": "The cursor after the block; of several feeds theirs, joined by `_`.",
            },
            "event": {"type": "string", "description": event},
        },
    }


def _schemas() -> Json:
    """Return the shapes of the messages and of the envelope, with what they refer to."""
    found = shapes((*SERVER_FRAMES, *CLIENT_FRAMES))
    found["Error"]["properties"]["code"] = {"type": "string", "enum": sorted(CODES)}
    rest = schemas()
    wanted = [Envelope.__name__]
    while wanted:
        name = wanted.pop()
        if name not in found:
            found[name] = rest[name]
            wanted += _references(rest[name])
    return {name: found[name] for name in sorted(found)}


def _references(schema: Any) -> list[str]:
    if isinstance(schema, dict):
        own = [schema["$ref"].rpartition("/")[2]] if "$ref" in schema else []
        return own + [name for each in schema.values() for name in _references(each)]
    return [name for each in schema for name in _references(each)] if isinstance(schema, list) else []
