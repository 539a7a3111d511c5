"""The headers of a webhook: the signed set, the names a partner may not take, and what the log shows of them."""

from __future__ import annotations

import pytest

from delivery.errors import ReservedHeaders
from delivery.forms import Message
from delivery.message import check_header_names, masked, merged, message_headers
from delivery.rows import DeliveryRow
from delivery.signing import verify


def test_headers_name_event_delivery_attempt_and_both_sequences() -> None:
    """Everything a receiver needs to dedupe and to find gaps is in the headers, and they verify."""
    row = DeliveryRow(
        id="d", endpoint_id="p", event_id="e", event_type="entry.posted", sequence=42, endpoint_sequence=7,
        state="in_flight", reason=None, attempts=3, failures=2, trigger="scheduled", due_at=0, lane=0, generation=3,
        claimed_at=0, delivered_at=None, created_at=0, updated_at=0,
    )  # fmt: skip
    sent = Message(id="e", body=b"{}", headers={"content-type": "application/json"})
    headers = message_headers([row], [b"old", b"new"], 1_760_000_000, sent)
    signature = headers.pop("webhook-signature")
    assert headers == {
        "content-type": "application/json",
        "webhook-id": "e",
        "webhook-timestamp": "1760000000",
        "X-GLedger-Delivery-Id": "d",
        "X-GLedger-Attempt": "3",
        "X-GLedger-Sequence": "42",
        "X-GLedger-Endpoint-Sequence": "7",
    }
    for key in (b"old", b"new"):
        verify([key], {**headers, "webhook-signature": signature}, b"{}", 1_760_000_000)


@pytest.mark.parametrize(
    "name",
    ["Host", "content-length", "Content-Type", "Transfer-Encoding", "connection", "Webhook-Id", "webhook-anything",
     "X-GLedger-Sequence", "User-Agent", "Cookie", "Proxy-Authorization", "X-Forwarded-For", "TE", "Accept-Encoding"],
)  # fmt: skip
def test_reserved_name_is_refused_in_any_case(name: str) -> None:
    """What frames, signs or identifies a request is ours."""
    with pytest.raises(ReservedHeaders) as refused:
        check_header_names(["X-Fine", name])
    assert refused.value.names == (name,)


def test_the_same_name_twice_is_refused() -> None:
    """Two names that differ in case only would be one header with two values."""
    with pytest.raises(ReservedHeaders) as refused:
        check_header_names(["X-Key", "x-key"])
    assert refused.value.names == ("x-key",)


def test_own_names_are_accepted() -> None:
    """Credentials and routing headers are what custom headers are for."""
    check_header_names(["Authorization", "X-Api-Key", "X-Route"])


def test_the_log_shows_names_without_values() -> None:
    """A custom header may be a credential."""
    assert masked({"Authorization": "Bearer x"}) == {"Authorization": "***"}
    assert merged({"webhook-id": "e"}, {"X-Key": "v"}) == {"X-Key": "v", "webhook-id": "e"}
