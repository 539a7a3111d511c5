"""Replays of many deliveries as the API shows and takes them. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from delivery.errors import InvalidReplay
from delivery.options import EventPatterns
from delivery.rows import ReplayPart, ReplayRow
from delivery.shapes import DeliveryStatus, encode
from engine.money import format_instant, parse_instant

DELIVERIES_MAX: Final = 1_000
RATE_MAX: Final = 10_000
RATE_DEFAULT: Final = 200
"""Deliveries a second of a replay that says nothing: what is delivered beside it is to feel nothing of it."""

_ID: Final = r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$(?!\n)"
Id = Annotated[str, Meta(pattern=_ID)]
Sequence_ = Annotated[int, Meta(ge=1, le=10**17)]
Instant = Annotated[str, Meta(max_length=40, description="An RFC 3339 time with an offset.")]
ResponseClass = Literal["2xx", "3xx", "4xx", "5xx", "none"]

ERRORS_OF_CLASS: Final[dict[str, tuple[str, ...]]] = {
    "3xx": ("http_3xx",),
    "4xx": ("http_4xx", "gone"),
    "5xx": ("http_5xx",),
}
"""The error classes by which deliveries with such a last response are found."""


def errors_of(last_response: str | None, last_error: str | None) -> tuple[str, ...] | None:
    """Return the error classes by which such deliveries are found; None where classes do not tell them, none where no one fits."""
    classes = ERRORS_OF_CLASS.get(last_response or "")
    if last_error is None:
        return classes
    return (last_error,) if classes is None or last_error in classes else ()


ReplayStatus = Literal["running", "paused", "canceled", "delivering", "completed"]


class ReplayFilter(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which deliveries: all that match everything given, at least one member. Times are of the delivery's creation."""

    endpoint_id: Id | UnsetType = UNSET
    event_types: EventPatterns | UnsetType = UNSET
    status: Annotated[list[DeliveryStatus], Meta(min_length=1, max_length=6)] | UnsetType = UNSET
    since: Instant | UnsetType = UNSET
    until: Instant | UnsetType = UNSET
    sequence_from: Sequence_ | UnsetType = UNSET
    sequence_to: Sequence_ | UnsetType = UNSET
    last_response: ResponseClass | UnsetType = UNSET
    last_error: Annotated[str, Meta(min_length=1, max_length=40)] | UnsetType = UNSET
    event_id: Id | UnsetType = UNSET
    correlation_id: Annotated[str, Meta(pattern=r"^[\x21-\x7e]{1,128}$(?!\n)")] | UnsetType = UNSET


class CatchUp(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an endpoint's subscription of now matches and has no number at it yet, after a cursor of the feed, or all."""

    endpoint_id: Id
    after: Annotated[str, Meta(max_length=200)] | UnsetType = UNSET


class ReplaySelection(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What to replay, exactly one of these: deliveries by id, a filter, a catch-up."""

    delivery_ids: Annotated[list[Id], Meta(min_length=1, max_length=DELIVERIES_MAX)] | UnsetType = UNSET
    filter: ReplayFilter | UnsetType = UNSET
    catch_up: CatchUp | UnsetType = UNSET


class ReplayCreate(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What begins a replay: exactly one of `delivery_ids`, `filter` and `catch_up`; `rate_per_s` is its own limit."""

    delivery_ids: Annotated[list[Id], Meta(min_length=1, max_length=DELIVERIES_MAX)] | UnsetType = UNSET
    filter: ReplayFilter | UnsetType = UNSET
    catch_up: CatchUp | UnsetType = UNSET
    rate_per_s: Annotated[int, Meta(ge=1, le=RATE_MAX)] | UnsetType | None = UNSET

    def selection(self) -> ReplaySelection:
        """Return what is to be replayed; raises InvalidReplay where that is not said, or said twice."""
        given = [name for name in ("delivery_ids", "filter", "catch_up") if getattr(self, name) is not UNSET]
        if len(given) != 1:
            said = "none" if not given else " and ".join(f"`{name}`" for name in given)
            raise InvalidReplay(
                "", f"exactly one of `delivery_ids`, `filter` and `catch_up` is needed, {said} is given"
            )
        if self.filter is not UNSET:
            check_filter(self.filter)
        return ReplaySelection(delivery_ids=self.delivery_ids, filter=self.filter, catch_up=self.catch_up)


class ReplayShare(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How many deliveries a replay would send to one endpoint."""

    endpoint_id: str
    total: int


class ReplayPreview(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a replay would send now, by endpoint."""

    total: int
    endpoints: list[ReplayShare]


class Replay(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A replay. `queued` = `delivered` + `failed` + `waiting`; in the end `total` = `queued` + `skipped`."""

    id: str
    status: ReplayStatus
    filter: ReplayFilter | None
    catch_up: CatchUp | None
    rate_per_s: int
    total: int
    queued: int
    delivered: int
    failed: int
    waiting: int
    skipped: int
    lock_version: int
    created_at: str
    updated_at: str


_selection: Final = msgspec.json.Decoder(ReplaySelection)


def check_filter(given: ReplayFilter) -> None:
    """Accept a filter that says something and whose times are times; raises InvalidReplay."""
    if given == ReplayFilter():
        raise InvalidReplay("/filter", "an empty filter would replay everything there ever was: name at least `since`")
    for name in ("since", "until"):
        text = getattr(given, name)
        if text is not UNSET:
            try:
                parse_instant(text)
            except ValueError:
                raise InvalidReplay(f"/filter/{name}", "an RFC 3339 time with an offset is needed") from None


def read_selection(row: ReplayRow) -> ReplaySelection:
    """Return what a stored replay was asked for with."""
    return _selection.decode(row.selection)


def stored_selection(selection: ReplaySelection) -> bytes:
    """Return a selection as it is stored; deliveries that were named are in the replay's parts."""
    return encode(msgspec.structs.replace(selection, delivery_ids=UNSET))


def show_replay(row: ReplayRow, parts: Sequence[ReplayPart]) -> Replay:
    """Return a replay as the API shows it; `parts` are its shares, or one that is their sum."""
    selection = read_selection(row)
    queued, delivered, failed = (
        sum(getattr(part, name) for part in parts) for name in ("queued", "delivered", "failed")
    )
    waiting = queued - delivered - failed
    status: ReplayStatus
    match row.status:
        case "queued":
            status = "delivering" if waiting > 0 else "completed"
        case "paused":
            status = "paused"
        case "canceled":
            status = "canceled"
        case _:
            status = "running"
    return Replay(
        id=row.id,
        status=status,
        filter=None if selection.filter is UNSET else selection.filter,
        catch_up=None if selection.catch_up is UNSET else selection.catch_up,
        rate_per_s=row.rate_per_s,
        total=sum(part.total for part in parts),
        queued=queued,
        delivered=delivered,
        failed=failed,
        waiting=waiting,
        skipped=sum(part.skipped for part in parts),
        lock_version=row.lock_version,
        created_at=format_instant(row.created_at),
        updated_at=format_instant(row.updated_at),
    )
