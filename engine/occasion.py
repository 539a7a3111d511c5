"""When and for whom a command is decided: what the pure core is handed instead of a clock and dice. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from engine.ids import IdSource


@dataclass(frozen=True, slots=True, kw_only=True)
class Occasion:
    """The site, the batch's instant in microseconds, and where ids come from."""

    site_id: int
    now_us: int
    ids: IdSource

    def draw(self) -> str:
        """Return a new id."""
        return self.ids.draw(self.now_us)
