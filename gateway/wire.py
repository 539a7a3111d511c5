"""Bytes in and out: reading a body within its limit, decoding it to its shape or naming everything that is wrong.

What a database could refuse is refused here. A JSON integer may be written `5` or `5.0` (JSON Schema calls both one).
"""

from __future__ import annotations

import json
from typing import Any, Final, NamedTuple, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from engine.errors import Fault
from engine.money import AMOUNT_MAX, parse_instant
from gateway.faults import escape, find_faults, text_faults
from gateway.problems import Problem, invalid

T = TypeVar("T")

BODY_MAX: Final = 1024 * 1024
BULK_BODY_MAX: Final = 16 * 1024 * 1024
_EXACT_MAX: Final = 2**53
_canonical: Final = msgspec.json.Encoder(order="sorted").encode
encode: Final = msgspec.json.Encoder().encode


class Document(NamedTuple):
    """A body that is JSON: its value, and its canonical bytes."""

    value: Any
    canonical: bytes


async def read_body(request: Request, limit: int) -> bytes:
    """Return the body; raises the problem of one that is larger than the limit."""
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > limit:
        raise _too_large(limit)
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise Problem(code="request.malformed", detail="The body ended before its end.")
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > limit:
            raise _too_large(limit)
        chunks.append(chunk)
        if not message.get("more_body", False):
            return b"".join(chunks)


