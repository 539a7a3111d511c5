"""What the log keeps of an attempt: the request and the response as JSON, secrets masked."""

from __future__ import annotations

import hashlib
from typing import Final, NamedTuple

from delivery.forms import Payload
from delivery.sender import Response
from delivery.shapes import MASK, AttemptRequest, AttemptResponse, encode
from engine.events import event_href

_MASKED: Final = frozenset({"set-cookie", "set-cookie2", "authorization", "proxy-authorization", "authentication-info"})
"""Headers of an answer whose values are somebody's credentials."""


class Digested(NamedTuple):
    """What the log keeps of a body: its length, and its SHA-256 in hexadecimal."""

    length: int
    sha256: str


def digest(body: bytes) -> Digested:
    """Return what the log keeps of a body."""
    return Digested(len(body), hashlib.sha256(body).hexdigest())


def shown_request(url: str, headers: dict[str, str], event_id: str, payload: Payload, body: Digested) -> bytes:
    """Return a request as it is shown; the partner's own headers are masked already."""
    return encode(
        AttemptRequest(
            url=url,
            headers=headers,
            event=event_href(event_id),
            payload=payload,
            body_bytes=body.length,
            body_sha256=body.sha256,
        ),
    )


def shown_response(response: Response) -> bytes:
    """Return a response as it is shown."""
    headers = {name: MASK if name in _MASKED else value for name, value in response.headers.items()}
    return encode(
        AttemptResponse(
            status=response.status,
            headers=headers,
            body=response.body.decode(errors="replace"),
            truncated=response.truncated,
        ),
    )
