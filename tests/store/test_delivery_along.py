"""What the relay makes is claimed as it is made, in the same transaction, and sent when that is committed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy import Connection
from structlog.testing import capture_logs

from delivery import relay as relay_module
from delivery.dispatch import DispatchSettings
from delivery.rows import EndpointRow
from delivery.store.endpoints import lock_endpoints
from engine.databases import Database
from engine.events import TEST_TYPE
from tests.fakes.receiver import GONE, OK, Receiver, Reply
from tests.store.delivery_stage import SITE, Stage, make_stage


@pytest.fixture
async def stage(site_database: Database) -> AsyncIterator[Stage]:
    """A site with an empty feed."""
    made = await make_stage(site_database)
    with capture_logs():
        yield made
        await made.close()


async def test_what_is_relayed_is_sent_without_a_look_of_its_own(stage: Stage, receiver: Receiver) -> None:
    """Nobody is woken, and yet it arrives: the first attempt is under way when the relay has committed."""
    answered = asyncio.Event()
    receiver.script("/", Reply(hold=answered))
    endpoints = [await stage.endpoint(receiver.url("/")) for _ in range(3)]
    await stage.commit("entry.posted", "hold.created")
    dispatcher = stage.dispatcher()
    assert await stage.relay_all(dispatcher) == frozenset()
    for endpoint in endpoints:
        assert [(row.status, row.attempts) for row in await stage.rows(endpoint.id)] == [("in_flight", 1)] * 2
    answered.set()
    await dispatcher.idle()
    assert len(receiver.received) == 6
    for endpoint in endpoints:
        assert [(row.status, row.attempts) for row in await stage.rows(endpoint.id)] == [("delivered", 1)] * 2


async def test_endpoint_that_takes_less_than_there_is_gets_the_rest_without_being_woken(
    stage: Stage, receiver: Receiver
) -> None:
    """Never more at once than it takes; the end of each request lets the next one go."""
    answered = asyncio.Event()
    receiver.script("/", Reply(hold=answered))
    endpoint = await stage.endpoint(receiver.url("/"), max_in_flight=2)
    dispatcher = stage.dispatcher()
    await stage.commit(*["entry.posted"] * 5)
    assert await stage.relay_all(dispatcher) == frozenset()
    await receiver.wait_for_count(2)
    assert [row.status for row in await stage.rows(endpoint.id)] == ["in_flight"] * 2 + ["pending"] * 3
    await stage.commit("entry.posted")
    assert await stage.relay_all(dispatcher) == {endpoint.id}
    assert [row.status for row in await stage.rows(endpoint.id)].count("in_flight") == 2
    answered.set()
    await dispatcher.idle()
    rows = await stage.rows(endpoint.id)
    assert [(row.status, row.attempts) for row in rows] == [("delivered", 1)] * 6


async def test_page_behind_which_more_waits_leaves_claiming_to_turns(stage: Stage, receiver: Receiver) -> None:
    """They send beside the relay, and the last page claims what is still to be claimed."""
    endpoint = await stage.endpoint(receiver.url("/"))
    await stage.commit(*["entry.posted"] * 5)
    dispatcher, relay = stage.dispatcher(), stage.relay(page_events=3)
    woken = []
    for _ in range(2):
        with dispatcher.claiming(SITE) as claims:
            woken.append((await relay.run(SITE, claims)).endpoints_woken)
    await dispatcher.idle()
    assert woken == [{endpoint.id}, frozenset()]
    assert len(receiver.received) == 5


async def test_endpoints_beyond_what_a_transaction_claims_are_woken(stage: Stage, receiver: Receiver) -> None:
    """A site may have a thousand: those that were left out are claimed in turns of their own."""
    made = [await stage.endpoint(receiver.url(f"/{number}")) for number in range(70)]
    await stage.commit("entry.posted")
    dispatcher = stage.dispatcher()
    left = await stage.relay_all(dispatcher)
    assert len(left) == 6
    assert left < {endpoint.id for endpoint in made}
    for endpoint_id in left:
        dispatcher.wake(SITE, endpoint_id)
    await dispatcher.idle()
    assert len(receiver.received) == 70


async def test_nothing_is_claimed_along_where_no_request_can_begin(stage: Stage, receiver: Receiver) -> None:
    """All places of the process are taken, or it is about to end: who has something due is woken, as ever."""
    answered = asyncio.Event()
    receiver.script("/slow", Reply(hold=answered))
    slow = await stage.endpoint(receiver.url("/slow"), "hold.created")
    fast = await stage.endpoint(receiver.url("/fast"), "entry.posted")
    dispatcher = stage.dispatcher(DispatchSettings(in_flight_total=1))
    await stage.commit("hold.created")
    assert await stage.relay_all(dispatcher) == frozenset()
    await stage.commit("entry.posted")
    assert await stage.relay_all(dispatcher) == {fast.id}
    dispatcher.wake(SITE, fast.id)
    answered.set()
    await dispatcher.idle()
    assert [row.status for one in (slow, fast) for row in await stage.rows(one.id)] == ["delivered"] * 2
    await dispatcher.drain(0)
    await stage.commit("entry.posted")
    assert await stage.relay_all(dispatcher) == {fast.id}


async def test_what_was_claimed_in_a_transaction_that_fails_is_not_sent(stage: Stage, receiver: Receiver) -> None:
    """Neither its delivery nor its lease is there; the next page makes what it makes without claiming, and every place is free."""
    endpoint = await stage.endpoint(receiver.url("/"))
    dispatcher = stage.dispatcher(DispatchSettings(in_flight_total=1))
    await stage.commit("entry.posted")

    relay = stage.relay()

    async def relay_in_vain() -> None:
        with dispatcher.claiming(SITE) as claims:

            def page(conn: Connection) -> None:
                assert relay._page(conn, SITE.id, claims).endpoints_woken == frozenset()
                raise ZeroDivisionError

            await stage.database.write(page, site_id=SITE.id)

    with pytest.raises(ZeroDivisionError):
        await relay_in_vain()
    await asyncio.wait_for(dispatcher.idle(), 5)
    assert (receiver.received, await stage.rows(endpoint.id)) == ([], [])
    assert await stage.relay_all(dispatcher) == {endpoint.id}
    dispatcher.wake(SITE, endpoint.id)
    await dispatcher.idle()
    assert [(row.status, row.attempts) for row in await stage.rows(endpoint.id)] == [("delivered", 1)]


async def test_lease_counts_from_when_it_was_taken(
    stage: Stage, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page may wait for locks for longer than a lease is to last."""
    answered = asyncio.Event()
    receiver.script("/", Reply(hold=answered))
    endpoint = await stage.endpoint(receiver.url("/"))
    await stage.commit("entry.posted")
    dispatcher = stage.dispatcher()

    def lock_slowly(*given: Any) -> dict[str, EndpointRow]:
        stage.clock.advance(seconds=60)
        return lock_endpoints(*given)

    monkeypatch.setattr(relay_module, "lock_endpoints", lock_slowly)
    await stage.relay_all(dispatcher)
    await receiver.wait_for_count(1)
    assert (await stage.sweeper.run(SITE)).endpoints == frozenset()
    answered.set()
    await dispatcher.idle()
    (delivery,) = await stage.rows(endpoint.id)
    assert (delivery.status, delivery.attempts, len(receiver.received)) == ("delivered", 1, 1)


