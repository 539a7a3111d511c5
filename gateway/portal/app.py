"""The portal as an ASGI application: finds the page, opens the door or not, turns what fails into a page, adds the headers."""

from __future__ import annotations

from typing import Final
from urllib.parse import quote

import structlog
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocketClose

from engine.errors import NotFound
from gateway import guard
from gateway.call import Services, Trace
from gateway.codes import CODES
from gateway.portal import door
from gateway.portal.rendering import SAFE, STATIC, page, redirect, static_response
from gateway.portal.table import PAGES, Page
from gateway.portal.visit import Form, Visit, read_form
from gateway.problems import Problem, problem_of

PREFIX: Final = "/portal"
_UNSAFE: Final = frozenset({"POST"})
_log = structlog.get_logger("gateway.portal")


def build(services: Services) -> ASGIApp:
    """Return the application of everything under `/portal`."""
    by_path: dict[str, dict[str, Page]] = {}
    for each in PAGES:
        by_path.setdefault(each.path, {})[each.method] = each
    routes = [Route(path, _Place(methods, services)) for path, methods in by_path.items()]
    return Router(routes=[*routes, Route("/portal/static/{file}", _Files())], default=_Place({}, services))


class _Files:
    """What pages are made of, for everybody."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        name = scope["path_params"]["file"]
        found = name in STATIC and scope["method"] in {"GET", "HEAD"}
        response = static_response(name) if found else PlainTextResponse("There is no such file.\n", status_code=404)
        response.headers.update(SAFE)
        await response(scope, receive, send)


class _Place:
    """One address and its methods."""

    def __init__(self, methods: dict[str, Page], services: Services) -> None:
        self._methods = methods
        self._services = services

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await WebSocketClose()(scope, receive, send)
            return
        request = Request(scope, receive)
        services = self._services
        request_id = services.ids.draw(services.clock.now_us())
        trace = Trace(request_id=request_id, correlation_id=None, traceparent=None)
        visit = Visit(request=request, services=services, trace=trace, caller=None, form=Form(), path={})
        try:
            trace = guard.trace_of(request, request_id)
            response = await self._answer(request, trace)
        except Exception as error:  # noqa: BLE001 - every failure is a page, none leaves here
            response = await _failed(visit, error)
        response.headers.update(SAFE)
        if services.public_url.startswith("https://"):
            response.headers["strict-transport-security"] = "max-age=31536000"
        response.headers["x-gledger-request-id"] = request_id
        await response(scope, receive, send)

    async def _answer(self, request: Request, trace: Trace) -> Response:
        services = self._services
        method = "GET" if request.method == "HEAD" else request.method
        found = self._methods.get(method)
        caller = await door.caller_of(request, services, active=found is None or not found.live)
        form = Form()
        visit = Visit(
            request=request,
            services=services,
            trace=trace,
            caller=caller,
            form=form,
            path=request.scope.get("path_params", {}),
        )
        try:
            if found is None:
                return await _failed(visit, _nowhere(request, sorted(self._methods)))
            if method in _UNSAFE:
                door.check_origin(request, services)
            if not found.public and caller is None:
                return _to_sign_in(request, live=found.live)
            if method in _UNSAFE:
                form = await read_form(request)
                visit = Visit(
                    request=request, services=services, trace=trace, caller=caller, form=form, path=visit.path
                )
                if not found.public and caller is not None:
                    door.check_form(request, caller, form)
            return await found.handler(visit)
        except Exception as error:  # noqa: BLE001 - every failure is a page in the visitor's own shell
            return await _failed(visit, error)


def _nowhere(request: Request, methods: list[str]) -> Exception:
    if not methods:
        return NotFound("page", request.scope["path"][:100])
    return Problem(
        code="method_not_allowed", detail="This page does not take that.", headers={"allow": ", ".join(methods)}
    )


def _to_sign_in(request: Request, *, live: bool) -> Response:
    """Send a browser to the door; a part of a page cannot be sent there, so the page is."""
    if live:
        return PlainTextResponse("Sign in again.\n", status_code=401)
    path = request.scope["path"]
    query = request.scope.get("query_string", b"").decode("latin-1")
    after = quote(f"{path}?{query}" if query else path) if request.method in {"GET", "HEAD"} else PREFIX
    target = f"{door.SIGN_IN}?next={after}"
    if request.headers.get("hx-request") == "true":
        return PlainTextResponse("", status_code=200, headers={"hx-redirect": door.SIGN_IN})
    return redirect(target)


async def _failed(visit: Visit, error: Exception) -> Response:
    problem = problem_of(error)
    code = CODES[problem.code]
    visit.services.metrics.problems.labels(problem.code).inc()
    if code.status >= 500:
        _log.error("portal.failed", request_id=visit.trace.request_id, code=problem.code, exc_info=error)
    response = page(visit, "problem.html", status=code.status, problem=problem, code=code)
    for name, value in problem.headers.items():
        response.headers[name] = value
    return response
