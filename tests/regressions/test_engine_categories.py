"""Categories under what else a batch does."""

from __future__ import annotations

import pytest

from engine import category_queries
from engine.category_commands import CreateCategory, LinkCategory, PlaceAccount
from engine.commands import CreateHold
from engine.databases import Database
from tests.store.engine_stage import entry, make_stage


@pytest.mark.parametrize("inside", [True, False])
async def test_a_hold_that_expires_as_a_category_is_linked_counts(site_database: Database, *, inside: bool) -> None:
    """The sums of a changed link are read from the database: nothing may move in the same batch, not even what is due."""
    stage = await make_stage(site_database)
    cash, wallet = await stage.accounts("asset", "liability")
    top, low = [
        (await stage.run(CreateCategory(name="n", currency="EUR", normal_balance="credit")))["id"] for _ in range(2)
    ]
    await stage.run(PlaceAccount(category_id=low, account_id=wallet, inside=True))
    if not inside:
        await stage.run(PlaceAccount(category_id=top, account_id=wallet, inside=True))
        await stage.run(LinkCategory(category_id=top, child_id=low, inside=True))
    held = entry(wallet, cash, 5, status="pending")
    await stage.run(CreateHold(entry=held, expires_at=stage.clock.now_us() + 1_000_000))
    stage.clock.advance(seconds=2)
    await stage.run(LinkCategory(category_id=top, child_id=low, inside=inside))
    assert await stage.verify() is None
    await stage.run(entry(cash, wallet, 1))
    found = (await stage.engine.ask(stage.site, category_queries.category, top)).value
    assert (found.balances.available.amount, found.balances.pending.amount) == (1, 1)
    assert await stage.verify() is None
