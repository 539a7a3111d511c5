"""From the feed to the receiver and back into the log, on SQLite and on PostgreSQL, over real HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from standardwebhooks.webhooks import Webhook
from structlog.testing import capture_logs

from delivery.attempts import interrupted
from delivery.bodies import Bodies
from delivery.claim import Claim
from delivery.dispatch import DispatchSettings
from delivery.egress import EgressPolicy
from delivery.failing import Policy
from delivery.log import DeliveryFilter
from delivery.rows import AttemptRow
from delivery.settle import Settlement
from delivery.store.deliveries import recording
from delivery.turn import Turn, take_turn
from engine.databases import Database
from engine.money import format_instant
from engine.sql import write
from tests.fakes.receiver import GONE, OK, SERVER_ERROR, Receiver, Reply, too_many
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


async def test_failed_attempts_follow_the_schedule_until_one_succeeds(stage: Stage, receiver: Receiver) -> None:
    """A retry is due when the log says, announced once, sent under the same ids with the next attempt's number."""
    receiver.script("/hook", SERVER_ERROR, OK)
    endpoint = await stage.endpoint(receiver.url("/hook"))
    await stage.commit("entry.posted")
    dispatcher = stage.dispatcher()
    await stage.deliver(dispatcher)
    (waiting,) = await stage.rows(endpoint.id)
    due_at = stage.clock.now_us() + 5_000_000
    assert (waiting.status, waiting.attempts, waiting.next_attempt_at) == ("retrying", 1, format_instant(due_at))
    assert stage.scheduled == [(endpoint.id, due_at)]
    assert (await stage.sweeper.run(SITE)).next_due_at == due_at
    stage.clock.advance(seconds=4.999)
    await stage.deliver(dispatcher)
    assert len(receiver.received) == 1
    stage.clock.advance(seconds=0.001)
    await stage.deliver(dispatcher)
    first, second = receiver.received
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    assert first.headers["x-gledger-delivery-id"] == second.headers["x-gledger-delivery-id"]
    assert [one.headers["x-gledger-attempt"] for one in (first, second)] == ["1", "2"]
    assert first.body == second.body
    (delivery,) = await stage.rows(endpoint.id)
    assert (delivery.status, delivery.attempts) == ("delivered", 2)
    assert [one.error_class for one in await stage.attempts(delivery)] == ["http_5xx", None]
    assert (await stage.sweeper.run(SITE)).next_due_at is None


async def test_exhausted_delivery_is_told_to_others_and_recovery_too(stage: Stage, receiver: Receiver) -> None:
    """Giving up and recovering are facts of the feed; the endpoint they are about never receives them."""
    receiver.script("/bad", SERVER_ERROR, SERVER_ERROR, OK)
    bad = await stage.endpoint(receiver.url("/bad"), retry_schedule=[0, 1])
    good = await stage.endpoint(receiver.url("/good"), "delivery.*", "endpoint.*")
    await stage.commit("entry.posted")
    await stage.deliver()
    stage.clock.advance(seconds=2)
    await stage.deliver()
    (delivery,) = await stage.rows(bad.id)
    assert (delivery.status, delivery.reason, delivery.next_attempt_at) == ("exhausted", "http_5xx", None)
    assert stage.settled == [False, True]
    assert await stage.facts.run(SITE) == 2
    assert await stage.facts.run(SITE) == 0
    await stage.deliver()
    assert {_event(one.body)["type"] for one in receiver.at("/good")} == {"delivery.exhausted", "endpoint.failing"}
    assert (await stage.endpoints.get(SITE, bad.id)).failing_since is not None
    await stage.replay.replay_one(SITE, delivery.id)
    await stage.deliver()
    assert (await stage.endpoints.get(SITE, bad.id)).failing_since is None
    assert await stage.facts.run(SITE) == 1
    await stage.deliver()
    assert _event(receiver.at("/good")[-1].body)["type"] == "delivery.recovered"
    assert [one.event_type for one in await stage.rows(bad.id)] == ["entry.posted"]
    assert len(await stage.rows(good.id)) == 3


async def test_trouble_with_operational_events_raises_none(stage: Stage, receiver: Receiver) -> None:
    """A receiver of alarms that is down makes no alarms, or they would never end."""
    receiver.script("/alarms", SERVER_ERROR)
    endpoint = await stage.endpoint(receiver.url("/alarms"), "endpoint.*", retry_schedule=[0])
    await stage.commit("endpoint.disabled")
    await stage.deliver()
    (delivery,) = await stage.rows(endpoint.id)
    assert delivery.status == "exhausted"
    assert await stage.facts.run(SITE) == 0


