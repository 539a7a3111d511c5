"""Scopes: what is one, how they are written, and that nobody gives more than they have."""

from __future__ import annotations

import pytest

from auth.errors import ScopeExceeded, ScopeInsufficient, ScopeUnknown
from auth.principal import Principal, SiteRef
from auth.scopes import ALL_SCOPES, SCOPES, format_scope, grant, parse_scope


def test_the_six_scopes_are_described() -> None:
    """The words of the contract, each with what it allows."""
    assert list(SCOPES) == [
        "ledger.read",
        "ledger.write",
        "ledger.admin",
        "events.read",
        "webhooks.read",
        "webhooks.write",
    ]
    assert all(text.endswith(".") for text in SCOPES.values())


def test_scopes_are_written_in_one_order_and_read_back() -> None:
    """Whatever order they were asked in, the text is the same."""
    assert format_scope(["webhooks.read", "ledger.read"]) == "ledger.read webhooks.read"
    assert parse_scope("webhooks.read  ledger.read ") == {"ledger.read", "webhooks.read"}
    assert parse_scope(format_scope(ALL_SCOPES)) == ALL_SCOPES


@pytest.mark.parametrize(
    "text", ["ledger", "LEDGER.READ", "ledger.read,ledger.write", "ledger.read\0", "ledger.read\n"]
)
def test_what_is_no_scope_is_named(text: str) -> None:
    """An unknown name is refused with the name."""
    with pytest.raises(ScopeUnknown) as refused:
        parse_scope(f"ledger.read {text}")
    assert refused.value.names == (text,)


def test_nothing_requested_grants_all_that_is_allowed() -> None:
    """Leaving the scope out means: as much as there is."""
    allowed = frozenset({"ledger.read", "events.read"})
    assert grant(None, allowed) == allowed
    assert grant(["events.read"], allowed) == {"events.read"}


def test_more_than_allowed_is_refused_and_not_narrowed() -> None:
    """A caller that asked for more must know that it did not get it."""
    with pytest.raises(ScopeExceeded) as refused:
        grant(["ledger.read", "ledger.admin"], frozenset({"ledger.read"}))
    assert refused.value.requested - refused.value.granted == {"ledger.admin"}


def test_a_principal_without_the_scope_is_told_which_one_it_needs() -> None:
    """The one check that guards every route."""
    site = SiteRef(id=1, organization="acme", environment="sandbox")
    caller = Principal(
        kind="client", id="c", site=site, scopes=frozenset({"ledger.read"}), expires_at=1, credential_id="j"
    )
    caller.require("ledger.read")
    with pytest.raises(ScopeInsufficient) as refused:
        caller.require("ledger.write")
    assert refused.value.required == "ledger.write"
    assert refused.value.granted == {"ledger.read"}
