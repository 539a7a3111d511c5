"""Replays of many deliveries, on SQLite and on PostgreSQL: what they select, how they go on, what they count."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgspec
import pytest

from delivery.dispatch import DispatchSettings
from delivery.errors import EndpointDisabled, EndpointNotFound, InvalidReplay, ReplayFinished, ReplayNotFound
from delivery.replay_jobs import Replays
from delivery.replay_run import AHEAD_US, BACKLOG, STEP_ROWS, ReplayRunner
from delivery.replay_shapes import RATE_DEFAULT, RATE_MAX, Replay, ReplayCreate
from delivery.shapes import Endpoint, EndpointChange
from engine import feed
from engine.cursors import feed_cursor
from engine.databases import Database
from engine.errors import CursorInvalid, IdempotencyKeyReused, PreconditionFailed
from engine.idempotency import IdempotencyKey
from engine.money import format_instant
from tests.fakes.receiver import GONE, OK, SERVER_ERROR, Receiver
from tests.store.delivery_stage import SITE, Stage, make_stage


class Jobs:
    """The replays of a stage and one process that goes on with them."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.cases = Replays(stage.databases, clock=stage.clock, ids=stage.ids)
        self.runner = self.process()

    def process(self) -> ReplayRunner:
        """Return what another process has."""
        return ReplayRunner(self.stage.databases, clock=self.stage.clock, ids=self.stage.ids, chance=lambda: 0.0)

    async def begin(self, **body: object) -> Replay:
        """Begin a replay, as fast as may be unless told."""
        begun = await self.cases.create(SITE, draft(**{"rate_per_s": RATE_MAX, **body}))
        return msgspec.json.decode(begun.body, type=Replay)

    async def queue_all(self, *, steps: int = 100) -> None:
        """Take steps until no replay is running, time passing between them."""
        for _ in range(steps):
            outcome = await self.runner.step(SITE)
            if outcome.next_at is None:
                # What the last step queued comes due.
                self.stage.clock.advance(seconds=AHEAD_US / 1e6)
                return
            self.stage.clock.advance(seconds=max(outcome.next_at - self.stage.clock.now_us(), 0) / 1e6)
        raise AssertionError("a replay is still running")

    async def see(self, replay: Replay) -> Replay:
        """Return a replay as it is now; its identities hold."""
        now = await self.cases.get(SITE, replay.id)
        assert now.queued == now.delivered + now.failed + now.waiting
        assert now.status not in {"delivering", "completed"} or now.total == now.queued + now.skipped
        return now


def draft(**body: object) -> ReplayCreate:
    """Return what begins a replay."""
    return msgspec.convert(body, ReplayCreate)


@pytest.fixture
async def jobs(site_database: Database) -> AsyncIterator[Jobs]:
    """A site with an empty feed, and its replays."""
    stage = await make_stage(site_database)
    yield Jobs(stage)
    await stage.close()


async def _delivered(jobs: Jobs, receiver: Receiver, count: int, path: str = "/hook") -> Endpoint:
    endpoint = await jobs.stage.endpoint(receiver.url(path))
    await jobs.stage.commit(*["entry.posted"] * count)
    await jobs.stage.deliver()
    return endpoint


def _numbers(receiver: Receiver, start: int = 0) -> list[int]:
    return sorted(int(got.headers["x-gledger-endpoint-sequence"]) for got in receiver.received[start:])


async def test_chosen_deliveries_are_sent_again_under_their_ids_and_numbers(jobs: Jobs, receiver: Receiver) -> None:
    """A selection by id sends exactly these once more; the log calls the attempt a replay; the counts add up."""
    endpoint = await _delivered(jobs, receiver, 5)
    rows = await jobs.stage.rows(endpoint.id)
    before = {got.headers["webhook-id"] for got in receiver.received}
    replay = await jobs.begin(delivery_ids=[rows[3].id, rows[1].id, rows[1].id])
    assert (replay.status, replay.total) == ("running", 2)
    await jobs.queue_all()
    assert (await jobs.see(replay)).status == "delivering"
    await jobs.stage.deliver()
    assert _numbers(receiver, 5) == [2, 4]
    assert {got.headers["webhook-id"] for got in receiver.received} == before
    assert [one.trigger for one in await jobs.stage.attempts(rows[1])] == ["scheduled", "replay"]
    after = await jobs.see(replay)
    assert (after.status, after.queued, after.delivered, after.failed, after.skipped) == ("completed", 2, 2, 0, 0)


