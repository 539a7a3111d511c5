"""What this process knows to be taken back."""

from __future__ import annotations

from typing import Literal

from auth.principal import Principal, SiteRef
from auth.revocations import CLIENT_MEMORY_US, Revocations
from auth.tokens import LIFETIME_S


def caller(kind: Literal["client", "api_key"], id_: str, credential_id: str) -> Principal:
    """Return a caller of which only the names matter."""
    site = SiteRef(id=1, organization="acme", environment="sandbox")
    return Principal(kind=kind, id=id_, site=site, scopes=frozenset(), expires_at=100, credential_id=credential_id)


def test_only_what_was_taken_back_is_refused() -> None:
    """A token's id and a key's id are different names, even when they read the same."""
    revocations = Revocations()
    revocations.add_token("same", 100)
    assert revocations.covers(caller("client", "c", "same"))
    assert not revocations.covers(caller("client", "c", "other"))
    assert not revocations.covers(caller("api_key", "k", "same"))
    revocations.add_api_key("same", 100)
    assert revocations.covers(caller("api_key", "k", "same"))


def test_a_revoked_client_takes_all_its_tokens_along() -> None:
    """Every token of the client, whenever it was issued."""
    revocations = Revocations()
    revocations.add_client("c", 0)
    assert revocations.covers(caller("client", "c", "any"))
    assert not revocations.covers(caller("api_key", "c", "any"))


def test_what_has_run_out_by_itself_is_forgotten() -> None:
    """The memory is bounded by what is still alive; a client is remembered longer than its last token."""
    revocations = Revocations()
    revocations.add_token("t", 100)
    revocations.add_api_key("k", 200)
    revocations.add_client("c", 0)
    revocations.forget(100)
    assert not revocations.covers(caller("client", "x", "t"))
    assert revocations.covers(caller("api_key", "x", "k"))
    revocations.forget(CLIENT_MEMORY_US - 1)
    assert revocations.covers(caller("client", "c", "x"))
    revocations.forget(CLIENT_MEMORY_US)
    assert not revocations.covers(caller("client", "c", "x"))
    assert CLIENT_MEMORY_US > LIFETIME_S * 1_000_000
