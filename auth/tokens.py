"""Access tokens: JWTs by RFC 9068, signed ES256, at most ten minutes long. Pure: keys, the instant and the id are arguments.

Verification accepts what `issue_token` makes and nothing else: exactly the header {alg, typ, kid}, exactly these claims in
these types, the issuer, the audience and a key of the environment the token names. A header that brings a key, an address
or an extension of its own is refused before anything in it is looked at.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final, Literal

import msgspec
from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import ECKey

from auth.errors import CredentialsExpired, CredentialsInvalid, ScopeUnknown
from auth.principal import Principal, SiteRef
from auth.scopes import format_scope, parse_scope

LIFETIME_S: Final = 600
JTI_BYTES: Final = 16
ALGORITHM: Final = "ES256"
TYPE: Final = "at+jwt"

_SKEW_S: Final = 60
_LENGTH_MAX: Final = 4096
_COMPACT: Final = re.compile(r"([A-Za-z0-9_-]+)\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]{86}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Issuers:
    """The names that tie a token to one environment of one deployment, and how long it is good for (at most 600 s)."""

    public_url: str
    lifetime_s: int = LIFETIME_S

    def issuer(self, environment: str) -> str:
        """Return who issues the environment's tokens."""
        return f"{self.public_url}/{environment}"

    def audience(self, environment: str) -> str:
        """Return what the environment's tokens are good for."""
        return f"{self.public_url}/{environment}/v1"


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningKey:
    """A key of one environment; with its private part it signs, with either part it verifies."""

    kid: str
    environment: str
    key: ECKey = field(repr=False)


class AccessClaims(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What an access token says; `iat` and `exp` are seconds since the epoch."""

    iss: str
    aud: str
    sub: str
    client_id: str
    org: str
    env: str
    site: int
    scope: str
    iat: int
    exp: int
    jti: str


class _Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    alg: Literal["ES256"]
    typ: Literal["at+jwt"]
    kid: str


_HEADER: Final = msgspec.json.Decoder(_Header)
_CLAIMS: Final = msgspec.json.Decoder(AccessClaims)


def new_signing_key(environment: str) -> SigningKey:
    """Generate a key pair; its id is its RFC 7638 thumbprint."""
    key = ECKey.generate_key("P-256", private=True)
    return SigningKey(kid=key.thumbprint(), environment=environment, key=key)


def draw_jti(entropy: Callable[[int], bytes]) -> str:
    """Make a token id of 128 random bits."""
    return base64.urlsafe_b64encode(entropy(JTI_BYTES)).rstrip(b"=").decode("ascii")


def issue_token(
    key: SigningKey, issuers: Issuers, *, client_id: str, site: SiteRef, scopes: Iterable[str], jti: str, now_us: int
) -> tuple[str, AccessClaims]:
    """Sign a token for a client of the key's environment; return it with what it says."""
    issued_s = now_us // 1_000_000
    claims = AccessClaims(
        iss=issuers.issuer(key.environment),
        aud=issuers.audience(key.environment),
        sub=client_id,
        client_id=client_id,
        org=site.organization,
        env=site.environment,
        site=site.id,
        scope=format_scope(scopes),
        iat=issued_s,
        exp=issued_s + issuers.lifetime_s,
        jti=jti,
    )
    header = {"alg": ALGORITHM, "typ": TYPE, "kid": key.kid}
    return jws.serialize_compact(header, msgspec.json.encode(claims), key.key, algorithms=[ALGORITHM]), claims


def read_token(
    token: str, key_of: Callable[[str], SigningKey | None], issuers: Issuers, *, now_us: int
) -> AccessClaims:
    """Verify a token and return what it says. Raises CredentialsInvalid, and CredentialsExpired for one that was good."""
    match = _COMPACT.fullmatch(token) if len(token) <= _LENGTH_MAX else None
    if match is None:
        raise CredentialsInvalid("not the form of an access token")
    try:
        header = _HEADER.decode(decode_base64(match[1]))
    except (msgspec.MsgspecError, ValueError) as error:
        raise CredentialsInvalid("not the header of an access token") from error
    key = key_of(header.kid)
    if key is None:
        raise CredentialsInvalid("signed by no key of ours")
    try:
        payload = jws.deserialize_compact(token, key.key, algorithms=[ALGORITHM]).payload
        claims = _CLAIMS.decode(payload)
    except (JoseError, msgspec.MsgspecError, ValueError) as error:
        raise CredentialsInvalid("a wrong signature or wrong claims") from error
    _check(claims, key.environment, issuers, now_us // 1_000_000)
    return claims


def principal_of(claims: AccessClaims) -> Principal:
    """Return the caller that verified claims name. Raises CredentialsInvalid if they grant what is no scope."""
    try:
        scopes = parse_scope(claims.scope)
    except ScopeUnknown as error:
        raise CredentialsInvalid("grants what is no scope") from error
    return Principal(
        kind="client",
        id=claims.client_id,
        site=SiteRef(id=claims.site, organization=claims.org, environment=claims.env),
        scopes=scopes,
        expires_at=claims.exp * 1_000_000,
        credential_id=claims.jti,
    )


def _check(claims: AccessClaims, environment: str, issuers: Issuers, now_s: int) -> None:
    if claims.env != environment:
        raise CredentialsInvalid("signed by the key of another environment")
    if claims.iss != issuers.issuer(environment) or claims.aud != issuers.audience(environment):
        raise CredentialsInvalid("of another issuer or for another audience")
    if claims.sub != claims.client_id or not claims.jti:
        raise CredentialsInvalid("names no client or has no id")
    if claims.iat > now_s + _SKEW_S or not 0 < claims.exp - claims.iat <= LIFETIME_S:
        raise CredentialsInvalid("issued in the future or for too long")
    if claims.exp <= now_s:
        raise CredentialsExpired("the access token has run out")


def decode_base64(text: str) -> bytes:
    """Read base64 in the URL's alphabet, without padding (RFC 7515 §2)."""
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