async def test_what_one_request_led_to_is_replayed_by_its_correlation_id(jobs: Jobs, receiver: Receiver) -> None:
    """And one event to everybody by its id: nothing else is sent."""
    endpoint = await jobs.stage.endpoint(receiver.url("/hook"))
    await jobs.stage.commit("entry.posted")
    [_, second] = await jobs.stage.commit("entry.posted", "entry.posted", correlation_id="order-7")
    await jobs.stage.deliver()
    for chosen, numbers in (({"correlation_id": "order-7"}, [2, 3]), ({"event_id": second}, [3])):
        seen = len(receiver.received)
        body = {"filter": {"endpoint_id": endpoint.id, **chosen}}
        assert (await jobs.cases.preview(SITE, draft(**body))).total == len(numbers)
        await jobs.begin(**body)
        await jobs.queue_all()
        await jobs.stage.deliver()
        assert _numbers(receiver, seen) == numbers


@pytest.mark.parametrize(
    ("chosen", "numbers"),
    [
        ({"status": ["exhausted"]}, [2]),
        ({"last_response": "5xx"}, [2]),
        ({"last_response": "2xx"}, [1, 3, 4]),
        ({"last_response": "none"}, []),
        ({"last_error": "http_5xx"}, [2]),
        ({"last_error": "http_5xx", "last_response": "4xx"}, []),
        ({"event_id": "01890000-0000-7000-8000-000000000000"}, []),
        ({"correlation_id": "nobody"}, []),
        ({"event_types": ["account.*"]}, [3]),
        ({"sequence_from": 2, "sequence_to": 3}, [2, 3]),
        ({"event_types": ["entry.*"], "sequence_from": 3}, [4]),
    ],
)
async def test_a_filter_selects_what_matches_all_of_it(
    jobs: Jobs, receiver: Receiver, chosen: dict[str, Any], numbers: list[int]
) -> None:
    """Preview and replay agree; only what matches is sent."""
    receiver.script("/hook", OK, SERVER_ERROR, OK)
    endpoint = await jobs.stage.endpoint(receiver.url("/hook"), retry_schedule=[0], max_in_flight=1)
    await jobs.stage.commit("entry.posted", "entry.posted", "account.created", "entry.created")
    await jobs.stage.deliver()
    seen = len(receiver.received)
    body = {"filter": {"endpoint_id": endpoint.id, **chosen}}
    preview = await jobs.cases.preview(SITE, draft(**body))
    assert preview.total == len(numbers)
    replay = await jobs.begin(**body)
    await jobs.queue_all()
    await jobs.stage.deliver()
    assert _numbers(receiver, seen) == numbers
    assert (await jobs.see(replay)).status == "completed"


async def test_everything_since_a_time_goes_to_every_endpoint_that_takes_deliveries(
    jobs: Jobs, receiver: Receiver
) -> None:
    """Bounds are by the delivery's creation; a disabled endpoint is left out, and preview says who gets how much."""
    receiver.script("/gone", GONE)
    one = await jobs.stage.endpoint(receiver.url("/one"), "entry.*")
    two = await jobs.stage.endpoint(receiver.url("/two"), "entry.*")
    await jobs.stage.endpoint(receiver.url("/gone"), "entry.*")
    await jobs.stage.commit("entry.posted")
    await jobs.stage.deliver()
    jobs.stage.clock.advance(seconds=60)
    since = format_instant(jobs.stage.clock.now_us())
    await jobs.stage.commit("entry.posted", "entry.posted")
    await jobs.stage.deliver()
    preview = await jobs.cases.preview(SITE, draft(filter={"since": since}))
    assert {share.endpoint_id: share.total for share in preview.endpoints} == {one.id: 2, two.id: 2}
    replay = await jobs.begin(filter={"since": since})
    seen = len(receiver.received)
    await jobs.queue_all()
    await jobs.stage.deliver()
    assert _numbers(receiver, seen) == [2, 2, 3, 3]
    assert (await jobs.see(replay)).delivered == 4
    none = await jobs.begin(filter={"since": format_instant(jobs.stage.clock.now_us() + 3_600_000_000)})
    assert (none.status, none.total) == ("completed", 0)


