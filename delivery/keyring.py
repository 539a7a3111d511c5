"""Opened secrets, kept for as long as they are used: a vault may be a network away, a signature is needed at every attempt."""

from __future__ import annotations

import ssl
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Final, TypeVar

import msgspec

from delivery.rows import EndpointRow, StoredSecret
from delivery.signing import SigningKey, signing_key
from delivery.tls import context
from delivery.vault import HEADERS_COLUMN, SECRET_COLUMN, TABLE, TLS_KEY_COLUMN, Vault, site_name
from engine.databases import Site

T = TypeVar("T")

KEPT_MAX: Final = 4096

_headers: Final = msgspec.json.Decoder(dict[str, str])


class Keyring:
    """Opens what an endpoint's row holds sealed. Found again by the sealed bytes, so a rotation needs no announcement."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault
        self._opened: OrderedDict[tuple[int, str, bytes], Any] = OrderedDict()
        self._trusting: OrderedDict[str, ssl.SSLContext] = OrderedDict()

    async def open(
        self,
        site: Site,
        endpoint: EndpointRow,
        now_us: int,
    ) -> tuple[tuple[SigningKey, ...], dict[str, str]]:
        """Return the keys that sign now, the newest first, and the custom headers; raises what the vault raises."""
        keys = tuple([await self._key(site, endpoint, one) for one in endpoint.signing_secrets(now_us)])
        if endpoint.headers_sealed is None:
            return keys, {}
        return keys, await self._open(site, endpoint, HEADERS_COLUMN, endpoint.headers_sealed, _headers.decode)

    async def tls(self, site: Site, endpoint: EndpointRow) -> ssl.SSLContext | None:
        """Return what connections to the endpoint are made with, None for what everybody's are; raises what the vault raises."""
        identity = endpoint.tls
        if identity is None:
            return None
        if endpoint.tls_key_sealed is not None:
            return await self._open(
                site,
                endpoint,
                TLS_KEY_COLUMN,
                endpoint.tls_key_sealed,
                lambda key: context(identity, key.decode()),
            )
        kept = self._trusting.get(identity.ca or "")
        if kept is None:
            kept = self._trusting[identity.ca or ""] = context(identity, None)
            while len(self._trusting) > KEPT_MAX:
                self._trusting.popitem(last=False)
        return kept

    async def _key(self, site: Site, endpoint: EndpointRow, secret: StoredSecret) -> SigningKey:
        def read(opened: bytes) -> SigningKey:
            return signing_key(secret.version, opened)

        return await self._open(site, endpoint, SECRET_COLUMN, secret.sealed, read)

    async def _open(
        self, site: Site, endpoint: EndpointRow, column: str, sealed: bytes, read: Callable[[bytes], T]
    ) -> T:
        place = (site.id, endpoint.id, sealed)
        kept: T | None = self._opened.get(place)
        if kept is not None:
            self._opened.move_to_end(place)
            return kept
        opened = await self._vault.open(sealed, table=TABLE, column=column, row=endpoint.id, site=site_name(site))
        found: T = read(opened)
        self._opened[place] = found
        while len(self._opened) > KEPT_MAX:
            self._opened.popitem(last=False)
        return found
