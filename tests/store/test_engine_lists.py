"""Lists: pages that stay stable while others write, filters, and the lines of an account."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from sqlalchemy import Connection, event

from engine import fx_queries, hold_queries, listing, queries, statements
from engine.commands import (
    ArchiveEntry,
    CaptureHold,
    CreateHold,
    LinePart,
    PostEntry,
    PostPart,
    PostPending,
    ReleaseHold,
    UpdateAccount,
    UpdateEntry,
)
from engine.databases import Database
from engine.errors import CursorInvalid, NotFound
from engine.events import Diagnostics
from engine.fold import Submission
from engine.fx_commands import CreateFxRate
from engine.queries import Page, Selection
from engine.schema import entries
from tests.fakes.clock import START_US
from tests.store.engine_stage import OTHER, Stage, entry, make_stage, outcomes

NOBODY = "00000000-0000-7000-8000-000000000000"


@pytest.fixture
async def stage(site_database: Database) -> Stage:
    """A site with one ledger."""
    return await make_stage(site_database)


async def ask(stage: Stage, query: Callable[..., Page[Any]], *given: Any, **wanted: Any) -> Page[Any]:
    """Return a page of a list."""
    return (await stage.engine.ask(stage.site, query, *given, Selection(**wanted))).value


async def test_pages_stay_stable_while_others_write(stage: Stage) -> None:
    """Newest first; what comes in between is on no later page, and nothing is shown twice or left out."""
    cash, sales = await stage.accounts("asset", "revenue")
    made = [(await stage.run(entry(cash, sales, 1)))["id"] for _ in range(7)]
    shown: list[str] = []
    cursor: str | None = None
    sizes = []
    while True:
        page = await ask(stage, queries.list_entries, limit=3, cursor=cursor)
        shown += [each.id for each in page.items]
        sizes.append(len(page.items))
        await stage.run(entry(cash, sales, 1))
        cursor = page.next_cursor
        if cursor is None:
            break
    assert (shown, sizes) == (made[::-1], [3, 3, 1])


async def test_page_that_is_exactly_full_is_the_last(stage: Stage) -> None:
    """No cursor leads to an empty page."""
    await stage.accounts("asset", "asset", "asset")
    assert (await ask(stage, queries.list_accounts, limit=3)).next_cursor is None
    assert (await ask(stage, queries.list_accounts, limit=2)).next_cursor is not None
    assert len((await ask(stage, queries.list_ledgers)).items) == 1


async def test_filters_narrow_to_exact_values(stage: Stage) -> None:
    """Each alone and several together."""
    cash = await stage.account("asset", code="1000", external_id="till")
    debts = await stage.account("liability", "USD", code="2000")
    for wanted, found in (
        ({"type": "asset"}, [cash]),
        ({"code": "1000"}, [cash]),
        ({"code": "2000", "currency": "USD"}, [debts]),
        ({"code": "1000", "currency": "USD"}, []),
        ({"external_id": "till"}, [cash]),
        ({"external_id": "nobody"}, []),
        ({"ledger_id": NOBODY}, []),
    ):
        assert [each.id for each in (await ask(stage, queries.list_accounts, equals=wanted)).items] == found


async def test_metadata_filter_finds_every_spelling(stage: Stage) -> None:
    """A key is a text like any other, quotes and dots and all; the value is compared whole."""
    cash, sales = await stage.accounts("asset", "revenue")
    await stage.run(entry(cash, sales, 1))
    for name in ("a.b", 'a"b', "a'b", "a\\b", "$", "[0]", "é😀", "a\tb", "%", "a/b?", ":e"):
        wanted = (await stage.run(entry(cash, sales, 1, metadata={name: "7", "y": "y"})))["id"]
        await stage.run(entry(cash, sales, 1, metadata={name: "77"}))
        await stage.run(entry(cash, sales, 1, metadata={name + "x": "7", "z": "7"}))
        found = await ask(stage, queries.list_entries, metadata={name: "7"})
        assert [each.id for each in found.items] == [wanted], name
        assert (await ask(stage, queries.list_entries, metadata={name: "7", "y": "n"})).items == []
        tagged = await stage.account("asset", metadata={name: "7"})
        assert [each.id for each in (await ask(stage, queries.list_accounts, metadata={name: "7"})).items] == [tagged]


async def test_metadata_that_changed_is_found_by_what_it_is_now(stage: Stage) -> None:
    """By every kept and new pair, by no dropped one, several together; pages go on by id, either way."""
    one, two, three = [await stage.account("asset", metadata={"tier": "gold", "n": str(n)}) for n in range(3)]
    await stage.run(UpdateAccount(account_id=two, metadata={"tier": "gold", "n": "9"}))
    await stage.run(UpdateAccount(account_id=three, metadata={}))
    for wanted, found in (
        ({"tier": "gold"}, [two, one]),
        ({"n": "9"}, [two]),
        ({"n": "1"}, []),
        ({"n": "2"}, []),
        ({"tier": "gold", "n": "0"}, [one]),
        ({"n": "0", "tier": "gold"}, [one]),
        ({"tier": "gold", "n": "0", "none": ""}, []),
    ):
        assert [each.id for each in (await ask(stage, queries.list_accounts, metadata=wanted)).items] == found
    for ascending, order in ((False, [two, one]), (True, [one, two])):
        first = await ask(stage, queries.list_accounts, metadata={"tier": "gold"}, limit=1, ascending=ascending)
        cursor = first.next_cursor
        rest = await ask(
            stage, queries.list_accounts, metadata={"tier": "gold"}, limit=1, cursor=cursor, ascending=ascending
        )
        assert [each.id for each in (*first.items, *rest.items)] == order
        assert rest.next_cursor is None
    assert await stage.verify() is None


async def test_metadata_of_an_entry_is_found_by_whatever_it_was_changed_to_in_one_batch(stage: Stage) -> None:
    """Created, changed and changed back before anything is written; posted later, the pair stays one."""
    cash, sales = await stage.accounts("asset", "revenue")
    made = (await stage.run(entry(cash, sales, 1, status="pending", metadata={"a": "1", "b": "1"})))["id"]
    writer = stage.writer()
    changes = [{"a": "2"}, {"a": "1", "c": "1"}, {"c": "1", "a": "3"}]
    await outcomes(
        *(
            writer.submit(
                Submission(command=UpdateEntry(entry_id=made, metadata=each), key=None, diagnostics=Diagnostics())
            )
            for each in changes
        ),
    )
    await stage.run(PostPending(entry_id=made))
    for wanted, found in (({"a": "1"}, []), ({"b": "1"}, []), ({"a": "3", "c": "1"}, [made]), ({"a": "2"}, [])):
        assert [each.id for each in (await ask(stage, queries.list_entries, metadata=wanted)).items] == found
    assert await stage.verify() is None


async def test_entries_are_found_by_the_metadata_of_their_accounts(stage: Stage) -> None:
    """Once each, with a line on any account that has all the pairs; with other conditions, in pages, either way."""
    tagged = [await stage.account("asset", metadata={"user": "7", "kind": kind}) for kind in ("cash", "card")]
    other = await stage.account("asset", metadata={"user": "8"})
    both = (await stage.run(entry(tagged[0], tagged[1], 1, metadata={"m": "1"})))["id"]
    half = (await stage.run(entry(tagged[0], other, 1)))["id"]
    late = (await stage.run(entry(other, tagged[1], 1, status="pending", metadata={"m": "1"})))["id"]
    for wanted, found in (
        ({"account_metadata": {"user": "7"}}, [late, half, both]),
        ({"account_metadata": {"user": "7"}, "ascending": True}, [both, half, late]),
        ({"account_metadata": {"user": "7"}, "equals": {"status": "posted"}}, [half, both]),
        ({"account_metadata": {"user": "7"}, "metadata": {"m": "1"}}, [late, both]),
        ({"account_metadata": {"user": "7", "kind": "card"}}, [late, both]),
        ({"account_metadata": {"user": "9"}}, []),
        ({"account_metadata": {"kind": "cash"}, "metadata": {"m": "2"}}, []),
    ):
        assert [each.id for each in (await ask(stage, queries.list_entries, **wanted)).items] == found, wanted
    page = await stage.engine.ask(
        stage.site, queries.list_entries, Selection(account_metadata={"kind": "card"}), tagged[0]
    )
    assert [each.id for each in page.value.items] == [both]
    shown: list[str] = []
    cursor = None
    for _ in range(3):
        some = await ask(stage, queries.list_entries, account_metadata={"user": "7"}, limit=1, cursor=cursor)
        shown += [each.id for each in some.items]
        cursor = some.next_cursor
    assert (shown, cursor) == ([late, half, both], None)


@pytest.mark.parametrize("order", ["newest", "oldest"])
@pytest.mark.parametrize(
    ("narrowed", "key"),
    [
        ({"metadata": {"n": "7"}}, "pk_metadata_pairs"),
        ({"metadata": {"n": "7", "all": "1"}}, "pk_metadata_pairs"),
        ({"metadata": {"n": "7"}, "equals": {"status": "posted"}}, "pk_metadata_pairs"),
        ({"account_metadata": {"kind": "cash"}}, "uq_lines_account_version"),
    ],
)
async def test_what_narrows_a_list_is_read_by_its_index(stage: Stage, narrowed: Any, key: str, order: str) -> None:
    """Whatever the planner knows of the tables: nothing is scanned or sorted, and the table is asked row by row."""
    cash = await stage.account("asset", metadata={"kind": "cash"})
    sales = await stage.account("revenue")
    for number in range(40):
        await stage.run(entry(cash, sales, 1, metadata={"n": str(number % 20), "all": "1"}))
    wanted = Selection(limit=5, ascending=order == "oldest", **narrowed)

    def explain(conn: Connection) -> str:
        touching = queries.touching(conn, stage.site.id, wanted)
        query = queries.selected(conn, entries, stage.site.id, wanted, touching=touching)
        word = "EXPLAIN QUERY PLAN " if stage.database.dialect == "sqlite" else "EXPLAIN (COSTS OFF) "
        text_of = str(query.compile(conn, compile_kwargs={"literal_binds": True})).replace("%%", "%")
        return "\n".join(str(row) for row in conn.exec_driver_sql(word + text_of))

    plan = await stage.read(explain)
    if stage.database.dialect == "sqlite":
        assert "SCAN" not in plan, plan
        assert "metadata_pairs" in plan, plan
    else:
        assert key in plan, plan
        assert "Seq Scan" not in plan, plan
        if "metadata" in narrowed:
            assert f"Backward using {key}" in plan if order == "newest" else f"using {key}" in plan, plan
            assert "Sort" not in plan, plan


async def every(stage: Stage, limit: int, **wanted: Any) -> list[str]:
    """Return all entries of a list, page by page."""
    shown: list[str] = []
    cursor: str | None = None
    while True:
        page = await ask(stage, queries.list_entries, limit=limit, cursor=cursor, **wanted)
        shown += [each.id for each in page.items]
        assert len(page.items) <= limit
        cursor = page.next_cursor
        if cursor is None:
            return shown


@pytest.mark.parametrize("ascending", [False, True])
async def test_entries_come_in_the_order_of_their_effective_times(
    stage: Stage, ascending: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of one time by their ids; whatever they are narrowed by, in pages of any size, however little a step looks at."""
    cash, sales, other = [await stage.account(kind, metadata={"kind": kind}) for kind in ("asset", "revenue", "asset")]
    made: list[tuple[int, str]] = []
    kept: dict[str, list[str]] = {"pending": [], "tagged": [], "other": [], "named": []}
    for number, days in enumerate((3, -2, 0, 3, -2, -2, 5, 1, 0)):
        at = START_US + days * 86_400_000_000
        status = "pending" if number % 3 == 0 else "posted"
        asked = entry(
            cash if number % 2 else other, sales, 1, effective_at=at, status=status, external_id=f"x{number}",
            metadata={"n": str(number % 2)},
        )  # fmt: skip
        entry_id = (await stage.run(asked))["id"]
        made.append((at, entry_id))
        for name, chosen in (("pending", number % 3 == 0), ("tagged", number % 2), ("other", number % 2 == 0)):
            kept[name] += [entry_id] * bool(chosen)
        kept["named"] += [entry_id] * (number == 4)
    in_order = [entry_id for _, entry_id in sorted(made, reverse=not ascending)]
    late = [entry_id for at, entry_id in sorted(made, reverse=not ascending) if at >= START_US]
    monkeypatch.setattr(listing, "LOOKED_AT", 2)
    for limit in (1, 2, 3, 20):
        for narrowed, found in (
            ({}, in_order),
            ({"bounds": {"effective_at": {"gte": START_US}}}, late),
            ({"equals": {"status": "pending"}}, [each for each in in_order if each in kept["pending"]]),
            ({"equals": {"ledger_id": stage.ledger_id}}, in_order),
            ({"equals": {"external_id": "x4"}}, kept["named"]),
            ({"equals": {"external_id": "x4", "status": "pending"}}, []),
            ({"metadata": {"n": "1"}}, [each for each in in_order if each in kept["tagged"]]),
            ({"metadata": {"n": "1"}, "equals": {"status": "pending"}},
             [each for each in in_order if each in kept["tagged"] and each in kept["pending"]]),
        ):  # fmt: skip
            shown = await every(stage, limit, by_effect=True, ascending=ascending, **narrowed)
            assert shown == found, (limit, narrowed)
        mine = Selection(by_effect=True, ascending=ascending, limit=limit)
        by_account = (await stage.engine.ask(stage.site, queries.list_entries, mine, other)).value
        assert [each.id for each in by_account.items] == [each for each in in_order if each in kept["other"]][:limit]


