"""Inspectors: throw-away receivers in the sandbox that show what arrives and answer as they are told.

They are there to try webhooks without a server of one's own, and for test suites: what arrived is a list in order of
arrival. There are none in production. Their own address is the one place of this server that webhooks may be sent to.
"""

from __future__ import annotations

import base64
import os
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from msgspec import UNSET
from sqlalchemy import Connection

from delivery.errors import InspectorLimitReached, InspectorNotFound
from delivery.inspector_shapes import (
    BODY_KEPT_MAX,
    InspectedRequest,
    Inspector,
    InspectorChange,
    InspectorCreate,
)
from delivery.store import inspectors as store
from delivery.store.inspectors import InspectedRow, InspectorRow
from engine.clock import Clock
from engine.databases import Databases, Site
from engine.ids import IdSource
from engine.money import format_instant

ENVIRONMENT: Final = "sandbox"
PREFIX: Final = "/inspect/"
INSPECTORS_MAX: Final = 100
LIFETIME_US: Final = 7 * 86_400_000_000
_TOKEN_BYTES: Final = 16
_TOKEN_LENGTH: Final = 26
_GZIP: Final = zlib.MAX_WBITS | 16


class Inspectors:
    """The use cases around inspectors."""

    def __init__(
        self,
        databases: Databases,
        *,
        clock: Clock,
        ids: IdSource,
        public_url: str,
        entropy: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._databases = databases
        self._clock = clock
        self._ids = ids
        self._public_url = public_url
        self._entropy = entropy

    async def create(self, site: Site, draft: InspectorCreate) -> Inspector:
        """Make an inspector that lives a week. Raises InspectorNotFound in production, InspectorLimitReached."""
        if site.environment != ENVIRONMENT:
            raise InspectorNotFound("in production")
        now_us = self._clock.now_us()
        token = base64.b32encode(self._entropy(_TOKEN_BYTES)).decode("ascii").rstrip("=").lower()
        row = InspectorRow(
            id=self._ids.draw(now_us),
            token=token,
            status=draft.status,
            retry_after_s=draft.retry_after_s,
            delay_ms=draft.delay_ms,
            received=0,
            created_at=now_us,
            expires_at=now_us + LIFETIME_US,
        )

        def write(conn: Connection) -> None:
            store.insert_inspector(conn, site.id, row)
            if store.count_inspectors(conn, site.id) > INSPECTORS_MAX:
                raise InspectorLimitReached(INSPECTORS_MAX)

        database = await self._databases.of(site)
        await database.write(write, site_id=site.id)
        return self._show(site, row)

    async def list(self, site: Site) -> list[Inspector]:
        """Return a site's inspectors, the newest first."""
        database = await self._databases.of(site)
        now_us = self._clock.now_us()
        rows = await database.read(lambda conn: store.list_inspectors(conn, site.id, now_us), site_id=site.id)
        return [self._show(site, row) for row in rows]

    async def get(self, site: Site, inspector_id: str) -> Inspector:
        """Return an inspector. Raises InspectorNotFound."""
        database = await self._databases.of(site)
        now_us = self._clock.now_us()
        row = await database.read(
            lambda conn: store.find_inspector(conn, site.id, inspector_id, now_us), site_id=site.id
        )
        if row is None:
            raise InspectorNotFound(inspector_id)
        return self._show(site, row)

    async def change(self, site: Site, inspector_id: str, change: InspectorChange) -> Inspector:
        """Have an inspector answer otherwise from now on. Raises InspectorNotFound."""
        await self.get(site, inspector_id)
        given = {"status": change.status, "retry_after_s": change.retry_after_s, "delay_ms": change.delay_ms}
        values = {name: value for name, value in given.items() if value is not UNSET}
        if values:
            database = await self._databases.of(site)
            await database.write(
                lambda conn: store.change_inspector(conn, site.id, inspector_id, values), site_id=site.id
            )
        return await self.get(site, inspector_id)

    async def requests(
        self, site: Site, inspector_id: str, *, after: int, limit: int
    ) -> tuple[Sequence[InspectedRequest], bool]:
        """Return what an inspector received after a number, and whether there is more. Raises InspectorNotFound."""
        await self.get(site, inspector_id)
        database = await self._databases.of(site)
        rows = await database.read(
            lambda conn: store.list_requests(conn, site.id, inspector_id, after, limit + 1), site_id=site.id
        )
        return [_shown(row) for row in rows[:limit]], len(rows) > limit

    async def body(self, site: Site, inspector_id: str, number: int) -> InspectedRow | None:
        """Return a request as it arrived, to the byte; None where it is not kept. Raises InspectorNotFound."""
        await self.get(site, inspector_id)
        database = await self._databases.of(site)
        rows = await database.read(
            lambda conn: store.list_requests(conn, site.id, inspector_id, number - 1, 1), site_id=site.id
        )
        return next((row for row in rows if row.number == number), None)

    async def receive(self, site: Site, token: str, headers: Mapping[str, str], body: bytes) -> Inspector:
        """Keep a request and return the inspector, which says how it is answered. Raises InspectorNotFound."""
        if site.environment != ENVIRONMENT or len(token) != _TOKEN_LENGTH:
            raise InspectorNotFound(token[:8])
        now_us = self._clock.now_us()

        def write(conn: Connection) -> InspectorRow:
            row = store.lock_inspector(conn, site.id, token, now_us)
            if row is None:
                raise InspectorNotFound(token[:8])
            kept = InspectedRow(
                number=row.received + 1,
                at=now_us,
                headers=dict(headers),
                body=body[:BODY_KEPT_MAX],
                truncated=len(body) > BODY_KEPT_MAX,
                answered=row.status,
            )
            store.keep_request(conn, site.id, row.id, kept)
            return row

        database = await self._databases.of(site)
        return self._show(site, await database.write(write, site_id=site.id))

    def _show(self, site: Site, row: InspectorRow) -> Inspector:
        return Inspector(
            id=row.id,
            url=f"{self._public_url}{PREFIX}{site.organization}/{row.token}",
            status=row.status,
            retry_after_s=row.retry_after_s,
            delay_ms=row.delay_ms,
            received=row.received,
            created_at=format_instant(row.created_at),
            expires_at=format_instant(row.expires_at),
        )


def _readable(row: InspectedRow) -> bytes:
    """Return the beginning of a body as it was before it was compressed; what cannot be undone stays as it arrived."""
    if row.headers.get("content-encoding") != "gzip":
        return row.body
    try:
        return zlib.decompressobj(wbits=_GZIP).decompress(row.body, BODY_KEPT_MAX)
    except zlib.error:
        return row.body


def _shown(row: InspectedRow) -> InspectedRequest:
    return InspectedRequest(
        number=row.number,
        at=format_instant(row.at),
        headers=dict(row.headers),
        body=_readable(row).decode("utf-8", "replace").replace("\x00", "�"),
        truncated=row.truncated,
        answered=row.answered,
    )
