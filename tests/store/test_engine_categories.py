"""Categories and monitors on both databases: each account counts once, whatever the ways, and edges are told once."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from engine import category_queries
from engine.balances import Limit
from engine.category_commands import (
    ArchiveMonitor,
    CreateCategory,
    CreateMonitor,
    LinkCategory,
    PlaceAccount,
    UpdateCategory,
    UpdateMonitor,
)
from engine.commands import ArchiveEntry, PostBatch, PostPending, UpdateAccount
from engine.databases import Database
from engine.entry_errors import LimitBroken
from engine.errors import (
    AlreadyTaken,
    AmountOutOfRange,
    CategoryCycle,
    CategoryMismatch,
    MonitorArchived,
    NotFound,
    PreconditionFailed,
)
from engine.history import Moment
from engine.money import AMOUNT_MAX
from engine.queries import Selection
from tests.store.engine_stage import OTHER, Stage, entry, make_stage, outcomes

NOBODY = "00000000-0000-7000-8000-000000000000"


@pytest.fixture
async def stage(site_database: Database) -> AsyncIterator[Stage]:
    """A site with one ledger."""
    stage = await make_stage(site_database)
    yield stage
    assert await stage.verify() is None


async def category(stage: Stage, **options: Any) -> str:
    """Open a category and return its id."""
    given: dict[str, Any] = {"name": "Wallets", "currency": "EUR", "normal_balance": "credit", **options}
    return str((await stage.run(CreateCategory(**given)))["id"])


async def put(stage: Stage, into: str, *accounts: str, inside: bool = True) -> None:
    """Put accounts into a category, or take them out."""
    for account in accounts:
        await stage.run(PlaceAccount(category_id=into, account_id=account, inside=inside))


async def link(stage: Stage, parent: str, child: str, *, inside: bool = True) -> Any:
    """Put a category into another, or take it out."""
    return await stage.run(LinkCategory(category_id=parent, child_id=child, inside=inside))


async def amounts(stage: Stage, category_id: str) -> tuple[int, int, int]:
    """Return a category's posted, pending and available balance."""
    found = (await stage.engine.ask(stage.site, category_queries.category, category_id)).value.balances
    return found.posted.amount, found.pending.amount, found.available.amount


async def monitor(
    stage: Stage, subject_id: str, field: Any, operator: Any, value: int, subject: Any = "account"
) -> Any:
    """Watch something and return the monitor."""
    return await stage.run(
        CreateMonitor(subject=subject, subject_id=subject_id, field=field, operator=operator, value=value)
    )


async def edges(stage: Stage) -> list[tuple[str, str, int]]:
    """Return every edge in the feed: its kind, the monitor, what was observed."""
    told = [msgspec.json.decode(each.body) for each in await stage.events() if each.type.startswith("balance.")]
    return [(each["type"].rpartition("_")[2], each["data"]["id"], each["data"]["observed"]) for each in told]


async def test_a_diamond_counts_an_account_once(stage: Stage) -> None:
    """An account below a category by two ways counts once, until the last way is gone."""
    cash, one, two = await stage.accounts("asset", "liability", "liability")
    await stage.run(entry(cash, one, 100))
    top, left, right, low = [await category(stage, name=name) for name in ("top", "left", "right", "low")]
    await put(stage, low, one, two)
    for parent, child in ((left, low), (right, low), (top, left), (top, right)):
        await link(stage, parent, child)
    await stage.run(entry(cash, two, 11))
    await stage.run(entry(one, cash, 1, status="pending"))
    for each in (top, left, right, low):
        assert await amounts(stage, each) == (111, 110, 110)
    await link(stage, top, left, inside=False)
    assert await amounts(stage, top) == (111, 110, 110)
    await link(stage, right, low, inside=False)
    assert (await amounts(stage, top), await amounts(stage, right)) == ((0, 0, 0), (0, 0, 0))
    assert await amounts(stage, left) == (111, 110, 110)
    await put(stage, top, one)
    await link(stage, top, left)
    assert await amounts(stage, top) == (111, 110, 110)
    await put(stage, low, one, inside=False)
    assert (await amounts(stage, top), await amounts(stage, left)) == ((111, 110, 110), (11, 11, 11))
    await put(stage, top, one, inside=False)
    assert await amounts(stage, top) == (11, 11, 11)


