"""RAML 1.0, made of the OpenAPI document: the same operations, scopes, shapes and refusals, so far as RAML can say them.

What it cannot say stands in words: it has no webhooks, no optional bodies, and no query parameters that are objects (each
bound has a name of its own here). A union's members have to be named, so members with bounds of their own become types.
Pure.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from openapi.operations import CODES_EXTENSION, SHARED, shared_name
from openapi.schemas import Json

MEDIA_TYPE: Final = "application/raml+yaml"
_REF: Final = "$ref"
_JSON: Final = "application/json"
_METHODS: Final = ("get", "put", "post", "patch", "delete")
_SAME: Final[tuple[str, ...]] = (
    *(
        "minimum",
        "maximum",
        "minLength",
        "maxLength",
        "pattern",
        "minItems",
        "maxItems",
        "minProperties",
        "maxProperties",
    ),
)
_ANNOTATIONS: Final = {
    "tags": {"type": "string[]", "description": "What the operation is about."},
    "codes": {"type": "string[]", "description": "The problem codes that come with this status: see /errors."},
    "matches": {"type": "string", "description": "The pattern that the names of an object's members fulfil."},
}
_NAMES: Final = {"string": "string", "integer": "integer", "number": "number", "boolean": "boolean", "null": "nil"}
_WEBHOOKS: Final = """\
Events also reach the endpoints that are registered under `/v1/webhook_endpoints`: RAML has no word for it. The body is an \
`Envelope`; its headers are `webhook-id`, `webhook-timestamp` and `webhook-signature` of Standard Webhooks, and \
`X-GLedger-Delivery-Id`, `X-GLedger-Attempt`, `X-GLedger-Sequence` and `X-GLedger-Endpoint-Sequence`.
"""


def build(document: Json) -> Json:
    """Return the RAML document of an OpenAPI document; its first line, `#%RAML 1.0`, is the caller's to write."""
    return _Translation(document).whole()


