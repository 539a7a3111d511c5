"""A request as it was sent or arrived, to the byte: what a page verifies a signature over, shows, or writes for a shell."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Mapping
from typing import Final

import msgspec
from starlette.responses import Response

from delivery.inspector_shapes import BODY_KEPT_MAX
from engine.errors import NotFound
from gateway import wire
from gateway.portal.rendering import curl
from gateway.portal.visit import Visit

_GZIP: Final = zlib.MAX_WBITS | 16
_SHOWN_MAX: Final = 4 * 1024 * 1024
_NUMBER_DIGITS_MAX: Final = 9


class Exact(msgspec.Struct, frozen=True, kw_only=True):
    """What a signature is checked over, and what the body is; `body` is base64, null where the very bytes are not there: `why`."""

    id: str
    timestamp: str
    signature: str
    said: str
    body: str | None
    why: str | None
    text: str | None
    curl: str | None


async def attempted(visit: Visit) -> Response:
    """Return the request of one attempt of a delivery."""
    delivery_id, number = visit.path_id("delivery"), _number(visit)
    found = await visit.services.log.sent(visit.site, delivery_id, number)
    if found is None:
        raise NotFound("attempt", f"{delivery_id} {number}")
    why = "Its body cannot be made again to the byte, so nothing can be verified over it: "
    why += "this server compresses otherwise than the one that sent it, or an event of it is not there any more."
    return _reply(
        found.request.headers,
        body=found.body,
        said=found.said,
        why=None if found.body is not None else why,
        url=found.request.url,
    )


async def inspected(visit: Visit) -> Response:
    """Return one request that reached an inspector."""
    inspector_id, number = visit.path_id("inspector"), _number(visit)
    found = await visit.services.inspectors.body(visit.site, inspector_id, number)
    if found is None:
        raise NotFound("request", f"{inspector_id} {number}")
    inspector = await visit.services.inspectors.get(visit.site, inspector_id)
    why = (
        f"It was longer than {BODY_KEPT_MAX} bytes: only its beginning is kept, and nothing can be verified over that."
    )
    return _reply(
        found.headers,
        body=None if found.truncated else found.body,
        said="as it arrived",
        why=why if found.truncated else None,
        url=inspector.url,
    )


def _reply(given: Mapping[str, str], *, body: bytes | None, said: str, why: str | None, url: str) -> Response:
    headers = {name.lower(): value for name, value in given.items()}
    packed = headers.get("content-encoding") == "gzip"
    exact = Exact(
        id=headers.get("webhook-id", ""),
        timestamp=headers.get("webhook-timestamp", ""),
        signature=headers.get("webhook-signature", ""),
        said=said,
        body=None if body is None else base64.b64encode(body).decode(),
        why=why,
        text=None if body is None else _text(body, packed=packed),
        curl=None if body is None else _line(url, given, body, packed=packed),
    )
    return wire.reply(wire.encode(exact))


def _line(url: str, headers: Mapping[str, str], body: bytes, *, packed: bool) -> str:
    """Return the request as a line for a shell; bytes that are no text go through base64."""
    own = {"host", "content-length", "connection", "transfer-encoding", "accept-encoding"}
    sent = {name: value for name, value in headers.items() if name.lower() not in own}
    try:
        text = body.decode()
    except UnicodeDecodeError:
        text = "\0"
    if not packed and "\0" not in text:
        return curl("POST", url, sent, text)
    return f"printf %s {base64.b64encode(body).decode()} | base64 -d | {curl('POST', url, sent, None)} --data-binary @-"


def _text(body: bytes, *, packed: bool) -> str:
    """Return a body as people read it: unpacked, and laid out where it is JSON."""
    try:
        plain = zlib.decompressobj(wbits=_GZIP).decompress(body, _SHOWN_MAX) if packed else body
        return msgspec.json.format(plain, indent=2).decode()
    except (zlib.error, msgspec.DecodeError, UnicodeDecodeError):
        return body.decode("utf-8", "replace")


def _number(visit: Visit) -> int:
    text = visit.path["number"]
    if not (text.isascii() and text.isdecimal() and len(text) <= _NUMBER_DIGITS_MAX):
        raise NotFound("request", text[:40])
    return int(text)
