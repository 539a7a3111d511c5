"""Secrets that must be read again: envelope encryption (AES-256-GCM), one data key per record, wrapped by a key provider.

A sealed value is bound to its table, column, row and site: moved anywhere else it does not open. Layout, version 1:
`01 | len kek_id | kek_id | len wrapped (2) | wrapped data key | nonce (12) | ciphertext and tag`.
Secrets that only have to be compared are hashed instead, under the pepper derived here.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import re
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from auth.errors import KeyUnavailable, MasterKeyInvalid, SealBroken
from auth.ports import Entropy

KEY_BYTES: Final = 32
_NONCE_BYTES: Final = 12
_TAG_BYTES: Final = 16
_VERSION: Final = 1
_HEX: Final = re.compile(r"[0-9a-fA-F]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyDescription:
    """What is known about a key-encryption key without seeing it."""

    kek_id: str
    provider: str
    current: bool


class KeyProvider(Protocol):
    """Keeps key-encryption keys and lends their use, never the keys: this machine's, or a key service's."""

    @property
    def current(self) -> str:
        """The id of the key that wraps what is sealed from now on."""

    async def wrap(self, kek_id: str, dek: bytes, aad: bytes) -> bytes:
        """Encrypt a data key. Raises KeyUnavailable."""

    async def unwrap(self, kek_id: str, wrapped: bytes, aad: bytes) -> bytes:
        """Decrypt a data key. Raises KeyUnavailable, or SealBroken if it was not wrapped for this."""

    async def describe(self, kek_id: str) -> KeyDescription:
        """Tell about a key. Raises KeyUnavailable."""


class LocalKeyProvider:
    """Derives key-encryption keys from a master key in this process; retired master keys only open what they sealed."""

    def __init__(self, master_key: bytes, *, retired: Sequence[bytes] = (), entropy: Entropy = os.urandom) -> None:
        self._keys = {_local_kek_id(key): AESGCM(_derive(key, b"kek")) for key in (*retired, master_key)}
        self._current = _local_kek_id(master_key)
        self._entropy = entropy

    @property
    def current(self) -> str:
        """The id of the key derived from the present master key."""
        return self._current

    async def wrap(self, kek_id: str, dek: bytes, aad: bytes) -> bytes:
        """Encrypt a data key."""
        nonce = self._entropy(_NONCE_BYTES)
        return nonce + self._key(kek_id).encrypt(nonce, dek, aad)

    async def unwrap(self, kek_id: str, wrapped: bytes, aad: bytes) -> bytes:
        """Decrypt a data key."""
        key = self._key(kek_id)
        try:
            return key.decrypt(wrapped[:_NONCE_BYTES], wrapped[_NONCE_BYTES:], aad)
        except (InvalidTag, ValueError) as error:
            raise SealBroken("the data key does not open") from error

    async def describe(self, kek_id: str) -> KeyDescription:
        """Tell about a key."""
        self._key(kek_id)
        return KeyDescription(kek_id=kek_id, provider="local", current=kek_id == self._current)

    def _key(self, kek_id: str) -> AESGCM:
        try:
            return self._keys[kek_id]
        except KeyError:
            raise KeyUnavailable(kek_id) from None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Envelope:
    kek_id: str
    wrapped: bytes
    nonce: bytes
    ciphertext: bytes


class Vault:
    """Seals and opens secrets; keeps unwrapped data keys for a short while, because a key service is far away."""

    def __init__(
        self,
        provider: KeyProvider,
        *,
        entropy: Entropy = os.urandom,
        monotonic_s: Callable[[], float] = time.monotonic,
        cache_ttl_s: float = 300.0,
        cache_size: int = 1024,
    ) -> None:
        self._provider = provider
        self._entropy = entropy
        self._monotonic_s = monotonic_s
        self._cache_ttl_s = cache_ttl_s
        self._cache_size = cache_size
        self._cache: OrderedDict[bytes, tuple[float, bytes]] = OrderedDict()

    async def seal(self, plaintext: bytes, *, table: str, column: str, row: str, site: str) -> bytes:
        """Encrypt a secret for one place. Raises KeyUnavailable."""
        aad = _aad(table, column, row, site)
        dek, nonce = self._entropy(KEY_BYTES), self._entropy(_NONCE_BYTES)
        kek_id = self._provider.current
        wrapped = await self._provider.wrap(kek_id, dek, aad)
        return _pack(
            _Envelope(
                kek_id=kek_id, wrapped=wrapped, nonce=nonce, ciphertext=AESGCM(dek).encrypt(nonce, plaintext, aad)
            )
        )

    async def open(self, sealed: bytes, *, table: str, column: str, row: str, site: str) -> bytes:
        """Decrypt a secret in the place it was sealed for. Raises SealBroken, KeyUnavailable."""
        aad = _aad(table, column, row, site)
        envelope = _unpack(sealed)
        dek = await self._unwrap(envelope, aad)
        try:
            return AESGCM(dek).decrypt(envelope.nonce, envelope.ciphertext, aad)
        except (InvalidTag, ValueError) as error:
            raise SealBroken("the sealed value does not open here") from error

    async def rewrap(self, sealed: bytes, *, table: str, column: str, row: str, site: str) -> bytes:
        """Wrap the data key with the provider's current key, leaving the ciphertext as it is."""
        aad = _aad(table, column, row, site)
        envelope = _unpack(sealed)
        dek = await self._provider.unwrap(envelope.kek_id, envelope.wrapped, aad)
        kek_id = self._provider.current
        wrapped = await self._provider.wrap(kek_id, dek, aad)
        return _pack(_Envelope(kek_id=kek_id, wrapped=wrapped, nonce=envelope.nonce, ciphertext=envelope.ciphertext))

    def forget(self) -> None:
        """Drop every unwrapped data key, as when a customer takes a key back."""
        self._cache.clear()

    async def _unwrap(self, envelope: _Envelope, aad: bytes) -> bytes:
        name = hashlib.sha256(
            b"".join(len(part).to_bytes(4, "big") + part for part in (envelope.kek_id.encode(), envelope.wrapped, aad))
        ).digest()
        now_s = self._monotonic_s()
        if (kept := self._cache.get(name)) is not None:
            if now_s < kept[0]:
                self._cache.move_to_end(name)
                return kept[1]
            del self._cache[name]
        dek = await self._provider.unwrap(envelope.kek_id, envelope.wrapped, aad)
        self._cache[name] = (now_s + self._cache_ttl_s, dek)
        while len(self._cache) > self._cache_size:
            self._cache.popitem(last=False)
        return dek


