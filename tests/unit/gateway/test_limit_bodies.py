"""Limits in a request: what contradicts itself is refused, naming where."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from engine.balances import Limit
from engine.money import AMOUNT_MAX
from gateway.limit_bodies import LimitCreate, limits_of
from gateway.problems import Problem


def read(*limits: dict[str, Any]) -> tuple[Limit, ...]:
    """Return limits as the books take them."""
    return limits_of(msgspec.convert(list(limits), list[LimitCreate]))


def test_floors_and_ceilings_are_integers_or_digits() -> None:
    """Either may be negative, and stand alone."""
    found = read(
        {"balance": "available", "at_least": -5},
        {"balance": "posted", "at_most": str(AMOUNT_MAX), "at_least": f"-{AMOUNT_MAX}"},
    )
    assert found == (
        Limit(balance="available", at_least=-5, at_most=None),
        Limit(balance="posted", at_least=-AMOUNT_MAX, at_most=AMOUNT_MAX),
    )


@pytest.mark.parametrize(
    ("limits", "code", "pointer"),
    [
        ([{"balance": "posted"}], "validation.required_field_missing", "/limits/0"),
        ([{"balance": "posted", "at_least": 2, "at_most": 1}], "validation.invalid_value", "/limits/0"),
        (
            [{"balance": "posted", "at_least": 2}, {"balance": "posted", "at_most": 1}],
            "validation.invalid_value",
            "/limits/1/balance",
        ),
        ([{"balance": "posted", "at_most": str(AMOUNT_MAX + 1)}], "amount_out_of_range", "/limits/0/at_most"),
        ([{"balance": "posted", "at_least": str(-AMOUNT_MAX - 2)}], "amount_out_of_range", "/limits/0/at_least"),
    ],
)
def test_a_limit_that_makes_no_sense_is_refused(limits: list[dict[str, Any]], code: str, pointer: str) -> None:
    """Nothing said, a floor above its ceiling, a balance twice, a number too large."""
    with pytest.raises(Problem) as refused:
        read(*limits)
    assert [(each.code, each.pointer) for each in refused.value.faults] == [(code, pointer)]
