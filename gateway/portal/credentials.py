"""API keys and OAuth clients for people: made with scopes and an end, shown once, taken back."""

from __future__ import annotations

from typing import Final

from starlette.responses import Response

from auth.errors import AuthError
from auth.scopes import SCOPES
from engine.cursors import page_cursor, parse_page_cursor
from engine.errors import NotFound
from gateway.portal.rendering import page, redirect
from gateway.portal.visit import Form, Visit
from gateway.problems import Problem, problem_of
from gateway.query import CURSOR

ROWS: Final = 50
DAYS_MAX: Final = 90
NAME_MAX: Final = 100
_DAY_US: Final = 86_400_000_000


async def list_page(visit: Visit) -> Response:
    """List keys and clients, and the forms that make them."""
    return await _listed(visit, Form(), [])


async def create_key(visit: Visit) -> Response:
    """Create an API key and show it, once."""
    form = visit.form
    try:
        days = form.text("days") or str(DAYS_MAX)
        if not days.isdecimal() or not 1 <= int(days[:6]) <= DAYS_MAX:
            raise _refused(f"A key lives 1 to {DAYS_MAX} days.")
        expires_at = visit.now_us + int(days) * _DAY_US
        made = await visit.services.api_keys.create(
            visit.principal,
            name=_name(form),
            scopes=_scopes(form),
            expires_at=min(expires_at, visit.now_us + DAYS_MAX * _DAY_US),
            now_us=visit.now_us,
        )
    except (AuthError, Problem) as error:
        return await _listed(visit, form, [_told(error)])
    return page(visit, "key_made.html", key=made.api_key, secret=made.secret, base_url=visit.services.public_url)


async def revoke_key(visit: Visit) -> Response:
    """Take an API key back."""
    await visit.services.api_keys.revoke(visit.site.id, visit.path_id("API key"), now_us=visit.now_us)
    return redirect("/portal/keys")


async def create_client(visit: Visit) -> Response:
    """Create an OAuth client and show its secret, once."""
    form = visit.form
    try:
        made = await visit.services.clients.create(visit.session.site, _name(form), _scopes(form), now_us=visit.now_us)
    except (AuthError, Problem) as error:
        return await _listed(visit, form, [_told(error)])
    return page(visit, "client_made.html", client=made, made="created", base_url=visit.services.public_url)


async def steer_client(visit: Visit) -> Response:
    """Give a client a new secret, the old one good for a day beside it; or take the client back."""
    client_id, verb = visit.path["id"], visit.path["verb"]
    clients = visit.services.clients
    await clients.of_site(visit.site.id, client_id)
    match verb:
        case "rotate":
            made = await clients.rotate_secret(client_id, overlap_s=86_400, now_us=visit.now_us)
            return page(visit, "client_made.html", client=made, made="rotated", base_url=visit.services.public_url)
        case "revoke":
            await clients.revoke(client_id, now_us=visit.now_us)
        case _:
            raise NotFound("action", verb[:40])
    return redirect("/portal/keys")


async def _listed(visit: Visit, form: Form, faults: list[str]) -> Response:
    cursor = visit.asked(CURSOR).get("cursor")
    before = None if cursor is None else parse_page_cursor(cursor)
    keys = await visit.services.api_keys.list(visit.site.id, limit=ROWS + 1, before=before)
    return page(
        visit,
        "keys.html",
        status=422 if faults else 200,
        keys=keys[:ROWS],
        clients=await visit.services.clients.list(visit.site.id),
        scopes=SCOPES,
        form=form,
        faults=faults,
        now_us=visit.now_us,
        days_max=DAYS_MAX,
        next_page=visit.same_page_with(cursor=page_cursor(keys[ROWS - 1].id)) if len(keys) > ROWS else None,
    )


def _name(form: Form) -> str:
    name = form.text("name")
    if not 1 <= len(name) <= NAME_MAX:
        raise _refused(f"A name has 1 to {NAME_MAX} characters.")
    return name


def _scopes(form: Form) -> list[str]:
    chosen = form.texts("scope")
    if not chosen:
        raise _refused("Choose at least one scope.")
    return chosen


def _refused(why: str) -> Problem:
    return Problem(code="validation.invalid_value", detail=why)


def _told(error: Exception) -> str:
    return problem_of(error).detail
