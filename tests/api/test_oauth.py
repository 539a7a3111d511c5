"""The OAuth endpoints over HTTP: the ordinary cases, and every way of asking that must not work."""

from __future__ import annotations

import asyncio
import base64
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx2
import msgspec
import pytest
from joserfc import jwt
from joserfc.jwk import KeySet
from sqlalchemy import text
from starlette.applications import Starlette
from starlette.routing import Route

from auth.authority import Authority
from auth.clients import Credentials
from auth.errors import CredentialsRevoked
from auth.scopes import SCOPES, format_scope
from auth.server import BODY_MAX, OAuthEndpoints
from auth.store import control
from engine.databases import Database
from engine.ids import Ids
from tests.fakes.clock import FakeClock

FORM: Final = "application/x-www-form-urlencoded"
GRANT: Final = {"grant_type": "client_credentials"}
ENDPOINTS: Final = ("/oauth/token", "/oauth/introspect", "/oauth/revoke")


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A server that listens, with a site in each environment and one of another organization."""

    authority: Authority
    database: Database
    clock: FakeClock
    http: httpx2.AsyncClient
    sandbox: Credentials
    production: Credentials
    stranger: Credentials

    async def token(self, credentials: Credentials, **form: str) -> dict[str, Any]:
        """Get a token the ordinary way."""
        answer = await self.http.post("/oauth/token", data={**GRANT, **form}, auth=basic(credentials))
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    async def is_active(self, token: str, credentials: Credentials) -> bool:
        """Ask whether a token is good."""
        answer = await self.http.post("/oauth/introspect", data={"token": token}, auth=basic(credentials))
        assert answer.status_code == 200, answer.text
        return bool(answer.json()["active"])


def basic(credentials: Credentials) -> tuple[str, str]:
    """Return what HTTP Basic sends."""
    return credentials.client_id, credentials.client_secret


def routes(endpoints: OAuthEndpoints) -> list[Route]:
    """Return the routes as the gateway has them."""
    metadata = "/.well-known/oauth-authorization-server"
    return [
        Route("/oauth/token", endpoints.token, methods=["POST"]),
        Route("/oauth/introspect", endpoints.introspect, methods=["POST"]),
        Route("/oauth/revoke", endpoints.revoke, methods=["POST"]),
        Route(metadata, endpoints.metadata),
        Route(metadata + "/{environment}", endpoints.metadata),
        Route("/.well-known/jwks.json", endpoints.jwks),
    ]


async def new_site(authority: Authority, organization: str, environment: str, now_us: int) -> Credentials:
    """Create a site."""
    await authority.clients.begin_site(organization, environment, now_us=now_us)
    return await authority.clients.bootstrap(organization, environment, rotate=False, now_us=now_us)


@asynccontextmanager
async def serving(database: Database, clock: FakeClock) -> AsyncIterator[Server]:
    """Serve over an empty control database."""
    authority = Authority.over(database, master_key=bytes(range(32)), public_url="https://ledger.example", ids=Ids())
    await authority.start(now_us=clock.now_us())
    transport = httpx2.ASGITransport(Starlette(routes=routes(OAuthEndpoints(authority, clock=clock.now_us))))
    async with httpx2.AsyncClient(transport=transport, base_url="http://ledger.example") as http:
        yield Server(
            authority=authority,
            database=database,
            clock=clock,
            http=http,
            sandbox=await new_site(authority, "acme", "sandbox", clock.now_us()),
            production=await new_site(authority, "acme", "production", clock.now_us()),
            stranger=await new_site(authority, "other", "sandbox", clock.now_us()),
        )


@pytest.fixture
async def server(tmp_path: Path, clock: FakeClock) -> AsyncIterator[Server]:
    """A server over a control database of its own."""
    database = Database.open(f"sqlite+aiosqlite:///{tmp_path / 'control.sqlite3'}")
    await database.write(control.create_all)
    async with serving(database, clock) as started:
        yield started
    await database.close()


def parts_of(token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a token's header and claims, unverified."""
    head, body, _ = (base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)) for part in token.split("."))
    return msgspec.json.decode(head), msgspec.json.decode(body)


