"""The documents a person or a generator reads: OpenAPI, its explorer, a page for every problem code."""

from __future__ import annotations

from functools import lru_cache
from importlib.resources import files
from typing import Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.responses import Response

from engine.errors import NotFound
from gateway.call import Call
from gateway.codes import CODES
from gateway.query import Asked

FILES: Final = {
    "swagger-ui.css": "text/css; charset=utf-8",
    "swagger-ui-bundle.js": "text/javascript; charset=utf-8",
    "explorer.js": "text/javascript; charset=utf-8",
    "pages.css": "text/css; charset=utf-8",
}
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_pages: Final = Environment(loader=PackageLoader("gateway"), autoescape=True, undefined=StrictUndefined)


async def document(call: Call, _asked: Asked) -> Response:
    """Return a committed description of this API."""
    found = call.services.documents.get(call.request.scope["path"])
    if found is None:
        raise NotFound("document", call.request.scope["path"])
    media_type, body = found
    return Response(body, headers={"content-type": media_type, "cache-control": "public, max-age=300"})


async def explorer(_call: Call, _asked: Asked) -> Response:
    """Show every operation with a form to try it."""
    return _page("explorer.html")


async def explorer_file(call: Call, _asked: Asked) -> Response:
    """Return a file that the pages are made of."""
    name = call.path["file"]
    if name not in FILES:
        raise NotFound("file", name[:64])
    return Response(
        _static(name),
        headers={"content-type": FILES[name], "cache-control": "public, max-age=3600", **_SAFE},
    )


async def error_list(_call: Call, _asked: Asked) -> Response:
    """List every problem code."""
    return _page("errors.html", codes=CODES)


async def error_page(call: Call, _asked: Asked) -> Response:
    """Explain one problem code: what it means and whether to try again."""
    code = call.path["code"]
    if code not in CODES:
        raise NotFound("problem code", code[:64])
    return _page("error.html", code=code, problem=CODES[code])


_SAFE: Final = {"x-content-type-options": "nosniff", "referrer-policy": "no-referrer"}


def _page(template: str, **values: object) -> Response:
    text = _pages.get_template(template).render(**values)
    headers = {"content-security-policy": _POLICY, "cache-control": "public, max-age=300", **_SAFE}
    return Response(text, media_type="text/html", headers=headers)


@lru_cache
def _static(name: str) -> bytes:
    return files("gateway").joinpath("static", name).read_bytes()
