"""Order at an endpoint, on SQLite and on PostgreSQL, over real HTTP: what waits for what, and what sets it free."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import msgspec
import pytest

from delivery.bodies import Bodies
from delivery.errors import DeliveryNotSkippable, InvalidOrdering
from delivery.failing import Policy
from delivery.shapes import Endpoint
from delivery.turn import Turn, take_turn
from engine.databases import Database
from tests.fakes.receiver import DROPPED, OK, SERVER_ERROR, Receiver, Reply
from tests.store.delivery_stage import SITE, Stage, make_stage


@pytest.fixture
async def stage(site_database: Database) -> AsyncIterator[Stage]:
    """A site with an empty feed."""
    made = await make_stage(site_database)
    yield made
    await made.close()


def arrived(receiver: Receiver) -> list[int]:
    """Return the endpoint sequences in the order in which they came."""
    return [int(one.headers["x-gledger-endpoint-sequence"]) for one in receiver.received]


async def entry(stage: Stage, *accounts: str, metadata: dict[str, str] | None = None) -> None:
    """Commit an event about an entry that touches these accounts."""
    data = {"lines": [{"account_id": each} for each in accounts], "metadata": metadata or {}}
    await stage.commit("entry.posted", data=msgspec.json.encode(data))


async def statuses(stage: Stage, endpoint: Endpoint) -> list[str]:
    """Return what became of an endpoint's deliveries, in their order."""
    return [row.status for row in await stage.rows(endpoint.id)]


async def test_ordered_endpoint_gets_one_after_the_other_without_a_pause(stage: Stage, receiver: Receiver) -> None:
    """However wide it is, one is in flight; the next goes in the turn that settles the one before it."""
    endpoint = await stage.endpoint(receiver.url("/hook"), ordering="ordered", max_in_flight=64)
    await stage.commit(*["entry.posted"] * 12)
    holds = [asyncio.Event() for _ in range(12)]
    receiver.script("/hook", *(Reply(hold=hold) for hold in holds))
    await stage.relay_all()
    dispatcher = stage.dispatcher()
    dispatcher.wake(SITE, endpoint.id)
    for number, hold in enumerate(holds, 1):
        await receiver.wait_for_count(number)
        assert arrived(receiver) == list(range(1, number + 1))
        assert [row.status for row in await stage.rows(endpoint.id)].count("in_flight") == 1
        hold.set()
    await dispatcher.idle()
    assert set(await statuses(stage, endpoint)) == {"delivered"}


async def test_retry_holds_up_what_comes_after_it(stage: Stage, receiver: Receiver) -> None:
    """A failed delivery is tried again before its successors have their first attempt; they say why they wait."""
    receiver.script("/hook", SERVER_ERROR, DROPPED, OK)
    endpoint = await stage.endpoint(receiver.url("/hook"), ordering="ordered", retry_schedule=[0, 5, 60])
    await stage.commit("entry.posted", "entry.posted")
    await stage.deliver()
    waiting = (await stage.rows(endpoint.id))[1]
    assert (waiting.status, waiting.reason, waiting.next_attempt_at) == ("pending", "waits_for_order", None)
    for seconds in (6, 61):
        await stage.commit("entry.posted")
        stage.clock.advance(seconds=seconds)
        await stage.deliver()
    assert arrived(receiver) == [1, 1, 1, 2, 3, 4]
    assert set(await statuses(stage, endpoint)) == {"delivered"}


async def test_exhausted_delivery_blocks_until_it_is_skipped(stage: Stage, receiver: Receiver) -> None:
    """Nothing behind it goes, whatever time passes; skipping it lets the next go; the numbers have no gap."""
    receiver.script("/hook", SERVER_ERROR, OK)
    endpoint = await stage.endpoint(receiver.url("/hook"), ordering="ordered", retry_schedule=[0])
    await stage.commit("entry.posted", "entry.posted")
    await stage.deliver()
    stage.clock.advance(seconds=86_400)
    await stage.commit("entry.posted")
    await stage.deliver()
    assert await statuses(stage, endpoint) == ["exhausted", "pending", "pending"]
    assert (await stage.sweeper.run(SITE)).endpoints == frozenset()
    (first, *_) = await stage.rows(endpoint.id)
    skipped = await stage.skip.skip_one(SITE, first.id)
    assert (skipped.status, skipped.reason) == ("skipped", "by_request")
    assert (await stage.skip.skip_one(SITE, first.id)).status == "skipped"
    await stage.deliver()
    assert await statuses(stage, endpoint) == ["skipped", "delivered", "delivered"]
    assert arrived(receiver) == [1, 2, 3]
    with pytest.raises(DeliveryNotSkippable):
        await stage.skip.skip_one(SITE, (await stage.rows(endpoint.id))[1].id)


