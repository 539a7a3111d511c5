"""Lines across ledgers: every version once, by whom and what they are on, in pages that others' writing leaves alone."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Connection

from engine import line_queries, listing
from engine.commands import CreateLedger, PostPending, UpdateEntry
from engine.databases import Database
from engine.errors import CursorInvalid
from engine.line_queries import LineSelection
from engine.reference_commands import CreateReference
from engine.shapes import LedgerLine
from tests.store.engine_stage import OTHER, Stage, entry, make_stage
from tests.unit.engine.knowing import REFERENCE


class Books:
    """Two entities, two ledgers, entries in both."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.acme = ""
        self.other_ledger = ""
        self.cash = ""
        self.sales = ""
        self.fees = ""
        self.bank = ""
        self.made: list[str] = []


@pytest.fixture
async def books(site_database: Database) -> Books:
    """Cash and fees belong to the entity, sales to nobody; the bank is in another ledger, of the entity too."""
    stage = await make_stage(site_database)
    made = Books(stage)
    made.acme = (await stage.run(CreateReference(kind="entity", fields=REFERENCE["entity"])))["id"]
    made.other_ledger = (await stage.run(CreateLedger(name="Other", entity_id=made.acme)))["id"]
    made.cash = await stage.account("asset", entity_id=made.acme, metadata={"user": "7"})
    made.fees = await stage.account("expense", entity_id=made.acme)
    made.sales = await stage.account("revenue", metadata={"user": "7"})
    made.bank = await stage.account("asset", ledger_id=made.other_ledger, metadata={"user": "8"})
    owner = await stage.account("equity", ledger_id=made.other_ledger)
    for number in range(1, 5):
        made.made.append((await stage.run(entry(made.cash, made.sales, number)))["id"])
        made.made.append((await stage.run(entry(made.fees, made.cash, number * 10)))["id"])
        made.made.append((await stage.run(entry(made.bank, owner, number * 100)))["id"])
    return made


async def pages(books: Books, **wanted: Any) -> list[LedgerLine]:
    """Return all lines that are wanted, page by page, with somebody posting in between."""
    found: list[LedgerLine] = []
    cursor = None
    while True:
        selection = LineSelection(cursor=cursor, **wanted)
        page = (await books.stage.engine.ask(books.stage.site, line_queries.list_lines, selection)).value
        assert len(page.items) <= selection.limit
        found += page.items
        cursor = page.next_cursor
        if cursor is None:
            return found
        if not selection.ascending:
            await books.stage.run(entry(books.cash, books.sales, 999))


def told(lines: list[LedgerLine]) -> list[tuple[str, int]]:
    """Return lines by account and amount."""
    return [(line.account_id, line.amount) for line in lines]


@pytest.mark.parametrize("ascending", [False, True])
@pytest.mark.parametrize("limit", [1, 3, 100])
async def test_lines_are_found_by_whose_they_are(books: Books, limit: int, *, ascending: bool) -> None:
    """By account, entity, ledger, metadata of the account, and by several of these together; nothing twice or left out."""
    cash = [(books.cash, amount) for number in range(1, 5) for amount in (number, number * 10)]
    acme = [
        each
        for n in range(1, 5)
        for each in ((books.cash, n), (books.fees, n * 10), (books.cash, n * 10), (books.bank, n * 100))
    ]
    tagged = [each for n in range(1, 5) for each in ((books.cash, n), (books.sales, n), (books.cash, n * 10))]
    for wanted, expected in (
        ({"account_id": books.cash}, cash),
        (
            {"entity_id": books.acme, "ledger_id": books.stage.ledger_id},
            [each for each in acme if each[0] != books.bank],
        ),
        ({"account_metadata": {"user": "7"}}, tagged),
        ({"account_metadata": {"user": "8"}, "entity_id": books.acme}, [(books.bank, n * 100) for n in range(1, 5)]),
        ({"account_id": books.bank, "ledger_id": books.stage.ledger_id}, []),
    ):
        found = told(await pages(books, limit=limit, ascending=ascending, **wanted))
        mine = [each for each in found if each[1] != 999]
        assert mine == (expected if ascending else expected[::-1]), wanted
    in_ledger = await pages(books, limit=limit, ascending=ascending, ledger_id=books.other_ledger)
    assert {line.ledger_id for line in in_ledger} == {books.other_ledger}
    assert {line.entity_id for line in in_ledger} == {books.acme}
    amounts = [line.amount for line in in_ledger]
    assert amounts == sorted(amounts, reverse=not ascending)
    assert len(in_ledger) == 8
    everything = await pages(books, limit=limit, ascending=ascending)
    ids = [line.id for line in everything]
    assert len(set(ids)) == len(ids)
    assert {line.entry_id for line in everything} >= set(books.made)