async def test_gone_disables_until_enabled_and_nothing_is_dropped(stage: Stage, receiver: Receiver) -> None:
    """After 410 events are numbered and skipped; enabling delivers what had waited and what comes."""
    receiver.script("/hook", GONE, OK)
    endpoint = await stage.endpoint(receiver.url("/hook"), "entry.*")
    await stage.commit("entry.posted")
    await stage.deliver()
    disabled = await stage.endpoints.get(SITE, endpoint.id)
    assert (disabled.status, disabled.status_reason) == ("disabled", "gone")
    assert disabled.lock_version == endpoint.lock_version + 1
    assert stage.scheduled == []
    await stage.commit("entry.posted")
    stage.clock.advance(seconds=3600)
    await stage.deliver()
    assert len(receiver.received) == 1
    kept, skipped = await stage.rows(endpoint.id)
    assert (kept.status, skipped.status, skipped.reason) == ("retrying", "skipped", "endpoint_disabled")
    assert (await stage.endpoints.enable(SITE, endpoint.id)).status == "enabling"
    await stage.deliver()
    await stage.commit("entry.posted")
    await stage.deliver()
    assert [one.status for one in await stage.rows(endpoint.id)] == ["delivered", "skipped", "delivered", "delivered"]
    assert [one.endpoint_sequence for one in await stage.rows(endpoint.id)] == [1, 2, 3, 4]
    facts = [fact for fact in stage.meter.outcomes if fact[0] == "disabled"]
    assert facts == [("disabled", "gone")]
    assert await stage.facts.run(SITE) == 3


async def test_retry_after_is_obeyed(stage: Stage, receiver: Receiver) -> None:
    """The next attempt comes when the receiver asked for it."""
    receiver.script("/hook", too_many("77"))
    endpoint = await stage.endpoint(receiver.url("/hook"))
    await stage.commit("entry.posted")
    await stage.deliver()
    assert stage.scheduled == [(endpoint.id, stage.clock.now_us() + 77_000_000)]


async def test_hanging_endpoint_does_not_slow_another(stage: Stage, receiver: Receiver) -> None:
    """While one receiver holds every request it may have, another gets everything."""
    hold = asyncio.Event()
    receiver.script("/slow", Reply(hold=hold))
    await stage.endpoint(receiver.url("/slow"), max_in_flight=4)
    quick = await stage.endpoint(receiver.url("/quick"))
    await stage.commit(*["entry.posted"] * 40)
    dispatcher = stage.dispatcher()
    for endpoint_id in await stage.relay_all():
        dispatcher.wake(SITE, endpoint_id)
    await receiver.wait_for_count(40, "/quick")
    assert len(receiver.at("/slow")) == 4
    hold.set()
    await dispatcher.idle()
    assert {one.status for one in await stage.rows(quick.id)} == {"delivered"}
    assert len(receiver.at("/slow")) == 40


async def test_no_more_is_in_flight_than_may_be_over_two_processes(stage: Stage, receiver: Receiver) -> None:
    """Two dispatchers that claim the same endpoint at once share its limit exactly."""
    hold = asyncio.Event()
    receiver.script("/hook", Reply(hold=hold))
    endpoint = await stage.endpoint(receiver.url("/hook"), max_in_flight=5)
    await stage.commit(*["entry.posted"] * 30)
    await stage.relay_all()
    both = [stage.dispatcher(), stage.dispatcher()]
    for dispatcher in both:
        dispatcher.wake(SITE, endpoint.id)
    await receiver.wait_for_count(5, "/hook")
    matching = DeliveryFilter(endpoint_id=endpoint.id, status="in_flight")
    assert len((await stage.log.deliveries(SITE, matching, limit=100)).data) == 5
    assert len(receiver.received) == 5
    hold.set()
    await asyncio.gather(*[dispatcher.idle() for dispatcher in both])
    await stage.deliver(both[0])
    assert {one.status for one in await stage.rows(endpoint.id)} == {"delivered"}
    assert len(receiver.received) == 30