async def test_catch_up_numbers_what_the_endpoint_never_had(jobs: Jobs, receiver: Receiver) -> None:
    """Events before the subscription get the endpoint's next numbers, once for ever, however often it is asked."""
    await jobs.stage.commit("entry.posted", "account.created", "entry.created")
    endpoint = await jobs.stage.endpoint(receiver.url("/hook"), "entry.*")
    await jobs.stage.commit("entry.posted")
    await jobs.stage.deliver()
    replay = await jobs.begin(catch_up={"endpoint_id": endpoint.id})
    assert replay.total == 2
    await jobs.queue_all()
    await jobs.stage.commit("entry.posted")
    await jobs.stage.deliver()
    rows = await jobs.stage.rows(endpoint.id)
    assert [(row.endpoint_sequence, row.sequence) for row in rows] == [(1, 4), (2, 1), (3, 3), (4, 5)]
    assert {row.status for row in rows} == {"delivered"}
    assert [one.trigger for one in await jobs.stage.attempts(rows[1])] == ["replay"]
    assert (await jobs.see(replay)).delivered == 2
    again = await jobs.begin(catch_up={"endpoint_id": endpoint.id})
    assert (again.status, again.total) == ("completed", 0)


async def test_catch_up_from_a_cursor_skips_what_lies_before_it(jobs: Jobs, receiver: Receiver) -> None:
    """The cursor is one of the site's feed; one of another history is refused."""
    await jobs.stage.commit("entry.posted", "entry.posted")
    head = await jobs.stage.database.read(lambda conn: feed.read_head(conn, SITE.id), site_id=SITE.id)
    await jobs.stage.commit("entry.posted")
    endpoint = await jobs.stage.endpoint(receiver.url("/hook"))
    await jobs.stage.deliver()
    await jobs.begin(catch_up={"endpoint_id": endpoint.id, "after": head.cursor()})
    await jobs.queue_all()
    assert [row.sequence for row in await jobs.stage.rows(endpoint.id)] == [3]
    forged = feed_cursor(head.epoch, head.sequence, b"another")
    with pytest.raises(CursorInvalid):
        await jobs.begin(catch_up={"endpoint_id": endpoint.id, "after": forged})


async def test_catch_up_waits_for_the_relay_where_it_lies_behind(jobs: Jobs, receiver: Receiver) -> None:
    """What the relay has yet to number is not numbered twice; what it will pass over is appended once it has."""
    await jobs.stage.commit("entry.posted")
    endpoint = await jobs.stage.endpoint(receiver.url("/hook"))
    await jobs.stage.commit("entry.posted")
    replay = await jobs.begin(catch_up={"endpoint_id": endpoint.id})
    for _ in range(3):
        await jobs.runner.step(SITE)
        jobs.stage.clock.advance(seconds=1)
    assert await jobs.stage.rows(endpoint.id) == []
    await jobs.stage.deliver()
    await jobs.queue_all()
    await jobs.stage.deliver()
    assert [(row.endpoint_sequence, row.sequence) for row in await jobs.stage.rows(endpoint.id)] == [(1, 2), (2, 1)]
    after = await jobs.see(replay)
    assert (after.status, after.total, after.delivered) == ("completed", 1, 1)


