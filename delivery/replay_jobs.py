"""Replays of many deliveries: count first, begin, look on, pause, resume, cancel. The worker goes on with them step by step.

A replay is rows in the database and nothing else, so that it survives whoever works on it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from msgspec import UNSET
from sqlalchemy import Connection

from delivery.errors import EndpointDisabled, EndpointNotFound, InvalidReplay, ReplayFinished, ReplayNotFound
from delivery.replay_shapes import (
    RATE_DEFAULT,
    CatchUp,
    Replay,
    ReplayCreate,
    ReplayFilter,
    ReplayPreview,
    ReplaySelection,
    ReplayShare,
    errors_of,
    show_replay,
    stored_selection,
)
from delivery.rows import EndpointRow, ReplayPart, ReplayRow
from delivery.shapes import encode
from delivery.store import replays as store
from delivery.store.deliveries import find_deliveries
from delivery.store.endpoints import find_endpoint, find_endpoints
from delivery.store.filters import Wanted
from delivery.subscriptions import validate_patterns, wanted_types
from engine import feed, idempotency
from engine.clock import Clock
from engine.databases import Databases, Site
from engine.errors import PreconditionFailed
from engine.feed import Head
from engine.idempotency import Answer, IdempotencyKey
from engine.ids import IdSource
from engine.money import parse_instant

OnReplay = Callable[[Site], None]
"""Told the site that has a replay to go on with; only a hint."""

_SENDABLE: Final = frozenset({"active", "paused"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """What a request that begins a replay is answered; `replayed` when it was answered before."""

    body: bytes
    replay_id: str
    replayed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayPage:
    """A page of replays, newest first, and the feed's head of the same snapshot, read before them."""

    data: list[Replay]
    has_more: bool
    head: Head