async def test_wide_endpoint_gets_everything_in_its_order(stage: Stage, receiver: Receiver) -> None:
    """With one request at a time, arrival order is the endpoint's sequence."""
    endpoint = await stage.endpoint(receiver.url("/hook"), max_in_flight=1)
    await stage.commit(*["entry.posted"] * 25)
    await stage.deliver()
    arrived = [int(one.headers["x-gledger-endpoint-sequence"]) for one in receiver.received]
    assert arrived == list(range(1, 26))
    assert (await stage.endpoints.get(SITE, endpoint.id)).last_sequence == 25


async def test_few_places_serve_many_endpoints(stage: Stage, receiver: Receiver) -> None:
    """A process with three connections delivers to ten endpoints, none is forgotten."""
    made = [await stage.endpoint(receiver.url(f"/{number}")) for number in range(10)]
    await stage.commit(*["entry.posted"] * 5)
    await stage.deliver(stage.dispatcher(DispatchSettings(in_flight_total=3)))
    for endpoint in made:
        assert {one.status for one in await stage.rows(endpoint.id)} == {"delivered"}


async def test_crashed_senders_delivery_is_sent_by_another_when_its_lease_is_over(
    stage: Stage, receiver: Receiver
) -> None:
    """A claim that was never settled costs the endpoint nothing of its schedule and shows as interrupted."""
    endpoint = await stage.endpoint(receiver.url("/hook"), timeout_s=3)
    await stage.commit("entry.posted")
    await stage.relay_all()
    await _claim_and_vanish(stage, endpoint.id)
    await stage.deliver()
    assert receiver.received == []
    stage.clock.advance(seconds=13)
    assert (await stage.sweeper.run(SITE)).endpoints == {endpoint.id}
    await stage.deliver()
    assert [one.headers["x-gledger-attempt"] for one in receiver.received] == ["2"]
    (delivery,) = await stage.rows(endpoint.id)
    assert (delivery.status, delivery.attempts) == ("delivered", 2)
    attempts = await stage.attempts(delivery)
    assert [(one.number, one.error_class, one.request is None) for one in attempts] == [
        (1, "interrupted", True),
        (2, None, False),
    ]


async def test_lease_of_a_paused_endpoint_is_given_back(stage: Stage, receiver: Receiver) -> None:
    """What a crash left in flight at an endpoint that is paused meanwhile waits like the rest."""
    endpoint = await stage.endpoint(receiver.url("/hook"))
    await stage.commit("entry.posted")
    await stage.relay_all()
    await _claim_and_vanish(stage, endpoint.id)
    await stage.endpoints.pause(SITE, endpoint.id)
    stage.clock.advance(seconds=3600)
    await stage.deliver()
    (delivery,) = await stage.rows(endpoint.id)
    assert delivery.status == "retrying"
    assert (await stage.sweeper.run(SITE)).endpoints == frozenset()
    await stage.endpoints.resume(SITE, endpoint.id)
    await stage.deliver()
    assert [one.status for one in await stage.rows(endpoint.id)] == ["delivered"]


async def test_stale_lease_settles_nothing(stage: Stage, receiver: Receiver) -> None:
    """A sender that comes back after its lease finds the delivery settled by another and leaves it so."""
    hold = asyncio.Event()
    receiver.script("/hook", Reply(status=500, hold=hold), OK)
    endpoint = await stage.endpoint(receiver.url("/hook"))
    await stage.commit("entry.posted")
    await stage.relay_all()
    late = stage.dispatcher()
    late.wake(SITE, endpoint.id)
    await receiver.wait_for_count(1, "/hook")
    stage.clock.advance(seconds=60)
    await stage.deliver(stage.dispatcher())
    before = await stage.rows(endpoint.id)
    hold.set()
    await late.idle()
    assert before[0].status == "delivered"
    assert await stage.rows(endpoint.id) == before
    assert [one.error_class for one in await stage.attempts(before[0])] == ["interrupted", None]


async def test_sender_that_lost_its_lease_cannot_settle_for_the_one_that_has_it(
    stage: Stage, receiver: Receiver
) -> None:
    """While another process has the delivery in flight, a late answer to the first changes nothing."""
    first, second = asyncio.Event(), asyncio.Event()
    receiver.script("/hook", Reply(status=500, hold=first), Reply(hold=second))
    endpoint = await stage.endpoint(receiver.url("/hook"))
    await stage.commit("entry.posted")
    await stage.relay_all()
    late, present = stage.dispatcher(), stage.dispatcher()
    late.wake(SITE, endpoint.id)
    await receiver.wait_for_count(1)
    stage.clock.advance(seconds=60)
    present.wake(SITE, endpoint.id)
    await receiver.wait_for_count(2)
    with capture_logs() as lines:
        first.set()
        await late.idle()
    assert [line["event"] for line in lines] == ["delivery.lease_lost"]
    assert [one.status for one in await stage.rows(endpoint.id)] == ["in_flight"]
    second.set()
    await present.idle()
    assert [one.status for one in await stage.rows(endpoint.id)] == ["delivered"]


