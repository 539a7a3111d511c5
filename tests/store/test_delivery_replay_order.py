"""Replays at endpoints that ask for order, on SQLite and on PostgreSQL, over real HTTP: they have it in themselves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from delivery.giving_way import GivingWay
from delivery.replay_run import BACKLOG, HELD_US
from delivery.shapes import Endpoint
from engine.databases import Database
from gledger.replaying import Replaying
from tests.fakes.receiver import GONE, OK, SERVER_ERROR, Receiver, Reply
from tests.store.delivery_stage import SITE, make_stage
from tests.store.test_delivery_order import arrived, entry, statuses
from tests.store.test_delivery_replays import Jobs


@pytest.fixture
async def jobs(site_database: Database) -> AsyncIterator[Jobs]:
    """A site with an empty feed, and its replays."""
    stage = await make_stage(site_database)
    yield Jobs(stage)
    await stage.close()


async def delivered(jobs: Jobs, receiver: Receiver, count: int, **options: object) -> Endpoint:
    """Return an endpoint that had so many deliveries."""
    endpoint = await jobs.stage.endpoint(receiver.url("/hook"), max_in_flight=64, **options)
    await jobs.stage.commit(*["entry.posted"] * count)
    await jobs.stage.deliver()
    assert arrived(receiver) == list(range(1, count + 1))
    return endpoint


async def test_a_replay_at_an_ordered_endpoint_goes_one_by_one_in_order(jobs: Jobs, receiver: Receiver) -> None:
    """The next goes when the one before is settled, however wide the endpoint is; what is new does not wait for it."""
    endpoint = await delivered(jobs, receiver, 6, ordering="ordered")
    holds = [asyncio.Event() for _ in range(6)]
    receiver.script("/hook", *(Reply(hold=hold) for hold in holds))
    replay = await jobs.begin(filter={"endpoint_id": endpoint.id})
    await jobs.queue_all()
    dispatcher = jobs.stage.dispatcher()
    dispatcher.wake(SITE, endpoint.id)
    for number, hold in enumerate(holds, 1):
        await receiver.wait_for_count(6 + number)
        assert arrived(receiver)[6:] == list(range(1, number + 1))
        assert [row.status for row in await jobs.stage.rows(endpoint.id)].count("in_flight") == 1
        if number < 6:
            waiting = (await jobs.stage.rows(endpoint.id))[-1]
            assert (waiting.status, waiting.reason) == ("pending", "waits_for_order")
        hold.set()
    await dispatcher.idle()
    after = await jobs.see(replay)
    assert (after.status, after.delivered) == ("completed", 6)
    receiver.script("/hook", Reply(hold=(hold := asyncio.Event())), OK)
    await jobs.begin(filter={"endpoint_id": endpoint.id})
    await jobs.queue_all()
    dispatcher.wake(SITE, endpoint.id)
    await receiver.wait_for_count(13)
    await jobs.stage.commit("entry.posted")
    await jobs.stage.relay_all()
    dispatcher.wake(SITE, endpoint.id)
    await receiver.wait_for_count(14)
    assert arrived(receiver)[12:] == [1, 7]
    hold.set()
    await dispatcher.idle()
    assert arrived(receiver)[14:] == [2, 3, 4, 5, 6]


async def test_a_replay_keeps_the_order_of_each_key(jobs: Jobs, receiver: Receiver) -> None:
    """Of an account one waits for the other; what touches another account goes; the account of both waits for both."""
    endpoint = await jobs.stage.endpoint(
        receiver.url("/hook"), ordering="ordered_by", ordering_key="account", max_in_flight=64
    )
    for accounts in (("a",), ("b",), ("a", "b"), ("c",), ("a",)):
        await entry(jobs.stage, *accounts)
        await jobs.stage.deliver()
    hold = asyncio.Event()
    receiver.script("/hook", Reply(hold=hold), OK)
    await jobs.begin(filter={"endpoint_id": endpoint.id})
    await jobs.queue_all()
    dispatcher = jobs.stage.dispatcher()
    dispatcher.wake(SITE, endpoint.id)
    await receiver.wait_for_count(8)
    assert sorted(arrived(receiver)[5:]) == [1, 2, 4], "what waits for nobody goes"
    hold.set()
    await dispatcher.idle()
    again = arrived(receiver)[5:]
    assert sorted(again) == [1, 2, 3, 4, 5]
    assert again.index(3) > max(again.index(1), again.index(2))
    assert again.index(5) > again.index(3)


async def test_what_fails_in_a_replay_holds_up_what_is_behind_it(jobs: Jobs, receiver: Receiver) -> None:
    """Its retries come first; given up, it blocks its replay until somebody acts, or is passed over; new events flow."""
    options = {"ordering": "ordered", "retry_schedule": [0, 60]}
    endpoint = await delivered(jobs, receiver, 3, **options)
    receiver.script("/hook", SERVER_ERROR, SERVER_ERROR, OK)
    replay = await jobs.begin(filter={"endpoint_id": endpoint.id})
    await jobs.queue_all()
    await jobs.stage.deliver()
    jobs.stage.clock.advance(seconds=100)
    await jobs.stage.deliver()
    await jobs.stage.commit("entry.posted")
    await jobs.stage.deliver()
    assert arrived(receiver)[3:] == [1, 1, 4]
    assert await statuses(jobs.stage, endpoint) == ["exhausted", "pending", "pending", "delivered"]
    assert (await jobs.see(replay)).waiting == 2
    (first, *_) = await jobs.stage.rows(endpoint.id)
    await jobs.stage.skip.skip_one(SITE, first.id)
    await jobs.stage.deliver()
    assert arrived(receiver)[6:] == [2, 3]
    assert (await jobs.see(replay)).status == "completed"
    receiver.script("/hook", SERVER_ERROR, SERVER_ERROR, OK)
    await jobs.stage.change(endpoint, on_exhausted="skip_and_flag")
    await jobs.begin(filter={"endpoint_id": endpoint.id})
    await jobs.queue_all()
    for _ in range(2):
        await jobs.stage.deliver()
        jobs.stage.clock.advance(seconds=100)
    assert arrived(receiver)[8:] == [1, 1, 2, 3, 4]
    assert (await jobs.stage.endpoints.get(SITE, endpoint.id)).passed_over == 1


async def test_a_catch_up_takes_its_turn_by_its_numbers(jobs: Jobs, receiver: Receiver) -> None:
    """They come behind what is numbered and one by one; what is committed meanwhile has later numbers, and comes after them."""
    await jobs.stage.commit(*["entry.posted"] * 4)
    endpoint = await jobs.stage.endpoint(receiver.url("/hook"), ordering="ordered", max_in_flight=64)
    await jobs.stage.commit("entry.posted")
    hold = asyncio.Event()
    receiver.script("/hook", Reply(hold=hold), OK)
    await jobs.stage.relay_all()
    dispatcher = jobs.stage.dispatcher()
    dispatcher.wake(SITE, endpoint.id)
    await receiver.wait_for_count(1)
    replay = await jobs.begin(catch_up={"endpoint_id": endpoint.id})
    await jobs.queue_all()
    await jobs.stage.commit("entry.posted")
    await jobs.stage.relay_all()
    dispatcher.wake(SITE, endpoint.id)
    assert await statuses(jobs.stage, endpoint) == ["in_flight", *["pending"] * 5]
    hold.set()
    await dispatcher.idle()
    assert arrived(receiver) == [1, 2, 3, 4, 5, 6]
    assert [int(one.headers["x-gledger-sequence"]) for one in receiver.received] == [5, 1, 2, 3, 4, 6]
    assert (await jobs.see(replay)).delivered == 4


async def test_a_catch_up_waits_for_what_was_numbered_before_order_was_asked_for(
    jobs: Jobs, receiver: Receiver
) -> None:
    """It has later numbers; a replay of what was delivered has not, and goes."""
    await jobs.stage.commit("entry.posted", "entry.posted")
    endpoint = await jobs.stage.endpoint(receiver.url("/hook"), max_in_flight=64)
    hold = asyncio.Event()
    receiver.script("/hook", OK, Reply(hold=hold), OK)
    await jobs.stage.commit("entry.posted")
    await jobs.stage.deliver()
    await jobs.stage.commit("entry.posted")
    await jobs.stage.relay_all()
    dispatcher = jobs.stage.dispatcher()
    dispatcher.wake(SITE, endpoint.id)
    await receiver.wait_for_count(2)
    await jobs.stage.change(endpoint, ordering="ordered")
    await jobs.begin(catch_up={"endpoint_id": endpoint.id})
    await jobs.queue_all()
    await jobs.begin(filter={"endpoint_id": endpoint.id, "sequence_to": 3, "status": ["delivered"]})
    await jobs.queue_all()
    dispatcher.wake(SITE, endpoint.id)
    await receiver.wait_for_count(3)
    assert arrived(receiver) == [1, 2, 1]
    hold.set()
    await dispatcher.idle()
    assert endpoint.id in (await jobs.stage.sweeper.run(SITE)).endpoints
    await jobs.stage.deliver()
    assert arrived(receiver) == [1, 2, 1, 3, 4]


async def test_what_waits_for_its_turn_counts_as_queued_ahead(jobs: Jobs, receiver: Receiver) -> None:
    """A replay queues no more than it may have waiting, so that a cancellation is soon felt; the rest follows."""
    count = BACKLOG + 50
    endpoint = await delivered(jobs, receiver, count, ordering="ordered")
    replay = await jobs.begin(filter={"endpoint_id": endpoint.id})
    for _ in range(20):
        outcome = await jobs.runner.step(SITE)
        assert outcome.next_at is not None
        jobs.stage.clock.advance(seconds=1)
    assert (await jobs.see(replay)).queued == BACKLOG
    await jobs.stage.deliver()
    await jobs.queue_all()
    await jobs.stage.deliver()
    assert arrived(receiver)[count:] == list(range(1, count + 1))
    assert (await jobs.see(replay)).status == "completed"


async def test_endpoint_is_told_until_the_last_of_what_a_step_queued_is_due(jobs: Jobs, receiver: Receiver) -> None:
    """Also after the last step, and then the replay has nothing more to do in this process."""
    endpoint = await delivered(jobs, receiver, 3)
    told: list[tuple[str, float]] = []
    loop = asyncio.get_running_loop()
    replaying = Replaying(
        jobs.runner,
        jobs.stage.clock,
        lambda _, endpoint_id: told.append((endpoint_id, loop.time())),
        GivingWay(),
    )
    replay = await jobs.begin(filter={"endpoint_id": endpoint.id}, rate_per_s=12)
    began = loop.time()
    replaying.wake(SITE)
    (working,) = replaying._loops.values()
    async with asyncio.timeout(5):
        await working
    assert {endpoint_id for endpoint_id, _ in told} == {endpoint.id}
    assert told[-1][1] - began >= 2 / 12
    after = await jobs.see(replay)
    assert (after.status, after.queued, after.waiting) == ("delivering", 3, 3)


async def test_a_replay_that_an_order_holds_up_rests_until_something_of_it_is_settled(
    jobs: Jobs, receiver: Receiver
) -> None:
    """It is not looked at again and again while nobody can make room for it; then it goes on at once."""
    stage, count = jobs.stage, BACKLOG + 50
    endpoint = await delivered(jobs, receiver, count, ordering="ordered", retry_schedule=[0])
    receiver.script("/hook", SERVER_ERROR, OK)
    replay = await jobs.begin(filter={"endpoint_id": endpoint.id})
    dispatcher = stage.dispatcher()
    replaying = Replaying(jobs.runner, stage.clock, dispatcher.wake, GivingWay())
    while (await jobs.see(replay)).queued < BACKLOG:
        await jobs.runner.step(SITE)
        stage.clock.advance(seconds=1)
    assert (await jobs.runner.step(SITE)).next_at == stage.clock.now_us() + HELD_US
    await stage.deliver(dispatcher)
    assert (await statuses(stage, endpoint))[:2] == ["exhausted", "pending"]
    replaying.wake(SITE)
    # The clock stands still: nothing is due by it, and only what is told moves it.
    (first, *_) = await stage.rows(endpoint.id)
    await stage.skip.skip_one(SITE, first.id)
    await stage.deliver(dispatcher)
    seen = len(receiver.received)
    replaying.settled(SITE, {replay.id})
    async with asyncio.timeout(HELD_US / 2_000_000):
        await receiver.wait_for_count(seen + 1)
    assert (await jobs.see(replay)).queued == count
    await replaying.stop()
    await dispatcher.idle()
    stage.clock.advance(seconds=1)
    await stage.deliver(dispatcher)
    assert (await jobs.see(replay)).status == "completed"


async def test_two_replays_and_a_change_of_ordering_leave_nothing_behind(jobs: Jobs, receiver: Receiver) -> None:
    """Each has its own order; what one took from the other counts there as skipped; `parallel` lets all go at once."""
    endpoint = await delivered(jobs, receiver, 5, ordering="ordered", retry_schedule=[0, 600, 600])
    receiver.script("/hook", SERVER_ERROR, OK)
    first = await jobs.begin(filter={"endpoint_id": endpoint.id})
    await jobs.queue_all()
    await jobs.stage.deliver()
    assert await statuses(jobs.stage, endpoint) == ["retrying", *["pending"] * 4]
    second = await jobs.begin(filter={"endpoint_id": endpoint.id})
    await jobs.queue_all()
    assert (await jobs.see(second)).queued == 1, "only what was not waiting already"
    await jobs.stage.deliver()
    assert arrived(receiver)[5:] == [1, 1, 2, 3, 4, 5]
    assert {(await jobs.see(each)).status for each in (first, second)} == {"completed"}
    receiver.script("/hook", GONE)
    third = await jobs.begin(filter={"endpoint_id": endpoint.id})
    await jobs.queue_all()
    await jobs.stage.deliver()
    receiver.script("/hook", OK)
    await jobs.stage.endpoints.enable(SITE, endpoint.id)
    await jobs.stage.deliver()
    await jobs.stage.deliver()
    await jobs.stage.change(endpoint, ordering="parallel")
    await jobs.stage.deliver()
    jobs.stage.clock.advance(seconds=3600)
    await jobs.stage.deliver()
    assert set(await statuses(jobs.stage, endpoint)) <= {"delivered", "skipped", "exhausted"}
    assert (await jobs.see(third)).waiting == 0


@pytest.mark.parametrize(
    "options", [{}, {"max_in_flight": 1}, {"ordering": "ordered", "on_exhausted": "skip_and_flag"}]
)
async def test_retry_that_a_replay_takes_up_is_sent_once(
    jobs: Jobs, receiver: Receiver, options: dict[str, object]
) -> None:
    """It is due already as it is stored; the replay has it as it will be, and counts what becomes of it."""
    stage = jobs.stage
    receiver.script("/hook", SERVER_ERROR)
    endpoint = await stage.endpoint(receiver.url("/hook"), **options)
    await stage.commit(*["entry.posted"] * 3)
    await stage.deliver()
    stage.clock.advance(seconds=3600)
    before = [row.id for row in await stage.rows(endpoint.id) if row.status == "retrying"]
    sent = len(receiver.received)
    receiver.script("/hook", OK)
    begun = await jobs.begin(delivery_ids=before)
    # Another process: it knows nothing of what the first one sent.
    dispatcher = stage.dispatcher()
    await jobs.runner.step(SITE)
    stage.clock.advance(seconds=1)
    await stage.deliver(dispatcher)
    replay = await jobs.see(begun)
    assert (replay.status, replay.queued, replay.delivered) == ("completed", len(before), len(before))
    again = [got.headers["webhook-id"] for got in receiver.received[sent:]]
    assert len(again) == len(set(again))
    assert {row.status for row in await stage.rows(endpoint.id)} == {"delivered"}
