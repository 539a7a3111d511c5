"""Envelope encryption: what is sealed for one place opens there and nowhere else."""

from __future__ import annotations

import base64
import os
from dataclasses import dataclass, field

import pytest

from auth.errors import KeyUnavailable, MasterKeyInvalid, SealBroken
from auth.vault import KeyDescription, LocalKeyProvider, Vault, derive_pepper, kek_id_of, parse_master_key

MASTER = bytes(range(32))
PLACE = {"table": "endpoints", "column": "secret", "row": "r1", "site": "7"}


@dataclass
class Remote:
    """A key provider that counts how often it is asked, and can be taken away: a local one behind a door."""

    inner: LocalKeyProvider = field(default_factory=lambda: LocalKeyProvider(MASTER))
    asked: int = 0
    open: bool = True

    @property
    def current(self) -> str:
        """The inner provider's key."""
        return self.inner.current

    async def wrap(self, kek_id: str, dek: bytes, aad: bytes) -> bytes:
        """Pass on."""
        return await self.inner.wrap(kek_id, dek, aad)

    async def unwrap(self, kek_id: str, wrapped: bytes, aad: bytes) -> bytes:
        """Pass on, if the door is open."""
        self.asked += 1
        if not self.open:
            raise KeyUnavailable(kek_id)
        return await self.inner.unwrap(kek_id, wrapped, aad)

    async def describe(self, kek_id: str) -> KeyDescription:
        """Pass on."""
        return await self.inner.describe(kek_id)


async def test_a_sealed_secret_opens_in_its_place() -> None:
    """The round trip, for nothing, for little and for much."""
    vault = Vault(LocalKeyProvider(MASTER))
    for secret in (b"", b"whsec_x", os.urandom(100_000)):
        sealed = await vault.seal(secret, **PLACE)
        assert await vault.open(sealed, **PLACE) == secret
        assert len(secret) < 4 or secret not in sealed


async def test_the_same_secret_never_looks_the_same() -> None:
    """Each record has a data key and a nonce of its own."""
    vault = Vault(LocalKeyProvider(MASTER))
    assert await vault.seal(b"x", **PLACE) != await vault.seal(b"x", **PLACE)


@pytest.mark.parametrize("moved", ["table", "column", "row", "site"])
async def test_a_sealed_secret_does_not_open_elsewhere(moved: str) -> None:
    """Copying a column to another row, table or tenant gains nothing, cached data key or not."""
    vault = Vault(LocalKeyProvider(MASTER))
    sealed = await vault.seal(b"secret", **PLACE)
    assert await vault.open(sealed, **PLACE) == b"secret"
    with pytest.raises(SealBroken):
        await vault.open(sealed, **{**PLACE, moved: "other"})


async def test_the_names_of_a_place_cannot_run_into_each_other() -> None:
    """`a|b` and `c` is another place than `a` and `b|c`."""
    vault = Vault(LocalKeyProvider(MASTER))
    sealed = await vault.seal(b"secret", table='a","b', column="c", row="d", site="e")
    with pytest.raises(SealBroken):
        await vault.open(sealed, table="a", column='b","c', row="d", site="e")


async def test_any_changed_or_missing_byte_is_noticed() -> None:
    """Every position, flipped and cut: a refusal each time and never another kind of error but a key that is unknown."""
    vault = Vault(LocalKeyProvider(MASTER))
    sealed = await vault.seal(b"secret", **PLACE)
    for at in range(len(sealed)):
        flipped = sealed[:at] + bytes((sealed[at] ^ 1,)) + sealed[at + 1 :]
        with pytest.raises((SealBroken, KeyUnavailable)):
            await vault.open(flipped, **PLACE)
        with pytest.raises((SealBroken, KeyUnavailable)):
            await vault.open(sealed[:at], **PLACE)


async def test_another_master_key_says_so() -> None:
    """A wrong master key does not look like damaged data."""
    sealed = await Vault(LocalKeyProvider(MASTER)).seal(b"secret", **PLACE)
    with pytest.raises(KeyUnavailable) as refused:
        await Vault(LocalKeyProvider(bytes(32))).open(sealed, **PLACE)
    assert refused.value.kek_id == kek_id_of(sealed)


