"""What the audit says of the first thing that is wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

import msgspec
from msgspec import Struct

T = TypeVar("T")

_UNREADABLE: Final = (ArithmeticError, LookupError, TypeError, ValueError, msgspec.MsgspecError)


class Finding(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The first thing that is wrong: which row of which table, and how."""

    table: str
    row: str
    detail: str


RIGHT: Final = Finding(table="", row="", detail="")
"""What a part of the audit says that finds nothing wrong."""


def readable(show: Callable[[], T]) -> T | None:
    """Return a stored thing as it is shown, or None where somebody wrote into it what cannot be."""
    try:
        return show()
    except _UNREADABLE:
        return None