@pytest.mark.parametrize("method", ["basic", "post"])
async def test_a_client_gets_a_token_for_its_id_and_secret(server: Server, method: str) -> None:
    """By HTTP Basic and in the form: ten minutes, all its scopes, and not to be cached."""
    client_id, client_secret = basic(server.sandbox)
    if method == "basic":
        answer = await server.http.post("/oauth/token", data=GRANT, auth=(client_id, client_secret))
    else:
        form = {**GRANT, "client_id": client_id, "client_secret": client_secret}
        answer = await server.http.post("/oauth/token", data=form)
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["pragma"] == "no-cache"
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    assert set(body) == {"access_token", "token_type", "expires_in", "scope"}
    assert (body["token_type"], body["expires_in"], body["scope"]) == ("Bearer", 600, format_scope(SCOPES))
    caller = await server.authority.authenticator.authenticate(
        f"Bearer {body['access_token']}", None, server.clock.now_us()
    )
    assert (caller.id, caller.site.organization, caller.site.environment) == (client_id, "acme", "sandbox")


async def test_the_answer_and_the_token_agree_on_its_life(server: Server) -> None:
    """What `expires_in` says is what the token says: ten minutes and not ten days."""
    body = await server.token(server.sandbox)
    head, claims = parts_of(body["access_token"])
    assert claims["exp"] - claims["iat"] == body["expires_in"] == 600
    assert claims["scope"] == body["scope"]
    assert (head["typ"], head["alg"]) == ("at+jwt", "ES256")
    assert head["kid"] == server.authority.keyring.signing_key("sandbox").kid
    assert len(claims["jti"]) == 22
    assert claims["aud"] == "https://ledger.example/sandbox/v1"


async def test_a_partner_verifies_a_token_with_the_published_keys(server: Server) -> None:
    """The JWK set is public, cacheable, of both environments, and enough."""
    answer = await server.http.get("/.well-known/jwks.json")
    assert answer.headers["content-type"] == "application/jwk-set+json"
    assert answer.headers["cache-control"] == "public, max-age=300"
    keys = answer.json()["keys"]
    assert len(keys) == 4
    for key in keys:
        assert set(key) == {"kty", "crv", "x", "y", "kid", "use", "alg"}
    for credentials in (server.sandbox, server.production):
        token = (await server.token(credentials))["access_token"]
        claims = jwt.decode(token, KeySet.import_key_set(answer.json()), algorithms=["ES256"]).claims
        assert claims["client_id"] == credentials.client_id


async def test_the_environments_have_issuers_audiences_and_keys_of_their_own(server: Server) -> None:
    """The wall between sandbox and production stands three times."""
    tokens = [(await server.token(each))["access_token"] for each in (server.sandbox, server.production)]
    (head, claims), (live_head, live_claims) = (parts_of(token) for token in tokens)
    assert head["kid"] != live_head["kid"]
    assert (claims["iss"], live_claims["iss"]) == (
        "https://ledger.example/sandbox",
        "https://ledger.example/production",
    )
    assert claims["aud"] != live_claims["aud"]


async def test_the_metadata_is_found_for_each_issuer(server: Server) -> None:
    """At the address RFC 8414 gives it; without an environment it is the sandbox's; a third one is not there."""
    well_known = "/.well-known/oauth-authorization-server"
    for path, environment in (("", "sandbox"), ("/sandbox", "sandbox"), ("/production", "production")):
        answer = await server.http.get(well_known + path)
        assert answer.status_code == 200
        assert answer.json()["issuer"] == f"https://ledger.example/{environment}"
        assert answer.json()["token_endpoint"] == "https://ledger.example/oauth/token"
    assert (await server.http.get(well_known + "/staging")).status_code == 404


async def test_less_may_be_asked_for_and_not_more(server: Server) -> None:
    """The scope is narrowed on request; one that the client lacks is refused and not dropped."""
    body = await server.token(server.sandbox, scope="events.read ledger.read ledger.read")
    assert body["scope"] == "ledger.read events.read"
    site = (await server.authority.clients.find_site("acme", "sandbox")).ref
    till = await server.authority.clients.create(site, "till", ["ledger.read"], now_us=server.clock.now_us())
    for scope in ("ledger.write", "ledger.read ledger.write"):
        answer = await server.http.post(
            "/oauth/token", data={**GRANT, "scope": scope}, auth=(till.client_id, till.client_secret)
        )
        assert (answer.status_code, answer.json()["error"]) == (400, "invalid_scope")


@pytest.mark.parametrize(
    "scope", ["root", "ledger.read root", "ledger.read\0", "ledger.read\tevents.read", " ", "é", '"']
)
async def test_what_is_no_scope_is_refused(server: Server, scope: str) -> None:
    """Unknown words, control characters, nothing but white space."""
    answer = await server.http.post("/oauth/token", data={**GRANT, "scope": scope}, auth=basic(server.sandbox))
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_scope")


