"""Inspectors and figures on real SQLite and PostgreSQL: what arrived is kept, bounded and forgotten; attempts are counted."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from delivery.errors import InspectorLimitReached, InspectorNotFound
from delivery.figures import Figures
from delivery.inspector import INSPECTORS_MAX, LIFETIME_US, Inspectors
from delivery.inspector_shapes import KEPT_MAX, InspectorChange, InspectorCreate
from engine.databases import Database
from tests.fakes.receiver import OK, SERVER_ERROR, Receiver
from tests.store.delivery_stage import SITE, Stage, make_stage

SANDBOX = replace(SITE, environment="sandbox")


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
    production = replace(SITE, environment="production")
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
    assert (tally.endpoint_id, tally.attempts, tally.delivered, sum(tally.durations)) == (endpoint.id, 2, 1, 2)
    assert await figures.hours(SITE, now_us, endpoint.id) == [tally]
    assert await figures.hours(SITE, now_us, other.id) == []
    assert await figures.hours(SITE, now_us + 3_600_000_000) == []
