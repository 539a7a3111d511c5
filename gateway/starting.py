"""Where a stream begins and what it lets through: the query parameters that SSE, WebSocket and the list share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from engine.cursors import parse_feed_cursor
from engine.databases import Site
from engine.errors import CursorExpired, CursorInvalid, Fault
from engine.events import EVENT_TYPES, RESOURCE_TYPES
from engine.feed import Head
from engine.filters import EventFilter
from engine.money import parse_instant
from gateway.call import Services
from gateway.frames import FILTER_PAIRS_MAX, SNAPSHOT, Reset, StreamFilter
from gateway.problems import Problem, invalid
from gateway.query import METADATA, Asked, Parameter

CURSOR_PARAMETER: Final = Parameter(
    name="cursor",
    kind="cursor",
    meaning="Where to resume: the events after this cursor. The Last-Event-ID header goes before it.",
    aliases=("last_event_id", "lastEventId"),
)
FROM_PARAMETER: Final = Parameter(
    name="from",
    kind="text",
    meaning="Where to start without a cursor: `start`, `now` (unless given), or a time.",
)
ON_EXPIRED_PARAMETER: Final = Parameter(
    name="on_expired",
    kind="choice",
    choices=("error", "reset"),
    meaning="A cursor that cannot be served is an `error`, unless given; or the stream begins at the head with a `reset`.",
)
TICKET_PARAMETER: Final = Parameter(
    name="ticket",
    kind="ticket",
    meaning="A stream ticket, for what cannot send a header. It goes before no other credential: send one.",
)
FILTER_PARAMETERS: Final = (
    Parameter(
        name="types",
        kind="text",
        meaning="Event types, comma separated; `entry.*` is a family, `*` is all.",
    ),
    Parameter(
        name="resource_type",
        kind="choice",
        choices=RESOURCE_TYPES,
        meaning="Only events about a resource of this type.",
    ),
    Parameter(name="resource_id", kind="id", meaning="Only events about this resource."),
    Parameter(
        name="account_id",
        kind="id",
        meaning="Only events that touch this account: its own, and entries with a line on it, before a change or after.",
    ),
    Parameter(name="ledger_id", kind="id", meaning="Only events in this ledger."),
    METADATA,
)
PLACE_PARAMETERS: Final = (CURSOR_PARAMETER, FROM_PARAMETER, ON_EXPIRED_PARAMETER, *FILTER_PARAMETERS)
FEEDS_MAX: Final = 16
"""So many feeds one connection of server-sent events has at most."""
PLACES: Final = "_"
"""What stands between the places of a cursor in several feeds; no feed's own cursor has it."""
TICKETS_PARAMETER: Final = Parameter(
    name="ticket",
    kind="ticket",
    repeated=FEEDS_MAX,
    meaning="A stream ticket, for what cannot send a header. It goes before no other credential. Given several times, each of "
    "another site: the feeds of all of them over this one connection, and a cursor is then their cursors in this order, joined "
    f"by `{PLACES}`.",
)
STREAM_PARAMETERS: Final = (*PLACE_PARAMETERS, TICKETS_PARAMETER)


class Start(Struct, frozen=True, kw_only=True):
    """Where a stream begins: its site, its position with that position's cursor, the feed's head, and what was lost before."""

    site: Site
    position: int
    cursor: str
    head: Head
    reset: Reset | None = None


def filter_asked(asked: Asked) -> EventFilter | None:
    """Return the filter of a query, None where it lets everything through; raises the problem of what names nothing."""
    types = asked.get("types")
    return filter_of(
        StreamFilter(
            types=None if types is None else types.split(","),
            resource_type=asked.get("resource_type"),
            resource_id=asked.get("resource_id"),
            account_id=asked.get("account_id"),
            ledger_id=asked.get("ledger_id"),
            metadata=dict(asked.metadata),
        ),
        "?{}",
    )


def filter_of(wanted: StreamFilter, pointer: str = "/filter/{}") -> EventFilter | None:
    """Return a filter as the feed is asked by it, None where it lets everything through.

    `pointer` says where in the request its members stand. Raises the problem of types that there are none of.
    """
    faults: list[Fault] = []
    types = None if wanted.types is None else _expand(wanted.types, pointer.format("types"), faults)
    if wanted.resource_type not in {None, *RESOURCE_TYPES}:
        detail = f"One of {', '.join(RESOURCE_TYPES)}."
        faults.append(Fault(code="validation.invalid_value", pointer=pointer.format("resource_type"), detail=detail))
    if len(wanted.metadata) > FILTER_PAIRS_MAX:
        detail = f"At most {FILTER_PAIRS_MAX} pairs."
        faults.append(Fault(code="validation.out_of_range", pointer=pointer.format("metadata"), detail=detail))
    if faults:
        raise invalid(faults)
    found = EventFilter(
        types=None if types is None or types == EVENT_TYPES else types,
        resource_type=wanted.resource_type,
        resource_id=wanted.resource_id,
        account_id=wanted.account_id,
        ledger_id=wanted.ledger_id,
        metadata=tuple(sorted(wanted.metadata.items())),
    )
    return None if found == EventFilter() else found


