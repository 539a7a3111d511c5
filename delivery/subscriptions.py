"""Who gets an event: patterns of event types, the subscription in force at a sequence, the decision for one event. Pure."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import msgspec

from delivery.conditions import Filter
from delivery.errors import UnknownEventTypes
from engine.events import EVENT_TYPES, TEST_TYPE, FeedEvent

Status = Literal["active", "paused", "disabled", "enabling", "deleted"]

SKIPPED_DISABLED: Final = "endpoint_disabled"
SKIPPED_DELETED: Final = "endpoint_deleted"

_OPERATIONAL_FAMILIES: Final = ("endpoint.", "delivery.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscription:
    """What an endpoint subscribed to from a sequence on, that one included."""

    from_sequence: int
    event_types: tuple[str, ...]
    status: Status
    filter: Filter | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pending:
    """The endpoint gets the event."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Skipped:
    """The event is numbered for the endpoint and not sent, for this reason."""

    reason: str


Decision = Pending | Skipped | None

_PENDING: Final = Pending()
_DISABLED: Final = Skipped(reason=SKIPPED_DISABLED)


class _Delivery(msgspec.Struct):
    endpoint_id: str | None = None


class _AboutDelivery(msgspec.Struct):
    data: _Delivery


_about_delivery: Final = msgspec.json.Decoder(_AboutDelivery)


def validate_patterns(patterns: Sequence[str], known: Collection[str] = EVENT_TYPES) -> None:
    """Accept patterns that each match an event type that exists; raises UnknownEventTypes with those that do not."""
    unknown = [pattern for pattern in patterns if not any(matches((pattern,), one) for one in known)]
    if unknown:
        raise UnknownEventTypes(unknown)


def matches(patterns: Iterable[str], event_type: str) -> bool:
    """Tell whether one of the patterns (`*`, a family like `entry.*`, or an exact type) matches the event type."""
    return any(
        pattern in {"*", event_type} or (pattern.endswith(".*") and event_type.startswith(pattern[:-1]))
        for pattern in patterns
    )


def wanted_types(patterns: Iterable[str], known: Collection[str] = EVENT_TYPES) -> tuple[str, ...]:
    """Return the event types that the patterns match, but for the test event, which nobody subscribes to."""
    several = tuple(patterns)
    return tuple(sorted(one for one in known if one != TEST_TYPE and matches(several, one)))


def is_operational(event_type: str) -> bool:
    """Tell whether the event is about webhooks themselves; what happens to its deliveries raises no further event."""
    return event_type.startswith(_OPERATIONAL_FAMILIES)


def in_force(versions: Sequence[Subscription], sequence: int) -> Subscription | None:
    """Return the version in force at a sequence; `versions` ascend by where they begin."""
    place = bisect_right(versions, sequence, key=lambda version: version.from_sequence)
    return versions[place - 1] if place else None


def filter_of(versions: Sequence[Subscription], event: FeedEvent) -> Filter | None:
    """Return the filter that the event has to fulfil for an endpoint; what was asked for by a test fulfils any."""
    version = None if event.type == TEST_TYPE else in_force(versions, event.sequence)
    return None if version is None else version.filter


def subject_of(event: FeedEvent) -> str | None:
    """Return the endpoint that an operational event is about, None for any other event."""
    if event.type.startswith("endpoint."):
        return event.resource_id
    if event.type.startswith("delivery."):
        return _about_delivery.decode(event.body).data.endpoint_id
    return None


def decide(
    endpoint_id: str,
    versions: Sequence[Subscription],
    event: FeedEvent,
    subject: str | None,
) -> Decision:
    """Return what becomes of the event for one endpoint; `subject` is `subject_of(event)`, found once for all endpoints.

    A paused endpoint's rows are pending like an active one's: they wait because nobody claims them. One that is being enabled
    gets its ping and nothing else.
    """
    version = in_force(versions, event.sequence)
    if version is None or version.status == "deleted":
        return None
    if event.type == TEST_TYPE:
        wanted = subject == endpoint_id
    else:
        wanted = subject != endpoint_id and matches(version.event_types, event.type)
    if not wanted:
        return None
    if version.status == "enabling":
        return _PENDING if event.type == TEST_TYPE else _DISABLED
    return _DISABLED if version.status == "disabled" else _PENDING
