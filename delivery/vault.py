"""What delivery asks of whoever keeps secrets: seal them for storage, open them again. A protocol, no cryptography."""

from __future__ import annotations

from typing import Final, Protocol

from engine.databases import Site

TABLE: Final = "endpoints"
SECRET_COLUMN: Final = "secrets"  # noqa: S105 - the column's name
HEADERS_COLUMN: Final = "headers_sealed"
TLS_KEY_COLUMN: Final = "tls_key_sealed"


class Vault(Protocol):
    """Seals secrets bound to where they are stored; `site` is "organization/environment"."""

    async def seal(self, plaintext: bytes, *, table: str, column: str, row: str, site: str) -> bytes:
        """Return the secret in a form that may be stored."""

    async def open(self, sealed: bytes, *, table: str, column: str, row: str, site: str) -> bytes:
        """Return the secret; raises where it was not sealed for this very place."""


def site_name(site: Site) -> str:
    """Return the site as the vault knows it."""
    return f"{site.organization}/{site.environment}"
