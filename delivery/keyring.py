"""Opened secrets, kept for as long as they are used: a vault may be a network away, a signature is needed at every attempt."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

import msgspec

from delivery.rows import EndpointRow
from delivery.vault import HEADERS_COLUMN, SECRET_COLUMN, TABLE, Vault, site_name
from engine.databases import Site

KEPT_MAX: Final = 4096

_headers: Final = msgspec.json.Decoder(dict[str, str])


class Keyring:
    """Opens what an endpoint's row holds sealed. Found again by the sealed bytes, so a rotation needs no announcement."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault
        self._opened: OrderedDict[tuple[int, str, bytes], bytes] = OrderedDict()

    async def open(
        self,
        site: Site,
        endpoint: EndpointRow,
        now_us: int,
    ) -> tuple[tuple[bytes, ...], dict[str, str]]:
        """Return the keys that sign now, the newest first, and the custom headers; raises what the vault raises."""
        keys = [await self._open(site, endpoint, SECRET_COLUMN, sealed) for sealed in endpoint.sealed_secrets(now_us)]
        if endpoint.headers_sealed is None:
            return tuple(keys), {}
        return tuple(keys), _headers.decode(await self._open(site, endpoint, HEADERS_COLUMN, endpoint.headers_sealed))

    async def _open(self, site: Site, endpoint: EndpointRow, column: str, sealed: bytes) -> bytes:
        place = (site.id, endpoint.id, sealed)
        kept = self._opened.get(place)
        if kept is not None:
            self._opened.move_to_end(place)
            return kept
        opened = await self._vault.open(sealed, table=TABLE, column=column, row=endpoint.id, site=site_name(site))
        self._opened[place] = opened
        while len(self._opened) > KEPT_MAX:
            self._opened.popitem(last=False)
        return opened