async def test_a_category_follows_pending_entries_to_their_end(stage: Stage) -> None:
    """Reserved, posted and given up, the category is what its accounts are."""
    cash, one = await stage.accounts("asset", "liability")
    all_of_them = await category(stage)
    await put(stage, all_of_them, one)
    await stage.run(entry(cash, one, 50))
    first = (await stage.run(entry(one, cash, 5, status="pending")))["id"]
    second = (await stage.run(entry(one, cash, 7, status="pending")))["id"]
    assert await amounts(stage, all_of_them) == (50, 38, 38)
    await stage.run(PostPending(entry_id=first))
    await stage.run(ArchiveEntry(entry_id=second))
    assert await amounts(stage, all_of_them) == (45, 45, 45)


async def test_a_category_as_of_a_time_counts_its_accounts_of_today(stage: Stage) -> None:
    """What was booked for another time counts from that time on; what came in later was not known before."""
    cash, one, two = await stage.accounts("asset", "liability", "liability")
    top, low = await category(stage), await category(stage)
    now, hour = stage.clock.now_us(), 3_600_000_000
    await stage.run(entry(cash, one, 5, effective_at=now - hour))
    await stage.run(entry(cash, two, 7, effective_at=now + hour))
    stage.clock.advance(seconds=1)
    await stage.run(entry(cash, one, 11, effective_at=now - 2 * hour))
    await put(stage, low, one, two)
    await put(stage, top, one)
    await link(stage, top, low)

    async def at(as_of: int | None = None, known_at: int | None = None) -> int:
        moment = Moment(as_of=as_of, known_at=known_at)
        query = category_queries.category_balance
        return (await stage.engine.ask(stage.site, query, top, moment)).value.posted.amount

    assert await at() == 23
    assert [await at(now + shift * hour) for shift in (-3, -2, -1, 0, 1)] == [0, 11, 16, 16, 23]
    assert await at(now, known_at=now) == 5


async def test_two_sides_in_one_category_cancel_out(stage: Stage) -> None:
    """Accounts of either normal balance add up by debits and credits."""
    cash, one = await stage.accounts("asset", "liability")
    both = await category(stage, normal_balance="debit")
    await put(stage, both, cash, one)
    await stage.run(entry(cash, one, 50))
    assert await amounts(stage, both) == (0, 0, 0)


async def test_a_cycle_is_refused(stage: Stage) -> None:
    """A category stands in itself neither directly nor through others."""
    top, middle, low = [await category(stage) for _ in range(3)]
    await link(stage, top, middle)
    await link(stage, middle, low)
    for parent, child in ((top, top), (middle, top), (low, top), (low, middle)):
        with pytest.raises(CategoryCycle):
            await link(stage, parent, child)
    await link(stage, top, low)


async def test_two_halves_of_a_cycle_at_once_leave_one(stage: Stage) -> None:
    """Two processes that close a cycle from both ends: one of them is refused."""
    one, other = await category(stage), await category(stage)
    done = await outcomes(
        stage.engine.submit(stage.site, LinkCategory(category_id=one, child_id=other, inside=True)),
        stage.another().submit(stage.site, LinkCategory(category_id=other, child_id=one, inside=True)),
    )
    assert [type(each) for each in done if isinstance(each, BaseException)] == [CategoryCycle]


async def test_what_does_not_fit_a_category_is_refused(stage: Stage) -> None:
    """Currency, exponent and ledger; and nothing that is not there."""
    yen, fine = await stage.account("asset", "JPY"), await stage.account("asset", "EUR", currency_exponent=4)
    here = await category(stage, ledger_id=stage.ledger_id)
    everywhere = await category(stage)
    for account in (yen, fine):
        with pytest.raises(CategoryMismatch):
            await put(stage, here, account)
    with pytest.raises(CategoryMismatch):
        await link(stage, here, everywhere)
    await link(stage, everywhere, here)
    for command in (
        PlaceAccount(category_id=NOBODY, account_id=yen, inside=True),
        PlaceAccount(category_id=here, account_id=NOBODY, inside=True),
        LinkCategory(category_id=here, child_id=NOBODY, inside=False),
        CreateCategory(name="n", currency="EUR", normal_balance="debit", ledger_id=NOBODY),
        UpdateCategory(category_id=NOBODY, name="n"),
        CreateMonitor(subject="account", subject_id=NOBODY, field="posted", operator="gt", value=1),
        CreateMonitor(subject="account_category", subject_id=NOBODY, field="posted", operator="gt", value=1),
        ArchiveMonitor(monitor_id=NOBODY),
    ):
        with pytest.raises(NotFound):
            await stage.run(command)


