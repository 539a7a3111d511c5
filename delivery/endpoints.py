"""Webhook endpoints: register, list, change, pause, rotate the secret, test, remove.

Whatever changes what an endpoint receives takes the site's lock and is in force for the events after that moment's head.
Secrets are sealed before a transaction opens, shown once, and stored nowhere in clear, an idempotent answer included.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final

import msgspec
from msgspec import UNSET, UnsetType
from sqlalchemy import Connection

from delivery.breaker import Circuit
from delivery.egress import EgressPolicy
from delivery.errors import EndpointDisabled, EndpointLimitReached, EndpointNotFound
from delivery.facts import RecordFact
from delivery.order import reorder
from delivery.registration import Defaults as Defaults
from delivery.registration import check_registration, endpoint_fact, merge_change, new_endpoint
from delivery.rows import EndpointRow, Fact
from delivery.sealing import Sealer
from delivery.shapes import Endpoint, EndpointChange, EndpointCreate, RotateSecret, encode, show_endpoint
from delivery.store import endpoints as store
from delivery.store.deliveries import skip_waiting
from delivery.store.facts import insert_facts
from delivery.store.order import forget_keys
from delivery.store.replays import count_abandoned
from delivery.subscriptions import SKIPPED_DELETED
from delivery.vault import Vault
from engine import feed, idempotency
from engine.clock import Clock
from engine.databases import Databases, Site
from engine.errors import PreconditionFailed
from engine.events import TEST_TYPE
from engine.feed import Head
from engine.idempotency import Answer, IdempotencyKey
from engine.ids import IdSource

ENDPOINTS_MAX: Final = 1_000
OLD_SECRETS_MAX: Final = 5
"""How many replaced secrets go on signing at once; a rotation beyond that ends the oldest overlap early."""

_OFF: Final = frozenset({"disabled", "enabling"})

OnDue = Callable[[Site, str], None]
"""Told the site and the endpoint that has something due now; only a hint."""

Change = Callable[[Connection, EndpointRow, Head, int], EndpointRow]


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What a writing request is answered: the body's bytes, ETag and resource; `replayed` when it was answered before."""

    body: bytes
    resource_id: str
    lock_version: int
    replayed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointPage:
    """A page of endpoints, newest first, and the feed's head of the same snapshot, read before them."""

    data: list[Endpoint]
    has_more: bool
    head: Head


