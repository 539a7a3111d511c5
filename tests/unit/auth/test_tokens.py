"""Access tokens: what is issued is accepted, and every known forgery is not."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
from collections.abc import Callable
from typing import Any, Final

import msgspec
import pytest
from joserfc import jws
from joserfc.jwk import ECKey, OctKey

from auth.errors import CredentialsExpired, CredentialsInvalid
from auth.principal import SiteRef
from auth.scopes import ALL_SCOPES
from auth.tokens import (
    AccessClaims,
    Issuers,
    SigningKey,
    draw_jti,
    issue_token,
    new_signing_key,
    principal_of,
    read_token,
)

NOW_S: Final = 1_760_000_000
NOW_US: Final = NOW_S * 1_000_000
ISSUERS: Final = Issuers(public_url="https://ledger.example")
SITE: Final = SiteRef(id=7, organization="acme", environment="sandbox")
KEY: Final = new_signing_key("sandbox")
NEXT: Final = new_signing_key("sandbox")
LIVE: Final = new_signing_key("production")
KEYS: Final = {key.kid: key for key in (KEY, NEXT, LIVE)}


def issue(key: SigningKey = KEY, site: SiteRef = SITE) -> tuple[str, AccessClaims]:
    """Issue an ordinary token."""
    return issue_token(key, ISSUERS, client_id="glc_1", site=site, scopes=ALL_SCOPES, jti="j1", now_us=NOW_US)


def read(token: str, now_us: int = NOW_US) -> AccessClaims:
    """Verify a token with the keys of both environments."""
    return read_token(token, KEYS.get, ISSUERS, now_us=now_us)


def b64(data: bytes) -> str:
    """Encode a part of a token."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def header(**changes: Any) -> dict[str, Any]:
    """Return the ordinary header with changes; None leaves a parameter out."""
    names = {"alg": "ES256", "typ": "at+jwt", "kid": KEY.kid, **changes}
    return {name: value for name, value in names.items() if value is not None}


def claims(**changes: Any) -> dict[str, Any]:
    """Return the ordinary claims with changes; None leaves a claim out."""
    names = {**msgspec.to_builtins(issue()[1]), **changes}
    return {name: value for name, value in names.items() if value is not None}


def signed(head: dict[str, Any], payload: dict[str, Any] | bytes, key: ECKey = KEY.key) -> str:
    """Sign anything correctly by hand, whatever the header says: the signature is never what refuses these."""
    body = payload if isinstance(payload, bytes) else msgspec.json.encode(payload)
    first = f"{b64(msgspec.json.encode(head))}.{b64(body)}"
    good = jws.serialize_compact({"alg": "ES256"}, b"", key, algorithms=["ES256"])
    assert good
    algorithm = jws.JWSRegistry.algorithms["ES256"]
    return f"{first}.{b64(algorithm.sign(first.encode(), key))}"


def test_an_issued_token_is_accepted_and_names_its_caller() -> None:
    """The claims of RFC 9068 and ours, and who they stand for."""
    token, issued = issue()
    assert read(token) == issued
    assert (issued.iss, issued.aud) == ("https://ledger.example/sandbox", "https://ledger.example/sandbox/v1")
    assert issued.exp - issued.iat == 600
    caller = principal_of(issued)
    assert (caller.kind, caller.id, caller.credential_id) == ("client", "glc_1", "j1")
    assert (caller.site, caller.scopes, caller.expires_at) == (SITE, ALL_SCOPES, (NOW_S + 600) * 1_000_000)


