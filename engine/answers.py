"""What is kept of an answer: holes for what its events tell anyway, and the answer again from both. Pure.

An event is never changed or removed, and its data is never encoded twice: what fills a hole is what was there, to the byte.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

HOLE: Final = b"\x01"
"""Never raw in JSON, whose strings escape it: where an answer has one all the same, it is kept as it is."""
_BEGINNING: Final = 48
"""So much of an event's data is looked for: it begins with its resource's id, and to look for more takes longer."""
_REACH: Final = 8_192
"""So far it is looked for: what is between two entries of an answer is a comma, or the problems of some that were refused."""


def shorten(answer: bytes, told: Sequence[bytes]) -> tuple[bytes, int | None]:
    """Return the answer with holes for the data of events in a row, and which event is the first of them; None where none is.

    They begin with the first one whose data the answer has, and end before the first one whose data does not come next.
    """
    if answer in told:
        return HOLE, told.index(answer)
    if HOLE in answer:
        return answer, None
    first, at = None, 0
    between: list[bytes] = []
    for number, data in enumerate(told):
        found = answer.find(data[:_BEGINNING], at, at + _REACH)
        if found >= 0 and answer.startswith(data, found):
            first = number if first is None else first
            between.append(answer[at:found])
            at = found + len(data)
        elif first is not None:
            break
    return HOLE.join((*between, answer[at:])), first


def restore(kept: bytes, told: Sequence[bytes]) -> bytes:
    """Return the answer whose holes are filled with what the events tell, in order."""
    begin, *rest = kept.split(HOLE)
    return begin + b"".join(data + after for data, after in zip(told, rest, strict=True))
