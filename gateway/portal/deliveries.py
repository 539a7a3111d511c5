"""Deliveries of all endpoints as a list that is its own address, and one delivery with everything that led to it."""

from __future__ import annotations

import asyncio
from typing import Final, get_args

import msgspec
from starlette.responses import Response

from delivery.errors import DeliveryNotFound, EndpointNotFound
from delivery.log import DeliveryFilter
from delivery.replay_shapes import ResponseClass
from delivery.shapes import Attempt, Delivery, DeliveryStatus, Endpoint
from engine.cursors import page_cursor, parse_page_cursor
from engine.errors import Fault
from engine.events import EVENT_TYPES, Envelope
from engine.ids import is_id
from engine.money import format_instant, parse_instant
from gateway.portal.home import endpoint_urls
from gateway.portal.origin import began_at
from gateway.portal.rendering import page, redirect
from gateway.portal.story import story_of
from gateway.portal.visit import Visit
from gateway.portal.words import ERRORS
from gateway.problems import invalid
from gateway.query import CURSOR, Asked, Parameter

ROWS: Final = 50
ENDPOINTS_OFFERED: Final = 100
"""How many endpoints can be chosen in the filter; another one's page leads to its deliveries."""
SINCE_US: Final = {"1h": 3_600_000_000, "24h": 86_400_000_000, "7d": 7 * 86_400_000_000}
FILTERS: Final = (
    Parameter(name="endpoint_id", kind="id", meaning="Only deliveries to this endpoint."),
    Parameter(name="status", kind="choice", choices=get_args(DeliveryStatus), meaning="Only in this state."),
    Parameter(name="event_type", kind="choice", choices=tuple(sorted(EVENT_TYPES)), meaning="Only of this type."),
    Parameter(name="last_response", kind="choice", choices=get_args(ResponseClass), meaning="Only last answered so."),
    Parameter(name="last_error", kind="text", meaning="Only where the last attempt failed with this error class."),
    Parameter(name="since", kind="choice", choices=tuple(SINCE_US), meaning="Only made within this time."),
    Parameter(name="from", kind="text", meaning="Only made at this UTC time or later."),
    Parameter(name="to", kind="text", meaning="Only made at this UTC time or earlier."),
    Parameter(name="sequence_from", kind="integer", maximum=10**17, meaning="Only of this place in the feed or later."),
    Parameter(name="sequence_to", kind="integer", maximum=10**17, meaning="Only of this place in the feed or earlier."),
    Parameter(name="q", kind="text", meaning="A delivery's or an event's id, or a correlation id."),
)
_envelope: Final = msgspec.json.Decoder(Envelope)


async def list_page(visit: Visit) -> Response:
    """List deliveries, the newest first; the filter is in the address. A delivery's own id leads to it."""
    asked = visit.asked(*FILTERS, CURSOR)
    searched = asked.get("q")
    if searched is not None and is_id(searched) and await _is_delivery(visit, searched):
        return redirect(f"/portal/deliveries/{searched}")
    cursor = asked.get("cursor")
    (found, has_more), choices = await asyncio.gather(
        read(visit, asked, None if cursor is None else parse_page_cursor(cursor)),
        _choices(visit, asked.get("endpoint_id")),
    )
    return page(
        visit,
        "deliveries.html",
        deliveries=found,
        urls=await endpoint_urls(visit, found),
        choices=choices,
        offered=ENDPOINTS_OFFERED,
        asked=asked,
        states=get_args(DeliveryStatus),
        types=sorted(EVENT_TYPES),
        classes=get_args(ResponseClass),
        errors=ERRORS,
        filter=replayable(filter_of(visit, asked)),
        next_page=visit.same_page_with(cursor=page_cursor(found[-1].id)) if has_more else None,
        live_url=None if cursor is not None else _live_url(visit),
    )


async def _choices(visit: Visit, chosen: str | None) -> dict[str, str]:
    """Return the endpoints to choose from, the newest ones, and the one that is chosen, however old."""
    newest = await visit.services.figures.newest(visit.site, ENDPOINTS_OFFERED)
    if chosen is None or chosen in newest:
        return newest
    address = (await visit.services.figures.addresses(visit.site, [chosen])).get(chosen, f"removed endpoint {chosen}")
    return {**newest, chosen: address}


async def read(visit: Visit, asked: Asked, before: str | None) -> tuple[list[Delivery], bool]:
    """Return a page of the deliveries that a filter asks for, and whether there are more."""
    wanted = filter_of(visit, asked)
    found = await visit.services.log.deliveries(visit.site, wanted, limit=ROWS, before=before)
    return found.data, found.has_more


