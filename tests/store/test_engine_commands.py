"""Commands through the engine on real databases: mixed, at once, and what they leave behind."""

from __future__ import annotations

import asyncio
import random

import msgspec
import pytest
from sqlalchemy import func, select

from engine import queries, statements
from engine.commands import (
    ArchiveEntry,
    CloseAccount,
    Command,
    PostBatch,
    PostEntry,
    PostPending,
    RecordFact,
    UpdateAccount,
    UpdateEntry,
    UpdateLedger,
)
from engine.databases import Database
from engine.errors import (
    AlreadyTaken,
    DuplicateEntry,
    EntryNotPending,
    InsufficientFunds,
    LockVersionConflict,
    NotFound,
    PreconditionFailed,
    Refused,
    SiteUnknown,
)
from engine.queries import Selection
from engine.schema import lines
from engine.shapes import Entry
from tests.store.engine_stage import OTHER, Stage, entry, line, make_stage, outcomes


@pytest.fixture
async def stage(site_database: Database) -> Stage:
    """A site with one ledger."""
    return await make_stage(site_database)


async def test_mixed_commands_at_once_leave_books_that_prove_themselves(stage: Stage) -> None:
    """Three processes, every kind of command, refusals among them: every answer holds, and the audit finds nothing."""
    accounts = [await stage.account("asset", allow_negative=number > 2) for number in range(6)]
    pending = [(await stage.run(entry(accounts[4], accounts[5], 9, status="pending")))["id"] for _ in range(12)]
    dice = random.Random(1)
    commands: list[Command] = [PostPending(entry_id=each) for each in pending]
    commands += [ArchiveEntry(entry_id=each) for each in pending]
    for number in range(200):
        one, other = dice.sample(accounts, 2)
        commands += [
            entry(
                one,
                other,
                dice.randint(1, 9),
                external_id=f"x{number % 150}",
                status=dice.choice(["posted", "pending"]),
            ),
        ]
    for _ in range(20):
        one, other, third = dice.sample(accounts, 3)
        commands.append(PostBatch(entries=(entry(one, other, 5), entry(third, one, 1))))
    commands += [UpdateAccount(account_id=accounts[0], name=f"n{number}") for number in range(5)]
    commands += [UpdateLedger(ledger_id=stage.ledger_id, name=f"n{number}") for number in range(5)]
    commands += [UpdateEntry(entry_id=each, description="d") for each in pending]
    commands += [
        RecordFact(key="k", type="endpoint.failing", resource_type="endpoint", resource_id=accounts[0], data=b"{}")
    ] * 3
    dice.shuffle(commands)
    engines = [stage.engine, stage.another(), stage.another()]
    answers = await outcomes(
        *(engines[number % 3].submit(stage.site, command) for number, command in enumerate(commands)),
    )
    assert [each for each in answers if isinstance(each, BaseException) and not isinstance(each, Refused)] == []
    resolved = [
        type(answer)
        for command, answer in zip(commands, answers, strict=True)
        if isinstance(command, PostPending | ArchiveEntry)
    ]
    assert resolved.count(EntryNotPending) == 12
    events = await stage.events()
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    assert sum(event.type == "endpoint.failing" for event in events) == 1
    assert await stage.verify() is None
    for account_id in accounts[:3]:
        balance = (await stage.engine.ask(stage.site, statements.balance_at, account_id)).value
        assert balance.available.amount >= 0


async def test_answer_is_the_resource_as_it_is_read_back_and_as_the_feed_tells_it(stage: Stage) -> None:
    """One shape, three places; resulting totals included."""
    cash, sales = await stage.accounts("asset", "revenue")
    done = await stage.submit(entry(cash, sales, 250, external_id="x", description="d", metadata={"b": "2", "aa": "1"}))
    answer = msgspec.json.decode(done.body, type=Entry)
    read = await stage.engine.ask(stage.site, queries.entry, answer.id)
    assert read.value == answer
    last = (await stage.events())[-1]
    assert msgspec.json.decode(last.body)["data"] == msgspec.json.decode(done.body)
    assert (done.resource_id, done.lock_version, done.replayed) == (answer.id, 1, False)
    assert [each.resulting_balances and each.resulting_balances.posted.amount for each in answer.lines] == [250, 250]
    stage.clock.advance(seconds=1)
    balance = (await stage.engine.ask(stage.site, statements.balance_at, cash)).value
    assert (balance.posted.amount, balance.lock_version) == (250, answer.lines[0].account_lock_version)


