"""Who is calling: turns the headers of a request into a verified caller, fast when it was seen before.

What was verified is kept by its SHA-256 until it runs out; what was taken back is re-read from the control database by
`refresh`, which the program calls every two seconds or sooner, so that a revocation holds in every process within five.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from typing import Final

from sqlalchemy import Connection

from auth import store, uses_store
from auth.errors import CredentialsExpired, CredentialsInvalid, CredentialsMissing, CredentialsRevoked
from auth.keyformat import parse_api_key, same_hash
from auth.keyring import KeyRing
from auth.keys import hash_api_key
from auth.ports import ControlDatabase
from auth.principal import Principal
from auth.revocations import CLIENT_MEMORY_US, Revocations
from auth.store import RevokedSince, SigningKeyRecord
from auth.tickets import LIFETIME_S as TICKET_LIFETIME_S
from auth.tickets import Ticket, issue_ticket, read_ticket
from auth.tokens import Issuers, principal_of, read_token

REFRESH_OVERLAP_US: Final = 120_000_000
"""How far each refresh looks back behind the last one: for transactions that were slow and clocks that disagree."""

NOTED_EVERY_US: Final = 60_000_000
_API_KEY_START: Final = "glk_"
_NO_HASH: Final = bytes(32)


class Authenticator:
    """Verifies access tokens and API keys, and knows which were taken back."""

    def __init__(
        self,
        control: ControlDatabase,
        *,
        keyring: KeyRing,
        issuers: Issuers,
        pepper: bytes,
        revocations: Revocations,
        cache_size: int = 10_000,
    ) -> None:
        self._control = control
        self._keyring = keyring
        self._issuers = issuers
        self._pepper = pepper
        self._revocations = revocations
        self._cache_size = cache_size
        self._verified: OrderedDict[bytes, Principal] = OrderedDict()
        self._verifying: dict[bytes, asyncio.Task[Principal]] = {}
        self._refreshed_at: int | None = None
        self._used: dict[tuple[str, str], int] = {}
        self._noted: dict[tuple[str, str], int] = {}

    @property
    def refreshed_at(self) -> int | None:
        """When the last successful refresh began (microseconds): what is older than that is known here."""
        return self._refreshed_at

    async def authenticate(self, authorization: str | None, api_key: str | None, now_us: int) -> Principal:
        """Return the caller whose token or API key the headers `Authorization` and `X-API-Key` carry.

        Raises CredentialsMissing, CredentialsInvalid, CredentialsExpired, CredentialsRevoked.
        """
        credential = _credential(authorization, api_key)
        digest = hashlib.sha256(credential.encode("utf-8", "surrogatepass")).digest()
        principal = self._verified.get(digest)
        if principal is None:
            principal = await self._verify_once(digest, credential, now_us)
        else:
            self._verified.move_to_end(digest)
        if self._revocations.covers(principal):
            raise CredentialsRevoked(f"{principal.kind} {principal.credential_id} was revoked")
        if principal.expires_at <= now_us:
            del self._verified[digest]
            raise CredentialsExpired(f"{principal.kind} {principal.credential_id} has run out")
        self._used[principal.kind, principal.id] = now_us
        return principal

    def issue_ticket(
        self,
        creator: Principal,
        *,
        scopes: frozenset[str],
        filter_json: bytes,
        origin: str | None,
        lifetime_s: int = TICKET_LIFETIME_S,
        now_us: int,
    ) -> tuple[str, int]:
        """Return a stream ticket with what of these scopes its creator has, and when it ends (microseconds).

        Raises KeyUnavailable.
        """
        key = self._keyring.signing_key(creator.site.environment)
        text, expires_s = issue_ticket(
            key,
            self._issuers,
            creator,
            scopes=scopes,
            filter_json=filter_json,
            origin=origin,
            lifetime_s=lifetime_s,
            now_us=now_us,
        )
        return text, expires_s * 1_000_000

    def read_ticket(self, text: str, now_us: int) -> Ticket:
        """Verify a stream ticket. Raises CredentialsInvalid, CredentialsExpired, CredentialsRevoked."""
        ticket = read_ticket(text, self._keyring.verifying_key, self._issuers, now_us=now_us)
        if self._revocations.covers(ticket.principal):
            raise CredentialsRevoked(f"{ticket.principal.kind} {ticket.principal.credential_id} was revoked")
        return ticket

    async def note_uses(self) -> None:
        """Store when credentials were last used, each at most once a minute; the program calls it every few seconds."""
        used, self._used = self._used, {}
        fresh = {which: at for which, at in used.items() if at - self._noted.get(which, 0) >= NOTED_EVERY_US}
        if not fresh:
            return
        keys = {id_: at for (kind, id_), at in fresh.items() if kind == "api_key"}
        clients = {id_: at for (kind, id_), at in fresh.items() if kind == "client"}
        await self._control.write(lambda conn: uses_store.note_uses(conn, keys, clients))
        if len(self._noted) > self._cache_size:
            self._noted.clear()
        self._noted.update(fresh)

    def revoked(self, principal: Principal) -> bool:
        """Tell whether a caller's credential was taken back since; for streams that are open."""
        return self._revocations.covers(principal)

    async def refresh(self, now_us: int) -> None:
        """Read what was taken back and which keys sign; a failure leaves everything as it was."""
        since = 0 if self._refreshed_at is None else self._refreshed_at - REFRESH_OVERLAP_US

        def run(conn: Connection) -> tuple[RevokedSince, list[SigningKeyRecord]]:
            clients_since = max(since, now_us - CLIENT_MEMORY_US)
            revoked = store.revoked_since(conn, since, clients_since=clients_since, now_us=now_us)
            return revoked, store.list_signing_keys(conn)

        revoked, keys = await self._control.read(run)
        for jti, expires_at in revoked.tokens.items():
            self._revocations.add_token(jti, expires_at)
        for key_id, expires_at in revoked.api_keys.items():
            self._revocations.add_api_key(key_id, expires_at)
        for client_id in revoked.clients:
            self._revocations.add_client(client_id, now_us)
        self._revocations.forget(now_us)
        await self._keyring.load(keys, now_us=now_us)
        self._refreshed_at = now_us

    async def _verify_once(self, digest: bytes, credential: str, now_us: int) -> Principal:
        """Verify and keep; whoever brings the same credential meanwhile shares the look: after a restart that may be thousands."""
        verifying = self._verifying.get(digest)
        if verifying is None:
            verifying = self._verifying[digest] = asyncio.create_task(self._verify(credential, now_us))
            verifying.add_done_callback(lambda done: self._verified_once(digest, done))
        return await asyncio.shield(verifying)

    def _verified_once(self, digest: bytes, done: asyncio.Task[Principal]) -> None:
        del self._verifying[digest]
        # Whoever asked may be gone: a refusal is theirs, and nobody else's.
        if not done.cancelled() and done.exception() is None:
            self._keep(digest, done.result())

    async def _verify(self, credential: str, now_us: int) -> Principal:
        if credential.startswith(_API_KEY_START):
            return await self._verify_api_key(credential, now_us)
        return principal_of(read_token(credential, self._keyring.verifying_key, self._issuers, now_us=now_us))

    async def _verify_api_key(self, credential: str, now_us: int) -> Principal:
        text = parse_api_key(credential)
        record = await self._control.read(lambda conn: store.find_api_key_text(conn, text.key_id))
        # An unknown key costs the same hash and comparison as a known one.
        matches = same_hash(hash_api_key(self._pepper, text), _NO_HASH if record is None else record.secret_hash)
        if record is None or not matches:
            raise CredentialsInvalid("an unknown API key")
        if record.key.revoked_at is not None:
            raise CredentialsRevoked(f"API key {record.key_id} was revoked")
        if record.key.expires_at <= now_us:
            raise CredentialsExpired(f"API key {record.key_id} has run out")
        return Principal(
            kind="api_key",
            id=record.key.id,
            site=record.site,
            scopes=frozenset(record.key.scopes),
            expires_at=record.key.expires_at,
            credential_id=record.key_id,
        )

    def _keep(self, digest: bytes, principal: Principal) -> None:
        self._verified[digest] = principal
        while len(self._verified) > self._cache_size:
            self._verified.popitem(last=False)


def _credential(authorization: str | None, api_key: str | None) -> str:
    if authorization is None and api_key is None:
        raise CredentialsMissing
    bearer = None if authorization is None else _bearer(authorization)
    if bearer is not None and api_key is not None and bearer != api_key:
        raise CredentialsInvalid("two different credentials in one request")
    credential = bearer if bearer is not None else api_key
    if not credential:
        raise CredentialsInvalid("an empty credential")
    if bearer is None and not credential.startswith(_API_KEY_START):
        raise CredentialsInvalid("X-API-Key holds no API key")
    return credential


def _bearer(authorization: str) -> str:
    scheme, _, credential = authorization.partition(" ")
    if scheme.lower() != "bearer":
        raise CredentialsInvalid("another scheme than Bearer")
    return credential.strip(" ")