async def test_doing_it_again_changes_nothing(stage: Stage) -> None:
    """Putting in twice and taking out twice are one event each."""
    account, one, other = await stage.account("asset"), await category(stage), await category(stage)
    for inside in (True, False):
        await put(stage, one, account, inside=inside)
        await link(stage, one, other, inside=inside)
        head = len(await stage.events())
        await put(stage, one, account, inside=inside)
        await link(stage, one, other, inside=inside)
        assert len(await stage.events()) == head


async def test_in_and_out_and_in_within_one_batch(stage: Stage) -> None:
    """What waits together is decided in its order: the account is in, and counts once."""
    cash, one = await stage.accounts("asset", "liability")
    where = await category(stage)
    await outcomes(
        *(
            stage.engine.submit(stage.site, command)
            for command in (
                entry(cash, one, 3),
                PlaceAccount(category_id=where, account_id=one, inside=True),
                entry(cash, one, 4),
                PlaceAccount(category_id=where, account_id=one, inside=False),
                entry(cash, one, 5),
                PlaceAccount(category_id=where, account_id=one, inside=True),
                entry(cash, one, 6),
            )
        ),
    )
    assert await amounts(stage, where) == (18, 18, 18)


async def test_limits_of_a_category_hold_for_all_its_accounts_together(stage: Stage) -> None:
    """An entry that brings the sum past the limit is refused, over two processes too, naming the line that moves it."""
    cash, one, two = await stage.accounts("asset", "liability", "liability")
    floor = (Limit(balance="available", at_least=-10, at_most=None),)
    top, low = await category(stage, limits=floor), await category(stage)
    await put(stage, low, one, two)
    await link(stage, top, low)
    with pytest.raises(LimitBroken) as refused:
        await stage.run(entry(one, cash, 11))
    assert (refused.value.resource_id, refused.value.pointer) == (top, "/lines/0/amount")
    other = stage.another()
    done = await outcomes(
        *(
            (stage.engine if number % 2 else other).submit(stage.site, entry(one if number % 3 else two, cash))
            for number in range(30)
        ),
    )
    assert sum(isinstance(each, LimitBroken) for each in done) == 20
    assert await amounts(stage, top) == (-10, -10, -10)
    await stage.run(entry(one, two, 500))
    await stage.run(UpdateCategory(category_id=top, limits=()))
    await stage.run(entry(one, cash, 500))


async def test_sums_beyond_64_bits_are_refused_not_wrapped(stage: Stage) -> None:
    """What an account, or a link, or an entry would bring past the range of a total is refused."""
    cash, one, two = await stage.accounts("asset", "liability", "liability")
    sink = await stage.account("asset")
    await stage.run(entry(cash, one, AMOUNT_MAX))
    await stage.run(entry(sink, two, 1))
    top, low = await category(stage), await category(stage)
    await put(stage, top, one)
    with pytest.raises(AmountOutOfRange):
        await put(stage, top, two)
    await put(stage, low, two)
    with pytest.raises(AmountOutOfRange):
        await link(stage, top, low)
    three = await stage.account("liability")
    await put(stage, top, three)
    with pytest.raises(AmountOutOfRange) as refused:
        await stage.run(entry(sink, three, 1))
    assert refused.value.pointer == "/lines/1/amount"


async def test_a_monitor_tells_each_edge_once(stage: Stage) -> None:
    """Crossed, still over, recovered, crossed again: three events, also where all happens in one batch."""
    cash, one = await stage.accounts("asset", "liability")
    low = await monitor(stage, one, "available", "lt", 10)
    assert (low["triggered"], low["observed"]) == (True, 0)
    await stage.run(entry(cash, one, 10))
    assert await edges(stage) == [("recovered", low["id"], 10)]
    await outcomes(
        *(stage.engine.submit(stage.site, each) for each in (
            entry(one, cash, 1), entry(one, cash, 1), entry(cash, one, 2), entry(cash, one, 5), entry(one, cash, 6),
        ))
    )  # fmt: skip
    assert (await edges(stage))[1:] == [
        ("crossed", low["id"], 9),
        ("recovered", low["id"], 10),
        ("crossed", low["id"], 9),
    ]
    batch = PostBatch(entries=(entry(cash, one, 1), entry(one, cash, 1), entry(cash, one, 1)))
    await stage.run(batch)
    assert [each[0] for each in await edges(stage)][4:] == ["recovered", "crossed", "recovered"]
    found = (await stage.engine.ask(stage.site, category_queries.monitor, low["id"])).value
    assert (found.triggered, found.observed, found.lock_version) == (False, 10, 8)


