"""The writer: one transaction for all who wait, everyone gets an answer, nothing is run that nobody waits for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from msgspec.structs import replace
from sqlalchemy import Connection, event
from structlog.testing import capture_logs

from engine import feed
from engine import fold as fold_module
from engine import writer as writer_module
from engine.batch import run_batch
from engine.books import Books, Decision
from engine.clock import Clock
from engine.commands import Command, CreateLedger
from engine.databases import Database
from engine.errors import BooksCorrupt, IdempotencyInProgress, InsufficientFunds, Overloaded, Unavailable
from engine.events import Diagnostics
from engine.fold import BatchResult, BatchRun, Committed, Submission
from engine.memory import Memory
from engine.occasion import Occasion
from engine.patience import Patience
from engine.posting import decide
from tests.store.engine_stage import Stage, entry, key, make_stage, outcomes, until


@pytest.fixture(autouse=True)
def logs() -> Iterator[None]:
    """What is logged, kept instead of printed."""
    with capture_logs():
        yield


@pytest.fixture
async def stage(site_database: Database) -> Stage:
    """A site with one ledger."""
    return await make_stage(site_database)


@asynccontextmanager
async def counted_commits(database: Database) -> AsyncIterator[list[int]]:
    """Count the transactions that are committed in the block, those of a single statement too."""
    counted = [0]

    def count(_connection: Connection, _cursor: object = None, statement: str = "", *_: object) -> None:
        counted[0] += "set_config" not in statement

    engine = database._writer.sync_engine
    event.listen(engine, "commit", count)
    if database._single is None:
        yield counted
    else:
        single = database._single.sync_engine
        event.listen(single, "after_cursor_execute", count)
        yield counted
        event.remove(single, "after_cursor_execute", count)


@asynccontextmanager
async def held_lock(stage: Stage) -> AsyncIterator[None]:
    """Hold the site's lock in a transaction of somebody else for the time of the block."""
    taken, released = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    async def hold() -> None:
        async with other._writer.begin() as connection:
            site_id = stage.site.id
            await connection.run_sync(other._inside, lambda conn: feed.lock_head(conn, site_id), site_id)
            taken.set()
            await released.wait()

    # A database of its own: on SQLite the one connection that writes is the engine's.
    other = Database.open(stage.database._writer.url.render_as_string(hide_password=False))
    holding = loop.create_task(hold())
    await taken.wait()
    try:
        yield
    finally:
        released.set()
        await holding
        await other.close()


async def test_commands_that_wait_share_a_transaction(stage: Stage) -> None:
    """Three hundred at once are two transactions: 256 commands, then the rest."""
    cash, sales = await stage.accounts("asset", "revenue")
    async with counted_commits(stage.database) as commits:
        await asyncio.gather(*(stage.submit(entry(cash, sales, 1)) for _ in range(300)))
    assert commits == [2]
    assert await stage.posted(cash) == 300


async def test_next_batch_gathers_while_one_waits(stage: Stage) -> None:
    """However they trickle in: one transaction for the first, one for all who came meanwhile."""
    cash, sales = await stage.accounts("asset", "revenue")
    writer = stage.engine._writers[stage.site.id]
    async with held_lock(stage):
        asked = [asyncio.ensure_future(stage.submit(entry(cash, sales, 1)))]
        await until(lambda: writer._flusher is not None and not writer._waiting)
        for _ in range(20):
            asked.append(asyncio.ensure_future(stage.submit(entry(cash, sales, 1))))
            await asyncio.sleep(0)
        before = len(stage.commits)
    await asyncio.gather(*asked)
    assert len(stage.commits) - before == 2


async def test_who_comes_while_the_lock_is_waited_for_goes_along(stage: Stage) -> None:
    """Behind the lock a batch is what waits when it is there, not when it was asked for: one transaction, in the order of coming."""
    cash, sales = await stage.accounts("asset", "revenue")
    engine = stage.another(ahead=False)
    asked: list[asyncio.Future[Committed]] = []
    async with held_lock(stage), counted_commits(stage.database) as commits:
        for number in range(20):
            posting = engine.submit(stage.site, entry(cash, sales, 1), key=key(f"{number // 2}"))
            asked.append(asyncio.ensure_future(posting))
            # So long that the first waits for the lock, and nobody else for a place in its batch.
            await asyncio.sleep(0.01)
        gone = asked.pop()
        gone.cancel()
    answers = await asyncio.gather(*asked)
    assert [each.replayed for each in answers] == [False, True] * 9 + [False]
    assert (commits, await stage.posted(cash), await stage.verify()) == ([1], 10, None)
    assert [each.resource_id for each in answers[::2]] == [
        each.resource_id for each in (await stage.events())[-10:] if each.type == "entry.posted"
    ]


