"""How requests spell standing limits of balances: each balance once, a floor or a ceiling or both."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from msgspec import Meta, Struct

from engine.balances import Limit
from engine.errors import Fault
from gateway.problems import invalid
from gateway.wire import signed_amount_of

BalanceAmount = (
    Annotated[int, Meta(ge=-9_223_372_036_854_775_808, le=9_223_372_036_854_775_807, description="Minor units.")]
    | Annotated[str, Meta(pattern=r"^-?[0-9]{1,19}$(?!\n)", description="Minor units as a string of digits.")]
)


class LimitCreate(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A standing floor (`at_least`), a ceiling (`at_most`) or both under one balance."""

    balance: Literal["available", "pending", "posted"]
    at_least: BalanceAmount | None = None
    at_most: BalanceAmount | None = None


LimitList = Annotated[list[LimitCreate], Meta(max_length=3, description="At most one for each balance.")]


def limits_of(given: Sequence[LimitCreate]) -> tuple[Limit, ...]:
    """Return limits as the books take them; raises the problem of those that say nothing or contradict each other."""
    faults: list[Fault] = []
    found: list[Limit] = []
    for index, each in enumerate(given):
        pointer = f"/limits/{index}"
        low = None if each.at_least is None else signed_amount_of(each.at_least, f"{pointer}/at_least")
        high = None if each.at_most is None else signed_amount_of(each.at_most, f"{pointer}/at_most")
        if low is None and high is None:
            faults.append(_fault("validation.required_field_missing", pointer, "Give at_least, at_most or both."))
        if low is not None and high is not None and low > high:
            faults.append(_fault("validation.invalid_value", pointer, "at_least is above at_most."))
        if any(each.balance == before.balance for before in found):
            faults.append(_fault("validation.invalid_value", f"{pointer}/balance", "This balance has a limit already."))
        found.append(Limit(balance=each.balance, at_least=low, at_most=high))
    if faults:
        raise invalid(faults)
    return tuple(found)


def _fault(code: str, pointer: str, detail: str) -> Fault:
    return Fault(code=code, pointer=pointer, detail=detail)
