"""Business events on both databases: found handlers and accounts, what one batch may hold, several processes at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from msgspec.structs import replace
from sqlalchemy import Connection, select, text

from engine import event_queries
from engine.batch import run_batch
from engine.commands import CloseAccount, Command, CreateAccount, CreateLedger, PostPending, UpdateAccount, Validate
from engine.databases import Database
from engine.errors import NotFound
from engine.event_commands import SwitchEventHandler, TryEventHandler, UpdateEventHandler
from engine.event_errors import (
    DuplicateBusinessEvent,
    NoHandlerMatches,
    SeveralHandlersMatch,
    VariableUnresolved,
)
from engine.events import Diagnostics
from engine.fold import BatchRun, Committed, Outcome, Submission
from engine.fx_commands import CreateFxRate
from engine.metadata_store import FEW_OF_EACH
from engine.queries import Selection
from engine.schema import accounts
from tests.store.engine_stage import OTHER, Stage, entry, key, make_stage, outcomes
from tests.unit.engine.handling import TOP_UP, definition, handler, happened, line, lines, metadata_query

WALLET: dict[str, Any] = {
    "variables": {"wallet": metadata_query(user="{{ event.user }}", type="wallet")},
    "entries": [
        {
            "lines": [
                line("external_id:a", "debit", "{{ event.amount }}"),
                line("{{ wallet.id }}", "credit", "{{ event.amount }}"),
            ]
        }
    ],
}


@pytest.fixture
async def stage(site_database: Database) -> AsyncIterator[Stage]:
    """A site with the accounts that external ids name, a and b; its books are right in the end."""
    stage = await make_stage(site_database)
    await stage.account("asset", external_id="a")
    await stage.account("liability", external_id="b")
    yield stage
    assert await stage.verify() is None


async def wallet(stage: Stage, user: str, **options: Any) -> str:
    """Open a user's wallet and return its id."""
    return await stage.account("liability", metadata={"user": user, "type": "wallet"}, **options)


async def together(stage: Stage, *commands: Command) -> list[Outcome]:
    """Commit commands as one batch and return what each came to."""
    run = BatchRun(site=stage.site, ids=stage.ids, idempotency_days=7)
    submissions = [Submission(command=each, key=None, diagnostics=Diagnostics()) for each in commands]

    def batch(conn: Connection) -> list[Outcome]:
        return run_batch(conn, run, submissions, stage.clock).outcomes

    return await stage.write(batch)


def kinds(outcomes_: list[Outcome]) -> list[type]:
    """Return the kind of each outcome."""
    return [type(each) for each in outcomes_]


async def test_an_event_is_kept_with_its_entries(stage: Stage) -> None:
    """As it was answered, to the byte of its custom data; the entry names it."""
    made = await stage.run(handler())
    told = await stage.run(replace(happened(amount=5, large=1e22, z=[]), external_id="x", metadata={"k": "v"}))
    event = (await stage.engine.ask(stage.site, event_queries.business_event, told["id"])).value
    assert bytes(event.custom_data) == b'{"amount":5,"large":1e22,"z":[]}'
    assert (event.event_handler_id, event.event_handler_version) == (made["id"], 1)
    assert [(each.id, each.business_event_id) for each in event.entries] == [(told["entries"][0]["id"], told["id"])]
    with pytest.raises(NotFound):
        await stage.engine.ask(stage.site, event_queries.business_event, made["id"])


async def test_an_event_shows_its_entries_as_they_stand(stage: Stage) -> None:
    """Not as they stood when it happened."""
    await stage.run(handler(entries=[{"lines": lines(), "status": "pending"}]))
    told = await stage.run(happened(amount=5))
    await stage.run(PostPending(entry_id=told["entries"][0]["id"]))
    shown = (await stage.engine.ask(stage.site, event_queries.business_event, told["id"])).value
    assert [each.status for each in shown.entries] == ["posted"]


