"""Passwords of people: argon2id (RFC 9106) in PHC form, off the event loop and few at a time, since each takes 64 MiB."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable
from typing import Final, TypeVar

from cryptography.exceptions import InvalidKey
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from auth.errors import PasswordUnfit
from auth.ports import Entropy

T = TypeVar("T")

LENGTH_MIN: Final = 15
"""The shortest password where it is the only factor (NIST SP 800-63B-4 §3.1.1.2)."""
LENGTH_MAX: Final = 200

_SALT_BYTES: Final = 16
_HASH_BYTES: Final = 32
_MEMORY_KIB: Final = 64 * 1024
_ITERATIONS: Final = 3
_AT_ONCE: Final = 2
_DRAWN_BYTES: Final = 15
_GROUP: Final = 6


def draw_password(entropy: Entropy) -> str:
    """Make a password of 120 random bits, in groups that a person can copy."""
    text = base64.b32encode(entropy(_DRAWN_BYTES)).decode("ascii").lower()
    return "-".join(text[at : at + _GROUP] for at in range(0, len(text), _GROUP))


def check_password(password: str) -> None:
    """Raise PasswordUnfit for one that is too short or too long."""
    if not LENGTH_MIN <= len(password) <= LENGTH_MAX:
        raise PasswordUnfit(LENGTH_MIN, LENGTH_MAX)


class Passwords:
    """Hashes passwords and compares them, in threads of their own."""

    def __init__(self, entropy: Entropy) -> None:
        """Take where salts come from."""
        self._entropy = entropy
        self._turn = asyncio.Semaphore(_AT_ONCE)
        # What an unknown person's password is compared with: it costs the same and never matches.
        self._nobody: str | None = None

    async def hash(self, password: str) -> str:
        """Return the hash under which a password is stored. Raises PasswordUnfit."""
        check_password(password)
        return await self._in_turn(lambda: _hash(password, self._entropy(_SALT_BYTES)))

    async def matches(self, password: str, stored: str | None) -> bool:
        """Tell whether a password is the stored one; where nothing is stored it is not, after the same time."""
        if stored is None and self._nobody is None:
            self._nobody = await self._in_turn(lambda: _hash("nobody", self._entropy(_SALT_BYTES)))
        against = stored or self._nobody or ""
        equal = await self._in_turn(lambda: _equal(password, against))
        return equal and stored is not None

    async def _in_turn(self, run: Callable[[], T]) -> T:
        async with self._turn:
            return await asyncio.to_thread(run)


def _hash(password: str, salt: bytes) -> str:
    derivation = Argon2id(salt=salt, length=_HASH_BYTES, iterations=_ITERATIONS, lanes=1, memory_cost=_MEMORY_KIB)
    return derivation.derive_phc_encoded(_bytes(password))


def _equal(password: str, stored: str) -> bool:
    try:
        Argon2id.verify_phc_encoded(_bytes(password), stored)
    except InvalidKey:
        return False
    return True


def _bytes(password: str) -> bytes:
    # What a browser could not have sent is not compared wrongly, only found different.
    return password.encode("utf-8", "surrogatepass")[:1024]