@pytest.mark.parametrize("looked_at", [3, 2_000])
async def test_lines_are_narrowed_by_what_they_are(
    books: Books, looked_at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Amount, direction, status, currency, times; however few match in what a step looks at, each is found once."""
    monkeypatch.setattr(listing, "LOOKED_AT", looked_at)
    stage = books.stage
    at = stage.clock.advance(seconds=1)
    late = (await stage.run(entry(books.cash, books.sales, 7, status="pending", effective_at=at + 5)))["id"]
    await stage.run(UpdateEntry(entry_id=late, lines=entry(books.cash, books.sales, 8).lines))
    await stage.run(PostPending(entry_id=late))
    for wanted, expected in (
        ({"bounds": {"amount": {"gte": 100, "lt": 300}}, "equals": {"direction": "debit"}}, [200, 100]),
        (
            {"bounds": {"amount": {"gt": 300}}, "ledger_id": books.other_ledger, "equals": {"direction": "credit"}},
            [400],
        ),
        ({"equals": {"status": "posted", "direction": "debit"}, "bounds": {"created_at": {"gte": at}}}, [8]),
        ({"equals": {"status": "pending", "direction": "debit"}}, [8, 7]),
        ({"equals": {"status": "discarded", "direction": "debit"}}, [7]),
        ({"bounds": {"effective_at": {"gt": at}}, "equals": {"status": "posted", "direction": "debit"}}, [8]),
        ({"equals": {"currency": "USD"}}, []),
        ({"entity_id": books.acme, "bounds": {"amount": {"lte": 2}}}, [2, 1]),
    ):
        for limit in (1, 50):
            found = [line.amount for line in await pages(books, limit=limit, **wanted)]
            assert [amount for amount in found if amount != 999] == expected, wanted


async def test_a_page_looks_only_so_far(books: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing matches in what was looked at, it is empty and says where to go on."""
    monkeypatch.setattr(listing, "LOOKED_AT", 2)
    monkeypatch.setattr(listing, "STEPS", 2)
    wanted = LineSelection(bounds={"amount": {"lt": 2}})
    page = (await books.stage.engine.ask(books.stage.site, line_queries.list_lines, wanted)).value
    assert page.items == []
    assert page.next_cursor is not None


@pytest.mark.parametrize("site_database", ["postgresql"], indirect=True)
async def test_lines_of_another_site_are_not_there(books: Books) -> None:
    """Not by naming its account, its ledger or its entity."""
    other = await make_stage(books.stage.database, OTHER)
    everything: tuple[dict[str, Any], ...] = (
        {},
        {"account_id": books.cash},
        {"entity_id": books.acme},
        {"ledger_id": books.other_ledger},
    )
    for wanted in everything:
        page = (await other.engine.ask(other.site, line_queries.list_lines, LineSelection(**wanted))).value
        assert page.items == []


@pytest.mark.parametrize("cursor", ["", "p1.0", "l1.x.1.1", "l1.0192a3b4-c5d6-7e8f-9a0b-1c2d3e4f5a6b.1", "l1..1.1"])
async def test_cursor_of_another_list_is_refused(books: Books, cursor: str) -> None:
    """It is never misread."""
    with pytest.raises(CursorInvalid):
        await books.stage.engine.ask(books.stage.site, line_queries.list_lines, LineSelection(cursor=cursor))


@pytest.mark.parametrize(
    ("wanted", "index"),
    [
        ({}, "pk_lines"),
        ({"account_id": "cash"}, "uq_lines_account_version"),
        ({"account_metadata": {"user": "7"}}, "uq_lines_account_version"),
        ({"entity_id": "acme"}, "uq_lines_account_version"),
        ({"ledger_id": "other"}, "ix_entries_ledger"),
    ],
)
async def test_lines_are_read_by_an_index(books: Books, wanted: dict[str, Any], index: str) -> None:
    """Nothing is scanned, on either database."""
    ids = {"acme": books.acme, "other": books.other_ledger, "cash": books.cash}
    given: dict[str, Any] = {
        name: ids.get(value, value) if isinstance(value, str) else value for name, value in wanted.items()
    }
    stage = books.stage

    def explain(conn: Connection) -> str:
        query = line_queries._next(conn, stage.site.id, LineSelection(**given), None, 10)
        word = "EXPLAIN QUERY PLAN " if stage.database.dialect == "sqlite" else "EXPLAIN (COSTS OFF) "
        said = str(query.compile(conn, compile_kwargs={"literal_binds": True}))
        return "\n".join(str(row) for row in conn.exec_driver_sql(word + said))

    plan = await stage.read(explain)
    assert "Seq Scan" not in plan, plan
    assert "SCAN" not in plan, plan
    if stage.database.dialect == "postgresql":
        assert index in plan, plan
