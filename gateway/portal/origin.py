"""The request behind events, as far as the feed tells: when it came, what it asked for, how it was answered. Pure.

Only what is certain is told: an operation that the events do not prove is left out. That it succeeded is certain, or there
would be no event; refused requests leave none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec
from msgspec import Struct

from engine.events import ENTRY_TYPES, Diagnostics, Envelope
from engine.ids import is_id
from engine.money import format_instant

CREATED: Final = 201
ACCEPTED: Final = 202
OK: Final = 200


class Operation(Struct, frozen=True, kw_only=True):
    """What was asked for; `status` None where the events leave open which success it was answered with."""

    method: str
    path: str
    status: int | None


class Origin(Struct, frozen=True, kw_only=True):
    """A request, and the events it led to that were looked at, in the feed's order."""

    request_id: str
    at: str | None
    correlation_id: str | None
    traceparent: str | None
    operation: Operation | None
    events: Sequence[Envelope]


def origins_of(told: Sequence[Envelope]) -> list[Origin]:
    """Return the requests behind events, in the order in which each was first told of; what nobody asked for has none."""
    by_request: dict[str, list[Envelope]] = {}
    for envelope in sorted(told, key=lambda each: each.sequence):
        found = diagnostics_of(envelope)
        if found is not None and found.request_id is not None:
            by_request.setdefault(found.request_id, []).append(envelope)
    return [_origin(request_id, events) for request_id, events in by_request.items()]


def diagnostics_of(envelope: Envelope) -> Diagnostics | None:
    """Return where the request behind an event is found."""
    given: Any = envelope.diagnostics
    return given if isinstance(given, Diagnostics) else None


def drawn_at(request_id: str) -> str | None:
    """Return the instant at which an id was drawn: its first 48 bits are milliseconds (RFC 9562 §5.7)."""
    if not is_id(request_id) or request_id[14] != "7":
        return None
    return format_instant(int(request_id[:8] + request_id[9:13], 16) * 1000)


def began_at(envelope: Envelope) -> str:
    """Return the instant from which an event's time is counted: when its request came, else its own."""
    found = diagnostics_of(envelope)
    return (found is not None and found.request_id is not None and drawn_at(found.request_id)) or envelope.timestamp


def _origin(request_id: str, events: Sequence[Envelope]) -> Origin:
    found = diagnostics_of(events[0]) or Diagnostics()
    return Origin(
        request_id=request_id,
        at=drawn_at(request_id),
        correlation_id=found.correlation_id,
        traceparent=found.traceparent,
        operation=operation_of(events),
        events=events,
    )


def operation_of(told: Sequence[Envelope]) -> Operation | None:
    """Return the operation that led to these events of one request, in their order; None where they do not prove one."""
    by_type = {each.type: each for each in reversed(told)}
    for kind, said in _SAID:
        if kind in by_type:
            return said(by_type[kind])
    entries = [each for each in told if each.type in ENTRY_TYPES]
    if entries:
        return _of_entries(entries, by_type)
    return _of_resource(told[0])


def _verb(verb: str) -> Callable[[Envelope], Operation]:
    return lambda envelope: Operation(method="POST", path=f"{envelope.resource.href}/{verb}", status=OK)


def _made(envelope: Envelope) -> Operation:
    return Operation(method="POST", path=envelope.resource.href.rpartition("/")[0], status=CREATED)


# What decides wherever it is told; the first that is found.
_SAID: Final[Sequence[tuple[str, Callable[[Envelope], Operation]]]] = (
    ("business_event.created", _made),
    ("hold.created", _made),
    ("hold.captured", _verb("capture")),
    ("hold.released", _verb("release")),
)


def _of_entries(entries: Sequence[Envelope], by_type: Mapping[str, Envelope]) -> Operation | None:
    first = entries[0]
    data = _data(first)
    if first.batch is not msgspec.UNSET:
        several = "/v1/business_events" if data.get("business_event_id") else "/v1/entries/batch"
        return Operation(method="POST", path=several, status=None)
    if "entry.reversed" in by_type:
        reversed_ = by_type["entry.reversed"]
        return Operation(method="POST", path=f"{reversed_.resource.href}/reverse", status=CREATED)
    parts = [part for each in entries if (part := _data(each).get("partially_posts"))]
    if parts:
        return Operation(method="POST", path=f"/v1/entries/{parts[0]}/partial_post", status=OK)
    match first.type:
        case "entry.created":
            status = ACCEPTED if data.get("status") == "accepted" else CREATED
            return Operation(method="POST", path="/v1/entries", status=status)
        case "entry.posted" if data.get("reverses"):
            return Operation(method="POST", path=f"/v1/entries/{data['reverses']}/reverse", status=CREATED)
        case "entry.posted" if data.get("business_event_id"):
            return None
        case "entry.posted" if data.get("created_at") == data.get("posted_at"):
            return Operation(method="POST", path="/v1/entries", status=CREATED)
        case "entry.posted":
            return _verb("post")(first)
        case "entry.archived":
            return _verb("archive")(first)
        case "entry.updated":
            return _patched(first)
        case _:
            return None


def _of_resource(envelope: Envelope) -> Operation | None:
    match envelope.type.partition(".")[2]:
        case "created":
            return _made(envelope)
        case "updated" if "status" not in _previous(envelope):
            return _patched(envelope)
        case "updated" if envelope.resource.type == "account" and _data(envelope).get("status") == "closed":
            return _verb("close")(envelope)
        case _:
            return None


def _patched(envelope: Envelope) -> Operation:
    return Operation(method="PATCH", path=envelope.resource.href, status=OK)


def _data(envelope: Envelope) -> dict[str, Any]:
    return _object(envelope.data)


def _previous(envelope: Envelope) -> dict[str, Any]:
    return {} if isinstance(envelope.previous, msgspec.UnsetType) else _object(envelope.previous)


def _object(raw: msgspec.Raw) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.json.decode(raw)
    return found
