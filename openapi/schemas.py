"""The schemas: every shape of the route table as JSON Schema 2020-12, made from the structs that encode and decode it.

What a struct's type cannot say is added by the API's own conventions: a member that ends in `_at` is a time, one that ends
in `_id` is the id of a resource. Answers are open: a client ignores members it does not know.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, Literal

import msgspec
from msgspec import Struct

from engine.events import EVENT_TYPES
from gateway.codes import CODES
from gateway.route import Route
from gateway.routes import ROUTES

Json = dict[str, Any]

REF: Final = "#/components/schemas/"
UUID: Final = "^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"

_TIMES: Final = frozenset(("at", "timestamp", "failing_since"))
_FREE_IDS: Final = frozenset(("correlation_id", "external_id"))


class Fault(Struct, frozen=True):
    """One thing that is wrong: `pointer` is a JSON pointer (RFC 6901) into the body, or `?name` for a query parameter."""

    code: str
    pointer: str
    detail: str


class Problem(Struct, frozen=True):
    """What went wrong, as RFC 9457 has it. `errors` lists everything that is wrong with the request, not the first thing."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    errors: list[Fault]
    retryable: bool
    request_id: str
    correlation_id: str | None
    earliest: str | msgspec.UnsetType = msgspec.UNSET
    head: str | msgspec.UnsetType = msgspec.UNSET
    checks: dict[str, bool] | msgspec.UnsetType = msgspec.UNSET


class AccessToken(Struct, frozen=True):
    """An access token; it is sent as `Authorization: Bearer`, and good for `expires_in` seconds."""

    access_token: str
    token_type: Literal["Bearer"]
    expires_in: int
    scope: str


class Introspection(Struct, frozen=True, omit_defaults=True):
    """What a token says; of one that is not good, or not of the client's site, only that it is not `active`."""

    active: bool
    token_type: Literal["Bearer"] | msgspec.UnsetType = msgspec.UNSET
    scope: str | msgspec.UnsetType = msgspec.UNSET
    client_id: str | msgspec.UnsetType = msgspec.UNSET
    iss: str | msgspec.UnsetType = msgspec.UNSET
    aud: str | msgspec.UnsetType = msgspec.UNSET
    sub: str | msgspec.UnsetType = msgspec.UNSET
    org: str | msgspec.UnsetType = msgspec.UNSET
    env: str | msgspec.UnsetType = msgspec.UNSET
    site: int | msgspec.UnsetType = msgspec.UNSET
    iat: int | msgspec.UnsetType = msgspec.UNSET
    exp: int | msgspec.UnsetType = msgspec.UNSET
    jti: str | msgspec.UnsetType = msgspec.UNSET


class OAuthError(Struct, frozen=True):
    """An error of the authorization server (RFC 6749 §5.2)."""

    error: str
    error_description: str | msgspec.UnsetType = msgspec.UNSET


class ServerMetadata(Struct, frozen=True):
    """The authorization server described (RFC 8414 §2)."""

    issuer: str
    token_endpoint: str
    jwks_uri: str
    scopes_supported: list[str]
    response_types_supported: list[str]
    grant_types_supported: list[str]
    token_endpoint_auth_methods_supported: list[str]
    revocation_endpoint: str
    revocation_endpoint_auth_methods_supported: list[str]
    introspection_endpoint: str
    introspection_endpoint_auth_methods_supported: list[str]


class Jwk(Struct, frozen=True):
    """A public key that access tokens are verified with (RFC 7517 §4)."""

    kty: Literal["EC"]
    crv: Literal["P-256"]
    x: str
    y: str
    kid: str
    alg: Literal["ES256"]
    use: Literal["sig"]


class JwkSet(Struct, frozen=True):
    """The public keys of both environments (RFC 7517 §5)."""

    keys: list[Jwk]


class Health(Struct, frozen=True):
    """The process answers."""

    status: Literal["ok"]


class Readiness(Struct, frozen=True):
    """The process can serve: each part it needs, by name."""

    status: Literal["ready"]
    checks: dict[str, bool]


BESIDE_THE_TABLE: Final = (
    Problem, Fault, AccessToken, Introspection, OAuthError, ServerMetadata, JwkSet, Health, Readiness,
)  # fmt: skip
"""Shapes that no route names, because no struct of the product encodes them: they are checked against real answers."""


def schemas() -> Json:
    """Return every component schema by its name, in alphabetical order."""
    bodies = _components(route.body for route in ROUTES)
    # What is answered as it was asked stands as it is asked: nothing beside it is taken, and nothing else is shown.
    answers = {
        name: schema
        for name, schema in _components(route.answer for route in ROUTES).items()
        if bodies.get(name) != schema
    }
    others = _components(BESIDE_THE_TABLE)
    for schema in answers.values():
        _say_conventions(schema)
        schema.pop("additionalProperties", None)
    answers |= {page_name(route): _page(route) for route in ROUTES if route.page}
    _fill_raw(answers)
    others["Problem"]["properties"] |= _problem_members()
    found = bodies | answers | others
    if len(found) != len(bodies) + len(answers) + len(others):
        raise ValueError("two shapes have one name")
    return {name: _as_ecma(found[name]) for name in sorted(found)}