@pytest.mark.parametrize("path", ENDPOINTS)
async def test_a_wrong_secret_and_an_unknown_client_get_the_same_answer(server: Server, path: str) -> None:
    """By Basic, in the form, with nothing at all: nobody learns which clients exist."""
    client_id, secret = basic(server.sandbox)
    unknown = "glc_sbx_0000000000000000"
    form = {**GRANT, "token": "x"}
    answers = [
        await server.http.post(path, data=form, auth=(client_id, "wrong")),
        await server.http.post(path, data=form, auth=(client_id, server.stranger.client_secret)),
        await server.http.post(path, data=form, auth=(unknown, secret)),
        await server.http.post(path, data=form, auth=("nobody", secret)),
        await server.http.post(path, data=form, auth=("", "")),
        await server.http.post(path, data=form, auth=("\0", "\0")),
        await server.http.post(path, data={**form, "client_id": client_id, "client_secret": "wrong"}),
        await server.http.post(path, data={**form, "client_id": unknown, "client_secret": secret}),
        await server.http.post(path, data={**form, "client_id": "\0é", "client_secret": secret}),
        await server.http.post(path, data={**form, "client_id": client_id}),
        await server.http.post(path, data=form),
    ]
    assert {answer.status_code for answer in answers} == {401}
    assert len({answer.content for answer in answers}) == 1
    assert answers[0].json()["error"] == "invalid_client"
    for answer in answers:
        assert answer.headers["www-authenticate"].startswith('Basic realm="')
        assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("path", ENDPOINTS)
@pytest.mark.parametrize(
    "header",
    [
        b"Basic " + base64.b64encode(b"\xff\xfe\xfd:x"),
        b"Basic \xe9\xe9\xe9",
        b"Basic !!!",
        b"Basic",
        b"Basic ",
        b"Basic " + base64.b64encode(b"no colon"),
        b"Basic " + base64.b64encode(b"%ff%00:%ff"),
        b"Bearer abc",
        b"\xff",
    ],
)
async def test_a_malformed_authorization_header_is_a_failed_authentication(
    server: Server, path: str, header: bytes
) -> None:
    """Bytes that are no text must not become a failure of the server."""
    form = b"grant_type=client_credentials&token=x"
    answer = await server.http.post(
        path, content=form, headers=[(b"content-type", FORM.encode()), (b"authorization", header)]
    )
    assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client")


@pytest.mark.parametrize(
    ("body", "media_type"),
    [
        (b'{"grant_type":"client_credentials"}', "application/json"),
        (b"grant_type=client_credentials", "text/plain"),
        (b"grant_type=client_credentials&grant_type=client_credentials", FORM),
        (b"grant_type=client_credentials&scope=ledger.read&scope=ledger.read", FORM),
        (b"grant_type=client_credentials&client_secret=x", FORM),
        (b"grant_type=client_credentials&client_assertion=x", FORM),
        (b"", FORM),
        (b"\xff\xff", FORM),
        (b"grant_type=%ff", FORM),
        (b"grant_type=client_credentials&x=" + b"y" * BODY_MAX, FORM),
        (b"&".join(b"p%d=1" % number for number in range(2000)), FORM),
    ],
)
async def test_a_malformed_token_request_is_refused(server: Server, body: bytes, media_type: str) -> None:
    """Another media type, a parameter twice, two ways to authenticate, too much: 400 invalid_request."""
    answer = await server.http.post(
        "/oauth/token", content=body, headers={"content-type": media_type}, auth=basic(server.sandbox)
    )
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")


async def test_parameters_in_the_query_are_refused(server: Server) -> None:
    """A secret in an address ends up in logs; it must not work, not even beside a right body."""
    client_id, secret = basic(server.sandbox)
    query = {**GRANT, "client_id": client_id, "client_secret": secret}
    for form in ({}, GRANT):
        answer = await server.http.post("/oauth/token", params=query, data=form, headers={"content-type": FORM})
        assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")


@pytest.mark.parametrize(
    "grant", ["password", "authorization_code", "refresh_token", 'x"\\', "é", "client_credentials\0"]
)
async def test_another_grant_is_not_supported(server: Server, grant: str) -> None:
    """Only client credentials, and no text of the request comes back in the answer."""
    answer = await server.http.post("/oauth/token", data={"grant_type": grant}, auth=basic(server.sandbox))
    assert (answer.status_code, answer.json()["error"]) == (400, "unsupported_grant_type")
    assert grant not in answer.json()["error_description"]