async def test_catch_up_follows_the_subscription_as_it_is_now(jobs: Jobs, receiver: Receiver) -> None:
    """Events that an older, narrower subscription passed over are appended after it was widened."""
    endpoint = await jobs.stage.endpoint(receiver.url("/hook"), "account.*")
    await jobs.stage.commit("entry.posted", "account.created")
    await jobs.stage.deliver()
    await jobs.stage.endpoints.change(SITE, endpoint.id, msgspec.convert({"event_types": ["*"]}, EndpointChange))
    await jobs.begin(catch_up={"endpoint_id": endpoint.id})
    await jobs.queue_all()
    await jobs.stage.deliver()
    assert [(row.endpoint_sequence, row.sequence) for row in await jobs.stage.rows(endpoint.id)] == [(1, 2), (2, 1)]


async def test_a_rate_is_kept_to_and_a_late_step_does_not_slow_it(jobs: Jobs, receiver: Receiver) -> None:
    """So many a second come due, evenly, whatever the number."""
    endpoint = await _delivered(jobs, receiver, 50)
    replay = await jobs.begin(filter={"sequence_from": 1}, rate_per_s=20)
    began, due, late_us = jobs.stage.clock.now_us(), list[int](), 60_000
    next_at: int | None = began
    while next_at is not None:
        outcome = await jobs.runner.step(SITE)
        due += outcome.due[endpoint.id]
        next_at = outcome.next_at
        jobs.stage.clock.advance(seconds=((next_at or began) - jobs.stage.clock.now_us() + late_us) / 1e6)
    assert len(due) == 50
    assert all(0 <= at - began - number * 50_000 <= late_us for number, at in enumerate(due))
    assert (await jobs.see(replay)).queued == 50
    assert (await jobs.begin(filter={"sequence_from": 1}, rate_per_s=None)).rate_per_s == RATE_DEFAULT


async def test_share_of_its_rate_is_what_a_replay_takes_then(jobs: Jobs, receiver: Receiver) -> None:
    """Fewer, further apart, and the next step so much later that no more than the share goes; never so few that it ends."""
    endpoint = await _delivered(jobs, receiver, 30)
    await jobs.begin(filter={"endpoint_id": endpoint.id}, rate_per_s=10)
    for share, ahead_us, count, apart_us in (
        (1.0, AHEAD_US, 10, 100_000),
        (0.5, AHEAD_US, 5, 200_000),
        (0.5, 600_000, 3, 200_000),
        (1.0, 0, 1, 100_000),
        (0.0001, AHEAD_US, 1, 1_000_000),
    ):
        now_us = jobs.stage.clock.now_us()
        outcome = await jobs.runner.step(SITE, share=share, ahead_us=ahead_us)
        assert outcome.due == {endpoint.id: [now_us + number * apart_us for number in range(count)]}
        assert outcome.next_at == now_us + count * apart_us
        jobs.stage.clock.advance(seconds=count * apart_us / 1e6)


async def test_no_more_is_queued_than_an_endpoint_takes(jobs: Jobs, receiver: Receiver) -> None:
    """A backlog is bounded, so that a pause or a cancellation is felt; another endpoint goes on meanwhile."""
    count = BACKLOG + STEP_ROWS
    slow = await jobs.stage.endpoint(receiver.url("/slow"))
    quick = await jobs.stage.endpoint(receiver.url("/quick"))
    await jobs.stage.commit(*["entry.posted"] * count)
    await jobs.stage.deliver()
    await jobs.stage.endpoints.pause(SITE, slow.id)
    replay = await jobs.begin(filter={"sequence_from": 1})
    dispatcher = jobs.stage.dispatcher()
    for _ in range(20):
        outcome = await jobs.runner.step(SITE)
        jobs.stage.clock.advance(seconds=2)
        for endpoint_id in outcome.due:
            dispatcher.wake(SITE, endpoint_id)
        await dispatcher.idle()
    after = await jobs.see(replay)
    waiting = [row for row in await jobs.stage.rows(slow.id) if row.status == "pending"]
    assert len(waiting) == BACKLOG
    assert {row.attempts for row in await jobs.stage.rows(quick.id)} == {2}
    assert (after.status, after.waiting, after.delivered) == ("running", BACKLOG, count)
    canceled = await jobs.cases.cancel(SITE, replay.id)
    assert canceled.status == "canceled"
    assert await jobs.runner.next_at(SITE) is None


