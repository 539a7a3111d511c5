"""Keys, clients, signing keys and the authenticator over a real control database, on SQLite and on PostgreSQL."""

from __future__ import annotations

import asyncio
import os
from typing import Final

import pytest
from sqlalchemy import event, text

from auth.authority import Authority
from auth.clients import Credentials
from auth.errors import (
    ClientExists,
    ClientNotFound,
    CredentialsExpired,
    CredentialsInvalid,
    CredentialsMissing,
    CredentialsRevoked,
    IdempotencyKeyReused,
    KeyLifetimeInvalid,
    KeyNotFound,
    KeyUnavailable,
    ScopeExceeded,
    ScopeUnknown,
    SiteExists,
    SiteNameInvalid,
    SiteUnknown,
)
from auth.keyring import PREVIOUS_KEPT_US, ROTATION_US
from auth.keys import LIFETIME_MAX_US, IdempotentRequest
from auth.principal import Principal
from auth.scopes import ALL_SCOPES
from auth.tokens import issue_token
from engine.databases import Database
from engine.ids import Ids
from tests.fakes.clock import START_US

MASTER: Final = bytes(range(32))
SECOND_US: Final = 1_000_000


def process(control: Database) -> Authority:
    """Return what one process holds; another call is another process over the same database."""
    return Authority.over(control, master_key=MASTER, public_url="https://ledger.example/", ids=Ids())


@pytest.fixture
async def authority(control_database: Database) -> Authority:
    """A process that has started."""
    started = process(control_database)
    await started.start(now_us=START_US)
    return started


async def new_site(
    authority: Authority, organization: str = "acme", environment: str = "sandbox", now_us: int = START_US
) -> Credentials:
    """Create a site and return its first credentials."""
    await authority.clients.begin_site(organization, environment, now_us=now_us)
    return await authority.clients.bootstrap(organization, environment, rotate=False, now_us=now_us)


async def caller(authority: Authority, credentials: Credentials, now_us: int = START_US) -> Principal:
    """Return the caller that a site's first API key stands for."""
    return await authority.authenticator.authenticate(None, credentials.api_key, now_us)


async def new_token(authority: Authority, credentials: Credentials, now_us: int = START_US, jti: str = "j1") -> str:
    """Issue a token as the token endpoint does."""
    site = (await caller(authority, credentials, now_us)).site
    token, _ = issue_token(
        authority.keyring.signing_key(site.environment),
        authority.issuers,
        client_id=credentials.client_id,
        site=site,
        scopes=credentials.scopes,
        jti=jti,
        now_us=now_us,
    )
    return token


async def test_creating_a_site_can_be_done_again_at_every_step(authority: Authority) -> None:
    """Begun twice, bootstrapped once: credentials are issued in the transaction that makes it active."""
    first = await authority.clients.begin_site("acme", "sandbox", now_us=START_US)
    assert await authority.clients.begin_site("acme", "sandbox", now_us=START_US + 1) == first
    assert first.state == "creating"
    credentials = await authority.clients.bootstrap("acme", "sandbox", rotate=False, now_us=START_US)
    assert (await authority.clients.find_site("acme", "sandbox")).state == "active"
    assert credentials.scopes == ALL_SCOPES
    assert (await caller(authority, credentials)).site == first.ref
    with pytest.raises(SiteExists):
        await authority.clients.bootstrap("acme", "sandbox", rotate=False, now_us=START_US)
    assert [site.organization for site in await authority.clients.list_sites()] == ["acme"]


async def test_a_site_that_nobody_began_has_no_credentials(authority: Authority) -> None:
    """Unknown names and impossible ones are told apart."""
    with pytest.raises(SiteUnknown):
        await authority.clients.bootstrap("acme", "sandbox", rotate=True, now_us=START_US)
    with pytest.raises(SiteUnknown):
        await authority.clients.find_site("acme", "sandbox")
    with pytest.raises(SiteNameInvalid):
        await authority.clients.begin_site("../etc", "sandbox", now_us=START_US)


