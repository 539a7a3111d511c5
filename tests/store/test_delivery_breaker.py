"""The circuit breaker at work, on SQLite and on PostgreSQL, over real HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from delivery.breaker import REST_MIN_US, STRIKES_TO_OPEN
from engine.databases import Database
from tests.fakes.receiver import OK, SERVER_ERROR, Receiver, Reply
from tests.store.delivery_stage import SITE, Stage, make_stage


@pytest.fixture
async def stage(site_database: Database) -> AsyncIterator[Stage]:
    """A site with an empty feed."""
    made = await make_stage(site_database)
    yield made
    await made.close()


async def test_endpoint_that_fails_is_left_alone_and_probed_with_one_request(stage: Stage, receiver: Receiver) -> None:
    """After a few failures nothing goes out until the rest is over; then exactly one does; what waits is not charged."""
    receiver.script("/hook", SERVER_ERROR)
    endpoint = await stage.endpoint(receiver.url("/hook"))
    await stage.commit(*["entry.posted"] * 40)
    dispatcher = stage.dispatcher()
    await stage.deliver(dispatcher)
    assert len(receiver.received) == STRIKES_TO_OPEN
    shown = (await stage.endpoints.get(SITE, endpoint.id)).circuit
    probe_at = stage.clock.now_us() + REST_MIN_US
    assert (shown.state, shown.window) == ("open", 1)
    assert stage.scheduled[-1] == (endpoint.id, probe_at)
    assert (await stage.sweeper.run(SITE)).next_due_at == probe_at
    await stage.commit("entry.posted")
    assert await stage.relay_all() == frozenset()
    dispatcher.wake(SITE, endpoint.id)
    await dispatcher.idle()
    assert len(receiver.received) == STRIKES_TO_OPEN
    stage.clock.advance(micros=REST_MIN_US)
    await stage.deliver(dispatcher)
    assert len(receiver.received) == STRIKES_TO_OPEN + 1
    assert (await stage.sweeper.run(SITE)).next_due_at == stage.clock.now_us() + 2 * REST_MIN_US
    rows = await stage.rows(endpoint.id)
    assert sum(row.attempts for row in rows) == STRIKES_TO_OPEN + 1
    assert [row.endpoint_sequence for row in rows] == list(range(1, 42))


async def test_recovered_endpoint_gets_what_waited_as_a_ramp(stage: Stage, receiver: Receiver) -> None:
    """One probe, then two at once, then more with every success; in the end it has everything."""
    receiver.script("/hook", *[SERVER_ERROR] * STRIKES_TO_OPEN, OK)
    endpoint = await stage.endpoint(receiver.url("/hook"))
    await stage.commit(*["entry.posted"] * 40)
    dispatcher = stage.dispatcher()
    await stage.deliver(dispatcher)
    stage.clock.advance(micros=2 * REST_MIN_US)
    probe, second = asyncio.Event(), asyncio.Event()
    receiver.script("/hook", Reply(hold=probe), Reply(hold=second), Reply(hold=second), OK)
    dispatcher.wake(SITE, endpoint.id)
    await receiver.wait_for_count(STRIKES_TO_OPEN + 1)
    other = stage.dispatcher()
    other.wake(SITE, endpoint.id)
    await other.idle()
    assert len(receiver.received) == STRIKES_TO_OPEN + 1
    probe.set()
    await receiver.wait_for_count(STRIKES_TO_OPEN + 3)
    assert (await stage.endpoints.get(SITE, endpoint.id)).circuit.window == 2
    assert len(receiver.received) == STRIKES_TO_OPEN + 3
    second.set()
    await dispatcher.idle()
    assert {row.status for row in await stage.rows(endpoint.id)} == {"delivered"}
    shown = (await stage.endpoints.get(SITE, endpoint.id)).circuit
    assert (shown.state, shown.window, shown.next_probe_at) == ("closed", endpoint.max_in_flight, None)


async def test_probe_of_a_process_that_died_is_made_again(stage: Stage, receiver: Receiver) -> None:
    """A lease that ran out while the circuit was open is neither lost nor more than one request."""
    receiver.script("/hook", *[SERVER_ERROR] * STRIKES_TO_OPEN, Reply(hold=asyncio.Event()), OK)
    endpoint = await stage.endpoint(receiver.url("/hook"))
    await stage.commit(*["entry.posted"] * 8)
    await stage.deliver()
    stage.clock.advance(micros=REST_MIN_US)
    dying = stage.dispatcher()
    dying.wake(SITE, endpoint.id)
    await receiver.wait_for_count(STRIKES_TO_OPEN + 1)
    stage.clock.advance(seconds=60)
    await stage.deliver()
    assert {row.status for row in await stage.rows(endpoint.id)} == {"delivered"}


async def test_replay_and_resume_probe_an_open_circuit_at_once(stage: Stage, receiver: Receiver) -> None:
    """Whoever asks need not wait for the rest to be over."""
    receiver.script("/hook", SERVER_ERROR)
    endpoint = await stage.endpoint(receiver.url("/hook"))
    await stage.commit(*["entry.posted"] * 8)
    await stage.deliver()
    (first, *_) = await stage.rows(endpoint.id)
    await stage.replay.replay_one(SITE, first.id)
    await stage.deliver()
    assert len(receiver.received) == STRIKES_TO_OPEN + 1
    await stage.endpoints.pause(SITE, endpoint.id)
    await stage.endpoints.resume(SITE, endpoint.id)
    await stage.deliver()
    assert len(receiver.received) == STRIKES_TO_OPEN + 2


async def test_failures_of_ours_do_not_open_the_circuit(stage: Stage, receiver: Receiver) -> None:
    """A vault that is away says nothing about the endpoint."""
    endpoint = await stage.endpoint(receiver.url("/hook"))
    stage.vault.away = True
    await stage.commit(*["entry.posted"] * 20)
    await stage.deliver()
    assert (await stage.endpoints.get(SITE, endpoint.id)).circuit.state == "closed"


async def test_other_address_begins_with_a_closed_circuit(stage: Stage, receiver: Receiver) -> None:
    """What a partner fixes by giving another URL goes out at once."""
    receiver.script("/bad", SERVER_ERROR)
    endpoint = await stage.endpoint(receiver.url("/bad"))
    await stage.commit(*["entry.posted"] * 20)
    await stage.deliver()
    stage.clock.advance(seconds=7)
    await stage.change(endpoint, url=receiver.url("/good"))
    await stage.deliver()
    assert {row.status for row in await stage.rows(endpoint.id)} == {"delivered"}