async def test_a_body_that_names_another_client_gets_no_token(server: Server) -> None:
    """Authenticated as one, asking as another."""
    form = {**GRANT, "client_id": server.stranger.client_id}
    answer = await server.http.post("/oauth/token", data=form, auth=basic(server.sandbox))
    assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client")


async def test_a_rotated_secret_works_for_the_overlap_and_no_longer(server: Server) -> None:
    """A rotation fails no request, and ends."""
    old = server.sandbox
    new = await server.authority.clients.rotate_secret(old.client_id, overlap_s=3600, now_us=server.clock.now_us())
    await server.token(old)
    answer = await server.http.post("/oauth/token", data=GRANT, auth=(new.client_id, new.client_secret))
    assert answer.status_code == 200
    server.clock.advance(seconds=3600)
    answer = await server.http.post("/oauth/token", data=GRANT, auth=basic(old))
    assert answer.status_code == 401
    answer = await server.http.post("/oauth/token", data=GRANT, auth=(new.client_id, new.client_secret))
    assert answer.status_code == 200


async def test_a_revoked_client_gets_no_token(server: Server) -> None:
    """At once, and its tokens are good no more."""
    token = (await server.token(server.sandbox))["access_token"]
    site = (await server.authority.clients.find_site("acme", "sandbox")).ref
    auditor = await server.authority.clients.create(site, "auditor", ["ledger.read"], now_us=server.clock.now_us())
    await server.authority.clients.revoke(server.sandbox.client_id, now_us=server.clock.now_us())
    answer = await server.http.post("/oauth/token", data=GRANT, auth=basic(server.sandbox))
    assert answer.status_code == 401
    answer = await server.http.post(
        "/oauth/introspect", data={"token": token}, auth=(auditor.client_id, auditor.client_secret)
    )
    assert answer.json() == {"active": False}


async def test_a_token_request_writes_nothing(server: Server) -> None:
    """Tokens explain themselves: a thousand of them leave no row."""
    tables = ("clients", "api_keys", "revocations", "credential_requests")

    async def rows() -> list[int]:
        counts = [f"SELECT count(*) FROM {table}" for table in tables]
        return await server.database.read(lambda conn: [conn.execute(text(count)).scalar_one() for count in counts])

    before = await rows()
    tokens = await asyncio.gather(*(server.token(server.sandbox) for _ in range(50)))
    assert len({token["access_token"] for token in tokens}) == 50
    assert await rows() == before


async def test_every_endpoint_works_on_both_databases_and_asks_them_nothing_they_would_refuse(
    control_database: Database, clock: FakeClock
) -> None:
    """Issued, introspected, revoked; a client id with a NUL is unknown, and not an error of PostgreSQL's."""
    async with serving(control_database, clock) as server:
        token = (await server.token(server.production))["access_token"]
        assert await server.is_active(token, server.production)
        for client_id in ("\0", "glc_sbx_\0", "x" * 5000, "\U0001f511"):
            form = {"token": token}
            for answer in (
                await server.http.post("/oauth/revoke", data=form, auth=(client_id, "x")),
                await server.http.post("/oauth/revoke", data={**form, "client_id": client_id, "client_secret": "x"}),
            ):
                assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client")
        assert await server.is_active(token, server.production)
        answer = await server.http.post("/oauth/revoke", data={"token": token}, auth=basic(server.production))
        assert answer.status_code == 200
        assert not await server.is_active(token, server.production)


async def test_a_revoked_token_is_refused_at_once(server: Server) -> None:
    """RFC 7009: 200, and again 200; here it is refused from then on, also where it was cached."""
    token = (await server.token(server.sandbox))["access_token"]
    other = (await server.token(server.sandbox))["access_token"]
    authenticate = server.authority.authenticator.authenticate
    await authenticate(f"Bearer {token}", None, server.clock.now_us())
    for _ in range(2):
        answer = await server.http.post(
            "/oauth/revoke", data={"token": token, "token_type_hint": "refresh_token"}, auth=basic(server.sandbox)
        )
        assert (answer.status_code, answer.json()) == (200, {})
    with pytest.raises(CredentialsRevoked):
        await authenticate(f"Bearer {token}", None, server.clock.now_us())
    assert not await server.is_active(token, server.sandbox)
    assert await server.is_active(other, server.sandbox)


