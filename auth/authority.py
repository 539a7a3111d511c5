"""All of this package, put together over one control database: what a process holds to know who is calling."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from auth.authenticator import Authenticator
from auth.clients import Clients
from auth.keyring import KeyRing
from auth.keys import ApiKeys
from auth.people import People
from auth.ports import ControlDatabase, Entropy, IdSource
from auth.revocations import Revocations
from auth.sessions import Sessions
from auth.tokens import LIFETIME_S, Issuers
from auth.vault import KeyProvider, LocalKeyProvider, Vault, derive_pepper


@dataclass(frozen=True, slots=True, kw_only=True)
class Authority:
    """The parts of authentication that belong together: they share keys, pepper and what is known to be revoked."""

    control: ControlDatabase
    issuers: Issuers
    pepper: bytes = field(repr=False)
    entropy: Entropy
    vault: Vault
    revocations: Revocations
    keyring: KeyRing
    authenticator: Authenticator
    api_keys: ApiKeys
    clients: Clients
    people: People
    sessions: Sessions

    @classmethod
    def over(
        cls,
        control: ControlDatabase,
        *,
        master_key: bytes,
        public_url: str,
        ids: IdSource,
        token_lifetime_s: int = LIFETIME_S,
        provider: KeyProvider | None = None,
        entropy: Entropy = os.urandom,
    ) -> Authority:
        """Put the parts together. The pepper comes from the master key; secrets are sealed by the provider, if one is given."""
        issuers = Issuers(public_url=public_url.rstrip("/"), lifetime_s=token_lifetime_s)
        pepper = derive_pepper(master_key)
        vault = Vault(provider or LocalKeyProvider(master_key), entropy=entropy)
        revocations = Revocations()
        keyring = KeyRing(control, vault)
        return cls(
            control=control,
            issuers=issuers,
            pepper=pepper,
            entropy=entropy,
            vault=vault,
            revocations=revocations,
            keyring=keyring,
            authenticator=Authenticator(
                control, keyring=keyring, issuers=issuers, pepper=pepper, revocations=revocations
            ),
            api_keys=ApiKeys(control, ids=ids, pepper=pepper, revocations=revocations, entropy=entropy),
            clients=Clients(control, ids=ids, pepper=pepper, revocations=revocations, entropy=entropy),
            people=People(control, ids=ids, entropy=entropy),
            sessions=Sessions(control, ids=ids, revocations=revocations, entropy=entropy),
        )

    async def start(self, *, now_us: int) -> None:
        """Make the signing keys that are missing and read all there is to know; before the first request."""
        await self.keyring.ensure(now_us=now_us)
        await self.authenticator.refresh(now_us)
