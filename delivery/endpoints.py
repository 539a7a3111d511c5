"""Webhook endpoints: register, list, change, pause, rotate the secret, test, remove.

Whatever changes what an endpoint receives takes the site's lock and is in force for the events after that moment's head.
Secrets are sealed before a transaction opens, shown once, and stored nowhere in clear, an idempotent answer included.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import msgspec
from msgspec import UNSET
from sqlalchemy import Connection

from delivery.breaker import Circuit
from delivery.egress import EgressPolicy
from delivery.errors import EndpointDisabled, EndpointLimitReached, EndpointNotFound
from delivery.facts import RecordFact
from delivery.order import reorder
from delivery.order_keys import check_ordering
from delivery.registration import Defaults as Defaults
from delivery.registration import check_registration, endpoint_fact, merge_change
from delivery.rows import EndpointRow, Fact, StoredSecret
from delivery.shapes import Endpoint, EndpointChange, EndpointCreate, encode, show_endpoint
from delivery.signing import SECRET_BYTES, format_secret
from delivery.store import endpoints as store
from delivery.store.deliveries import skip_waiting
from delivery.store.facts import insert_facts
from delivery.store.order import forget_keys
from delivery.store.replays import count_abandoned
from delivery.subscriptions import SKIPPED_DELETED
from delivery.vault import HEADERS_COLUMN, SECRET_COLUMN, TABLE, Vault, site_name
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
        self._vault = vault
        self._egress = egress
        self._record_fact = record_fact
        self._defaults = defaults or Defaults()
        self._entropy = entropy
        self._on_due = on_due

    async def create(self, site: Site, draft: EndpointCreate, *, key: IdempotencyKey | None = None) -> Written:
        """Register an endpoint; it receives what is committed from now on. Raises InvalidEndpoint, EndpointLimitReached."""
        check_registration(self._egress, draft.url, draft.event_types, draft.headers)
        check_ordering(draft.ordering, draft.ordering_key)
        now_us = self._clock.now_us()
        secret = self._entropy(SECRET_BYTES)
        endpoint_id = self._ids.draw(now_us)
        row = EndpointRow(
            id=endpoint_id,
            url=draft.url,
            description=draft.description,
            metadata=draft.metadata,
            event_types=tuple(draft.event_types),
            header_names=tuple(draft.headers),
            headers_sealed=await self._seal_headers(site, endpoint_id, draft.headers),
            secrets=(StoredSecret(sealed=await self._seal_secret(site, endpoint_id, secret), expires_at=None),),
            timeout_s=draft.timeout_s or self._defaults.timeout_s,
            max_in_flight=draft.max_in_flight or self._defaults.max_in_flight,
            ordering=draft.ordering,
            ordering_key=draft.ordering_key,
            on_exhausted=draft.on_exhausted,
            rate_limit=draft.rate_limit,
            retry_schedule=None if draft.retry_schedule is None else tuple(draft.retry_schedule),
            status="active",
            status_reason=None,
            last_sequence=0,
            failing_since=None,
            exhausted_since=0,
            circuit=Circuit(),
            ordering_from=0,
            passed_over=0,
            rate_next_at=None,
            lock_version=1,
            created_at=now_us,
            updated_at=now_us,
        )

        def write(conn: Connection) -> Written:
            head = feed.lock_head(conn, site.id)
            answered = self._answered(conn, site, key)
            if answered is not None:
                return answered
            if store.count_endpoints(conn, site.id) >= ENDPOINTS_MAX:
                raise EndpointLimitReached(ENDPOINTS_MAX)
            store.insert_endpoint(conn, site.id, row)
            store.put_subscription(conn, site.id, row.id, store.subscription_of(row, head.sequence), now_us)
            return self._answer(conn, site, row, secret, key)

        database = await self._databases.of(site)
        return await database.write(write, site_id=site.id)

    async def list(self, site: Site, *, limit: int, before: str | None = None) -> EndpointPage:
        """Return a page of endpoints; `before` is the id of the last one of the page before."""

        def read(conn: Connection) -> EndpointPage:
            head = feed.read_head(conn, site.id)
            rows = store.page_endpoints(conn, site.id, limit=limit + 1, before=before)
            return EndpointPage(data=[self._show(row) for row in rows[:limit]], has_more=len(rows) > limit, head=head)

        database = await self._databases.of(site)
        return await database.read(read, site_id=site.id)

    async def get(self, site: Site, endpoint_id: str) -> Endpoint:
        """Return an endpoint; raises EndpointNotFound."""
        database = await self._databases.of(site)
        row = await database.read(lambda conn: store.find_endpoint(conn, site.id, endpoint_id), site_id=site.id)
        if row is None:
            raise EndpointNotFound(endpoint_id)
        return self._show(row)

    async def change(
        self,
        site: Site,
        endpoint_id: str,
        change: EndpointChange,
        *,
        if_match: int | None = None,
    ) -> Endpoint:
        """Change what is given; raises EndpointNotFound, InvalidEndpoint."""
        headers = change.headers
        check_registration(self._egress, change.url, change.event_types, {} if headers is UNSET else headers)
        sealed = None if headers is UNSET else await self._seal_headers(site, endpoint_id, headers)

        def apply(conn: Connection, row: EndpointRow, head: Head, now_us: int) -> EndpointRow:
            merged = merge_change(row, change, self._defaults)
            if headers is not UNSET:
                merged = replace(merged, header_names=tuple(headers), headers_sealed=sealed)
            merged = reorder(conn, site.id, row, merged, now_us)
            changed = replace(merged, lock_version=row.lock_version + 1, updated_at=now_us)
            store.save_endpoint(conn, site.id, changed)
            if changed.event_types != row.event_types:
                version = store.subscription_of(changed, head.sequence)
                store.put_subscription(conn, site.id, row.id, version, now_us)
            return changed

        return self._told(site, await self._transact(site, endpoint_id, apply, if_match=if_match))

    async def delete(self, site: Site, endpoint_id: str, *, if_match: int | None = None) -> None:
        """Remove an endpoint: what waits is skipped and keeps its numbers, its secrets are gone. Raises EndpointNotFound."""

        def apply(conn: Connection, row: EndpointRow, head: Head, now_us: int) -> EndpointRow:
            bare = replace(row, secrets=(), header_names=(), headers_sealed=None)
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

    async def pause(self, site: Site, endpoint_id: str) -> Endpoint:
        """Send nothing more until resumed; events go on being numbered and wait. Raises EndpointNotFound, EndpointDisabled."""
        return await self._set_status(site, endpoint_id, "paused", {"active"})

    async def resume(self, site: Site, endpoint_id: str) -> Endpoint:
        """Send what waited and what comes. Raises EndpointNotFound, EndpointDisabled."""
        return await self._set_status(site, endpoint_id, "active", {"paused"})

    async def enable(self, site: Site, endpoint_id: str) -> Endpoint:
        """Make a disabled endpoint active again; one that is not disabled stays as it is. Raises EndpointNotFound."""

        def apply(conn: Connection, row: EndpointRow, head: Head, now_us: int) -> EndpointRow:
            if row.status != "disabled":
                return row
            healthy = replace(row, failing_since=None, circuit=Circuit())
            enabled = store.change_standing(
                conn,
                site.id,
                healthy,
                status="active",
                reason=None,
                head=head.sequence,
                now_us=now_us,
            )
            fact = endpoint_fact("endpoint.enabled", enabled, str(enabled.lock_version), self._show(enabled))
            insert_facts(conn, site.id, [fact], now_us)
            return enabled

        return self._told(site, await self._transact(site, endpoint_id, apply))

    async def rotate_secret(
        self,
        site: Site,
        endpoint_id: str,
        *,
        key: IdempotencyKey | None = None,
        overlap_s: int | None = None,
    ) -> Written:
        """Give the endpoint a new secret; the old one goes on signing beside it for the overlap. Raises EndpointNotFound."""
        secret = self._entropy(SECRET_BYTES)
        sealed = await self._seal_secret(site, endpoint_id, secret)
        overlap_us = (self._defaults.secret_overlap_s if overlap_s is None else overlap_s) * 1_000_000

        def write(conn: Connection) -> Written:
            feed.lock_head(conn, site.id)
            answered = self._answered(conn, site, key)
            if answered is not None:
                return answered
            row = _lock_present(conn, site.id, endpoint_id)
            now_us = self._clock.now_us()
            ends = now_us + overlap_us
            still = [one for one in row.secrets if (one.expires_at or ends) > now_us]
            old = [replace(one, expires_at=min(one.expires_at or ends, ends)) for one in still]
            rotated = replace(
                row,
                secrets=(StoredSecret(sealed=sealed, expires_at=None), *old[:OLD_SECRETS_MAX]),
                lock_version=row.lock_version + 1,
                updated_at=now_us,
            )
            store.save_endpoint(conn, site.id, rotated)
            return self._answer(conn, site, rotated, secret, key)

        database = await self._databases.of(site)
        return await database.write(write, site_id=site.id)

    async def test(self, site: Site, endpoint_id: str, *, key: IdempotencyKey | None = None) -> None:
        """Record a test event for this endpoint alone; the same key records one. Raises EndpointNotFound, EndpointDisabled."""
        endpoint = await self.get(site, endpoint_id)
        if endpoint.status == "disabled":
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

    async def _set_status(self, site: Site, endpoint_id: str, status: str, allowed_from: set[str]) -> Endpoint:
        def apply(conn: Connection, row: EndpointRow, head: Head, now_us: int) -> EndpointRow:
            if row.status == "disabled":
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

        return self._told(site, await self._transact(site, endpoint_id, apply))

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
            row = _lock_present(conn, site.id, endpoint_id)
            if if_match is not None and if_match != row.lock_version:
                raise PreconditionFailed(row.lock_version)
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
        secret: bytes,
        key: IdempotencyKey | None,
    ) -> Written:
        shown = self._show(row)
        if key is not None:
            body = encode(msgspec.structs.replace(shown, secret=None))
            answer = Answer(body=body, resource_id=row.id, lock_version=row.lock_version)
            idempotency.store(conn, site.id, [(key, answer)], self._clock.now_us())
        return Written(
            body=encode(msgspec.structs.replace(shown, secret=format_secret(secret))),
            resource_id=row.id,
            lock_version=row.lock_version,
            replayed=False,
        )

    async def _seal_secret(self, site: Site, endpoint_id: str, secret: bytes) -> bytes:
        return await self._vault.seal(secret, table=TABLE, column=SECRET_COLUMN, row=endpoint_id, site=site_name(site))

    async def _seal_headers(self, site: Site, endpoint_id: str, headers: dict[str, str]) -> bytes | None:
        if not headers:
            return None
        plain = encode(headers)
        return await self._vault.seal(plain, table=TABLE, column=HEADERS_COLUMN, row=endpoint_id, site=site_name(site))

    def _told(self, site: Site, row: EndpointRow) -> Endpoint:
        if self._on_due is not None and row.status == "active":
            self._on_due(site, row.id)
        return self._show(row)

    def _show(self, row: EndpointRow) -> Endpoint:
        return show_endpoint(row, self._defaults.retry_schedule_s)


def _lock_present(conn: Connection, site_id: int, endpoint_id: str) -> EndpointRow:
    row = store.lock_endpoints(conn, site_id, [endpoint_id]).get(endpoint_id)
    if row is None or row.status == "deleted":
        raise EndpointNotFound(endpoint_id)
    return row
