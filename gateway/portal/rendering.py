"""Pages as HTML: the templates, how values look in them, and the headers that every page has."""

from __future__ import annotations

import hashlib
import re
import shlex
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any, Final

import msgspec
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape
from starlette.responses import HTMLResponse, RedirectResponse, Response

from engine.money import format_instant
from gateway.portal.visit import Visit
from gateway.portal.words import meaning, since

STATIC: Final = {
    "portal.css": "text/css; charset=utf-8",
    "portal.js": "text/javascript; charset=utf-8",
    "explorer.js": "text/javascript; charset=utf-8",
    "console.js": "text/javascript; charset=utf-8",
    "htmx.js": "text/javascript; charset=utf-8",
    "uplot.js": "text/javascript; charset=utf-8",
    "uplot.css": "text/css; charset=utf-8",
    "icon.svg": "image/svg+xml",
}
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
SAFE: Final = {
    "content-security-policy": _POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}
_YEAR_S: Final = 365 * 86_400
_TOKEN: Final = re.compile(
    r'(?P<key>"(?:[^"\\]|\\.)*")(?P<colon>\s*:)|(?P<text>"(?:[^"\\]|\\.)*")'
    r"|(?P<number>-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)|(?P<word>true|false|null)"
)


def page(visit: Visit, template: str, *, status: int = 200, **values: Any) -> Response:
    """Return a page of somebody who is signed in, or a public one."""
    text = _environment().get_template(template).render(visit=visit, **values)
    return HTMLResponse(text, status_code=status, headers={"cache-control": "no-store"})


def fragment(template: str, name: str, *arguments: Any) -> str:
    """Return what one macro of a template makes, for a part of a page that changes by itself."""
    module: Any = _environment().get_template(template).module
    return str(getattr(module, name)(*arguments))


def redirect(path: str) -> Response:
    """Send the browser on after a form, so that loading the page again does nothing twice."""
    return RedirectResponse(path, status_code=303, headers={"cache-control": "no-store"})


@cache
def static(name: str) -> bytes:
    """Return a file that pages are made of."""
    return files("gateway.portal").joinpath("static", name).read_bytes()


@cache
def static_url(name: str) -> str:
    """Return the address of a file; it changes with the file, so that browsers may keep it for ever."""
    return f"/portal/static/{name}?v={hashlib.sha256(static(name)).hexdigest()[:12]}"


def static_response(name: str) -> Response:
    """Return a file that pages are made of."""
    cached = f"public, max-age={_YEAR_S}, immutable"
    return Response(static(name), headers={"content-type": STATIC[name], "cache-control": cached})


def amount(minor: int, exponent: int, currency: str = "") -> str:
    """Write an amount of minor units as people read it: 1,250.00 USD."""
    sign, digits = "−" if minor < 0 else "", str(abs(minor)).rjust(exponent + 1, "0")
    whole = digits[: len(digits) - exponent] if exponent else digits
    fraction = f".{digits[len(digits) - exponent :]}" if exponent else ""
    grouped = f"{int(whole):,}"
    return f"{sign}{grouped}{fraction}{' ' + currency if currency else ''}"


def breakable(text: str, after: str = ",") -> Markup:
    """Return a text that may be broken after a character, as a long amount between its groups of digits."""
    return Markup("{}<wbr>").format(after).join(text.split(after))


def highlight(document: bytes | str) -> Markup:
    """Return JSON, laid out, with its parts marked; what is no JSON is shown as it is."""
    raw = document.encode() if isinstance(document, str) else bytes(document)
    try:
        text = msgspec.json.format(raw, indent=2).decode()
    except (msgspec.DecodeError, UnicodeDecodeError):
        return escape(raw.decode("utf-8", "replace"))
    parts: list[Markup] = []
    at = 0
    for match in _TOKEN.finditer(text):
        parts.append(escape(text[at : match.start()]))
        at = match.end()
        if match["key"] is not None:
            parts.append(Markup('<span class="j-key">{}</span>{}').format(match["key"], match["colon"]))
        else:
            kind = match.lastgroup
            parts.append(Markup('<span class="j-{}">{}</span>').format(kind, match[0]))
    parts.append(escape(text[at:]))
    return Markup().join(parts)


def curl(method: str, url: str, headers: Mapping[str, str], body: str | None) -> str:
    """Return a request as a line for a shell."""
    parts = ["curl", "-sS", "-X", method, shlex.quote(url)]
    for name, value in headers.items():
        parts += ["-H", shlex.quote(f"{name}: {value}")]
    if body is not None:
        parts += ["--data-raw", shlex.quote(body)]
    return " ".join(parts)


def short(text: str) -> str:
    """Return the end of an id, which is what differs between two of the same minute."""
    return f"…{text[-8:]}"


def bars(values: Sequence[int], bad: Sequence[int] | None = None) -> Markup:
    """Return counts as a small bar chart, `bad` ones of them in another colour; the numbers stand in its title."""
    wide, high = 4 * max(len(values), 1), 32
    top = max([*values, 1])
    drawn = []
    for at, value in enumerate(values):
        wrong = bad[at] if bad is not None else 0
        tall = round(high * value / top, 1) if value else 0
        red = round(high * wrong / top, 1) if wrong else 0
        if tall:
            drawn.append(f'<rect class="bar" x="{4 * at}" y="{high - tall}" width="3" height="{tall}"/>')
        if red:
            drawn.append(f'<rect class="bar bad" x="{4 * at}" y="{high - red}" width="3" height="{red}"/>')
    drawn.append(f'<rect class="floor" x="0" y="{high - 0.5}" width="{wide}" height="0.5"/>')
    return Markup(  # noqa: S704 - numbers only
        f'<svg class="bars" viewBox="0 0 {wide} {high}" preserveAspectRatio="none" aria-hidden="true">{"".join(drawn)}</svg>'
    )


@cache
def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader("gateway.portal"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "amount": amount,
        "breakable": breakable,
        "highlight": highlight,
        "short": short,
        "instant": format_instant,
    }
    made.filters |= {"meaning": meaning, "since": since}
    made.globals |= {"static": static_url, "bars": bars}
    return made