@pytest.mark.parametrize("together", [False, True])
async def test_external_id_is_unique_until_its_entry_is_archived(stage: Stage, *, together: bool) -> None:
    """Pending and posted entries hold it; an archived one gives it up, to a later batch or to the same one."""
    cash, sales = await stage.accounts("asset", "revenue")
    held = (await stage.run(entry(cash, sales, 1, status="pending", external_id="x")))["id"]
    with pytest.raises(DuplicateEntry) as refused:
        await stage.run(entry(cash, sales, 1, external_id="x"))
    assert refused.value.entry_id == held
    again = (ArchiveEntry(entry_id=held), entry(cash, sales, 2, external_id="x"))
    if together:
        before = len(stage.commits)
        answers = await outcomes(*(stage.submit(each) for each in again))
        assert [each for each in answers if isinstance(each, BaseException)] == []
        assert len(stage.commits) == before + 1
    else:
        for each in again:
            await stage.submit(each)
    with pytest.raises(DuplicateEntry):
        await stage.run(entry(cash, sales, 3, status="pending", external_id="x"))
    # Describing the archived one does not free what the new one holds, in one batch with the attempt.
    answers = await outcomes(
        stage.submit(UpdateEntry(entry_id=held, description="given up")),
        stage.submit(entry(cash, sales, 3, external_id="x")),
    )
    assert isinstance(answers[1], DuplicateEntry)
    assert await stage.verify() is None


async def test_external_id_of_an_account_is_taken_for_ever(stage: Stage) -> None:
    """In the same batch and later, closed or not; lines find the account by it."""
    answers = await outcomes(*(stage.account("asset", external_id="till") for _ in range(4)))
    [made] = [each for each in answers if isinstance(each, str)]
    assert sum(isinstance(each, AlreadyTaken) for each in answers) == 3
    sales = await stage.account("revenue")
    await stage.run(entry("external_id:till", sales, 4))
    assert await stage.posted(made) == 4
    await stage.run(entry(sales, "external_id:till", 4))
    await stage.run(CloseAccount(account_id=made))
    with pytest.raises(AlreadyTaken):
        await stage.account("asset", external_id="till")


async def test_lock_version_on_a_line_admits_one_of_many(stage: Stage) -> None:
    """Of those who saw the same version one posts, and nobody else."""
    cash, sales = await stage.accounts("asset", "revenue")
    version = (await stage.engine.account(stage.site, cash)).value.lock_version
    command = PostEntry(lines=(line(cash, "debit", 1, version), line(sales, "credit", 1)))
    engines = [stage.engine, stage.another()]
    answers = await outcomes(*(engines[number % 2].submit(stage.site, command) for number in range(8)))
    conflicts = [each for each in answers if isinstance(each, LockVersionConflict)]
    assert (len(conflicts), await stage.posted(cash)) == (7, 1)
    assert conflicts[0].actual == version + 1


async def test_if_match_admits_one_of_many(stage: Stage) -> None:
    """Ledgers, accounts and entries: the first changes it, the others are told the version there is."""
    cash, sales = await stage.accounts("asset", "revenue")
    made = (await stage.run(entry(cash, sales, 1, status="pending")))["id"]
    version = (await stage.engine.account(stage.site, cash)).value.lock_version
    for commands in (
        [UpdateLedger(ledger_id=stage.ledger_id, name=f"n{number}", if_match=1) for number in range(3)],
        [UpdateAccount(account_id=cash, name=f"n{number}", if_match=version) for number in range(3)],
        [UpdateEntry(entry_id=made, description=f"n{number}", if_match=1) for number in range(3)],
    ):
        answers = await outcomes(*(stage.submit(each) for each in commands))
        assert sum(isinstance(each, PreconditionFailed) for each in answers) == 2
    with pytest.raises(PreconditionFailed):
        await stage.submit(PostPending(entry_id=made, if_match=1))
    assert (await stage.run(PostPending(entry_id=made, if_match=2)))["status"] == "posted"


