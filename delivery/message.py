"""A webhook's headers: Standard Webhooks' three, ours beside them, the partner's own, and the names it may not take. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from delivery.errors import ReservedHeaders
from delivery.rows import DeliveryRow
from delivery.shapes import MASK
from delivery.signing import signature_header

_RESERVED: Final = frozenset(
    (
        "accept-encoding connection content-encoding content-length content-type cookie date expect forwarded host "
        "keep-alive te trailer transfer-encoding upgrade user-agent via"
    ).split(),
)
_RESERVED_PREFIXES: Final = ("webhook-", "x-gledger-", "proxy-", "sec-", "x-forwarded-")


def check_header_names(names: Iterable[str]) -> None:
    """Accept custom header names that the sender does not set itself; raises ReservedHeaders.

    Two names that differ in case only are one header: the second is refused as if it were reserved.
    """
    refused: list[str] = []
    seen: set[str] = set()
    for name in names:
        lowered = name.lower()
        if lowered in _RESERVED or lowered.startswith(_RESERVED_PREFIXES) or lowered in seen:
            refused.append(name)
        seen.add(lowered)
    if refused:
        raise ReservedHeaders(refused)


def message_headers(delivery: DeliveryRow, keys: Sequence[bytes], timestamp_s: int, body: bytes) -> dict[str, str]:
    """Return the headers of one attempt, signed over the stored bytes; `delivery.attempts` counts this one already."""
    return {
        "content-type": "application/json",
        "webhook-id": delivery.event_id,
        "webhook-timestamp": str(timestamp_s),
        "webhook-signature": signature_header(keys, delivery.event_id, timestamp_s, body),
        "X-GLedger-Delivery-Id": delivery.id,
        "X-GLedger-Attempt": str(delivery.attempts),
        "X-GLedger-Sequence": str(delivery.sequence),
        "X-GLedger-Endpoint-Sequence": str(delivery.endpoint_sequence),
    }


def masked(names: Iterable[str]) -> dict[str, str]:
    """Return custom headers as the log shows them."""
    return dict.fromkeys(names, MASK)


def merged(headers: Mapping[str, str], custom: Mapping[str, str]) -> dict[str, str]:
    """Return the headers with the partner's own added."""
    return {**custom, **headers}