async def test_rotating_a_site_ends_its_old_credentials(authority: Authority, control_database: Database) -> None:
    """The new ones work, the old API key is refused here at once and elsewhere after a refresh."""
    old, other = await new_site(authority), process(control_database)
    await other.start(now_us=START_US)
    await caller(other, old)
    new = await authority.clients.bootstrap("acme", "sandbox", rotate=True, now_us=START_US + SECOND_US)
    assert new.client_id == old.client_id
    assert new.client_secret != old.client_secret
    assert (await caller(authority, new)).scopes == ALL_SCOPES
    with pytest.raises(CredentialsRevoked):
        await caller(authority, old)
    await other.authenticator.refresh(START_US + 2 * SECOND_US)
    with pytest.raises(CredentialsRevoked):
        await caller(other, old)


async def test_a_key_opens_its_site_with_its_scopes_until_it_runs_out(authority: Authority) -> None:
    """As X-API-Key and as a bearer token; the same both ways is one credential."""
    boss = await caller(authority, await new_site(authority))
    ends_at = START_US + 60 * SECOND_US
    created = await authority.api_keys.create(
        boss, name="till", scopes=["events.read"], expires_at=ends_at, now_us=START_US
    )
    assert created.secret is not None
    assert created.secret.startswith(created.api_key.prefix)
    assert created.secret.endswith(created.api_key.last4)
    assert created.secret not in repr(created)
    authenticate = authority.authenticator.authenticate
    holder = await authenticate(None, created.secret, START_US)
    assert (holder.kind, holder.id) == ("api_key", created.api_key.id)
    assert holder.scopes == {"events.read"}
    assert (holder.site, holder.expires_at) == (boss.site, ends_at)
    assert await authenticate(f"Bearer {created.secret}", None, START_US) == holder
    assert await authenticate(f"bearer {created.secret}", created.secret, ends_at - 1) == holder
    for _ in range(2):
        with pytest.raises(CredentialsExpired):
            await authenticate(None, created.secret, ends_at)


async def test_a_key_lives_90_days_unless_it_is_said(authority: Authority) -> None:
    """Not in the past, not for ever."""
    boss = await caller(authority, await new_site(authority))
    created = await authority.api_keys.create(boss, name="till", now_us=START_US)
    assert created.api_key.expires_at == START_US + LIFETIME_MAX_US
    assert frozenset(created.api_key.scopes) == boss.scopes
    for wrong in (START_US, START_US - 1, 0, START_US + LIFETIME_MAX_US + 1):
        with pytest.raises(KeyLifetimeInvalid):
            await authority.api_keys.create(boss, name="till", expires_at=wrong, now_us=START_US)


async def test_a_key_never_exceeds_its_creator(authority: Authority) -> None:
    """Nobody gives what they do not have, and what they give on is not more either."""
    boss = await caller(authority, await new_site(authority))
    created = await authority.api_keys.create(boss, name="a", scopes=["ledger.admin", "ledger.read"], now_us=START_US)
    lesser = await authority.authenticator.authenticate(None, created.secret, START_US)
    with pytest.raises(ScopeExceeded):
        await authority.api_keys.create(lesser, name="b", scopes=["ledger.write"], now_us=START_US)
    with pytest.raises(ScopeUnknown):
        await authority.api_keys.create(lesser, name="b", scopes=["root"], now_us=START_US)
    same = await authority.api_keys.create(lesser, name="b", now_us=START_US)
    assert same.api_key.scopes == ("ledger.read", "ledger.admin")
    assert same.api_key.created_by == lesser.id