async def test_atomic_batch_is_all_or_nothing_beside_others(stage: Stage) -> None:
    """One entry that is refused takes its whole batch with it, and no neighbour."""
    till, sales = await stage.account("asset", allow_negative=False), await stage.account("revenue")
    good = PostBatch(entries=(entry(till, sales, 10), entry(sales, till, 10)))
    bad = PostBatch(entries=(entry(till, sales, 10), entry(sales, till, 11)))
    before = len(await stage.events())
    answers = await outcomes(*(stage.submit(each) for each in (good, bad, good, bad)))
    assert [type(each) for each in answers if isinstance(each, BaseException)] == [InsufficientFunds] * 2
    assert len(await stage.events()) == before + 4
    assert await stage.read(lambda conn: conn.execute(select(func.count()).select_from(lines)).scalar_one()) == 8
    assert await stage.verify() is None


async def test_refused_command_leaves_every_table_as_it_was(stage: Stage) -> None:
    """Not a row, not an event, not the head."""
    till, sales = await stage.account("asset", allow_negative=False), await stage.account("revenue")
    held = (await stage.run(entry(till, sales, 5, status="pending")))["id"]
    before = await stage.rows()
    refused: list[Command] = [
        entry(sales, till, 1),
        PostPending(entry_id=held, if_match=9),
        CloseAccount(account_id=till),
        PostBatch(entries=(entry(till, sales, 1), entry(sales, till, 2))),
        UpdateLedger(ledger_id=till, name="x"),
    ]
    for command in refused:
        with pytest.raises(Refused):
            await stage.submit(command)
    assert all(isinstance(each, Refused) for each in await outcomes(*(stage.submit(each) for each in refused)))
    assert await stage.rows() == before
    assert stage.commits[-1] == len(await stage.events())


async def test_hot_account_takes_every_one_of_many(stage: Stage) -> None:
    """Hundreds at once on one account, each answer with a balance of its own."""
    cash, sales = await stage.accounts("asset", "revenue")
    answers = await asyncio.gather(*(stage.run(entry(cash, sales, 1)) for _ in range(300)))
    seen = sorted(each["lines"][0]["resulting_balances"]["posted"]["amount"] for each in answers)
    assert seen == list(range(1, 301))


async def test_time_never_runs_backwards_along_the_feed(stage: Stage) -> None:
    """A clock that steps back is waited out by the site's last time."""
    cash, sales = await stage.accounts("asset", "revenue")
    for step in (5, -60, 1, -3600, 7200):
        stage.clock.advance(seconds=step)
        await stage.run(entry(cash, sales, 1))
    at = [event.created_at for event in await stage.events()]
    assert at == sorted(at)
    assert at[-1] == stage.clock.now_us()


async def test_unknown_site_has_no_books(stage: Stage) -> None:
    """It is refused, and a site that comes later is served by the same engine."""
    with pytest.raises(SiteUnknown):
        await stage.engine.submit(OTHER, entry(stage.ledger_id, stage.ledger_id, 1))
    with pytest.raises(SiteUnknown):
        await stage.engine.ask(OTHER, queries.list_ledgers, Selection())
    other = await make_stage(stage.database, OTHER)
    assert (await stage.engine.ask(OTHER, queries.list_ledgers, Selection())).value.items[0].id == other.ledger_id
    with pytest.raises(NotFound):
        await stage.engine.submit(OTHER, UpdateLedger(ledger_id=stage.ledger_id, name="x"))
