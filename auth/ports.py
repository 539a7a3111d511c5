"""What this package is handed: a database to run functions in, ids, chance. It opens and draws nothing itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeAlias, TypeVar

from sqlalchemy import Connection

T = TypeVar("T")

Entropy: TypeAlias = Callable[[int], bytes]
"""Returns that many unpredictable bytes, as `os.urandom` does."""

Clock: TypeAlias = Callable[[], int]
"""Returns the present instant in microseconds since the epoch."""


class ControlDatabase(Protocol):
    """The database of organizations and credentials: runs a synchronous function in one transaction."""

    async def read(self, run: Callable[[Connection], T]) -> T:
        """Run a function that only reads, over one snapshot."""

    async def write(self, run: Callable[[Connection], T]) -> T:
        """Run a function in one transaction: committed when it returns, rolled back when it raises."""


class IdSource(Protocol):
    """Where ids come from."""

    def draw(self, now_us: int) -> str:
        """Return the next UUIDv7 for an instant in microseconds."""
