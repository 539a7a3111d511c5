"""The one table of operations: path, method, scope, shapes, handler. Routing, guarding and OpenAPI all read it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

from starlette.responses import Response

from delivery import replay_shapes
from delivery import shapes as webhook_shapes
from engine import shapes
from engine.events import Envelope
from gateway import (
    api_keys,
    bodies,
    documents,
    entries,
    events,
    following,
    ledgers,
    oauth,
    operations,
    replays,
    webhooks,
    wire,
)
from gateway.call import Call
from gateway.query import CREATED, CURSOR, LIMIT, METADATA, Asked, Parameter

Handler = Callable[[Call, Asked], Awaitable[Response]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One operation.

    `scope` None is public. `body` is the shape it takes; `answer` the shape it gives, a page of it where `page` is true.
    `refusals` are the codes it answers beside those that every operation of its kind may.
    """

    method: Literal["GET", "POST", "PATCH", "DELETE"]
    path: str
    handler: Handler
    tag: str
    scope: str | None = None
    body: Any = None
    answer: Any = None
    page: bool = False
    status: int = 200
    query: tuple[Parameter, ...] = ()
    idempotent: bool = False
    conditional: bool = False
    etag: bool = False
    feed_cursor: bool = False
    media_type: str = "application/json"
    body_max: int = wire.BODY_MAX
    refusals: tuple[str, ...] = ()
    form: tuple[str, ...] = ()


