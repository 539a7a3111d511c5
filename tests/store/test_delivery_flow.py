"""From the feed to the receiver and back into the log, on SQLite and on PostgreSQL, over real HTTP."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from collections.abc import AsyncIterator

import msgspec
import pytest
from standardwebhooks.webhooks import Webhook

from delivery.dispatch import DispatchSettings
from delivery.egress import EgressPolicy
from delivery.log import DeliveryFilter
from engine.databases import Database
from tests.fakes.receiver import DROPPED, GONE, SERVER_ERROR, Receiver, Reply, moved, too_many
from tests.store.delivery_stage import SITE, Stage, make_stage


@pytest.fixture
async def stage(site_database: Database) -> AsyncIterator[Stage]:
    """A site with an empty feed."""
    made = await make_stage(site_database)
    yield made
    await made.close()


async def test_a_committed_event_arrives_signed_with_its_stored_bytes(stage: Stage, receiver: Receiver) -> None:
    """The receiver gets the feed's bytes under headers that the reference verifier accepts, and the log says so."""
    endpoint = await stage.endpoint(receiver.url("/hook"), headers={"X-Api-Key": "s3cret"})
    (event_id,) = await stage.commit("entry.posted")
    await stage.deliver()
    (got,) = receiver.received
    (delivery,) = (await stage.log.deliveries(SITE, _of(endpoint.id), limit=10, include_event=True)).data
    assert isinstance(delivery.event, msgspec.Raw)
    assert bytes(delivery.event) == got.body
    assert (got.headers["webhook-id"], got.headers["x-gledger-delivery-id"]) == (event_id, delivery.id)
    assert (got.headers["x-gledger-sequence"], got.headers["x-gledger-endpoint-sequence"]) == ("1", "1")
    assert (got.headers["x-gledger-attempt"], got.headers["x-api-key"]) == ("1", "s3cret")
    assert (delivery.status, delivery.attempts, delivery.next_attempt_at) == ("delivered", 1, None)
    (attempt,) = await stage.attempts(delivery)
    assert attempt.request is not None
    assert attempt.response is not None
    assert (attempt.request.headers["X-Api-Key"], attempt.response.status, attempt.error_class) == ("***", 200, None)
    assert isinstance(endpoint.secret, str)
    expected = Webhook(endpoint.secret).sign(event_id, _sent_at(got.headers["webhook-timestamp"]), got.body.decode())
    assert got.headers["webhook-signature"] == expected
    assert stage.meter.outcomes == [("delivered", None)]


def _of(endpoint_id: str) -> DeliveryFilter:
    return DeliveryFilter(endpoint_id=endpoint_id)


def _sent_at(seconds: str) -> datetime:
    return datetime.fromtimestamp(int(seconds), tz=UTC)
