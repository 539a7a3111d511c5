"""A body that was sent, made again: the very bytes in every form, or none."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from delivery.forms import Form, Message, batch_message, message
from delivery.message import merged
from delivery.sent import deliveries_in, described, remake
from delivery.shapes import AttemptRequest
from delivery.transcript import digest, shown_request
from engine.events import FeedEvent

FORMS = [
    Form(),
    Form(payload="thin"),
    Form(payload=["/data/id", "/data/lines/*/amount"]),
    Form(compression="gzip"),
    Form(format="cloudevents"),
    Form(format="cloudevents", payload="thin", compression="gzip"),
    Form(format="cloudevents_binary"),
    Form(max_batch=5),
    Form(max_batch=5, format="cloudevents", compression="gzip", payload="thin"),
]


def event(number: int) -> FeedEvent:
    """Return an event of the feed."""
    body = {
        "id": f"e{number}",
        "type": "entry.posted",
        "sequence": number,
        "timestamp": "2026-11-21T10:00:00.123456Z",
        "organization": "acme-corp",
        "environment": "sandbox",
        "resource": {"type": "entry", "id": "0193", "href": "/v1/entries/0193"},
        "data": {"id": "0193", "lines": [{"amount": number}, {"amount": 2}]},
    }
    return FeedEvent(
        sequence=number,
        id=f"e{number}",
        type="entry.posted",
        resource_id="0193",
        created_at=0,
        body=msgspec.json.encode(body),
        hash=b"",
    )


def sent(form: Form, events: list[FeedEvent]) -> tuple[AttemptRequest, Message]:
    """Return what the log keeps of a request with these events, and what was sent."""
    if form.max_batch > 1:
        made = batch_message([one.id for one in events], [one.body for one in events], form)
    else:
        made = message(events[0].id, events[0].body, form)
    ours = {"webhook-id": made.id, "X-GLedger-Delivery-Id": ",".join(f"d{one.sequence}" for one in events)}
    headers = merged({**made.headers, **ours}, {"authorization": "***"})
    kept = shown_request("https://partner.example", headers, events[0].id, form.payload, digest(made.body))
    return msgspec.json.decode(kept, type=AttemptRequest), made


@pytest.mark.parametrize("form", FORMS, ids=repr)
def test_what_is_made_again_is_what_was_sent(form: Form) -> None:
    """Of the events alone and what the log keeps, whatever the endpoint has become since."""
    events = [event(1), event(2)] if form.max_batch > 1 else [event(1)]
    request, made = sent(form, events)
    assert remake(request, events) == made.body
    assert deliveries_in(request) == [f"d{one.sequence}" for one in events]


@pytest.mark.parametrize("form", FORMS, ids=repr)
def test_other_events_are_never_taken_for_what_was_sent(form: Form) -> None:
    """Of another event, of too few, or in another order come other bytes: none are returned."""
    events = [event(1), event(2)] if form.max_batch > 1 else [event(1)]
    request, _ = sent(form, events)
    assert remake(request, [replace(events[0], body=event(3).body), *events[1:]]) is None
    assert remake(request, events[1:]) is None
    assert form.max_batch == 1 or remake(request, events[::-1]) is None


def test_another_digest_is_another_body() -> None:
    """Bytes of the right length that are not those that were sent are not passed off as them."""
    request, _ = sent(Form(), [event(1)])
    assert remake(msgspec.structs.replace(request, body_sha256="0" * 64), [event(1)]) is None


@pytest.mark.parametrize(
    ("options", "count", "said"),
    [
        ({}, 1, "the event"),
        ({"payload": "thin", "compression": "gzip"}, 1, "the event, thin, gzip"),
        ({"payload": ["/data/id"], "format": "cloudevents"}, 1, "the event, chosen members, as CloudEvents"),
        ({"format": "cloudevents_binary"}, 1, "the event, as a binary CloudEvent"),
        ({"max_batch": 2}, 1, "a batch of 1 event"),
        ({"max_batch": 2, "format": "cloudevents"}, 2, "a batch of 2 events, as CloudEvents"),
    ],
)
def test_a_body_is_described_in_words(options: dict[str, Any], count: int, said: str) -> None:
    """Whoever verifies it reads what it is."""
    request, _ = sent(Form(**options), [event(1), event(2)][:count])
    assert described(request, count) == said
