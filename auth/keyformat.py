"""How credentials look and how they are hashed. Pure: chance is an argument.

API key        glk_{sbx|live}_{key id, 12}_{secret, 43}{checksum, 6}
client id      glc_{sbx|live}_{16}
client secret  gls_{sbx|live}_{secret, 43}{checksum, 6}

All parts are base62; a secret holds 256 bits; the checksum is the CRC-32 of what stands before it, so that junk is refused
without a database and a scanner finds a leaked one by an exact pattern. Secrets are stored as HMAC-SHA256 under a pepper,
bound to what they are the secret of: they are random, so a slow hash would add nothing.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass, field
from typing import Final
from zlib import crc32

from auth.errors import CredentialsInvalid, SiteNameInvalid
from auth.ports import Entropy

ENVIRONMENTS: Final = ("sandbox", "production")
API_KEY_PATTERN: Final = r"glk_(sbx|live)_([0-9A-Za-z]{12})_([0-9A-Za-z]{43})([0-9A-Za-z]{6})"
"""What a secret scanner looks for."""

_DIGITS: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_TAGS: Final = {"sandbox": "sbx", "production": "live"}
_ENVIRONMENT_OF: Final = {tag: environment for environment, tag in _TAGS.items()}
_API_KEY: Final = re.compile(API_KEY_PATTERN, re.ASCII)
_CLIENT_ID: Final = re.compile(r"glc_(?:sbx|live)_[0-9A-Za-z]{16}", re.ASCII)
_CLIENT_SECRET: Final = re.compile(r"gls_(?:sbx|live)_[0-9A-Za-z]{49}", re.ASCII)
_SLUG: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?", re.ASCII)
_KEY_ID_LENGTH: Final = 12
_CLIENT_ID_LENGTH: Final = 16
_SECRET_LENGTH: Final = 43
_CHECKSUM_LENGTH: Final = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKeyText:
    """The parts of an API key; its representation keeps the secret to itself."""

    environment: str
    key_id: str
    secret: str = field(repr=False)

    def text(self) -> str:
        """Return the key as its owner gets to see it, once."""
        return _with_checksum(f"glk_{_TAGS[self.environment]}_{self.key_id}_{self.secret}")


def draw_api_key(environment: str, entropy: Entropy) -> ApiKeyText:
    """Make a new API key."""
    return ApiKeyText(environment=environment, key_id=_draw(_KEY_ID_LENGTH, entropy), secret=_draw_secret(entropy))


def parse_api_key(text: str) -> ApiKeyText:
    """Take an API key apart. Raises CredentialsInvalid unless form and checksum are right."""
    match = _API_KEY.fullmatch(text)
    if match is None:
        raise CredentialsInvalid("not the form of an API key")
    if not checksum_holds(text):
        raise CredentialsInvalid("an API key with a wrong checksum")
    return ApiKeyText(environment=_ENVIRONMENT_OF[match[1]], key_id=match[2], secret=match[3])


def api_key_prefix(environment: str, key_id: str) -> str:
    """Return the part of an API key that may be shown always."""
    return f"glk_{_TAGS[environment]}_{key_id}"


def draw_client_id(environment: str, entropy: Entropy) -> str:
    """Make a new client id."""
    return f"glc_{_TAGS[environment]}_{_draw(_CLIENT_ID_LENGTH, entropy)}"


def draw_client_secret(environment: str, entropy: Entropy) -> str:
    """Make a new client secret."""
    return _with_checksum(f"gls_{_TAGS[environment]}_{_draw_secret(entropy)}")


def is_client_id(text: str) -> bool:
    """Tell whether the text has the form of a client id."""
    return _CLIENT_ID.fullmatch(text) is not None


def is_client_secret(text: str) -> bool:
    """Tell whether the text has the form and the checksum of a client secret."""
    return _CLIENT_SECRET.fullmatch(text) is not None and checksum_holds(text)


def checksum_holds(text: str) -> bool:
    """Tell whether the last six characters are the checksum of the others."""
    return _with_checksum(text[:-_CHECKSUM_LENGTH]) == text


def hash_secret(pepper: bytes, kind: str, owner: str, secret: str) -> bytes:
    """Hash a secret of a kind ("api_key", "client") bound to the id it belongs to."""
    message = f"{kind}\0{owner}\0{secret}".encode("utf-8", "surrogatepass")
    return hmac.new(pepper, message, hashlib.sha256).digest()


def same_hash(one: bytes, other: bytes) -> bool:
    """Compare two hashes in constant time."""
    return hmac.compare_digest(one, other)


def check_site_name(organization: str, environment: str) -> None:
    """Raise SiteNameInvalid unless both can name a site: a DNS-like slug, and one of the two environments."""
    if _SLUG.fullmatch(organization) is None:
        raise SiteNameInvalid("organization", organization)
    if environment not in ENVIRONMENTS:
        raise SiteNameInvalid("environment", environment)


def _draw_secret(entropy: Entropy) -> str:
    # 62^43 is a little more than 2^256: every 32 bytes have a secret of their own.
    return _base62(int.from_bytes(entropy(32), "big"), _SECRET_LENGTH)


def _draw(length: int, entropy: Entropy) -> str:
    # Many more bits than the digits hold, so that the remainder is as good as even.
    return _base62(int.from_bytes(entropy(length + 4), "big") % 62**length, length)


def _with_checksum(text: str) -> str:
    return text + _base62(crc32(text.encode("utf-8", "surrogatepass")), _CHECKSUM_LENGTH)


def _base62(number: int, length: int) -> str:
    digits = []
    for _ in range(length):
        number, digit = divmod(number, 62)
        digits.append(_DIGITS[digit])
    return "".join(reversed(digits))