async def test_an_external_id_is_found_whatever_became_of_its_entries(stage: Stage) -> None:
    """The one that holds it, and those that gave it up."""
    cash, sales = await stage.accounts("asset", "revenue")
    first = (await stage.run(entry(cash, sales, 1, status="pending", external_id="x")))["id"]
    await stage.run(ArchiveEntry(entry_id=first))
    second = (await stage.run(entry(cash, sales, 1, external_id="x")))["id"]
    await stage.run(entry(cash, sales, 1, external_id="y"))
    found = await ask(stage, queries.list_entries, equals={"external_id": "x"})
    assert [each.id for each in found.items] == [second, first]
    archived = await ask(stage, queries.list_entries, equals={"external_id": "x", "status": "archived"})
    assert [each.id for each in archived.items] == [first]
    paged = await every(stage, 1, equals={"external_id": "x"}, ascending=True)
    assert paged == [first, second]


async def test_what_was_posted_of_a_pending_entry_is_found_by_it(stage: Stage) -> None:
    """Each part, also in the order of effective times; where the rest is released, the entry itself is no part of itself."""
    cash, sales = await stage.accounts("asset", "revenue")
    pending, other = [await stage.run(entry(cash, sales, 10, status="pending")) for _ in range(2)]

    async def part(of: dict[str, Any], amount: int, day: int, *, release_rest: bool = False) -> str:
        parts = tuple(LinePart(line_id=each["id"], amount=amount) for each in of["lines"])
        at = START_US + day * 86_400_000_000
        posted = await stage.run(PostPart(entry_id=of["id"], parts=parts, effective_at=at, release_rest=release_rest))
        return str(posted["id"])

    first, second = await part(pending, 3, 5), await part(pending, 4, 1)
    await part(other, 1, 0)
    assert await part(pending, 2, 2, release_rest=True) == pending["id"]
    of_it = {"equals": {"partially_posts": pending["id"]}}
    assert [each.id for each in (await ask(stage, queries.list_entries, **of_it)).items] == [second, first]
    assert await every(stage, 1, by_effect=True, ascending=True, **of_it) == [second, first]
    assert await every(
        stage, 1, ascending=True, bounds={"effective_at": {"gt": START_US + 2 * 86_400_000_000}}, **of_it
    ) == [first]