@pytest.mark.parametrize("value", ["1", 'O\'Brien "x" \\', "%_", "", "ü\u2028"])
async def test_accounts_are_found_by_metadata_of_any_text(stage: Stage, value: str) -> None:
    """What is looked for is a value, never a pattern or a path."""
    mine = await wallet(stage, value)
    await wallet(stage, "another")
    await stage.run(handler(**WALLET))
    told = await stage.run(happened(user=value, amount=3))
    assert told["entries"][0]["lines"][1]["account_id"] == mine


async def test_metadata_has_to_match_exactly_one_open_account_of_the_site(stage: Stage) -> None:
    """Whether others have more pairs, fewer, or are closed does not matter."""
    await stage.run(handler(**WALLET))
    await stage.account("liability", metadata={"user": "1"})
    await stage.account("liability", metadata={"type": "wallet"})
    with pytest.raises(VariableUnresolved, match="There is no account"):
        await stage.run(happened(user="1", amount=3))
    closed = await wallet(stage, "1")
    await stage.run(CloseAccount(account_id=closed))
    mine = await wallet(stage, "1")
    told = await stage.run(happened(user="1", amount=3))
    assert told["entries"][0]["lines"][1]["account_id"] == mine
    other = (await stage.run(CreateLedger(name="Other")))["id"]
    await wallet(stage, "1", ledger_id=other)
    with pytest.raises(VariableUnresolved, match="more than one"):
        await stage.run(happened(user="1", amount=3))


async def test_a_ledgers_handler_finds_accounts_of_this_ledger(stage: Stage) -> None:
    """The same user may have a wallet in another book."""
    mine = await wallet(stage, "1")
    await wallet(stage, "1", ledger_id=(await stage.run(CreateLedger(name="Other")))["id"])
    await stage.run(handler(**WALLET, ledger_id=stage.ledger_id))
    told = await stage.run(happened(user="1", amount=3))
    assert told["entries"][0]["lines"][1]["account_id"] == mine


async def rated(stage: Stage, ledger_id: str, name: str) -> None:
    """Open an account in euros and one in dollars in a ledger."""
    for currency in ("EUR", "USD"):
        await stage.account("liability", currency, external_id=f"{name}-{currency}", ledger_id=ledger_id)


async def test_exchanges_of_events_pass_through_the_ledgers_own_accounts(stage: Stage) -> None:
    """They are opened once for each ledger, whether an event, one of its batch or one long ago was the first to need them."""
    other = (await stage.run(CreateLedger(name="Other")))["id"]
    await rated(stage, stage.ledger_id, "here")
    await rated(stage, other, "there")
    rate = (await stage.run(CreateFxRate(base="EUR", quote="USD", rate="1.1")))["id"]
    variables = {
        each: {
            "type": "account",
            "query": {"field": "external_id", "operator": "equals", "value": f"{{{{ event.at }}}}-{each}"},
        }
        for each in ("EUR", "USD")
    }
    # Either both accounts are read before it is known that there is an exchange, or one of them for its line.
    for other_line, name in (("{{ USD.id }}", "Found"), ("external_id:{{ event.at }}-USD", "Named")):
        exchange = [
            line("{{ EUR.id }}", "debit", "{{ event.amount }}"),
            line(other_line, "credit", "{{ event.amount * 1.1 }}"),
        ]
        named = {"field": "event.name", "operator": "equals", "value": name}
        entries = [{"lines": exchange, "fx_rate_id": rate}]
        needed = variables if name == "Found" else {"EUR": variables["EUR"]}
        await stage.run(handler(name, conditions=named, variables=needed, entries=entries))
    sent = [happened(name, amount=10, at=at) for at in ("here", "there", "here") for name in ("Found", "Named")]
    for batch in (sent[:1], sent, sent[1:], sent[:1]):
        done = await together(stage, *batch)
        assert kinds(done) == [Committed] * len(batch)
    found = await stage.read(lambda conn: conn.execute(
        select(accounts.c.ledger_id, accounts.c.currency).where(accounts.c.purpose.is_not(None))).all())  # fmt: skip
    assert sorted(found) == sorted((ledger, each) for ledger in (stage.ledger_id, other) for each in ("EUR", "USD"))


