"""The application: the route table as ASGI. Every request gets an id, every failure a problem document, every answer its headers."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import structlog
from prometheus_client import Counter, Histogram
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route as StarletteRoute
from starlette.routing import Router, WebSocketRoute
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketClose

from auth.errors import CredentialsRefused
from gateway import guard, query
from gateway.call import Call, Services, Trace, site_of
from gateway.codes import CODES
from gateway.conditional import revalidated
from gateway.origins import hide_tickets, page_headers
from gateway.portal.app import PREFIX as PORTAL
from gateway.portal.app import build as build_portal
from gateway.problems import Problem, problem_of, respond
from gateway.route import Route
from gateway.routes import PAGES_PATHS, ROUTES, SOCKET_PATH, SOCKET_QUERY
from gateway.socket import Opening, serve
from gateway.starting import filter_asked, narrowed, start_of
from gateway.tickets import admit

REQUEST_ID: Final = "x-gledger-request-id"
_NO_PARAMETERS: Final[Mapping[str, str]] = {}
_log = structlog.get_logger("gateway")


def build(services: Services) -> ASGIApp:
    """Return the ASGI application over the services."""
    by_path: dict[str, dict[str, Route]] = {}
    for route in ROUTES:
        by_path.setdefault(route.path, {})[route.method] = route
    paths = {path: _Path(path, methods, services) for path, methods in by_path.items()}
    return _Application(
        portal=build_portal(services),
        fixed={path: endpoint for path, endpoint in paths.items() if "{" not in path},
        router=Router(
            routes=[
                *(StarletteRoute(path, endpoint) for path, endpoint in paths.items() if "{" in path),
                WebSocketRoute(SOCKET_PATH, _socket_endpoint(services)),
            ],
            redirect_slashes=False,
            default=_Path("", {}, services),
        ),
    )


class _Application:
    """Finds the path: one that has no parameters by a look, the others by the router."""

    def __init__(self, portal: ASGIApp, fixed: Mapping[str, _Path], router: Router) -> None:
        self._portal = portal
        self._fixed = fixed
        self._router = router

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        if path in PAGES_PATHS:
            hide_tickets(scope)
        endpoint: ASGIApp | None = self._fixed.get(path) if scope["type"] == "http" else None
        if endpoint is None and scope["type"] == "http" and (path == PORTAL or path.startswith(f"{PORTAL}/")):
            endpoint = self._portal
        await (endpoint or self._router)(scope, receive, send)


class _Headers(Headers):
    """A request's headers, indexed once: each look at Starlette's own goes through all of them."""

    def __init__(self, raw: list[tuple[bytes, bytes]]) -> None:
        super().__init__(raw=raw)
        self._values: dict[bytes, list[bytes]] = {}
        for name, value in raw:
            if name in self._values:
                self._values[name].append(value)
            else:
                self._values[name] = [value]

    def __getitem__(self, key: str) -> str:
        return self._values[key.lower().encode("latin-1")][0].decode("latin-1")

    def get(self, key: str, default: Any = None) -> Any:
        found = self._values.get(key.encode("latin-1"))
        return found[0].decode("latin-1") if found is not None else default

    def getlist(self, key: str) -> list[str]:
        return [value.decode("latin-1") for value in self._values.get(key.encode("latin-1"), ())]


class _Request(Request):
    """A request that looks its headers up in the index."""

    def __init__(self, scope: Scope, receive: Receive) -> None:
        super().__init__(scope, receive)
        self._indexed = _Headers(scope["headers"])

    @property
    def headers(self) -> Headers:
        return self._indexed


class _Path:
    """One path and its methods, as an ASGI application."""

    def __init__(self, path: str, methods: Mapping[str, Route], services: Services) -> None:
        self._path = path
        self._methods = methods
        self._services = services
        self._pages = any(route.pages for route in methods.values())
        self._counters: dict[tuple[str, int], tuple[Counter, Histogram]] = {}
        self._allow = ", ".join(sorted({*methods, *(("HEAD",) if "GET" in methods else ()), "OPTIONS"}))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await WebSocketClose()(scope, receive, send)
            return
        started = time.perf_counter()
        services = self._services
        request = _Request(scope, receive)
        request_id = services.ids.draw(services.clock.now_us())
        headers: dict[str, str] = {REQUEST_ID: request_id}
        if self._pages:
            asks = request.method == "OPTIONS"
            headers |= page_headers(request.headers.get("origin"), services.stream.origins, preflight=asks)
        try:
            trace = guard.trace_of(request, request_id)
        except Problem as problem:
            trace = Trace(request_id=request_id, correlation_id=None, traceparent=None)
            response = self._refuse(problem, trace)
        else:
            response = await self._answer(request, trace, headers)
        if trace.correlation_id is not None:
            headers["correlation-id"] = trace.correlation_id
        if trace.traceparent is not None:
            headers["traceparent"] = trace.traceparent
        response.raw_headers.extend(
            [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
        )
        self._count(scope["method"], response.status_code, time.perf_counter() - started)
        await response(scope, receive, send)

    def _count(self, given: str, status: int, seconds: float) -> None:
        method = given if given in self._methods or given == "HEAD" else "other"
        counters = self._counters.get((method, status))
        if counters is None:
            metrics = self._services.metrics
            counters = self._counters[method, status] = (
                metrics.requests.labels(method, self._path, str(status)),
                metrics.latency.labels(method, self._path),
            )
        counters[0].inc()
        counters[1].observe(seconds)

    async def _answer(self, request: Request, trace: Trace, headers: dict[str, str]) -> Response:
        method = "GET" if request.method == "HEAD" else request.method
        route = self._methods.get(method)
        try:
            if route is None:
                return self._no_route(request, trace)
            if route.media_type != "*/*":
                guard.check_accept(request, route.media_type)
            caller = within = None
            if route.pages:
                caller, within = await admit(request, self._services)
            elif route.scope is not None:
                caller = await guard.authenticate(request, self._services, route.scope)
            if caller is not None:
                guard.limit(caller, self._services, headers)
            nothing = not route.query and not request.scope["query_string"]
            asked = query.NOTHING if nothing else query.read(request.query_params, route.query)
            call = Call(
                request=request,
                services=self._services,
                trace=trace,
                caller=caller,
                path=request.scope.get("path_params", _NO_PARAMETERS),
                body_max=route.body_max,
                within=within,
            )
            response = await route.handler(call, asked)
            if route.method == "GET" and route.answer is not None:
                # At a moment of the past a version says what was looked at, not what is to be seen.
                versioned = not (route.derived or request.scope["query_string"])
                response = revalidated(request, response, versioned=versioned)
        except Exception as error:  # noqa: BLE001 - every failure is answered, none leaves here
            response = self._refuse(error, trace)
        return response

    def _no_route(self, request: Request, trace: Trace) -> Response:
        if not self._methods:
            raise Problem(code="not_found", detail=f"There is nothing at {request.scope['path'][:200]!r}.")
        if request.method == "OPTIONS":
            return PlainTextResponse("", status_code=204, headers={"allow": self._allow})
        problem = Problem(
            code="method_not_allowed",
            detail=f"{request.method} is not one of {self._allow}.",
            headers={"allow": self._allow},
        )
        return self._refuse(problem, trace)

    def _refuse(self, error: Exception, trace: Trace) -> Response:
        problem = problem_of(error)
        self._services.metrics.problems.labels(problem.code).inc()
        if CODES[problem.code].status >= 500:
            _log.error("request.failed", request_id=trace.request_id, code=problem.code, exc_info=error)
        elif isinstance(error, CredentialsRefused):
            _log.info("credentials.refused", request_id=trace.request_id, code=problem.code, reason=error.reason)
        return respond(
            problem,
            base_url=self._services.public_url,
            request_id=trace.request_id,
            correlation_id=trace.correlation_id,
        )


def _socket_endpoint(services: Services) -> Callable[[WebSocket], Awaitable[None]]:
    """Return the handler of the feed's WebSocket; what is refused is refused by HTTP, before it is accepted."""

    async def endpoint(socket: WebSocket) -> None:
        request_id = services.ids.draw(services.clock.now_us())
        trace = Trace(request_id=request_id, correlation_id=None, traceparent=None)
        try:
            trace = guard.trace_of(socket, request_id)
            principal, within = await admit(socket, services)
            headers: dict[str, str] = {}
            guard.limit(principal, services, headers)
            asked = query.read(socket.query_params, SOCKET_QUERY)
            cursor = socket.headers.get("last-event-id", asked.get("cursor"))
            opening = Opening(
                principal=principal,
                within=within,
                wanted=narrowed(filter_asked(asked), within),
                start=await start_of(services, site_of(principal), cursor, asked.get("from"), asked.get("on_expired")),
                window=asked.get("window"),
            )
        except Exception as error:  # noqa: BLE001 - every failure is answered
            problem = problem_of(error)
            services.metrics.problems.labels(problem.code).inc()
            response = respond(
                problem,
                base_url=services.public_url,
                request_id=request_id,
                correlation_id=trace.correlation_id,
            )
            response.headers[REQUEST_ID] = request_id
            await socket.send_denial_response(response)
            return
        await serve(socket, services, opening)

    return endpoint
