"""What this process knows to be taken back. Kept in memory, filled from the control database and by what happens here. Pure."""

from __future__ import annotations

from typing import Final

from auth.principal import Principal

CLIENT_MEMORY_US: Final = 900_000_000
"""How long a revoked client is remembered: longer than its last token can live."""


class Revocations:
    """The credentials that are refused although they have not run out."""

    def __init__(self) -> None:
        self._tokens: dict[str, int] = {}
        self._api_keys: dict[str, int] = {}
        self._clients: dict[str, int] = {}

    def add_token(self, jti: str, expires_at: int) -> None:
        """Refuse a token until it would have run out anyway."""
        self._tokens[jti] = expires_at

    def add_api_key(self, key_id: str, expires_at: int) -> None:
        """Refuse an API key, named by its public part, until it would have run out anyway."""
        self._api_keys[key_id] = expires_at

    def add_client(self, client_id: str, now_us: int) -> None:
        """Refuse all tokens of a client that is being revoked now."""
        self._clients[client_id] = now_us + CLIENT_MEMORY_US

    def covers(self, principal: Principal) -> bool:
        """Tell whether the caller's credential was taken back."""
        if principal.kind == "api_key":
            return principal.credential_id in self._api_keys
        return principal.credential_id in self._tokens or principal.id in self._clients

    def forget(self, now_us: int) -> None:
        """Drop what has run out by itself."""
        for kept in (self._tokens, self._api_keys, self._clients):
            for name in [name for name, expires_at in kept.items() if expires_at <= now_us]:
                del kept[name]