@pytest.mark.parametrize("site_database", ["postgresql"], indirect=True)
async def test_another_sites_handlers_and_accounts_are_not_seen(stage: Stage) -> None:
    """On PostgreSQL both sites are in one database."""
    neighbour = await make_stage(stage.database, OTHER)
    await neighbour.run(handler())
    await wallet(neighbour, "1")
    with pytest.raises(NoHandlerMatches):
        await stage.run(happened(amount=1))
    await stage.run(handler(**WALLET))
    with pytest.raises(VariableUnresolved):
        await stage.run(happened(user="1", amount=1))


async def test_one_batch_may_make_a_handler_and_use_it(stage: Stage) -> None:
    """Each command sees what those before it did, whatever had to be read for it."""
    done = await together(stage, happened(amount=1), handler(), happened(amount=2), handler("Two"), happened(amount=3))
    assert kinds(done) == [NoHandlerMatches, Committed, Committed, Committed, SeveralHandlersMatch]


async def test_one_batch_may_change_and_switch_a_handler_between_events(stage: Stage) -> None:
    """An event is handled by the version that stands when its turn comes."""
    made = (await stage.run(handler()))["id"]
    later = definition(conditions={**TOP_UP, "value": "Later"}).conditions
    done = await together(
        stage,
        happened(amount=1),
        SwitchEventHandler(handler_id=made, status="archived"),
        happened(amount=2),
        SwitchEventHandler(handler_id=made, status="active"),
        UpdateEventHandler(handler_id=made, definition={"conditions": later}),
        happened(amount=3),
        happened("Later", amount=4),
    )
    expected = [Committed, Committed, NoHandlerMatches, Committed, Committed, NoHandlerMatches, Committed]
    assert kinds(done) == expected
    page = (await stage.engine.ask(stage.site, event_queries.list_business_events, Selection())).value
    assert [(each.name, each.event_handler_version) for each in page.items] == [("Later", 4), ("Top Up", 1)]


async def test_one_batch_may_change_the_accounts_that_a_variable_looks_for(stage: Stage) -> None:
    """Opened, renamed, closed before it: the variable finds what stands then, and its amounts go there."""
    first, second = await wallet(stage, "1"), await wallet(stage, "2")
    await stage.run(handler(**WALLET))
    renamed = {"user": "1", "type": "wallet"}
    done = await together(
        stage,
        happened(user="1", amount=1),
        UpdateAccount(account_id=second, metadata=renamed),
        happened(user="1", amount=10),
        UpdateAccount(account_id=first, metadata={}),
        happened(user="1", amount=100),
        happened(user="2", amount=1000),
    )
    expected = [Committed, Committed, VariableUnresolved, Committed, Committed, VariableUnresolved]
    assert kinds(done) == expected
    assert [await stage.posted(each) for each in (first, second)] == [1, 100]


async def test_a_variable_looks_further_where_a_batch_takes_what_was_found_away(stage: Stage) -> None:
    """The database names two at most; where both go, there may be a third."""
    many = [await wallet(stage, "1") for _ in range(20)]
    await stage.run(handler(**WALLET))
    done = await together(
        stage,
        happened(user="1", amount=1),
        *(UpdateAccount(account_id=each, metadata={}) for each in many[:19]),
        happened(user="1", amount=5),
        UpdateAccount(account_id=many[19], metadata={}),
        happened(user="1", amount=7),
    )
    assert kinds([done[0], done[20], done[22]]) == [VariableUnresolved, Committed, VariableUnresolved]
    assert await stage.posted(many[19]) == 5


