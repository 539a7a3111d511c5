"""One field that finds whatever an id, a reference of somebody's own or a request leads to."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final
from urllib.parse import urlencode

from starlette.responses import Response

from delivery.errors import DeliveryError
from delivery.log import DeliveryFilter
from engine import queries
from engine.errors import NotFound
from engine.ids import is_id
from engine.money import parse_instant
from engine.queries import Selection
from gateway.portal.origin import drawn_at
from gateway.portal.rendering import page, redirect
from gateway.portal.visit import Visit
from gateway.query import Parameter

REQUEST_SLACK_US: Final = 1_000_000
"""How much earlier than its request's id an event may be: ids go on where a clock was set back."""
REQUEST_SPAN_US: Final = 60_000_000
"""How long after its request an event may be and still be found."""
REQUEST_EVENTS: Final = 1_000
REQUEST_LOOKS: Final = 10
"""How many events are looked at for a request at once, and how often."""
_ASKED: Final = Parameter(name="q", kind="text", meaning="An id, an external id, a correlation id or a request id.")


async def find_page(visit: Visit) -> Response:
    """Lead to what is looked for; say what was looked at where there is nothing."""
    text = (visit.asked(_ASKED).get("q") or "").strip()
    place = await (_by_id(visit, text) if is_id(text) else _by_reference(visit, text)) if text else "/portal"
    return page(visit, "not_found.html", status=404, text=text[:200]) if place is None else redirect(place)


async def _by_id(visit: Visit, text: str) -> str | None:
    services, site = visit.services, visit.site
    looks: list[tuple[str, Callable[[], Awaitable[object]]]] = [
        ("deliveries", lambda: services.log.delivery(site, text)),
        ("events", lambda: services.engine.event(site, text)),
        ("entries", lambda: services.engine.ask(site, queries.entry, text)),
        ("accounts", lambda: services.engine.account(site, text)),
        ("books", lambda: services.engine.ask(site, queries.ledger, text)),
        ("endpoints", lambda: services.endpoints.get(site, text)),
        ("replays", lambda: services.replays.get(site, text)),
    ]
    for name, look in looks:
        try:
            if await look() is not None:
                return f"/portal/{name}/{text}"
        except (NotFound, DeliveryError):
            continue
    return await _by_request(visit, text)


async def _by_request(visit: Visit, request_id: str) -> str | None:
    """Return where the first event of a request is shown: its id tells when it came, and so where in the feed to look."""
    at = drawn_at(request_id)
    if at is None:
        return None
    engine, site, at_us = visit.services.engine, visit.site, parse_instant(at)
    place, _ = await engine.place_at(site, max(0, at_us - REQUEST_SLACK_US))
    after, told = place.sequence, f'"request_id":"{request_id}"'.encode()
    for _ in range(REQUEST_LOOKS):
        found, _ = await engine.read_after(site, after, REQUEST_EVENTS)
        for each in found:
            if told in each.body:
                return f"/portal/events/{each.id}"
        if len(found) < REQUEST_EVENTS or found[-1].created_at > at_us + REQUEST_SPAN_US:
            break
        after = found[-1].sequence
    return None


async def _by_reference(visit: Visit, text: str) -> str | None:
    """Return what has this external id, or else the deliveries or the newest event with this correlation id."""
    engine, site = visit.services.engine, visit.site
    named = Selection(limit=1, equals={"external_id": text})
    entries = (await engine.ask(site, queries.list_entries, named)).value.items
    if entries:
        return f"/portal/entries/{entries[0].id}"
    accounts = (await engine.ask(site, queries.list_accounts, named)).value.items
    if accounts:
        return f"/portal/accounts/{accounts[0].id}"
    correlated = await visit.services.log.deliveries(site, DeliveryFilter(correlation_id=text), limit=1)
    if correlated.data:
        return f"/portal/deliveries?{urlencode({'q': text})}"
    events, _ = await engine.events_before(site, None, 1, correlation_id=text)
    return f"/portal/events/{events[0].id}" if events else None
