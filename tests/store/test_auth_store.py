"""The SQL of credentials, on SQLite and on PostgreSQL: what is written is read back, and races have one winner."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Final

import pytest
from sqlalchemy import Connection, text

from auth import store
from auth.store import ApiKey, ApiKeyRecord, ClientRecord, SigningKeyRecord, SiteRecord
from engine.databases import Database
from tests.fakes.clock import START_US, SequentialIds

DAY_US: Final = 86_400_000_000


async def new_site(database: Database, organization: str = "acme", environment: str = "sandbox") -> SiteRecord:
    """Store an active site."""

    def run(conn: Connection) -> SiteRecord:
        site = store.add_site(conn, organization, environment, START_US)
        store.activate_site(conn, site.id)
        return site

    return await database.write(run)


def a_client(site: SiteRecord, client_id: str = "glc_sbx_1", name: str = "till") -> ClientRecord:
    """Return a client."""
    return ClientRecord(
        client_id=client_id,
        site=site.ref,
        name=name,
        secret_hash=b"h" * 32,
        previous_secret_hash=None,
        previous_expires_at=None,
        scopes=frozenset({"ledger.read", "events.read"}),
    )


def an_api_key(site: SiteRecord, id_: str, key_id: str, *, created_by: str = "c") -> ApiKeyRecord:
    """Return an API key that lives for a day."""
    key = ApiKey(
        id=id_,
        name="till",
        prefix=f"glk_sbx_{key_id}",
        last4="wxyz",
        scopes=("ledger.read", "events.read"),
        created_by=created_by,
        created_at=START_US,
        expires_at=START_US + DAY_US,
    )
    return ApiKeyRecord(key=key, key_id=key_id, site=site.ref, secret_hash=b"h" * 32)


def a_signing_key(kid: str, state: str, environment: str = "sandbox") -> SigningKeyRecord:
    """Return a signing key."""
    return SigningKeyRecord(
        kid=kid,
        environment=environment,
        state=state,
        public_jwk="{}",
        private_sealed=b"sealed",
        created_at=START_US,
        retired_at=START_US if state == "previous" else None,
    )


async def test_a_site_is_created_once_and_then_found(control_database: Database) -> None:
    """Doing it again returns the same site as it is; the other environment is another site."""

    def run(conn: Connection) -> None:
        first = store.add_site(conn, "acme", "sandbox", START_US)
        assert (first.state, first.created_at) == ("creating", START_US)
        store.activate_site(conn, first.id)
        again = store.add_site(conn, "acme", "sandbox", START_US + 1)
        assert again == replace(first, state="active")
        other = store.add_site(conn, "acme", "production", START_US)
        assert store.list_sites(conn) == [again, other]
        assert store.find_site(conn, "acme", "sandbox", lock=True) == again
        assert store.find_site(conn, "nobody", "sandbox") is None

    await control_database.write(run)


async def test_two_that_create_a_site_at_once_get_the_same(control_database: Database) -> None:
    """No error and no second row, whoever comes first."""
    sites = await asyncio.gather(
        *(control_database.write(lambda conn: store.add_site(conn, "acme", "sandbox", START_US)) for _ in range(5))
    )
    assert len(set(sites)) == 1


async def test_a_client_is_found_while_its_site_is_active_and_it_is_not_revoked(control_database: Database) -> None:
    """What authentication asks for is only ever a client that may call."""

    def run(conn: Connection) -> None:
        site = store.add_site(conn, "acme", "sandbox", START_US)
        client = a_client(site)
        assert store.add_client(conn, client, START_US)
        assert store.find_client(conn, client.client_id) is None
        assert store.find_client_named(conn, site.id, "till", lock=True) == client
        store.activate_site(conn, site.id)
        assert store.find_client(conn, client.client_id, lock=True) == client
        assert store.revoke_client(conn, client.client_id, START_US + 5)
        assert not store.revoke_client(conn, client.client_id, START_US + 6)
        assert store.find_client(conn, client.client_id) is None

    await control_database.write(run)


async def test_a_name_is_taken_until_its_client_is_revoked(control_database: Database) -> None:
    """Two clients of a site never share a name; another site may use it."""
    site, other = await new_site(control_database), await new_site(control_database, "other")

    def run(conn: Connection) -> None:
        assert store.add_client(conn, a_client(site, "glc_1"), START_US)
        assert not store.add_client(conn, a_client(site, "glc_2"), START_US)
        assert store.add_client(conn, a_client(other, "glc_3"), START_US)
        store.revoke_client(conn, "glc_1", START_US)
        assert store.add_client(conn, a_client(site, "glc_2"), START_US)

    await control_database.write(run)


async def test_a_new_secret_keeps_the_old_one_or_does_not(control_database: Database) -> None:
    """With an overlap both hashes are there, without one only the new."""
    site = await new_site(control_database)
    client = a_client(site)

    def run(conn: Connection) -> None:
        store.add_client(conn, client, START_US)
        store.change_client_secret(conn, client, b"n" * 32, previous_expires_at=START_US + 9, now_us=START_US)
        both = store.find_client(conn, client.client_id)
        assert both == replace(
            client, secret_hash=b"n" * 32, previous_secret_hash=b"h" * 32, previous_expires_at=START_US + 9
        )
        store.change_client_secret(conn, client, b"m" * 32, previous_expires_at=None, now_us=START_US)
        assert store.find_client(conn, client.client_id) == replace(client, secret_hash=b"m" * 32)

    await control_database.write(run)


async def test_an_api_key_belongs_to_its_site(control_database: Database, ids: SequentialIds) -> None:
    """Another site neither sees it, nor lists it, nor takes it back."""
    site, other = await new_site(control_database), await new_site(control_database, "other")
    record = an_api_key(site, ids.draw(START_US), "abcdefghijkl")

    def run(conn: Connection) -> None:
        store.add_api_key(conn, record)
        assert store.find_api_key(conn, site.id, record.key.id) == record
        assert store.find_api_key(conn, other.id, record.key.id) is None
        assert store.list_api_keys(conn, other.id, limit=10, before=None) == []
        store.revoke_api_keys(conn, other.id, [record.key.id], START_US)
        assert store.find_api_key_text(conn, record.key_id) == record
        assert store.find_api_key_text(conn, "000000000000") is None

    await control_database.write(run)


async def test_api_keys_are_listed_newest_first_page_by_page(control_database: Database, ids: SequentialIds) -> None:
    """Every key once, in a stable order."""
    site = await new_site(control_database)
    records = [an_api_key(site, ids.draw(START_US + at), f"{at:012}") for at in range(5)]

    def run(conn: Connection) -> list[ApiKeyRecord]:
        for record in records:
            store.add_api_key(conn, record)
        first = store.list_api_keys(conn, site.id, limit=3, before=None)
        return first + store.list_api_keys(conn, site.id, limit=3, before=first[-1].key.id)

    assert await control_database.write(run) == records[::-1]


async def test_a_key_is_taken_back_once(control_database: Database, ids: SequentialIds) -> None:
    """The first instant stands; the listing of what is still good leaves it out."""
    site = await new_site(control_database)
    record = an_api_key(site, ids.draw(START_US), "abcdefghijkl", created_by="boss")

    def run(conn: Connection) -> None:
        store.add_api_key(conn, record)
        assert store.list_api_keys_named(conn, site.id, "till", created_by="boss") == [record]
        store.revoke_api_keys(conn, site.id, [record.key.id], START_US + 1)
        store.revoke_api_keys(conn, site.id, [record.key.id], START_US + 2)
        found = store.find_api_key(conn, site.id, record.key.id)
        assert found is not None
        assert found.key.revoked_at == START_US + 1
        assert store.list_api_keys_named(conn, site.id, "till", created_by="boss") == []

    await control_database.write(run)


async def test_an_environment_has_one_active_and_one_next_key(control_database: Database) -> None:
    """Whoever makes keys at the same time, one of them wins; previous ones may be many."""

    def run(conn: Connection) -> None:
        assert store.add_signing_key(conn, a_signing_key("a", "active"))
        assert not store.add_signing_key(conn, a_signing_key("b", "active"))
        assert store.add_signing_key(conn, a_signing_key("c", "next"))
        assert store.add_signing_key(conn, a_signing_key("d", "active", "production"))
        assert store.add_signing_key(conn, a_signing_key("e", "previous"))
        assert store.add_signing_key(conn, a_signing_key("f", "previous"))
        assert [key.kid for key in store.list_signing_keys(conn)] == ["a", "c", "d", "e", "f"]
        assert store.move_signing_key(conn, "a", was="active", state="previous", retired_at=START_US + 5)
        assert not store.move_signing_key(conn, "a", was="active", state="previous", retired_at=START_US + 6)
        store.forget_signing_keys(conn, "sandbox", START_US + 5)
        assert [key.kid for key in store.list_signing_keys(conn)] == ["a", "c", "d"]

    await control_database.write(run)


async def test_what_was_taken_back_since_is_read(control_database: Database, ids: SequentialIds) -> None:
    """Tokens, keys and clients from an instant on, only as long as they would still be good."""
    site = await new_site(control_database)
    key = an_api_key(site, ids.draw(START_US), "abcdefghijkl")

    def run(conn: Connection) -> None:
        store.add_revocation(conn, "old", site.id, expires_at=START_US + 900, now_us=START_US + 10)
        store.add_revocation(conn, "new", site.id, expires_at=START_US + 900, now_us=START_US + 20)
        store.add_revocation(conn, "new", site.id, expires_at=START_US + 900, now_us=START_US + 30)
        store.add_api_key(conn, key)
        store.revoke_api_keys(conn, site.id, [key.key.id], START_US + 20)
        store.add_client(conn, a_client(site), START_US)
        store.revoke_client(conn, "glc_sbx_1", START_US + 20)
        since = store.revoked_since(conn, START_US + 20, clients_since=START_US + 20, now_us=START_US + 40)
        assert since.tokens == {"new": START_US + 900}
        assert since.api_keys == {"abcdefghijkl": START_US + DAY_US}
        assert since.clients == ("glc_sbx_1",)
        later = store.revoked_since(conn, START_US, clients_since=START_US + 21, now_us=START_US + 900)
        assert (later.tokens, later.clients) == ({}, ())
        assert store.is_revoked(conn, "old")
        store.add_revocation(conn, "last", site.id, expires_at=START_US + 2000, now_us=START_US + 901)
        assert not store.is_revoked(conn, "old")

    await control_database.write(run)


async def test_an_idempotency_key_belongs_to_the_first_request(control_database: Database) -> None:
    """Its answer is kept, per site, until it is old."""
    site, other = await new_site(control_database), await new_site(control_database, "other")

    def claim(conn: Connection, site_id: int, now_us: int) -> bool:
        return store.claim_request(conn, site_id, "k", b"hash", forget_before=now_us - DAY_US, now_us=now_us)

    def run(conn: Connection) -> None:
        assert claim(conn, site.id, START_US)
        store.answer_request(conn, site.id, "k", b"answer")
        assert not claim(conn, site.id, START_US + DAY_US)
        assert store.find_request(conn, site.id, "k") == (b"hash", b"answer")
        assert claim(conn, other.id, START_US)
        assert claim(conn, site.id, START_US + DAY_US + 1)

    await control_database.write(run)


async def test_a_rolled_back_request_leaves_its_key_free(control_database: Database) -> None:
    """A refusal is not stored: the same key may try again."""
    site = await new_site(control_database)

    def run(conn: Connection) -> bool:
        return store.claim_request(conn, site.id, "k", b"hash", forget_before=0, now_us=START_US)

    def fail(conn: Connection) -> None:
        run(conn)
        raise LookupError

    with pytest.raises(LookupError):
        await control_database.write(fail)
    assert await control_database.write(run)


async def test_the_control_tables_refuse_what_is_no_environment(control_database: Database) -> None:
    """A third environment cannot be stored even by hand."""
    await new_site(control_database)

    def run(conn: Connection) -> None:
        conn.execute(text("UPDATE sites SET environment = 'staging'"))

    with pytest.raises(Exception, match="environment"):
        await control_database.write(run)
