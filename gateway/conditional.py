"""Reading again what may not have changed (RFC 9110, section 13): an ETag on whatever is read, and 304 where it is still so."""

from __future__ import annotations

import hashlib
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

_OF_A_BODY: Final = frozenset({b"content-length", b"content-type"})
_DIGEST_BYTES: Final = 12


def revalidated(request: Request, response: Response, *, versioned: bool) -> Response:
    """Return what answers a read: the response with an ETag, or 304 without its body where the client has it already.

    A resource's ETag is its version, which If-Match takes. What has none, a page or a report, has one of its bytes. Where more
    than its version decides what is shown, `versioned` is false: such an answer is always given whole.
    """
    if response.status_code != 200:
        return response
    etag = response.headers.get("etag")
    if etag is None:
        etag = f'"{hashlib.blake2b(bytes(response.body), digest_size=_DIGEST_BYTES).hexdigest()}"'
        response.headers["etag"] = etag
    elif not versioned:
        return response
    given = [each.strip() for line in request.headers.getlist("if-none-match") for each in line.split(",")]
    if "*" not in given and etag not in {each.removeprefix("W/") for each in given}:
        return response
    unchanged = Response(status_code=304)
    unchanged.raw_headers = [header for header in response.raw_headers if header[0] not in _OF_A_BODY]
    return unchanged
