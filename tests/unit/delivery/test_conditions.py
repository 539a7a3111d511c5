"""Filters on what an event says: what each comparison means, where a path leads, and what is refused as a filter."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from delivery.conditions import CONDITIONS_MAX, DEPTH_MAX, Filter, check_filter, fulfils
from delivery.errors import InvalidFilter

EVENT: Any = {
    "type": "entry.posted",
    "data": {
        "metadata": {"region": "eu", "a/b": "1", "m~n": "2"},
        "lines": [{"amount": 100, "currency": "USD"}, {"amount": 250, "currency": "EUR"}],
        "description": None,
        "open": True,
        "ratio": 1.0,
    },
}


def read(text: dict[str, Any]) -> Filter:
    """Return a filter as it comes over the wire, accepted."""
    found = msgspec.convert(text, Filter)
    check_filter(found)
    return found


@pytest.mark.parametrize(
    ("condition", "fits"),
    [
        ({"path": "/type", "equals": "entry.posted"}, True),
        ({"path": "/type", "equals": "entry.created"}, False),
        ({"path": "/data/metadata/region", "in": ["us", "eu"]}, True),
        ({"path": "/data/metadata/region", "in": ["us"]}, False),
        ({"path": "/data/metadata/a~1b", "equals": "1"}, True),
        ({"path": "/data/metadata/m~0n", "equals": "2"}, True),
        ({"path": "/data/lines/0/amount", "equals": 100}, True),
        ({"path": "/data/lines/2/amount", "exists": False}, True),
        ({"path": "/data/lines/*/amount", "gt": 200}, True),
        ({"path": "/data/lines/*/amount", "gt": 250}, False),
        ({"path": "/data/lines/*/amount", "gte": 250}, True),
        ({"path": "/data/lines/*/amount", "lt": 100}, False),
        ({"path": "/data/lines/*/amount", "lte": 100}, True),
        ({"path": "/data/lines/*/amount", "lte": "100"}, False),
        ({"path": "/data/metadata/*", "equals": "eu"}, True),
        ({"path": "/data/description", "equals": None}, True),
        ({"path": "/data/missing", "equals": None}, False),
        ({"path": "/data/description", "exists": True}, True),
        ({"path": "/data/missing", "exists": True}, False),
        ({"path": "/data/open", "equals": True}, True),
        ({"path": "/data/open", "equals": 1}, False),
        ({"path": "/data/ratio", "equals": 1}, True),
        ({"path": "/data/ratio", "equals": True}, False),
        ({"path": "/data/open", "gt": 0}, False),
        ({"path": "/type", "prefix": "entry."}, True),
        ({"path": "/data/lines", "prefix": "e"}, False),
        ({"path": "/type/deeper", "exists": True}, False),
        ({"path": "/type", "gte": "entry.a"}, True),
        ({"not": {"path": "/type", "equals": "entry.posted"}}, False),
        ({"all": [{"path": "/type", "exists": True}, {"path": "/data/open", "equals": False}]}, False),
        ({"any": [{"path": "/type", "exists": False}, {"path": "/data/open", "equals": True}]}, True),
    ],
)
def test_a_condition_means_what_it_says(condition: dict[str, Any], fits: bool) -> None:
    """True is not 1, null is not missing, texts and numbers do not compare, one element that fits is enough."""
    assert fulfils(read(condition), EVENT) is fits


def _nested(depth: int) -> dict[str, Any]:
    leaf: dict[str, Any] = {"path": "/type", "exists": True}
    for _ in range(depth - 1):
        leaf = {"not": leaf}
    return leaf


@pytest.mark.parametrize(
    ("condition", "pointer"),
    [
        ({}, "/filter"),
        ({"path": "/type"}, "/filter"),
        ({"equals": 1}, "/filter"),
        ({"path": "/type", "equals": "a", "prefix": "a"}, "/filter"),
        ({"path": "/type", "equals": "a", "all": [{"path": "/a", "exists": True}]}, "/filter"),
        ({"all": [{"path": "/a", "exists": True}], "equals": 1}, "/filter"),
        ({"all": [{"path": "/a", "exists": True}, {"path": "/a"}]}, "/filter/all/1"),
        ({"any": [{"not": {"gt": 1}}]}, "/filter/any/0/not"),
        ({"path": "/a" * 17, "exists": True}, "/filter/path"),
        ({"path": "/*/*/*", "exists": True}, "/filter/path"),
        (_nested(DEPTH_MAX + 1), "/filter/not/not/not/not"),
        ({"all": [{"any": [{"path": "/a", "exists": True}] * 49}] * 2}, "/filter"),
    ],
)
def test_what_is_no_filter_is_refused_at_its_place(condition: dict[str, Any], pointer: str) -> None:
    """Exactly one thing is said at each place, and a filter is bounded in every direction."""
    with pytest.raises(InvalidFilter) as refused:
        read(condition)
    assert refused.value.pointer == pointer


def test_a_filter_may_be_as_large_as_is_said() -> None:
    """The limits themselves are allowed."""
    read(_nested(DEPTH_MAX))
    read({"all": [{"path": "/a", "exists": True}] * (CONDITIONS_MAX - 1)})


@pytest.mark.parametrize(
    "text",
    [{"path": "type", "exists": True}, {"path": "/a\x00", "exists": True}, {"all": []}, {"path": "/a", "like": "x"}],
)
def test_what_has_not_the_form_of_a_filter_does_not_decode(text: dict[str, Any]) -> None:
    """The shape refuses what the grammar does not know."""
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(text, Filter)
