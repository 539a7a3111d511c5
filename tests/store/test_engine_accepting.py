"""Asynchronous posting over a real database: accepted, then posted or rejected once, in the order of acceptance."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from engine import queries
from engine.batch import ACCEPTED_MAX
from engine.commands import AcceptEntry, CloseAccount, Condition, LineDraft, PostEntry, ReverseEntry, Tend, UpdateEntry
from engine.databases import Database
from engine.entry_errors import EntryNotPosted
from engine.errors import AccountNotFound, DuplicateEntry, UnbalancedEntry
from engine.events import Diagnostics
from engine.queries import Selection
from tests.store.engine_stage import SITE, Stage, entry, make_stage


@pytest.fixture
async def stage(site_database: Database) -> Stage:
    """A site with one ledger."""
    return await make_stage(site_database)


async def test_accepted_entry_moves_nothing_until_the_books_are_tended(stage: Stage) -> None:
    """Then it is posted under the same id, with the lines it was accepted with."""
    cash, sales = await stage.accounts("asset", "revenue")
    accepted = await stage.run(AcceptEntry(entry=entry(cash, sales, 5, external_id="x")))
    assert (accepted["status"], accepted["posted_at"]) == ("accepted", None)
    assert [(line["amount"], line["status"], line["resulting_balances"]) for line in accepted["lines"]] == [
        (5, "accepted", None),
        (5, "accepted", None),
    ]
    assert await stage.posted(cash) == 0
    seen = (await stage.engine.ask(SITE, queries.entry, accepted["id"])).value
    assert msgspec.to_builtins(seen) == accepted
    assert await stage.engine.tend(SITE) is None
    posted = msgspec.to_builtins((await stage.engine.ask(SITE, queries.entry, accepted["id"])).value)
    assert (posted["status"], posted["external_id"]) == ("posted", "x")
    assert [line["id"] for line in posted["lines"]] == [line["id"] for line in accepted["lines"]]
    assert await stage.posted(cash) == 5
    assert [event.type for event in (await stage.events())[-2:]] == ["entry.created", "entry.posted"]
    assert await stage.verify() is None


async def test_what_cannot_hold_is_refused_at_once(stage: Stage) -> None:
    """All that can be told without balances; the external id is taken from then on."""
    cash, sales = await stage.accounts("asset", "revenue")
    await stage.run(AcceptEntry(entry=entry(cash, sales, 5, external_id="x")))
    before = await stage.rows()
    lines = (entry(cash, sales, 5).lines[0], entry(cash, sales, 6).lines[1])
    for draft, refusal in (
        (entry(cash, sales, 5, external_id="x"), DuplicateEntry),
        (entry(cash, "external_id:nobody", 5), AccountNotFound),
        (PostEntry(lines=lines), UnbalancedEntry),
    ):
        with pytest.raises(refusal):
            await stage.run(AcceptEntry(entry=draft))
    assert await stage.rows() == before


async def test_entry_that_cannot_be_posted_is_rejected_with_the_reason(stage: Stage) -> None:
    """Funds, conditions and closed accounts are looked at when its turn comes; others are posted all the same."""
    cash = await stage.account("asset")
    wallet = await stage.account("liability", allow_negative=False)
    closing = await stage.account("revenue")
    condition = Condition(balance="posted", operator="lt", value=3)
    first, second = entry(cash, wallet, 5).lines
    guarded = LineDraft(
        account=first.account, direction=first.direction, amount=5, metadata={}, conditions=(condition,)
    )
    drafts = [
        entry(wallet, cash, 1),
        PostEntry(lines=(guarded, second)),
        entry(cash, closing, 1),
        entry(cash, wallet, 2),
    ]
    made = [(await stage.run(AcceptEntry(entry=draft)))["id"] for draft in drafts]
    await stage.run(CloseAccount(account_id=closing))
    await stage.engine.tend(SITE)
    found = [(await stage.engine.ask(SITE, queries.entry, each)).value for each in made]
    assert [each.status for each in found] == ["rejected", "rejected", "rejected", "posted"]
    assert [None if each.rejection is None else each.rejection.code for each in found] == [
        "InsufficientFunds",
        "ConditionFailed",
        "AccountClosed",
        None,
    ]
    assert [line.status for line in found[0].lines] == ["rejected", "rejected"]
    assert await stage.posted(wallet) == 2
    with pytest.raises(EntryNotPosted):
        await stage.run(ReverseEntry(entry_id=made[0]))
    changed = await stage.run(UpdateEntry(entry_id=made[0], description="why"))
    assert changed["rejection"]["code"] == "InsufficientFunds"
    listed = (await stage.engine.ask(SITE, queries.list_entries, Selection(equals={"status": "rejected"}))).value
    assert [each.id for each in listed.items] == made[2::-1]
    assert await stage.verify() is None


async def test_order_of_acceptance_is_the_order_of_posting(stage: Stage) -> None:
    """Over two processes and more than a batch; every one is posted once, whoever tends."""
    cash, sales = await stage.accounts("asset", "revenue")
    engines = [stage.engine, stage.another()]
    count = ACCEPTED_MAX + 30
    made = await asyncio.gather(
        *(
            engines[number % 2].submit(
                SITE,
                AcceptEntry(entry=entry(cash, sales, 1)),
                diagnostics=Diagnostics(request_id=f"r{number}"),
            )
            for number in range(count)
        ),
    )
    await asyncio.gather(*(engine.tend(SITE) for engine in engines), stage.submit(Tend()))
    events = await stage.events()
    accepted = [event.resource_id for event in events if event.type == "entry.created"]
    posted = [event for event in events if event.type == "entry.posted"]
    assert [event.resource_id for event in posted] == accepted
    assert sorted(accepted) == sorted(str(each.resource_id) for each in made)
    asked = {each.resource_id: f"r{number}" for number, each in enumerate(made)}
    for event in posted:
        assert msgspec.json.decode(event.body)["diagnostics"]["request_id"] == asked[event.resource_id]
    assert await stage.posted(cash) == count
    assert await stage.verify() is None


async def test_rejected_entry_gives_its_external_id_up(stage: Stage) -> None:
    """Another may take it; the same batch may too."""
    cash = await stage.account("asset")
    wallet = await stage.account("liability", allow_negative=False)
    await stage.run(AcceptEntry(entry=entry(wallet, cash, 1, external_id="x")))
    await stage.engine.tend(SITE)
    assert (await stage.run(entry(cash, wallet, 1, external_id="x")))["status"] == "posted"
    assert await stage.verify() is None