async def test_pause_resume_and_cancel_steer_a_running_replay_only(jobs: Jobs, receiver: Receiver) -> None:
    """Each takes effect before the next step, is harmless twice, and is refused once there is nothing to steer."""
    await _delivered(jobs, receiver, 3)
    replay = await jobs.begin(filter={"sequence_from": 1})
    paused = await jobs.cases.pause(SITE, replay.id, if_match=replay.lock_version)
    with pytest.raises(PreconditionFailed):
        await jobs.cases.pause(SITE, replay.id, if_match=replay.lock_version)
    assert (paused.status, (await jobs.cases.pause(SITE, replay.id)).lock_version) == ("paused", paused.lock_version)
    assert (await jobs.runner.step(SITE)).next_at is None
    assert (await jobs.see(replay)).queued == 0
    assert (await jobs.cases.resume(SITE, replay.id)).status == "running"
    await jobs.queue_all()
    for steer in (jobs.cases.pause, jobs.cases.resume, jobs.cases.cancel):
        with pytest.raises(ReplayFinished):
            await steer(SITE, replay.id)
    other = await jobs.begin(filter={"sequence_from": 1})
    await jobs.cases.cancel(SITE, other.id)
    with pytest.raises(ReplayFinished):
        await jobs.cases.resume(SITE, other.id)
    with pytest.raises(ReplayNotFound):
        await jobs.cases.get(SITE, jobs.stage.ids.draw(1))


async def test_two_replays_of_the_same_deliveries_send_what_waits_once(jobs: Jobs, receiver: Receiver) -> None:
    """The second leaves what the first has queued; each counts what it did, and both come to an end."""
    await _delivered(jobs, receiver, 4)
    first = await jobs.begin(filter={"sequence_from": 1})
    second = await jobs.begin(filter={"sequence_from": 1})
    await jobs.queue_all()
    await jobs.stage.deliver()
    assert _numbers(receiver, 4) == [1, 2, 3, 4]
    assert ((await jobs.see(first)).delivered, (await jobs.see(second)).skipped) == (4, 4)
    third = await jobs.begin(filter={"sequence_from": 1})
    await jobs.queue_all()
    await jobs.stage.deliver()
    assert ((await jobs.see(first)).delivered, (await jobs.see(third)).delivered) == (4, 4)


async def test_what_waits_for_its_retry_goes_over_to_the_replay_that_takes_it(jobs: Jobs, receiver: Receiver) -> None:
    """Taken by another replay, or by hand, a delivery counts for whoever took it and as skipped for who had it."""
    endpoint = await _delivered(jobs, receiver, 2)
    receiver.script("/hook", SERVER_ERROR, SERVER_ERROR, OK)
    first = await jobs.begin(filter={"sequence_from": 1})
    await jobs.queue_all()
    await jobs.stage.deliver()
    assert (await jobs.see(first)).waiting == 2
    one, two = await jobs.stage.rows(endpoint.id)
    second = await jobs.begin(delivery_ids=[one.id])
    await jobs.queue_all()
    await jobs.stage.replay.replay_one(SITE, two.id)
    await jobs.stage.deliver()
    after = await jobs.see(first)
    assert (after.status, after.queued, after.skipped) == ("completed", 0, 2)
    assert ((await jobs.see(second)).delivered, len(receiver.received)) == (1, 6)