def kek_id_of(sealed: bytes) -> str:
    """Return the id of the key that a sealed value needs. Raises SealBroken."""
    return _unpack(sealed).kek_id


def parse_master_key(text: str) -> bytes:
    """Read a master key: 32 bytes in base64 (either alphabet, padded or not) or in hexadecimal. Raises MasterKeyInvalid."""
    text = text.strip()
    if _HEX.fullmatch(text):
        return bytes.fromhex(text)
    try:
        standard = text.replace("-", "+").replace("_", "/").rstrip("=")
        key = base64.b64decode(standard + "=" * (-len(standard) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise MasterKeyInvalid("the master key is neither base64 nor hexadecimal") from None
    if len(key) != KEY_BYTES:
        raise MasterKeyInvalid(f"the master key has {len(key)} bytes; it must have {KEY_BYTES}")
    return key


def derive_pepper(master_key: bytes) -> bytes:
    """Return the key under which secrets are hashed that only have to be compared."""
    return _derive(master_key, b"pepper")


def _derive(master_key: bytes, purpose: bytes) -> bytes:
    if len(master_key) != KEY_BYTES:
        raise MasterKeyInvalid(f"the master key has {len(master_key)} bytes; it must have {KEY_BYTES}")
    return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=b"gledger/1/" + purpose).derive(master_key)


def _local_kek_id(master_key: bytes) -> str:
    # A fingerprint, so that a wrong master key says so instead of looking like damaged data.
    return "local-1-" + hmac.new(_derive(master_key, b"kek id"), b"", hashlib.sha256).hexdigest()[:12]


def _aad(table: str, column: str, row: str, site: str) -> bytes:
    return msgspec.json.encode([_VERSION, table, column, row, site])


def _pack(envelope: _Envelope) -> bytes:
    kek_id = envelope.kek_id.encode()
    return b"".join(
        (
            bytes((_VERSION, len(kek_id))),
            kek_id,
            len(envelope.wrapped).to_bytes(2, "big"),
            envelope.wrapped,
            envelope.nonce,
            envelope.ciphertext,
        )
    )


def _unpack(sealed: bytes) -> _Envelope:
    if len(sealed) < 2 or sealed[0] != _VERSION:
        raise SealBroken("not a sealed value")
    at = 2 + sealed[1]
    kek_id, length = sealed[2:at], int.from_bytes(sealed[at : at + 2], "big")
    wrapped, rest = sealed[at + 2 : at + 2 + length], sealed[at + 2 + length :]
    if len(rest) < _NONCE_BYTES + _TAG_BYTES:
        raise SealBroken("a sealed value that was cut short")
    try:
        name = kek_id.decode("ascii")
    except UnicodeDecodeError:
        raise SealBroken("not a sealed value") from None
    return _Envelope(kek_id=name, wrapped=wrapped, nonce=rest[:_NONCE_BYTES], ciphertext=rest[_NONCE_BYTES:])
