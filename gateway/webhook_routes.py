"""The operations of webhooks: endpoints, deliveries, their replay, one at a time and as jobs."""

from __future__ import annotations

from typing import Final, get_args

from delivery import inspector_shapes, replay_shapes
from delivery import shapes as webhook_shapes
from gateway import inspectors, replays, webhooks
from gateway.query import CREATED, CURSOR, LIMIT, METADATA, PAGED, Parameter
from gateway.route import Route

# The table is laid out by hand: what belongs together stands in one line.
# fmt: off
_INCLUDE: Final = Parameter(
    name="include", kind="choice", choices=("event",), meaning="`event`: with each delivery's stored envelope.",
)
_ENDPOINT: Final = "/v1/webhook_endpoints/{id}"
INSPECTORS: Final = (
    Route(
        method="POST", path="/v1/inspectors", handler=inspectors.create_inspector, tag="Inspectors",
        scope="webhooks.write", body=inspector_shapes.InspectorCreate, answer=inspector_shapes.Inspector, status=201,
        refusals=("endpoint.limit_reached", "not_found"),
    ),
    Route(
        method="GET", path="/v1/inspectors", handler=inspectors.list_inspectors, tag="Inspectors",
        scope="webhooks.read", answer=inspector_shapes.Inspector, page=True, feed_cursor=True,
    ),
    Route(
        method="GET", path="/v1/inspectors/{id}", handler=inspectors.get_inspector, tag="Inspectors",
        scope="webhooks.read", answer=inspector_shapes.Inspector,
    ),
    Route(
        method="PATCH", path="/v1/inspectors/{id}", handler=inspectors.change_inspector, tag="Inspectors",
        scope="webhooks.write", body=inspector_shapes.InspectorChange, answer=inspector_shapes.Inspector,
    ),
    Route(
        method="GET", path="/v1/inspectors/{id}/requests", handler=inspectors.list_requests, tag="Inspectors",
        scope="webhooks.read", answer=inspector_shapes.InspectedRequest, page=True, feed_cursor=True,
        query=(LIMIT, Parameter(name="after", kind="integer", minimum=0, maximum=10**17, meaning="Only after this number.")),
    ),
    Route(
        method="POST", path="/inspect/{organization}/{token}", handler=inspectors.receive, tag="Inspectors",
        media_type="*/*", refusals=("not_found",),
    ),
)
WEBHOOKS: Final = (
    Route(
        method="POST", path="/v1/webhook_endpoints", handler=webhooks.create_endpoint, tag="Webhooks",
        scope="webhooks.write", body=webhook_shapes.EndpointCreate, answer=webhook_shapes.Endpoint, status=201,
        idempotent=True, etag=True, refusals=("validation.destination_not_allowed", "endpoint.limit_reached"),
    ),
    Route(
        method="GET", path="/v1/webhook_endpoints", handler=webhooks.list_endpoints, tag="Webhooks",
        scope="webhooks.read", answer=webhook_shapes.Endpoint, page=True, query=(*PAGED, METADATA), feed_cursor=True,
    ),
    Route(
        method="GET", path=_ENDPOINT, handler=webhooks.get_endpoint, tag="Webhooks", scope="webhooks.read",
        answer=webhook_shapes.Endpoint, etag=True, derived=True,
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
            answer=webhook_shapes.Endpoint, conditional=True, etag=True, refusals=("endpoint.disabled",),
        )
        for verb, handler in (
            ("pause", webhooks.pause_endpoint),
            ("resume", webhooks.resume_endpoint),
            ("enable", webhooks.enable_endpoint),
        )
    ),
    Route(
        method="POST", path=f"{_ENDPOINT}/rotate_secret", handler=webhooks.rotate_secret, tag="Webhooks",
        scope="webhooks.write", body=webhook_shapes.RotateSecret, body_optional=True, answer=webhook_shapes.Endpoint,
        idempotent=True, conditional=True, etag=True,
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
                name="status", kind="choice", choices=(*get_args(webhook_shapes.DeliveryStatus), "undelivered"),
                meaning="Only in this state; `undelivered`: pending, retrying, exhausted or skipped, each with the reason why.",
            ),
            Parameter(name="event_type", kind="text", meaning="Only deliveries of this event type."),
            Parameter(name="event_id", kind="id", meaning="Only deliveries of this event."),
            Parameter(name="correlation_id", kind="text", meaning="Only of events that a request with this correlation-id led to."),
            CREATED,
            Parameter(
                name="sequence_from", kind="integer", minimum=1, maximum=10**17, meaning="Only of events from this sequence on.",
            ),
            Parameter(
                name="sequence_to", kind="integer", minimum=1, maximum=10**17, meaning="Only of events up to this sequence.",
            ),
            Parameter(
                name="last_response", kind="choice", choices=get_args(replay_shapes.ResponseClass),
                meaning="Only where the last attempt was answered so; `none`: it had no answer.",
            ),
            Parameter(name="last_error", kind="text", meaning="Only where the last attempt failed with this error class."),
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
        scope="webhooks.read", answer=webhook_shapes.Attempt, page=True, feed_cursor=True,
    ),
    Route(
        method="POST", path="/v1/deliveries/{id}/skip", handler=webhooks.skip_delivery, tag="Deliveries",
        scope="webhooks.write", answer=webhook_shapes.Delivery, refusals=("delivery.not_skippable",),
    ),
    Route(
        method="POST", path="/v1/deliveries/{id}/replay", handler=webhooks.replay_delivery, tag="Deliveries",
        scope="webhooks.write", answer=webhook_shapes.Delivery, status=202, refusals=("endpoint.disabled",),
    ),
)
REPLAYS: Final = (
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
        answer=replay_shapes.Replay, page=True, query=PAGED, feed_cursor=True,
    ),
    Route(
        method="GET", path="/v1/replays/{id}", handler=replays.get_replay, tag="Replays", scope="webhooks.read",
        answer=replay_shapes.Replay, etag=True, derived=True,
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
