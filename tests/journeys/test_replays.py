"""A replay in production: begun at a gateway, carried out by a worker, over the worker's death."""

from __future__ import annotations

from typing import Any, Final

from tests.fakes.receiver import Receiver
from tests.journeys.conftest import Production, SiteClient
from tests.processes import until

COUNT: Final = 150


async def test_a_replay_outlives_the_worker_that_carries_it_out(
    production: Production, site: SiteClient, receiver: Receiver
) -> None:
    """Killed in the middle, it goes on with the next worker; everything arrives again, and the progress says so."""
    endpoint = await site.ask(
        "POST", "/v1/webhook_endpoints", {"url": receiver.url("/hook"), "event_types": ["entry.*"]}
    )
    await site.ask("POST", "/v1/entries/batch", {"entries": [site.entry()] * COUNT})
    await receiver.wait_for_count(COUNT, timeout_s=30)
    wanted = {"filter": {"endpoint_id": endpoint["id"]}, "rate_per_s": 50}
    assert (await site.ask("POST", "/v1/replays/preview", wanted, at=1))["total"] == COUNT
    replay = await site.ask("POST", "/v1/replays", wanted)
    await receiver.wait_for_count(COUNT + 20, timeout_s=30)
    production.worker.kill()
    production.worker.start()

    async def completed() -> Any:
        found = await site.ask("GET", f"/v1/replays/{replay['id']}", at=1)
        return found if found["status"] == "completed" else None

    done = await until(completed, timeout_s=60)
    assert (done["total"], done["queued"], done["delivered"], done["skipped"]) == (COUNT, COUNT, COUNT, 0)
    again = {got.headers["x-gledger-delivery-id"] for got in receiver.received[COUNT:]}
    assert len(again) == COUNT
    rows = (await site.ask("GET", f"/v1/deliveries?endpoint_id={endpoint['id']}&limit=1000"))["data"]
    attempts = (await site.ask("GET", f"/v1/deliveries/{rows[0]['id']}/attempts"))["data"]
    assert [each["trigger"] for each in attempts][:2] == ["scheduled", "replay"]