class Replays:
    """The use cases around replays."""

    def __init__(self, databases: Databases, *, clock: Clock, ids: IdSource, on_replay: OnReplay | None = None) -> None:
        self._databases = databases
        self._clock = clock
        self._ids = ids
        self._on_replay = on_replay

    async def preview(self, site: Site, draft: ReplayCreate) -> ReplayPreview:
        """Count what would be replayed. Raises InvalidReplay, UnknownEventTypes, EndpointNotFound, EndpointDisabled."""
        parts = await self._plan(site, draft.selection())
        shares = [ReplayShare(endpoint_id=part.endpoint_id, total=part.total) for part in parts]
        return ReplayPreview(total=sum(part.total for part in parts), endpoints=shares)

    async def create(self, site: Site, draft: ReplayCreate, *, key: IdempotencyKey | None = None) -> Begun:
        """Begin a replay; raises as `preview` does, and engine.errors.IdempotencyKeyReused."""
        selection = draft.selection()
        now_us = self._clock.now_us()
        database = await self._databases.of(site)
        if key is not None:
            # Answered again as it was, whatever became of its endpoints meanwhile.
            answered = await database.read(lambda conn: _answered(conn, site.id, key, now_us), site_id=site.id)
            if answered is not None:
                return answered
        parts = await self._plan(site, selection)
        replay_id = self._ids.draw(now_us)
        running = bool(parts)
        row = ReplayRow(
            id=replay_id,
            selection=stored_selection(selection),
            rate_per_s=RATE_DEFAULT if draft.rate_per_s is UNSET else draft.rate_per_s or RATE_DEFAULT,
            status="running" if running else "queued",
            due_at=now_us if running else None,
            lock_version=1,
            created_at=now_us,
            updated_at=now_us,
        )
        parts = [replace(part, replay_id=replay_id) for part in parts]

        def write(conn: Connection) -> Begun:
            if key is not None:
                # Two requests with one key wait for each other here.
                feed.lock_head(conn, site.id)
                answered = _answered(conn, site.id, key, now_us)
                if answered is not None:
                    return answered
            store.insert_replay(conn, site.id, row, parts)
            body = encode(show_replay(row, parts))
            if key is not None:
                answer = Answer(body=body, resource_id=replay_id, lock_version=row.lock_version)
                idempotency.store(conn, site.id, [(key, answer)], now_us)
                feed.move_fence(conn, site.id)
            return Begun(body=body, replay_id=replay_id, replayed=False)

        begun = await database.write(write, site_id=site.id)
        self._hint(site)
        return begun

    async def get(self, site: Site, replay_id: str) -> Replay:
        """Return one replay; raises ReplayNotFound."""

        def read(conn: Connection) -> Replay:
            return _shown(conn, site.id, _present(store.find_replay(conn, site.id, replay_id), replay_id))

        database = await self._databases.of(site)
        return await database.read(read, site_id=site.id)

    async def list(self, site: Site, *, limit: int, before: str | None = None, ascending: bool = False) -> ReplayPage:
        """Return a page of replays; `before` is the id of the last one of the page before."""

        def read(conn: Connection) -> ReplayPage:
            head = feed.read_head(conn, site.id)
            rows = store.page_replays(conn, site.id, limit=limit + 1, before=before, ascending=ascending)
            sums = store.sum_parts(conn, site.id, [row.id for row in rows[:limit]])
            data = [show_replay(row, [sums[row.id]] if row.id in sums else []) for row in rows[:limit]]
            return ReplayPage(data=data, has_more=len(rows) > limit, head=head)

        database = await self._databases.of(site)
        return await database.read(read, site_id=site.id)

    async def pause(self, site: Site, replay_id: str, *, if_match: int | None = None) -> Replay:
        """Queue nothing more until resumed. Raises ReplayNotFound, ReplayFinished."""
        return await self._steer(site, replay_id, "paused", if_match)

    async def resume(self, site: Site, replay_id: str, *, if_match: int | None = None) -> Replay:
        """Go on. Raises ReplayNotFound, ReplayFinished."""
        return await self._steer(site, replay_id, "running", if_match)

    async def cancel(self, site: Site, replay_id: str, *, if_match: int | None = None) -> Replay:
        """Queue nothing more for ever; what is queued is still sent. Raises ReplayNotFound, ReplayFinished."""
        return await self._steer(site, replay_id, "canceled", if_match)

    async def _steer(self, site: Site, replay_id: str, status: str, if_match: int | None) -> Replay:
        def write(conn: Connection) -> Replay:
            row = _present(store.find_replay(conn, site.id, replay_id, lock=True), replay_id)
            if if_match is not None and if_match != row.lock_version:
                raise PreconditionFailed(row.lock_version)
            if row.status in {"queued", "canceled"} and row.status != status:
                raise ReplayFinished(replay_id, _shown(conn, site.id, row).status)
            if row.status != status:
                now_us = self._clock.now_us()
                row = replace(
                    row,
                    status=status,
                    due_at=now_us if status == "running" else None,
                    lock_version=row.lock_version + 1,
                    updated_at=now_us,
                )
                store.save_replay(conn, site.id, row)
            return _shown(conn, site.id, row)

        database = await self._databases.of(site)
        steered = await database.write(write, site_id=site.id)
        self._hint(site)
        return steered

    async def _plan(self, site: Site, selection: ReplaySelection) -> Sequence[ReplayPart]:
        """Return the parts of a replay, each with what it would send now."""

        def read(conn: Connection) -> Sequence[ReplayPart]:
            if selection.delivery_ids is not UNSET:
                return _chosen(conn, site.id, selection.delivery_ids)
            if selection.filter is not UNSET:
                return _filtered(conn, site.id, selection.filter)
            assert selection.catch_up is not UNSET  # noqa: S101 - exactly one is there, ReplayCreate.selection saw to it
            return [_catching_up(conn, site.id, selection.catch_up)]

        database = await self._databases.of(site)
        return [part for part in await database.read(read, site_id=site.id) if part.total]

    def _hint(self, site: Site) -> None:
        if self._on_replay is not None:
            self._on_replay(site)


def _answered(conn: Connection, site_id: int, key: IdempotencyKey, now_us: int) -> Begun | None:
    answer = idempotency.answer_for(idempotency.find(conn, site_id, [key.key], now_us), key)
    return None if answer is None else Begun(body=answer.body, replay_id=answer.resource_id or "", replayed=True)


