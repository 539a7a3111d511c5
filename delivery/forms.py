"""What an endpoint is sent of an event: the whole, little, or chosen members; as it is or as a CloudEvent. Pure.

Every form is a function of the stored envelope and nothing else, so that a replay years later sends the same bytes.
"""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal
from urllib.parse import quote

import msgspec
from msgspec import UNSET, Meta, Struct

from delivery.conditions import Pointer, tokens
from delivery.errors import InvalidForm
from engine.events import SCHEMA_VERSION

BATCH_MAX: Final = 50
WAIT_MAX_MS: Final = 60_000
BATCH_PREFIX: Final = "batch_"

Projection = Annotated[list[Pointer], Meta(min_length=1, max_length=50)]
Payload = Literal["full", "thin"] | Projection
Format = Literal["standard", "cloudevents", "cloudevents_binary"]
Compression = Literal["none", "gzip"]
SchemaVersion = Annotated[int, Meta(ge=1, le=SCHEMA_VERSION)]
MaxBatch = Annotated[int, Meta(ge=1, le=BATCH_MAX, description="How many events one request may carry.")]
MaxWait = Annotated[
    int, Meta(ge=0, le=WAIT_MAX_MS, description="Milliseconds an event may wait for others to go with it.")
]


class Form(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """How an endpoint wants to be sent events."""

    payload: Payload = "full"
    format: Format = "standard"
    schema_version: SchemaVersion = SCHEMA_VERSION
    compression: Compression = "none"
    max_batch: MaxBatch = 1
    max_wait_ms: MaxWait = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A body as it is sent, and the headers that say what it is."""

    id: str
    body: bytes
    headers: Mapping[str, str]


class _Envelope(Struct):
    id: str
    type: str
    sequence: int
    timestamp: str
    organization: str
    environment: str
    resource: msgspec.Raw
    diagnostics: dict[str, str] = {}


class _Thin(Struct):
    id: str
    type: str
    sequence: int
    timestamp: str
    resource: msgspec.Raw


_envelope: Final = msgspec.json.Decoder(_Envelope)
_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder().decode
_ALWAYS: Final = ("id", "type", "sequence", "timestamp")
_SEQUENCE_DIGITS: Final = 20


def check_form(form: Form) -> None:
    """Accept options that go together; raises InvalidForm."""
    if form.max_batch > 1 and form.format == "cloudevents_binary":
        raise InvalidForm("format", "`cloudevents_binary` has one event's attributes as headers: it takes no batches")
    if form.max_wait_ms and form.max_batch == 1:
        raise InvalidForm("max_wait_ms", "there is nothing to wait for where `max_batch` is 1")


def message(event_id: str, envelope: bytes, form: Form) -> Message:
    """Return what is sent of one event."""
    payload = _payload(envelope, form.payload)
    if form.format == "standard":
        return _packed(event_id, payload, {"content-type": "application/json"}, form)
    attributes = cloud_attributes(envelope)
    if form.format == "cloudevents":
        body = _cloud_event(attributes, payload)
        return _packed(event_id, body, {"content-type": "application/cloudevents+json"}, form)
    headers = {f"ce-{name}": _header_value(value) for name, value in attributes.items()}
    return _packed(event_id, payload, {"content-type": "application/json", **headers}, form)


def batch_message(event_ids: Sequence[str], envelopes: Sequence[bytes], form: Form) -> Message:
    """Return what is sent of several events together: a JSON array, in their order."""
    payloads = [_payload(envelope, form.payload) for envelope in envelopes]
    kind = "application/json"
    if form.format == "cloudevents":
        kind = "application/cloudevents-batch+json"
        payloads = [
            _cloud_event(cloud_attributes(envelope), payload)
            for envelope, payload in zip(envelopes, payloads, strict=True)
        ]
    body = b"[" + b",".join(payloads) + b"]"
    return _packed(batch_id(event_ids), body, {"content-type": kind}, form)


def batch_id(event_ids: Sequence[str]) -> str:
    """Return the id of a batch: the same for the same events in the same order, and for no others."""
    return f"{BATCH_PREFIX}{hashlib.sha256(' '.join(event_ids).encode()).hexdigest()[:32]}"


def cloud_attributes(envelope: bytes) -> dict[str, str]:
    """Return an event's context attributes (CloudEvents 1.0.2), `sequence` so that texts sort as numbers do."""
    event = _envelope.decode(envelope)
    resource = msgspec.json.decode(event.resource, type=dict[str, str])
    attributes = {
        "specversion": "1.0",
        "id": event.id,
        "source": f"gledger://{event.organization}/{event.environment}",
        "type": event.type,
        "subject": f"{resource['type']}/{resource['id']}",
        "time": event.timestamp,
        "sequence": str(event.sequence).zfill(_SEQUENCE_DIGITS),
    }
    traceparent = event.diagnostics.get("traceparent")
    return attributes if traceparent is None else {**attributes, "traceparent": traceparent}


def project(value: Any, wanted: Mapping[str, Any]) -> Any:
    """Return of a value what a tree of tokens names, UNSET where that is nothing; an empty tree is everything below."""
    if not wanted:
        return value
    if isinstance(value, dict):
        names = list(value) if "*" in wanted else [name for name in wanted if name in value]
        members = {name: project(value[name], wanted[name if name in wanted else "*"]) for name in names}
        return {name: member for name, member in members.items() if member is not UNSET}
    if isinstance(value, list):
        places = range(len(value)) if "*" in wanted else [int(token) for token in wanted if token.isdecimal()]
        elements = [project(value[at], wanted.get("*", wanted.get(str(at)))) for at in places if at < len(value)]
        return [element for element in elements if element is not UNSET]
    return UNSET


def tree(pointers: Sequence[str]) -> dict[str, Any]:
    """Return JSON pointers as a tree of their tokens; what one names whole no other narrows."""
    root: dict[str, Any] = {}
    for path in sorted((tokens(pointer) for pointer in pointers), key=len):
        place = root
        for token in path:
            below = place.get(token)
            if below == {}:
                break
            place = place.setdefault(token, {})
    return root


def _payload(envelope: bytes, payload: Payload) -> bytes:
    if payload == "full":
        return envelope
    if payload == "thin":
        event = _envelope.decode(envelope)
        return _encode(_Thin(event.id, event.type, event.sequence, event.timestamp, event.resource))
    wanted = tree([*(f"/{name}" for name in _ALWAYS), *payload])
    return _encode(project(_decode(envelope), wanted))


def _cloud_event(attributes: Mapping[str, str], payload: bytes) -> bytes:
    return _encode({**attributes, "datacontenttype": "application/json", "data": msgspec.Raw(payload)})


def _header_value(value: str) -> str:
    """Return a value as a header carries it (HTTP binding §3.1.3.2): percent-encoded where it has to be."""
    return quote(value, safe="!#$&'()*+,/:;=?@[]^`{|}~<>\\-._")


def _packed(message_id: str, body: bytes, headers: dict[str, str], form: Form) -> Message:
    if form.compression == "gzip":
        # No time in it: the same event makes the same bytes.
        return Message(
            id=message_id,
            body=gzip.compress(body, compresslevel=6, mtime=0),
            headers={**headers, "content-encoding": "gzip"},
        )
    return Message(id=message_id, body=body, headers=headers)