def narrowed(wanted: EventFilter | None, within: EventFilter | None) -> EventFilter | None:
    """Return the filter that lets through what both do; None is everything."""
    if wanted is None or within is None:
        return wanted or within
    return EventFilter(
        types=wanted.types,
        resource_type=wanted.resource_type,
        resource_id=wanted.resource_id,
        account_id=wanted.account_id,
        ledger_id=wanted.ledger_id,
        metadata=wanted.metadata,
        also=within,
    )


async def start_of(
    services: Services,
    site: Site,
    cursor: str | None,
    begin: str | None,
    on_expired: str | None,
    pointer: str = "?from",
) -> Start:
    """Return where a stream begins; raises CursorInvalid, CursorExpired, Unavailable, or the problem of a wrong `from`.

    With `on_expired` of `reset` a cursor of this feed's past that cannot be served begins at the head, and says so.
    """
    engine = services.engine
    if cursor is None:
        return await _begin(services, site, begin or "now", pointer)
    if not cursor.isascii():
        raise CursorInvalid("it is malformed")
    parse_feed_cursor(cursor)
    try:
        position, head = await engine.resolve(site, cursor)
    except (CursorExpired, CursorInvalid) as error:
        if on_expired != "reset":
            raise
        earliest, head = await engine.start(site)
        reset = Reset(
            reason="cursor.expired" if isinstance(error, CursorExpired) else "cursor.invalid",
            cursor=head.cursor(),
            earliest=earliest.cursor,
            head=head.cursor(),
            snapshot=SNAPSHOT,
        )
        return Start(site=site, position=head.sequence, cursor=head.cursor(), head=head, reset=reset)
    return Start(site=site, position=position, cursor=cursor, head=head)


async def starts_of(
    services: Services, sites: Sequence[Site], cursor: str | None, begin: str | None, on_expired: str | None
) -> list[Start]:
    """Return where a stream of several sites' feeds begins in each of them; raises what `start_of` does, and says of which feed.

    A cursor is the feeds' own in the order of the sites; one that has expired in some is told with places that are served in those.
    """
    if len(sites) == 1:
        return [await start_of(services, sites[0], cursor, begin, on_expired)]
    places: list[str | None] = [None] * len(sites) if cursor is None else [*cursor.split(PLACES)]
    if len(places) != len(sites):
        raise CursorInvalid(f"it holds places in {len(places)} feeds, and there are tickets of {len(sites)}")
    found: list[Start] = []
    expired: dict[int, CursorExpired] = {}
    for at, (site, place) in enumerate(zip(sites, places, strict=True)):
        try:
            found.append(await start_of(services, site, place, begin, on_expired))
        except CursorInvalid as error:
            raise CursorInvalid(f"in {feed_name(site)} {error.why}") from None
        except CursorExpired as error:
            expired[at] = error
    if expired:
        names = ", ".join(feed_name(sites[at]) for at in expired)
        told = {
            name: PLACES.join(
                getattr(expired[at], name) if at in expired else place or "" for at, place in enumerate(places)
            )
            for name in ("earliest", "head")
        }
        detail = f"The feed no longer serves the events after this cursor in {names}."
        raise Problem(code="cursor.expired", detail=detail, extra=told)
    return found


def feed_name(site: Site) -> str:
    """Return what a feed is called on a connection that has several."""
    return f"{site.organization}.{site.environment}"


async def _begin(services: Services, site: Site, begin: str, pointer: str) -> Start:
    engine = services.engine
    if begin == "now":
        head = await engine.head(site)
        return Start(site=site, position=head.sequence, cursor=head.cursor(), head=head)
    if begin == "start":
        place, head = await engine.start(site)
    else:
        try:
            at_us = parse_instant(begin)
        except ValueError:
            detail = "`from` is start, now, or an RFC 3339 time with an offset."
            raise invalid([Fault(code="validation.invalid_time", pointer=pointer, detail=detail)]) from None
        place, head = await engine.place_at(site, at_us)
    return Start(site=site, position=place.sequence, cursor=place.cursor, head=head)


def _expand(patterns: list[str], pointer: str, faults: list[Fault]) -> frozenset[str]:
    """Return the event types that patterns name, and note those that name none."""
    found: set[str] = set()
    unknown: list[str] = []
    for pattern in (each.strip() for each in patterns):
        family = pattern.removesuffix("*") if pattern.endswith(".*") else None
        matching = {each for each in EVENT_TYPES if pattern in {"*", each} or (family and each.startswith(family))}
        found |= matching
        if not matching:
            unknown.append(pattern[:60])
    if unknown:
        names = ", ".join(repr(each) for each in unknown[:10])
        faults.append(Fault(code="validation.invalid_value", pointer=pointer, detail=f"Not event types: {names}."))
    return frozenset(found)
