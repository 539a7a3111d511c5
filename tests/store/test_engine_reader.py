"""Accounts as they are now: whoever asks at the same time shares a statement, and nobody notices."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from sqlalchemy import event

from engine import together
from engine.commands import UpdateAccount
from engine.cursors import parse_feed_cursor
from engine.databases import Database, Site
from engine.errors import NotFound, SiteUnknown
from tests.store.engine_stage import OTHER, SITE, Stage, entry, make_stage

NOBODY = "00000000-0000-7000-8000-000000000000"


@pytest.fixture
async def stage(site_database: Database) -> Stage:
    """A site with one ledger."""
    return await make_stage(site_database)


async def test_each_is_told_of_what_it_asked_for(stage: Stage) -> None:
    """Many at once, some of them for the same account, for one that is not there, or for another site's."""
    other = await make_stage(stage.database, OTHER)
    theirs = await other.account("asset")
    cash = await stage.account("asset", metadata={"k": "v"}, allow_negative=False, code="1000")
    sales = await stage.account("revenue")
    await stage.run(entry(cash, sales, 5))
    await stage.run(entry(cash, sales, 3, status="pending"))
    asked = [cash, sales, NOBODY, theirs] * 30
    for read in (stage.engine.account, stage.engine.balance):
        found: list[Any] = await asyncio.gather(*(read(SITE, each) for each in asked), return_exceptions=True)
        for account_id, answer in zip(asked, found, strict=True):
            if account_id in (cash, sales):
                alone = (await read(SITE, account_id)).value
                assert answer.value == alone
            else:
                assert isinstance(answer, NotFound)
    account, balance = (await stage.engine.account(SITE, cash)).value, (await stage.engine.balance(SITE, cash)).value
    assert (account.id, account.metadata, account.allow_negative, account.code) == (cash, {"k": "v"}, False, "1000")
    assert (balance.posted.amount, balance.pending.amount, balance.lock_version) == (5, 8, account.lock_version)
    with pytest.raises(SiteUnknown):
        await stage.engine.balance(Site(id=99, organization="nobody", environment="sandbox"), cash)


async def test_answers_are_of_the_snapshot_that_their_cursor_names(stage: Stage) -> None:
    """While others post: an account has the version that the feed up to the cursor comes to, and whoever posted sees it."""
    cash, sales = await stage.accounts("asset", "revenue")
    first = (await stage.events())[-1].sequence

    async def check(at_least: int) -> None:
        answer = await stage.engine.balance(SITE, cash)
        posted = parse_feed_cursor(answer.feed_cursor).sequence - first
        assert (answer.value.posted.amount, answer.value.lock_version) == (posted, posted + 1)
        assert posted >= at_least

    async def work() -> None:
        for _ in range(8):
            seen = (await stage.run(entry(cash, sales, 1)))["lines"][0]["account_lock_version"] - 1
            await asyncio.gather(*(check(seen) for _ in range(3)))

    await asyncio.gather(*(work() for _ in range(6)))
    assert await stage.posted(cash) == 48


async def test_many_at_once_are_few_statements(stage: Stage) -> None:
    """What is asked for while others are read is read next, all of it together; more than fit go on the one after."""
    accounts = [await stage.account("asset") for _ in range(6)]
    connected: list[Any] = []
    for engine in {stage.database._single, stage.database._reader} - {None}:
        event.listen(engine.sync_engine, "after_cursor_execute", lambda *given: connected.append(given[2]))  # type: ignore[union-attr]
    await asyncio.gather(*(stage.engine.account(SITE, accounts[number % 6]) for number in range(100)))
    statements = [each for each in connected if "FROM feeds" in each]
    assert 1 <= len(statements) <= 1 + together.AT_ONCE


async def test_more_than_fit_one_statement(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """All are answered."""
    monkeypatch.setattr(together, "QUESTIONS_MAX", 3)
    accounts = [await stage.account("asset") for _ in range(10)]
    found = await asyncio.gather(*(stage.engine.account(SITE, each) for each in accounts * 2))
    assert [each.value.id for each in found] == accounts * 2


async def test_whoever_goes_away_takes_nobody_along(stage: Stage) -> None:
    """Those who asked for the same get it, and those who come later."""
    cash = await stage.account("asset")
    tasks = [asyncio.ensure_future(stage.engine.account(SITE, cash)) for _ in range(20)]
    await asyncio.sleep(0)
    for task in tasks[::2]:
        task.cancel()
    found: list[Any] = await asyncio.gather(*tasks, return_exceptions=True)
    assert [isinstance(each, asyncio.CancelledError) for each in found] == [True, False] * 10
    await stage.run(UpdateAccount(account_id=cash, name="Till"))
    assert (await stage.engine.account(SITE, cash)).value.name == "Till"