class _Translation:
    """One translation: collects the types that have to be named on the way."""

    def __init__(self, document: Json) -> None:
        self._document = document
        self._types: Json = {}

    def whole(self) -> Json:
        info = self._document["info"]
        for name, schema in self._document["components"]["schemas"].items():
            self._types[name] = self._type(schema, name)
        paths = {path: self._resource(methods) for path, methods in self._document["paths"].items()}
        shared = self._document["components"]["responses"].items()
        status_of = {shared_name(status): status for status in SHARED}
        traits = {_trait(name): {"responses": {status_of[name]: self._answer(each, name)}} for name, each in shared}
        return {
            "title": info["title"],
            "version": info["version"],
            "description": info["description"],
            "mediaType": _JSON,
            "documentation": [{"title": "Webhooks", "content": _WEBHOOKS}],
            "annotationTypes": _ANNOTATIONS,
            "securitySchemes": self._security_schemes(),
            "traits": {name: traits[name] for name in sorted(traits)},
            "types": {name: self._types[name] for name in sorted(self._types)},
            **paths,
        }

    def _security_schemes(self) -> Json:
        made: Json = {}
        for name, scheme in self._document["components"]["securitySchemes"].items():
            said = scheme.get("description", "")
            bearer = {"headers": {"Authorization": {"type": "string", "pattern": "^Bearer .+$"}}}
            match scheme:
                case {"type": "oauth2", "flows": {"clientCredentials": flow}}:
                    settings = {
                        "accessTokenUri": flow["tokenUrl"],
                        "authorizationGrants": ["client_credentials"],
                        "scopes": list(flow["scopes"]),
                    }
                    made[name] = {"type": "OAuth 2.0", "describedBy": bearer, "settings": settings}
                case {"type": "apiKey"}:
                    made[name] = {
                        "type": "Pass Through",
                        "describedBy": {"headers": {scheme["name"]: {"type": "string"}}},
                    }
                case {"scheme": "basic"}:
                    made[name] = {"type": "Basic Authentication"}
                case _:
                    made[name] = {"type": "x-bearer", "describedBy": bearer}
            made[name]["description"] = said
        return made

    def _resource(self, methods: Json) -> Json:
        found: Json = {}
        for method in _METHODS:
            if method not in methods:
                continue
            operation = methods[method]
            named = self._parameters(operation, "path")
            if named:
                found["uriParameters"] = named
            found[method] = self._method(operation)
        return found

    def _method(self, operation: Json) -> Json:
        name = operation["operationId"]
        said = [operation["summary"], operation.get("description", "")]
        made: Json = {"displayName": name, "description": "\n\n".join(each for each in said if each)}
        made["(tags)"] = operation["tags"]
        secured = [self._secured(each) for each in operation["security"]]
        if secured:
            made["securedBy"] = secured
        shared = [_trait(_last(each[_REF])) for each in operation["responses"].values() if _REF in each]
        if shared:
            made["is"] = shared
        for place, facet in (("query", "queryParameters"), ("header", "headers")):
            parameters = self._parameters(operation, place)
            if parameters:
                made[facet] = parameters
        body = operation.get("requestBody")
        if body is not None:
            if not body["required"]:
                made["description"] += "\n\nThe body may be left out."
            made["body"] = self._bodies(body["content"], f"{_title(name)}Body")
        made["responses"] = {
            int(status): self._answer(each, f"{_title(name)}{status}")
            for status, each in operation["responses"].items()
            if _REF not in each
        }
        return made

    def _secured(self, requirement: Mapping[str, list[str]]) -> Any:
        """Return one way in: null is none at all; only OAuth knows scopes, the others have them all the same."""
        for name, scopes in requirement.items():
            is_oauth = self._document["components"]["securitySchemes"][name]["type"] == "oauth2"
            return {name: {"scopes": scopes}} if is_oauth and scopes else name
        return None

    def _parameters(self, operation: Json, place: str) -> Json:
        found: Json = {}
        for given in operation["parameters"]:
            parameter = self._resolved(given)
            if parameter["in"] != place:
                continue
            name, schema, said = parameter["name"], parameter["schema"], parameter.get("description")
            if schema.get("type") == "object":
                for member, each in _members(schema).items():
                    found[f"{name}[{member}]?"] = self._described(each, said, f"{_title(name)}Member")
                continue
            made = self._described(schema, said, f"{_title(operation['operationId'])}{_title(name)}")
            needed = place == "path" or parameter.get("required", False)
            found[name if needed else f"{name}?"] = made
        return found

    def _answer(self, answer: Json, name: str) -> Json:
        made: Json = {"description": answer["description"]}
        if answer.get(CODES_EXTENSION):
            made["(codes)"] = answer[CODES_EXTENSION]
        headers: Json = {}
        for header, given in answer.get("headers", {}).items():
            found = self._resolved(given)
            key = header if found.get("required") else f"{header}?"
            headers[key] = self._described(found["schema"], found.get("description"), _title(header))
        if headers:
            made["headers"] = headers
        if answer.get("content"):
            made["body"] = self._bodies(answer["content"], name)
        return made

    def _bodies(self, content: Json, name: str) -> Json:
        return {kind: self._type(each["schema"], name) for kind, each in content.items()}

    def _described(self, schema: Json, said: str | None, name: str) -> Json:
        made = self._type(schema, name)
        return made if said is None else {**made, "description": said}

    def _type(self, schema: Json, name: str) -> Json:
        """Return a schema as a type; `name` is what a part of it is called that has to be named."""
        made = self._shape(schema, name)
        said = schema.get("description")
        if said is not None:
            made["description"] = said
        if schema.get("default") is not None:
            made["default"] = schema["default"]
        if schema.get("examples"):
            made["example"] = schema["examples"][0]
        return made

    def _shape(self, schema: Json, name: str) -> Json:
        if _REF in schema:
            return {"type": _last(schema[_REF])}
        if "anyOf" in schema:
            return {"type": self._union(schema["anyOf"], name)}
        if "enum" in schema:
            return {"type": _type_of_values(schema["enum"]), "enum": list(schema["enum"])}
        kept: Json = {facet: schema[facet] for facet in _SAME if facet in schema}
        match schema.get("type"):
            case "object":
                return self._object(schema, name) | kept
            case "array":
                items = self._expression(schema["items"], f"{name}Item") if "items" in schema else "any"
                return {"type": "array", "items": items, **kept}
            case "string" if schema.get("format") == "date-time":
                return {"type": "datetime"}
            case "integer":
                return {"type": "integer", **({"format": "int64"} if schema.get("format") == "int64" else {}), **kept}
            case str(kind):
                return {"type": _NAMES[kind], **kept}
            case _:
                return {"type": "any"}

    def _object(self, schema: Json, name: str) -> Json:
        needed = set(schema.get("required", ()))
        properties = {
            member if member in needed else f"{member}?": self._type(each, f"{name}{_title(member)}")
            for member, each in schema.get("properties", {}).items()
        }
        made: Json = {"type": "object"}
        match schema.get("additionalProperties"):
            case False:
                made["additionalProperties"] = False
            case dict(each):
                # Any name: what names may be is said beside it, for a pattern with a slash in it has no spelling here.
                properties["//"] = self._type(each, f"{name}Value")
                if "pattern" in schema.get("propertyNames", {}):
                    made["(matches)"] = schema["propertyNames"]["pattern"]
        if properties:
            made["properties"] = properties
        return made

    def _union(self, members: list[Json], name: str) -> str:
        """Return the members of a union as a type expression."""
        found = [self._expression(each, f"{name}{at}") for at, each in enumerate(members, 1)]
        # A number may be an integer: RAML's union takes the first that fits, as JSON Schema's takes any.
        return " | ".join(dict.fromkeys(found))

    def _expression(self, schema: Json, name: str) -> str:
        """Return a type as one word; one that says more than its name becomes a type of its own."""
        made = self._type(schema, name)
        if set(made) <= {"type", "description"} and "|" not in made["type"] and made["type"] != "array":
            return str(made["type"])
        if name in self._types:
            if self._types[name] != made:
                raise ValueError(f"two types are called {name}")
            return name
        if name in self._document["components"]["schemas"]:
            raise ValueError(f"a part of another type is called {name}")
        self._types[name] = made
        return name

    def _resolved(self, given: Json) -> Json:
        if _REF not in given:
            return given
        found: Any = self._document
        for token in given[_REF].removeprefix("#/").split("/"):
            found = found[token]
        return dict(found)


def _members(schema: Json) -> Json:
    """Return the members of a query parameter that is an object; one of any name is called NAME."""
    return dict(schema.get("properties") or {"NAME": schema["additionalProperties"]})


def _type_of_values(values: list[Any]) -> str:
    if all(isinstance(each, str) for each in values):
        return "string"
    return "integer" if all(isinstance(each, int) and not isinstance(each, bool) for each in values) else "any"


def _last(pointer: str) -> str:
    return pointer.rsplit("/", 1)[-1]


def _title(name: str) -> str:
    return "".join(each[:1].upper() + each[1:] for each in re.split(r"[^A-Za-z0-9]+", name) if each)


def _trait(name: str) -> str:
    return f"may-answer-{re.sub(r'(?<!^)(?=[A-Z])', '-', name).lower()}"
