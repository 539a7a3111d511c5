"""Who is calling, once that is known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from auth.errors import ScopeInsufficient


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteRef:
    """The site that a credential selects."""

    id: int
    organization: str
    environment: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """A verified caller: what it is, the one site it sees, what it may do there and until when (microseconds).

    `credential_id` names the very credential: the `jti` of a token, the public part of an API key.
    """

    kind: Literal["client", "api_key", "administrator"]
    id: str
    site: SiteRef
    scopes: frozenset[str]
    expires_at: int
    credential_id: str

    def require(self, scope: str) -> None:
        """Raise ScopeInsufficient unless the caller has the scope."""
        if scope not in self.scopes:
            raise ScopeInsufficient(scope, self.scopes)
