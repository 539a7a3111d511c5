"""Limits on both databases: kept as they were set, and nothing gets past them from two processes at once."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from engine.balances import Limit
from engine.commands import UpdateAccount
from engine.databases import Database
from engine.entry_errors import LimitBroken
from tests.store.engine_stage import Stage, entry, make_stage, outcomes


@pytest.fixture
async def stage(site_database: Database) -> AsyncIterator[Stage]:
    """A site with one ledger."""
    stage = await make_stage(site_database)
    yield stage
    assert await stage.verify() is None


async def test_many_at_once_stop_at_the_limit(stage: Stage) -> None:
    """Of forty that each take one, over two processes, exactly as many pass as the floor allows."""
    cash = await stage.account()
    wallet = await stage.account("liability", limits=(Limit(balance="available", at_least=-7, at_most=None),))
    other = stage.another()
    done = await outcomes(
        *((stage.engine if number % 2 else other).submit(stage.site, entry(wallet, cash)) for number in range(40)),
    )
    refused = [each for each in done if isinstance(each, BaseException)]
    assert len(refused) == 33
    assert {type(each) for each in refused} == {LimitBroken}
    assert await stage.posted(wallet) == -7


async def test_a_changed_limit_holds_from_its_place_in_the_feed(stage: Stage) -> None:
    """What was refused passes after the change, and the change is an event with what was there before."""
    cash = await stage.account()
    wallet = await stage.account("liability", limits=(Limit(balance="posted", at_least=None, at_most=10),))
    with pytest.raises(LimitBroken):
        await stage.run(entry(cash, wallet, 11))
    changed = await stage.run(
        UpdateAccount(account_id=wallet, limits=(Limit(balance="posted", at_least=None, at_most=11),))
    )
    assert changed["limits"] == [{"balance": "posted", "at_least": None, "at_most": 11}]
    await stage.run(entry(cash, wallet, 11))
    assert (await stage.events())[-2].type == "account.updated"
