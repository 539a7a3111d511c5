"""Webhook endpoints for people: how each fares, one form to add one and see its test answered, and every action on it."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from starlette.responses import Response

from delivery.errors import DeliveryError, EndpointNotFound
from delivery.log import DeliveryFilter
from delivery.shapes import Delivery, Endpoint, EndpointChange, EndpointCreate, RotateSecret
from delivery.tally import HOUR_US
from engine.cursors import page_cursor, parse_page_cursor
from engine.errors import NotFound, PreconditionFailed
from engine.events import EVENT_TYPES, TEST_TYPE
from engine.money import parse_instant
from gateway import wire
from gateway.portal import endpoint_form
from gateway.portal.home import HOURS, Figures, figures
from gateway.portal.rendering import page, redirect
from gateway.portal.visit import Form, Visit
from gateway.problems import Problem, problem_of
from gateway.query import CURSOR, Parameter

ROWS: Final = 50
FAMILIES: Final = tuple(sorted({f"{each.partition('.')[0]}.*" for each in EVENT_TYPES if each != TEST_TYPE}))
_TESTED: Final = Parameter(
    name="tested",
    kind="integer",
    minimum=0,
    maximum=10**17,
    meaning="Show the test event after this place in the feed.",
)
_AFTER: Final = Parameter(
    name="after", kind="integer", minimum=0, maximum=10**17, meaning="Only a test event after this place in the feed."
)
_CONTAINING: Final = Parameter(name="q", kind="text", meaning="Only with this in its address or description.")
_WAS: Final = Parameter(name="was", kind="text", meaning="The status that the page shows.")
_STANDING: Final = {
    "failing": "it failed for too long without a success",
    "ping_failed": "the ping that was to enable it failed",
    "gone": "it answered 410 Gone",
}
_endpoint: Final = msgspec.json.Decoder(Endpoint)


async def list_page(visit: Visit) -> Response:
    """List endpoints, the newest first, each with its last day."""
    asked = visit.asked(_CONTAINING, CURSOR)
    cursor, containing = asked.get("cursor"), asked.get("q")
    before = None if cursor is None else parse_page_cursor(cursor)
    found = await visit.services.endpoints.list(visit.site, limit=ROWS, before=before, containing=containing)
    since_us, ids = visit.now_us - (HOURS - 1) * HOUR_US, [each.id for each in found.data]
    tallies = await visit.services.figures.hours_of(visit.site, since_us, ids)
    last_hour = visit.now_us // HOUR_US
    fare = {
        each.id: figures([one for one in tallies if one.endpoint_id == each.id], last_hour - HOURS + 1, last_hour)
        for each in found.data
    }
    after = visit.same_page_with(cursor=page_cursor(found.data[-1].id)) if found.has_more else None
    return page(visit, "endpoints.html", endpoints=found.data, fare=fare, containing=containing, next_page=after)


async def new_page(visit: Visit) -> Response:
    """Show the form that adds an endpoint."""
    url = visit.asked(Parameter(name="url", kind="text", meaning="An address to begin with.")).get("url")
    values = endpoint_form.filled(Form(fields={"url": (url or "",), "event_types": ("*",)}))
    return page(visit, "endpoint_new.html", values=values, faults=[], families=FAMILIES)


async def create(visit: Visit) -> Response:
    """Add an endpoint, send it a test event, and show its secret, once."""
    try:
        draft = wire.decode(endpoint_form.asked_for(visit.form), EndpointCreate)
        done = await visit.services.endpoints.create(visit.site, draft)
    except (Problem, DeliveryError) as error:
        faults = endpoint_form.faults_of(problem_of(error))
        values = endpoint_form.filled(visit.form)
        return page(visit, "endpoint_new.html", status=422, values=values, faults=faults, families=FAMILIES)
    endpoint = _endpoint.decode(done.body)
    await visit.services.endpoints.test(visit.site, endpoint.id)
    return page(visit, "secret.html", endpoint=endpoint, made="created", overlap=False)


async def endpoint_page(visit: Visit) -> Response:
    """Show one endpoint: how it stands and what helps, how it fares, its keys, its settings."""
    return await _shown(visit, [], tested=visit.asked(_TESTED).get("tested"))


async def change(visit: Visit) -> Response:
    """Change what the form says."""
    endpoint_id, version = visit.path_id("endpoint"), visit.form.text("lock_version")
    try:
        before = await visit.services.endpoints.get(visit.site, endpoint_id)
        asked = wire.decode(endpoint_form.asked_for(visit.form, before=before), EndpointChange)
        if_match = int(version) if version.isdecimal() and len(version) < 18 else None
        await visit.services.endpoints.change(visit.site, endpoint_id, asked, if_match=if_match)
    except EndpointNotFound:
        raise
    except PreconditionFailed:
        said = "Somebody changed this endpoint meanwhile: the form shows what it is now, nothing of yours was kept."
        return await _shown(visit, [said], status=412)
    except (Problem, DeliveryError) as error:
        faults = endpoint_form.faults_of(problem_of(error))
        return await _shown(visit, faults, status=422, values=endpoint_form.filled(visit.form))
    return redirect(f"/portal/endpoints/{endpoint_id}")


async def act(visit: Visit) -> Response:
    """Pause, resume, enable, test, rotate the key, or remove."""
    endpoint_id, verb = visit.path_id("endpoint"), visit.path["verb"]
    endpoints, site = visit.services.endpoints, visit.site
    match verb:
        case "pause":
            await endpoints.pause(site, endpoint_id)
        case "resume":
            await endpoints.resume(site, endpoint_id)
        case "enable":
            head = await visit.services.engine.head(site)
            await endpoints.enable(site, endpoint_id)
            return redirect(f"/portal/endpoints/{endpoint_id}?tested={head.sequence}")
        case "test":
            head = await visit.services.engine.head(site)
            await endpoints.test(site, endpoint_id)
            return redirect(f"/portal/endpoints/{endpoint_id}?tested={head.sequence}")
        case "rotate":
            form = visit.form
            given = {
                "signature": form.text("signature") or None,
                "overlap_s": endpoint_form.number(form.text("overlap_s")),
            }
            done = await endpoints.rotate_secret(
                site, endpoint_id, wire.decode(wire.Document(given, b""), RotateSecret)
            )
            endpoint = _endpoint.decode(done.body)
            return page(visit, "secret.html", endpoint=endpoint, made="rotated", overlap=len(endpoint.signing_keys) > 1)
        case "remove":
            await endpoints.delete(site, endpoint_id)
            return redirect("/portal/endpoints")
        case _:
            raise NotFound("action", verb[:40])
    return redirect(f"/portal/endpoints/{endpoint_id}")


async def test_answer(visit: Visit) -> Response:
    """Return how the endpoint answered its newest test event after a place in the feed, as it is now.

    A ping that was answered changes the endpoint: then the whole page is to be loaded again.
    """
    asked = visit.asked(_AFTER, _WAS)
    after, was = asked.get("after") or 0, asked.get("was")
    endpoint = await visit.services.endpoints.get(visit.site, visit.path_id("endpoint"))
    delivery = await _last_test(visit, endpoint.id, after)
    attempts = [] if delivery is None else await visit.services.log.attempts(visit.site, delivery.id)
    answer = page(
        visit, "test_answer.html", endpoint=endpoint, delivery=delivery, attempts=attempts, after=after, was=was
    )
    if was is not None and was != endpoint.status:
        answer.headers["hx-refresh"] = "true"
    return answer


async def _shown(
    visit: Visit,
    faults: list[str],
    status: int = 200,
    values: dict[str, Any] | None = None,
    tested: int | None = None,
) -> Response:
    services, site = visit.services, visit.site
    endpoint = await services.endpoints.get(site, visit.path_id("endpoint"))
    tallies = await services.figures.hours_of(site, visit.now_us - (HOURS - 1) * HOUR_US, [endpoint.id])
    last_hour = visit.now_us // HOUR_US
    fare: Figures = figures(tallies, last_hour - HOURS + 1, last_hour)
    recent = await services.log.deliveries(site, DeliveryFilter(endpoint_id=endpoint.id), limit=10)
    if tested is None and endpoint.status == "enabling":
        tested = 0
    failing_since = 0 if endpoint.failing_since is None else parse_instant(endpoint.failing_since)
    return page(
        visit,
        "endpoint.html",
        status=status,
        endpoint=endpoint,
        fare=fare,
        recent=recent.data,
        faults=faults,
        values=values or endpoint_form.of_endpoint(endpoint),
        families=FAMILIES,
        urls={endpoint.id: endpoint.url},
        standing=_STANDING,
        disabled_at=failing_since + endpoint.disable_after_s * 1_000_000,
        blocking=[] if endpoint.ordering == "parallel" else await services.log.blocking(site, endpoint.id),
        tested=tested,
    )


async def _last_test(visit: Visit, endpoint_id: str, after: int) -> Delivery | None:
    wanted = DeliveryFilter(endpoint_id=endpoint_id, event_type=TEST_TYPE, sequence_from=after + 1)
    found = await visit.services.log.deliveries(visit.site, wanted, limit=1)
    return next(iter(found.data), None)