async def test_what_fails_for_good_is_counted_as_failed(jobs: Jobs, receiver: Receiver) -> None:
    """A replayed delivery has a fresh schedule; at its end it is exhausted and the replay says so."""
    endpoint = await jobs.stage.endpoint(receiver.url("/hook"), retry_schedule=[0, 1])
    await jobs.stage.commit("entry.posted")
    await jobs.stage.deliver()
    receiver.script("/hook", SERVER_ERROR, SERVER_ERROR)
    replay = await jobs.begin(filter={"endpoint_id": endpoint.id})
    await jobs.queue_all()
    await jobs.stage.deliver()
    assert (await jobs.see(replay)).status == "delivering"
    jobs.stage.clock.advance(seconds=2)
    await jobs.stage.deliver()
    after = await jobs.see(replay)
    assert (after.status, after.failed) == ("completed", 1)


@pytest.mark.parametrize("end", ["delete", "disable"])
async def test_an_endpoint_that_goes_away_ends_its_part(jobs: Jobs, receiver: Receiver, end: str) -> None:
    """What was not queued is skipped, what was queued is settled by what becomes of it, and the replay ends."""
    endpoint = await _delivered(jobs, receiver, STEP_ROWS + 5)
    replay = await jobs.begin(filter={"endpoint_id": endpoint.id})
    await jobs.runner.step(SITE)
    if end == "delete":
        await jobs.stage.endpoints.delete(SITE, endpoint.id)
    else:
        # All but one of the hundred have been answered when it is: the one that says so decides for what is left.
        receiver.script("/hook", GONE)
        await jobs.stage.deliver()
    jobs.stage.clock.advance(seconds=1)
    await jobs.queue_all()
    after = await jobs.see(replay)
    assert (after.queued, after.skipped) == (STEP_ROWS, 5)
    if end == "delete":
        assert (after.status, after.failed) == ("completed", STEP_ROWS)
        with pytest.raises(EndpointNotFound):
            await jobs.begin(filter={"endpoint_id": endpoint.id})
    else:
        assert after.status == "delivering"
        with pytest.raises(EndpointDisabled):
            await jobs.begin(filter={"endpoint_id": endpoint.id})


async def test_a_crash_between_two_steps_loses_and_repeats_nothing(jobs: Jobs, receiver: Receiver) -> None:
    """A step is one transaction: one that fails leaves everything as it was, and another process goes on."""
    endpoint = await _delivered(jobs, receiver, STEP_ROWS + 7)
    replay = await jobs.begin(filter={"endpoint_id": endpoint.id})
    await jobs.runner.step(SITE)
    jobs.stage.databases.failures = 1
    with pytest.raises(ConnectionRefusedError):
        await jobs.runner.step(SITE)
    jobs.stage.clock.advance(seconds=1)
    jobs.runner = jobs.process()
    await jobs.queue_all()
    await jobs.stage.deliver()
    assert {row.attempts for row in await jobs.stage.rows(endpoint.id)} == {2}
    assert (await jobs.see(replay)).delivered == STEP_ROWS + 7


async def test_many_processes_go_on_with_one_replay_without_queueing_twice(jobs: Jobs, receiver: Receiver) -> None:
    """However many take steps at once, while attempts are settled and others post: once each."""
    endpoint = await _delivered(jobs, receiver, 3 * STEP_ROWS)
    replay = await jobs.begin(filter={"endpoint_id": endpoint.id})
    dispatcher = jobs.stage.dispatcher(DispatchSettings())
    stop = asyncio.Event()

    async def go_on() -> None:
        runner = jobs.process()
        while not stop.is_set():
            outcome = await runner.step(SITE)
            for endpoint_id in outcome.due:
                dispatcher.wake(SITE, endpoint_id)
            if outcome.next_at is None:
                stop.set()
            jobs.stage.clock.advance(seconds=0.1)
            await asyncio.sleep(0)

    async with asyncio.timeout(60):
        await asyncio.gather(*(go_on() for _ in range(3)))
    await dispatcher.idle()
    await jobs.stage.deliver(dispatcher)
    assert {row.attempts for row in await jobs.stage.rows(endpoint.id)} == {2}
    after = await jobs.see(replay)
    assert (after.status, after.delivered) == ("completed", 3 * STEP_ROWS)


