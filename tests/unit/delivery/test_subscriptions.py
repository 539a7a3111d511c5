"""Who gets an event: patterns, the version in force, operational events, the relay's plan for a page."""

from __future__ import annotations

import msgspec
import pytest

from delivery.errors import UnknownEventTypes
from delivery.relay import plan_page
from delivery.subscriptions import (
    Pending,
    Skipped,
    Status,
    Subscription,
    decide,
    in_force,
    matches,
    subject_of,
    validate_patterns,
)
from engine.events import EVENT_TYPES, FeedEvent

ENDPOINT = "0199c7d3-a400-7000-8000-000000000001"
OTHER = "0199c7d3-a400-7000-8000-000000000002"


def event(event_type: str, sequence: int = 5, about: str = "x") -> FeedEvent:
    """Return an event; `about` is the endpoint that an operational one is about."""
    body = msgspec.json.encode({"data": {"id": "d", "endpoint_id": about}})
    return FeedEvent(sequence=sequence, id="e", type=event_type, resource_id=about, created_at=0, body=body, hash=b"")


def version(from_sequence: int = 1, *patterns: str, status: Status = "active") -> Subscription:
    """Return a version of a subscription."""
    return Subscription(from_sequence=from_sequence, event_types=patterns or ("*",), status=status)


@pytest.mark.parametrize(
    ("pattern", "event_type", "expected"),
    [("*", "entry.posted", True), ("entry.*", "entry.posted", True), ("entry.posted", "entry.posted", True),
     ("entry.*", "hold.created", False), ("entry.posted", "entry.created", False), ("entry.*", "entryx.posted", False),
     ("balance.*", "balance.threshold_crossed", True)],
)  # fmt: skip
def test_patterns_match_whole_families(pattern: str, event_type: str, expected: bool) -> None:
    """A family ends at its point; an exact type is only itself."""
    assert matches((pattern,), event_type) is expected


def test_every_event_type_can_be_named() -> None:
    """All types, all their families and the star are accepted."""
    families = {f"{one.split('.')[0]}.*" for one in EVENT_TYPES}
    validate_patterns(["*", *families, *EVENT_TYPES])


def test_unknown_patterns_are_all_named() -> None:
    """What matches nothing that exists is refused, every such pattern at once."""
    with pytest.raises(UnknownEventTypes) as refused:
        validate_patterns(["entry.posted", "entry.exploded", "payment.*"])
    assert refused.value.patterns == ("entry.exploded", "payment.*")


@pytest.mark.parametrize(("sequence", "expected"), [(2, None), (3, 3), (6, 3), (7, 7), (100, 7)])
def test_last_version_at_or_before_the_sequence_is_in_force(sequence: int, expected: int | None) -> None:
    """A version begins with its own sequence; before the first there is none."""
    found = in_force([version(3), version(7)], sequence)
    assert (found and found.from_sequence) == expected


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ("active", Pending()),
        ("paused", Pending()),
        ("disabled", Skipped(reason="endpoint_disabled")),
        ("deleted", None),
    ],
)
def test_status_in_force_decides(status: Status, expected: object) -> None:
    """Paused waits, disabled is numbered and skipped, deleted gets nothing."""
    assert decide(ENDPOINT, [version(status=status)], event("entry.posted"), None) == expected


def test_status_is_the_one_at_the_events_sequence() -> None:
    """An event from before a pause is decided as before it, however late it is read."""
    versions = [version(1), version(5, status="disabled"), version(8)]
    decisions = [decide(ENDPOINT, versions, event("entry.posted", at), None) for at in (4, 5, 7, 8)]
    assert decisions == [Pending(), *[Skipped(reason="endpoint_disabled")] * 2, Pending()]


@pytest.mark.parametrize(
    "event_type", ["endpoint.disabled", "endpoint.failing", "delivery.exhausted", "delivery.recovered"]
)
def test_no_endpoint_hears_about_itself(event_type: str) -> None:
    """Operational events go to everybody else who subscribed."""
    told = event(event_type, about=ENDPOINT)
    assert subject_of(told) == ENDPOINT
    assert decide(ENDPOINT, [version()], told, subject_of(told)) is None
    assert decide(OTHER, [version()], told, subject_of(told)) == Pending()


def test_test_event_goes_to_its_endpoint_alone() -> None:
    """It ignores what the endpoint subscribed to, and reaches nobody else, whatever they subscribed to."""
    told = event("endpoint.test", about=ENDPOINT)
    assert decide(ENDPOINT, [version(1, "hold.*")], told, subject_of(told)) == Pending()
    assert decide(OTHER, [version()], told, subject_of(told)) is None


def test_event_of_the_books_has_no_subject() -> None:
    """An entry's id is never taken for an endpoint's."""
    assert subject_of(event("entry.posted", about=ENDPOINT)) is None


def test_page_plan_equals_deciding_each_pair() -> None:
    """What the plan remembers between events never differs from asking for every event and endpoint."""
    versions = {
        ENDPOINT: [version(1, "entry.*"), version(4, "hold.*"), version(6, status="disabled")],
        OTHER: [version(3)],
    }
    types = ["entry.posted", "hold.created", "endpoint.disabled", "entry.posted", "hold.created", "endpoint.test"] * 2
    page = [event(one, at, about=(ENDPOINT, OTHER)[at % 2]) for at, one in enumerate(types, start=1)]
    expected = [
        [
            (endpoint_id, decision)
            for endpoint_id, several in versions.items()
            if (decision := decide(endpoint_id, several, one, subject_of(one))) is not None
        ]
        for one in page
    ]
    assert [recipients for _, recipients in plan_page(page, versions)] == expected


def test_page_ends_when_it_has_enough_deliveries() -> None:
    """However many endpoints there are, a transaction stays bounded, and at least one event moves."""
    versions = {ENDPOINT: [version()], OTHER: [version()]}
    page = [event("entry.posted", at) for at in range(1, 10)]
    assert len(plan_page(page, versions, rows_max=5)) == 3
    assert len(plan_page(page, versions, rows_max=1)) == 1
