"""Standard Webhooks signatures (specification 1.0) over `id.timestamp.body`, several keys at a rotation. Pure.

`v1` is HMAC-SHA256, its key known to both sides (`whsec_`); `v1a` is Ed25519: we keep `whsk_`, the receiver has `whpk_`.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Mapping, Sequence
from typing import Final, Literal

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from delivery.errors import InvalidSecret, SignatureRejected

SECRET_PREFIX: Final = "whsec_"  # noqa: S105 - the published prefix, not a secret
SECRET_BYTES: Final = 32
TOLERANCE_S: Final = 300
"""How far a message's timestamp may be from the verifier's clock, both ways."""

PRIVATE_PREFIX: Final = "whsk_"
PUBLIC_PREFIX: Final = "whpk_"

Version = Literal["v1", "v1a"]
SigningKey = bytes | Ed25519PrivateKey
"""Bytes are the secret of `v1`."""
VerifyingKey = bytes | Ed25519PublicKey

_SEED_BYTES: Final = 32
_TIMESTAMP_DIGITS_MAX: Final = 15


def format_secret(key: bytes) -> str:
    """Return a signing key as it is shown to the partner."""
    return SECRET_PREFIX + base64.b64encode(key).decode()


def parse_secret(text: str) -> bytes:
    """Read a secret, with or without its prefix, padded or not; raises InvalidSecret."""
    return _bytes(text.removeprefix(SECRET_PREFIX))


def signing_key(version: Version, key: bytes) -> SigningKey:
    """Return a stored key as what signs: the secret itself, or the Ed25519 key of a seed."""
    return key if version == "v1" else Ed25519PrivateKey.from_private_bytes(key)


def format_public(seed: bytes) -> str:
    """Return the public key of a seed as receivers know it."""
    return PUBLIC_PREFIX + base64.b64encode(_public_bytes(Ed25519PrivateKey.from_private_bytes(seed))).decode()


def parse_signing_key(text: str) -> SigningKey:
    """Read what signs: `whsk_…`, or a secret; raises InvalidSecret."""
    if text.startswith(PUBLIC_PREFIX):
        raise InvalidSecret("a public key (whpk_) verifies; it takes a whsec_ or whsk_ to sign")
    if not text.startswith(PRIVATE_PREFIX):
        return parse_secret(text)
    raw = _bytes(text.removeprefix(PRIVATE_PREFIX))
    if len(raw) not in {_SEED_BYTES, 2 * _SEED_BYTES}:
        raise InvalidSecret("a private key is 32 bytes, or 64 with its public key")
    key = Ed25519PrivateKey.from_private_bytes(raw[:_SEED_BYTES])
    if raw[_SEED_BYTES:] not in {b"", _public_bytes(key)}:
        raise InvalidSecret("the private key's halves do not belong together")
    return key


def parse_verifying_key(text: str) -> VerifyingKey:
    """Read what verifies: `whpk_…`, a secret, or a `whsk_…` for its public half; raises InvalidSecret."""
    if text.startswith(PUBLIC_PREFIX):
        raw = _bytes(text.removeprefix(PUBLIC_PREFIX))
        if len(raw) != _SEED_BYTES:
            raise InvalidSecret("a public key is 32 bytes")
        return Ed25519PublicKey.from_public_bytes(raw)
    key = parse_signing_key(text)
    return key if isinstance(key, bytes) else key.public_key()


def sign(key: SigningKey, message_id: str, timestamp_s: int, body: bytes) -> str:
    """Return one signature, its version and base64, over exactly these bytes."""
    signed = _signed(message_id, timestamp_s, body)
    if isinstance(key, bytes):
        return f"v1,{base64.b64encode(hmac.digest(key, signed, 'sha256')).decode()}"
    return f"v1a,{base64.b64encode(key.sign(signed)).decode()}"


def signature_header(keys: Sequence[SigningKey], message_id: str, timestamp_s: int, body: bytes) -> str:
    """Return the `webhook-signature` header: one signature for each key that is valid, the newest first."""
    return " ".join(sign(key, message_id, timestamp_s, body) for key in keys)


def verify(keys: Sequence[VerifyingKey], headers: Mapping[str, str], body: bytes, now_s: float) -> None:
    """Accept a message that one of the keys signed within the tolerance; raises SignatureRejected."""
    given = {name.lower(): value for name, value in headers.items()}
    message_id, sent, signatures = (given.get(f"webhook-{name}", "") for name in ("id", "timestamp", "signature"))
    if not (message_id and sent and signatures):
        raise SignatureRejected("header_missing")
    if not (sent.isascii() and sent.isdecimal() and len(sent) <= _TIMESTAMP_DIGITS_MAX):
        raise SignatureRejected("timestamp_invalid")
    if abs(now_s - int(sent)) > TOLERANCE_S:
        raise SignatureRejected("timestamp_outside")
    signed = _signed(message_id, int(sent), body)
    for candidate in signatures.split(" "):
        version, _, encoded = candidate.partition(",")
        if any(_is_signature(key, version, encoded, signed) for key in keys):
            return
    raise SignatureRejected("no_match")


def _is_signature(key: VerifyingKey, version: str, encoded: str, signed: bytes) -> bool:
    if isinstance(key, bytes):
        expected = base64.b64encode(hmac.digest(key, signed, "sha256"))
        return version == "v1" and hmac.compare_digest(encoded.encode(), expected)
    try:
        key.verify(base64.b64decode(encoded, validate=True), signed)
    except (InvalidSignature, binascii.Error, ValueError):
        return False
    return version == "v1a"


def _signed(message_id: str, timestamp_s: int, body: bytes) -> bytes:
    return f"{message_id}.{timestamp_s}.".encode() + body


def _public_bytes(key: Ed25519PrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


def _bytes(encoded: str) -> bytes:
    encoded = encoded.rstrip("=")
    try:
        key = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise InvalidSecret("the secret is not base64") from None
    if not key:
        raise InvalidSecret("the secret is empty")
    return key