def filter_of(visit: Visit, asked: Asked) -> DeliveryFilter:
    """Return the filter that an address asks for; raises the problem of a time that is none."""
    since, searched = asked.get("since"), asked.get("q")
    created_from = _instant("from", asked.get("from"))
    if since is not None:
        created_from = max(created_from or 0, visit.now_us - SINCE_US[since])
    return DeliveryFilter(
        endpoint_id=asked.get("endpoint_id"),
        status=asked.get("status"),
        event_type=asked.get("event_type"),
        event_id=searched if searched is not None and is_id(searched) else None,
        correlation_id=None if searched is None or is_id(searched) else searched,
        created_from=created_from,
        created_to=_instant("to", asked.get("to")),
        sequence_from=asked.get("sequence_from"),
        sequence_to=asked.get("sequence_to"),
        last_response=asked.get("last_response"),
        last_error=asked.get("last_error"),
    )


def replayable(wanted: DeliveryFilter) -> dict[str, str] | None:
    """Return a filter as the replay's form sends it; None for one that says nothing."""
    if wanted == DeliveryFilter():
        return None
    given = {
        "endpoint_id": wanted.endpoint_id,
        "status": wanted.status,
        "event_type": wanted.event_type,
        "last_response": wanted.last_response,
        "last_error": wanted.last_error,
        "event_id": wanted.event_id,
        "correlation_id": wanted.correlation_id,
        "since": None if wanted.created_from is None else format_instant(wanted.created_from),
        "until": None if wanted.created_to is None else format_instant(wanted.created_to),
        "sequence_from": wanted.sequence_from,
        "sequence_to": wanted.sequence_to,
    }
    return {name: str(value) for name, value in given.items() if value is not None}


async def delivery_page(visit: Visit) -> Response:
    """Show one delivery: the request, the entry, the event, every attempt, and what can be done now."""
    delivery_id = visit.path_id("delivery")
    services, site = visit.services, visit.site
    delivery = await services.log.delivery(site, delivery_id, include_event=True)
    body = _event(delivery)
    envelope = _envelope.decode(body)
    endpoint, story, attempts = await asyncio.gather(
        _endpoint(visit, delivery.endpoint_id), story_of(visit, envelope), _attempts(visit, delivery_id)
    )
    return page(
        visit,
        "delivery.html",
        delivery=delivery,
        endpoint=endpoint,
        envelope=envelope,
        body=body,
        story=story,
        start=began_at(envelope),
        attempts=attempts,
        swapped=False,
    )


async def attempts_part(visit: Visit) -> Response:
    """Return a delivery's state and attempts alone, as they are now."""
    delivery_id = visit.path_id("delivery")
    delivery = await visit.services.log.delivery(visit.site, delivery_id, include_event=True)
    return page(
        visit,
        "delivery_swap.html",
        delivery=delivery,
        endpoint=await _endpoint(visit, delivery.endpoint_id),
        start=began_at(_envelope.decode(_event(delivery))),
        attempts=await _attempts(visit, delivery_id),
        swapped=True,
    )


async def skip(visit: Visit) -> Response:
    """Give a delivery up: what waits for it where order is kept goes on."""
    delivery_id = visit.path_id("delivery")
    await visit.services.skip.skip_one(visit.site, delivery_id)
    return redirect(f"/portal/deliveries/{delivery_id}")


def _event(delivery: Delivery) -> bytes:
    return bytes(delivery.event) if isinstance(delivery.event, msgspec.Raw) else b"{}"


async def _endpoint(visit: Visit, endpoint_id: str) -> Endpoint | None:
    """Return the endpoint of a delivery; one that was removed is gone."""
    try:
        return await visit.services.endpoints.get(visit.site, endpoint_id)
    except EndpointNotFound:
        return None


async def _attempts(visit: Visit, delivery_id: str) -> list[Attempt]:
    """Return the attempts of a delivery, the newest first."""
    return list(reversed(await visit.services.log.attempts(visit.site, delivery_id)))


async def _is_delivery(visit: Visit, delivery_id: str) -> bool:
    try:
        await visit.services.log.delivery(visit.site, delivery_id)
    except DeliveryNotFound:
        return False
    return True


def _instant(name: str, text: str | None) -> int | None:
    """Read a UTC time as a browser's form sends it, or with an offset."""
    if text is None:
        return None
    try:
        return parse_instant(
            text if text[-1:] in {"Z", "z"} or "+" in text else f"{text}{':00' * (text.count(':') == 1)}Z"
        )
    except ValueError:
        fault = Fault(code="validation.invalid_time", pointer=f"?{name}", detail=f"{text!r} is no time.")
        raise invalid([fault]) from None


def _live_url(visit: Visit) -> str:
    return visit.same_page_with().replace("/portal/deliveries", "/portal/deliveries/live", 1)