async def test_drain_lets_requests_finish(stage: Stage, receiver: Receiver) -> None:
    """What is answered in time is settled, and nothing new is begun."""
    hold = asyncio.Event()
    receiver.script("/hook", Reply(hold=hold))
    endpoint = await stage.endpoint(receiver.url("/hook"), max_in_flight=1)
    await stage.commit("entry.posted", "entry.posted")
    await stage.relay_all()
    dispatcher = stage.dispatcher()
    dispatcher.wake(SITE, endpoint.id)
    await receiver.wait_for_count(1)
    draining = asyncio.create_task(dispatcher.drain(30))
    hold.set()
    await draining
    dispatcher.wake(SITE, endpoint.id)
    await dispatcher.idle()
    assert [one.status for one in await stage.rows(endpoint.id)] == ["delivered", "pending"]


async def test_drain_gives_back_what_does_not_finish(stage: Stage, receiver: Receiver) -> None:
    """A request that hangs past the drain is released at once, uncharged, for the next process."""
    hold = asyncio.Event()
    receiver.script("/hook", Reply(hold=hold), OK)
    endpoint = await stage.endpoint(receiver.url("/hook"))
    await stage.commit("entry.posted")
    await stage.relay_all()
    dispatcher = stage.dispatcher()
    dispatcher.wake(SITE, endpoint.id)
    await receiver.wait_for_count(1)
    await dispatcher.drain(0)
    (delivery,) = await stage.rows(endpoint.id)
    assert delivery.status == "retrying"
    hold.set()
    stage.clock.advance(seconds=6)
    await stage.deliver()
    (delivery,) = await stage.rows(endpoint.id)
    assert delivery.status == "delivered"
    assert [one.error_class for one in await stage.attempts(delivery)] == ["interrupted", None]


async def test_vault_that_is_away_costs_the_endpoint_nothing(stage: Stage, receiver: Receiver) -> None:
    """Without its secret a delivery is not sent, waits, and keeps its whole schedule."""
    endpoint = await stage.endpoint(receiver.url("/hook"), retry_schedule=[0])
    await stage.commit("entry.posted")
    stage.vault.away = True
    await stage.deliver()
    (delivery,) = await stage.rows(endpoint.id)
    assert (delivery.status, receiver.received) == ("retrying", [])
    stage.vault.away = False
    stage.clock.advance(seconds=6)
    await stage.deliver()
    (delivery,) = await stage.rows(endpoint.id)
    assert delivery.status == "delivered"
    assert [one.error_class for one in await stage.attempts(delivery)] == ["secret_unavailable", None]


async def test_failures_of_ours_leave_the_schedule_whole(stage: Stage, receiver: Receiver) -> None:
    """After trouble of ours the endpoint still has every attempt that its schedule promises."""
    receiver.script("/hook", SERVER_ERROR, OK)
    endpoint = await stage.endpoint(receiver.url("/hook"), retry_schedule=[0, 5])
    await stage.commit("entry.posted")
    for away in (True, True, False, False):
        stage.vault.away = away
        await stage.deliver()
        stage.clock.advance(seconds=30)
    (delivery,) = await stage.rows(endpoint.id)
    assert delivery.status == "delivered"
    classes = [one.error_class for one in await stage.attempts(delivery)]
    assert classes == ["secret_unavailable", "secret_unavailable", "http_5xx", None]


async def test_forbidden_destination_is_a_failure_that_tells_nothing(stage: Stage, receiver: Receiver) -> None:
    """The policy holds at every attempt, not only at registration, and the log has one word for it."""
    endpoint = await stage.endpoint(receiver.url("/hook"), retry_schedule=[0])
    await stage.commit("entry.posted")
    await stage.deliver(stage.dispatcher(policy=EgressPolicy()))
    (delivery,) = await stage.rows(endpoint.id)
    assert (delivery.status, delivery.reason, receiver.received) == ("exhausted", "destination_not_allowed", [])
    (attempt,) = await stage.attempts(delivery)
    assert (attempt.response, attempt.error_class) == (None, "destination_not_allowed")


