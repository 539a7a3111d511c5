"""How something came about: the requests behind an event and behind the entry that it is about, read from the feed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """The entry that an event is about, as it is now, and the requests: that made it, and that led to this event."""

    entry: Entry | None
    accounts: dict[str, Account]
    made_by: Origin | None
    told_by: Origin | None


async def story_of(visit: Visit, envelope: Envelope) -> Story:
    """Return what led to an event."""
    about = [envelope]
    entry = None
    if envelope.resource.type in _ABOUT_ENTRIES:
        about, entry = await events_of(visit, envelope.resource.id), await _entry(visit, envelope.resource.id)
    first = about[0] if about else envelope
    beside = [*await _beside(visit, envelope), *([] if first is envelope else await _beside(visit, first))]
    found = {each.id: each for each in (*about, *beside, envelope)}
    requests = {each.request_id: each for each in origins_of(list(found.values()))}
    return Story(
        entry=entry,
        accounts={} if entry is None else await _accounts(visit, entry),
        made_by=None if entry is None else _behind(first, requests),
        told_by=_behind(envelope, requests),
    )


async def events_of(visit: Visit, resource_id: str) -> list[Envelope]:
    """Return the first events about a resource, in the feed's order."""
    wanted = EventFilter(resource_id=resource_id)
    start, _ = await visit.services.engine.start(visit.site)
    found, _, _ = await visit.services.engine.read_matching(visit.site, start.sequence, TOLD, wanted)
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


async def _accounts(visit: Visit, entry: Entry) -> dict[str, Account]:
    ids = sorted({line.account_id for line in entry.lines})
    return {each.id: each for each in (await visit.services.engine.ask(visit.site, queries.accounts_named, ids)).value}


def _behind(envelope: Envelope, requests: dict[str, Origin]) -> Origin | None:
    found = diagnostics_of(envelope)
    return None if found is None or found.request_id is None else requests.get(found.request_id)


def _read(found: Sequence[FeedEvent]) -> list[Envelope]:
    return [_envelope.decode(each.body) for each in found]
