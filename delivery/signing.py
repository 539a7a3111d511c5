"""Standard Webhooks signatures (specification 1.0): HMAC-SHA256 over `id.timestamp.body`, several keys at a rotation. Pure."""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Mapping, Sequence
from typing import Final

from delivery.errors import InvalidSecret, SignatureRejected

SECRET_PREFIX: Final = "whsec_"  # noqa: S105 - the published prefix, not a secret
SECRET_BYTES: Final = 32
TOLERANCE_S: Final = 300
"""How far a message's timestamp may be from the verifier's clock, both ways."""

_VERSION: Final = "v1"


def format_secret(key: bytes) -> str:
    """Return a signing key as it is shown to the partner."""
    return SECRET_PREFIX + base64.b64encode(key).decode()


def parse_secret(text: str) -> bytes:
    """Read a secret, with or without its prefix, padded or not; raises InvalidSecret."""
    encoded = text.removeprefix(SECRET_PREFIX).rstrip("=")
    try:
        key = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise InvalidSecret("the secret is not base64") from None
    if not key:
        raise InvalidSecret("the secret is empty")
    return key


def sign(key: bytes, message_id: str, timestamp_s: int, body: bytes) -> str:
    """Return one signature, `v1,` and base64, over exactly these bytes."""
    digest = hmac.digest(key, f"{message_id}.{timestamp_s}.".encode() + body, "sha256")
    return f"{_VERSION},{base64.b64encode(digest).decode()}"


def signature_header(keys: Sequence[bytes], message_id: str, timestamp_s: int, body: bytes) -> str:
    """Return the `webhook-signature` header: one signature for each key that is valid, the newest first."""
    return " ".join(sign(key, message_id, timestamp_s, body) for key in keys)


def verify(keys: Sequence[bytes], headers: Mapping[str, str], body: bytes, now_s: float) -> None:
    """Accept a message that one of the keys signed within the tolerance; raises SignatureRejected."""
    given = {name.lower(): value for name, value in headers.items()}
    message_id, sent, signatures = (given.get(f"webhook-{name}", "") for name in ("id", "timestamp", "signature"))
    if not (message_id and sent and signatures):
        raise SignatureRejected("header_missing")
    if not (sent.isascii() and sent.isdecimal()):
        raise SignatureRejected("timestamp_invalid")
    if abs(now_s - int(sent)) > TOLERANCE_S:
        raise SignatureRejected("timestamp_outside")
    expected = [sign(key, message_id, int(sent), body).encode() for key in keys]
    for candidate in signatures.encode().split(b" "):
        if any(hmac.compare_digest(candidate, one) for one in expected):
            return
    raise SignatureRejected("no_match")
