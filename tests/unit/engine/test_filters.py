"""Which events a filter lets through, from what stands in their envelopes."""

from __future__ import annotations

from functools import partial
from typing import Any

import msgspec
import pytest

from engine.filters import EventFilter, about

ENTRY = "00000000-0000-7000-8000-000000000001"
ONE, TWO, OTHER = (f"00000000-0000-7000-8000-00000000001{number}" for number in range(3))
LEDGER = "00000000-0000-7000-8000-000000000020"


def body(data: Any, resource_type: str = "entry", resource_id: str = ENTRY, **fields: Any) -> bytes:
    """Return an envelope's bytes."""
    return msgspec.json.encode({"resource": {"type": resource_type, "id": resource_id}, "data": data, **fields})


POSTED = body(
    {"ledger_id": LEDGER, "lines": [{"account_id": ONE}, {"account_id": TWO}], "metadata": {"shop": "7", "a": 'ä"\\'}}
)


def lets(wanted: EventFilter, raw: bytes, event_type: str = "entry.posted") -> bool:
    """Tell whether a filter lets an event through; what it lets through must hold the filter's needles."""
    found = wanted.matches(event_type, partial(about, raw))
    for part in wanted.parts():
        assert not found or all(each in raw for each in part.needles())
    return found


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (EventFilter(), True),
        (EventFilter(types=frozenset({"entry.posted"})), True),
        (EventFilter(types=frozenset({"hold.created"})), False),
        (EventFilter(types=frozenset()), False),
        (EventFilter(resource_type="entry"), True),
        (EventFilter(resource_type="account"), False),
        (EventFilter(resource_id=ENTRY), True),
        (EventFilter(resource_id=ONE), False),
        (EventFilter(account_id=ONE), True),
        (EventFilter(account_id=TWO), True),
        (EventFilter(account_id=OTHER), False),
        (EventFilter(ledger_id=LEDGER), True),
        (EventFilter(ledger_id=ONE), False),
        (EventFilter(metadata=(("shop", "7"),)), True),
        (EventFilter(metadata=(("shop", "7"), ("a", 'ä"\\'))), True),
        (EventFilter(metadata=(("shop", "7"), ("a", "b"))), False),
        (EventFilter(metadata=(("7", "shop"),)), False),
        (EventFilter(account_id=ONE, ledger_id=OTHER), False),
        (EventFilter(account_id=ONE, also=EventFilter(account_id=TWO)), True),
        (EventFilter(account_id=ONE, also=EventFilter(account_id=OTHER)), False),
    ],
)
def test_everything_that_is_given_must_hold(wanted: EventFilter, expected: bool) -> None:
    """Types, resource, account, ledger and metadata are all asked, and a narrowed filter asks what it narrows too."""
    assert lets(wanted, POSTED) is expected


def test_an_account_is_touched_by_its_own_events_and_by_those_that_name_it() -> None:
    """Opened, changed, watched: no line is needed."""
    for raw in (body({}, "account", ONE), body({"account_id": ONE}, "monitor", OTHER)):
        assert lets(EventFilter(account_id=ONE), raw)
        assert not lets(EventFilter(account_id=TWO), raw)
    assert lets(EventFilter(ledger_id=LEDGER), body({}, "ledger", LEDGER))


def test_an_update_is_about_what_it_changed_from_too() -> None:
    """Whoever follows an account or a value hears of the entry that leaves it."""
    raw = body(
        {"lines": [{"account_id": ONE}], "metadata": {"shop": "7"}},
        previous={"lines": [{"account_id": TWO}], "metadata": {"shop": "8"}},
    )
    for account in (ONE, TWO):
        assert lets(EventFilter(account_id=account), raw, "entry.updated")
    for shop in ("7", "8"):
        assert lets(EventFilter(metadata=(("shop", shop),)), raw, "entry.updated")
    assert not lets(EventFilter(metadata=(("shop", "9"),)), raw, "entry.updated")


@pytest.mark.parametrize(
    "data", [{"lines": 7, "metadata": "x", "account_id": 3, "ledger_id": []}, {"lines": [1]}, None]
)
def test_data_of_another_shape_is_passed_over(data: Any) -> None:
    """An event that means something else by a name ends no stream."""
    assert not lets(EventFilter(account_id=ONE), body(data))
    assert lets(EventFilter(resource_type="entry"), body(data))