async def test_paused_endpoint_waits_and_resumes_without_a_gap(stage: Stage, receiver: Receiver) -> None:
    """Events during a pause are numbered and sent when it ends."""
    endpoint = await stage.endpoint(receiver.url("/hook"))
    await stage.endpoints.pause(SITE, endpoint.id)
    await stage.commit("entry.posted", "entry.posted")
    await stage.deliver()
    assert receiver.received == []
    assert [one.status for one in await stage.rows(endpoint.id)] == ["pending", "pending"]
    await stage.endpoints.resume(SITE, endpoint.id)
    await stage.commit("entry.posted")
    await stage.deliver()
    arrived = sorted(int(one.headers["x-gledger-endpoint-sequence"]) for one in receiver.received)
    assert arrived == [1, 2, 3]


async def test_rotated_secret_signs_beside_the_old_one_for_the_overlap(stage: Stage, receiver: Receiver) -> None:
    """Receivers with either secret accept during the overlap, only the new one after."""
    endpoint = await stage.endpoint(receiver.url("/hook"))
    rotated = msgspec.json.decode((await stage.endpoints.rotate_secret(SITE, endpoint.id)).body)
    secrets = [str(endpoint.secret), str(rotated["secret"])]
    counts = []
    for _ in range(2):
        await stage.commit("entry.posted")
        await stage.deliver()
        got = receiver.received[-1]
        sent_at = _sent_at(got.headers["webhook-timestamp"])
        signatures = got.headers["webhook-signature"].split(" ")
        signed = [Webhook(one).sign(got.headers["webhook-id"], sent_at, got.body.decode()) for one in secrets]
        counts.append([one in signatures for one in signed])
        stage.clock.advance(seconds=86_401)
    assert counts == [[True, True], [False, True]]


async def test_replay_sends_the_same_delivery_again(stage: Stage, receiver: Receiver) -> None:
    """A replay keeps ids and sequences, is marked as one, and happens once however often it is asked for."""
    endpoint = await stage.endpoint(receiver.url("/hook"))
    await stage.commit("entry.posted")
    await stage.deliver()
    (delivered,) = await stage.rows(endpoint.id)
    asked = [await stage.replay.replay_one(SITE, delivered.id) for _ in range(3)]
    assert [one.status for one in asked] == ["pending"] * 3
    await stage.deliver()
    first, second = receiver.received
    same = ("webhook-id", "x-gledger-delivery-id", "x-gledger-sequence", "x-gledger-endpoint-sequence")
    assert [first.headers[name] for name in same] == [second.headers[name] for name in same]
    (delivery,) = await stage.rows(endpoint.id)
    assert [one.trigger for one in await stage.attempts(delivery)] == ["scheduled", "replay"]
    assert delivery.delivered_at == delivered.delivered_at


async def test_failed_replay_is_retried_by_the_schedule(stage: Stage, receiver: Receiver) -> None:
    """A replay begins the schedule anew; its retries are scheduled attempts."""
    receiver.script("/hook", SERVER_ERROR, SERVER_ERROR, OK)
    endpoint = await stage.endpoint(receiver.url("/hook"), retry_schedule=[0, 9])
    await stage.commit("entry.posted")
    await stage.deliver()
    stage.clock.advance(seconds=1)
    (waiting,) = await stage.rows(endpoint.id)
    await stage.replay.replay_one(SITE, waiting.id)
    await stage.deliver()
    stage.clock.advance(seconds=11)
    await stage.deliver()
    (delivery,) = await stage.rows(endpoint.id)
    assert [one.trigger for one in await stage.attempts(delivery)] == ["scheduled", "replay", "scheduled"]
    assert delivery.status == "delivered"


