"""What a worker does off every path that anybody waits for.

Old idempotency records, old signing keys and the log of old attempts go; the spans that accounts have filled are made.
"""

from __future__ import annotations

import asyncio
import random
from typing import Final

import structlog
from sqlalchemy import Connection

from auth.keyformat import ENVIRONMENTS
from engine import idempotency
from engine.databases import Site
from engine.spanning import SpanBuilder
from gledger.parts import Parts

INTERVAL_S: Final = 3600.0
SPANS_INTERVAL_S: Final = 5.0
_log = structlog.get_logger("gledger.housekeeping")


async def keep_house(parts: Parts) -> None:
    """Tidy up for ever; what fails is tried again an hour later."""
    while True:
        await asyncio.sleep(INTERVAL_S * (0.5 + random.random()))
        try:
            await rotate_signing_keys(parts)
            for site in await parts.sites():
                await forget_keys(parts, site)
                await forget_attempts(parts, site)
        except Exception as error:  # noqa: BLE001 - the database is away: nothing of this is urgent
            _log.warning("housekeeping.interrupted", error=str(error))


async def keep_spans(parts: Parts) -> None:
    """Make the spans that accounts have filled, for ever; what is not made yet only makes questions about the past slower."""
    builder = SpanBuilder(parts.databases)
    while True:
        try:
            for site in await parts.sites():
                while await builder.run(site):
                    pass
        except Exception as error:  # noqa: BLE001 - the database is away: the feed is looked at again from the same place
            _log.warning("spans.interrupted", error=str(error))
        await asyncio.sleep(SPANS_INTERVAL_S * (0.5 + random.random()))


async def rotate_signing_keys(parts: Parts) -> list[str]:
    """Replace the signing keys that have served their time; return the new ones' ids. Several workers make one of each."""
    now_us = parts.clock.now_us()
    await parts.authority.authenticator.refresh(now_us)
    keyring = parts.authority.keyring
    due = [environment for environment in ENVIRONMENTS if keyring.rotation_due(environment, now_us)]
    rotated = [await keyring.rotate_signing_key(environment, now_us=now_us) for environment in due]
    for kid in rotated:
        _log.info("signing_key.rotated", kid=kid)
    return rotated


async def forget_keys(parts: Parts, site: Site) -> int:
    """Remove a site's idempotency records that are past their retention; return how many."""
    database = await parts.databases.of(site)
    now_us, days = parts.clock.now_us(), parts.settings.idempotency_days

    def forget(conn: Connection) -> int:
        return idempotency.forget(conn, site.id, now_us, days)

    return await database.write(forget, site_id=site.id)


async def forget_attempts(parts: Parts, site: Site) -> int:
    """Remove a site's attempts that are past their retention; return how many. Deliveries stay."""
    days = parts.settings.attempt_retention_days
    if not days:
        return 0
    return await parts.log.forget_attempts(site, parts.clock.now_us() - days * 86_400_000_000)