async def test_a_repeated_creation_gets_the_first_answer_without_the_secret(authority: Authority) -> None:
    """One key is created, its secret shown once; another request under the same key is refused."""
    boss = await caller(authority, await new_site(authority))
    request = IdempotentRequest(key="k1", request_hash=b"hash")
    first = await authority.api_keys.create(boss, name="till", now_us=START_US, idempotency=request)
    await authority.api_keys.revoke(boss.site.id, first.api_key.id, now_us=START_US + 1)
    again = await authority.api_keys.create(boss, name="till", now_us=START_US + SECOND_US, idempotency=request)
    assert (again.api_key, again.secret, again.replayed) == (first.api_key, None, True)
    with pytest.raises(IdempotencyKeyReused):
        await authority.api_keys.create(
            boss, name="x", now_us=START_US, idempotency=IdempotentRequest(key="k1", request_hash=b"other")
        )
    names = [key.name for key in await authority.api_keys.list(boss.site.id, limit=10)]
    assert names == ["till", "bootstrap"]


async def test_creations_at_once_under_one_key_create_one(authority: Authority) -> None:
    """Exactly one of them shows the secret; the others show the same key."""
    boss = await caller(authority, await new_site(authority))
    request = IdempotentRequest(key="k1", request_hash=b"hash")
    answers = await asyncio.gather(
        *(authority.api_keys.create(boss, name="till", now_us=START_US, idempotency=request) for _ in range(6))
    )
    assert sum(answer.secret is not None for answer in answers) == 1
    assert sum(answer.replayed for answer in answers) == 5
    assert len({answer.api_key.id for answer in answers}) == 1


async def test_a_refused_creation_leaves_its_idempotency_key_free(authority: Authority) -> None:
    """A refusal is not stored."""
    boss = await caller(authority, await new_site(authority))
    request = IdempotentRequest(key="k1", request_hash=b"hash")
    with pytest.raises(KeyLifetimeInvalid):
        await authority.api_keys.create(boss, name="a", expires_at=1, now_us=START_US, idempotency=request)
    created = await authority.api_keys.create(boss, name="a", now_us=START_US, idempotency=request)
    assert created.secret is not None


async def test_a_key_is_shown_and_taken_back_by_its_own_site_only(authority: Authority) -> None:
    """Another site gets the same answer as for a key that never was."""
    boss = await caller(authority, await new_site(authority))
    stranger = await caller(authority, await new_site(authority, "other"))
    created = await authority.api_keys.create(boss, name="till", now_us=START_US)
    keys, id_ = authority.api_keys, created.api_key.id
    assert await keys.get(boss.site.id, id_) == created.api_key
    for site_id, name in (
        (stranger.site.id, id_),
        (boss.site.id, "x"),
        (boss.site.id, "\0"),
        (boss.site.id, boss.id[:-1]),
    ):
        with pytest.raises(KeyNotFound):
            await keys.get(site_id, name)
        with pytest.raises(KeyNotFound):
            await keys.revoke(site_id, name, now_us=START_US)
    with pytest.raises(KeyNotFound):
        await keys.list(boss.site.id, limit=1, before="x")
    assert (await authority.authenticator.authenticate(None, created.secret, START_US)).id == id_


async def test_a_revoked_key_is_refused_here_at_once_and_everywhere_after_a_refresh(
    authority: Authority, control_database: Database
) -> None:
    """A cached caller and an open stream notice too; doing it again changes nothing."""
    boss = await caller(authority, await new_site(authority))
    other = process(control_database)
    await other.start(now_us=START_US)
    created = await authority.api_keys.create(boss, name="till", now_us=START_US)
    here = await authority.authenticator.authenticate(None, created.secret, START_US)
    there = await other.authenticator.authenticate(None, created.secret, START_US)
    revoked = await authority.api_keys.revoke(boss.site.id, here.id, now_us=START_US + SECOND_US)
    again = await authority.api_keys.revoke(boss.site.id, here.id, now_us=START_US + 2 * SECOND_US)
    assert revoked == again
    assert revoked.revoked_at == START_US + SECOND_US
    assert authority.authenticator.revoked(here)
    with pytest.raises(CredentialsRevoked):
        await authority.authenticator.authenticate(None, created.secret, START_US)
    assert not other.authenticator.revoked(there)
    await other.authenticator.refresh(START_US + 2 * SECOND_US)
    assert other.authenticator.revoked(there)
    with pytest.raises(CredentialsRevoked):
        await other.authenticator.authenticate(None, created.secret, START_US)
    fresh = process(control_database)
    with pytest.raises(CredentialsRevoked):
        await fresh.authenticator.authenticate(None, created.secret, START_US)


