"""The OAuth endpoints: authlib's authorization server on Starlette, for the client credentials grant (RFC 6749 §4.4).

`/oauth/token`, `/oauth/introspect` (RFC 7662), `/oauth/revoke` (RFC 7009), the metadata (RFC 8414) and the keys. There is
one token endpoint for both environments: the client says which one it is of. One JWK set holds the public keys of both; each
environment is an issuer of its own, `{public_url}/{environment}`, and its metadata is found where RFC 8414 §3.1 puts it,
`/.well-known/oauth-authorization-server/{environment}`. Without an environment that address answers for the sandbox.

authlib is synchronous: it runs inside the database's bridge, with the connection in a context variable. A token request
reads one row and writes none, since a token explains itself; only what is taken back is stored. What authlib leaves open is closed
here and in `oauth`: one authentication method per request, parameters from the body only and each only once, one answer and
one cost for an unknown client and a wrong secret, and fixed texts in every error.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final, cast

import msgspec
from authlib.oauth2.rfc6749 import (
    AuthorizationServer,
    ClientCredentialsGrant,
    ClientMixin,
    OAuth2Error,
    OAuth2Request,
    UnsupportedTokenTypeError,
)
from authlib.oauth2.rfc6749.requests import BasicOAuth2Payload
from authlib.oauth2.rfc7009 import RevocationEndpoint
from authlib.oauth2.rfc7662 import IntrospectionEndpoint
from sqlalchemy import Connection
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from auth import store
from auth.authority import Authority
from auth.clients import hash_client_secret
from auth.errors import CredentialsRefused, ScopeError
from auth.keyformat import ENVIRONMENTS, is_client_id, same_hash
from auth.oauth import (
    AUTH_METHODS,
    GRANT_TYPE,
    ClientRequest,
    Reply,
    RequestRefused,
    metadata_of,
    read_request,
    refusal,
)
from auth.ports import Clock
from auth.scopes import SCOPES, format_scope, grant
from auth.store import ClientRecord
from auth.tokens import AccessClaims, draw_jti, issue_token, read_token

BODY_MAX: Final = 16_384
JWKS_MAX_AGE_S: Final = 300

_NO_HASH: Final = bytes(32)
# authlib looks at the scheme alone; whether a connection is safe is the proxy's to say and not a header's.
_URI: Final = "https://authorization.invalid/"


@dataclass(slots=True, kw_only=True)
class _Call:
    """What authlib's callbacks need and cannot be handed."""

    connection: Connection
    now_us: int
    taken_back: AccessClaims | None = None


_CALL: Final[ContextVar[_Call]] = ContextVar("oauth_call")


class OAuthEndpoints:
    """The handlers, to be put on routes: three of POST, two of GET."""

    def __init__(self, authority: Authority, *, clock: Clock) -> None:
        self._authority = authority
        self._clock = clock
        self._server = _Server(authority)
        self._metadata = {
            name: msgspec.json.encode(metadata_of(authority.issuers.public_url, name)) for name in ENVIRONMENTS
        }

    async def token(self, request: Request) -> Response:
        """POST /oauth/token: an access token for a client's id and secret."""
        return await self._answer(request, self._server.create_token_response, required="grant_type")

    async def introspect(self, request: Request) -> Response:
        """POST /oauth/introspect: what a token of the client's own site says, if it is good."""
        return await self._answer(request, self._server.introspect, required="token")

    async def revoke(self, request: Request) -> Response:
        """POST /oauth/revoke: take a token back; in this process at once, in every other within seconds."""
        return await self._answer(request, self._server.revoke, required="token")

    async def metadata(self, request: Request) -> Response:
        """GET /.well-known/oauth-authorization-server[/{environment}]: the metadata of an issuer."""
        body = self._metadata.get(request.path_params.get("environment", ENVIRONMENTS[0]))
        if body is None:
            return _response(Reply(status=404, body={"error": "not_found"}))
        return Response(body, media_type="application/json", headers=_max_age())

    async def jwks(self, request: Request) -> Response:  # noqa: ARG002 - the signature of a handler
        """GET /.well-known/jwks.json: the public keys of both environments."""
        return Response(self._authority.keyring.jwks, media_type="application/jwk-set+json", headers=_max_age())

    async def _answer(self, request: Request, respond: Callable[[_FormRequest], Reply], *, required: str) -> Response:
        try:
            form = _FormRequest(await _read(request, required))
        except RequestRefused as refused:
            return _response(refusal(refused.error, refused.description))
        now_us = self._clock()

        def run(conn: Connection) -> tuple[Reply, AccessClaims | None]:
            call = _Call(connection=conn, now_us=now_us)
            token = _CALL.set(call)
            try:
                return respond(form), call.taken_back
            finally:
                _CALL.reset(token)

        reply, taken_back = await self._authority.control.read(run)
        if taken_back is not None:
            await self._take_back(taken_back, now_us)
        return _response(reply)

    async def _take_back(self, claims: AccessClaims, now_us: int) -> None:
        expires_at = claims.exp * 1_000_000
        await self._authority.control.write(
            lambda conn: store.add_revocation(conn, claims.jti, claims.site, expires_at=expires_at, now_us=now_us)
        )
        self._authority.revocations.add_token(claims.jti, expires_at)