async def test_what_came_before_goes_before_what_is_claimed_with_it(stage: Stage, receiver: Receiver) -> None:
    """What the page makes is one of those that wait, and not the first of them."""
    endpoint = await stage.endpoint(receiver.url("/"), max_in_flight=1)
    await stage.commit("entry.posted", "entry.posted")
    await stage.relay_all()
    stage.clock.advance(seconds=1)
    await stage.commit("entry.posted")
    dispatcher = stage.dispatcher()
    await stage.relay_all(dispatcher)
    await dispatcher.idle()
    assert [got.headers["x-gledger-endpoint-sequence"] for got in receiver.received] == ["1", "2", "3"]
    assert [row.status for row in await stage.rows(endpoint.id)] == ["delivered"] * 3


async def test_endpoint_with_a_rate_is_numbered_and_its_rate_is_kept(stage: Stage, receiver: Receiver) -> None:
    """Two things are kept in its row by two hands in one transaction: the last number, and when the next slot begins."""
    endpoint = await stage.endpoint(receiver.url("/"), rate_limit=8)
    dispatcher = stage.dispatcher()
    for _ in range(2):
        await stage.commit("entry.posted", "entry.posted", "entry.posted")
        await stage.relay_all(dispatcher)
        await receiver.wait_for_count(3)
    rows = await stage.rows(endpoint.id)
    assert [row.endpoint_sequence for row in rows] == list(range(1, 7))
    assert len(receiver.received) == 3
    assert receiver.received[2].at_s - receiver.received[0].at_s > 0.2


async def test_ping_goes_with_the_page_that_made_it_and_nothing_else_does(stage: Stage, receiver: Receiver) -> None:
    """At an endpoint that is being enabled only the ping may go: neither what waits there nor what came with the ping."""
    receiver.script("/", GONE, OK)
    endpoint = await stage.endpoint(receiver.url("/"))
    await stage.commit("entry.posted")
    await stage.deliver()
    assert (await stage.endpoints.enable(SITE, endpoint.id)).status == "enabling"
    await stage.commit("entry.posted")
    dispatcher = stage.dispatcher()
    with dispatcher.claiming(SITE) as claims:
        await stage.relay().run(SITE, claims)
    await receiver.wait_for_count(2)
    assert receiver.received[1].body.find(TEST_TYPE.encode()) > 0
    await dispatcher.idle()
    assert (await stage.endpoints.get(SITE, endpoint.id)).status == "active"
    assert len(receiver.received) == 2
    posted = [row.status for row in await stage.rows(endpoint.id) if row.event_type == "entry.posted"]
    assert posted == ["retrying", "skipped"]