def parse(body: bytes, content_type: str | None) -> Document:
    """Read a body as JSON with every field once; raises the problem of one that is not."""
    media_type = (content_type or "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise Problem(code="unsupported_media_type", detail="Send the body as application/json.")
    try:
        return _parse(body)
    except RecursionError:
        raise Problem(code="request.malformed", detail="The body is nested too deeply.") from None


def decode(document: Document, expected: type[T]) -> T:
    """Return the body in its shape; raises the problem that lists everything that is wrong with it."""
    try:
        return msgspec.convert(document.value, expected)
    except msgspec.ValidationError as error:
        faults = find_faults(document.value, expected)
        if not faults:
            faults = [Fault(code="validation.invalid_value", pointer="", detail=str(error))]
        raise invalid(faults) from None


def amount_of(value: int | str, pointer: str) -> int:
    """Return an amount in minor units from an integer or a string of digits."""
    amount = int(value)
    if not 1 <= amount <= AMOUNT_MAX:
        raise invalid(
            [
                Fault(
                    code="amount_out_of_range",
                    pointer=pointer,
                    detail="An amount is 1 to 9223372036854775807 minor units.",
                ),
            ],
        )
    return amount


def instant_of(text: str | None, pointer: str) -> int | None:
    """Return an RFC 3339 time in microseconds."""
    if text is None:
        return None
    try:
        return parse_instant(text)
    except ValueError:
        fault = Fault(
            code="validation.invalid_time", pointer=pointer, detail=f"{text!r} is no RFC 3339 time with an offset."
        )
        raise invalid([fault]) from None


def signed_amount_of(value: int | str, pointer: str) -> int:
    """Return a balance in minor units, which may be negative, from an integer or a string of digits."""
    amount = int(value)
    if not -AMOUNT_MAX - 1 <= amount <= AMOUNT_MAX:
        detail = "A balance is -9223372036854775808 to 9223372036854775807 minor units."
        raise invalid([Fault(code="amount_out_of_range", pointer=pointer, detail=detail)])
    return amount


def effective_at_of(at: str | None, date: str | None, pointer: str = "") -> int | None:
    """Return when an entry takes effect, in microseconds: an instant, or the first one of a date in UTC, not both."""
    if date is None:
        return instant_of(at, f"{pointer}/effective_at")
    if at is not None:
        detail = "effective_at and effective_date are two words for one thing: give one."
        raise invalid([Fault(code="validation.invalid_value", pointer=f"{pointer}/effective_date", detail=detail)])
    try:
        return parse_instant(f"{date}T00:00:00Z")
    except ValueError:
        fault = Fault(
            code="validation.invalid_time", pointer=f"{pointer}/effective_date", detail=f"There is no day {date}."
        )
        raise invalid([fault]) from None


def decode_any(text: str) -> Any:
    """Read JSON of any shape; raises ValueError."""
    return msgspec.json.decode(text)


def reply(
    body: bytes,
    *,
    status: int = 200,
    lock_version: int | None = None,
    headers: dict[str, str] | None = None,
) -> Response:
    """Return a JSON response, with the resource's version as its ETag where it has one."""
    given = dict(headers or {})
    if lock_version is not None:
        given["etag"] = f'"{lock_version}"'
    given.setdefault("cache-control", "no-store")
    return Response(body, status_code=status, media_type="application/json", headers=given)


def _parse(body: bytes) -> Document:
    """Read JSON; raises RecursionError where it is nested deeper than Python goes, whoever looks at it first.

    Where nothing is escaped every quotation mark begins or ends a text. A field that stands twice is kept once, so then the
    canonical bytes have fewer of them: as many mean that nothing was lost. Whatever else it is, is looked at closely.
    """
    if b"\\" not in body:
        try:
            value = _decode(body)
            canonical = _canonical(value)
        except (msgspec.MsgspecError, OverflowError, UnicodeError):
            return _parse_closely(body)
        if canonical.count(b'"') == body.count(b'"'):
            return Document(value, canonical)
    return _parse_closely(body)


def _parse_closely(body: bytes) -> Document:
    """Read JSON, noting every field that stands twice, and say what is wrong with it if anything is."""
    twice: list[str] = []
    try:
        value = json.loads(
            body.decode(),
            object_pairs_hook=lambda pairs: _object(pairs, twice),
            parse_float=_number,
            parse_constant=_no_constant,
        )
    except UnicodeDecodeError:
        raise Problem(code="request.malformed", detail="The body is not UTF-8.") from None
    except ValueError as error:
        # Python's own words about an integer of thousands of digits are advice to programmers.
        what = "a number has too many digits" if str(error).startswith("Exceeds") else error
        raise Problem(code="request.malformed", detail=f"The body is not JSON: {what}.") from None
    if twice:
        raise invalid(
            [
                Fault(
                    code="validation.duplicate_field",
                    pointer=_pointer_to(value, name),
                    detail=f"Field {name!r} stands twice in one object.",
                )
                for name in dict.fromkeys(twice)
            ],
        )
    if b"\\u" in body:
        faults = text_faults(value)
        if faults:
            raise invalid(faults)
    try:
        return Document(value, _canonical(value))
    except (msgspec.MsgspecError, OverflowError, UnicodeEncodeError):
        raise Problem(
            code="request.malformed", detail="The body holds a number or a text that is out of range."
        ) from None


def _too_large(limit: int) -> Problem:
    return Problem(
        code="request.too_large", detail=f"The body may have at most {limit} bytes.", headers={"connection": "close"}
    )


def _object(pairs: list[tuple[str, Any]], twice: list[str]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                twice.append(name)
            seen.add(name)
    return found


def _number(text: str) -> float | int:
    value = float(text)
    if value in {float("inf"), float("-inf")}:
        raise ValueError(f"{text} is out of range")
    return int(value) if value.is_integer() and abs(value) <= _EXACT_MAX else value


_decode: Final = msgspec.json.Decoder(float_hook=_number).decode


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")


def _pointer_to(value: Any, name: str, pointer: str = "") -> str:
    """Return the pointer of the first field of this name."""
    if isinstance(value, dict):
        if name in value:
            return f"{pointer}/{escape(name)}"
        below = [(escape(key), each) for key, each in value.items()]
    elif isinstance(value, list):
        below = [(str(index), each) for index, each in enumerate(value)]
    else:
        return ""
    for token, each in below:
        found = _pointer_to(each, name, f"{pointer}/{token}")
        if found:
            return found
    return ""