class _FormRequest(OAuth2Request):  # type: ignore[misc] # authlib ships no types
    """A request that was read already: authlib gets the form and at most one Authorization header."""

    def __init__(self, request: ClientRequest) -> None:
        headers = {} if request.authorization is None else {"Authorization": request.authorization}
        super().__init__("POST", _URI, headers=headers)
        self.payload = BasicOAuth2Payload(request.form)
        self._form = request.form

    @property
    def form(self) -> dict[str, str]:
        return self._form

    @property
    def args(self) -> dict[str, str]:
        return {}


class _Client(ClientMixin):  # type: ignore[misc] # authlib ships no types
    """A client as authlib asks about it. An unknown one is a client whose secret nobody knows."""

    def __init__(self, authority: Authority, client_id: str, record: ClientRecord | None, now_us: int) -> None:
        self.client_id = client_id
        self.record = record
        self._pepper = authority.pepper
        self._now_us = now_us

    def get_client_id(self) -> str:
        return self.client_id

    def get_allowed_scope(self, scope: str | None) -> str | None:
        if self.record is None:
            return None
        try:
            granted = grant(None if scope is None else scope.split(" "), self.record.scopes)
        except ScopeError:
            return None
        return format_scope(granted) or None

    def check_client_secret(self, client_secret: str) -> bool:
        offered = hash_client_secret(self._pepper, self.client_id, client_secret)
        record = self.record
        current = same_hash(offered, _NO_HASH if record is None else record.secret_hash)
        previous = same_hash(offered, _NO_HASH if record is None else record.previous_secret_hash or _NO_HASH)
        if record is None:
            return False
        return current or (previous and self._now_us < (record.previous_expires_at or 0))

    def check_endpoint_auth_method(self, method: str, endpoint: str) -> bool:  # noqa: ARG002 - authlib's signature
        return method in AUTH_METHODS

    def check_grant_type(self, grant_type: str) -> bool:
        return grant_type == GRANT_TYPE


class _Server(AuthorizationServer):  # type: ignore[misc] # authlib ships no types
    """The authorization server: where clients are found, how tokens are made, how errors read."""

    def __init__(self, authority: Authority) -> None:
        super().__init__(scopes_supported=list(SCOPES))
        self._authority = authority
        self.register_grant(_ClientCredentials)
        self.register_endpoint(_Revocation)
        self.register_endpoint(_Introspection)
        self.register_token_generator("default", self._make_token)

    def introspect(self, request: _FormRequest) -> Reply:
        return cast("Reply", self.create_endpoint_response("introspection", request))

    def revoke(self, request: _FormRequest) -> Reply:
        return cast("Reply", self.create_endpoint_response("revocation", request))

    def query_client(self, client_id: str) -> _Client:
        call = _CALL.get()
        record = store.find_client(call.connection, client_id) if is_client_id(client_id) else None
        return _Client(self._authority, client_id, record, call.now_us)

    def read_access_token(self, token: str) -> AccessClaims | None:
        call = _CALL.get()
        ring = self._authority.keyring
        try:
            claims = read_token(token, ring.verifying_key, self._authority.issuers, now_us=call.now_us)
        except CredentialsRefused:
            return None
        if (
            store.is_revoked(call.connection, claims.jti)
            or store.find_client(call.connection, claims.client_id) is None
        ):
            return None
        return claims

    def save_token(self, token: object, request: object) -> None:
        """Store nothing: a token explains itself."""

    def send_signal(self, name: str, *args: object, **kwargs: object) -> None:
        """Tell nobody: authlib calls this in every request."""

    def create_oauth2_request(self, request: _FormRequest) -> _FormRequest:
        return request

    def handle_response(self, status: int, body: Mapping[str, Any], headers: object) -> Reply:  # noqa: ARG002
        return Reply(status=status, body=body)

    def handle_error_response(self, request: object, error: OAuth2Error) -> Reply:  # noqa: ARG002
        return refusal(error.error)

    def _make_token(self, *, client: _Client, scope: str | None, **_: object) -> dict[str, object]:
        allowed = client.get_allowed_scope(scope)
        if client.record is None or allowed is None:
            raise OAuth2Error(error="invalid_scope")
        call, record = _CALL.get(), client.record
        token, claims = issue_token(
            self._authority.keyring.signing_key(record.site.environment),
            self._authority.issuers,
            client_id=record.client_id,
            site=record.site,
            scopes=allowed.split(" "),
            jti=draw_jti(self._authority.entropy),
            now_us=call.now_us,
        )
        return {
            "access_token": token,
            "token_type": "Bearer",
            "expires_in": claims.exp - claims.iat,
            "scope": claims.scope,
        }


