"""The explorer: every operation with a form, and a token for the sandbox that lives ten minutes at most."""

from __future__ import annotations

from functools import cache
from typing import Any, Final

import msgspec
from msgspec import Struct
from starlette.responses import Response

from auth.errors import ScopeInsufficient
from auth.scopes import SCOPES
from gateway import wire
from gateway.codes import CODES
from gateway.portal.rendering import page
from gateway.portal.visit import Visit
from gateway.problems import Problem

DOCUMENTS: Final = {
    "/openapi.json": "OpenAPI 3.1, JSON",
    "/openapi.yaml": "OpenAPI 3.1, YAML",
    "/asyncapi.json": "AsyncAPI 3, JSON",
    "/api.raml": "RAML 1.0",
}


class Operation(Struct, frozen=True, kw_only=True):
    """One operation as its form shows it; `example` is a body to begin with."""

    id: str
    method: str
    path: str
    summary: str
    scopes: list[str]
    parameters: list[dict[str, Any]]
    example: str | None


async def explorer_page(visit: Visit) -> Response:
    """Show every operation, in the groups of the API's description."""
    document = visit.services.documents["/openapi.json"][1]
    return page(
        visit,
        "explorer.html",
        groups=_groups(document),
        documents={path: name for path, name in DOCUMENTS.items() if path in visit.services.documents},
        base_url=visit.services.public_url,
        scopes=SCOPES,
        codes=CODES,
    )


async def mint(visit: Visit) -> Response:
    """Make an access token for the sandbox that the visitor looks at; there is none for production."""
    if not visit.sandbox:
        raise ScopeInsufficient("a sandbox", ())
    chosen = visit.form.texts("scope")
    if not chosen or not SCOPES.keys() >= set(chosen):
        raise Problem(code="validation.invalid_value", detail="Choose at least one scope of those there are.")
    token, claims = visit.services.mint(visit.principal, chosen, visit.now_us)
    shown = {"access_token": token, "expires_in": claims.exp - claims.iat, "scope": claims.scope}
    return wire.reply(wire.encode(shown))


@cache
def _groups(document: bytes) -> dict[str, list[Operation]]:
    read: dict[str, Any] = msgspec.json.decode(document)
    groups: dict[str, list[Operation]] = {tag["name"]: [] for tag in read["tags"]}
    for path, methods in read["paths"].items():
        for method, described in methods.items():
            if method in {"get", "post", "patch", "delete", "put"} and path.startswith("/v1/"):
                groups.setdefault(described["tags"][0], []).append(_operation(read, path, method, described))
    return {name: found for name, found in groups.items() if found}


def _operation(read: dict[str, Any], path: str, method: str, described: dict[str, Any]) -> Operation:
    content = described.get("requestBody", {}).get("content", {}).get("application/json")
    parameters = [_resolved(read, each) for each in described.get("parameters", [])]
    example = None
    if content is not None:
        example = msgspec.json.format(msgspec.json.encode(_example(read, content["schema"])), indent=2).decode()
    security = described.get("security", [])
    return Operation(
        id=described["operationId"],
        method=method.upper(),
        path=path,
        summary=described["summary"],
        scopes=next((each["oauth2"] for each in security if "oauth2" in each), []),
        parameters=[
            {"name": each["name"], "in": each["in"], "required": each.get("required", False), "meaning": each.get("description", "")}
            for each in parameters
        ],
        example=example,
    )  # fmt: skip


def _resolved(read: dict[str, Any], node: dict[str, Any]) -> dict[str, Any]:
    """Return what a node refers to, within the document."""
    while "$ref" in node:
        found: Any = read
        for name in node["$ref"].removeprefix("#/").split("/"):
            found = found[name]
        node = found
    return node


def _example(read: dict[str, Any], schema: dict[str, Any], depth: int = 0) -> Any:
    """Return the smallest value of a schema that shows what has to be there."""
    schema = _resolved(read, schema)
    for name in ("examples", "example", "default", "const", "enum"):
        if name in schema:
            given = schema[name]
            return given[0] if name in {"examples", "enum"} else given
    for name in ("anyOf", "oneOf", "allOf"):
        if name in schema:
            return _example(read, schema[name][0], depth)
    match schema.get("type"):
        case "object":
            required = schema.get("required", []) if depth < 5 else []
            return {name: _example(read, schema["properties"][name], depth + 1) for name in required}
        case "array":
            return [_example(read, schema.get("items", {}), depth + 1)] * max(1, schema.get("minItems", 1))
        case "integer" | "number":
            return max(1, schema.get("minimum", 1))
        case "boolean":
            return False
        case "string":
            return "…"
    return None