async def test_replay_that_succeeds_ends_a_block_and_one_that_fails_does_not(stage: Stage, receiver: Receiver) -> None:
    """Acting on the blocking delivery is what sets the others free."""
    receiver.script("/hook", SERVER_ERROR, SERVER_ERROR, OK)
    endpoint = await stage.endpoint(receiver.url("/hook"), ordering="ordered", retry_schedule=[0])
    await stage.commit("entry.posted", "entry.posted")
    await stage.deliver()
    (first, _) = await stage.rows(endpoint.id)
    for expected in (["exhausted", "pending"], ["delivered", "delivered"]):
        await stage.replay.replay_one(SITE, first.id)
        await stage.deliver()
        assert await statuses(stage, endpoint) == expected
    assert arrived(receiver) == [1, 1, 1, 2]


async def test_exhausted_delivery_is_passed_over_and_counted_where_that_is_asked_for(
    stage: Stage, receiver: Receiver
) -> None:
    """With skip_and_flag the next goes, the endpoint says how many were left behind, and each counts once."""
    receiver.script("/hook", SERVER_ERROR, OK, SERVER_ERROR, OK)
    options = {"ordering": "ordered", "on_exhausted": "skip_and_flag", "retry_schedule": [0]}
    endpoint = await stage.endpoint(receiver.url("/hook"), **options)
    await stage.commit("entry.posted", "entry.posted")
    await stage.deliver()
    assert await statuses(stage, endpoint) == ["exhausted", "delivered"]
    (first, _) = await stage.rows(endpoint.id)
    await stage.replay.replay_one(SITE, first.id)
    await stage.deliver()
    assert await statuses(stage, endpoint) == ["exhausted", "delivered"]
    assert (await stage.endpoints.get(SITE, endpoint.id)).passed_over == 1


async def test_replay_of_what_was_delivered_stands_outside_the_order(stage: Stage, receiver: Receiver) -> None:
    """It goes while another is in flight, and waits for nobody."""
    hold = asyncio.Event()
    receiver.script("/hook", OK, Reply(hold=hold), OK)
    endpoint = await stage.endpoint(receiver.url("/hook"), ordering="ordered")
    await stage.commit("entry.posted")
    dispatcher = stage.dispatcher()
    await stage.deliver(dispatcher)
    await stage.commit("entry.posted", "entry.posted")
    await stage.relay_all()
    dispatcher.wake(SITE, endpoint.id)
    await receiver.wait_for_count(2)
    (first, *_) = await stage.rows(endpoint.id)
    await stage.replay.replay_one(SITE, first.id)
    dispatcher.wake(SITE, endpoint.id)
    await receiver.wait_for_count(3)
    assert arrived(receiver) == [1, 2, 1]
    hold.set()
    await dispatcher.idle()
    assert arrived(receiver) == [1, 2, 1, 3]


async def test_only_what_shares_an_account_waits(stage: Stage, receiver: Receiver) -> None:
    """Entries over other accounts flow; one that touches a waiting account keeps its order for each account it touches."""
    receiver.script("/hook", SERVER_ERROR, OK)
    endpoint = await stage.endpoint(receiver.url("/hook"), ordering="ordered_by", ordering_key="account")
    for accounts in (("a", "b"), ("c", "d"), ("b", "c"), ("d", "e"), ("c", "f"), ("x",)):
        await entry(stage, *accounts)
    await stage.commit("ledger.created")
    await stage.deliver(stage.dispatcher())
    first = arrived(receiver)
    # 3 waits for 1 (which failed) by b, 5 waits for 3 by c; 4 only for 2 by d.
    assert sorted(first) == [1, 2, 4, 6, 7]
    assert first.index(2) < first.index(4)
    assert [one.reason for one in await stage.rows(endpoint.id)][2] == "waits_for_order"
    stage.clock.advance(seconds=7)
    await stage.deliver()
    assert arrived(receiver)[5:] == [1, 3, 5]
    assert set(await statuses(stage, endpoint)) == {"delivered"}


