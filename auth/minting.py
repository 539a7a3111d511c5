"""Access tokens for people who try the API from the portal: sandbox only, as short as any, never beyond their session."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from auth.errors import ScopeInsufficient
from auth.keyring import KeyRing
from auth.principal import Principal
from auth.scopes import grant
from auth.tokens import AccessClaims, Issuers, issue_token

ENVIRONMENT: Final = "sandbox"


class Minting:
    """Makes tokens on a click."""

    def __init__(self, keyring: KeyRing, issuers: Issuers) -> None:
        self._keyring = keyring
        self._issuers = issuers

    def __call__(self, person: Principal, scopes: Iterable[str], now_us: int) -> tuple[str, AccessClaims]:
        """Return a token with the chosen scopes and no others. Raises ScopeInsufficient, ScopeUnknown."""
        if person.site.environment != ENVIRONMENT:
            raise ScopeInsufficient("a sandbox", ())
        return issue_token(
            self._keyring.signing_key(ENVIRONMENT),
            self._issuers,
            client_id=f"portal:{person.credential_id}",
            site=person.site,
            scopes=grant(list(scopes), person.scopes),
            # Ending the session revokes what was made with it.
            jti=person.credential_id,
            now_us=now_us,
        )