def shapes(types: Iterable[Any]) -> Json:
    """Return component schemas of shapes that no route names, and of what they refer to."""
    return {name: _as_ecma(schema) for name, schema in _components(types).items()}


def ref(name: str) -> Json:
    """Return a reference to a component schema."""
    return {"$ref": REF + name}


def page_name(route: Route) -> str:
    """Return the name of a list's page."""
    return f"{route.answer.__name__}Page"


def answer_name(route: Route) -> str | None:
    """Return the name of the shape a route answers with, None where the table names none."""
    if route.answer is None:
        return None
    return page_name(route) if route.page else str(route.answer.__name__)


def _components(types: Iterable[Any]) -> Json:
    wanted = list(dict.fromkeys(each for each in types if each is not None))
    return msgspec.json.schema_components(wanted, ref_template=REF + "{name}")[1]


def _as_ecma(schema: Any) -> Any:
    """Write patterns as JSON Schema has them: there `$` is the end of a text and needs no guard against a last line end."""
    if isinstance(schema, dict):
        pattern = schema.get("pattern")
        guarded = {"pattern": pattern.removesuffix(r"(?!\n)")} if isinstance(pattern, str) else {}
        return {name: _as_ecma(each) for name, each in schema.items()} | guarded
    return [_as_ecma(each) for each in schema] if isinstance(schema, list) else schema


def _say_conventions(schema: Json) -> None:
    """Say of every member what its name says: a time, an id, a 64-bit integer."""
    for name, member in schema.get("properties", {}).items():
        for each in (member, *member.get("anyOf", ())):
            match each.get("type"):
                case "string" if name in _TIMES or name.endswith("_at"):
                    each["format"] = "date-time"
                case "string" if (name == "id" or name.endswith("_id")) and name not in _FREE_IDS:
                    each["format"] = "uuid"
                case "integer":
                    each["format"] = "int64"


def _page(route: Route) -> Json:
    name = route.answer.__name__
    return {
        "title": page_name(route),
        "description": f"A page of a list of {name}.",
        "type": "object",
        "properties": {
            "data": {"type": "array", "items": ref(name)},
            "has_more": {"type": "boolean"},
            "next_cursor": {
                "description": "Where the next page begins.", "anyOf": [{"type": "string"}, {"type": "null"}],
            },
        },
        "required": ["data", "has_more", "next_cursor"],
    }  # fmt: skip


def _fill_raw(answers: Json) -> None:
    """Describe what is passed on as bytes that were encoded before."""
    envelope = answers["Envelope"]["properties"]
    envelope["type"] |= {"examples": sorted(EVENT_TYPES)}
    envelope["environment"]["enum"] = ["sandbox", "production"]
    envelope["data"] = {"type": "object", "description": "The resource as the API returns it."}
    envelope["previous"] = {"type": "object", "description": "On updates: what the changed members were."}
    answers["Delivery"]["properties"]["event"] = ref("Envelope")
    nothing = {"type": "null"}
    problem = {
        "type": "object",
        "description": "The problem document that posting it alone would have been answered with.",
        "properties": {"code": {"type": "string", "enum": sorted(CODES)}, "status": {"type": "integer"}},
        "required": ["type", "title", "status", "detail", "code", "errors", "retryable"],
    }
    answers["BatchOutcome"]["properties"]["entry"] = {"anyOf": [ref("Entry"), nothing]}
    answers["BatchOutcome"]["properties"]["problem"] = {"anyOf": [problem, nothing]}
    answers["EntryBatch"]["properties"]["data"]["items"] = {"anyOf": [ref("Entry"), ref("BatchOutcome")]}
    answers["BusinessEvent"]["properties"]["custom_data"] = {"type": "object", "description": "As it was sent."}
    answers["EntryVersion"]["properties"]["entry"] = ref("Entry")


def _problem_members() -> Json:
    return {
        "type": {"type": "string", "format": "uri", "description": "The page that explains the code."},
        "code": {"type": "string", "enum": sorted(CODES)},
        "status": {"type": "integer", "minimum": 400, "maximum": 599},
        "retryable": {"type": "boolean", "description": "Whether the same request may succeed later."},
        "request_id": {"type": "string", "format": "uuid"},
        "earliest": {
            "type": "string",
            "description": "With `cursor.expired`: the cursor of the earliest event served.",
        },
        "head": {"type": "string", "description": "With `cursor.expired`: the cursor of the feed's head."},
        "checks": {
            "type": "object",
            "additionalProperties": {"type": "boolean"},
            "description": "With `unavailable` from `/readyz`: each part that is needed.",
        },
    }
