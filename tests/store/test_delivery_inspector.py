"""Inspectors and figures on real SQLite and PostgreSQL: what arrived is kept, bounded and forgotten; attempts are counted."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from msgspec import structs

from delivery.errors import InspectorLimitReached, InspectorNotFound
from delivery.figures import Figures
from delivery.inspector import INSPECTORS_MAX, LIFETIME_US, Inspectors
from delivery.inspector_shapes import KEPT_MAX, InspectorChange, InspectorCreate
from engine.databases import Database
from tests.fakes.receiver import OK, SERVER_ERROR, Receiver
from tests.store.delivery_stage import SITE, Stage, make_stage

SANDBOX = structs.replace(SITE, environment="sandbox")


@pytest.fixture
async def stage(site_database: Database) -> AsyncIterator[Stage]:
    """A site with an empty feed."""
    made = await make_stage(site_database)
    yield made
    await made.close()


@pytest.fixture
def inspectors(stage: Stage) -> Inspectors:
    """The use cases over the stage's database."""
    return Inspectors(stage.databases, clock=stage.clock, ids=stage.ids, public_url="https://ledger.example")


async def test_an_inspector_numbers_what_arrives_and_keeps_the_newest(inspectors: Inspectors) -> None:
    """The numbers go on, the oldest requests go; a change of the answer holds from the next one on."""
    made = await inspectors.create(SANDBOX, InspectorCreate(delay_ms=5))
    token = made.url.rpartition("/")[2]
    assert made.url == f"https://ledger.example/inspect/{SANDBOX.organization}/{token}"
    for number in range(KEPT_MAX + 2):
        told = await inspectors.receive(SANDBOX, token, {"x-number": str(number)}, b"\x00\xff{}")
        assert (told.status, told.delay_ms) == (200, 5)
    await inspectors.change(SANDBOX, made.id, InspectorChange(status=429, retry_after_s=9))
    told = await inspectors.receive(SANDBOX, token, {}, b"")
    assert (told.status, told.retry_after_s, told.delay_ms) == (429, 9, 5)
    found, more = await inspectors.requests(SANDBOX, made.id, after=0, limit=2)
    assert ([each.number for each in found], more) == ([4, 5], True)
    assert (found[0].headers, found[0].body) == ({"x-number": "3"}, "��{}")
    assert (await inspectors.get(SANDBOX, made.id)).received == KEPT_MAX + 3


async def test_an_inspector_ends_after_a_week_and_makes_room(stage: Stage, inspectors: Inspectors) -> None:
    """There are only so many; one that has run out is not there, whoever asks or sends."""
    made = [await inspectors.create(SANDBOX, InspectorCreate()) for _ in range(INSPECTORS_MAX)]
    with pytest.raises(InspectorLimitReached):
        await inspectors.create(SANDBOX, InspectorCreate())
    assert len(await inspectors.list(SANDBOX)) == INSPECTORS_MAX
    stage.clock.advance(micros=LIFETIME_US + 1)
    assert await inspectors.list(SANDBOX) == []
    with pytest.raises(InspectorNotFound):
        await inspectors.get(SANDBOX, made[0].id)
    with pytest.raises(InspectorNotFound):
        await inspectors.receive(SANDBOX, made[0].url.rpartition("/")[2], {}, b"")
    await inspectors.create(SANDBOX, InspectorCreate())


async def test_production_has_no_inspectors(inspectors: Inspectors) -> None:
    """Neither made nor reached."""
    production = structs.replace(SITE, environment="production")
    made = await inspectors.create(SANDBOX, InspectorCreate())
    with pytest.raises(InspectorNotFound):
        await inspectors.create(production, InspectorCreate())
    with pytest.raises(InspectorNotFound):
        await inspectors.receive(production, made.url.rpartition("/")[2], {}, b"")


async def test_attempts_are_counted_where_they_are_settled(stage: Stage, receiver: Receiver) -> None:
    """Of one endpoint and of all, delivered or not; the mark moves with a new delivery and with a settled attempt."""
    figures = Figures(stage.databases)
    receiver.script("/hook", SERVER_ERROR, OK)
    endpoint = await stage.endpoint(receiver.url("/hook"))
    other = await stage.endpoint(receiver.url("/other"), "account.created")
    now_us = stage.clock.now_us()
    assert (await figures.arrived(SITE), await figures.mark(SITE, now_us)) == (False, (0, 0))
    await stage.commit("entry.posted")
    await stage.deliver()
    assert (await figures.arrived(SITE), await figures.mark(SITE, now_us)) == (False, (1, 1))
    await stage.commit("entry.posted")
    await stage.deliver()
    assert await figures.arrived(SITE)
    [tally] = await figures.hours(SITE, now_us)
    assert (tally.endpoint_id, tally.attempts, tally.delivered, sum(tally.durations)) == (None, 2, 1, 2)
    assert await figures.hours_of(SITE, now_us, [endpoint.id, other.id]) == [replace(tally, endpoint_id=endpoint.id)]
    assert await figures.hours_of(SITE, now_us, [other.id]) == []
    assert await figures.hours(SITE, now_us + 3_600_000_000) == []
    assert await figures.addresses(SITE, [other.id, "01890000-0000-7000-8000-000000000000"]) == {other.id: other.url}
    assert list(await figures.newest(SITE, 1)) == [other.id]


async def test_endpoints_in_trouble_are_found_among_all(stage: Stage, receiver: Receiver) -> None:
    """What fails, rests or receives nothing is told; what works is not; what was removed is gone from everywhere."""
    figures = Figures(stage.databases)
    receiver.script("/fails", SERVER_ERROR)
    fails = await stage.endpoint(receiver.url("/fails"))
    works = await stage.endpoint(receiver.url("/works"))
    paused = await stage.endpoint(receiver.url("/paused"), "account.created")
    assert await figures.troubled(SITE, 10) == []
    await stage.endpoints.pause(SITE, paused.id)
    await stage.commit("entry.posted")
    await stage.deliver()
    found = await figures.troubled(SITE, 10)
    assert [(each.id, each.status, each.failing_since is None) for each in found] == [
        (paused.id, "paused", True),
        (fails.id, "active", False),
    ]
    assert [each.id for each in await figures.troubled(SITE, 1)] == [paused.id]
    await stage.endpoints.delete(SITE, fails.id)
    assert [each.id for each in await figures.troubled(SITE, 10)] == [paused.id]
    assert await figures.addresses(SITE, [fails.id, works.id]) == {works.id: works.url}
    searched = await stage.endpoints.list(SITE, limit=5, containing="/WORKS")
    assert [each.id for each in searched.data] == [works.id]
    assert (await stage.endpoints.list(SITE, limit=5, containing="%")).data == []