class _ClientCredentials(ClientCredentialsGrant):  # type: ignore[misc] # authlib ships no types
    TOKEN_ENDPOINT_AUTH_METHODS = AUTH_METHODS


@dataclass(frozen=True, slots=True)
class _Token:
    """A verified token as authlib asks about it."""

    claims: AccessClaims

    def check_client(self, client: _Client) -> bool:
        return self.claims.client_id == client.client_id

    def is_expired(self) -> bool:
        return False

    def is_revoked(self) -> bool:
        return False


class _Revocation(RevocationEndpoint):  # type: ignore[misc] # authlib ships no types
    CLIENT_AUTH_METHODS = AUTH_METHODS

    def check_params(self, request: object, client: object) -> None:
        """Check nothing: the token is there, and a hint is only a hint (RFC 7009 §2.1)."""

    def query_token(self, token: str, token_type_hint: str | None) -> _Token | None:  # noqa: ARG002
        if token.startswith("glk_"):
            raise UnsupportedTokenTypeError
        claims = self.server.read_access_token(token)
        return None if claims is None else _Token(claims)

    def revoke_token(self, token: _Token, request: _FormRequest) -> None:  # noqa: ARG002 - authlib's signature
        # Written when this read is over: junk must not take the turn of those who write.
        _CALL.get().taken_back = token.claims


class _Introspection(IntrospectionEndpoint):  # type: ignore[misc] # authlib ships no types
    CLIENT_AUTH_METHODS = AUTH_METHODS

    def check_params(self, request: object, client: object) -> None:
        """Check nothing: the token is there, and a hint is only a hint (RFC 7009 §2.1)."""

    def query_token(self, token: str, token_type_hint: str | None) -> _Token | None:  # noqa: ARG002
        claims = self.server.read_access_token(token)
        return None if claims is None else _Token(claims)

    def check_permission(self, token: _Token, client: _Client, request: _FormRequest) -> bool:  # noqa: ARG002
        return client.record is not None and client.record.site.id == token.claims.site

    def introspect_token(self, token: _Token) -> dict[str, Any]:
        return {"active": True, "token_type": "Bearer", **msgspec.to_builtins(token.claims)}


async def _read(request: Request, required: str) -> ClientRequest:
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > BODY_MAX:
                raise RequestRefused("invalid_request", "The body is too large.")
    except ClientDisconnect:
        raise RequestRefused("invalid_request") from None
    return read_request(
        query=request.url.query,
        content_type=request.headers.get("content-type", ""),
        authorizations=request.headers.getlist("authorization"),
        body=bytes(body),
        required=required,
    )


def _response(reply: Reply) -> Response:
    headers = {"cache-control": "no-store", "pragma": "no-cache", **reply.headers}
    body = msgspec.json.encode(reply.body)
    return Response(body, status_code=reply.status, media_type="application/json", headers=headers)


def _max_age() -> dict[str, str]:
    return {"cache-control": f"public, max-age={JWKS_MAX_AGE_S}"}
