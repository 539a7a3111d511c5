"""What delivered and changes nothing about its endpoint is settled without the endpoint's lock, in one statement."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from sqlalchemy import Connection, func, select, update
from structlog.testing import capture_logs

from delivery import dispatch as dispatch_module
from delivery.dispatch import DispatchSettings
from delivery.replay_jobs import Replays
from delivery.replay_run import ReplayRunner
from delivery.replay_shapes import RATE_MAX, Replay, ReplayCreate
from delivery.schema import attempts, deliveries, delivery_tallies, endpoints
from delivery.settle import Apart, settle_apart
from delivery.shapes import Endpoint
from delivery.store.endpoints import lock_endpoints
from engine.databases import Database
from tests.fakes.receiver import OK, SERVER_ERROR, Receiver, Reply
from tests.store.delivery_stage import SITE, Stage, make_stage


@pytest.fixture
async def stage(site_database: Database) -> AsyncIterator[Stage]:
    """A site with an empty feed."""
    made = await make_stage(site_database)
    with capture_logs():
        yield made
        await made.close()


@pytest.fixture
def apart(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Return what becomes of each time that something is settled apart: whether it was."""
    seen: list[bool] = []

    def watched(conn: Connection, site_id: int, given: Apart, now_us: int) -> bool:
        seen.append(settle_apart(conn, site_id, given, now_us))
        return seen[-1]

    monkeypatch.setattr(dispatch_module, "settle_apart", watched)
    return seen


async def wide(stage: Stage, receiver: Receiver, **options: object) -> Endpoint:
    """Return an endpoint that has answered so often that its window is as wide as it may be."""
    endpoint = await stage.endpoint(receiver.url("/"), max_in_flight=5, **options)
    await stage.commit("entry.posted")
    await stage.deliver()
    return endpoint


async def stored(stage: Stage) -> dict[str, Any]:
    """Return what is stored of deliveries by state, of attempts, and of the hours' counts."""

    def read(conn: Connection) -> dict[str, Any]:
        states = select(deliveries.c.state, func.count()).group_by(deliveries.c.state)
        counted = select(func.sum(delivery_tallies.c.attempts), func.sum(delivery_tallies.c.delivered))
        return {
            "states": {row[0]: row[1] for row in conn.execute(states)},
            "attempts": conn.execute(select(func.count()).select_from(attempts)).scalar_one(),
            "counted": tuple(int(each) for each in conn.execute(counted).one()),
        }

    return await stage.database.read(read, site_id=SITE.id)


async def test_what_delivered_is_settled_while_somebody_has_the_endpoint(
    stage: Stage, receiver: Receiver, apart: list[bool]
) -> None:
    """Attempts, deliveries and the hour's counts are there; nothing waited for the lock, where there are locks of rows."""
    endpoint = await wide(stage, receiver)
    answered = asyncio.Event()
    receiver.script("/", Reply(hold=answered))
    await stage.commit(*["entry.posted"] * 3)
    dispatcher = stage.dispatcher()
    await stage.relay_all(dispatcher)
    await receiver.wait_for_count(4)
    engine = stage.database._writer
    if stage.database.dialect == "postgresql":
        async with engine.begin() as connection:
            await connection.run_sync(
                lambda conn: conn.exec_driver_sql(f"SELECT set_config('gledger.site_id', '{SITE.id}', true)")
            )
            await connection.run_sync(lambda conn: lock_endpoints(conn, SITE.id, [endpoint.id]))
            answered.set()
            await asyncio.wait_for(dispatcher.idle(), 5)
    answered.set()
    await dispatcher.idle()
    assert apart
    assert all(apart)
    assert await stored(stage) == {"states": {"delivered": 4}, "attempts": 4, "counted": (4, 4)}


async def test_who_lost_one_lease_settles_the_others_all_the_same(
    stage: Stage, receiver: Receiver, apart: list[bool]
) -> None:
    """Nothing is stored by the statement that finds one of its leases gone; a turn then stores what is still ours, and once."""
    endpoint = await wide(stage, receiver)
    answered = asyncio.Event()
    receiver.script("/", Reply(hold=answered))
    await stage.commit(*["entry.posted"] * 3)
    dispatcher = stage.dispatcher()
    await stage.relay_all(dispatcher)
    await receiver.wait_for_count(4)
    taken = (await stage.rows(endpoint.id))[2].id
    again = update(deliveries).where(deliveries.c.id == taken).values(generation=deliveries.c.generation + 1)
    await stage.database.write(lambda conn: conn.execute(again), site_id=SITE.id)
    with capture_logs() as logged:
        answered.set()
        await dispatcher.idle()
    assert not all(apart)
    assert [each["delivery_id"] for each in logged if each["event"] == "delivery.lease_lost"] == [taken]
    assert await stored(stage) == {"states": {"delivered": 3, "in_flight": 1}, "attempts": 3, "counted": (3, 3)}


async def test_failure_and_what_makes_up_for_it_are_noted_at_the_endpoint(
    stage: Stage, receiver: Receiver, apart: list[bool]
) -> None:
    """They change how it stands: a turn settles them, until it stands as before."""
    endpoint = await wide(stage, receiver)
    dispatcher = stage.dispatcher()

    async def one(reply: Reply) -> tuple[int, bool]:
        receiver.script("/", reply)
        await stage.commit("entry.posted")
        await stage.relay_all(dispatcher)
        await dispatcher.idle()
        query = select(endpoints.c.circuit_strikes, endpoints.c.failing_since).where(endpoints.c.id == endpoint.id)
        row = await stage.database.read(lambda conn: conn.execute(query).one(), site_id=SITE.id)
        return row.circuit_strikes, row.failing_since is not None

    apart.clear()
    assert (await one(SERVER_ERROR), apart) == ((1, True), [])
    assert (await one(OK), apart) == ((0, False), [])
    assert (await one(OK), apart) == ((0, False), [True])