async def test_a_token_is_verified_without_the_database(authority: Authority, control_database: Database) -> None:
    """Its second use costs one lookup in memory; it ends at its time."""
    credentials = await new_site(authority)
    token = await new_token(authority, credentials)
    await control_database.write(lambda conn: conn.execute(text("DELETE FROM clients")))
    holder = await authority.authenticator.authenticate(f"Bearer {token}", None, START_US)
    assert await authority.authenticator.authenticate(f"Bearer {token}", None, START_US) is holder
    assert (holder.kind, holder.id, holder.credential_id) == ("client", credentials.client_id, "j1")
    with pytest.raises(CredentialsExpired):
        await authority.authenticator.authenticate(f"Bearer {token}", None, holder.expires_at)
    with pytest.raises(CredentialsExpired):
        await authority.authenticator.authenticate(f"Bearer {token}", None, holder.expires_at)


async def test_a_revoked_client_takes_its_tokens_along(authority: Authority, control_database: Database) -> None:
    """In this process at once, in another after a refresh, in a new one from the start."""
    credentials = await new_site(authority)
    token, other = await new_token(authority, credentials), process(control_database)
    await other.start(now_us=START_US)
    for each in (authority, other):
        await each.authenticator.authenticate(f"Bearer {token}", None, START_US)
    await authority.clients.revoke(credentials.client_id, now_us=START_US + SECOND_US)
    await other.authenticator.refresh(START_US + 2 * SECOND_US)
    late = process(control_database)
    await late.start(now_us=START_US + 3 * SECOND_US)
    for each in (authority, other, late):
        with pytest.raises(CredentialsRevoked):
            await each.authenticator.authenticate(f"Bearer {token}", None, START_US + 3 * SECOND_US)
    with pytest.raises(ClientNotFound):
        await authority.clients.revoke(credentials.client_id, now_us=START_US)
    again = await authority.clients.bootstrap("acme", "sandbox", rotate=True, now_us=START_US)
    assert again.client_id != credentials.client_id


async def test_a_site_has_clients_with_names_and_scopes_of_their_own(authority: Authority) -> None:
    """A second client may do less; its name is its own."""
    site = (await caller(authority, await new_site(authority))).site
    created = await authority.clients.create(site, "till", ["ledger.read"], now_us=START_US)
    assert created.scopes == {"ledger.read"}
    assert created.client_secret not in repr(created)
    with pytest.raises(ClientExists):
        await authority.clients.create(site, "till", ["ledger.read"], now_us=START_US)
    with pytest.raises(ScopeUnknown):
        await authority.clients.create(site, "other", ["root"], now_us=START_US)
    with pytest.raises(ClientNotFound):
        await authority.clients.rotate_secret("glc_sbx_0000000000000000", now_us=START_US)


@pytest.mark.parametrize(
    ("authorization", "api_key", "error"),
    [
        (None, None, CredentialsMissing),
        ("", None, CredentialsInvalid),
        (None, "", CredentialsInvalid),
        ("Bearer", None, CredentialsInvalid),
        ("Bearer ", None, CredentialsInvalid),
        ("Bearer \0", None, CredentialsInvalid),
        ("Bearer \udcff\ud800", None, CredentialsInvalid),
        ("Bearer é.é.é", None, CredentialsInvalid),
        ("Bearer " + "A" * 60_000, None, CredentialsInvalid),
        ("Basic YTpi", None, CredentialsInvalid),
        ("glk_sbx_x", None, CredentialsInvalid),
        (None, "eyJhbGciOiJub25lIn0.e30.", CredentialsInvalid),
        (None, "Bearer x", CredentialsInvalid),
        ("Bearer a.b.c", "glk_sbx_x", CredentialsInvalid),
        (None, "glk_sbx_000000000000_" + "0" * 49, CredentialsInvalid),
    ],
)
async def test_junk_is_nobody(
    authority: Authority, authorization: str | None, api_key: str | None, error: type[Exception]
) -> None:
    """Nothing, the wrong scheme, two different credentials, bytes that are no text: refused, and never another failure."""
    with pytest.raises(error):
        await authority.authenticator.authenticate(authorization, api_key, START_US)


