"""A worker's own metrics, over a real socket."""

from __future__ import annotations

import aiohttp
import pytest
from prometheus_client import CollectorRegistry

from gledger.meters import DeliveryMeter
from gledger.settings import Settings
from gledger.worker_metrics import serve_metrics


def settings(**given: str) -> Settings:
    """Return settings with a worker's port on any free one."""
    return Settings.from_env({"GLEDGER_WORKER_METRICS_PORT": "0", **given})


async def scrape(port: int, token: str | None = None) -> tuple[int, str]:
    """Return status and text of the metrics."""
    headers = {} if token is None else {"authorization": f"Bearer {token}"}
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{port}/metrics", headers=headers) as answer,
    ):
        return answer.status, await answer.text()


async def test_delivery_success_is_there_to_scrape() -> None:
    """What the meter counted stands in the answer."""
    registry = CollectorRegistry()
    DeliveryMeter(registry).attempted("delivered", None, 0.02)
    async with serve_metrics(settings(), registry) as port:
        assert port is not None
        status, text = await scrape(port)
    assert status == 200
    assert 'gledger_delivery_attempts_total{error_class="",outcome="delivered"} 1.0' in text


@pytest.mark.parametrize(("token", "status"), [(None, 401), ("wrong", 401), ("right", 200)])
async def test_the_metrics_token_is_demanded_where_one_is_set(token: str | None, status: int) -> None:
    """The same token as the gateway's opens the worker's metrics."""
    async with serve_metrics(settings(GLEDGER_METRICS_TOKEN="right"), CollectorRegistry()) as port:
        assert port is not None
        assert (await scrape(port, token))[0] == status


async def test_without_a_port_nothing_listens() -> None:
    """A worker opens no port unless it is told to."""
    async with serve_metrics(Settings.from_env({}), CollectorRegistry()) as port:
        assert port is None