def wanted_of(given: ReplayFilter, endpoint_id: str | None = None) -> Wanted:
    """Return a filter as the store reads it, narrowed to one endpoint where that is named."""
    last = None if given.last_response is UNSET else given.last_response
    return Wanted(
        endpoint_id=endpoint_id or (None if given.endpoint_id is UNSET else given.endpoint_id),
        event_types=None if given.event_types is UNSET else wanted_types(given.event_types),
        states=None if given.status is UNSET else tuple(given.status),
        created_from=None if given.since is UNSET else parse_instant(given.since),
        created_to=None if given.until is UNSET else parse_instant(given.until),
        sequence_from=None if given.sequence_from is UNSET else given.sequence_from,
        sequence_to=None if given.sequence_to is UNSET else given.sequence_to,
        errors=errors_of(last, None if given.last_error is UNSET else given.last_error),
        event_id=None if given.event_id is UNSET else given.event_id,
        correlation_id=None if given.correlation_id is UNSET else given.correlation_id,
        answered={"2xx": True, "none": False}.get(last or ""),
    )


def _chosen(conn: Connection, site_id: int, delivery_ids: list[str]) -> list[ReplayPart]:
    found = find_deliveries(conn, site_id, delivery_ids)
    for place, delivery_id in enumerate(delivery_ids):
        if delivery_id not in found:
            raise InvalidReplay(f"/delivery_ids/{place}", f"there is no delivery {delivery_id}")
    numbers: dict[str, set[int]] = {}
    for row in found.values():
        numbers.setdefault(row.endpoint_id, set()).add(row.endpoint_sequence)
    present = find_endpoints(conn, site_id, list(numbers))
    parts = []
    for endpoint_id, several in sorted(numbers.items()):
        _sendable(present.get(endpoint_id), endpoint_id)
        ordered = tuple(sorted(several))
        parts.append(_new_part(endpoint_id, ordered[0] - 1, ordered[-1], len(ordered), ordered))
    return parts


def _filtered(conn: Connection, site_id: int, given: ReplayFilter) -> list[ReplayPart]:
    if given.event_types is not UNSET:
        validate_patterns(given.event_types)
    if given.endpoint_id is not UNSET:
        _sendable(find_endpoint(conn, site_id, given.endpoint_id), given.endpoint_id)
    shares = store.count_wanted(conn, site_id, wanted_of(given))
    present: Mapping[str, EndpointRow] = find_endpoints(conn, site_id, list(shares))
    return [
        _new_part(endpoint_id, share.first - 1, share.last, share.total)
        for endpoint_id, share in sorted(shares.items())
        if endpoint_id in present and present[endpoint_id].status in _SENDABLE
    ]


def _catching_up(conn: Connection, site_id: int, given: CatchUp) -> ReplayPart:
    endpoint = _sendable(find_endpoint(conn, site_id, given.endpoint_id), given.endpoint_id)
    head = feed.read_head(conn, site_id)
    after = 0 if given.after is UNSET else feed.resolve_cursor(conn, site_id, head, given.after, 0)
    types = wanted_types(endpoint.event_types)
    total = store.count_unnumbered(conn, site_id, endpoint.id, types, after, head.sequence)
    return _new_part(endpoint.id, after, head.sequence, total)


def _sendable(row: EndpointRow | None, endpoint_id: str) -> EndpointRow:
    if row is None or row.status == "deleted":
        raise EndpointNotFound(endpoint_id)
    if row.status not in _SENDABLE:
        raise EndpointDisabled(endpoint_id)
    return row


def _new_part(
    endpoint_id: str, position: int, until: int, total: int, numbers: tuple[int, ...] | None = None
) -> ReplayPart:
    return ReplayPart(
        replay_id="", endpoint_id=endpoint_id, position=position, until=until, numbers=numbers, total=total
    )


def _present(row: ReplayRow | None, replay_id: str) -> ReplayRow:
    if row is None:
        raise ReplayNotFound(replay_id)
    return row


def _shown(conn: Connection, site_id: int, row: ReplayRow) -> Replay:
    return show_replay(row, list(store.sum_parts(conn, site_id, [row.id]).values()))
