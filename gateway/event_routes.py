"""The operations of business events and their handlers."""

from __future__ import annotations

from typing import Final

from engine import event_shapes
from engine.shapes import BalanceImpact
from gateway import business_events, event_bodies
from gateway.ledger_routes import POSTING
from gateway.query import CREATED, METADATA, PAGED, Parameter
from gateway.route import Route

# The table is laid out by hand: what belongs together stands in one line.
# fmt: off
_HANDLER: Final = "/v1/event_handlers/{id}"
_HANDLING: Final = (
    "handler.none_matches",
    "handler.several_match",
    "handler.account_unresolved",
    "handler.value_unusable",
    "duplicate_business_event",
    *POSTING,
)
BUSINESS_EVENTS: Final = (
    Route(
        method="POST", path="/v1/business_events", handler=business_events.post_business_event, tag="Business events",
        scope="ledger.write", body=event_bodies.BusinessEventCreate, answer=event_shapes.BusinessEvent, status=201,
        idempotent=True, etag=True, refusals=_HANDLING,
    ),
    Route(
        method="POST", path="/v1/business_events/validate", handler=business_events.validate_business_event,
        tag="Business events", scope="ledger.write", body=event_bodies.BusinessEventDraft,
        answer=event_shapes.BusinessEvent, refusals=_HANDLING,
    ),
    Route(
        method="GET", path="/v1/business_events", handler=business_events.list_business_events, tag="Business events",
        scope="ledger.read", answer=event_shapes.BusinessEvent, page=True, feed_cursor=True,
        query=(
            *PAGED,
            Parameter(name="name", kind="text", meaning="Only events of this name."),
            Parameter(name="external_id", kind="text", meaning="Only the event with this external id."),
            Parameter(name="event_handler_id", kind="id", meaning="Only events that this handler turned into entries."),
            METADATA, CREATED,
            Parameter(name="effective_at", kind="bounds", meaning="`effective_at[lt]=time`: bounds, also lte, gt, gte."),
        ),
    ),
    Route(
        method="GET", path="/v1/business_events/{id}", handler=business_events.get_business_event,
        tag="Business events", scope="ledger.read", answer=event_shapes.BusinessEvent, etag=True, feed_cursor=True,
    ),
    Route(
        method="GET", path="/v1/business_events/{id}/balance_impact", handler=business_events.get_business_event_impact,
        tag="Business events", scope="ledger.read", answer=BalanceImpact, feed_cursor=True,
    ),
    Route(
        method="POST", path="/v1/event_handlers", handler=business_events.create_event_handler, tag="Event handlers",
        scope="ledger.admin", body=event_bodies.EventHandlerCreate, answer=event_shapes.EventHandler, status=201,
        idempotent=True, etag=True, refusals=("validation.invalid_template", "amount_out_of_range", "not_found"),
    ),
    Route(
        method="POST", path="/v1/event_handlers/validate", handler=business_events.validate_event_handler,
        tag="Event handlers", scope="ledger.write", body=event_bodies.EventHandlerTry,
        answer=event_shapes.EventHandlerTrial, refusals=("validation.invalid_template", "not_found", *_HANDLING),
    ),
    Route(
        method="GET", path="/v1/event_handlers", handler=business_events.list_event_handlers, tag="Event handlers",
        scope="ledger.read", answer=event_shapes.EventHandler, page=True, feed_cursor=True,
        query=(
            *PAGED,
            Parameter(name="status", kind="choice", choices=("active", "archived"), meaning="Only of this status."),
            Parameter(name="name", kind="text", meaning="Only handlers of this name."),
            METADATA, CREATED,
        ),
    ),
    Route(
        method="GET", path=_HANDLER, handler=business_events.get_event_handler, tag="Event handlers",
        scope="ledger.read", answer=event_shapes.EventHandler, etag=True, feed_cursor=True,
    ),
    Route(
        method="GET", path=f"{_HANDLER}/versions", handler=business_events.list_event_handler_versions,
        tag="Event handlers", scope="ledger.read", answer=event_shapes.EventHandler, page=True, query=PAGED,
        feed_cursor=True,
    ),
    Route(
        method="PATCH", path=_HANDLER, handler=business_events.change_event_handler, tag="Event handlers",
        scope="ledger.admin", body=event_bodies.EventHandlerChange, answer=event_shapes.EventHandler, idempotent=True,
        conditional=True, etag=True, refusals=("validation.invalid_template", "amount_out_of_range"),
    ),
    *(
        Route(
            method="POST", path=f"{_HANDLER}/{verb}", handler=handler, tag="Event handlers", scope="ledger.admin",
            answer=event_shapes.EventHandler, idempotent=True, conditional=True, etag=True,
        )
        for verb, handler in (
            ("archive", business_events.archive_event_handler),
            ("activate", business_events.activate_event_handler),
        )
    ),
)
