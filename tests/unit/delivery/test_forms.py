"""What an endpoint is sent of an event, in every form; CloudEvents are read by the official library."""

from __future__ import annotations

import gzip
from typing import Any

import msgspec
import pytest
from cloudevents.core.bindings.http import HTTPMessage, from_binary_event, from_structured_event
from cloudevents.core.formats.json import JSONFormat

from delivery.errors import InvalidForm
from delivery.forms import Form, batch_id, batch_message, check_form, message, project, tree

EVENT: Any = {
    "id": "0192", "type": "entry.posted", "schema_version": 1, "sequence": 42,
    "timestamp": "2026-11-21T10:00:00.123456Z", "organization": "acme-corp", "environment": "sandbox",
    "resource": {"type": "entry", "id": "0193", "href": "/v1/entries/0193"},
    "data": {"id": "0193", "description": "Zürich", "lines": [{"amount": 1, "side": "a"}, {"amount": 2, "side": "b"}]},
    "diagnostics": {"request_id": "r", "traceparent": "00-" + "a" * 32 + "-" + "b" * 16 + "-01"},
}  # fmt: skip
ENVELOPE = msgspec.json.encode(EVENT)


def sent(**options: Any) -> Any:
    """Return the body of an event in a form, decoded."""
    return msgspec.json.decode(message("0192", ENVELOPE, Form(**options)).body)


def test_the_default_form_is_the_stored_bytes() -> None:
    """Nothing is encoded again."""
    made = message("0192", ENVELOPE, Form())
    assert made.body is ENVELOPE
    assert (made.id, made.headers) == ("0192", {"content-type": "application/json"})


def test_a_thin_payload_names_the_event_and_its_resource() -> None:
    """Who wants the rest fetches it."""
    assert sent(payload="thin") == {name: EVENT[name] for name in ("id", "type", "sequence", "timestamp", "resource")}


def test_a_projection_has_the_members_that_were_chosen() -> None:
    """Beside what every event has; what an event does not have is left out."""
    body = sent(payload=["/data/description", "/data/lines/*/amount", "/data/missing", "/type/deeper"])
    always = {name: EVENT[name] for name in ("id", "type", "sequence", "timestamp")}
    assert body == {**always, "data": {"description": "Zürich", "lines": [{"amount": 1}, {"amount": 2}]}}


@pytest.mark.parametrize(
    ("pointers", "expected"),
    [
        (["/a"], {"a": {"b": [{"c": 1, "d": 2}, 3]}}),
        (["/a", "/a/b"], {"a": {"b": [{"c": 1, "d": 2}, 3]}}),
        (["/a/b", "/a"], {"a": {"b": [{"c": 1, "d": 2}, 3]}}),
        (["/a/b/*/c"], {"a": {"b": [{"c": 1}]}}),
        (["/a/b/1"], {"a": {"b": [3]}}),
        (["/a/b/7"], {"a": {"b": []}}),
        (["/a/*"], {"a": {"b": [{"c": 1, "d": 2}, 3]}}),
        (["/z"], {}),
    ],
)
def test_pointers_together_choose_what_each_of_them_does(pointers: list[str], expected: Any) -> None:
    """In whichever order they come, a whole is not narrowed by its part."""
    assert project({"a": {"b": [{"c": 1, "d": 2}, 3]}, "e": 1}, tree(pointers)) == expected


def test_a_structured_cloud_event_is_one_to_the_official_library() -> None:
    """Every attribute of CloudEvents 1.0, ours among them, with the envelope as its data."""
    made = message("0192", ENVELOPE, Form(format="cloudevents"))
    assert made.headers["content-type"] == "application/cloudevents+json"
    event = from_structured_event(HTTPMessage(headers=dict(made.headers), body=made.body), JSONFormat())
    assert (event.get_id(), event.get_type(), event.get_specversion()) == ("0192", "entry.posted", "1.0")
    assert (event.get_source(), event.get_subject()) == ("gledger://acme-corp/sandbox", "entry/0193")
    assert event.get_extension("sequence") == "00000000000000000042"
    assert event.get_extension("traceparent") == EVENT["diagnostics"]["traceparent"]
    time = event.get_time()
    assert time is not None
    assert time.isoformat() == "2026-11-21T10:00:00.123456+00:00"
    assert event.get_data() == EVENT


def test_a_binary_cloud_event_carries_the_stored_bytes() -> None:
    """The attributes are headers, the body is that of the standard format."""
    made = message("0192", ENVELOPE, Form(format="cloudevents_binary"))
    assert made.body is ENVELOPE
    event = from_binary_event(HTTPMessage(headers=dict(made.headers), body=made.body), JSONFormat())
    assert (event.get_id(), event.get_source()) == ("0192", "gledger://acme-corp/sandbox")
    assert event.get_datacontenttype() == "application/json"
    assert event.get_data() == EVENT


def test_forms_and_payloads_go_together() -> None:
    """A CloudEvent's data is the payload, whichever it is."""
    assert sent(format="cloudevents", payload="thin")["data"] == sent(payload="thin")


def test_what_is_compressed_is_the_same_bytes_every_time() -> None:
    """The header says so, and a replay years later sends them again."""
    made = message("0192", ENVELOPE, Form(compression="gzip"))
    assert made.headers["content-encoding"] == "gzip"
    assert gzip.decompress(made.body) == ENVELOPE
    assert message("0192", ENVELOPE, Form(compression="gzip")).body == made.body


def test_a_batch_is_an_array_of_what_each_event_would_be() -> None:
    """Its id is that of these events in this order."""
    form = Form(max_batch=10, payload="thin")
    made = batch_message(["0192", "0194"], [ENVELOPE, ENVELOPE], form)
    assert msgspec.json.decode(made.body) == [sent(payload="thin")] * 2
    assert made.id == batch_id(["0192", "0194"]) != batch_id(["0194", "0192"])
    clouds = batch_message(["0192"], [ENVELOPE], Form(max_batch=10, format="cloudevents"))
    assert clouds.headers["content-type"] == "application/cloudevents-batch+json"
    assert msgspec.json.decode(clouds.body) == [sent(format="cloudevents")]


@pytest.mark.parametrize(
    ("form", "field"),
    [(Form(max_batch=2, format="cloudevents_binary"), "format"), (Form(max_wait_ms=1), "max_wait_ms")],
)
def test_options_that_do_not_go_together_are_refused(form: Form, field: str) -> None:
    """Each by the name of the member."""
    with pytest.raises(InvalidForm) as refused:
        check_form(form)
    assert refused.value.field == field
