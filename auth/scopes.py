"""Scopes: the words that say what a credential may do, and the arithmetic of granting them (RFC 6749 §3.3). Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final

from auth.errors import ScopeExceeded, ScopeUnknown

SCOPES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "ledger.read": "Read ledgers, accounts, entries, holds and balances.",
        "ledger.write": "Post, change and reverse entries; open, capture and release holds.",
        "ledger.admin": "Create ledgers; create and revoke API keys.",
        "events.read": "Read the feed, as a list and as a stream.",
        "webhooks.read": "Read webhook endpoints, deliveries and attempts.",
        "webhooks.write": "Create and change webhook endpoints; replay deliveries.",
    }
)
"""Every scope with what it allows, in the order in which they are shown."""

ALL_SCOPES: Final = frozenset(SCOPES)


def parse_scope(text: str) -> frozenset[str]:
    """Read a space-separated scope string. Raises ScopeUnknown naming what is no scope."""
    return require_known(name for name in text.split(" ") if name)


def require_known(names: Iterable[str]) -> frozenset[str]:
    """Return the names as a set. Raises ScopeUnknown if one of them is no scope."""
    asked = frozenset(names)
    if unknown := asked - ALL_SCOPES:
        raise ScopeUnknown(sorted(unknown))
    return asked


def format_scope(scopes: Iterable[str]) -> str:
    """Write scopes as one string, in the order of `SCOPES`."""
    given = frozenset(scopes)
    return " ".join(name for name in SCOPES if name in given)


def grant(requested: Iterable[str] | None, allowed: frozenset[str]) -> frozenset[str]:
    """Return what is granted: all that is allowed if nothing is requested, else what is requested, or ScopeExceeded."""
    if requested is None:
        return allowed
    asked = require_known(requested)
    if not asked <= allowed:
        raise ScopeExceeded(asked, allowed)
    return asked
