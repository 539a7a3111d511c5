"""What of an endpoint is a secret, sealed for storage: signing keys, custom headers, the key of a client certificate."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

from msgspec import UNSET

from delivery.rows import EndpointRow, StoredSecret
from delivery.shapes import EndpointChange, EndpointCreate, encode
from delivery.signing import SECRET_BYTES, Version, format_public, format_secret
from delivery.tls import read_identity
from delivery.vault import HEADERS_COLUMN, SECRET_COLUMN, TABLE, TLS_KEY_COLUMN, Vault, site_name
from engine.databases import Site

Apply = Callable[[EndpointRow], EndpointRow]


class Sealer:
    """Seals what may not be stored in clear, before a transaction opens: a vault may be a network away."""

    def __init__(self, vault: Vault, entropy: Callable[[int], bytes]) -> None:
        self._vault = vault
        self._entropy = entropy

    async def new_secret(self, site: Site, endpoint_id: str, version: Version) -> tuple[str | None, StoredSecret]:
        """Return a new key as the partner is shown it, None where it is nobody's but ours, and as it is stored."""
        key = self._entropy(SECRET_BYTES)
        sealed = await self._seal(site, endpoint_id, SECRET_COLUMN, key)
        if version == "v1":
            return format_secret(key), StoredSecret(sealed=sealed, expires_at=None)
        return None, StoredSecret(sealed=sealed, expires_at=None, version="v1a", public=format_public(key))

    async def given(self, site: Site, endpoint_id: str, given: EndpointCreate | EndpointChange) -> Apply:
        """Return what puts the given headers and certificates into a row; raises InvalidTls."""
        changed: dict[str, object] = {}
        if given.headers is not UNSET:
            plain = encode(given.headers)
            sealed = await self._seal(site, endpoint_id, HEADERS_COLUMN, plain) if given.headers else None
            changed |= {"header_names": tuple(given.headers), "headers_sealed": sealed}
        if given.tls is None:
            changed |= {"tls": None, "tls_key_sealed": None}
        elif given.tls is not UNSET:
            key = given.tls.private_key
            # Off the loop: checking a large key takes its time.
            changed["tls"] = await asyncio.to_thread(read_identity, given.tls.certificate, key, given.tls.ca)
            changed["tls_key_sealed"] = (
                None if key is None else await self._seal(site, endpoint_id, TLS_KEY_COLUMN, key.encode())
            )
        return lambda row: replace(row, **changed)  # type: ignore[arg-type]

    async def _seal(self, site: Site, endpoint_id: str, column: str, plain: bytes) -> bytes:
        return await self._vault.seal(plain, table=TABLE, column=column, row=endpoint_id, site=site_name(site))