@pytest.mark.parametrize("ordering", ["ordered", "parallel"])
async def test_where_an_order_is_kept_the_next_is_let_go_by_a_turn(
    stage: Stage, receiver: Receiver, apart: list[bool], ordering: str
) -> None:
    """Only the lock keeps two from being let go at once."""
    endpoint = await wide(stage, receiver, ordering=ordering)
    dispatcher = stage.dispatcher()
    await stage.commit(*["entry.posted"] * 4)
    await stage.relay_all(dispatcher)
    await dispatcher.idle()
    assert {row.status for row in await stage.rows(endpoint.id)} == {"delivered"}
    assert bool(apart) == (ordering == "parallel")


async def test_what_a_replay_counts_is_added_to_while_it_moves_on(
    stage: Stage, receiver: Receiver, apart: list[bool]
) -> None:
    """Steps and settlements change the same row, and neither waits for the other's lock of the endpoint: no number is lost."""
    count = 40
    endpoint = await wide(stage, receiver)
    await stage.commit(*["entry.posted"] * (count - 1))
    await stage.deliver()
    jobs = Replays(stage.databases, clock=stage.clock, ids=stage.ids)
    draft = {"filter": {"endpoint_id": endpoint.id}, "rate_per_s": RATE_MAX}
    begun = await jobs.create(SITE, msgspec.convert(draft, ReplayCreate))
    replay_id = msgspec.json.decode(begun.body, type=Replay).id
    dispatcher, runner = stage.dispatcher(), ReplayRunner(stage.databases, clock=stage.clock, ids=stage.ids)
    next_at: int | None = stage.clock.now_us()
    while next_at is not None:
        next_at = (await runner.step(SITE, ahead_us=300)).next_at
        stage.clock.advance(seconds=0.001)
        dispatcher.wake(SITE, endpoint.id)
        await asyncio.sleep(0)
    await dispatcher.idle()
    await stage.deliver(dispatcher)
    replay = await jobs.get(SITE, replay_id)
    assert (replay.status, replay.total, replay.queued, replay.delivered) == ("completed", count, count, count)
    assert any(apart)


@pytest.mark.parametrize("failing", [False, True])
async def test_attempts_at_an_endpoint_are_noted_in_the_order_in_which_they_ended(
    stage: Stage, receiver: Receiver, apart: list[bool], monkeypatch: pytest.MonkeyPatch, failing: bool
) -> None:
    """Successes between failures take back what those have struck, also where all come back at once: the circuit stays closed."""
    count, most = 30, 40
    endpoint = await stage.endpoint(receiver.url("/"), max_in_flight=most, retry_schedule=[0, 3600])
    dispatcher = stage.dispatcher()
    for _ in range(most // 5):
        await stage.commit(*["entry.posted"] * 5)
        await stage.relay_all(dispatcher)
        await dispatcher.idle()
    apart.clear()
    answered, seen = asyncio.Event(), len(receiver.received)
    replies = [Reply(status=500 if failing and number % 5 == 1 else 200, hold=answered) for number in range(count)]
    receiver.script("/", *replies, OK)
    await stage.commit(*["entry.posted"] * count)
    await stage.relay_all(dispatcher)
    await receiver.wait_for_count(seen + count)
    lane = dispatcher._lanes[SITE.id]
    # The process has much else to do: nothing is settled until all are there.
    with monkeypatch.context() as busy:
        busy.setattr(lane.signal, "set", lambda: None)
        answered.set()
        await asyncio.wait(lane.out, timeout=5)
    lane.signal.set()
    await dispatcher.idle()
    query = select(endpoints.c.circuit_strikes, endpoints.c.circuit_probe_at).where(endpoints.c.id == endpoint.id)
    row = await stage.database.read(lambda conn: conn.execute(query).one(), site_id=SITE.id)
    assert tuple(row) == (0, None)
    assert bool(apart) == (not failing)


async def test_attempt_that_cannot_be_judged_keeps_none_of_the_others(
    stage: Stage, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are settled by turns, one by one."""
    endpoint = await wide(stage, receiver)

    def fail(*_: object, **__: object) -> Apart:
        raise ZeroDivisionError

    monkeypatch.setattr(dispatch_module, "judge_apart", fail)
    await stage.commit(*["entry.posted"] * 3)
    dispatcher = stage.dispatcher(DispatchSettings(after_trouble_s=0.01))
    await stage.relay_all(dispatcher)
    await asyncio.wait_for(dispatcher.idle(), 5)
    assert {row.status for row in await stage.rows(endpoint.id)} == {"delivered"}


async def test_lease_that_is_about_to_run_out_is_for_a_turn(
    stage: Stage, receiver: Receiver, apart: list[bool]
) -> None:
    """Others may be taking it over, under the endpoint's lock."""
    endpoint = await wide(stage, receiver)
    apart.clear()
    answered = asyncio.Event()
    receiver.script("/", Reply(hold=answered))
    await stage.commit("entry.posted")
    dispatcher = stage.dispatcher()
    await stage.relay_all(dispatcher)
    await receiver.wait_for_count(2)
    stage.clock.advance(seconds=60)
    answered.set()
    await dispatcher.idle()
    assert ([row.status for row in await stage.rows(endpoint.id)], apart) == (["delivered"] * 2, [])
