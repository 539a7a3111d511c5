"""The words of the OAuth endpoints: how a request's form and client credentials are read, how answers and errors are written.

Pure, and stricter than authlib where that leaves things open: parameters come from the body only and each only once, a client
authenticates in one way, a header that is no Basic header is refused before anybody decodes it, and every error has a fixed
text, so that an unknown client and a wrong secret read the same.
"""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import parse_qsl, unquote

from auth.scopes import SCOPES

GRANT_TYPE: Final = "client_credentials"
AUTH_METHODS: Final = ("client_secret_basic", "client_secret_post")

_FIELDS_MAX: Final = 32
_MEDIA_TYPE: Final = re.compile(
    r"application/x-www-form-urlencoded[ \t]*(?:;[ \t]*charset=\"?utf-8\"?[ \t]*)?", re.IGNORECASE
)
_BASIC: Final = re.compile(r"basic +([A-Za-z0-9+/]+={0,2}) *", re.IGNORECASE)
_CHALLENGE: Final = {"www-authenticate": 'Basic realm="gledger", charset="UTF-8"'}
_DESCRIPTIONS: Final = {
    "invalid_client": "Client authentication failed.",
    "invalid_grant": "The token was issued to another client.",
    "invalid_request": "The request is malformed.",
    "invalid_scope": "The requested scope is unknown or exceeds what the client may.",
    "unauthorized_client": "The client may not use this grant type.",
    "unsupported_grant_type": "Only the grant type client_credentials is supported.",
    "unsupported_token_type": "API keys are revoked at /v1/api_keys.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """An answer as a status, a JSON object and headers."""

    status: int
    body: Mapping[str, Any]
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientRequest:
    """A form that was read, and the Basic header that came with it, if one did."""

    form: dict[str, str] = field(repr=False)
    authorization: str | None = field(repr=False)


class RequestRefused(Exception):
    """A request that is refused before a client is looked for; `error` is the code of RFC 6749 §5.2."""

    def __init__(self, error: str, description: str | None = None) -> None:
        super().__init__(error)
        self.error = error
        self.description = description


def read_request(
    *, query: str, content_type: str, authorizations: Sequence[str], body: bytes, required: str
) -> ClientRequest:
    """Read a request to one of the endpoints that clients post to. Raises RequestRefused."""
    if query:
        raise RequestRefused("invalid_request", "Parameters belong in the body.")
    if _MEDIA_TYPE.fullmatch(content_type) is None:
        raise RequestRefused("invalid_request", "The body must be application/x-www-form-urlencoded.")
    form = _parse_form(body)
    if len(authorizations) + ("client_secret" in form) + ("client_assertion" in form) > 1:
        raise RequestRefused("invalid_request", "More than one way of client authentication.")
    if authorizations:
        client_id = _basic_client_id(authorizations[0])
        if form.get("client_id", client_id) != client_id:
            raise RequestRefused("invalid_client")
    if required not in form:
        raise RequestRefused("invalid_request", f"{required} is missing.")
    return ClientRequest(form=form, authorization=authorizations[0] if authorizations else None)


def refusal(error: str, description: str | None = None) -> Reply:
    """Return the answer to a request that is refused, with a text that gives nothing away."""
    known = error if error in _DESCRIPTIONS else "invalid_request"
    body = {"error": known, "error_description": description or _DESCRIPTIONS[known]}
    if known == "invalid_client":
        return Reply(status=401, body=body, headers=_CHALLENGE)
    return Reply(status=400, body=body)


def metadata_of(public_url: str, environment: str) -> dict[str, Any]:
    """Return an issuer's authorization server metadata (RFC 8414 §2)."""
    return {
        "issuer": f"{public_url}/{environment}",
        "token_endpoint": f"{public_url}/oauth/token",
        "jwks_uri": f"{public_url}/.well-known/jwks.json",
        "scopes_supported": list(SCOPES),
        # There is no authorization endpoint; the field is required all the same.
        "response_types_supported": ["none"],
        "grant_types_supported": [GRANT_TYPE],
        "token_endpoint_auth_methods_supported": list(AUTH_METHODS),
        "revocation_endpoint": f"{public_url}/oauth/revoke",
        "revocation_endpoint_auth_methods_supported": list(AUTH_METHODS),
        "introspection_endpoint": f"{public_url}/oauth/introspect",
        "introspection_endpoint_auth_methods_supported": list(AUTH_METHODS),
    }


def _parse_form(body: bytes) -> dict[str, str]:
    try:
        pairs = parse_qsl(
            body.decode(), keep_blank_values=True, encoding="utf-8", errors="strict", max_num_fields=_FIELDS_MAX
        )
    except ValueError:
        raise RequestRefused("invalid_request") from None
    form = dict(pairs)
    if len(form) < len(pairs):
        raise RequestRefused("invalid_request", "A parameter is given more than once.")
    # A parameter without a value counts as left out (RFC 6749 §3.2).
    return {name: value for name, value in form.items() if value}


def _basic_client_id(header: str) -> str:
    match = _BASIC.fullmatch(header)
    if match is None:
        raise RequestRefused("invalid_client")
    try:
        text = b64decode(match[1], validate=True).decode()
    except ValueError:
        raise RequestRefused("invalid_client") from None
    client_id, colon, _ = text.partition(":")
    if not colon:
        raise RequestRefused("invalid_client")
    return unquote(client_id)
