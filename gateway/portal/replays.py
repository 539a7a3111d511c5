"""Replay from the portal: one delivery, the selected, all that match a filter after a count; progress, pause, cancel."""

from __future__ import annotations

from typing import Any, Final

from msgspec import UNSET
from starlette.responses import Response

from delivery.errors import InvalidReplay
from delivery.replay_shapes import ReplayCreate, ReplayFilter
from engine.cursors import page_cursor, parse_page_cursor
from engine.errors import NotFound
from engine.ids import is_id
from engine.money import format_instant
from gateway import wire
from gateway.portal.rendering import page, redirect
from gateway.portal.visit import Visit
from gateway.query import CURSOR

ROWS: Final = 50
SINCE_US: Final = {"1h": 3_600_000_000, "24h": 86_400_000_000, "7d": 7 * 86_400_000_000}
_FILTER: Final = (
    "endpoint_id",
    "event_type",
    "status",
    "since",
    "until",
    "sequence_from",
    "sequence_to",
    "last_response",
    "last_error",
    "event_id",
    "correlation_id",
)


async def replay_one(visit: Visit) -> Response:
    """Send one delivery again."""
    delivery_id = visit.path_id("delivery")
    await visit.services.replay.replay_one(visit.site, delivery_id)
    return redirect(f"/portal/deliveries/{delivery_id}")


async def replay_selected(visit: Visit) -> Response:
    """Send the chosen deliveries again, as a job."""
    chosen = [each for each in visit.form.texts("delivery_id") if is_id(each)]
    if not chosen:
        raise InvalidReplay("/delivery_ids", "choose at least one delivery")
    begun = await visit.services.replays.create(visit.site, ReplayCreate(delivery_ids=chosen))
    return redirect(f"/portal/replays/{begun.replay_id}")


async def preview(visit: Visit) -> Response:
    """Count what the filter matches before anything is sent."""
    draft, given = _draft(visit)
    found = await visit.services.replays.preview(visit.site, draft)
    ids = {share.endpoint_id for share in found.endpoints} | (
        {given["endpoint_id"]} if "endpoint_id" in given else set()
    )
    urls = await visit.services.figures.addresses(visit.site, ids)
    return page(visit, "replay_preview.html", preview=found, given=given, urls=urls)


async def begin(visit: Visit) -> Response:
    """Begin a replay of all that match."""
    draft, _ = _draft(visit)
    begun = await visit.services.replays.create(visit.site, draft)
    return redirect(f"/portal/replays/{begun.replay_id}")


async def list_page(visit: Visit) -> Response:
    """List replays, the newest first."""
    cursor = visit.asked(CURSOR).get("cursor")
    before = None if cursor is None else parse_page_cursor(cursor)
    found = await visit.services.replays.list(visit.site, limit=ROWS, before=before)
    after = visit.same_page_with(cursor=page_cursor(found.data[-1].id)) if found.has_more else None
    return page(visit, "replays.html", replays=found.data, next_page=after)


async def replay_page(visit: Visit) -> Response:
    """Show one replay with its progress."""
    return page(visit, "replay.html", replay=await _replay(visit))


async def progress(visit: Visit) -> Response:
    """Return a replay's progress alone, as it is now."""
    return page(visit, "replay_part.html", replay=await _replay(visit))


async def steer(visit: Visit) -> Response:
    """Pause a replay, go on with it, or cancel it."""
    replay_id, verb = visit.path_id("replay"), visit.path["verb"]
    replays = visit.services.replays
    match verb:
        case "pause":
            await replays.pause(visit.site, replay_id)
        case "resume":
            await replays.resume(visit.site, replay_id)
        case "cancel":
            await replays.cancel(visit.site, replay_id)
        case _:
            raise NotFound("action", verb[:40])
    return redirect(f"/portal/replays/{replay_id}")


async def _replay(visit: Visit) -> Any:
    return await visit.services.replays.get(visit.site, visit.path_id("replay"))


def _draft(visit: Visit) -> tuple[ReplayCreate, dict[str, str]]:
    """Return the replay that a form asks for, and the form's fields to ask for it again."""
    given = {name: visit.form.text(name) for name in _FILTER if visit.form.text(name)}
    since = given.get("since")
    if since in SINCE_US:
        given["since"] = format_instant(visit.now_us - SINCE_US[since])
    status: Any = given.get("status")
    values: dict[str, Any] = {
        "endpoint_id": given.get("endpoint_id", UNSET),
        "event_types": [given["event_type"]] if "event_type" in given else UNSET,
        "status": status.split(",") if status else UNSET,
        "since": given.get("since", UNSET),
        "until": given.get("until", UNSET),
        "sequence_from": _number(given, "sequence_from"),
        "sequence_to": _number(given, "sequence_to"),
        **{name: given.get(name, UNSET) for name in ("last_response", "last_error", "event_id", "correlation_id")},
    }
    document = {name: value for name, value in values.items() if value is not UNSET}
    return ReplayCreate(filter=wire.decode(wire.Document(document, b""), ReplayFilter)), given


def _number(given: dict[str, str], name: str) -> Any:
    text = given.get(name)
    if text is None:
        return UNSET
    return int(text) if text.isdecimal() and len(text) < 18 else text