async def test_who_gave_up_a_moment_ago_is_not_taken(stage: Stage) -> None:
    """The future is done at once; whoever waited for it says so only when it is its turn in the loop."""
    cash, sales = await stage.accounts("asset", "revenue")
    writer = stage.engine._writers[stage.site.id]
    async with held_lock(stage):
        first, *rest = [asyncio.ensure_future(stage.submit(entry(cash, sales, 1))) for _ in range(3)]
        await until(lambda: writer._flusher is not None and not writer._waiting)
        rest.append(asyncio.ensure_future(stage.submit(entry(cash, sales, 1))))
        await asyncio.sleep(0)
        writer._put_back(writer._drafted)
        writer._draft, writer._drafted = None, []
        for each in writer._waiting:
            each.future.cancel()
        assert writer._take([], 100) == []
        assert not writer._waiting
    assert isinstance(await first, Committed)
    assert {type(each) for each in await outcomes(*rest)} <= {Committed, asyncio.CancelledError}
    assert await stage.verify() is None


async def test_command_that_cannot_be_run_takes_nobody_along(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch that fails is run one by one, and nobody joins one who is alone: else it would fail with him, again and again."""
    cash, sales = await stage.accounts("asset", "revenue")
    engine = stage.another(ahead=False)
    good: list[asyncio.Future[Committed]] = []
    failed: list[int] = []

    def decide_with_trouble(command: Command, books: Books, occasion: Occasion) -> Decision:
        if isinstance(command, CreateLedger):
            raise RuntimeError("out of order")  # noqa: TRY004 - any error that is nobody's
        return decide(command, books, occasion)

    def run_while_more_come(
        conn: Connection,
        run: BatchRun,
        submissions: Sequence[Submission],
        clock: Clock,
        memory: Memory | None,
        joining: Callable[[], Sequence[Submission]],
    ) -> BatchResult:
        together = list(submissions)

        def join() -> Sequence[Submission]:
            late = joining()
            together.extend(late)
            return late

        if len(good) < 4:
            good.append(asyncio.ensure_future(engine.submit(stage.site, entry(cash, sales, 1))))
        try:
            return run_batch(conn, run, submissions, clock, memory, join)
        except RuntimeError:
            failed.append(len(together))
            raise

    monkeypatch.setattr(fold_module, "decide", decide_with_trouble)
    monkeypatch.setattr(writer_module, "run_batch", run_while_more_come)
    (bad,) = await outcomes(engine.submit(stage.site, CreateLedger(name="x")))
    await engine.drain()
    await asyncio.gather(*good)
    assert isinstance(bad, RuntimeError)
    assert failed == [2, 1]
    assert (await stage.posted(cash), await stage.verify()) == (len(good), None)


async def test_batch_is_bounded_by_lines(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """A large entry does not wait for room that never comes, and does not drag the others along."""
    monkeypatch.setattr(writer_module, "BATCH_LINES_MAX", 4)
    cash, sales = await stage.accounts("asset", "revenue")
    wide = entry(cash, sales, 1)
    wide = replace(wide, lines=wide.lines * 4)
    async with counted_commits(stage.database) as commits:
        await asyncio.gather(
            *(stage.submit(each) for each in (entry(cash, sales, 1), wide, *[entry(cash, sales, 1)] * 4))
        )
    assert commits == [4]
    assert await stage.posted(cash) == 9


async def test_refusals_in_the_middle_of_a_batch_touch_nobody_else(stage: Stage) -> None:
    """Each is told its own, and those after it see the books without it: one batch up to the first, one from there."""
    till, sales = await stage.account("asset", allow_negative=False), await stage.account("revenue")
    commands = [entry(till, sales, 5), entry(sales, till, 9), entry(sales, till, 5), entry(sales, till, 1)]
    async with counted_commits(stage.database) as commits:
        answers = await outcomes(*(stage.submit(each) for each in commands))
    assert [type(each) for each in answers if isinstance(each, BaseException)] == [InsufficientFunds] * 2
    assert (commits, await stage.posted(till)) == ([2], 0)


async def test_commits_are_told_with_the_head_that_they_reached(stage: Stage) -> None:
    """After the answer is durable; a batch that committed no event tells nothing."""
    cash, sales = await stage.accounts("asset", "revenue")
    told = len(stage.commits)
    await stage.submit(entry(cash, sales, 1))
    assert stage.commits[told:] == [len(await stage.events())]
    with pytest.raises(Exception, match="There is no account"):
        await stage.submit(entry(cash, stage.ledger_id, 1))
    assert len(stage.commits) == told + 1


async def test_too_many_waiting_is_overload_and_nothing_is_done(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """The queue is bounded; who is in it is served."""
    monkeypatch.setattr(writer_module, "WAITING_MAX", 3)
    cash, sales = await stage.accounts("asset", "revenue")
    answers = await outcomes(*(stage.submit(entry(cash, sales, 1)) for _ in range(5)))
    assert [type(each) for each in answers if isinstance(each, BaseException)] == [Overloaded] * 2
    assert await stage.posted(cash) == 3
    await stage.submit(entry(cash, sales, 1))


async def test_caller_who_leaves_before_his_turn_is_not_served(stage: Stage) -> None:
    """One cancelled in the queue leaves no trace; one cancelled in the transaction may still have happened."""
    cash, sales = await stage.accounts("asset", "revenue")
    writer = stage.engine._writers[stage.site.id]
    async with held_lock(stage):
        running = asyncio.ensure_future(stage.submit(entry(cash, sales, 1)))
        await until(lambda: writer._flusher is not None and not writer._waiting)
        queued = [asyncio.ensure_future(stage.submit(entry(cash, sales, 10))) for _ in range(3)]
        await until(lambda: len(writer._waiting) + len(writer._drafted) == 3)
        for each in (running, queued[1]):
            each.cancel()
        answers = await outcomes(running, queued[1])
        assert [type(each) for each in answers] == [asyncio.CancelledError] * 2
    await asyncio.gather(queued[0], queued[2])
    assert await stage.posted(cash) in {20, 21}
    assert await stage.verify() is None


async def test_who_waits_too_long_is_told_so_and_can_ask_again(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first learns that the outcome is unknown, its twin that it is in progress; the key finds the answer later."""
    cash, sales = await stage.accounts("asset", "revenue")
    monkeypatch.setattr(stage.engine._writers[stage.site.id], "_patience", Patience(0.1))
    async with held_lock(stage):
        answers = await outcomes(*(stage.submit(entry(cash, sales, 5), key("k")) for _ in range(2)))
        assert isinstance(answers[0], Unavailable)
        assert answers[0].unknown
        assert isinstance(answers[1], IdempotencyInProgress)
        assert answers[1].key == "k"
    monkeypatch.undo()
    await stage.submit(entry(cash, sales, 5), key("k"))
    assert await stage.posted(cash) == 5


async def test_everybody_waits_as_long_as_everybody_else(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who came later is told later; when nobody waits any more, no timer is left."""
    cash, sales = await stage.accounts("asset", "revenue")
    patience = Patience(0.3)
    monkeypatch.setattr(stage.engine._writers[stage.site.id], "_patience", patience)
    loop = asyncio.get_running_loop()

    async def told_after() -> float:
        began = loop.time()
        (answer,) = await outcomes(stage.submit(entry(cash, sales, 5)))
        assert isinstance(answer, Unavailable)
        return loop.time() - began

    async with held_lock(stage):
        asked = []
        for _ in range(4):
            asked.append(asyncio.ensure_future(told_after()))
            await asyncio.sleep(0.1)
        waited = await asyncio.gather(*asked)
    assert min(waited) > 0.25
    await stage.engine.drain()
    assert patience._timer is None


async def test_twin_of_a_running_request_gets_its_answer(stage: Stage) -> None:
    """It waits, it is not turned away."""
    cash, sales = await stage.accounts("asset", "revenue")
    writer = stage.engine._writers[stage.site.id]
    async with held_lock(stage):
        first = asyncio.ensure_future(stage.submit(entry(cash, sales, 5), key("k")))
        await until(lambda: writer._flusher is not None and not writer._waiting)
        twin = asyncio.ensure_future(stage.submit(entry(cash, sales, 5), key("k")))
        await until(lambda: len(writer._waiting) + len(writer._drafted) == 1)
    one, other = await asyncio.gather(first, twin)
    assert (one.body, one.replayed, other.replayed) == (other.body, False, True)


async def test_draining_answers_everyone_who_is_queued(stage: Stage) -> None:
    """What was taken in is finished before the process goes."""
    cash, sales = await stage.accounts("asset", "revenue")
    asked = [asyncio.ensure_future(stage.submit(entry(cash, sales, 1))) for _ in range(300)]
    writer = stage.engine._writers[stage.site.id]
    await until(lambda: writer._flusher is not None)
    await stage.engine.drain()
    assert writer._flusher is None
    await asyncio.gather(*asked)
    assert await stage.posted(cash) == 300


async def test_decision_that_makes_money_stops_the_writer(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last check before the commit: nothing of that batch is written, and nothing after it, queued or new."""
    cash, sales = await stage.accounts("asset", "revenue")
    before = await stage.rows()

    def decide_wrongly(command: Command, books: Books, occasion: Occasion) -> Decision:
        decision = decide(command, books, occasion)
        for account_id, totals in decision.totals.items():
            if account_id == cash:
                decision.totals[account_id] = totals._replace(posted_debits=totals.posted_debits + 1)
        return decision

    monkeypatch.setattr(fold_module, "decide", decide_wrongly)
    monkeypatch.setattr(writer_module, "BATCH_COMMANDS_MAX", 2)
    commands: list[Any] = [
        entry(cash, sales, 1),
        CreateLedger(name="a"),
        CreateLedger(name="b"),
        CreateLedger(name="c"),
    ]
    writer = stage.writer()
    answers = await outcomes(
        *(writer.submit(Submission(command=each, key=None, diagnostics=Diagnostics())) for each in commands),
    )
    assert [type(each) for each in answers] == [BooksCorrupt] * 4
    with pytest.raises(BooksCorrupt):
        await writer.submit(Submission(command=commands[1], key=None, diagnostics=Diagnostics()))
    assert await stage.rows() == before
    assert (await stage.engine.account(stage.site, cash)).value.lock_version == 1
