"""The portal's door: the session cookie, what tells a page of ours from somebody else's, signing in and out, sessions.

A request that changes something must come from a page of this server, by `Sec-Fetch-Site` or else by `Origin`, and carry the
form token of its session and site. A second factor has its place between the password and `sessions.open`.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import Response

from auth.errors import SignInRefused, SignInThrottled, SiteUnknown
from auth.sessions import SignedIn
from engine.errors import NotFound
from gateway.call import Services
from gateway.portal.rendering import page, redirect
from gateway.portal.visit import Form, Visit
from gateway.problems import Problem

SIGN_IN: Final = "/portal/sign-in"
HOME: Final = "/portal"
ENVIRONMENTS: Final = frozenset({"sandbox", "production"})
FORM_TOKEN: Final = "form_token"  # noqa: S105 - the field's name
FORM_TOKEN_HEADER: Final = "x-form-token"  # noqa: S105 - the header's name


def cookie_name(services: Services) -> str:
    """Return the cookie's name: bound to this host and to TLS where there is TLS (RFC 6265bis §4.1.3.2)."""
    return "__Host-gledger" if _over_tls(services) else "gledger"


async def caller_of(request: Request, services: Services, *, active: bool = True) -> SignedIn | None:
    """Return who is signed in on this browser."""
    token = request.cookies.get(cookie_name(services))
    if not token:
        return None
    return await services.sessions.find(token, now_us=services.clock.now_us(), active=active)


def check_origin(request: Request, services: Services) -> None:
    """Raise the problem of a changing request that does not come from a page of this server."""
    fetched = request.headers.get("sec-fetch-site")
    if fetched is not None:
        if fetched == "same-origin":
            return
    else:
        origin = request.headers.get("origin")
        if origin is not None and origin in {_origin(services.public_url), f"{request.url.scheme}://{_host(request)}"}:
            return
    raise Problem(code="auth.insufficient_scope", detail="This form was not sent by a page of this server.")


def check_form(request: Request, caller: SignedIn, form: Form) -> None:
    """Raise the problem of a form that another session made, or this one for another site."""
    given = request.headers.get(FORM_TOKEN_HEADER) or form.text(FORM_TOKEN)
    if not caller.accepts(given):
        raise Problem(
            code="auth.insufficient_scope",
            detail="This page is out of date: it was made by another session or for the other environment. Load it again.",
        )


async def sign_in_page(visit: Visit) -> Response:
    """Show the form, or go on where somebody is signed in already."""
    if visit.caller is not None:
        return redirect(_next(visit.request.query_params.get("next", "")))
    return page(visit, "sign_in.html", email="", refused="", next=visit.request.query_params.get("next", ""))


async def sign_in(visit: Visit) -> Response:
    """Check the password and begin a session with a token drawn anew."""
    services, form = visit.services, visit.form
    address = visit.request.client.host if visit.request.client else ""
    now_us = visit.now_us
    try:
        person = await services.people.check(
            form.text("email"),
            form.texts("password")[0] if form.texts("password") else "",
            address=address,
            now_us=now_us,
        )
        opened = await services.sessions.open(
            person,
            address=address,
            user_agent=visit.request.headers.get("user-agent", ""),
            now_us=services.clock.now_us(),
            instead_of=None if visit.caller is None else visit.caller.token,
        )
    except SignInThrottled as error:
        seconds = max(1, round(error.wait_s))
        answer = _refused(visit, 429, f"Too many attempts failed. The next one is looked at in {seconds} s.")
        answer.headers["retry-after"] = str(seconds)
        return answer
    except SignInRefused:
        return _refused(visit, 401, "The e-mail address and the password do not belong together.")
    response = redirect(_next(form.text("next")))
    response.set_cookie(
        cookie_name(services), opened.token, path="/", httponly=True, samesite="lax", secure=_over_tls(services)
    )
    return response


async def sign_out(visit: Visit) -> Response:
    """End the session."""
    await visit.services.sessions.end(visit.session, visit.session.id, now_us=visit.now_us)
    response = redirect(SIGN_IN)
    response.delete_cookie(
        cookie_name(visit.services), path="/", httponly=True, samesite="lax", secure=_over_tls(visit.services)
    )
    return response


async def turn(visit: Visit) -> Response:
    """Look at the organization's other environment."""
    try:
        await visit.services.sessions.turn(visit.session, visit.form.text("environment"))
    except SiteUnknown:
        wanted = visit.form.text("environment")
        if wanted not in ENVIRONMENTS:
            raise NotFound("environment", wanted[:20]) from None
        return page(visit, "no_environment.html", status=404, environment=wanted)
    return redirect(HOME)


async def sessions_page(visit: Visit) -> Response:
    """List what the visitor is signed in with."""
    found = await visit.services.sessions.list(visit.session, now_us=visit.now_us)
    return page(visit, "sessions.html", sessions=found)


async def end_session(visit: Visit) -> Response:
    """End one of the visitor's sessions."""
    await visit.services.sessions.end(visit.session, visit.path_id("session"), now_us=visit.now_us)
    return redirect("/portal/sessions")


def _refused(visit: Visit, status: int, why: str) -> Response:
    return page(
        visit,
        "sign_in.html",
        status=status,
        email=visit.form.text("email")[:254],
        refused=why,
        next=visit.form.text("next"),
    )


def _next(path: str) -> str:
    """Return where to go after signing in: a page of the portal and nothing else."""
    parts = urlsplit(path)
    own = not parts.scheme and not parts.netloc and (parts.path == HOME or parts.path.startswith(f"{HOME}/"))
    return path if own and "\\" not in path and path.isascii() and path.isprintable() else HOME


def _over_tls(services: Services) -> bool:
    return services.public_url.startswith("https://")


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def _host(request: Request) -> str:
    return request.headers.get("host", "")