async def test_what_a_batch_moved_before_an_event_is_not_read_again(stage: Stage) -> None:
    """Accounts that are read late stand as the commands before left them."""
    mine = await wallet(stage, "1")
    await stage.run(handler(**WALLET))
    others = await stage.accounts("asset")
    done = await together(
        stage,
        entry(others[0], mine, 10),
        happened(user="1", amount=1),
        entry(others[0], mine, 100),
        happened(user="1", amount=1),
    )
    assert kinds(done) == [Committed] * 4
    assert await stage.posted(mine) == 112


async def test_a_batch_of_many_users_finds_each(stage: Stage) -> None:
    """Every event its own account, all in one transaction."""
    await stage.run(handler(**WALLET))
    wallets = [await wallet(stage, str(number)) for number in range(12)]
    done = await together(stage, *(happened(user=str(number), amount=number + 1) for number in range(12)))
    assert kinds(done) == [Committed] * 12
    assert [await stage.posted(each) for each in wallets] == list(range(1, 13))


async def test_a_used_external_id_is_refused_and_a_used_key_is_answered_again(stage: Stage) -> None:
    """From any process, at once or later: one event, one set of entries."""
    await stage.run(handler())
    event = replace(happened(amount=5), external_id="x")
    other = stage.another()
    done = await outcomes(*(engine.submit(stage.site, event) for engine in (stage.engine, other) for _ in range(5)))
    refused = [each for each in done if isinstance(each, BaseException)]
    assert len(refused) == 9
    assert {type(each) for each in refused} == {DuplicateBusinessEvent}
    with pytest.raises(DuplicateBusinessEvent):
        await stage.run(event)
    keyed = await asyncio.gather(
        *(engine.submit(stage.site, happened(amount=7), key=key("k")) for engine in (stage.engine, other))
    )
    assert sorted(each.replayed for each in keyed) == [False, True]
    assert len({each.body for each in keyed}) == 1
    page = (await stage.engine.ask(stage.site, event_queries.list_business_events, Selection())).value
    assert len(page.items) == 2


async def test_trials_store_nothing_at_all(stage: Stage) -> None:
    """No row of any table is another, and the feed is where it was."""
    await stage.run(handler(**WALLET))
    await wallet(stage, "1")
    before = await stage.rows()
    event = happened(user="1", amount=5)
    told = await stage.run(Validate(command=event))
    assert [each["amount"] for each in told["entries"][0]["lines"]] == [5, 5]
    trial = await stage.run(TryEventHandler(handler=handler("Other", **WALLET), event=event))
    assert trial["business_event"]["entries"][0]["lines"][0]["amount"] == 5
    assert await stage.rows() == before


async def test_versions_are_what_the_feed_says(stage: Stage) -> None:
    """The newest first, in pages; the numbers are without a gap."""
    made = (await stage.run(handler()))["id"]
    for name in "bcde":
        await stage.run(UpdateEventHandler(handler_id=made, name=name))
    await stage.run(SwitchEventHandler(handler_id=made, status="archived"))
    seen: list[tuple[int, str, str]] = []
    wanted = Selection(limit=4)
    while True:
        page = (await stage.engine.ask(stage.site, event_queries.event_handler_versions, made, wanted)).value
        seen += [(each.lock_version, each.name, each.status) for each in page.items]
        if page.next_cursor is None:
            break
        wanted = Selection(limit=4, cursor=page.next_cursor)
    assert seen == [
        (6, "e", "archived"),
        (5, "e", "active"),
        (4, "d", "active"),
        (3, "c", "active"),
        (2, "b", "active"),
        (1, "Top ups", "active"),
    ]
    shown = (await stage.engine.ask(stage.site, event_queries.event_handler, made)).value
    assert (shown.lock_version, shown.status) == (6, "archived")


