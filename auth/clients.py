"""Sites and their OAuth clients: created when an organization is set up, from the command line.

Creating a site takes three steps, each of which can be done again: `begin_site` stores it as `creating`; then whoever
composes the program migrates its database and writes the site's row there; `bootstrap` makes it `active` and issues its first
credentials in one transaction. A client secret is shown once; a rotated one may stay good for an overlap.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from sqlalchemy import Connection

from auth import store, uses_store
from auth.errors import ClientExists, ClientNotFound, SiteExists, SiteUnknown
from auth.keyformat import check_site_name, draw_api_key, draw_client_id, draw_client_secret, hash_secret
from auth.keys import LIFETIME_MAX_US, new_api_key
from auth.ports import ControlDatabase, Entropy, IdSource
from auth.principal import SiteRef
from auth.revocations import Revocations
from auth.scopes import ALL_SCOPES, require_known
from auth.store import ApiKeyRecord, ClientRecord, SiteRecord
from auth.uses_store import ClientEntry

OVERLAP_MAX_S: Final = 7 * 86_400
"""The longest that a rotated client secret stays good beside the new one."""

_BOOTSTRAP: Final = "bootstrap"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientCredentials:
    """A client with its secret, to be shown once."""

    client_id: str
    client_secret: str = field(repr=False)
    scopes: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """A site's first credentials, to be shown once: a client for services, and an API key for the first minutes."""

    client_id: str
    client_secret: str = field(repr=False)
    scopes: frozenset[str]
    api_key: str = field(repr=False)