async def test_first_attempts_go_before_what_is_replayed(jobs: Jobs, receiver: Receiver) -> None:
    """At an endpoint with one place, an event that is committed now does not wait for a replay's backlog."""
    endpoint = await jobs.stage.endpoint(receiver.url("/hook"), max_in_flight=4)
    await jobs.stage.commit(*["entry.posted"] * 40)
    await jobs.stage.deliver()
    await jobs.begin(filter={"endpoint_id": endpoint.id})
    await jobs.queue_all()
    await jobs.stage.commit(*["entry.posted"] * 3)
    await jobs.stage.deliver()
    order = _order(receiver.received[40:])
    assert max(order.index(number) for number in (41, 42, 43)) <= 4


def _order(received: Sequence[Any]) -> list[int]:
    return [int(got.headers["x-gledger-endpoint-sequence"]) for got in received]


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, ""),
        ({"filter": {"since": "2026-11-21T00:00:00Z"}, "delivery_ids": ["0192"]}, ""),
        ({"filter": {}}, "/filter"),
        ({"filter": {"since": "yesterday"}}, "/filter/since"),
    ],
)
async def test_a_replay_of_nothing_in_particular_is_refused(jobs: Jobs, body: dict[str, Any], pointer: str) -> None:
    """What is missing or wrong is named, and nothing begins."""
    if "delivery_ids" in body:
        body = {**body, "delivery_ids": [jobs.stage.ids.draw(1)]}
    with pytest.raises(InvalidReplay) as refused:
        await jobs.begin(**body)
    assert refused.value.pointer == pointer
    assert (await jobs.cases.list(SITE, limit=10)).data == []


async def test_unknown_deliveries_are_named(jobs: Jobs, receiver: Receiver) -> None:
    """One that is not there, or is another site's, refuses the whole selection."""
    endpoint = await _delivered(jobs, receiver, 1)
    (row,) = await jobs.stage.rows(endpoint.id)
    with pytest.raises(InvalidReplay) as refused:
        await jobs.begin(delivery_ids=[row.id, jobs.stage.ids.draw(1)])
    assert refused.value.pointer == "/delivery_ids/1"


async def test_the_same_key_begins_one_replay(jobs: Jobs, receiver: Receiver) -> None:
    """Asked again it is answered as it was; the key of another request is refused."""
    await _delivered(jobs, receiver, 1)
    wanted = draft(filter={"sequence_from": 1})
    key = IdempotencyKey(key="k", fingerprint=b"1")
    one, two = await asyncio.gather(*(jobs.cases.create(SITE, wanted, key=key) for _ in range(2)))
    assert {one.replayed, two.replayed} == {False, True}
    assert one.body == two.body
    with pytest.raises(IdempotencyKeyReused):
        await jobs.cases.create(SITE, wanted, key=IdempotencyKey(key="k", fingerprint=b"2"))
    (endpoint,) = (await jobs.stage.endpoints.list(SITE, limit=1)).data
    narrow = draft(filter={"endpoint_id": endpoint.id})
    first = await jobs.cases.create(SITE, narrow, key=IdempotencyKey(key="n", fingerprint=b"1"))
    await jobs.stage.endpoints.delete(SITE, endpoint.id)
    assert (await jobs.cases.create(SITE, narrow, key=IdempotencyKey(key="n", fingerprint=b"1"))).body == first.body


async def test_replays_are_listed_newest_first_in_pages(jobs: Jobs, receiver: Receiver) -> None:
    """A page goes on where the last one ended."""
    await _delivered(jobs, receiver, 1)
    made = [(await jobs.begin(filter={"sequence_from": 1})).id for _ in range(3)]
    first = await jobs.cases.list(SITE, limit=2)
    rest = await jobs.cases.list(SITE, limit=2, before=first.data[-1].id)
    assert [one.id for one in (*first.data, *rest.data)] == made[::-1]
    assert (first.has_more, rest.has_more) == (True, False)