async def test_lists_are_narrowed_and_paged(stage: Stage) -> None:
    """By what their columns say."""
    made = (await stage.run(handler()))["id"]
    await stage.run(handler("Other", conditions={**TOP_UP, "value": "Other"}))
    for number in range(5):
        await stage.run(replace(happened(amount=1), external_id=f"x{number}", metadata={"no": str(number)}))
    await stage.run(happened("Other", amount=1))

    async def ask(**wanted: Any) -> list[str | None]:
        page = (await stage.engine.ask(stage.site, event_queries.list_business_events, Selection(**wanted))).value
        return [each.external_id for each in page.items]

    assert await ask(equals={"name": "Top Up"}, limit=2) == ["x4", "x3"]
    assert await ask(equals={"event_handler_id": made}) == ["x4", "x3", "x2", "x1", "x0"]
    assert await ask(metadata={"no": "3"}) == ["x3"]
    assert await ask(equals={"external_id": "x1"}) == ["x1"]
    handlers = (
        await stage.engine.ask(stage.site, event_queries.list_event_handlers, Selection(equals={"name": "Other"}))
    ).value
    assert [each.name for each in handlers.items] == ["Other"]


async def test_a_pair_that_many_accounts_have_does_not_hide_the_one_that_is_meant(stage: Stage) -> None:
    """By the rarest pair of a query, or by all together where each is common."""
    run = BatchRun(site=stage.site, ids=stage.ids, idempotency_days=7)
    opened = [
        CreateAccount(
            ledger_id=stage.ledger_id,
            name="n",
            type="liability",
            currency="EUR",
            metadata={"type": "wallet", "even": str(number % 2 == 0), "user": str(number), "group": str(number // 70)},
        )
        for number in range(140)
    ]
    submissions = [Submission(command=each, key=None, diagnostics=Diagnostics()) for each in opened]
    done = (await stage.write(lambda conn: run_batch(conn, run, submissions, stage.clock))).outcomes
    assert kinds(done) == [Committed] * 140
    by_user = metadata_query(type="wallet", user="{{ event.user }}")
    entries = WALLET["entries"]
    made = (await stage.run(handler(variables={"wallet": by_user}, entries=entries)))["id"]
    told = await stage.run(happened(user="133", amount=1))
    [first] = [each for each in done if isinstance(each, Committed) and b'"user":"133"' in each.body]
    assert told["entries"][0]["lines"][1]["account_id"] == first.resource_id
    common = definition(variables={"wallet": metadata_query(type="wallet", even="True")}).variables
    await stage.run(UpdateEventHandler(handler_id=made, definition={"variables": common}))
    with pytest.raises(VariableUnresolved, match="more than one"):
        await stage.run(happened(amount=1))
    joined = definition(variables={"wallet": metadata_query(even="True", group="1", type="wallet")}).variables
    await stage.run(UpdateEventHandler(handler_id=made, definition={"variables": joined}))
    with pytest.raises(VariableUnresolved, match="more than one"):
        await stage.run(happened(amount=1))


async def test_accounts_are_found_by_an_index(stage: Stage) -> None:
    """On both databases, whatever the planner believes of an empty table: the plan names the key and scans nothing."""
    if stage.database.dialect == "postgresql":
        command = text(
            "EXPLAIN "
            + FEW_OF_EACH.replace("$1", ":site")
            .replace("$2", "'accounts'")
            .replace("$3", ":keys")
            .replace("$4", ":values")
        )
        values = {"site": stage.site.id, "keys": ["a"], "values": ["b"]}
    else:
        command = text(
            "EXPLAIN QUERY PLAN SELECT id FROM metadata_pairs "
            "WHERE site_id = :site AND owner = 'accounts' AND key = :key AND value = :value"
        )
        values = {"site": stage.site.id, "key": "a", "value": "b"}
    plan = str(await stage.read(lambda conn: conn.execute(command, values).all()))
    assert "Index" in plan or "USING COVERING INDEX" in plan or "USING PRIMARY KEY" in plan, plan
    assert "Seq Scan" not in plan, plan
    assert "SCAN" not in plan, plan
