"""Stream tickets: what is issued is accepted, never for longer than its creator, and nothing else passes for one."""

from __future__ import annotations

import base64
from typing import Any, Final

import msgspec
import pytest
from joserfc import jws

from auth.errors import CredentialsExpired, CredentialsInvalid
from auth.principal import Principal, SiteRef
from auth.scopes import ALL_SCOPES
from auth.tickets import LIFETIME_S, Ticket, issue_ticket, read_ticket
from auth.tokens import Issuers, SigningKey, issue_token, new_signing_key, read_token

NOW_S: Final = 1_760_000_000
NOW_US: Final = NOW_S * 1_000_000
ISSUERS: Final = Issuers(public_url="https://ledger.example")
SITE: Final = SiteRef(id=7, organization="acme", environment="sandbox")
KEY: Final = new_signing_key("sandbox")
LIVE: Final = new_signing_key("production")
KEYS: Final = {key.kid: key for key in (KEY, LIVE)}
CREATOR: Final = Principal(
    kind="client",
    id="glc_1",
    site=SITE,
    scopes=ALL_SCOPES,
    expires_at=NOW_US + 3_600_000_000,
    credential_id="j1",
)
FILTER: Final = b'{"types":["entry.*"]}'


def issue(creator: Principal = CREATOR, lifetime_s: int = LIFETIME_S, key: SigningKey = KEY) -> tuple[str, int]:
    """Issue an ordinary ticket."""
    return issue_ticket(
        key,
        ISSUERS,
        creator,
        scopes=frozenset({"events.read"}),
        filter_json=FILTER,
        origin="https://dashboard.example",
        lifetime_s=lifetime_s,
        now_us=NOW_US,
    )


def read(text: str, now_us: int = NOW_US) -> Ticket:
    """Verify a ticket with the keys of both environments."""
    return read_ticket(text, KEYS.get, ISSUERS, now_us=now_us)


def changed(head: dict[str, Any] | None = None, key: SigningKey = KEY, **claims: Any) -> str:
    """Sign an ordinary ticket's claims again with changes; None leaves one out."""
    payload = issue()[0].split(".")[1]
    ordinary = msgspec.json.decode(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    body = {name: value for name, value in {**ordinary, **claims}.items() if value is not None or name == "origin"}
    header = {"alg": "ES256", "typ": "stream-ticket+jwt", "kid": key.kid, **(head or {})}
    return jws.serialize_compact(header, msgspec.json.encode(body), key.key, algorithms=["ES256"])


def test_a_ticket_names_its_creator_with_no_more_than_was_asked_for() -> None:
    """Site, credential, filter and origin are what it was made with; of the scopes, those that streams need."""
    text, expires_s = issue()
    ticket = read(text)
    assert (ticket.filter, ticket.origin) == (FILTER, "https://dashboard.example")
    assert (ticket.principal.site, ticket.principal.credential_id) == (SITE, "j1")
    assert ticket.principal.scopes == {"events.read"}
    assert ticket.principal.expires_at == expires_s * 1_000_000 == (NOW_S + LIFETIME_S) * 1_000_000
    assert read(changed()).principal == ticket.principal


def test_a_ticket_never_outlives_its_creator_or_ten_minutes() -> None:
    """Whatever is asked for; at its end it is expired to the second."""
    assert issue(lifetime_s=9_999)[1] == NOW_S + LIFETIME_S
    soon = Principal(
        kind="api_key", id="k", site=SITE, scopes=ALL_SCOPES, expires_at=NOW_US + 5_900_000, credential_id="c"
    )
    text, expires_s = issue(soon)
    assert expires_s == NOW_S + 5
    assert read(text, expires_s * 1_000_000 - 1).principal.kind == "api_key"
    with pytest.raises(CredentialsExpired):
        read(text, expires_s * 1_000_000)


def test_a_ticket_grants_nothing_that_its_creator_lacks() -> None:
    """A creator who may not read events makes a ticket that opens nothing."""
    creator = Principal(
        kind="client",
        id="c",
        site=SITE,
        scopes=frozenset({"ledger.read"}),
        expires_at=NOW_US + 10**9,
        credential_id="j",
    )
    assert read(issue(creator)[0]).principal.scopes == frozenset()


def test_tokens_and_tickets_are_not_taken_for_each_other() -> None:
    """Each has a type of its own, whoever signed it."""
    token, _ = issue_token(KEY, ISSUERS, client_id="glc_1", site=SITE, scopes=ALL_SCOPES, jti="j1", now_us=NOW_US)
    with pytest.raises(CredentialsInvalid):
        read(token)
    with pytest.raises(CredentialsInvalid):
        read_token(issue()[0], KEYS.get, ISSUERS, now_us=NOW_US)


@pytest.mark.parametrize(
    "forged",
    [
        "",
        "x.y.z",
        issue()[0] + "x",
        issue()[0][:-8] + "AAAAAAAA",
        issue(key=LIVE)[0],
        changed({"typ": "at+jwt"}),
        changed({"kid": "unknown"}),
        changed({"jku": "https://evil.example"}),
        changed(key=LIVE),
        changed(env="production"),
        changed(iss="https://evil.example/sandbox"),
        changed(aud=ISSUERS.audience("sandbox")),
        changed(exp=NOW_S + LIFETIME_S + 1),
        changed(iat=NOW_S + 61, exp=NOW_S + 120),
        changed(scope="everything"),
        changed(scope=None),
        changed(filter=None),
        changed(site="7"),
        changed(kind="root"),
        changed(more=1),
        "x" * 10_000,
    ],
)
def test_what_is_not_a_ticket_of_this_server_is_refused(forged: str) -> None:
    """Another key, environment, issuer, audience, time, shape; or nothing of the kind."""
    with pytest.raises(CredentialsInvalid):
        read(forged)