async def test_attempt_that_cannot_be_stored_does_not_hold_up_the_others(stage: Stage, receiver: Receiver) -> None:
    """A turn that the database refuses is taken apart: what is at fault fails alone, the rest is settled."""
    endpoint = await stage.endpoint(receiver.url("/hook"))
    other = await stage.endpoint(receiver.url("/other"))
    await stage.commit(*["entry.posted"] * 3)
    await stage.relay_all()
    refused = (await stage.rows(endpoint.id))[1]
    row = AttemptRow(
        delivery_id=refused.id, number=1, trigger="scheduled", at=0, duration_ms=None, request=None, response=None,
        error_class=None,
    )  # fmt: skip
    await stage.database.write(lambda conn: write(conn, [recording(SITE.id, [row])]), site_id=SITE.id)
    dispatcher = stage.dispatcher(DispatchSettings(after_trouble_s=0.001))
    # The log is caught, because drawing every traceback for a terminal would take longer than all the rest.
    with capture_logs() as lines:
        for endpoint_id in (endpoint.id, other.id):
            dispatcher.wake(SITE, endpoint_id)
        await stage.meter.until(5)
        states = [one.status for one in await stage.rows(endpoint.id)]
        stage.clock.advance(seconds=3600)
        await dispatcher.idle()
    assert states == ["delivered", "in_flight", "delivered"]
    assert [one.status for one in await stage.rows(other.id)] == ["delivered"] * 3
    assert len(receiver.received) == 6
    assert {"delivery.attempted", "delivery.dispatch_trouble"} <= {line["event"] for line in lines}


async def test_database_that_is_away_for_a_while_loses_nothing(stage: Stage, receiver: Receiver) -> None:
    """A dispatcher that cannot reach the database keeps trying with what it was told."""
    endpoint = await stage.endpoint(receiver.url("/hook"))
    await stage.commit("entry.posted")
    await stage.relay_all()
    stage.databases.failures = 3
    dispatcher = stage.dispatcher(DispatchSettings(after_trouble_s=0.001))
    dispatcher.wake(SITE, endpoint.id)
    await dispatcher.idle()
    assert stage.databases.failures == 0
    assert [one.status for one in await stage.rows(endpoint.id)] == ["delivered"]


async def test_every_delivery_is_measured_from_its_commit(stage: Stage, receiver: Receiver) -> None:
    """The meter hears how long after the commit the endpoint had it."""
    await stage.endpoint(receiver.url("/hook"))
    await stage.commit("entry.posted")
    stage.clock.advance(seconds=2)
    await stage.deliver()
    (latency_s,) = stage.meter.latencies_s
    assert 2 <= latency_s < 12


async def test_secret_is_opened_once_for_many_deliveries(stage: Stage, receiver: Receiver) -> None:
    """A vault that is a network away is asked for a key, not for every signature."""
    await stage.endpoint(receiver.url("/hook"), max_in_flight=1)
    await stage.commit(*["entry.posted"] * 10)
    await stage.deliver()
    assert (len(receiver.received), stage.vault.opened) == (10, 1)


async def test_what_a_turn_has_settled_is_not_settled_again(stage: Stage) -> None:
    """The answer to its commit was lost, so the turn is taken once more: it finds everything done, and changes nothing."""
    endpoint = await stage.endpoint("https://partner.example/hook")
    await stage.commit("entry.posted")
    await stage.relay_all()
    _, got = await _take(stage, Turn(finished=[], endpoint_ids=[endpoint.id], free=10))
    over = Turn(finished=interrupted(got.claimed, stage.clock.now_us()), endpoint_ids=[], free=0)
    first, _ = await _take(stage, over)
    rows = await stage.rows(endpoint.id)
    again, _ = await _take(stage, over)
    assert (len(first.settled), first.stale) == (1, [])
    assert (again.settled, len(again.stale)) == ([], 1)
    assert await stage.rows(endpoint.id) == rows
    assert len(await stage.attempts(rows[0])) == 1


async def _claim_and_vanish(stage: Stage, endpoint_id: str) -> None:
    """Claim as a process does that is killed before it sends."""
    _, got = await _take(stage, Turn(finished=[], endpoint_ids=[endpoint_id], free=10))
    assert len(got.claimed) == 1


async def _take(stage: Stage, turn: Turn) -> tuple[Settlement, Claim]:
    """Take a turn as a process does, in one transaction."""
    return await stage.database.write(
        lambda conn: take_turn(
            conn, SITE.id, turn, Bodies(), now_us=stage.clock.now_us(), policy=Policy(),
            settle_margin_us=10_000_000, chance=lambda: 0.5,
        ),
        site_id=SITE.id,
    )  # fmt: skip


def _event(body: bytes) -> dict[str, Any]:
    event: dict[str, Any] = msgspec.json.decode(body)
    return event


def _of(endpoint_id: str) -> DeliveryFilter:
    return DeliveryFilter(endpoint_id=endpoint_id)


def _sent_at(seconds: str) -> datetime:
    return datetime.fromtimestamp(int(seconds), tz=UTC)
