"""Webhook endpoints for people: how each fares, one form to add one and see its test answered, and every action on it."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from starlette.responses import Response

from delivery.errors import DeliveryError
from delivery.log import DeliveryFilter
from delivery.shapes import Delivery, Endpoint, EndpointChange, EndpointCreate, RotateSecret
from delivery.tally import HOUR_US
from engine.cursors import page_cursor, parse_page_cursor
from engine.errors import NotFound
from engine.events import EVENT_TYPES, TEST_TYPE
from gateway import wire
from gateway.portal.home import HOURS, Figures, figures
from gateway.portal.rendering import page, redirect
from gateway.portal.visit import Form, Visit
from gateway.problems import Problem, problem_of
from gateway.query import CURSOR, Parameter

ROWS: Final = 50
OVERLAP_S: Final = 86_400
FAMILIES: Final = tuple(sorted({f"{each.partition('.')[0]}.*" for each in EVENT_TYPES if each != TEST_TYPE}))
_endpoint: Final = msgspec.json.Decoder(Endpoint)


async def list_page(visit: Visit) -> Response:
    """List endpoints, the newest first, each with its last day."""
    cursor = visit.asked(CURSOR).get("cursor")
    before = None if cursor is None else parse_page_cursor(cursor)
    found = await visit.services.endpoints.list(visit.site, limit=ROWS, before=before)
    tallies = await visit.services.figures.hours(visit.site, visit.now_us - (HOURS - 1) * HOUR_US)
    last_hour = visit.now_us // HOUR_US
    fare = {
        each.id: figures([one for one in tallies if one.endpoint_id == each.id], last_hour - HOURS + 1, last_hour)
        for each in found.data
    }
    after = visit.same_page_with(cursor=page_cursor(found.data[-1].id)) if found.has_more else None
    return page(visit, "endpoints.html", endpoints=found.data, fare=fare, next_page=after)


async def new_page(visit: Visit) -> Response:
    """Show the form that adds an endpoint."""
    url = visit.asked(Parameter(name="url", kind="text", meaning="An address to begin with.")).get("url")
    form = Form(fields={"url": (url,), "event_types": ("*",)} if url else {})
    return page(visit, "endpoint_new.html", form=form, faults=[], families=FAMILIES)


async def create(visit: Visit) -> Response:
    """Add an endpoint, send it a test event, and show its secret, once."""
    form = visit.form
    try:
        document = {
            "url": form.text("url"),
            "event_types": _types(form),
            "description": form.text("description") or None,
        }
        draft = wire.decode(wire.Document(document, b""), EndpointCreate)
        done = await visit.services.endpoints.create(visit.site, draft)
    except (Problem, DeliveryError) as error:
        return _form_again(visit, error)
    endpoint = _endpoint.decode(done.body)
    await visit.services.endpoints.test(visit.site, endpoint.id)
    return page(visit, "secret.html", endpoint=endpoint, made="created", overlap_s=0)


async def endpoint_page(visit: Visit) -> Response:
    """Show one endpoint: how it fares, what it subscribes to, its last deliveries, its actions."""
    return await _shown(visit, [])


async def change(visit: Visit) -> Response:
    """Change what the form says."""
    endpoint_id, form = visit.path_id("endpoint"), visit.form
    document: dict[str, Any] = {
        "url": form.text("url"),
        "event_types": _types(form),
        "description": form.text("description") or None,
        "timeout_s": _number(form.text("timeout_s")),
        "max_in_flight": _number(form.text("max_in_flight")),
    }
    version = form.text("lock_version")
    try:
        asked = wire.decode(wire.Document(document, b""), EndpointChange)
        if_match = int(version) if version.isdecimal() and len(version) < 18 else None
        await visit.services.endpoints.change(visit.site, endpoint_id, asked, if_match=if_match)
    except (Problem, DeliveryError) as error:
        problem = problem_of(error)
        return await _shown(visit, [each.detail for each in problem.faults] or [problem.detail], status=422)
    return redirect(f"/portal/endpoints/{endpoint_id}")


async def act(visit: Visit) -> Response:
    """Pause, resume, enable, test, rotate the secret, or remove."""
    endpoint_id, verb = visit.path_id("endpoint"), visit.path["verb"]
    endpoints, site = visit.services.endpoints, visit.site
    match verb:
        case "pause":
            await endpoints.pause(site, endpoint_id)
        case "resume":
            await endpoints.resume(site, endpoint_id)
        case "enable":
            await endpoints.enable(site, endpoint_id)
        case "test":
            await endpoints.test(site, endpoint_id)
        case "rotate":
            done = await endpoints.rotate_secret(site, endpoint_id, RotateSecret(overlap_s=OVERLAP_S))
            return page(visit, "secret.html", endpoint=_endpoint.decode(done.body), made="rotated", overlap_s=OVERLAP_S)
        case "remove":
            await endpoints.delete(site, endpoint_id)
            return redirect("/portal/endpoints")
        case _:
            raise NotFound("action", verb[:40])
    return redirect(f"/portal/endpoints/{endpoint_id}")


async def test_answer(visit: Visit) -> Response:
    """Return how the endpoint answered its newest test event, as it is now."""
    endpoint = await visit.services.endpoints.get(visit.site, visit.path_id("endpoint"))
    delivery = await _last_test(visit, endpoint.id)
    attempts = [] if delivery is None else await visit.services.log.attempts(visit.site, delivery.id)
    return page(visit, "test_answer.html", endpoint=endpoint, delivery=delivery, attempts=attempts)


async def _shown(visit: Visit, faults: list[str], status: int = 200) -> Response:
    endpoint = await visit.services.endpoints.get(visit.site, visit.path_id("endpoint"))
    tallies = await visit.services.figures.hours(visit.site, visit.now_us - (HOURS - 1) * HOUR_US, endpoint.id)
    last_hour = visit.now_us // HOUR_US
    fare: Figures = figures(tallies, last_hour - HOURS + 1, last_hour)
    recent = await visit.services.log.deliveries(visit.site, DeliveryFilter(endpoint_id=endpoint.id), limit=10)
    return page(
        visit, "endpoint.html", status=status, endpoint=endpoint, fare=fare, recent=recent.data, faults=faults,
        families=FAMILIES, urls={endpoint.id: endpoint.url},
    )  # fmt: skip


async def _last_test(visit: Visit, endpoint_id: str) -> Delivery | None:
    found = await visit.services.log.deliveries(visit.site, DeliveryFilter(endpoint_id=endpoint_id), limit=20)
    return next((each for each in found.data if each.event_type == TEST_TYPE), None)


def _form_again(visit: Visit, error: Exception) -> Response:
    problem = problem_of(error)
    faults = [each.detail for each in problem.faults] or [problem.detail]
    return page(visit, "endpoint_new.html", status=422, form=visit.form, faults=faults, families=FAMILIES)


def _types(form: Form) -> list[str]:
    """Return the chosen families and whatever was written beside them."""
    written = [each for each in form.text("other_types").replace(",", " ").split() if each]
    return list(dict.fromkeys([*form.texts("event_types"), *written]))


def _number(text: str) -> Any:
    return int(text) if text.isdecimal() and len(text) < 10 else text or None