async def test_a_retired_master_key_opens_and_the_new_one_seals() -> None:
    """Rotation: rewrapped values need the old key no more, and their ciphertext did not change."""
    sealed = await Vault(LocalKeyProvider(MASTER)).seal(b"secret", **PLACE)
    fresh = os.urandom(32)
    both = Vault(LocalKeyProvider(fresh, retired=[MASTER]))
    assert await both.open(sealed, **PLACE) == b"secret"
    rewrapped = await both.rewrap(sealed, **PLACE)
    assert kek_id_of(rewrapped) != kek_id_of(sealed)
    assert rewrapped[-22:] == sealed[-22:]
    assert await Vault(LocalKeyProvider(fresh)).open(rewrapped, **PLACE) == b"secret"


async def test_a_provider_describes_its_keys() -> None:
    """What is known about a key, and that an unknown one is not to be had."""
    provider = LocalKeyProvider(MASTER, retired=[bytes(32)])
    described = await provider.describe(provider.current)
    assert described == KeyDescription(kek_id=provider.current, provider="local", current=True)
    with pytest.raises(KeyUnavailable):
        await provider.describe("local-1-000000000000")


async def test_a_data_key_is_kept_for_a_while_only() -> None:
    """A far provider is asked once per record and five minutes; when it closes, reads fail closed soon after."""
    remote, now = Remote(), [0.0]
    vault = Vault(remote, monotonic_s=lambda: now[0], cache_ttl_s=300)
    sealed = await vault.seal(b"secret", **PLACE)
    for _ in range(3):
        assert await vault.open(sealed, **PLACE) == b"secret"
    assert remote.asked == 1
    remote.open = False
    now[0] = 299.9
    assert await vault.open(sealed, **PLACE) == b"secret"
    now[0] = 300
    with pytest.raises(KeyUnavailable):
        await vault.open(sealed, **PLACE)


async def test_forgetting_closes_at_once() -> None:
    """When a customer takes a key back, nothing cached opens anything."""
    remote = Remote()
    vault = Vault(remote)
    sealed = await vault.seal(b"secret", **PLACE)
    await vault.open(sealed, **PLACE)
    remote.open = False
    vault.forget()
    with pytest.raises(KeyUnavailable):
        await vault.open(sealed, **PLACE)


async def test_the_cache_is_bounded() -> None:
    """Many records do not fill the memory: the least recently used data key goes first."""
    remote = Remote()
    vault = Vault(remote, cache_size=2)
    sealed = [await vault.seal(b"x", **{**PLACE, "row": str(row)}) for row in range(3)]
    for row in (0, 1, 0, 2, 0, 1):
        await vault.open(sealed[row], **{**PLACE, "row": str(row)})
    assert remote.asked == 4


@pytest.mark.parametrize(
    "text",
    [
        MASTER.hex(),
        MASTER.hex().upper(),
        base64.b64encode(MASTER).decode(),
        base64.urlsafe_b64encode(MASTER).decode().rstrip("="),
        f"  {base64.b64encode(MASTER).decode()}\n",
    ],
)
def test_a_master_key_is_read_in_every_usual_writing(text: str) -> None:
    """Hexadecimal, base64, its URL alphabet, with and without padding and the line end of a file."""
    assert parse_master_key(text) == MASTER


@pytest.mark.parametrize(
    "text", ["", "short", "x" * 64, "é" * 43, MASTER.hex()[:-2], base64.b64encode(bytes(31)).decode()]
)
def test_what_is_no_master_key_is_refused_without_repeating_it(text: str) -> None:
    """The error says what is wrong and not what was given."""
    with pytest.raises(MasterKeyInvalid) as refused:
        parse_master_key(text)
    assert len(text) < 5 or text not in str(refused.value)


def test_the_pepper_is_neither_the_master_key_nor_a_key_of_it() -> None:
    """One master key, separate purposes."""
    assert derive_pepper(MASTER) != MASTER
    assert derive_pepper(MASTER) == derive_pepper(MASTER)
    assert derive_pepper(MASTER) != derive_pepper(bytes(32))
    with pytest.raises(MasterKeyInvalid):
        derive_pepper(b"short")