# The table is laid out by hand: what belongs together stands in one line.
# fmt: off
_EVENTS_LIMIT: Final = Parameter(
    name="limit", kind="integer", meaning="How many events a page has at most; 50 unless given.", maximum=1000,
)
_AFTER: Final = Parameter(name="after", kind="cursor", meaning="The events after this cursor; from the start unless given.")
_INCLUDE: Final = Parameter(
    name="include", kind="choice", choices=("event",), meaning="`event`: with each delivery's stored envelope.",
)
_POSTING: Final = (
    "account.not_found",
    "account.closed",
    "unbalanced_entry",
    "fx_rate_required",
    "amount_out_of_range",
    "insufficient_funds",
    "condition_failed",
    "duplicate_entry",
    "lock_version_conflict",
    "validation.several_ledgers",
)
_ENTRIES: Final = (
    Route(
        method="POST", path="/v1/entries", handler=entries.post_entry, tag="Entries", scope="ledger.write",
        body=bodies.EntryCreate, answer=shapes.Entry, status=201, idempotent=True, etag=True, refusals=_POSTING,
    ),
    Route(
        method="POST", path="/v1/entries/batch", handler=entries.post_batch, tag="Entries", scope="ledger.write",
        body=bodies.EntryBatchCreate, answer=shapes.EntryBatch, status=201, idempotent=True,
        body_max=wire.BULK_BODY_MAX, refusals=_POSTING,
    ),
    Route(
        method="GET", path="/v1/entries", handler=entries.list_entries, tag="Entries", scope="ledger.read",
        answer=shapes.Entry, page=True, feed_cursor=True,
        query=(
            LIMIT, CURSOR,
            Parameter(name="ledger_id", kind="id", meaning="Only entries of this ledger."),
            Parameter(name="account_id", kind="id", meaning="Only entries with a line on this account."),
            Parameter(name="status", kind="choice", choices=get_args(shapes.EntryStatus), meaning="Only of this status."),
            Parameter(name="external_id", kind="text", meaning="Only entries with this external id."),
            METADATA, CREATED,
            Parameter(name="effective_at", kind="bounds", meaning="`effective_at[lt]=time`: bounds, also lte, gt, gte."),
            Parameter(name="posted_at", kind="bounds", meaning="`posted_at[lt]=time`: bounds, also lte, gt, gte."),
        ),
    ),
    Route(
        method="GET", path="/v1/entries/{id}", handler=entries.get_entry, tag="Entries", scope="ledger.read",
        answer=shapes.Entry, etag=True, feed_cursor=True,
    ),
    Route(
        method="PATCH", path="/v1/entries/{id}", handler=entries.change_entry, tag="Entries", scope="ledger.write",
        body=bodies.EntryChange, answer=shapes.Entry, idempotent=True, conditional=True, etag=True,
    ),
    Route(
        method="POST", path="/v1/entries/{id}/post", handler=entries.post_pending, tag="Entries",
        scope="ledger.write", answer=shapes.Entry, idempotent=True, conditional=True, etag=True,
        refusals=("entry.not_pending", "amount_out_of_range"),
    ),
    Route(
        method="POST", path="/v1/entries/{id}/archive", handler=entries.archive_entry, tag="Entries",
        scope="ledger.write", answer=shapes.Entry, idempotent=True, conditional=True, etag=True,
        refusals=("entry.not_pending",),
    ),
)
_LEDGERS: Final = (
    Route(
        method="POST", path="/v1/ledgers", handler=ledgers.create_ledger, tag="Ledgers", scope="ledger.admin",
        body=bodies.LedgerCreate, answer=shapes.Ledger, status=201, idempotent=True, etag=True,
    ),
    Route(
        method="GET", path="/v1/ledgers", handler=ledgers.list_ledgers, tag="Ledgers", scope="ledger.read",
        answer=shapes.Ledger, page=True, query=(LIMIT, CURSOR, METADATA, CREATED), feed_cursor=True,
    ),
    Route(
        method="GET", path="/v1/ledgers/{id}", handler=ledgers.get_ledger, tag="Ledgers", scope="ledger.read",
        answer=shapes.Ledger, etag=True, feed_cursor=True,
    ),
    Route(
        method="PATCH", path="/v1/ledgers/{id}", handler=ledgers.change_ledger, tag="Ledgers", scope="ledger.admin",
        body=bodies.LedgerChange, answer=shapes.Ledger, idempotent=True, conditional=True, etag=True,
    ),
    Route(
        method="POST", path="/v1/accounts", handler=ledgers.create_account, tag="Accounts", scope="ledger.write",
        body=bodies.AccountCreate, answer=shapes.Account, status=201, idempotent=True, etag=True,
        refusals=("validation.not_unique", "not_found"),
    ),
    Route(
        method="GET", path="/v1/accounts", handler=ledgers.list_accounts, tag="Accounts", scope="ledger.read",
        answer=shapes.Account, page=True, feed_cursor=True,
        query=(
            LIMIT, CURSOR,
            Parameter(name="ledger_id", kind="id", meaning="Only accounts of this ledger."),
            Parameter(name="external_id", kind="text", meaning="Only the account with this external id."),
            Parameter(name="currency", kind="text", meaning="Only accounts in this currency."),
            Parameter(name="type", kind="choice", choices=get_args(shapes.AccountType), meaning="Only of this type."),
            Parameter(name="status", kind="choice", choices=("open", "closed"), meaning="Only of this status."),
            Parameter(name="code", kind="text", meaning="Only accounts with this chart-of-accounts code."),
            METADATA, CREATED,
        ),
    ),
    Route(
        method="GET", path="/v1/accounts/{id}", handler=ledgers.get_account, tag="Accounts", scope="ledger.read",
        answer=shapes.Account, etag=True, feed_cursor=True,
    ),
    Route(
        method="PATCH", path="/v1/accounts/{id}", handler=ledgers.change_account, tag="Accounts",
        scope="ledger.write", body=bodies.AccountChange, answer=shapes.Account, idempotent=True, conditional=True,
        etag=True, refusals=("account.closed",),
    ),
    Route(
        method="POST", path="/v1/accounts/{id}/close", handler=ledgers.close_account, tag="Accounts",
        scope="ledger.write", answer=shapes.Account, idempotent=True, conditional=True, etag=True,
        refusals=("account.closed", "account.not_empty"),
    ),
    Route(
        method="GET", path="/v1/accounts/{id}/balance", handler=ledgers.get_balance, tag="Accounts",
        scope="ledger.read", answer=shapes.AccountBalance, etag=True, feed_cursor=True,
    ),
    Route(
        method="GET", path="/v1/accounts/{id}/lines", handler=ledgers.list_account_lines, tag="Accounts",
        scope="ledger.read", answer=shapes.AccountLine, page=True, query=(LIMIT, CURSOR), feed_cursor=True,
    ),
)
_EVENTS: Final = (
    Route(
        method="GET", path="/v1/events", handler=events.list_events, tag="Events", scope="events.read",
        answer=Envelope, page=True, query=(_EVENTS_LIMIT, _AFTER, following.TYPES_PARAMETER), feed_cursor=True,
        refusals=("cursor.invalid", "cursor.expired"),
    ),
    Route(
        method="GET", path="/v1/events/stream", handler=events.stream_events, tag="Events", scope="events.read",
        media_type="text/event-stream",
        query=(following.CURSOR_PARAMETER, following.FROM_PARAMETER, following.TYPES_PARAMETER),
        refusals=("cursor.invalid", "cursor.expired"),
    ),
    Route(
        method="GET", path="/v1/events/{id}", handler=events.get_event, tag="Events", scope="events.read",
        answer=Envelope,
    ),
)
_ENDPOINT: Final = "/v1/webhook_endpoints/{id}"
_WEBHOOKS: Final = (
    Route(
        method="POST", path="/v1/webhook_endpoints", handler=webhooks.create_endpoint, tag="Webhooks",
        scope="webhooks.write", body=webhook_shapes.EndpointCreate, answer=webhook_shapes.Endpoint, status=201,
        idempotent=True, etag=True, refusals=("validation.destination_not_allowed", "endpoint.limit_reached"),
    ),
    Route(
        method="GET", path="/v1/webhook_endpoints", handler=webhooks.list_endpoints, tag="Webhooks",
        scope="webhooks.read", answer=webhook_shapes.Endpoint, page=True, query=(LIMIT, CURSOR), feed_cursor=True,
    ),
    Route(
        method="GET", path=_ENDPOINT, handler=webhooks.get_endpoint, tag="Webhooks", scope="webhooks.read",
        answer=webhook_shapes.Endpoint, etag=True,
    ),
    Route(
        method="PATCH", path=_ENDPOINT, handler=webhooks.change_endpoint, tag="Webhooks", scope="webhooks.write",
        body=webhook_shapes.EndpointChange, answer=webhook_shapes.Endpoint, conditional=True, etag=True,
        refusals=("validation.destination_not_allowed",),
    ),
    Route(
        method="DELETE", path=_ENDPOINT, handler=webhooks.delete_endpoint, tag="Webhooks", scope="webhooks.write",
        status=204, conditional=True,
    ),
    *(
        Route(
            method="POST", path=f"{_ENDPOINT}/{verb}", handler=handler, tag="Webhooks", scope="webhooks.write",
            answer=webhook_shapes.Endpoint, etag=True, refusals=("endpoint.disabled",),
        )
        for verb, handler in (
            ("pause", webhooks.pause_endpoint),
            ("resume", webhooks.resume_endpoint),
            ("enable", webhooks.enable_endpoint),
        )
    ),
    Route(
        method="POST", path=f"{_ENDPOINT}/rotate_secret", handler=webhooks.rotate_secret, tag="Webhooks",
        scope="webhooks.write", answer=webhook_shapes.Endpoint, idempotent=True, etag=True,
    ),
    Route(
        method="POST", path=f"{_ENDPOINT}/test", handler=webhooks.test_endpoint, tag="Webhooks",
        scope="webhooks.write", answer=webhook_shapes.EndpointTest, status=202, idempotent=True,
        refusals=("endpoint.disabled",),
    ),
    Route(
        method="GET", path="/v1/deliveries", handler=webhooks.list_deliveries, tag="Deliveries",
        scope="webhooks.read", answer=webhook_shapes.Delivery, page=True, feed_cursor=True,
        query=(
            Parameter(
                name="limit", kind="integer", maximum=1000,
                meaning="How many deliveries a page has at most; 50 unless given.",
            ),
            CURSOR,
            Parameter(name="endpoint_id", kind="id", meaning="Only deliveries to this endpoint."),
            Parameter(
                name="status", kind="choice", choices=get_args(webhook_shapes.DeliveryStatus), meaning="Only in this state.",
            ),
            Parameter(name="event_type", kind="text", meaning="Only deliveries of this event type."),
            Parameter(
                name="after", kind="integer", minimum=0, maximum=10**17,
                meaning="An endpoint sequence: what follows it, in order. Needs `endpoint_id`.",
            ),
            _INCLUDE,
        ),
    ),
    Route(
        method="GET", path="/v1/deliveries/{id}", handler=webhooks.get_delivery, tag="Deliveries",
        scope="webhooks.read", answer=webhook_shapes.Delivery, query=(_INCLUDE,),
    ),
    Route(
        method="GET", path="/v1/deliveries/{id}/attempts", handler=webhooks.list_attempts, tag="Deliveries",
        scope="webhooks.read", answer=webhook_shapes.Attempt, page=True,
    ),
    Route(
        method="POST", path="/v1/deliveries/{id}/replay", handler=webhooks.replay_delivery, tag="Deliveries",
        scope="webhooks.write", answer=webhook_shapes.Delivery, status=202, refusals=("endpoint.disabled",),
    ),
)
_REPLAYS: Final = (
    Route(
        method="POST", path="/v1/replays", handler=replays.create_replay, tag="Replays", scope="webhooks.write",
        body=replay_shapes.ReplayCreate, answer=replay_shapes.Replay, status=201, idempotent=True, etag=True,
        refusals=("not_found", "endpoint.disabled", "cursor.invalid"),
    ),
    Route(
        method="POST", path="/v1/replays/preview", handler=replays.preview_replay, tag="Replays", scope="webhooks.write",
        body=replay_shapes.ReplayCreate, answer=replay_shapes.ReplayPreview,
        refusals=("not_found", "endpoint.disabled", "cursor.invalid"),
    ),
    Route(
        method="GET", path="/v1/replays", handler=replays.list_replays, tag="Replays", scope="webhooks.read",
        answer=replay_shapes.Replay, page=True, query=(LIMIT, CURSOR), feed_cursor=True,
    ),
    Route(
        method="GET", path="/v1/replays/{id}", handler=replays.get_replay, tag="Replays", scope="webhooks.read",
        answer=replay_shapes.Replay, etag=True,
    ),
    *(
        Route(
            method="POST", path=f"/v1/replays/{{id}}/{verb}", handler=handler, tag="Replays", scope="webhooks.write",
            answer=replay_shapes.Replay, conditional=True, etag=True, refusals=("replay.finished",),
        )
        for verb, handler in (
            ("pause", replays.pause_replay),
            ("resume", replays.resume_replay),
            ("cancel", replays.cancel_replay),
        )
    ),
)
_AUTH: Final = (
    Route(
        method="POST", path="/v1/api_keys", handler=api_keys.create_key, tag="API keys", scope="ledger.admin",
        body=bodies.ApiKeyCreate, answer=api_keys.CreatedApiKey, status=201, idempotent=True,
    ),
    Route(
        method="GET", path="/v1/api_keys", handler=api_keys.list_keys, tag="API keys", scope="ledger.admin",
        answer=api_keys.ApiKey, page=True, query=(LIMIT, CURSOR),
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
    Route(method="GET", path="/docs", handler=documents.explorer, tag="Documents", media_type="text/html"),
    Route(method="GET", path="/docs/{file}", handler=documents.explorer_file, tag="Documents", media_type="*/*"),
    Route(method="GET", path="/errors", handler=documents.error_list, tag="Documents", media_type="text/html"),
    Route(method="GET", path="/errors/{code}", handler=documents.error_page, tag="Documents", media_type="text/html"),
)
# fmt: on
SOCKET_PATH: Final = "/v1/events/socket"
SOCKET_QUERY: Final = (following.CURSOR_PARAMETER, following.FROM_PARAMETER, following.TYPES_PARAMETER)

ROUTES: Final[tuple[Route, ...]] = (*_ENTRIES, *_LEDGERS, *_EVENTS, *_WEBHOOKS, *_REPLAYS, *_AUTH, *_RUNNING)