async def test_two_different_credentials_in_one_request_are_refused(authority: Authority) -> None:
    """Each is good; which of them is meant is not for a server to guess."""
    credentials = await new_site(authority)
    token = await new_token(authority, credentials)
    with pytest.raises(CredentialsInvalid):
        await authority.authenticator.authenticate(f"Bearer {token}", credentials.api_key, START_US)
    alone = await authority.authenticator.authenticate(f"Bearer {token}", None, START_US)
    assert alone.id == credentials.client_id


async def test_a_wrong_secret_is_refused_like_an_unknown_key(authority: Authority) -> None:
    """A right key id with another secret, and a well-formed key that never was: the same answer."""
    real = (await new_site(authority)).api_key
    stranger = process_of_another_deployment(authority)
    unknown = (await new_site(stranger, "elsewhere")).api_key
    for wrong in (real.replace("glk_sbx_", "glk_live_"), unknown):
        with pytest.raises(CredentialsInvalid):
            await authority.authenticator.authenticate(None, wrong, START_US)


def process_of_another_deployment(authority: Authority) -> Authority:
    """Return a process with another master key over the same rows: its hashes are worth nothing here."""
    return Authority.over(authority.control, master_key=os.urandom(32), public_url="https://evil.example", ids=Ids())


async def test_the_memory_of_callers_is_bounded(authority: Authority, control_database: Database) -> None:
    """More callers than it holds still get in."""
    boss = await caller(authority, await new_site(authority))
    small = process(control_database)
    small.authenticator._cache_size = 2
    for name in "abcd":
        created = await authority.api_keys.create(boss, name=name, now_us=START_US)
        assert (await small.authenticator.authenticate(None, created.secret, START_US)).id == created.api_key.id
    assert len(small.authenticator._verified) == 2


async def test_processes_that_start_at_once_share_their_signing_keys(control_database: Database) -> None:
    """One active and one next key per environment, the same in all of them."""
    processes = [process(control_database) for _ in range(3)]
    await asyncio.gather(*(each.start(now_us=START_US) for each in processes))
    for environment in ("sandbox", "production"):
        assert len({each.keyring.signing_key(environment).kid for each in processes}) == 1
    assert len({each.keyring.jwks for each in processes}) == 1
    assert processes[0].keyring.jwks.count(b'"kid"') == 4


async def test_rotation_refuses_no_token(authority: Authority, control_database: Database) -> None:
    """The next key was published before it signs; the previous one is accepted until its last token has run out."""
    credentials, other = await new_site(authority), process(control_database)
    await other.start(now_us=START_US)
    old, old_kid = await new_token(authority, credentials), authority.keyring.signing_key("sandbox").kid
    kid = await authority.keyring.rotate_signing_key("sandbox", now_us=START_US + SECOND_US)
    assert kid != old_kid
    new = await new_token(authority, credentials, START_US + SECOND_US, "j2")
    for each in (authority, other):
        for token in (old, new):
            await each.authenticator.authenticate(f"Bearer {token}", None, START_US + SECOND_US)
    await other.authenticator.refresh(START_US + 2 * SECOND_US)
    assert other.keyring.signing_key("sandbox").kid == kid
    assert other.keyring.verifying_key(old_kid) is not None
    later = START_US + SECOND_US + PREVIOUS_KEPT_US
    await other.authenticator.refresh(later)
    assert other.keyring.verifying_key(old_kid) is None
    assert old_kid.encode() not in other.keyring.jwks


