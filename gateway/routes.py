"""The one table of operations: path, method, scope, shapes, handler. Routing, guarding and OpenAPI all read it."""

from __future__ import annotations

from typing import Final

from engine.events import Envelope
from engine.shapes import BalanceImpact
from gateway import api_keys, bodies, documents, entries, events, oauth, operations, starting, tickets
from gateway.category_routes import CATEGORIES
from gateway.event_routes import BUSINESS_EVENTS
from gateway.ledger_routes import ENTRIES, HOLDS, LEDGERS, RATES
from gateway.query import PAGED, Parameter
from gateway.reference_routes import REFERENCE
from gateway.route import Route
from gateway.statement_routes import STATEMENTS
from gateway.webhook_routes import INSPECTORS, REPLAYS, WEBHOOKS

# The table is laid out by hand: what belongs together stands in one line.
# fmt: off
_EVENTS_LIMIT: Final = Parameter(
    name="limit", kind="integer", meaning="How many events a page has at most; 50 unless given.", maximum=1000,
)
_AFTER: Final = Parameter(name="after", kind="cursor", meaning="The events after this cursor; from the start unless given.")
_EVENTS: Final = (
    Route(
        method="GET", path="/v1/events", handler=events.list_events, tag="Events", scope="events.read",
        answer=Envelope, page=True, query=(_EVENTS_LIMIT, _AFTER, *starting.FILTER_PARAMETERS), feed_cursor=True,
        refusals=("cursor.invalid", "cursor.expired"),
    ),
    Route(
        method="GET", path="/v1/events/stream", handler=events.stream_events, tag="Events", scope="events.read",
        media_type="text/event-stream", query=starting.STREAM_PARAMETERS, pages=True,
        refusals=("cursor.invalid", "cursor.expired", "auth.origin_not_allowed"),
    ),
    Route(
        method="POST", path="/v1/stream_tickets", handler=tickets.create_ticket, tag="Events", scope="events.read",
        body=tickets.TicketCreate, answer=tickets.StreamTicket, status=201,
    ),
    Route(
        method="GET", path="/v1/events/{id}", handler=events.get_event, tag="Events", scope="events.read",
        answer=Envelope,
    ),
    Route(
        method="GET", path="/v1/events/{id}/balance_impact", handler=entries.get_event_impact, tag="Events",
        scope="ledger.read", answer=BalanceImpact, feed_cursor=True,
    ),
)
_AUTH: Final = (
    Route(
        method="POST", path="/v1/api_keys", handler=api_keys.create_key, tag="API keys", scope="ledger.admin",
        body=bodies.ApiKeyCreate, answer=api_keys.CreatedApiKey, status=201, idempotent=True,
    ),
    Route(
        method="GET", path="/v1/api_keys", handler=api_keys.list_keys, tag="API keys", scope="ledger.admin",
        answer=api_keys.ApiKey, page=True, query=PAGED, feed_cursor=True,
    ),
    Route(
        method="GET", path="/v1/api_keys/{id}", handler=api_keys.get_key, tag="API keys", scope="ledger.admin",
        answer=api_keys.ApiKey,
    ),
    Route(
        method="DELETE", path="/v1/api_keys/{id}", handler=api_keys.revoke_key, tag="API keys",
        scope="ledger.admin", answer=api_keys.ApiKey,
    ),
    Route(
        method="POST", path="/oauth/token", handler=oauth.token, tag="OAuth",
        form=("grant_type", "scope", "client_id", "client_secret"),
    ),
    Route(
        method="POST", path="/oauth/revoke", handler=oauth.revoke, tag="OAuth",
        form=("token", "token_type_hint", "client_id", "client_secret"),
    ),
    Route(
        method="POST", path="/oauth/introspect", handler=oauth.introspect, tag="OAuth",
        form=("token", "token_type_hint", "client_id", "client_secret"),
    ),
    Route(method="GET", path="/.well-known/oauth-authorization-server", handler=oauth.metadata, tag="OAuth"),
    Route(method="GET", path="/.well-known/oauth-authorization-server/{environment}", handler=oauth.metadata, tag="OAuth"),
    Route(
        method="GET", path="/.well-known/jwks.json", handler=oauth.jwks, tag="OAuth",
        media_type="application/jwk-set+json",
    ),
)
_RUNNING: Final = (
    Route(method="GET", path="/healthz", handler=operations.health, tag="Running"),
    Route(method="GET", path="/readyz", handler=operations.readiness, tag="Running", refusals=("unavailable",)),
    Route(
        method="GET", path="/metrics", handler=operations.metrics, tag="Running", media_type="text/plain",
        refusals=("auth.missing",),
    ),
    Route(method="GET", path="/openapi.json", handler=documents.document, tag="Documents"),
    Route(
        method="GET", path="/openapi.yaml", handler=documents.document, tag="Documents", media_type="application/yaml",
    ),
    Route(method="GET", path="/asyncapi.json", handler=documents.document, tag="Documents"),
    Route(
        method="GET", path="/api.raml", handler=documents.document, tag="Documents", media_type="application/raml+yaml",
    ),
    Route(method="GET", path="/docs", handler=documents.explorer, tag="Documents", media_type="text/html"),
    Route(method="GET", path="/docs/{file}", handler=documents.explorer_file, tag="Documents", media_type="*/*"),
    Route(method="GET", path="/errors", handler=documents.error_list, tag="Documents", media_type="text/html"),
    Route(method="GET", path="/errors/{code}", handler=documents.error_page, tag="Documents", media_type="text/html"),
)
# fmt: on
SOCKET_PATH: Final = "/v1/events/socket"
SOCKET_QUERY: Final = (
    *starting.PLACE_PARAMETERS,
    starting.TICKET_PARAMETER,
    Parameter(
        name="window",
        kind="integer",
        maximum=10_000,
        meaning="At most so many events are sent that were not acknowledged; any number unless given.",
    ),
)
PAGES_PATHS: Final = frozenset({"/v1/events/stream", SOCKET_PATH})
"""What a web page may follow, with a ticket in its query."""

ROUTES: Final[tuple[Route, ...]] = (
    *ENTRIES,
    *HOLDS,
    *RATES,
    *LEDGERS,
    *REFERENCE,
    *STATEMENTS,
    *CATEGORIES,
    *BUSINESS_EVENTS,
    *_EVENTS,
    *WEBHOOKS,
    *INSPECTORS,
    *REPLAYS,
    *_AUTH,
    *_RUNNING,
)