async def test_a_monitor_on_a_category_sees_accounts_and_links_come_and_go(stage: Stage) -> None:
    """Not only postings move a category."""
    cash, one = await stage.accounts("asset", "liability")
    await stage.run(entry(cash, one, 100))
    top, low = await category(stage), await category(stage)
    rich = await monitor(stage, top, "posted", "gte", 100, "account_category")
    await link(stage, top, low)
    await put(stage, low, one)
    await stage.run(entry(one, cash, 1))
    await stage.run(entry(cash, one, 1))
    await link(stage, top, low, inside=False)
    await link(stage, top, low)
    await put(stage, low, one, inside=False)
    kinds = [kind for kind, monitor_id, _ in await edges(stage) if monitor_id == rich["id"]]
    assert kinds == ["crossed", "recovered"] * 3


async def test_a_monitor_on_a_version_and_its_changes(stage: Stage) -> None:
    """A changed condition has its state at once; an archived monitor is silent for good."""
    cash, one = await stage.accounts("asset", "liability")
    made = await monitor(stage, one, "lock_version", "gte", 3)
    assert made["triggered"] is False
    await stage.run(UpdateAccount(account_id=one, name="New"))
    await stage.run(entry(cash, one, 1))
    assert [kind for kind, _, _ in await edges(stage)] == ["crossed"]
    changed = await stage.run(UpdateMonitor(monitor_id=made["id"], field="posted", operator="eq", value=2))
    assert (changed["triggered"], changed["observed"]) == (False, 1)
    with pytest.raises(PreconditionFailed):
        await stage.run(UpdateMonitor(monitor_id=made["id"], value=5, if_match=1))
    await stage.run(ArchiveMonitor(monitor_id=made["id"]))
    await stage.run(entry(cash, one, 1))
    assert len(await edges(stage)) == 1
    for command in (ArchiveMonitor(monitor_id=made["id"]), UpdateMonitor(monitor_id=made["id"], value=9)):
        with pytest.raises(MonitorArchived):
            await stage.run(command)


async def test_external_ids_of_categories_are_unique(stage: Stage) -> None:
    """Also where both wait together."""
    await category(stage, external_id="x")
    with pytest.raises(AlreadyTaken):
        await category(stage, external_id="x")
    done = await outcomes(*(stage.engine.submit(stage.site, CreateCategory(
        name="n", currency="EUR", normal_balance="debit", external_id="y")) for _ in range(3)))  # fmt: skip
    assert sum(isinstance(each, AlreadyTaken) for each in done) == 2


async def test_lists_of_categories_and_what_is_in_them(stage: Stage) -> None:
    """In pages, newest first; another site sees none of it."""
    top = await category(stage, metadata={"k": "v"})
    below = [await category(stage) for _ in range(3)]
    accounts = await stage.accounts("asset", "asset", "asset")
    for each in below:
        await link(stage, top, each)
    await put(stage, top, *accounts)

    async def listed(query: Any, category_id: str) -> list[str]:
        found: list[str] = []
        cursor = None
        while True:
            wanted = Selection(limit=2, cursor=cursor)
            page = (await stage.engine.ask(stage.site, query, category_id, wanted)).value
            found += [each.id for each in page.items]
            cursor = page.next_cursor
            if cursor is None:
                return found

    assert await listed(category_queries.list_subcategories, top) == below[::-1]
    assert await listed(category_queries.list_category_accounts, top) == accounts[::-1]
    wanted = Selection(metadata={"k": "v"})
    page = (await stage.engine.ask(stage.site, category_queries.list_categories, wanted)).value
    assert [each.id for each in page.items] == [top]
    for query in (category_queries.list_subcategories, category_queries.list_category_accounts):
        with pytest.raises(NotFound):
            await stage.engine.ask(stage.site, query, NOBODY, Selection())
    other = await make_stage(stage.database, OTHER)
    assert (await other.engine.ask(OTHER, category_queries.list_categories, Selection())).value.items == []
