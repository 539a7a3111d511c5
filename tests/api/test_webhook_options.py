"""Order, rate and skipping over HTTP: shapes and refusals."""

from __future__ import annotations

import pytest

from gledger.parts import Parts
from tests.api.stage import PARTNER, OpenSite, furnish


async def test_order_and_rate_are_options_of_an_endpoint(site: OpenSite) -> None:
    """They are kept as given, shown with what they come to, and changed one by one."""
    asked = {
        "ordering": "ordered_by",
        "ordering_key": "metadata.order-id",
        "on_exhausted": "skip_and_flag",
        "rate_limit": 20,
    }
    body = {"url": PARTNER, "event_types": ["*"], **asked}
    made = await site.client.post("/v1/webhook_endpoints", json=body)
    assert made.status_code == 201, made.text
    shown = made.json()
    assert {name: shown[name] for name in asked} == asked
    assert (shown["passed_over"], shown["circuit"]["state"]) == (0, "closed")
    place = f"/v1/webhook_endpoints/{shown['id']}"
    changed = await site.client.patch(place, json={"ordering": "ordered", "rate_limit": None})
    assert [changed.json()[name] for name in ("ordering", "ordering_key", "rate_limit")] == ["ordered", None, None]


@pytest.mark.parametrize(
    ("options", "pointer"),
    [
        ({"ordering": "ordered_by"}, "/ordering_key"),
        ({"ordering_key": "account"}, "/ordering_key"),
        ({"ordering": "ordered_by", "ordering_key": "amount"}, "/ordering_key"),
        ({"ordering": "ordered_by", "ordering_key": "metadata."}, "/ordering_key"),
        ({"ordering": "sometimes"}, "/ordering"),
        ({"on_exhausted": "stop"}, "/on_exhausted"),
        ({"rate_limit": 0}, "/rate_limit"),
        ({"rate_limit": 1001}, "/rate_limit"),
    ],
)
async def test_options_that_mean_nothing_are_refused(site: OpenSite, options: dict[str, object], pointer: str) -> None:
    """The refusal names the member."""
    body = {"url": PARTNER, "event_types": ["*"], **options}
    refused = await site.client.post("/v1/webhook_endpoints", json=body)
    assert refused.status_code == 422, refused.text
    assert [each["pointer"] for each in refused.json()["errors"]] == [pointer]


async def test_skipping_a_delivery_is_done_once(site: OpenSite, parts: Parts) -> None:
    """It answers with the delivery, and with the same the second time; one that is not there is not found."""
    known = await furnish(site, parts)
    place = f"/v1/deliveries/{known['deliveries'][0]}/skip"
    first = await site.client.post(place)
    assert (first.status_code, first.json()["status"], first.json()["reason"]) == (200, "skipped", "by_request")
    assert (await site.client.post(place)).json() == first.json()
    missing = await site.client.post(f"/v1/deliveries/{known['events'][0]}/skip")
    assert missing.status_code == 404
