"""A worker's own `/metrics` for Prometheus, on a port of its own: the gateway knows nothing of deliveries in progress."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from gledger.settings import Settings


@asynccontextmanager
async def serve_metrics(settings: Settings, registry: CollectorRegistry) -> AsyncIterator[int | None]:
    """Answer `/metrics` for the time of the block where a port is set, and give the port."""
    if settings.worker_metrics_port is None:
        yield None
        return

    async def metrics(request: web.Request) -> web.Response:
        if not _may_read(settings.metrics_token, request):
            return web.Response(status=401, headers={"www-authenticate": 'Bearer realm="gledger"'})
        return web.Response(body=generate_latest(registry), headers={"content-type": CONTENT_TYPE_LATEST})

    application = web.Application()
    application.router.add_get("/metrics", metrics)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, settings.host, settings.worker_metrics_port).start()
        port: int = runner.addresses[0][1]
        yield port
    finally:
        # A scrape under way may end; it is never waited for.
        async with asyncio.timeout(2):
            await runner.cleanup()


def _may_read(token: str, request: web.Request) -> bool:
    if not token:
        return request.remote in {"127.0.0.1", "::1"}
    return hmac.compare_digest(request.headers.get("authorization", "").encode(), f"Bearer {token}".encode())