async def test_order_by_metadata_keeps_each_value_in_order(stage: Stage, receiver: Receiver) -> None:
    """A failing value holds up its own and nobody else."""
    receiver.script("/hook", SERVER_ERROR, OK)
    endpoint = await stage.endpoint(receiver.url("/hook"), ordering="ordered_by", ordering_key="metadata.order")
    for value in ("1", "2", "1", "2"):
        await entry(stage, "a", metadata={"order": value})
    await stage.deliver()
    assert sorted(arrived(receiver)) == [1, 2, 4]
    stage.clock.advance(seconds=7)
    await stage.deliver()
    assert arrived(receiver)[3:] == [1, 3]
    assert set(await statuses(stage, endpoint)) == {"delivered"}


async def test_skipping_in_the_middle_frees_nobody_who_still_has_to_wait(stage: Stage, receiver: Receiver) -> None:
    """What stood behind the skipped one waits for the one before it, and goes after that one once."""
    receiver.script("/hook", SERVER_ERROR, OK)
    endpoint = await stage.endpoint(receiver.url("/hook"), ordering="ordered")
    await stage.commit(*["entry.posted"] * 4)
    await stage.deliver()
    middle = (await stage.rows(endpoint.id))[1]
    await stage.skip.skip_one(SITE, middle.id)
    await stage.deliver()
    assert arrived(receiver) == [1]
    stage.clock.advance(seconds=7)
    await stage.deliver()
    assert arrived(receiver) == [1, 1, 3, 4]
    assert await statuses(stage, endpoint) == ["delivered", "skipped", "delivered", "delivered"]


async def test_order_holds_when_a_sender_dies(stage: Stage, receiver: Receiver) -> None:
    """A lease that runs out is claimed again before anything behind it goes."""
    endpoint = await stage.endpoint(receiver.url("/hook"), ordering="ordered", timeout_s=3)
    await stage.commit("entry.posted", "entry.posted")
    await stage.relay_all()
    turn = Turn(finished=[], endpoint_ids=[endpoint.id], free=10)
    await stage.database.write(
        lambda conn: take_turn(
            conn, SITE.id, turn, Bodies(), now_us=stage.clock.now_us(), policy=Policy(),
            settle_margin_us=10_000_000, chance=lambda: 0.5,
        ),
        site_id=SITE.id,
    )  # fmt: skip
    await stage.deliver()
    assert arrived(receiver) == []
    stage.clock.advance(seconds=14)
    await stage.deliver()
    assert arrived(receiver) == [1, 2]


async def test_pause_and_resume_keep_the_order(stage: Stage, receiver: Receiver) -> None:
    """What was numbered during the pause goes after what was numbered before it."""
    receiver.script("/hook", SERVER_ERROR, OK)
    endpoint = await stage.endpoint(receiver.url("/hook"), ordering="ordered")
    await stage.commit("entry.posted", "entry.posted")
    await stage.deliver()
    await stage.endpoints.pause(SITE, endpoint.id)
    await stage.commit("entry.posted")
    stage.clock.advance(seconds=60)
    await stage.deliver()
    assert arrived(receiver) == [1]
    await stage.endpoints.resume(SITE, endpoint.id)
    await stage.deliver()
    assert arrived(receiver) == [1, 1, 2, 3]


async def test_order_begins_when_all_that_was_numbered_before_is_finished(stage: Stage, receiver: Receiver) -> None:
    """From parallel to ordered while some wait: the old ones go in parallel, the new ones after them, in order."""
    receiver.script("/hook", SERVER_ERROR, SERVER_ERROR, OK)
    endpoint = await stage.endpoint(receiver.url("/hook"))
    await stage.commit("entry.posted", "entry.posted")
    dispatcher = stage.dispatcher()
    await stage.deliver(dispatcher)
    await stage.change(endpoint, ordering="ordered")
    await stage.commit("entry.posted", "entry.posted")
    await stage.deliver(dispatcher)
    assert sorted(arrived(receiver)) == [1, 2]
    stage.clock.advance(seconds=7)
    await stage.deliver(dispatcher)
    assert sorted(arrived(receiver)[2:4]) == [1, 2]
    assert arrived(receiver)[4:] == [3, 4]


