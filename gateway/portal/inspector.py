"""The inspector's pages: throw-away receivers, what reached them, how they answer; in the sandbox only."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from delivery.errors import InspectorNotFound
from delivery.inspector_shapes import InspectorChange, InspectorCreate
from gateway import wire
from gateway.portal.rendering import page, redirect
from gateway.portal.visit import Visit

SHOWN = 50


async def list_page(visit: Visit) -> Response:
    """List the inspectors, and what one is for."""
    found = await visit.services.inspectors.list(visit.site) if visit.sandbox else []
    return page(visit, "inspectors.html", inspectors=found)


async def create(visit: Visit) -> Response:
    """Make an inspector and show it."""
    made = await visit.services.inspectors.create(visit.site, InspectorCreate())
    return redirect(f"/portal/inspectors/{made.id}")


async def inspector_page(visit: Visit) -> Response:
    """Show one inspector: its address, how it answers, what arrived."""
    return page(visit, "inspector.html", **await _read(visit))


async def requests_part(visit: Visit) -> Response:
    """Return what arrived alone, as it is now."""
    return page(visit, "inspector_part.html", **await _read(visit))


async def change(visit: Visit) -> Response:
    """Have the inspector answer as the form says."""
    inspector_id, form = visit.path_id("inspector"), visit.form
    given = {name: form.text(name) for name in ("status", "retry_after_s", "delay_ms") if form.text(name)}
    document: dict[str, Any] = {
        name: int(text) if text.isdecimal() and len(text) < 8 else text for name, text in given.items()
    }
    await visit.services.inspectors.change(
        visit.site, inspector_id, wire.decode(wire.Document(document, b""), InspectorChange)
    )
    return redirect(f"/portal/inspectors/{inspector_id}")


async def _read(visit: Visit) -> dict[str, Any]:
    if not visit.sandbox:
        raise InspectorNotFound("in production")
    inspector = await visit.services.inspectors.get(visit.site, visit.path_id("inspector"))
    after = max(0, inspector.received - SHOWN)
    found, _ = await visit.services.inspectors.requests(visit.site, inspector.id, after=after, limit=SHOWN)
    return {"inspector": inspector, "requests": list(reversed(found))}
