"""One call: the request, who makes it, and the services that can answer it; what every handler is handed."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Final, Protocol, TypeVar

from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response

from auth.authenticator import Authenticator
from auth.clients import Clients
from auth.keys import ApiKeys
from auth.minting import Minting
from auth.people import People
from auth.principal import Principal
from auth.sessions import Sessions
from delivery.endpoints import Endpoints
from delivery.figures import Figures
from delivery.inspector import Inspectors
from delivery.log import Log
from delivery.replay import Replay
from delivery.replay_jobs import Replays
from delivery.skip import Skip
from engine.clock import Clock
from engine.databases import Site
from engine.errors import Fault, NotFound
from engine.events import Diagnostics
from engine.filters import EventFilter
from engine.idempotency import IdempotencyKey
from engine.ids import IdSource, is_id
from engine.ledger import Engine
from gateway import wire
from gateway.metrics import Metrics
from gateway.problems import Problem, invalid
from gateway.tailers import Tailers

T = TypeVar("T")

CUT: Final = "gledger.cut"
"""In a connection's state (ASGI lifespan state): what breaks it off at once, whatever waits to be sent."""

_KEY: Final = re.compile(r"[!-~]{1,255}\Z")
_ETAG_DIGITS_MAX: Final = 18


class Limiter(Protocol):
    """Grants requests to credentials at a bounded rate."""

    limit: int
    """How many requests a credential has in a window; 0: any number."""
    window_s: int

    def take(self, credential: str) -> tuple[int, float]:
        """Return how many are left after this request, and in how many seconds one more is: negative left refuses."""


class OAuth(Protocol):
    """The authorization server's endpoints, each a Starlette handler."""

    async def token(self, request: Request) -> Response: ...
    async def revoke(self, request: Request) -> Response: ...
    async def introspect(self, request: Request) -> Response: ...
    async def metadata(self, request: Request) -> Response: ...
    async def jwks(self, request: Request) -> Response: ...


class Readiness(Protocol):
    """Whether this process can serve."""

    async def __call__(self) -> Mapping[str, bool]: ...


class StreamSettings(Struct, frozen=True, kw_only=True):
    """How streams behave, in seconds, and the web origins whose pages may follow them."""

    idle_checkpoint_s: float = 15.0
    send_timeout_s: float = 30.0
    lifetime_s: float = 3600.0
    retry_ms: int = 2000
    origins: tuple[str, ...] = ()


class Services(Struct, frozen=True, kw_only=True):
    """Everything the surface stands on, put together by the program."""

    engine: Engine
    endpoints: Endpoints
    log: Log
    replay: Replay
    replays: Replays
    skip: Skip
    figures: Figures
    inspectors: Inspectors
    api_keys: ApiKeys
    clients: Clients
    people: People
    sessions: Sessions
    mint: Minting
    authenticator: Authenticator
    oauth: OAuth
    tailers: Tailers
    limiter: Limiter
    metrics: Metrics
    ready: Readiness
    documents: Mapping[str, tuple[str, bytes]]
    clock: Clock
    ids: IdSource
    public_url: str
    metrics_token: str | None
    stream: StreamSettings


class Trace(Struct, frozen=True, kw_only=True):
    """Where a request is found again: its own id, and what the caller gave."""

    request_id: str
    correlation_id: str | None
    traceparent: str | None

    def diagnostics(self) -> Diagnostics:
        """Return it as events carry it."""
        return Diagnostics(
            request_id=self.request_id,
            correlation_id=self.correlation_id,
            traceparent=self.traceparent,
        )


class Call(Struct, frozen=True, kw_only=True):
    """A request on its way to its handler; public operations have no principal."""

    request: Request
    services: Services
    trace: Trace
    caller: Principal | None
    path: Mapping[str, str]
    body_max: int = wire.BODY_MAX
    within: EventFilter | None = None
    """What a ticket lets through at most; None is everything."""

    @property
    def principal(self) -> Principal:
        """Return who calls; only operations with a scope ask."""
        if self.caller is None:
            raise RuntimeError("a public operation asked who calls")
        return self.caller

    @property
    def site(self) -> Site:
        """Return the caller's site: the credential selects it, nothing in the request does."""
        return site_of(self.principal)

    def path_id(self, resource: str, name: str = "id") -> str:
        """Return an id in the path; what has not the form of an id names nothing."""
        value = self.path[name]
        if not is_id(value):
            raise NotFound(resource, value[:64])
        return value

    async def document(self) -> wire.Document:
        """Return the body as JSON."""
        body = await wire.read_body(self.request, self.body_max)
        return wire.parse(body, self.request.headers.get("content-type"))

    async def empty_document(self) -> wire.Document:
        """Return the body of an operation that takes none: nothing, or an empty object."""
        document = await self.optional_document()
        if document.value != {}:
            names = list(document.value) if isinstance(document.value, dict) else [""]
            raise invalid(
                [
                    Fault(code="validation.unknown_field", pointer=f"/{name}", detail="This operation takes no fields.")
                    for name in names
                ],
            )
        return document

    async def optional_document(self) -> wire.Document:
        """Return the body of an operation that needs none: nothing is an empty object."""
        body = await wire.read_body(self.request, self.body_max)
        return wire.parse(body, self.request.headers.get("content-type")) if body else wire.Document({}, b"{}")

    def prefers(self, preference: str) -> bool:
        """Tell whether the request prefers something (RFC 7240)."""
        given = ",".join(self.request.headers.getlist("prefer"))
        return bool(given) and preference in {part.split(";")[0].strip().lower() for part in given.split(",")}

    def idempotency(self, document: wire.Document, in_body: str | None = None) -> IdempotencyKey | None:
        """Return the client's key with the fingerprint of this request, from the header or the body."""
        key = _header_key(self.request.headers.getlist("idempotency-key"))
        if key is not None and in_body is not None and key != in_body:
            raise Problem(code="idempotency.key_invalid", detail="Header and body name different idempotency keys.")
        key = key or in_body
        if key is None:
            return None
        asked = f"{self.request.method}\n{self.request.scope['path']}\n".encode()
        return IdempotencyKey(key=key, fingerprint=hashlib.sha256(asked + document.canonical).digest())

    def if_match(self) -> int | None:
        """Return the version that If-Match demands; None where there is no such header or it is `*`."""
        given = self.request.headers.getlist("if-match")
        if not given or given == ["*"]:
            return None
        text = given[0]
        digits = text[1:-1]
        if len(given) > 1 or text[:1] + text[-1:] != '""' or not digits.isdecimal() or len(digits) > _ETAG_DIGITS_MAX:
            raise Problem(code="request.malformed", detail='If-Match takes one ETag, as in "3".')
        return int(digits)


def site_of(principal: Principal) -> Site:
    """Return the one site that a principal sees."""
    site = principal.site
    return Site(id=site.id, organization=site.organization, environment=site.environment)


def _header_key(given: list[str]) -> str | None:
    """Read an Idempotency-Key, bare or as a quoted string."""
    if not given:
        return None
    key = given[0]
    if len(key) > 1 and key[0] == key[-1] == '"':
        key = key[1:-1].replace('\\"', '"').replace("\\\\", "\\")
    if len(given) > 1 or _KEY.match(key) is None:
        raise Problem(
            code="idempotency.key_invalid",
            detail="An idempotency key is 1 to 255 visible ASCII characters, sent once.",
        )
    return key