class Clients:
    """The use cases of sites and clients, one transaction each."""

    def __init__(
        self,
        control: ControlDatabase,
        *,
        ids: IdSource,
        pepper: bytes,
        revocations: Revocations,
        entropy: Entropy = os.urandom,
    ) -> None:
        self._control = control
        self._ids = ids
        self._pepper = pepper
        self._revocations = revocations
        self._entropy = entropy

    async def begin_site(self, organization: str, environment: str, *, now_us: int) -> SiteRecord:
        """Store a site as `creating` unless it exists; return it as it is. Raises SiteNameInvalid."""
        check_site_name(organization, environment)
        return await self._control.write(lambda conn: store.add_site(conn, organization, environment, now_us))

    async def bootstrap(self, organization: str, environment: str, *, rotate: bool, now_us: int) -> Credentials:
        """Make a begun site active and issue its first credentials.

        With `rotate`, a site that has them gets new ones and the old ones end at once.
        Raises SiteUnknown, and SiteExists when there are credentials and none shall be replaced.
        """

        def run(conn: Connection) -> tuple[Credentials, list[ApiKeyRecord]]:
            site = store.find_site(conn, organization, environment, lock=True)
            if site is None:
                raise SiteUnknown(organization, environment)
            client = store.find_client_named(conn, site.id, _BOOTSTRAP, lock=True)
            if client is not None and not rotate:
                raise SiteExists(organization, environment)
            if client is None:
                issued = self._add_client(conn, site.ref, _BOOTSTRAP, ALL_SCOPES, now_us)
            else:
                issued = self._change_secret(conn, client, previous_expires_at=None, now_us=now_us)
            ended = store.list_api_keys_named(conn, site.id, _BOOTSTRAP, created_by=issued.client_id)
            store.revoke_api_keys(conn, site.id, [record.key.id for record in ended], now_us)
            api_key = self._add_api_key(conn, site.ref, issued, now_us)
            store.activate_site(conn, site.id)
            credentials = Credentials(
                client_id=issued.client_id,
                client_secret=issued.client_secret,
                scopes=issued.scopes,
                api_key=api_key,
            )
            return credentials, ended

        credentials, ended = await self._control.write(run)
        for record in ended:
            self._revocations.add_api_key(record.key_id, record.key.expires_at)
        return credentials

    async def list_sites(self) -> list[SiteRecord]:
        """Return all sites, in the order in which they were created."""
        return await self._control.read(store.list_sites)

    async def find_site(self, organization: str, environment: str) -> SiteRecord:
        """Return a site by its names. Raises SiteUnknown."""
        site = await self._control.read(lambda conn: store.find_site(conn, organization, environment))
        if site is None:
            raise SiteUnknown(organization, environment)
        return site

    async def create(self, site: SiteRef, name: str, scopes: Iterable[str], *, now_us: int) -> ClientCredentials:
        """Create a client of a site; its name is unique there. Raises ScopeUnknown, ClientExists."""
        granted = require_known(scopes)
        return await self._control.write(lambda conn: self._add_client(conn, site, name, granted, now_us))

    async def rotate_secret(self, client_id: str, *, overlap_s: int = 0, now_us: int) -> ClientCredentials:
        """Give a client a new secret; the old one stays good for the overlap (at most 7 days). Raises ClientNotFound."""
        previous_expires_at = now_us + min(overlap_s, OVERLAP_MAX_S) * 1_000_000 if overlap_s > 0 else None

        def run(conn: Connection) -> ClientCredentials:
            client = store.find_client(conn, client_id, lock=True)
            if client is None:
                raise ClientNotFound(client_id)
            return self._change_secret(conn, client, previous_expires_at=previous_expires_at, now_us=now_us)

        return await self._control.write(run)

    async def list(self, site_id: int) -> list[ClientEntry]:
        """Return a site's clients, those taken back too, the newest first."""
        return await self._control.read(lambda conn: uses_store.list_clients(conn, site_id))

    async def anything_used(self, site_id: int) -> bool:
        """Tell whether a request ever came with one of a site's credentials."""
        return await self._control.read(lambda conn: uses_store.anything_used(conn, site_id))

    async def of_site(self, site_id: int, client_id: str) -> None:
        """Raise ClientNotFound unless the site has this client."""
        client = await self._control.read(lambda conn: store.find_client(conn, client_id))
        if client is None or client.site.id != site_id:
            raise ClientNotFound(client_id)

    async def revoke(self, client_id: str, *, now_us: int) -> None:
        """Take a client back together with its tokens, in this process at once. Raises ClientNotFound."""
        if not await self._control.write(lambda conn: store.revoke_client(conn, client_id, now_us)):
            raise ClientNotFound(client_id)
        self._revocations.add_client(client_id, now_us)

    def _add_client(
        self, conn: Connection, site: SiteRef, name: str, scopes: frozenset[str], now_us: int
    ) -> ClientCredentials:
        client_id = draw_client_id(site.environment, self._entropy)
        secret = draw_client_secret(site.environment, self._entropy)
        client = ClientRecord(
            client_id=client_id,
            site=site,
            name=name,
            secret_hash=hash_client_secret(self._pepper, client_id, secret),
            previous_secret_hash=None,
            previous_expires_at=None,
            scopes=scopes,
        )
        if not store.add_client(conn, client, now_us):
            raise ClientExists(name)
        return ClientCredentials(client_id=client_id, client_secret=secret, scopes=scopes)

    def _change_secret(
        self, conn: Connection, client: ClientRecord, *, previous_expires_at: int | None, now_us: int
    ) -> ClientCredentials:
        secret = draw_client_secret(client.site.environment, self._entropy)
        secret_hash = hash_client_secret(self._pepper, client.client_id, secret)
        store.change_client_secret(conn, client, secret_hash, previous_expires_at=previous_expires_at, now_us=now_us)
        return ClientCredentials(client_id=client.client_id, client_secret=secret, scopes=client.scopes)

    def _add_api_key(self, conn: Connection, site: SiteRef, owner: ClientCredentials, now_us: int) -> str:
        text = draw_api_key(site.environment, self._entropy)
        record = new_api_key(
            text,
            id_=self._ids.draw(now_us),
            site=site,
            name=_BOOTSTRAP,
            scopes=owner.scopes,
            created_by=owner.client_id,
            expires_at=now_us + LIFETIME_MAX_US,
            now_us=now_us,
            pepper=self._pepper,
        )
        store.add_api_key(conn, record)
        return text.text()


def hash_client_secret(pepper: bytes, client_id: str, secret: str) -> bytes:
    """Return the hash under which a client secret is stored."""
    return hash_secret(pepper, "client", client_id, secret)
