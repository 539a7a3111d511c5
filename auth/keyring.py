"""The keys that sign access tokens: one active per environment, the next one published before it signs, the previous ones
kept for as long as what they signed can live. Private parts rest in the control database, sealed by the vault.

Every process holds a ring and re-reads it with the revocations; a rotation needs no restart and refuses no token.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec
from joserfc.jwk import ECKey
from sqlalchemy import Connection

from auth import store
from auth.errors import KeyUnavailable
from auth.keyformat import ENVIRONMENTS
from auth.ports import ControlDatabase
from auth.store import SigningKeyRecord
from auth.tokens import ALGORITHM, SigningKey, new_signing_key
from auth.vault import Vault

PREVIOUS_KEPT_US: Final = 1_800_000_000
"""How long a previous key verifies: a token's life, a cached JWKS's, and room for clocks that disagree."""

ROTATION_US: Final = 90 * 86_400_000_000


class KeyRing:
    """The signing keys as this process knows them."""

    def __init__(self, control: ControlDatabase, vault: Vault) -> None:
        self._control = control
        self._vault = vault
        self._records: dict[str, SigningKeyRecord] = {}
        self._private: dict[str, SigningKey] = {}
        self._public: dict[str, SigningKey] = {}
        self._active: dict[str, SigningKey] = {}
        self._jwks = b'{"keys":[]}'

    @property
    def jwks(self) -> bytes:
        """The public keys of all environments as a JWK set: active, next and previous."""
        return self._jwks

    def signing_key(self, environment: str) -> SigningKey:
        """Return the key that signs now. Raises KeyUnavailable if the environment has none."""
        try:
            return self._active[environment]
        except KeyError:
            raise KeyUnavailable(f"signing key of {environment}") from None

    def verifying_key(self, kid: str) -> SigningKey | None:
        """Return the public key of an id, if it may have signed what has not run out."""
        return self._public.get(kid)

    def rotation_due(self, environment: str, now_us: int) -> bool:
        """Tell whether the active key has signed for 90 days: since the next one was made."""
        waiting = [key for key in self._records.values() if (key.environment, key.state) == (environment, "next")]
        return any(key.created_at + ROTATION_US <= now_us for key in waiting)

    async def ensure(self, *, now_us: int, environments: Sequence[str] = ENVIRONMENTS) -> None:
        """Give each environment an active and a next key where it lacks one, and read the ring."""
        held = {(key.environment, key.state) for key in await self._control.read(store.list_signing_keys)}
        wanted = [(name, state) for name in environments for state in ("active", "next")]
        made = [await self._make(name, state, now_us) for name, state in wanted if (name, state) not in held]

        def run(conn: Connection) -> None:
            # Another process may have been faster; then its keys stand.
            for record in made:
                store.add_signing_key(conn, record)

        if made:
            await self._control.write(run)
        await self.load(await self._control.read(store.list_signing_keys), now_us=now_us)

    async def rotate_signing_key(self, environment: str, *, now_us: int) -> str:
        """Let the next key sign, keep the active one as previous, publish a new next one; return who signs now.

        It rotates away from the key that this ring knows as active: when several processes find a rotation due, one does it
        and all return its result.
        """
        known = self._active.get(environment)
        await self.ensure(now_us=now_us, environments=(environment,))
        passed_on = (known or self.signing_key(environment)).kid
        [waiting] = [kid for kid, key in self._records.items() if (key.environment, key.state) == (environment, "next")]
        made = await self._make(environment, "next", now_us)

        def run(conn: Connection) -> None:
            if not store.move_signing_key(conn, passed_on, was="active", state="previous", retired_at=now_us):
                return
            store.move_signing_key(conn, waiting, was="next", state="active", retired_at=None)
            store.add_signing_key(conn, made)
            store.forget_signing_keys(conn, environment, now_us - PREVIOUS_KEPT_US)

        await self._control.write(run)
        await self.load(await self._control.read(store.list_signing_keys), now_us=now_us)
        return self.signing_key(environment).kid

    async def load(self, records: Sequence[SigningKeyRecord], *, now_us: int) -> None:
        """Take over what the control database holds; only keys that are new here are unsealed."""
        kept = {
            record.kid: record
            for record in records
            if record.retired_at is None or record.retired_at + PREVIOUS_KEPT_US > now_us
        }
        if kept == self._records:
            return
        private = {
            record.kid: self._private.get(record.kid) or await self._unseal(record)
            for record in kept.values()
            if record.state == "active"
        }
        public = {
            record.kid: SigningKey(
                kid=record.kid,
                environment=record.environment,
                key=_import(record.public_jwk),
            )
            for record in kept.values()
        }
        # From here on nothing awaits: whoever looks sees the old ring or the new one.
        self._records, self._private, self._public = kept, private, public
        self._active = {key.environment: key for key in private.values()}
        self._jwks = msgspec.json.encode({"keys": [_published(record) for record in kept.values()]})

    async def _make(self, environment: str, state: str, now_us: int) -> SigningKeyRecord:
        key = new_signing_key(environment)
        private = msgspec.json.encode(key.key.as_dict(private=True))
        return SigningKeyRecord(
            kid=key.kid,
            environment=environment,
            state=state,
            public_jwk=msgspec.json.encode(key.key.as_dict(private=False)).decode(),
            private_sealed=await self._vault.seal(private, **_place(key.kid, environment)),
            created_at=now_us,
            retired_at=None,
        )

    async def _unseal(self, record: SigningKeyRecord) -> SigningKey:
        private = await self._vault.open(record.private_sealed, **_place(record.kid, record.environment))
        key = _import(private)
        return SigningKey(kid=record.kid, environment=record.environment, key=key)


def _import(jwk: str | bytes) -> ECKey:
    return ECKey.import_key(msgspec.json.decode(jwk, type=dict[str, str | list[str]]))


def _place(kid: str, environment: str) -> dict[str, str]:
    return {"table": "signing_keys", "column": "private_sealed", "row": kid, "site": environment}


def _published(record: SigningKeyRecord) -> dict[str, str]:
    public = msgspec.json.decode(record.public_jwk, type=dict[str, str])
    return {**public, "kid": record.kid, "use": "sig", "alg": ALGORITHM}
