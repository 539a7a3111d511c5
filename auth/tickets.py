"""Stream tickets: short-lived credentials for what cannot send a header, such as a browser's EventSource. Pure.

A ticket is a JWT of a type and audience of its own, signed by the environment's key: no access token is a ticket and no ticket
is an access token. It is bound to a site, the scopes, the filter and the web origin it was made for, and to the credential that
made it: it ends with that one, and is revoked with it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

import msgspec
from joserfc import jws
from joserfc.errors import JoseError

from auth.errors import CredentialsExpired, CredentialsInvalid, ScopeUnknown
from auth.principal import Principal, SiteRef
from auth.scopes import format_scope, parse_scope
from auth.tokens import ALGORITHM, Issuers, SigningKey, decode_base64

LIFETIME_S: Final = 600
LENGTH_MAX: Final = 6000
TYPE: Final = "stream-ticket+jwt"

_SKEW_S: Final = 60
_COMPACT: Final = re.compile(r"([A-Za-z0-9_-]+)\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]{86}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket:
    """A verified ticket: who it lets in, what it lets through (as JSON), and from which origin (None: from no web page)."""

    principal: Principal
    filter: bytes
    origin: str | None


class _Claims(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    iss: str
    aud: str
    kind: Literal["client", "api_key", "administrator"]
    sub: str
    credential: str
    org: str
    env: str
    site: int
    scope: str
    filter: msgspec.Raw
    origin: str | None
    iat: int
    exp: int


class _Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    alg: Literal["ES256"]
    typ: Literal["stream-ticket+jwt"]
    kid: str


_HEADER: Final = msgspec.json.Decoder(_Header)
_CLAIMS: Final = msgspec.json.Decoder(_Claims)


def issue_ticket(
    key: SigningKey,
    issuers: Issuers,
    creator: Principal,
    *,
    scopes: frozenset[str],
    filter_json: bytes,
    origin: str | None,
    lifetime_s: int,
    now_us: int,
) -> tuple[str, int]:
    """Sign a ticket; return it with the second since the epoch at which it ends: never later than its creator."""
    issued_s = now_us // 1_000_000
    expires_s = min(issued_s + min(lifetime_s, LIFETIME_S), creator.expires_at // 1_000_000)
    claims = _Claims(
        iss=issuers.issuer(key.environment),
        aud=_audience(issuers, key.environment),
        kind=creator.kind,
        sub=creator.id,
        credential=creator.credential_id,
        org=creator.site.organization,
        env=creator.site.environment,
        site=creator.site.id,
        scope=format_scope(scopes & creator.scopes),
        filter=msgspec.Raw(filter_json),
        origin=origin,
        iat=issued_s,
        exp=expires_s,
    )
    header = {"alg": ALGORITHM, "typ": TYPE, "kid": key.kid}
    return jws.serialize_compact(header, msgspec.json.encode(claims), key.key, algorithms=[ALGORITHM]), expires_s


def read_ticket(text: str, key_of: Callable[[str], SigningKey | None], issuers: Issuers, *, now_us: int) -> Ticket:
    """Verify a ticket. Raises CredentialsInvalid, and CredentialsExpired for one that was good."""
    match = _COMPACT.fullmatch(text) if len(text) <= LENGTH_MAX else None
    if match is None:
        raise CredentialsInvalid("not the form of a ticket")
    try:
        header = _HEADER.decode(decode_base64(match[1]))
    except (msgspec.MsgspecError, ValueError) as error:
        raise CredentialsInvalid("not the header of a ticket") from error
    key = key_of(header.kid)
    if key is None:
        raise CredentialsInvalid("a ticket signed by no key of ours")
    try:
        claims = _CLAIMS.decode(jws.deserialize_compact(text, key.key, algorithms=[ALGORITHM]).payload)
        scopes = parse_scope(claims.scope)
    except (JoseError, msgspec.MsgspecError, ScopeUnknown, ValueError) as error:
        raise CredentialsInvalid("a wrong signature or wrong claims") from error
    _check(claims, key.environment, issuers, now_us // 1_000_000)
    principal = Principal(
        kind=claims.kind,
        id=claims.sub,
        site=SiteRef(id=claims.site, organization=claims.org, environment=claims.env),
        scopes=scopes,
        expires_at=claims.exp * 1_000_000,
        credential_id=claims.credential,
    )
    return Ticket(principal=principal, filter=bytes(claims.filter), origin=claims.origin)


def _check(claims: _Claims, environment: str, issuers: Issuers, now_s: int) -> None:
    if claims.env != environment:
        raise CredentialsInvalid("signed by the key of another environment")
    if claims.iss != issuers.issuer(environment) or claims.aud != _audience(issuers, environment):
        raise CredentialsInvalid("of another issuer or for another audience")
    if claims.iat > now_s + _SKEW_S or claims.exp - claims.iat > LIFETIME_S:
        raise CredentialsInvalid("issued in the future or for too long")
    if claims.exp <= now_s:
        raise CredentialsExpired("the ticket has run out")


def _audience(issuers: Issuers, environment: str) -> str:
    return f"{issuers.audience(environment)}/events"
