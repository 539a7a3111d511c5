"""A body that was sent, made again: of the stored events, by what the log keeps of the request. Pure.

Bodies are not kept twice. Each is a function of its events and of the form they were sent in; the log keeps that form and
the body's SHA-256, so what is made again is either the very bytes that were sent, or is said not to be.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Final, cast

from delivery.forms import BATCH_PREFIX, Form, Format, batch_message, message
from delivery.shapes import AttemptRequest
from engine.events import FeedEvent

_FORMATS: Final[dict[str, Format]] = {
    "application/cloudevents+json": "cloudevents",
    "application/cloudevents-batch+json": "cloudevents",
}


def deliveries_in(request: AttemptRequest) -> list[str]:
    """Return the ids of the deliveries that one request carried, in the order of its body."""
    listed = _headers(request).get("x-gledger-delivery-id", "")
    return [each for each in listed.split(",") if each]


def remake(request: AttemptRequest, events: Sequence[FeedEvent]) -> bytes | None:
    """Return the body of a request as it was sent, of its events in their order; None where other bytes come of them."""
    headers, form = _headers(request), _form(request)
    ids, bodies = [event.id for event in events], [event.body for event in events]
    if _is_batch(headers):
        body = batch_message(ids, bodies, form).body
    elif len(events) == 1:
        body = message(ids[0], bodies[0], form).body
    else:
        return None
    return body if hashlib.sha256(body).hexdigest() == request.body_sha256 else None


def described(request: AttemptRequest, count: int) -> str:
    """Return in words what the body of a request is."""
    headers, form = _headers(request), _form(request)
    events = f"a batch of {count} {'event' if count == 1 else 'events'}" if _is_batch(headers) else "the event"
    payload = {"full": "", "thin": ", thin"}.get(str(form.payload), ", chosen members")
    formats = {"standard": "", "cloudevents": ", as CloudEvents", "cloudevents_binary": ", as a binary CloudEvent"}
    return f"{events}{payload}{formats[form.format]}{', gzip' if form.compression == 'gzip' else ''}"


def _form(request: AttemptRequest) -> Form:
    headers = _headers(request)
    binary = "cloudevents_binary" if "ce-id" in headers else "standard"
    return Form(
        payload=request.payload,
        format=_FORMATS.get(headers.get("content-type", ""), cast("Format", binary)),
        compression="gzip" if headers.get("content-encoding") == "gzip" else "none",
    )


def _is_batch(headers: dict[str, str]) -> bool:
    return headers.get("webhook-id", "").startswith(BATCH_PREFIX)


def _headers(request: AttemptRequest) -> dict[str, str]:
    return {name.lower(): value for name, value in request.headers.items()}