def test_the_header_is_what_rfc_9068_asks_for() -> None:
    """The type, the one algorithm, and the thumbprint of the key."""
    token, _ = issue()
    text = token.partition(".")[0]
    head = msgspec.json.decode(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    assert head == {"alg": "ES256", "typ": "at+jwt", "kid": KEY.kid}
    x_y = {name: KEY.key.as_dict(private=False)[name] for name in ("crv", "kty", "x", "y")}
    assert KEY.kid == b64(hashlib.sha256(msgspec.json.encode(x_y, order="sorted")).digest())


def test_a_token_signed_by_hand_with_everything_right_is_accepted() -> None:
    """The forgeries below are refused for what is wrong in them, not for how they were made."""
    assert read(signed(header(), claims())) == issue()[1]


def test_every_published_key_of_the_environment_is_accepted() -> None:
    """Rotation refuses no token."""
    token, issued = issue(NEXT)
    assert read(token) == issued


def test_a_token_lives_for_ten_minutes_to_the_second() -> None:
    """At its expiry it is expired, and says so only because its signature is right."""
    token, issued = issue()
    assert read(token, issued.exp * 1_000_000 - 1) == issued
    with pytest.raises(CredentialsExpired):
        read(token, issued.exp * 1_000_000)
    with pytest.raises(CredentialsInvalid):
        read(token[:-8] + "AAAAAAAA", issued.exp * 1_000_000)


def public_pem() -> bytes:
    """Return the public key as an attacker has it."""
    return KEY.key.as_pem(private=False)


def hmac_signed(secret: bytes) -> str:
    """Sign with HMAC under what is public."""
    first = f"{b64(msgspec.json.encode(header(alg='HS256')))}.{b64(msgspec.json.encode(claims()))}"
    return f"{first}.{b64(hmac.new(secret, first.encode(), hashlib.sha256).digest())}"


def unsigned(alg: str, signature: str = "") -> str:
    """Sign with nothing."""
    return f"{b64(msgspec.json.encode(header(alg=alg)))}.{b64(msgspec.json.encode(claims()))}.{signature}"


STRANGER: Final = ECKey.generate_key("P-256")
PSYCHIC: Final = b64(bytes(64))

FORGERIES: Final[dict[str, Callable[[], str]]] = {
    "empty": str,
    "a NUL": lambda: "\0",
    "dots": lambda: "..",
    "not ASCII": lambda: "é.é.é",
    "a lone surrogate": lambda: "\ud800",
    "very long": lambda: issue()[0] + "A" * 100_000,
    "white space inside": lambda: issue()[0].replace(".", ". "),
    "a line end": lambda: issue()[0] + "\n",
    "padding": lambda: issue()[0] + "==",
    "two parts": lambda: issue()[0].rpartition(".")[0],
    "five parts (JWE)": lambda: "a.b.c.d.e",
    "header that is no JSON": lambda: f"{b64(b'{')}.{b64(b'{}')}.{PSYCHIC}",
    "header that is a list": lambda: f"{b64(b'[]')}.{b64(b'{}')}.{PSYCHIC}",
    "header that is not UTF-8": lambda: f"{b64(bytes([0xFF, 0xFE]))}.{b64(b'{}')}.{PSYCHIC}",
    "alg none": lambda: unsigned("none"),
    "alg None": lambda: unsigned("None", PSYCHIC),
    "alg nOnE with a signature": lambda: unsigned("nOnE", PSYCHIC),
    "HS256 with the public PEM": lambda: hmac_signed(public_pem()),
    "HS256 with an empty key": lambda: hmac_signed(b""),
    "HS256 with the public JWK": lambda: hmac_signed(msgspec.json.encode(KEY.key.as_dict(private=False))),
    "psychic signature": lambda: unsigned("ES256", PSYCHIC),
    "DER signature": lambda: unsigned("ES256", b64(b"\x30\x44" + os.urandom(62))),
    "another's signature": lambda: signed(header(), claims(), STRANGER),
    "another's signature with its kid": lambda: signed(header(kid=STRANGER.thumbprint()), claims(), STRANGER),
    "embedded jwk": lambda: signed(header(jwk=STRANGER.as_dict(private=False)), claims(), STRANGER),
    "embedded jwk, no kid": lambda: signed(header(kid=None, jwk=STRANGER.as_dict(private=False)), claims(), STRANGER),
    "jku": lambda: signed(header(jku="https://evil.example/jwks"), claims()),
    "x5u": lambda: signed(header(x5u="https://evil.example/x"), claims()),
    "x5c": lambda: signed(header(x5c=["AAAA"]), claims()),
    "unknown crit": lambda: signed(header(crit=["bork"], bork=True), claims()),
    "empty crit": lambda: signed(header(crit=[]), claims()),
    "b64 false": lambda: signed(header(b64=False, crit=["b64"]), claims()),
    "zip": lambda: signed(header(zip="DEF"), claims()),
    "kid missing": lambda: signed(header(kid=None), claims()),
    "kid that is a number": lambda: signed(header(kid=1), claims()),
    "kid that is a path": lambda: signed(header(kid="../../../../dev/null"), claims()),
    "kid that is SQL": lambda: signed(header(kid="' OR 1=1 --"), claims()),
    "kid with NUL": lambda: signed(header(kid=KEY.kid + "\0"), claims()),
    "kid very long": lambda: signed(header(kid="A" * 2000), claims()),
    "typ missing": lambda: signed(header(typ=None), claims()),
    "typ JWT": lambda: signed(header(typ="JWT"), claims()),
    "typ dpop": lambda: signed(header(typ="dpop+jwt"), claims()),
    "alg of a family": lambda: signed(header(alg="ES384"), claims()),
    "claims that are no JSON": lambda: signed(header(), b"nonsense"),
    "claims that are a list": lambda: signed(header(), b"[]"),
    "exp as text": lambda: signed(header(), claims(exp=str(NOW_S + 600))),
    "exp as a float": lambda: signed(header(), claims(exp=NOW_S + 600.5)),
    "exp huge": lambda: signed(header(), claims(exp=2**62)),
    "exp beyond 64 bits": lambda: signed(header(), claims(exp=2**80)),
    "exp missing": lambda: signed(header(), claims(exp=None)),
    "exp before iat": lambda: signed(header(), claims(exp=NOW_S - 1)),
    "for eleven minutes": lambda: signed(header(), claims(exp=NOW_S + 601)),
    "issued in the future": lambda: signed(header(), claims(iat=NOW_S + 61, exp=NOW_S + 600)),
    "iat missing": lambda: signed(header(), claims(iat=None)),
    "another issuer": lambda: signed(header(), claims(iss="https://evil.example/sandbox")),
    "the issuer with a slash": lambda: signed(header(), claims(iss="https://ledger.example/sandbox/")),
    "issuer missing": lambda: signed(header(), claims(iss=None)),
    "the other environment's audience": lambda: signed(header(), claims(aud=ISSUERS.audience("production"))),
    "a list of audiences": lambda: signed(header(), claims(aud=[ISSUERS.audience("sandbox"), "https://evil.example"])),
    "the client as audience": lambda: signed(header(), claims(aud="glc_1")),
    "another environment": lambda: signed(header(), claims(env="production")),
    "production by the sandbox's key": lambda: signed(
        header(),
        claims(env="production", iss=ISSUERS.issuer("production"), aud=ISSUERS.audience("production")),
    ),
    "sandbox by production's key": lambda: signed(header(kid=LIVE.kid), claims(), LIVE.key),
    "sub of another client": lambda: signed(header(), claims(sub="glc_2")),
    "scope missing": lambda: signed(header(), claims(scope=None)),
    "scope as a list": lambda: signed(header(), claims(scope=["ledger.read"])),
    "jti empty": lambda: signed(header(), claims(jti="")),
    "jti missing": lambda: signed(header(), claims(jti=None)),
    "site as text": lambda: signed(header(), claims(site="7")),
    "a claim that is not ours": lambda: signed(header(), claims(cnf={"jkt": "x"})),
    "claims after signing": lambda: issue()[0].replace(
        issue()[0].split(".")[1], b64(msgspec.json.encode(claims(site=8)))
    ),
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_a_forged_token_is_refused(forgery: str) -> None:
    """Every known attack on JWT verification, and what could be wrong in an honest one: the same refusal."""
    with pytest.raises(CredentialsInvalid):
        read(FORGERIES[forgery]())


def test_a_token_without_a_known_scope_stands_for_nobody() -> None:
    """A scope that no longer exists is not silently dropped."""
    with pytest.raises(CredentialsInvalid):
        principal_of(msgspec.structs.replace(issue()[1], scope="ledger.everything"))


def test_a_key_of_another_kind_never_verifies() -> None:
    """Even if a symmetric key came into the ring by mistake, the algorithm is not the header's to choose."""
    secret = OctKey.import_key(b"0" * 32)
    token = jws.serialize_compact(header(alg="HS256"), msgspec.json.encode(claims()), secret, algorithms=["HS256"])
    with pytest.raises(CredentialsInvalid):
        read(token)


def test_a_token_id_has_128_random_bits() -> None:
    """Sixteen bytes, all of them used."""
    drawn = draw_jti(os.urandom)
    assert len(base64.urlsafe_b64decode(drawn + "==")) == 16
    assert draw_jti(os.urandom) != drawn
    assert draw_jti(lambda n: b"\xff" * n) == "_____________________w"


def test_a_shorter_lifetime_ends_a_token_sooner() -> None:
    """A deployment may make its tokens good for less than ten minutes."""
    brief = Issuers(public_url=ISSUERS.public_url, lifetime_s=30)
    token, claims = issue_token(KEY, brief, client_id="glc_1", site=SITE, scopes=ALL_SCOPES, jti="j2", now_us=NOW_US)
    assert claims.exp - claims.iat == 30
    assert read_token(token, KEYS.get, brief, now_us=NOW_US + 29_000_000) == claims
    with pytest.raises(CredentialsExpired):
        read_token(token, KEYS.get, brief, now_us=NOW_US + 30_000_000)