class Endpoints:
    """The use cases around webhook endpoints.

    Beside what each says they raise engine.errors.IdempotencyKeyReused for a key of another request, and
    engine.errors.PreconditionFailed where `if_match` is not the endpoint's `lock_version`.
    """

    def __init__(
        self,
        databases: Databases,
        *,
        clock: Clock,
        ids: IdSource,
        vault: Vault,
        egress: EgressPolicy,
        record_fact: RecordFact,
        defaults: Defaults | None = None,
        entropy: Callable[[int], bytes] = os.urandom,
        on_due: OnDue | None = None,
    ) -> None:
        self._databases = databases
        self._clock = clock
        self._ids = ids
        self._sealer = Sealer(vault, entropy)
        self._egress = egress
        self._record_fact = record_fact
        self._defaults = defaults or Defaults()
        self._on_due = on_due

    async def create(self, site: Site, draft: EndpointCreate, *, key: IdempotencyKey | None = None) -> Written:
        """Register an endpoint; it receives what is committed from now on. Raises InvalidEndpoint, EndpointLimitReached."""
        check_registration(self._egress, draft)
        now_us = self._clock.now_us()
        bare = new_endpoint(draft, self._ids.draw(now_us), self._defaults, now_us)
        shown, secret = await self._sealer.new_secret(site, bare.id, draft.signature or "v1")
        put = await self._sealer.given(site, bare.id, draft)
        row = replace(put(bare), secrets=(secret,))

        def write(conn: Connection) -> Written:
            head = feed.lock_head(conn, site.id)
            answered = self._answered(conn, site, key)
            if answered is not None:
                return answered
            if store.count_endpoints(conn, site.id) >= ENDPOINTS_MAX:
                raise EndpointLimitReached(ENDPOINTS_MAX)
            store.insert_endpoint(conn, site.id, row)
            store.put_subscription(conn, site.id, row.id, store.subscription_of(row, head.sequence), now_us)
            return self._answer(conn, site, row, shown, key)

        database = await self._databases.of(site)
        return await database.write(write, site_id=site.id)

    async def list(
        self,
        site: Site,
        *,
        limit: int,
        before: str | None = None,
        ascending: bool = False,
        metadata: Mapping[str, str] | None = None,
        containing: str | None = None,
    ) -> EndpointPage:
        """Return a page of endpoints; `before` is the id of the last one of the page before."""

        def read(conn: Connection) -> EndpointPage:
            head = feed.read_head(conn, site.id)
            rows = store.page_endpoints(
                conn,
                site.id,
                limit=limit + 1,
                before=before,
                ascending=ascending,
                metadata=metadata,
                containing=containing,
            )
            return EndpointPage(data=[self._show(row) for row in rows[:limit]], has_more=len(rows) > limit, head=head)

        database = await self._databases.of(site)
        return await database.read(read, site_id=site.id)

    async def get(self, site: Site, endpoint_id: str) -> Endpoint:
        """Return an endpoint; raises EndpointNotFound."""
        return self._show(await self._row(site, endpoint_id))

    async def change(
        self,
        site: Site,
        endpoint_id: str,
        change: EndpointChange,
        *,
        if_match: int | None = None,
    ) -> Endpoint:
        """Change what is given; raises EndpointNotFound, InvalidEndpoint."""
        check_registration(self._egress, change)
        put = await self._sealer.given(site, endpoint_id, change)

        def apply(conn: Connection, row: EndpointRow, head: Head, now_us: int) -> EndpointRow:
            merged = put(merge_change(row, change, self._defaults))
            merged = reorder(conn, site.id, row, merged, now_us)
            changed = replace(merged, lock_version=row.lock_version + 1, updated_at=now_us)
            store.save_endpoint(conn, site.id, changed)
            if (changed.event_types, changed.filter) != (row.event_types, row.filter):
                version = store.subscription_of(changed, head.sequence)
                store.put_subscription(conn, site.id, row.id, version, now_us)
            return changed

        return self._told(site, await self._transact(site, endpoint_id, apply, if_match=if_match))

    async def delete(self, site: Site, endpoint_id: str, *, if_match: int | None = None) -> None:
        """Remove an endpoint: what waits is skipped and keeps its numbers, its secrets are gone. Raises EndpointNotFound."""

        def apply(conn: Connection, row: EndpointRow, head: Head, now_us: int) -> EndpointRow:
            bare = replace(row, secrets=(), header_names=(), headers_sealed=None, tls=None, tls_key_sealed=None)
            removed = store.change_standing(
                conn,
                site.id,
                bare,
                status="deleted",
                reason=None,
                head=head.sequence,
                now_us=now_us,
            )
            count_abandoned(conn, site.id, row.id)
            skip_waiting(conn, site.id, row.id, SKIPPED_DELETED, now_us)
            forget_keys(conn, site.id, row.id)
            return removed

        await self._transact(site, endpoint_id, apply, if_match=if_match)

    async def pause(self, site: Site, endpoint_id: str, *, if_match: int | None = None) -> Endpoint:
        """Send nothing more until resumed; events go on being numbered and wait. Raises EndpointNotFound, EndpointDisabled."""
        return await self._set_status(site, endpoint_id, "paused", {"active"}, if_match)

    async def resume(self, site: Site, endpoint_id: str, *, if_match: int | None = None) -> Endpoint:
        """Send what waited and what comes. Raises EndpointNotFound, EndpointDisabled."""
        return await self._set_status(site, endpoint_id, "active", {"paused"}, if_match)

    async def enable(self, site: Site, endpoint_id: str, *, if_match: int | None = None) -> Endpoint:
        """Begin to enable a disabled endpoint: a ping goes to it through the feed, and when it passes the endpoint is active.

        One that is active or paused stays as it is; asked again while a ping is on its way, another follows it.
        Raises EndpointNotFound.
        """
        pings: list[Fact] = []

        def apply(conn: Connection, row: EndpointRow, head: Head, now_us: int) -> EndpointRow:
            if row.status not in _OFF:
                return row
            fresh = replace(row, circuit=Circuit())
            enabling = store.change_standing(
                conn,
                site.id,
                fresh,
                status="enabling",
                reason=row.status_reason,
                head=head.sequence,
                now_us=now_us,
            )
            pings.append(endpoint_fact(TEST_TYPE, enabling, f"enable-{enabling.lock_version}", self._show(enabling)))
            insert_facts(conn, site.id, pings, now_us)
            return enabling

        row = await self._transact(site, endpoint_id, apply, if_match=if_match)
        for ping in pings:
            # It is stored and would be handed over by the sweep; its key makes one event of both.
            await self._record_fact(site, ping)
        return self._told(site, row)

    async def rotate_secret(
        self,
        site: Site,
        endpoint_id: str,
        wanted: RotateSecret | None = None,
        *,
        key: IdempotencyKey | None = None,
        if_match: int | None = None,
    ) -> Written:
        """Give the endpoint a new secret; the old one goes on signing beside it for the overlap. Raises EndpointNotFound."""
        wanted = wanted or RotateSecret()
        version = wanted.signature or (await self._row(site, endpoint_id)).secrets[0].version
        shown, secret = await self._sealer.new_secret(site, endpoint_id, version)
        overlap_us = _or(wanted.overlap_s, self._defaults.secret_overlap_s) * 1_000_000

        def write(conn: Connection) -> Written:
            feed.lock_head(conn, site.id)
            answered = self._answered(conn, site, key)
            if answered is not None:
                return answered
            row = _lock_present(conn, site.id, endpoint_id, if_match)
            now_us = self._clock.now_us()
            ends = now_us + overlap_us
            old = [replace(one, expires_at=min(one.expires_at or ends, ends)) for one in row.signing_secrets(now_us)]
            still = old if ends > now_us else []
            rotated = replace(
                row,
                secrets=(secret, *still[:OLD_SECRETS_MAX]),
                lock_version=row.lock_version + 1,
                updated_at=now_us,
            )
            store.save_endpoint(conn, site.id, rotated)
            return self._answer(conn, site, rotated, shown, key)

        database = await self._databases.of(site)
        return await database.write(write, site_id=site.id)

    async def test(self, site: Site, endpoint_id: str, *, key: IdempotencyKey | None = None) -> None:
        """Record a test event for this endpoint alone; the same key records one. Raises EndpointNotFound, EndpointDisabled."""
        endpoint = await self.get(site, endpoint_id)
        if endpoint.status in _OFF:
            raise EndpointDisabled(endpoint_id)
        now_us = self._clock.now_us()
        once = self._ids.draw(now_us) if key is None else hashlib.sha256(key.key.encode() + key.fingerprint).hexdigest()
        fact = Fact(
            key=f"{TEST_TYPE}:{endpoint_id}:{once}",
            type=TEST_TYPE,
            resource_type="endpoint",
            resource_id=endpoint_id,
            data=encode(endpoint),
        )
        await self._record_fact(site, fact)

    async def _row(self, site: Site, endpoint_id: str) -> EndpointRow:
        database = await self._databases.of(site)
        row = await database.read(lambda conn: store.find_endpoint(conn, site.id, endpoint_id), site_id=site.id)
        if row is None:
            raise EndpointNotFound(endpoint_id)
        return row

    async def _set_status(
        self, site: Site, endpoint_id: str, status: str, allowed_from: set[str], if_match: int | None
    ) -> Endpoint:
        def apply(conn: Connection, row: EndpointRow, head: Head, now_us: int) -> EndpointRow:
            if row.status in _OFF:
                raise EndpointDisabled(endpoint_id)
            if row.status not in allowed_from:
                return row
            return store.change_standing(
                conn,
                site.id,
                replace(row, circuit=row.circuit.probe_now(now_us)),
                status=status,
                reason=None,
                head=head.sequence,
                now_us=now_us,
            )

        return self._told(site, await self._transact(site, endpoint_id, apply, if_match=if_match))

    async def _transact(
        self,
        site: Site,
        endpoint_id: str,
        change: Change,
        *,
        if_match: int | None = None,
    ) -> EndpointRow:
        def write(conn: Connection) -> EndpointRow:
            head = feed.lock_head(conn, site.id)
            row = _lock_present(conn, site.id, endpoint_id, if_match)
            return change(conn, row, head, self._clock.now_us())

        database = await self._databases.of(site)
        return await database.write(write, site_id=site.id)

    def _answered(self, conn: Connection, site: Site, key: IdempotencyKey | None) -> Written | None:
        if key is None:
            return None
        found = idempotency.find(conn, site.id, [key.key], self._clock.now_us())
        answer = idempotency.answer_for(found, key)
        if answer is None:
            return None
        return Written(
            body=answer.body,
            resource_id=answer.resource_id or "",
            lock_version=answer.lock_version or 0,
            replayed=True,
        )

    def _answer(
        self,
        conn: Connection,
        site: Site,
        row: EndpointRow,
        secret: str | None,
        key: IdempotencyKey | None,
    ) -> Written:
        shown = self._show(row)
        if key is not None:
            body = encode(msgspec.structs.replace(shown, secret=None))
            answer = Answer(body=body, resource_id=row.id, lock_version=row.lock_version)
            idempotency.store(conn, site.id, [(key, answer)], self._clock.now_us())
            feed.move_fence(conn, site.id)
        return Written(
            body=encode(msgspec.structs.replace(shown, secret=secret)),
            resource_id=row.id,
            lock_version=row.lock_version,
            replayed=False,
        )

    def _told(self, site: Site, row: EndpointRow) -> Endpoint:
        if self._on_due is not None and row.status == "active":
            self._on_due(site, row.id)
        return self._show(row)

    def _show(self, row: EndpointRow) -> Endpoint:
        return show_endpoint(row, self._defaults.policy())


def _or(given: int | UnsetType | None, default: int) -> int:
    return default if given is UNSET or given is None else given


def _lock_present(conn: Connection, site_id: int, endpoint_id: str, if_match: int | None) -> EndpointRow:
    row = store.lock_endpoints(conn, site_id, [endpoint_id]).get(endpoint_id)
    if row is None or row.status == "deleted":
        raise EndpointNotFound(endpoint_id)
    if if_match is not None and if_match != row.lock_version:
        raise PreconditionFailed(row.lock_version)
    return row