async def test_another_process_refuses_a_revoked_token_after_its_refresh(server: Server) -> None:
    """The control database carries the word, whoever else is down."""
    token = (await server.token(server.sandbox))["access_token"]
    other = Authority.over(server.database, master_key=bytes(range(32)), public_url="https://ledger.example", ids=Ids())
    await other.start(now_us=server.clock.now_us())
    caller = await other.authenticator.authenticate(f"Bearer {token}", None, server.clock.now_us())
    await server.http.post("/oauth/revoke", data={"token": token}, auth=basic(server.sandbox))
    assert not other.authenticator.revoked(caller)
    await other.authenticator.refresh(server.clock.advance(seconds=2))
    assert other.authenticator.revoked(caller)
    with pytest.raises(CredentialsRevoked):
        await other.authenticator.authenticate(f"Bearer {token}", None, server.clock.now_us())


@pytest.mark.parametrize("junk", ["x", "a.b.c", "\0", "é", "A" * 9000, "eyJhbGciOiJub25lIn0.e30."])
async def test_revoking_junk_is_a_success_and_introspecting_it_says_no(server: Server, junk: str) -> None:
    """What is no token cannot be used, which is what was asked for."""
    answer = await server.http.post("/oauth/revoke", data={"token": junk}, auth=basic(server.sandbox))
    assert (answer.status_code, answer.json()) == (200, {})
    assert not await server.is_active(junk, server.sandbox)


@pytest.mark.parametrize("path", ["/oauth/revoke", "/oauth/introspect"])
async def test_a_request_without_a_token_is_malformed(server: Server, path: str) -> None:
    """The one parameter that is required."""
    answer = await server.http.post(path, data={"x": "y"}, auth=basic(server.sandbox))
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")


async def test_a_client_cannot_revoke_the_token_of_another(server: Server) -> None:
    """It is told, and the token stays good."""
    token = (await server.token(server.sandbox))["access_token"]
    for other in (server.stranger, server.production):
        answer = await server.http.post("/oauth/revoke", data={"token": token}, auth=basic(other))
        assert (answer.status_code, answer.json()["error"]) == (400, "invalid_grant")
    assert await server.is_active(token, server.sandbox)


async def test_an_api_key_is_not_revoked_here_and_the_answer_says_where(server: Server) -> None:
    """A success would be a lie: the key would still work."""
    answer = await server.http.post("/oauth/revoke", data={"token": server.sandbox.api_key}, auth=basic(server.sandbox))
    assert (answer.status_code, answer.json()["error"]) == (400, "unsupported_token_type")
    assert "/v1/api_keys" in answer.json()["error_description"]


async def test_introspection_tells_a_client_about_the_tokens_of_its_own_site(server: Server) -> None:
    """All it says is what the token says; for another site's client the token does not exist."""
    token = (await server.token(server.sandbox, scope="ledger.read"))["access_token"]
    answer = await server.http.post("/oauth/introspect", data={"token": token}, auth=basic(server.sandbox))
    assert answer.headers["cache-control"] == "no-store"
    assert answer.json() == {"active": True, "token_type": "Bearer", **parts_of(token)[1]}
    for other in (server.stranger, server.production):
        foreign = await server.http.post("/oauth/introspect", data={"token": token}, auth=basic(other))
        assert foreign.json() == {"active": False}


async def test_an_expired_token_is_not_active(server: Server) -> None:
    """After ten minutes to the second."""
    body = await server.token(server.sandbox)
    server.clock.advance(seconds=body["expires_in"] - 1)
    assert await server.is_active(body["access_token"], server.sandbox)
    server.clock.advance(seconds=1)
    assert not await server.is_active(body["access_token"], server.sandbox)


async def test_tokens_are_signed_by_the_new_key_after_a_rotation(server: Server) -> None:
    """No restart, and the new key had been published."""
    published = (await server.http.get("/.well-known/jwks.json")).json()["keys"]
    old = (await server.token(server.sandbox))["access_token"]
    await server.authority.keyring.rotate_signing_key("sandbox", now_us=server.clock.now_us())
    new = (await server.token(server.sandbox))["access_token"]
    assert parts_of(new)[0]["kid"] != parts_of(old)[0]["kid"]
    assert parts_of(new)[0]["kid"] in {key["kid"] for key in published}
    assert await server.is_active(old, server.sandbox)
    assert len((await server.http.get("/.well-known/jwks.json")).json()["keys"]) == 5


async def test_nothing_secret_is_logged_at_the_level_the_program_sets(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    """With authlib at INFO, neither a secret nor a token reaches a log."""
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.INFO, logger="authlib")
    token = (await server.token(server.sandbox))["access_token"]
    await server.http.post("/oauth/token", data=GRANT, auth=(server.sandbox.client_id, "wrong-secret"))
    told = "\n".join(str(record.__dict__) for record in caplog.records)
    for secret in (server.sandbox.client_secret, token, "wrong-secret"):
        assert secret not in told