async def test_a_page_of_what_may_be_many_looks_only_so_far(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Accounts, holds, events and rates that no index narrows, too; what an index narrows is found at once."""
    cash = await stage.account("asset", "JPY", external_id="x", code="1")
    others = await stage.accounts(*["asset"] * 9)
    held = PostEntry(lines=entry(others[0], others[1], 1).lines, status="pending", held=True)
    first, *holds = [(await stage.run(CreateHold(entry=held, expires_at=START_US * 2 + n)))["id"] for n in range(9)]
    await stage.run(ReleaseHold(hold_id=holds[0]))
    rates = [
        (await stage.run(CreateFxRate(base=base, quote="USD", rate="1.1")))["id"] for base in ["GBP", *["EUR"] * 8]
    ]
    monkeypatch.setattr(listing, "LOOKED_AT", 2)
    monkeypatch.setattr(listing, "STEPS", 2)
    late: dict[str, Any] = {"bounds": {"created_at": {"gte": 1}}}
    for query, wanted, found in (
        (queries.list_accounts, {"equals": {"currency": "JPY"}}, [cash]),
        (queries.list_accounts, {"equals": {"currency": "JPY", "ledger_id": stage.ledger_id}}, [cash]),
        (hold_queries.list_holds, {"equals": {"ledger_id": NOBODY}}, []),
        (hold_queries.list_holds, {"bounds": {"expires_at": {"lte": START_US * 2}}}, [first]),
        (fx_queries.list_rates, {"equals": {"base": "GBP"}}, [rates[0]]),
    ):
        page = await ask(stage, query, **wanted)
        assert (page.items, page.next_cursor is not None) == ([], True), wanted
        assert await pages(stage, query, **wanted) == found, wanted
    for query, wanted, found in (
        (queries.list_accounts, {"equals": {"external_id": "x"}, **late}, [cash]),
        (queries.list_accounts, {"equals": {"code": "1", "type": "asset"}}, [cash]),
        (hold_queries.list_holds, {"equals": {"status": "released"}, **late}, [holds[0]]),
        (fx_queries.list_rates, {"equals": {"base": "GBP", "quote": "USD"}, **late}, [rates[0]]),
    ):
        page = await ask(stage, query, **wanted)
        assert ([each.id for each in page.items], page.next_cursor) == (found, None), wanted


async def pages(stage: Stage, query: Callable[..., Page[Any]], **wanted: Any) -> list[str]:
    """Return all of a list, page by page."""
    shown: list[str] = []
    cursor: str | None = None
    while True:
        page = await ask(stage, query, cursor=cursor, **wanted)
        shown += [each.id for each in page.items]
        cursor = page.next_cursor
        if cursor is None:
            return shown


async def test_a_page_of_entries_looks_only_so_far(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing matches in what was looked at, it is empty and says where to go on."""
    cash, sales = await stage.accounts("asset", "revenue")
    made = [(await stage.run(entry(cash, sales, 1, effective_at=START_US + number)))["id"] for number in range(9)]
    monkeypatch.setattr(listing, "LOOKED_AT", 2)
    monkeypatch.setattr(listing, "STEPS", 2)
    wanted: dict[str, Any] = {"bounds": {"effective_at": {"lt": START_US + 2}}}
    first = await ask(stage, queries.list_entries, **wanted)
    assert first.items == []
    assert first.next_cursor is not None
    assert await every(stage, 50, **wanted) == [made[1], made[0]]
    assert (await ask(stage, queries.list_entries, by_effect=True, **wanted)).next_cursor is None


@pytest.mark.parametrize("ascending", [False, True])
@pytest.mark.parametrize(
    ("narrowed", "key"),
    [
        ({}, "pk_entries"),
        ({"by_effect": True}, "ix_entries_effective"),
        ({"by_effect": True, "bounds": {"effective_at": {"gte": START_US, "lt": START_US + 9}}}, "ix_entries_effective"),
        ({"by_effect": True, "equals": {"status": "pending"}}, "ix_entries_effective"),
        ({"equals": {"status": "pending"}}, "ix_entries_status"),
        ({"equals": {"status": "posted"}}, "pk_entries"),
        ({"equals": {"ledger_id": NOBODY}}, "ix_entries_ledger"),
        ({"equals": {"external_id": "x"}}, "uq_entries_external_id"),
        ({"equals": {"external_id": "x"}}, "ix_entries_external_id"),
        ({"equals": {"partially_posts": NOBODY}}, "ix_entries_part"),
    ],
)  # fmt: skip
async def test_entries_are_read_by_the_index_of_their_order(
    stage: Stage, narrowed: Any, key: str, *, ascending: bool
) -> None:
    """Whatever the planner knows of the tables: no page begins by reading a site, the first one or a later one."""
    cash, sales = await stage.accounts("asset", "revenue")
    for number in range(40):
        await stage.run(entry(cash, sales, 1, effective_at=START_US + number, external_id=f"x{number}"))
    wanted = Selection(limit=5, ascending=ascending, **narrowed)
    order = queries.order_of(wanted)
    for place in (None, order.place_of({"effective_at": START_US + 20, "id": NOBODY})):

        def explain(conn: Connection, place: Any = place) -> str:
            query = queries.following(conn, stage.site.id, wanted, [], place, 6)
            word = "EXPLAIN QUERY PLAN " if stage.database.dialect == "sqlite" else "EXPLAIN (COSTS OFF) "
            text_of = str(query.compile(conn, compile_kwargs={"literal_binds": True})).replace("%%", "%")
            return "\n".join(str(row) for row in conn.exec_driver_sql(word + text_of))

        plan = await stage.read(explain)
        if stage.database.dialect == "sqlite" and key.startswith("pk_"):
            key = "sqlite_autoindex_entries"
        assert key in plan, plan
        if "external_id" not in str(narrowed):
            assert "Sort" not in plan, plan
            assert "TEMP B-TREE" not in plan, plan
        assert "Seq Scan" not in plan, plan
        if place is not None and narrowed.get("by_effect"):
            assert (
                "ROW(" in plan
                or "effective_at,id)" in plan.replace(" ", "")
                or "(site_id=? AND (effective_at,id)" in plan
            ), plan


async def test_bounds_are_kept_to_the_microsecond(stage: Stage) -> None:
    """Bounds gt and lt leave the instant itself out, gte and lte take it in."""
    cash, sales = await stage.accounts("asset", "revenue")
    at, made = [], []
    for _ in range(3):
        at.append(stage.clock.advance(micros=1))
        made.append((await stage.run(entry(cash, sales, 1)))["id"])
    for operator, found in (("gt", made[2:]), ("gte", made[1:]), ("lt", made[:1]), ("lte", made[:2])):
        page = await ask(stage, queries.list_entries, bounds={"created_at": {operator: at[1]}})
        assert [each.id for each in page.items] == found[::-1]
    both = await ask(stage, queries.list_entries, bounds={"created_at": {"gt": at[0], "lt": at[2]}})
    assert [each.id for each in both.items] == made[1:2]


async def test_entries_of_an_account_are_those_with_a_line_on_it(stage: Stage) -> None:
    """Once each, however many lines and versions they have."""
    cash, sales, other = await stage.accounts("asset", "revenue", "asset")
    mine = (await stage.run(entry(cash, sales, 1, status="pending")))["id"]
    await stage.run(PostPending(entry_id=mine))
    await stage.run(entry(other, sales, 1))
    found = (await stage.engine.ask(stage.site, queries.list_entries, Selection(), cash)).value
    assert [(each.id, each.status) for each in found.items] == [(mine, "posted")]
    assert [each.status for each in found.items[0].lines] == ["posted", "posted"]


@pytest.mark.parametrize("ascending", [False, True])
async def test_entries_of_an_account_are_met_once_each(
    stage: Stage, ascending: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the order in which they came to it, whatever became of them; in pages of any size, however little a step looks at."""
    cash, sales, other = await stage.accounts("asset", "revenue", "asset")
    lines = {"cash": entry(cash, sales, 1).lines, "other": entry(other, sales, 1).lines}
    made = {
        name: (await stage.run(entry(on, sales, 1, status="pending", effective_at=START_US + number)))["id"]
        for number, (name, on) in enumerate([("a", cash), ("b", other), ("c", cash), ("d", cash)])
    }
    made["e"] = (await stage.run(PostEntry(lines=lines["cash"] * 3)))["id"]
    await stage.run(PostPending(entry_id=made["d"]))
    await stage.run(UpdateEntry(entry_id=made["a"], lines=lines["cash"]))
    await stage.run(UpdateEntry(entry_id=made["b"], lines=lines["cash"]))
    await stage.run(UpdateEntry(entry_id=made["c"], lines=lines["other"]))
    await stage.run(entry(other, sales, 1))
    monkeypatch.setattr(listing, "LOOKED_AT", 2)
    for narrowed, names in (
        ({}, "acdeb"),
        ({"equals": {"status": "pending"}}, "acb"),
        ({"equals": {"status": "posted", "ledger_id": stage.ledger_id}}, "de"),
        ({"equals": {"ledger_id": NOBODY}}, ""),
        ({"bounds": {"effective_at": {"lte": START_US + 2}}}, "aceb"),
        ({"equals": {"status": "pending"}, "bounds": {"effective_at": {"gt": START_US}}}, "cb"),
    ):
        found = [made[name] for name in (names if ascending else reversed(names))]
        for limit in (1, 2, 50):
            shown: list[str] = []
            cursor: str | None = None
            while True:
                wanted = Selection(limit=limit, cursor=cursor, ascending=ascending, **narrowed)
                page = (await stage.engine.ask(stage.site, queries.list_entries, wanted, cash)).value
                shown += [each.id for each in page.items]
                assert len(page.items) <= limit
                cursor = page.next_cursor
                if cursor is None:
                    break
            assert shown == found, (narrowed, limit)


async def test_holds_of_an_account_are_found_among_its_entries(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever became of them, and however many other entries there are."""
    cash, sales, other = await stage.accounts("asset", "revenue", "asset")

    async def hold(account: str) -> str:
        held = PostEntry(lines=entry(account, sales, 9).lines, status="pending", held=True)
        return str((await stage.run(CreateHold(entry=held)))["id"])

    made = []
    for account in (cash, other, cash, cash):
        made.append(await hold(account))
        await stage.run(entry(cash, sales, 1))
    await stage.run(CaptureHold(hold_id=made[0], amount=4))
    await stage.run(ReleaseHold(hold_id=made[2]))
    monkeypatch.setattr(listing, "LOOKED_AT", 2)
    for narrowed, found in (
        ({}, [made[3], made[2], made[0]]),
        ({"equals": {"status": "open"}}, [made[3], made[0]]),
        ({"equals": {"status": "expired"}}, []),
        ({"ascending": True}, [made[0], made[2], made[3]]),
    ):
        shown: list[str] = []
        cursor: str | None = None
        while True:
            wanted = Selection(limit=1, cursor=cursor, **narrowed)
            page = (await stage.engine.ask(stage.site, hold_queries.list_holds, wanted, cash)).value
            shown += [each.id for each in page.items]
            cursor = page.next_cursor
            if cursor is None:
                break
        assert shown == found, narrowed


async def test_a_page_of_an_account_reads_its_newest_lines_only(stage: Stage) -> None:
    """However many there are: by the index of its versions, each entry by its key, nothing sorted or read as a whole."""
    cash, sales = await stage.accounts("asset", "revenue")
    for number in range(40):
        await stage.run(entry(cash, sales, 1, effective_at=START_US + number))
    plans: list[str] = []

    def explain(conn: Connection) -> None:
        def told(_conn: Any, clause: Any, *_: Any) -> None:
            if "account_lock_version" in str(clause) and not plans:
                plans.append("")
                word = "EXPLAIN QUERY PLAN " if stage.database.dialect == "sqlite" else "EXPLAIN (COSTS OFF) "
                text_of = str(clause.compile(conn, compile_kwargs={"literal_binds": True})).replace("%%", "%")
                plans[0] = "\n".join(str(row) for row in conn.exec_driver_sql(word + text_of))

        event.listen(conn, "before_execute", told)
        wanted = Selection(limit=5, bounds={"effective_at": {"gte": START_US}})
        page = queries.list_entries(conn, stage.site.id, wanted, cash)
        event.remove(conn, "before_execute", told)
        assert len(page.items) == 5

    await stage.read(explain)
    [plan] = plans
    assert plan.count("uq_lines_account_version") == 1, plan
    for word in ("Seq Scan", "Sort", "Hash", "SCAN entries", "SCAN lines"):
        assert word not in plan, plan


async def test_lines_of_an_account_come_newest_first_with_the_balances_after_each(stage: Stage) -> None:
    """Every version of every line, by the version of the account, in pages."""
    cash, sales = await stage.accounts("asset", "revenue")
    held = (await stage.run(entry(cash, sales, 3, status="pending")))["id"]
    await stage.run(entry(cash, sales, 5))
    await stage.run(PostPending(entry_id=held))
    first = await ask(stage, queries.account_lines, cash, limit=2)
    rest = await ask(stage, queries.account_lines, cash, limit=2, cursor=first.next_cursor)
    told = [
        (each.status, each.amount, each.resulting_balances.posted.amount, each.resulting_balances.pending.amount)
        for each in (*first.items, *rest.items)
    ]
    assert told == [("posted", 3, 8, 8), ("posted", 5, 5, 8), ("pending", 3, 0, 3)]
    assert rest.next_cursor is None
    versions = [each.account_lock_version for each in (*first.items, *rest.items)]
    assert all(one > other for one, other in pairwise(versions))


async def test_what_is_not_there_is_not_found(stage: Stage) -> None:
    """Nor is what belongs to another site."""
    other = await make_stage(stage.database, OTHER)
    there, where = await other.accounts("asset", "revenue")
    made = (await other.run(entry(there, where, 1)))["id"]
    for query, named in (
        (queries.ledger, other.ledger_id),
        (statements.balance_at, there),
        (queries.entry, made),
        (queries.entry, NOBODY),
    ):
        with pytest.raises(NotFound):
            await stage.engine.ask(stage.site, query, named)
    for read in (stage.engine.account, stage.engine.balance):
        with pytest.raises(NotFound):
            await read(stage.site, there)
    with pytest.raises(NotFound):
        await ask(stage, queries.account_lines, there)
    assert (await ask(stage, queries.list_accounts)).items == []


async def test_cursor_of_another_list_is_refused(stage: Stage) -> None:
    """It is recognised, never misread."""
    cash = await stage.account("asset")
    for query, given, cursor in (
        (queries.list_entries, (), "p1.5"),
        (queries.list_accounts, (), "v1.e1.5.0123456789ab"),
        (queries.account_lines, (cash,), f"p1.{cash}"),
    ):
        with pytest.raises(CursorInvalid):
            await ask(stage, query, *given, cursor=cursor)


async def test_answer_and_its_feed_cursor_are_of_one_snapshot(stage: Stage) -> None:
    """Following the feed from it brings exactly what the answer does not show."""
    cash, sales = await stage.accounts("asset", "revenue")
    await stage.run(entry(cash, sales, 1))
    shown = await stage.engine.ask(stage.site, queries.list_entries, Selection())
    later = (await stage.run(entry(cash, sales, 1)))["id"]
    page = await stage.engine.events_after(stage.site, shown.feed_cursor, 10)
    assert [event.resource_id for event in page.events] == [later]
