"""What the audit says of the first thing that is wrong."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """The first thing that is wrong: which row of which table, and how."""

    table: str
    row: str
    detail: str
