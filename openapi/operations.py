"""Operations: what a route of the table takes, from whom, and everything it may answer."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Final

from auth.tickets import LENGTH_MAX as TICKET_MAX
from engine.iso_3166 import COUNTRIES
from engine.money import AMOUNT_MAX
from engine.queries import BOUND_OPERATORS
from gateway import documents, oauth, operations
from gateway.catalogue import EVENT_TYPES
from gateway.codes import CODES
from gateway.problems import MEDIA_TYPE as PROBLEM
from gateway.query import TEXT_MAX, Parameter
from gateway.route import Handler, Route
from gateway.routes import ROUTES
from openapi.schemas import UUID, Json, answer_name, ref

FORM: Final = "application/x-www-form-urlencoded"
CODES_EXTENSION: Final = "x-gledger-codes"
"""On the answer of a status: the problem codes that come with it."""

_INVALID: Final = (
    "validation.required_field_missing",
    "validation.unknown_field",
    "validation.duplicate_field",
    "validation.invalid_type",
    "validation.invalid_value",
    "validation.out_of_range",
    "validation.invalid_text",
    "validation.invalid_time",
)
_CREDENTIALS: Final = ("auth.missing", "auth.invalid", "auth.expired", "auth.revoked", "auth.insufficient_scope")
# Whatever is asked for: the headers that every request may have, query parameters nobody knows, and our own mistakes.
_ALWAYS: Final = ("request.malformed", "validation.unknown_field", "internal")
_OAUTH_ANSWERS: Final = {
    "/oauth/token": "AccessToken", "/oauth/introspect": "Introspection", "/oauth/revoke": None,
}  # fmt: skip
_ANSWERS_BY_HANDLER: Final[dict[Handler, str]] = {
    oauth.metadata: "ServerMetadata",
    oauth.jwks: "JwkSet",
    operations.health: "Health",
    operations.readiness: "Readiness",
}
_HANDLERS: Final = Counter(route.handler for route in ROUTES)
_READ: Final = frozenset(route.path for route in ROUTES if route.method == "GET")


def operation(route: Route) -> Json:
    """Return a route as an OpenAPI operation object."""
    summary, _, description = (route.handler.__doc__ or "").strip().partition("\n\n")
    found: Json = {
        "operationId": operation_id(route),
        "summary": " ".join(summary.split()),
        "tags": [route.tag],
        "security": _security(route),
        "parameters": [*_path_parameters(route), *map(_query_parameter, route.query), *_header_parameters(route)],
    }
    if description:
        found["description"] = " ".join(description.split())
    body = _request_body(route)
    if body is not None:
        found["requestBody"] = body
    succeeded = {str(status): _success(route, status) for status in (route.status, *route.also)}
    if is_read(route) and not route.derived:
        succeeded["304"] = {"description": _SAID[304], "headers": _headers(("RequestId", "CorrelationId", "ETag"))}
    found["responses"] = {**succeeded, **_refusals(route)}
    return found


def operation_id(route: Route) -> str:
    """Return the name of the route's handler, with the path's last part where several routes have that handler."""
    name: str = getattr(route.handler, "__name__", "")
    if _HANDLERS[route.handler] == 1:
        return name
    last = re.sub(r"[^a-z0-9]+", "_", route.path.rsplit("/", 1)[-1].lower()).strip("_")
    return f"{name}_{last}"


def problem_codes(route: Route) -> list[str]:
    """Return every problem code that a route may answer, in the order of the table of codes."""
    takes_body = route.method != "GET" and not route.form
    codes: set[str] = {*_ALWAYS, *route.refusals}
    if route.media_type != "*/*":
        codes.add("not_acceptable")
    if route.scope is not None:
        codes |= {*_CREDENTIALS, "rate_limit", "unavailable"}
    if "{" in route.path:
        codes.add("not_found")
    if route.query:
        codes |= {"validation.duplicate_field", "validation.invalid_value", "validation.out_of_range"}
    if any(each.kind in {"bounds", "instant"} or each.name == "from" for each in route.query):
        codes.add("validation.invalid_time")
    if any(each.kind == "cursor" for each in route.query):
        codes.add("cursor.invalid")
    if any(each.required or (each.name == "after" and each.kind == "integer") for each in route.query):
        codes.add("validation.required_field_missing")
    if takes_body:
        codes |= {"request.too_large", "unsupported_media_type", "overloaded"}
        codes |= {*_INVALID} if route.body is not None else {"validation.duplicate_field", "validation.invalid_text"}
    if route.idempotent:
        codes |= {"idempotency.key_invalid", "idempotency.key_reused", "idempotency.in_progress"}
    if route.conditional:
        codes.add("precondition_failed")
    return [code for code in CODES if code in codes]


def _security(route: Route) -> list[Json]:
    if route.scope is not None:
        return [{name: [route.scope]} for name in ("oauth2", "bearer", "apiKey")]
    if route.form:
        return [{"clientBasic": []}, {}]
    return [{}, {"metricsToken": []}] if route.handler is operations.metrics else []


def _path_parameters(route: Route) -> list[Json]:
    shapes: Json = {
        "id": {"type": "string", "format": "uuid", "pattern": UUID},
        "member_id": {"type": "string", "format": "uuid", "pattern": UUID},
        "organization": {"type": "string", "pattern": "^[a-z0-9-]{1,63}$"},
        "token": {"type": "string", "pattern": "^[a-z2-7]{26}$"},
        "environment": {"type": "string", "enum": ["sandbox", "production"]},
        "code": {"type": "string", "enum": list(CODES)},
        "currency": {"type": "string", "pattern": "^[A-Za-z0-9_-]{2,36}$", "examples": ["EUR"]},
        "country": {"type": "string", "enum": list(COUNTRIES)},
        "event_type": {"type": "string", "enum": list(EVENT_TYPES)},
        "file": {"type": "string", "enum": list(documents.FILES)},
    }
    names: list[str] = re.findall(r"{([a-z_]+)}", route.path)
    return [{"name": name, "in": "path", "required": True, "schema": shapes[name]} for name in names]


def _query_parameter(parameter: Parameter) -> Json:
    found: Json = {"name": parameter.name, "in": "query", "description": parameter.meaning}
    if parameter.required:
        found["required"] = True
    if parameter.aliases:
        found["description"] += f" Also as {' or '.join(f'`{each}`' for each in parameter.aliases)}."
    if parameter.kind in {"metadata", "bounds", "amounts"}:
        found |= {"style": "deepObject", "explode": True}
    return found | {"schema": query_schema(parameter)}


def query_schema(parameter: Parameter) -> Json:
    """Return what a query parameter may be; one that may be repeated is an array."""
    one = _query_value(parameter)
    return {"type": "array", "items": one, "minItems": 1, "maxItems": parameter.repeated} if parameter.repeated else one


def _query_value(parameter: Parameter) -> Json:
    time: Json = {"type": "string", "format": "date-time"}
    clean = "^[^\\u0000]*$"
    match parameter.kind:
        case "id":
            return {"type": "string", "format": "uuid", "pattern": UUID}
        case "integer":
            schema: Json = {"type": "integer", "minimum": parameter.minimum, "maximum": parameter.maximum}
            return schema | ({"default": 50} if parameter.name == "limit" else {})
        case "boolean":
            return {"type": "boolean"}
        case "instant":
            return time
        case "choice":
            return {"type": "string", "enum": list(parameter.choices)}
        case "cursor":
            return {"type": "string", "pattern": "^[A-Za-z0-9._-]+$", "maxLength": TEXT_MAX}
        case "text":
            return {"type": "string", "pattern": clean, "maxLength": TEXT_MAX}
        case "ticket":
            return {"type": "string", "pattern": "^[A-Za-z0-9._-]+$", "maxLength": TICKET_MAX}
        case "metadata":
            return {
                "type": "object",
                "propertyNames": {"minLength": 1, "maxLength": 100, "pattern": "^[^\\u0000\\[\\]]*$"},
                "additionalProperties": {"type": "string", "maxLength": 500, "pattern": clean},
            }
        case "bounds" | "amounts":
            bound = time if parameter.kind == "bounds" else {"type": "integer", "minimum": 0, "maximum": AMOUNT_MAX}
            return {
                "type": "object",
                "properties": dict.fromkeys(sorted(BOUND_OPERATORS), bound),
                "additionalProperties": False,
            }


def _header_parameters(route: Route) -> list[Json]:
    names = ["CorrelationId", "Traceparent"]
    if route.idempotent:
        names.insert(0, "IdempotencyKey")
    if route.conditional:
        names.insert(0, "IfMatch")
    if is_read(route) and not route.derived:
        names.insert(0, "IfNoneMatch")
    if route.media_type == "text/event-stream":
        names.insert(0, "LastEventId")
    if route.prefer_async:
        names.insert(0, "Prefer")
    return [{"$ref": f"#/components/parameters/{name}"} for name in names]


def is_read(route: Route) -> bool:
    """Tell whether an operation reads something that has an ETag."""
    return route.method == "GET" and route.answer is not None


def _request_body(route: Route) -> Json | None:
    if route.form:
        properties: Json = {name: {"type": "string", "minLength": 1} for name in route.form}
        if "grant_type" in properties:
            properties["grant_type"] = {"type": "string", "enum": ["client_credentials"]}
        schema = {"type": "object", "properties": properties, "required": [route.form[0]]}
        return {"required": True, "content": {FORM: {"schema": schema}}}
    if route.body is not None:
        description = f"At most {route.body_max} bytes of JSON."
        content = {"application/json": {"schema": ref(route.body.__name__)}}
        return {"description": description, "required": not route.body_optional, "content": content}
    if route.method in {"POST", "PUT", "PATCH"}:
        nothing = {"type": "object", "additionalProperties": False}
        content = {"application/json": {"schema": nothing}}
        return {"description": "Nothing, or an empty object.", "required": False, "content": content}
    return None


def _success(route: Route, status: int) -> Json:
    found: Json = {"description": _SAID[status], "headers": _success_headers(route, status)}
    if status != 204:
        found["content"] = {route.media_type: {"schema": _answer(route)}}
    return found


_PHRASES: Final = {
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    406: "Not Acceptable",
    409: "Conflict",
    410: "Gone",
    412: "Precondition Failed",
    413: "Content Too Large",
    415: "Unsupported Media Type",
    422: "Unprocessable Content",
    428: "Precondition Required",
    429: "Too Many Requests",
    500: "Internal Server Error",
    503: "Service Unavailable",
}
"""RFC 9110's names: the standard library's differ from one version of Python to the next."""

_SAID: Final = {
    200: "As asked.",
    201: "Created.",
    202: "Taken on; it happens soon.",
    204: "Done; there is nothing to show.",
    304: "As it was: what the client has is still so.",
}


def _answer(route: Route) -> Json:
    name = answer_name(route) or _OAUTH_ANSWERS.get(route.path) or _ANSWERS_BY_HANDLER.get(route.handler)
    if name is not None:
        return ref(name)
    if route.media_type == "text/event-stream":
        # No type: OpenAPI 3.1 does not say whether a schema is of the whole stream or of each event in it.
        return {
            "description": "Server-sent events: `id` is the cursor, `event` the event type, `data` the envelope on one line. "
            "Beside them words about the stream, with a cursor to resume from: see `/asyncapi.json`.",
        }
    return {"type": "object" if route.media_type.endswith(("json", "yaml")) else "string"}


def _success_headers(route: Route, status: int) -> Json:
    names = ["RequestId", "CorrelationId"]
    if route.etag or is_read(route):
        names.append("ETag")
    if status in {201, 202} and f"{route.path}/{{id}}" in _READ:
        names.append("Location")
    if status == 202 and route.prefer_async:
        names.append("PreferenceApplied")
    if route.page and any(each.kind == "cursor" or each.name == "after" for each in route.query):
        names.append("Link")
    if route.feed_cursor:
        names.append("FeedCursor")
    if route.idempotent:
        names.append("IdempotentReplayed")
    return _headers([*names, *(("RateLimitPolicy", "RateLimit") if route.scope is not None else ())])


def _refusals(route: Route) -> Json:
    found: Json = {}
    for status, codes in _by_status(route).items():
        shared = codes == SHARED[status] and not _speaks_oauth(route, status)
        found[str(status)] = (
            {"$ref": f"#/components/responses/{shared_name(status)}"} if shared else refusal(status, codes)
        )
    for status in (400, 401, 404):
        if _speaks_oauth(route, status):
            answer = found.setdefault(str(status), refusal(status, ()))
            answer["description"] = f"{answer['description']} Or an OAuth error."
            answer["content"]["application/json"] = {"schema": ref("OAuthError")}
    return dict(sorted(found.items()))


def refusal(status: int, codes: Sequence[str]) -> Json:
    """Return the answer of a status that comes with problem documents of these codes."""
    headers = ["RequestId", "CorrelationId"]
    headers += {401: ["WwwAuthenticate"], 412: ["ETag"], 429: ["RetryAfter"], 503: ["RetryAfter"]}.get(status, [])
    found: Json = {"description": f"{_PHRASES[status]}.", "headers": _headers(headers), "content": {}}
    if codes:
        found["description"] = f"{_PHRASES[status]}: {', '.join(f'`{code}`' for code in codes)}."
        found["content"][PROBLEM] = {"schema": ref("Problem")}
        found[CODES_EXTENSION] = list(codes)
    return found


def shared_name(status: int) -> str:
    """Return the name of the answer that most operations give with a status."""
    return re.sub(r"[^A-Za-z]", "", _PHRASES[status].title())


def _speaks_oauth(route: Route, status: int) -> bool:
    """Tell whether the authorization server answers with this status, in its own form."""
    return (
        status in {400, 401} if route.form else route.handler is oauth.metadata and "{" in route.path and status == 404
    )


def _by_status(route: Route) -> dict[int, tuple[str, ...]]:
    found: dict[int, tuple[str, ...]] = {}
    for code in problem_codes(route):
        status = CODES[code].status
        found[status] = (*found.get(status, ()), code)
    return dict(sorted(found.items()))


def _most_common() -> dict[int, tuple[str, ...]]:
    seen = Counter(item for route in ROUTES for item in _by_status(route).items())
    # Of two that are as common, the one that comes first in the alphabet: the document must not depend on chance.
    ranked = sorted(seen, key=lambda item: (seen[item], [-ord(letter) for letter in "".join(item[1])]))
    return dict(sorted(dict(ranked).items()))


SHARED: Final = _most_common()
"""The codes that most operations answer with a status, by status: one shared answer each."""


def _headers(names: Iterable[str]) -> Json:
    return {_HEADER_NAMES[name]: {"$ref": f"#/components/headers/{name}"} for name in names}


_HEADER_NAMES: Final[dict[str, Any]] = {
    "RequestId": "X-GLedger-Request-Id",
    "CorrelationId": "correlation-id",
    "ETag": "ETag",
    "Location": "Location",
    "Link": "Link",
    "FeedCursor": "X-GLedger-Feed-Cursor",
    "PreferenceApplied": "Preference-Applied",
    "IdempotentReplayed": "Idempotent-Replayed",
    "RateLimitPolicy": "RateLimit-Policy",
    "RateLimit": "RateLimit",
    "RetryAfter": "Retry-After",
    "WwwAuthenticate": "WWW-Authenticate",
}