async def test_order_given_up_lets_everything_go(stage: Stage, receiver: Receiver) -> None:
    """From ordered to parallel: what waited for its turn is due at once."""
    receiver.script("/hook", SERVER_ERROR, OK)
    endpoint = await stage.endpoint(receiver.url("/hook"), ordering="ordered")
    await stage.commit(*["entry.posted"] * 4)
    await stage.deliver()
    assert (await stage.change(endpoint, ordering="parallel")).ordering == "parallel"
    await stage.deliver()
    assert sorted(arrived(receiver)) == [1, 2, 3, 4]


async def test_other_key_waits_for_what_was_ordered_by_the_old_one(stage: Stage, receiver: Receiver) -> None:
    """From ordered to ordered_by while one fails: the chain ends in its order, then the new order begins."""
    receiver.script("/hook", SERVER_ERROR, OK)
    endpoint = await stage.endpoint(receiver.url("/hook"), ordering="ordered", max_in_flight=2)
    for account in ("a", "b", "c"):
        await entry(stage, account)
    await stage.deliver()
    await stage.change(endpoint, ordering="ordered_by", ordering_key="account")
    for account in ("x", "y", "z", "x"):
        await entry(stage, account)
    await stage.deliver()
    assert arrived(receiver) == [1]
    stage.clock.advance(seconds=7)
    await stage.deliver()
    assert arrived(receiver)[1:4] == [1, 2, 3]
    assert sorted(arrived(receiver)[4:]) == [4, 5, 6, 7]


async def test_letting_the_exhausted_pass_ends_a_block(stage: Stage, receiver: Receiver) -> None:
    """Changing on_exhausted sets free what was blocked."""
    receiver.script("/hook", SERVER_ERROR, OK)
    endpoint = await stage.endpoint(receiver.url("/hook"), ordering="ordered", retry_schedule=[0])
    await stage.commit("entry.posted", "entry.posted")
    await stage.deliver()
    assert (await stage.change(endpoint, on_exhausted="skip_and_flag")).passed_over == 1
    await stage.deliver()
    assert await statuses(stage, endpoint) == ["exhausted", "delivered"]


async def test_removed_endpoint_leaves_nothing_waiting(stage: Stage, receiver: Receiver) -> None:
    """What waited for its turn is skipped with the rest."""
    receiver.script("/hook", SERVER_ERROR)
    endpoint = await stage.endpoint(receiver.url("/hook"), ordering="ordered")
    await stage.commit(*["entry.posted"] * 3)
    await stage.deliver()
    await stage.endpoints.delete(SITE, endpoint.id)
    assert await statuses(stage, endpoint) == ["skipped"] * 3


async def test_ordering_that_lacks_its_key_is_refused(stage: Stage, receiver: Receiver) -> None:
    """At registration and at a change, and nothing is kept of it."""
    with pytest.raises(InvalidOrdering):
        await stage.endpoint(receiver.url("/hook"), ordering="ordered_by")
    endpoint = await stage.endpoint(receiver.url("/hook"))
    with pytest.raises(InvalidOrdering):
        await stage.change(endpoint, ordering_key="account")
    changed = await stage.change(endpoint, ordering="ordered_by", ordering_key="ledger")
    assert (changed.ordering, changed.ordering_key) == ("ordered_by", "ledger")
    assert (await stage.change(endpoint, ordering="ordered")).ordering_key is None


async def test_rate_is_kept_by_two_processes_together(stage: Stage, receiver: Receiver) -> None:
    """In one moment of a clock that stands still, only the slots that lie ahead are taken, whoever claims."""
    endpoint = await stage.endpoint(receiver.url("/hook"), rate_limit=8, max_in_flight=16)
    await stage.commit(*["entry.posted"] * 20)
    await stage.relay_all()
    both = [stage.dispatcher(), stage.dispatcher()]
    for expected in (3, 5, 7):
        for dispatcher in both:
            dispatcher.wake(SITE, endpoint.id)
        await asyncio.gather(*(dispatcher.idle() for dispatcher in both))
        assert len(receiver.received) == expected
        stage.clock.advance(seconds=0.25)
    assert receiver.received[2].at_s - receiver.received[0].at_s > 0.2
