"""Which events somebody wants: by type, by what they are about, by the account, ledger or metadata they touch. Pure.

The list, the streams and their tickets all ask this. What an event is about stands in its envelope; it is decoded once, and
only where a filter asks for it. `needles` are byte strings that every matching body holds: a store may look for them first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

import msgspec
from msgspec import Struct


class About(Struct, frozen=True, kw_only=True):
    """What an event is about: its resource, the accounts and ledgers it touches, the metadata it has and had."""

    resource_type: str
    resource_id: str
    accounts: frozenset[str]
    ledgers: frozenset[str]
    metadata: tuple[dict[str, object], ...]


class EventFilter(Struct, frozen=True, kw_only=True):
    """What lets an event through: everything that is given must hold, and so must `also`, the filter this one narrows."""

    types: frozenset[str] | None = None
    resource_type: str | None = None
    resource_id: str | None = None
    account_id: str | None = None
    ledger_id: str | None = None
    metadata: tuple[tuple[str, str], ...] = ()
    also: EventFilter | None = None

    def parts(self) -> Iterator[EventFilter]:
        """Return this filter and what it narrows."""
        yield self
        if self.also is not None:
            yield from self.also.parts()

    def matches(self, event_type: str, about: Callable[[], About]) -> bool:
        """Tell whether an event is let through; `about` is asked only where its type does not decide."""
        if self.types is not None and event_type not in self.types:
            return False
        if self.needles() and not self._lets(about()):
            return False
        return self.also is None or self.also.matches(event_type, about)

    def needles(self) -> list[bytes]:
        """Return what the body of every event that is let through holds, besides what columns say; `also` has its own."""
        found = [each.encode() for each in (self.resource_id, self.account_id, self.ledger_id) if each is not None]
        if self.resource_type is not None:
            found.append(b'"resource":{"type":' + _encode(self.resource_type))
        return found + [_encode(name) + b":" + _encode(value) for name, value in self.metadata]

    def _lets(self, about: About) -> bool:
        return (
            self.resource_type in {None, about.resource_type}
            and self.resource_id in {None, about.resource_id}
            and (self.account_id is None or self.account_id in about.accounts)
            and (self.ledger_id is None or self.ledger_id in about.ledgers)
            and (not self.metadata or any(self._describes(each) for each in about.metadata))
        )

    def _describes(self, metadata: dict[str, object]) -> bool:
        return all(metadata.get(name) == value for name, value in self.metadata)


def about(body: bytes) -> About:
    """Return what the event with this envelope is about.

    An update is about what it changed from as well: whoever follows an account hears of the entry that leaves it.
    """
    event = _DECODER.decode(body)
    resource = event.resource
    sides = [each for each in (event.data, event.previous) if each is not None]
    lines = [line for side in sides if isinstance(side.lines, list) for line in side.lines if isinstance(line, dict)]
    accounts = [*(line.get("account_id") for line in lines), *(side.account_id for side in sides)]
    ledgers = [side.ledger_id for side in sides]
    if resource.type == "account":
        accounts.append(resource.id)
    if resource.type == "ledger":
        ledgers.append(resource.id)
    return About(
        resource_type=resource.type,
        resource_id=resource.id,
        accounts=frozenset(each for each in accounts if isinstance(each, str)),
        ledgers=frozenset(each for each in ledgers if isinstance(each, str)),
        metadata=tuple(side.metadata for side in sides if isinstance(side.metadata, dict)),
    )


class _Resource(msgspec.Struct, frozen=True):
    type: str
    id: str


class _Side(msgspec.Struct, frozen=True):
    # Of any type: what an event of a kind yet to come has under these names may be something else.
    account_id: Any = None
    ledger_id: Any = None
    lines: Any = None
    metadata: Any = None


class _Event(msgspec.Struct, frozen=True):
    resource: _Resource
    data: _Side | None = None
    previous: _Side | None = None


_DECODER: Final = msgspec.json.Decoder(_Event)
_encode: Final = msgspec.json.Encoder().encode
