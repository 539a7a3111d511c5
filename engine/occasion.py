"""When and for whom a command is decided: what the pure core is handed instead of a clock and dice. Pure."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from msgspec import Struct

from engine.errors import Refused
from engine.ids import IdSource


def plainly(refused: Refused) -> bytes:
    """Return what a refusal says, as JSON: how it is told where nobody knows better."""
    fault = {"code": type(refused).__name__, "pointer": refused.pointer, "detail": refused.detail}
    return msgspec.json.encode({"code": type(refused).__name__, "detail": refused.detail, "errors": [fault]})


class Occasion(Struct, frozen=True, kw_only=True):
    """The site, the batch's instant in microseconds, where ids come from, and how a refusal is told to a client."""

    site_id: int
    now_us: int
    ids: IdSource
    describe: Callable[[Refused], bytes] = plainly

    def draw(self) -> str:
        """Return a new id."""
        return self.ids.draw(self.now_us)
