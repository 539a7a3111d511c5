"""What failing leads to, on SQLite and on PostgreSQL: warnings, disabling, a ping that has to pass, what answers may ask for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import msgspec
import pytest
from sqlalchemy import Connection

from delivery.errors import EndpointDisabled
from delivery.shapes import Endpoint
from engine import feed
from engine.databases import Database
from tests.fakes.receiver import GONE, OK, SERVER_ERROR, Receiver, Reply
from tests.store.delivery_stage import SITE, Stage, make_stage

DAY_S = 86_400


@pytest.fixture
async def stage(site_database: Database) -> AsyncIterator[Stage]:
    """A site with an empty feed."""
    made = await make_stage(site_database)
    yield made
    await made.close()


async def told(stage: Stage) -> list[tuple[str, object]]:
    """Hand over the facts and return what the feed says about endpoints: the type, and the share where there is one."""
    await stage.facts.run(SITE)

    def read(conn: Connection) -> list[tuple[str, object]]:
        events = feed.read_after(conn, SITE.id, 0, 1000)
        about = [one for one in events if one.type.startswith("endpoint.")]
        return [(one.type, msgspec.json.decode(one.body)["data"].get("failing_percent")) for one in about]

    return await stage.database.read(read, site_id=SITE.id)


async def disabled(stage: Stage, receiver: Receiver, *then: Reply, **options: object) -> Endpoint:
    """Return an endpoint that answered 410 and will answer so from now on, a delivery waiting."""
    receiver.script("/hook", GONE, *then)
    endpoint = await stage.endpoint(receiver.url("/hook"), "entry.*", **options)
    await stage.commit("entry.posted")
    await stage.deliver()
    assert (await stage.endpoints.get(SITE, endpoint.id)).status == "disabled"
    return endpoint


async def test_failing_for_days_is_warned_of_and_ends_in_disabling(stage: Stage, receiver: Receiver) -> None:
    """At half, 70 and 90 per cent, once each however many fail; at the end it is disabled, and what waits stays."""
    receiver.script("/hook", SERVER_ERROR)
    endpoint = await stage.endpoint(receiver.url("/hook"), "entry.*", disable_after_s=4 * DAY_S, retry_schedule=[0])
    for _ in range(18):
        await stage.commit("entry.posted", "entry.posted")
        await stage.deliver()
        stage.clock.advance(seconds=DAY_S / 4)
    shown = await stage.endpoints.get(SITE, endpoint.id)
    assert (shown.status, shown.status_reason) == ("disabled", "failing")
    expected = [("endpoint.failing", percent) for percent in (0, 50, 70, 90)]
    assert await told(stage) == [*expected, ("endpoint.disabled", None)]
    assert (await stage.rows(endpoint.id))[-1].status == "skipped"


async def test_one_success_begins_the_count_anew(stage: Stage, receiver: Receiver) -> None:
    """After it the whole time has to pass again, and warnings are told again."""
    receiver.script("/hook", SERVER_ERROR, OK, SERVER_ERROR)
    endpoint = await stage.endpoint(receiver.url("/hook"), "entry.*", disable_after_s=DAY_S, retry_schedule=[0])
    for _ in range(3):
        await stage.commit("entry.posted")
        await stage.deliver()
        stage.clock.advance(seconds=0.6 * DAY_S)
    await stage.commit("entry.posted")
    await stage.deliver()
    assert (await stage.endpoints.get(SITE, endpoint.id)).status == "active"
    assert await told(stage) == [("endpoint.failing", 0), ("endpoint.failing", 0), ("endpoint.failing", 50)]


async def test_failures_of_ours_are_no_part_of_it(stage: Stage, receiver: Receiver) -> None:
    """Whatever breaks here for however long, the endpoint is not held to it."""
    endpoint = await stage.endpoint(receiver.url("/hook"), disable_after_s=3600)
    stage.vault.away = True
    await stage.commit("entry.posted")
    for _ in range(5):
        await stage.deliver()
        stage.clock.advance(seconds=3000)
    shown = await stage.endpoints.get(SITE, endpoint.id)
    assert (shown.status, shown.failing_since, await told(stage)) == ("active", None, [])


async def test_ping_has_to_pass_before_anything_else_goes(stage: Stage, receiver: Receiver) -> None:
    """Enabling sends one request; when it passes the endpoint is active and what waited goes."""
    hold = asyncio.Event()
    endpoint = await disabled(stage, receiver, Reply(hold=hold), OK)
    await stage.facts.run(SITE)
    stage.clock.advance(seconds=60)
    assert (await stage.endpoints.enable(SITE, endpoint.id)).status == "enabling"
    await stage.commit("entry.posted")
    woken = await stage.relay_all()
    assert woken == {endpoint.id}
    dispatcher = stage.dispatcher()
    dispatcher.wake(SITE, endpoint.id)
    await receiver.wait_for_count(2)
    dispatcher.wake(SITE, endpoint.id)
    other = stage.dispatcher()
    other.wake(SITE, endpoint.id)
    await other.idle()
    assert len(receiver.received) == 2
    assert msgspec.json.decode(receiver.received[1].body)["type"] == "endpoint.test"
    for use in (stage.endpoints.pause, stage.endpoints.resume, stage.endpoints.test):
        with pytest.raises(EndpointDisabled):
            await use(SITE, endpoint.id)
    hold.set()
    await dispatcher.idle()
    shown = await stage.endpoints.get(SITE, endpoint.id)
    assert (shown.status, shown.status_reason) == ("active", None)
    assert [one.status for one in await stage.rows(endpoint.id)] == ["delivered", "delivered", "skipped"]
    assert [one for one, _ in await told(stage)] == ["endpoint.disabled", "endpoint.test", "endpoint.enabled"]


async def test_ping_that_fails_leaves_it_disabled(stage: Stage, receiver: Receiver) -> None:
    """One chance; nothing else was sent; it can be tried again."""
    endpoint = await disabled(stage, receiver, SERVER_ERROR, OK)
    await stage.endpoints.enable(SITE, endpoint.id)
    await stage.deliver()
    shown = await stage.endpoints.get(SITE, endpoint.id)
    assert (shown.status, shown.status_reason) == ("disabled", "ping_failed")
    assert len(receiver.received) == 2
    stage.clock.advance(seconds=60)
    await stage.endpoints.enable(SITE, endpoint.id)
    await stage.deliver()
    assert (await stage.endpoints.get(SITE, endpoint.id)).status == "active"
    assert [one.status for one in await stage.rows(endpoint.id)] == ["delivered", "exhausted", "delivered"]


async def test_failure_of_ours_does_not_fail_a_ping(stage: Stage, receiver: Receiver) -> None:
    """The vault was away: the ping is sent later, and only the ping."""
    endpoint = await disabled(stage, receiver, OK)
    stage.clock.advance(seconds=60)
    await stage.endpoints.enable(SITE, endpoint.id)
    stage.vault.away = True
    await stage.deliver()
    assert (await stage.endpoints.get(SITE, endpoint.id)).status == "enabling"
    stage.vault.away = False
    due = (await stage.sweeper.run(SITE)).next_due_at
    assert due is not None
    stage.clock.advance(micros=due - stage.clock.now_us())
    await stage.deliver()
    assert (await stage.endpoints.get(SITE, endpoint.id)).status == "active"
    assert {one.status for one in await stage.rows(endpoint.id)} == {"delivered"}


async def test_ping_of_a_process_that_died_is_sent_again(stage: Stage, receiver: Receiver) -> None:
    """The endpoint does not stay between the two states."""
    endpoint = await disabled(stage, receiver, Reply(hold=asyncio.Event()), OK)
    await stage.endpoints.enable(SITE, endpoint.id)
    await stage.relay_all()
    stage.dispatcher().wake(SITE, endpoint.id)
    await receiver.wait_for_count(2)
    stage.clock.advance(seconds=3600)
    await stage.deliver()
    assert (await stage.endpoints.get(SITE, endpoint.id)).status == "active"


async def test_enabling_twice_sends_a_second_ping_and_loses_nothing(stage: Stage, receiver: Receiver) -> None:
    """The ping that was not needed is delivered like anything else."""
    endpoint = await disabled(stage, receiver, OK)
    stage.clock.advance(seconds=60)
    for _ in range(2):
        await stage.endpoints.enable(SITE, endpoint.id)
    await stage.deliver()
    await stage.deliver()
    assert [one.status for one in await stage.rows(endpoint.id)] == ["delivered"] * 3


async def test_answer_may_ask_for_the_end_of_a_delivery(stage: Stage, receiver: Receiver) -> None:
    """`webhook-delivery: abort-message`: no retry follows."""
    receiver.script("/hook", Reply(status=422, headers={"Webhook-Delivery": "abort-message"}), OK)
    endpoint = await stage.endpoint(receiver.url("/hook"))
    await stage.commit("entry.posted")
    await stage.deliver()
    (delivery,) = await stage.rows(endpoint.id)
    assert (delivery.status, delivery.reason) == ("exhausted", "aborted_by_endpoint")


@pytest.mark.parametrize(("status", "expected"), [(200, "delivered"), (500, "retrying")])
async def test_answer_may_ask_for_the_end_of_everything(
    stage: Stage, receiver: Receiver, status: int, expected: str
) -> None:
    """`webhook-delivery: disable`: the delivery is what its status says, and the endpoint is disabled."""
    receiver.script("/hook", Reply(status=status, headers={"webhook-delivery": "disable"}))
    endpoint = await stage.endpoint(receiver.url("/hook"))
    await stage.commit("entry.posted")
    await stage.deliver()
    shown = await stage.endpoints.get(SITE, endpoint.id)
    assert (shown.status, shown.status_reason) == ("disabled", "disabled_by_endpoint")
    assert [one.status for one in await stage.rows(endpoint.id)] == [expected]
    (attempt,) = await stage.attempts((await stage.rows(endpoint.id))[0])
    assert (attempt.error_class is None) == (status == 200)
