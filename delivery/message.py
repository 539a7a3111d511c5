"""A webhook's headers: Standard Webhooks' three, ours beside them, the partner's own, and the names it may not take. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from delivery.errors import ReservedHeaders
from delivery.forms import Message
from delivery.rows import DeliveryRow
from delivery.shapes import MASK
from delivery.signing import SigningKey, signature_header

_RESERVED: Final = frozenset(
    (
        "accept-encoding connection content-encoding content-length content-type cookie date expect forwarded host "
        "keep-alive te trailer transfer-encoding upgrade user-agent via"
    ).split(),
)
_RESERVED_PREFIXES: Final = ("webhook-", "ce-", "x-gledger-", "proxy-", "sec-", "x-forwarded-")


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


def message_headers(
    deliveries: Sequence[DeliveryRow], keys: Sequence[SigningKey], timestamp_s: int, message: Message
) -> dict[str, str]:
    """Return the headers of one request, signed over the body as it is sent; `attempts` counts this one already.

    Of several deliveries in one request each header has a list, in the order of the body.
    """
    return {
        **message.headers,
        "webhook-id": message.id,
        "webhook-timestamp": str(timestamp_s),
        "webhook-signature": signature_header(keys, message.id, timestamp_s, message.body),
        "X-GLedger-Delivery-Id": ",".join(one.id for one in deliveries),
        "X-GLedger-Attempt": ",".join(str(one.attempts) for one in deliveries),
        "X-GLedger-Sequence": ",".join(str(one.sequence) for one in deliveries),
        "X-GLedger-Endpoint-Sequence": ",".join(str(one.endpoint_sequence) for one in deliveries),
    }


def masked(names: Iterable[str]) -> dict[str, str]:
    """Return custom headers as the log shows them."""
    return dict.fromkeys(names, MASK)


def merged(headers: Mapping[str, str], custom: Mapping[str, str]) -> dict[str, str]:
    """Return the headers with the partner's own added."""
    return {**custom, **headers}
