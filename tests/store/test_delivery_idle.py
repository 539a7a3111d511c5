"""What endpoints cost that have nothing to do: the number of statements does not grow with their number."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import Engine, event

from engine.databases import Database
from tests.fakes.receiver import Receiver
from tests.store.delivery_stage import SITE, Stage, make_stage


@pytest.fixture
async def stage(site_database: Database) -> AsyncIterator[Stage]:
    """A site with an empty feed."""
    made = await make_stage(site_database)
    yield made
    await made.close()


@contextmanager
def counted() -> Iterator[list[str]]:
    """Collect every statement that any engine runs."""
    found: list[str] = []

    def note(_conn: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        found.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    try:
        yield found
    finally:
        event.remove(Engine, "before_cursor_execute", note)


async def test_idle_endpoints_cost_no_statements_of_their_own(stage: Stage, receiver: Receiver) -> None:
    """A sweep, a look at the feed and one at the facts: as many statements with forty endpoints as with two."""
    counts = []
    for more in (2, 38):
        for number in range(more):
            await stage.endpoint(receiver.url(f"/{more}-{number}"), "entry.*")
        await stage.commit("entry.posted")
        await stage.deliver()
        stage.clock.advance(seconds=3600)
        with counted() as statements:
            relay = stage.relay()
            assert (await stage.sweeper.run(SITE)).endpoints == frozenset()
            assert (await relay.run(SITE)).moved == 0
            assert await stage.facts.run(SITE) == 0
        counts.append(len(statements))
    assert counts[0] == counts[1]
    assert counts[1] < 20


async def test_open_circuits_and_blocked_orders_are_not_looked_at_again_and_again(
    stage: Stage, receiver: Receiver
) -> None:
    """What waits for somebody to act, or for a rest to be over, is not due: no sweep wakes anybody for it."""
    await receiver.stop()
    blocked = await stage.endpoint(receiver.url("/blocked"), ordering="ordered", retry_schedule=[0])
    resting = await stage.endpoint(receiver.url("/resting"), retry_schedule=[0, 1])
    await stage.commit(*["entry.posted"] * 20)
    await stage.deliver()
    due = await stage.sweeper.run(SITE)
    assert due.endpoints == frozenset()
    assert due.next_due_at is not None
    assert due.next_due_at > stage.clock.now_us() + 4_000_000
    assert (await stage.endpoints.get(SITE, resting.id)).circuit.state == "open"
    assert [row.status for row in await stage.rows(blocked.id)][:2] == ["exhausted", "pending"]
