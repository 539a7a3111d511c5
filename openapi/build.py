"""OpenAPI 3.1 and RAML 1.0, built from the gateway's route table: `python -m openapi.build` writes it, `--check` compares what is committed.

The same routes give the same bytes, so that a difference in the committed documents is a change of the API.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import yaml

from auth.scopes import SCOPES
from gateway.routes import ROUTES, SOCKET_PATH
from openapi import asyncapi, raml
from openapi.operations import SHARED, operation, refusal, shared_name
from openapi.schemas import Json, ref, schemas

API_VERSION: Final = "1.0.0"
"""The version of the API's contract, `/v1`; the program's own is another."""

FOLDER: Final = Path(__file__).parent
_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
_DESCRIPTION: Final = f"""\
An integration gateway for money: a double-entry ledger whose every committed change reaches everyone who subscribed, as \
signed webhooks and on streams that resume without a gap or a duplicate.

- **Sites.** The credential selects the organization and the environment; nothing else in a request does.
- **Amounts** are integers in minor units, or strings of digits. **Times** are RFC 3339 in UTC with microseconds.
- **Errors** are RFC 9457 problem documents. `type` is a page on this server that explains the `code`.
- **Idempotency.** The same `Idempotency-Key` with the same request gets the first answer again.
- **Concurrency.** `ETag` is the resource's `lock_version`; `If-Match` demands it.
- **Lists** carry `X-GLedger-Feed-Cursor`, read in the same snapshot: follow the feed from the first page's.
- **WebSocket.** `{SOCKET_PATH}` carries the same events as `/v1/events/stream`, in JSON arrays: see `/asyncapi.json`.
"""
_TAGS: Final = {
    "Entries": "Post balanced entries, or reserve them and decide later.",
    "FX rates": "Exchange rates, at which entries over two currencies are balanced.",
    "Holds": "Reserve funds, then capture them whole or in part, or release them; what is not, expires.",
    "Ledgers": "Books of accounts.",
    "Accounts": "Accounts, their balances and their lines.",
    "Business events": "What happened in your product, turned into entries by the one event handler that matches.",
    "Event handlers": "Conditions, variables and templates, in versions.",
    "Entities": "Companies, individuals and custodians that ledgers and accounts belong to.",
    "Reference data": "Currencies, countries, products, and the types of events with samples.",
    "Categories": "Accounts grouped, and groups grouped: what they come to together, each account counted once.",
    "Monitors": "Conditions on balances that tell when they begin and when they cease to hold.",
    "Events": "The feed: every committed change, in commit order, without gaps.",
    "Webhooks": "Endpoints that receive events.",
    "Deliveries": "One event for one endpoint, attempt by attempt.",
    "Replays": "Many deliveries sent again as one job: counted first, paced, paused, canceled.",
    "Inspectors": "Throw-away receivers of the sandbox: what arrived, and how it is answered.",
    "API keys": "Credentials that do not expire within minutes.",
    "OAuth": "Access tokens for client credentials.",
    "Running": "How the process is doing.",
    "Documents": "This description, and pages for people.",
}


def build() -> Json:
    """Return the document."""
    paths: Json = {}
    for route in ROUTES:
        paths.setdefault(route.path, {})[route.method.lower()] = operation(route)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "GLedger Live",
            "version": API_VERSION,
            "summary": "Post entries, follow the feed, receive signed webhooks.",
            "description": _DESCRIPTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/", "description": "The server that this document came from."}],
        "tags": [{"name": name, "description": said} for name, said in _TAGS.items()],
        "paths": paths,
        "webhooks": {"event": {"post": _webhook()}},
        "components": {
            "schemas": schemas(),
            "parameters": _parameters(),
            "headers": _headers(),
            "responses": {shared_name(status): refusal(status, codes) for status, codes in SHARED.items()},
            "securitySchemes": _security_schemes(),
        },
    }


def render(document: Json, streams: Json) -> dict[str, str]:
    """Return the text of each file that is committed: the API, and its streams. RAML is the API once more."""
    return {
        "openapi.json": json.dumps(document, ensure_ascii=False, indent=2) + "\n",
        "openapi.yaml": _yaml(document),
        "asyncapi.json": json.dumps(streams, ensure_ascii=False, indent=2) + "\n",
        "api.raml": f"#%RAML 1.0\n{_yaml(raml.build(document))}",
    }


def difference(committed: str, built: str) -> str | None:
    """Return where a committed text first differs from the built one, as a JSON pointer; None where they are the same."""
    if committed == built:
        return None
    try:
        found = yaml.safe_load(committed)
    except yaml.YAMLError:
        return "the beginning: it cannot be read"
    return _first(found, yaml.safe_load(built), "") or "its layout"


def main(arguments: Sequence[str]) -> int:
    """Write the documents, or with `--check` compare them and return 1 where one differs."""
    texts = render(build(), asyncapi.build())
    for name, text in texts.items():
        path = FOLDER / name
        if "--check" not in arguments:
            path.write_text(text, encoding="utf-8")
            continue
        where = difference(path.read_text(encoding="utf-8") if path.exists() else "", text)
        if where is not None:
            print(f"openapi/{name} differs from the route table at {where}; run `make openapi`", file=sys.stderr)
            return 1
    return 0


def _yaml(document: Json) -> str:
    return yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


class _Dumper(yaml.SafeDumper):
    """Writes every value where it stands: an anchor would say that two places are one."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - PyYAML's signature
        return True