async def test_two_rotations_at_once_are_one(control_database: Database) -> None:
    """Both processes end up with the same keys, and one key was passed on."""
    one, two = process(control_database), process(control_database)
    for each in (one, two):
        await each.start(now_us=START_US)
    kids = await asyncio.gather(
        *(each.keyring.rotate_signing_key("sandbox", now_us=START_US + SECOND_US) for each in (one, two))
    )
    assert kids[0] == kids[1]
    await one.authenticator.refresh(START_US + 2 * SECOND_US)
    assert one.keyring.jwks.count(b'"kid"') == 5


async def test_rotation_is_due_after_90_days(authority: Authority) -> None:
    """Counted from the last rotation."""
    assert not authority.keyring.rotation_due("sandbox", START_US + ROTATION_US - 1)
    assert authority.keyring.rotation_due("sandbox", START_US + ROTATION_US)
    await authority.keyring.rotate_signing_key("sandbox", now_us=START_US + ROTATION_US)
    assert not authority.keyring.rotation_due("sandbox", START_US + ROTATION_US + 1)


async def test_signing_keys_need_the_master_key(authority: Authority, control_database: Database) -> None:
    """A copy of the database alone signs nothing; the published keys hold no private part."""
    with pytest.raises(KeyUnavailable):
        await process_of_another_deployment(authority).start(now_us=START_US)
    with pytest.raises(KeyUnavailable):
        process(control_database).keyring.signing_key("sandbox")
    assert b'"d"' not in authority.keyring.jwks


async def test_nothing_in_the_database_is_a_secret(authority: Authority, control_database: Database) -> None:
    """A dump of every column of every table holds none of what was issued."""
    credentials = await new_site(authority)
    boss = await caller(authority, credentials)
    request = IdempotentRequest(key="k", request_hash=b"h")
    created = await authority.api_keys.create(boss, name="till", now_us=START_US, idempotency=request)
    assert created.secret is not None
    tables = ("clients", "api_keys", "signing_keys", "revocations", "credential_requests", "sites", "organizations")
    dump = ""
    for table in tables:
        rows = await control_database.read(lambda conn, name=table: conn.execute(text(f"SELECT * FROM {name}")).all())  # type: ignore[misc]
        dump += repr(rows)
    assert credentials.client_id in dump
    for secret in (credentials.client_secret, credentials.api_key, created.secret):
        assert secret.rpartition("_")[2][:43] not in dump
    assert '\\"d\\"' not in dump
    assert '"d"' not in dump


async def test_one_key_that_thousands_bring_at_once_is_looked_up_once(
    authority: Authority, control_database: Database
) -> None:
    """As after a restart. Who goes away takes nobody along, and a wrong key is refused to each."""
    credentials = await new_site(authority)
    other = process(control_database)
    await other.start(now_us=START_US)
    statements: list[str] = []
    event.listen(
        control_database._reader.sync_engine, "after_cursor_execute", lambda *given: statements.append(given[2])
    )
    asked = [asyncio.ensure_future(caller(other, credentials)) for _ in range(100)]
    await asyncio.sleep(0)
    asked[0].cancel()
    found = await asyncio.gather(*asked, return_exceptions=True)
    assert isinstance(found[0], asyncio.CancelledError)
    assert len({each.credential_id for each in found[1:] if isinstance(each, Principal)}) == 1
    assert sum("api_keys" in each for each in statements) == 1
    wrong = f"{credentials.api_key[:-6]}aaaaaa"
    refused = await asyncio.gather(
        *(other.authenticator.authenticate(None, wrong, START_US) for _ in range(10)), return_exceptions=True
    )
    assert all(isinstance(each, CredentialsInvalid) for each in refused)
    assert not other.authenticator._verifying
