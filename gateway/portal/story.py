"""How something came about: the requests behind an event and behind the entry that it is about, read from the feed."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

import msgspec
from msgspec import Struct

from engine import queries
from engine.errors import NotFound
from engine.events import Envelope, FeedEvent
from engine.filters import EventFilter
from engine.shapes import Account, Entry
from gateway.portal.origin import Origin, diagnostics_of, origins_of
from gateway.portal.visit import Visit

BESIDE: Final = 30
"""How many events on either side of one are looked at for others of its request: one commit puts them next to each other."""
TOLD: Final = 30
"""How many events of an entry are looked at, the first ones."""

_ABOUT_ENTRIES: Final = frozenset({"entry", "hold"})
_envelope: Final = msgspec.json.Decoder(Envelope)


class Story(Struct, frozen=True, kw_only=True):
    """The entry that an event is about, as it is now, and the requests: that made it, and that led to this event."""

    entry: Entry | None
    accounts: dict[str, Account]
    made_by: Origin | None
    told_by: Origin | None


async def story_of(visit: Visit, envelope: Envelope) -> Story:
    """Return what led to an event."""
    if envelope.resource.type not in _ABOUT_ENTRIES:
        requests = _requests([envelope, *await _beside(visit, envelope)])
        return Story(entry=None, accounts={}, made_by=None, told_by=_behind(envelope, requests))
    about, entry, beside = await asyncio.gather(
        events_of(visit, envelope.resource.id), _entry(visit, envelope.resource.id), _beside(visit, envelope)
    )
    first = about[0] if about else envelope
    near = first.id == envelope.id or any(each.id == first.id for each in beside)
    accounts, before = await asyncio.gather(_accounts(visit, entry), _nothing() if near else _beside(visit, first))
    requests = _requests([*about, *beside, *before, envelope])
    return Story(
        entry=entry,
        accounts=accounts,
        made_by=None if entry is None else _behind(first, requests),
        told_by=_behind(envelope, requests),
    )


async def events_of(visit: Visit, resource_id: str) -> list[Envelope]:
    """Return the first events about a resource, in the feed's order."""
    wanted = EventFilter(resource_id=resource_id)
    found, _, _ = await visit.services.engine.read_matching(visit.site, 0, TOLD, wanted)
    return _read(found)


async def _beside(visit: Visit, envelope: Envelope) -> list[Envelope]:
    after = max(0, envelope.sequence - BESIDE - 1)
    found, _ = await visit.services.engine.read_after(visit.site, after, 2 * BESIDE + 1)
    return _read(found)


async def _entry(visit: Visit, entry_id: str) -> Entry | None:
    try:
        return (await visit.services.engine.ask(visit.site, queries.entry, entry_id)).value
    except NotFound:
        return None


async def _accounts(visit: Visit, entry: Entry | None) -> dict[str, Account]:
    if entry is None:
        return {}
    ids = sorted({line.account_id for line in entry.lines})
    return {each.id: each for each in (await visit.services.engine.ask(visit.site, queries.accounts_named, ids)).value}


async def _nothing() -> list[Envelope]:
    return []


def _requests(told: Sequence[Envelope]) -> dict[str, Origin]:
    found = {each.id: each for each in told}
    return {each.request_id: each for each in origins_of(list(found.values()))}


def _behind(envelope: Envelope, requests: dict[str, Origin]) -> Origin | None:
    found = diagnostics_of(envelope)
    return None if found is None or found.request_id is None else requests.get(found.request_id)


def _read(found: Sequence[FeedEvent]) -> list[Envelope]:
    return [_envelope.decode(each.body) for each in found]