def _first(committed: Any, built: Any, pointer: str) -> str | None:
    if isinstance(committed, dict) and isinstance(built, dict):
        for name in (*built, *committed):
            token = str(name).replace("~", "~0").replace("/", "~1")
            if name not in committed or name not in built:
                return f"{pointer}/{token}"
            found = _first(committed[name], built[name], f"{pointer}/{token}")
            if found is not None:
                return found
        return None
    if isinstance(committed, list) and isinstance(built, list):
        for index, (one, other) in enumerate(zip(committed, built, strict=False)):
            found = _first(one, other, f"{pointer}/{index}")
            if found is not None:
                return found
        return None if len(committed) == len(built) else f"{pointer}/{min(len(committed), len(built))}"
    return None if committed == built else pointer or "/"


def _webhook() -> Json:
    return {
        "operationId": "receive_event",
        "summary": "Receive an event.",
        "description": "Sent to every endpoint whose subscription matches, at least once, as Standard Webhooks has it. "
        "Verify `webhook-signature` over `{webhook-id}.{webhook-timestamp}.{body}`; `webhook-id` stays the same over "
        "retries and replays. Any 2xx within the endpoint's timeout is success.",
        "tags": ["Webhooks"],
        "security": [],
        "parameters": [
            _header("webhook-id", "The event's id: the key to find duplicates by.", {"format": "uuid"}),
            _header("webhook-timestamp", "Seconds since the epoch when this attempt was made.", {"pattern": "^[0-9]+$"}),
            _header("webhook-signature", "`v1,` and base64 of HMAC-SHA256, for each secret in force, separated by spaces."),
            _header("X-GLedger-Delivery-Id", "The delivery.", {"format": "uuid"}),
            _header("X-GLedger-Attempt", "Which attempt of the delivery this is, from 1.", {"pattern": "^[0-9]+$"}),
            _header("X-GLedger-Sequence", "The event's sequence in the feed.", {"pattern": "^[0-9]+$"}),
            _header(
                "X-GLedger-Endpoint-Sequence", "1, 2, 3, … without a gap for this endpoint.", {"pattern": "^[0-9]+$"},
            ),
        ],
        "requestBody": {"required": True, "content": {"application/json": {"schema": ref("Envelope")}}},
        "responses": {
            "2XX": {"description": "The event is received."},
            "410": {"description": "The endpoint is gone: it is disabled."},
            "default": {"description": "Not received: it is tried again, after `Retry-After` where that is given."},
        },
    }  # fmt: skip


def _header(name: str, description: str, schema: Json | None = None) -> Json:
    shape = {"type": "string", **(schema or {})}
    return {"name": name, "in": "header", "required": True, "description": description, "schema": shape}


def _parameters() -> Json:
    def header(name: str, description: str, **schema: Any) -> Json:
        return {"name": name, "in": "header", "description": description, "schema": {"type": "string", **schema}}

    return {
        "IdempotencyKey": header(
            "Idempotency-Key",
            "The same key with the same request gets the first answer again, for at least a day.",
            pattern="^[\\x21-\\x7e]{1,255}$",
        ),
        "IfMatch": header(
            "If-Match", "The ETag that the resource must have, or `*`.", pattern='^(\\*|"[0-9]{1,18}")$',
        ),
        "IfNoneMatch": header(
            "If-None-Match", "ETags of what the client has: if it is one of them still, the answer is 304 without a body.",
        ),
        "Prefer": header(
            "Prefer", "`respond-async` (RFC 7240): accept the entry now and post it soon, in the order of acceptance.",
            pattern="^[\\x20-\\x7e]{1,200}$",
        ),
        "LastEventId": header(
            "Last-Event-ID", "The cursor to resume after; it goes before `cursor`.", pattern="^[A-Za-z0-9._-]+$",
        ),
        "CorrelationId": header(
            "correlation-id",
            "Yours: echoed, and carried into events, deliveries and logs.",
            pattern="^[\\x21-\\x7e]{1,128}$",
        ),
        "Traceparent": header(
            "traceparent",
            "W3C Trace Context; one of another form is passed over.",
        ),
    }  # fmt: skip


def _headers() -> Json:
    def header(description: str, *, always: bool = False, **schema: Any) -> Json:
        return {"description": description, "required": always, "schema": {"type": "string", **schema}}

    return {
        "RequestId": header("This request's own id.", always=True, format="uuid"),
        "CorrelationId": header("The `correlation-id` of the request."),
        "ETag": header(
            "The resource's `lock_version`; of what has none, of its bytes.", always=True, pattern='^"[0-9a-f]+"$'
        ),
        "Location": header("Where what was created is found.", always=True, format="uri-reference"),
        "Link": header('The next page (RFC 8288), where there is one: `rel="next"`.'),
        "FeedCursor": header("The feed's head in the same snapshot.", always=True),
        "PreferenceApplied": header("`respond-async` (RFC 7240).", always=True, enum=["respond-async"]),
        "IdempotentReplayed": header("`true` where the request was answered before.", enum=["true"]),
        "RateLimitPolicy": header("How many requests these credentials may make in how many seconds."),
        "RateLimit": header("How many are left, and in how many seconds one more is."),
        "RetryAfter": header("In how many seconds to try again.", always=True, pattern="^[0-9]+$"),
        "WwwAuthenticate": header("How to authenticate (RFC 6750 §3).", always=True),
    }


def _security_schemes() -> Json:
    return {
        "oauth2": {
            "type": "oauth2",
            "description": "Access tokens live for minutes. A client's id and secret go as HTTP Basic, or in the form.",
            "flows": {"clientCredentials": {"tokenUrl": "/oauth/token", "scopes": dict(SCOPES)}},
        },
        "bearer": {"type": "http", "scheme": "bearer", "description": "An access token or an API key."},
        "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "An API key."},
        "clientBasic": {"type": "http", "scheme": "basic", "description": "A client's id and secret."},
        "metricsToken": {"type": "http", "scheme": "bearer", "description": "The metrics token, where one is set."},
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
