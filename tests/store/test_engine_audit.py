"""The audit: whatever is changed, removed, added or swapped behind the books' back is found, and its row is named."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from sqlalchemy import Boolean, Column, Connection, Integer, LargeBinary, and_, delete, select, text, update
from sqlalchemy.exc import IntegrityError

from engine import audit, entry_audit, feed_audit, line_audit, metadata_audit, pieces
from engine.audit import rows_to_look_at, verify
from engine.columns import Id, Json
from engine.commands import (
    AcceptEntry,
    ArchiveEntry,
    CaptureHold,
    CreateHold,
    LineDraft,
    LinePart,
    PostEntry,
    PostPart,
    PostPending,
    ReleaseHold,
    ReverseEntry,
    UpdateAccount,
    UpdateEntry,
    UpdateLedger,
)
from engine.databases import Database
from engine.errors import SiteUnknown
from engine.event_commands import SwitchEventHandler
from engine.finding import Finding
from engine.fx_commands import CreateFxRate
from engine.pieces import Rest
from engine.reference_commands import ChangeReference, CreateReference
from engine.schema import metadata
from engine.spanning import SpanBuilder
from tests.databases import DIALECTS, PostgresAddress, Templates, fresh_postgres, fresh_sqlite
from tests.fakes.clock import START_US
from tests.store.engine_stage import SITE, OneDatabase, Stage, entry, make_spans_small, make_stage
from tests.unit.engine.handling import handler, happened, line
from tests.unit.engine.knowing import REFERENCE

NOBODY = "00000000-0000-7000-8000-000000000000"


@pytest.fixture(params=DIALECTS)
async def stage(
    request: pytest.FixtureRequest,
    templates: Templates,
    tmp_path: Path,
    postgres_with_roles: PostgresAddress,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Stage]:
    """Books with something of everything, entered as the owner, who can turn the triggers off."""
    make_spans_small(monkeypatch)
    async with AsyncExitStack() as stack:
        if request.param == "sqlite":
            url = await fresh_sqlite(tmp_path, templates, "site")
        else:
            url = (await stack.enter_async_context(fresh_postgres(postgres_with_roles, templates, "site"))).owner_url
        database = Database.open(url)
        stack.push_async_callback(database.close)
        stage = await make_stage(database)
        cash, sales, _ = await stage.accounts("asset", "revenue", "asset")
        for amount in (5, 6):
            await stage.run(entry(cash, sales, amount, external_id=f"x{amount}", metadata={"b": "1", "aa": "2"}))
        for amount, end in ((7, PostPending), (8, ArchiveEntry)):
            stage.clock.advance(seconds=1)
            held = (await stage.run(entry(cash, sales, amount, status="pending")))["id"]
            await stage.run(UpdateEntry(entry_id=held, description="d"))
            await stage.run(end(entry_id=held))
        await stage.run(entry(cash, sales, 9, status="pending"))
        await stage.run(ReverseEntry(entry_id=(await stage.run(entry(cash, sales, 11)))["id"]))
        split = await stage.run(entry(cash, sales, 12, status="pending"))
        some = tuple(LinePart(line_id=line["id"], amount=5) for line in split["lines"])
        await stage.run(PostPart(entry_id=split["id"], parts=some))
        await stage.run(UpdateEntry(entry_id=split["id"], lines=entry(sales, cash, 3).lines, effective_at=START_US - 9))
        await stage.run(PostPending(entry_id=split["id"], effective_at=START_US))
        reserved = entry(cash, sales, 4, status="pending", held=True)
        for ending in (ReleaseHold, CaptureHold):
            await stage.run(ending(hold_id=(await stage.run(CreateHold(entry=reserved)))["id"]))
        await stage.run(CaptureHold(hold_id=(await stage.run(CreateHold(entry=reserved)))["id"], amount=1))
        await stage.run(CreateHold(entry=reserved))
        await stage.run(AcceptEntry(entry=entry(cash, sales, 4)))
        await stage.run(AcceptEntry(entry=entry(cash, sales, 4, effective_at=START_US - 9)))
        await stage.run(UpdateLedger(ledger_id=stage.ledger_id, closed_until=START_US - 5))
        await stage.engine.tend(SITE)
        await stage.run(AcceptEntry(entry=entry(cash, sales, 4)))
        rate = (await stage.run(CreateFxRate(base="EUR", quote="USD", rate="1.10")))["id"]
        exchange = (LineDraft(account=cash, direction="debit", amount=10, metadata={}),
                    LineDraft(account=await stage.account("revenue", "USD"), direction="credit", amount=11, metadata={}))  # fmt: skip
        await stage.run(PostEntry(lines=exchange, fx_rate_id=rate))
        await stage.run(UpdateAccount(account_id=cash, name="Till", metadata={"kind": "cash"}))
        await stage.run(UpdateLedger(ledger_id=stage.ledger_id, name="Books"))
        await stage.run(handler(entries=[{"lines": [line(cash, "debit", 3), line(sales, "credit", 3)]}]))
        made = await stage.run(handler("Later", conditions={"field": "event.late", "operator": "equals", "value": 1}))
        await stage.run(SwitchEventHandler(handler_id=made["id"], status="archived"))
        await stage.run(replace(happened(large=1e22), external_id="happened", metadata={"k": "v"}))
        for kind, fields in REFERENCE.items():
            known = await stage.run(CreateReference(kind=kind, fields=fields))
            await stage.run(ChangeReference(kind=kind, resource_id=known["id"], changes={"name": "Other"}))
            if kind == "entity":
                await stage.run(UpdateLedger(ledger_id=stage.ledger_id, entity_id=known["id"]))
                await stage.run(UpdateAccount(account_id=cash, entity_id=known["id"], code="1000"))
        await SpanBuilder(OneDatabase(database)).run(SITE)
        yield stage


def cut_small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut everything into pieces of a few rows."""
    for name in ("EVENTS", "ENTRIES", "ACCOUNTS"):
        monkeypatch.setattr(pieces, name, 3)
    monkeypatch.setattr(audit, "ACCEPTED", 2)


def tampered(stage: Stage, statements: str, *changes: Any) -> Any:
    """Return the function that runs statements with triggers off, asks the audit, and takes all of it back."""

    def run(conn: Connection) -> Finding | None:
        if stage.database.dialect == "postgresql":
            conn.execute(text("SET LOCAL session_replication_role = replica"))
        else:
            for (name,) in conn.execute(text("SELECT name FROM sqlite_master WHERE type = 'trigger'")).all():
                conn.execute(text(f"DROP TRIGGER {name}"))
        for change in changes:
            conn.execute(change)
        for statement in filter(None, statements.split(";")):
            assert conn.execute(text(statement)).rowcount != 0, statement
        raise TakeBack(verify(conn, SITE.id, lambda _rows: None))

    return run


class TakeBack(Exception):
    """Rolls the tampering back, and carries what the audit said."""

    def __init__(self, found: Finding | None) -> None:
        super().__init__(str(found))
        self.found = found


LAST_LINE = "WHERE account_lock_version = (SELECT max(account_lock_version) FROM lines)"
ONE_ENTRY = "WHERE external_id = 'x5'"
POSTED_5 = f"entry_id = (SELECT id FROM entries {ONE_ENTRY})"
# fmt: off
CASES = [
    # The feed: bodies, hashes, columns, order, holes, ends.
    ("events", "UPDATE events SET body = (SELECT body FROM events WHERE sequence = 2) WHERE sequence = 3"),
    ("events", "UPDATE events SET hash = (SELECT hash FROM events WHERE sequence = 2) WHERE sequence = 3"),
    ("events", "UPDATE events SET type = 'entry.posted' WHERE sequence = 3"),
    ("events", f"UPDATE events SET resource_id = '{NOBODY}' WHERE sequence = 3"),
    ("events", f"UPDATE events SET id = '{NOBODY}' WHERE sequence = 3"),
    ("events", "UPDATE events SET created_at = created_at + 1 WHERE sequence = 9"),
    ("events", "DELETE FROM events WHERE sequence = 3"),
    ("events", ("UPDATE events SET sequence = 99 WHERE sequence = 3; UPDATE events SET sequence = 3 WHERE sequence = 4; "
               "UPDATE events SET sequence = 4 WHERE sequence = 99")),
    ("events", (f"INSERT INTO events SELECT site_id, 99, '{NOBODY}', type, resource_id, created_at, body, hash, correlation_id FROM events "
               "WHERE sequence = 3")),
    ("feeds", "DELETE FROM events WHERE sequence = (SELECT max(sequence) FROM events)"),
    ("feeds", "UPDATE feeds SET head = head + 1"),
    ("feeds", "UPDATE feeds SET head_hash = (SELECT hash FROM events WHERE sequence = 2)"),
    ("feeds", "UPDATE feeds SET last_at = last_at + 1"),
    ("feeds", "UPDATE feeds SET holds_due_at = NULL"),
    ("feeds", "UPDATE feeds SET holds_due_at = holds_due_at + 999999999999"),
    ("feeds", "UPDATE feeds SET organization = 'mallory'"),
    ("feeds", "UPDATE feeds SET environment = 'production'"),
    ("events", "UPDATE feeds SET epoch = 'e9'"),
    # The chart.
    ("ledgers", "UPDATE ledgers SET name = 'Mine'"),
    ("ledgers", "DELETE FROM ledgers"),
    ("ledgers", (f"INSERT INTO ledgers SELECT site_id, '{NOBODY}', entity_id, name, description, status, metadata, closed_until, "
                "lock_version, created_at, updated_at FROM ledgers")),
    ("accounts", "UPDATE accounts SET allow_negative = NOT allow_negative WHERE type = 'revenue'"),
    ("accounts", "UPDATE accounts SET normal_balance = 'credit' WHERE name = 'Till'"),
    ("accounts", "UPDATE accounts SET status = 'closed' WHERE name = 'Till'"),
    ("accounts", "DELETE FROM accounts WHERE name = 'asset'"),
    # Entries.
    ("entries", f"UPDATE entries SET description = 'x' {ONE_ENTRY}"),
    ("entries", f"UPDATE entries SET effective_at = effective_at + 1 {ONE_ENTRY}; "),
    ("entries", f"UPDATE entries SET external_id = 'x7' {ONE_ENTRY}"),
    ("entries", f"UPDATE entries SET status = 'archived' {ONE_ENTRY}"),
    ("entries", f"UPDATE entries SET posted_at = NULL {ONE_ENTRY}"),
    ("entries", f"UPDATE entries SET lock_version = 2 {ONE_ENTRY}"),
    ("entries", f"DELETE FROM entries {ONE_ENTRY}"),
    ("entries", (f"INSERT INTO entries SELECT site_id, '{NOBODY}', ledger_id, status, description, 'x9', metadata, "
                "effective_at, posted_at, lines_version, lock_version, reverses, reversed_by, partially_posts, fx_rate_id, held, business_event_id, created_at, "
                f"updated_at FROM entries {ONE_ENTRY}")),
    ("entries", "UPDATE entries SET lines_version = 1 WHERE status = 'archived'"),
    # Lines: alone, and with everything that hangs on them made to fit.
    ("lines", f"UPDATE lines SET amount = 50 WHERE {POSTED_5}"),
    ("lines", f"UPDATE lines SET amount = 6, posted_debits = posted_debits + 1 WHERE {POSTED_5} AND direction = 'debit'"),
    ("lines", "UPDATE lines SET direction = 'credit' WHERE direction = 'debit' AND status = 'archived'"),
    ("lines", f"UPDATE lines SET account_id = (SELECT id FROM accounts WHERE name = 'asset') WHERE {POSTED_5} AND position = 0"),
    ("lines", f"UPDATE lines SET posted_moved = posted_moved - 1 WHERE {POSTED_5} AND position = 0"),
    ("lines", "UPDATE lines SET pending_moved = 0 WHERE status = 'discarded'"),
    ("lines", "UPDATE lines SET effective_at = effective_at + 1 WHERE status = 'discarded'"),
    ("lines", "UPDATE lines SET status = 'archived' WHERE status = 'discarded'"),
    ("entries", "UPDATE entries SET reversed_by = NULL"),
    ("entries", "UPDATE entries SET reverses = NULL"),
    ("entries", "UPDATE entries SET partially_posts = NULL"),
    ("ledgers", "UPDATE ledgers SET closed_until = 5"),
    ("lines", f"UPDATE lines SET position = 2 WHERE {POSTED_5} AND position = 1"),
    ("lines", f"UPDATE lines SET effective_at = effective_at + 1 WHERE {POSTED_5}"),
    ("lines", f"UPDATE lines SET created_at = created_at + 1 WHERE {POSTED_5}"),
    ("lines", f"UPDATE lines SET pending_debits = pending_debits + 1 WHERE {POSTED_5} AND position = 0"),
    ("lines", f"DELETE FROM lines WHERE {POSTED_5}"),
    ("lines", f"DELETE FROM lines WHERE {POSTED_5} AND position = 0"),
    ("lines", "DELETE FROM lines WHERE version = 1 AND status = 'pending'"),
    ("lines", (f"INSERT INTO lines SELECT site_id, '{NOBODY}', version, position, id, account_id, direction, amount, currency, "
              "normal_balance, status, metadata, posted_moved, pending_moved, account_lock_version + 90, posted_debits, posted_credits, pending_debits, "
              f"pending_credits, effective_at, created_at FROM lines WHERE {POSTED_5}")),
    ("lines", ("INSERT INTO lines SELECT site_id, entry_id, 2, position, id, account_id, direction, amount, currency, "
              "normal_balance, status, metadata, posted_moved, pending_moved, account_lock_version + 90, posted_debits, posted_credits, pending_debits, "
              f"pending_credits, effective_at, created_at FROM lines WHERE {POSTED_5}")),
    # What was accepted.
    ("entries", "UPDATE acceptances SET lines = '[]' WHERE position = 3"),
    ("entries", "UPDATE acceptances SET lines = '[]' WHERE position = 1"),
    ("entries", "UPDATE acceptances SET rejection = NULL WHERE position = 2"),
    ("entries", "DELETE FROM acceptances WHERE position = 3"),
    ("feeds", "UPDATE feeds SET accepted_done = 3"),
    ("entries", "UPDATE entries SET status = 'rejected' WHERE status = 'accepted'"),
    # Exchange.
    ("fx_rates", "UPDATE fx_rates SET rate = '1.2'"),
    ("fx_rates", "DELETE FROM fx_rates"),
    ("entries", "UPDATE entries SET fx_rate_id = NULL"),
    ("accounts", "UPDATE accounts SET purpose = NULL"),
    # Holds.
    ("holds", "UPDATE holds SET status = 'released' WHERE status = 'open'"),
    ("holds", "UPDATE holds SET expires_at = expires_at + 1 WHERE status = 'open'"),
    ("holds", "UPDATE holds SET captures = '[]' WHERE status = 'captured'"),
    ("holds", "UPDATE holds SET lines = '[]' WHERE status = 'open'"),
    ("holds", "UPDATE holds SET lock_version = 9 WHERE status = 'open'"),
    ("holds", "DELETE FROM holds WHERE status = 'released'"),
    ("holds", f"UPDATE holds SET id = '{NOBODY}' WHERE status = 'released'"),
    ("entries", "UPDATE entries SET held = NOT held WHERE status = 'pending'"),
    # What is searched by metadata.
    ("metadata_pairs", "UPDATE metadata_pairs SET value = 'x' WHERE value = 'cash'"),
    ("metadata_pairs", "UPDATE metadata_pairs SET key = 'x' WHERE value = 'cash'"),
    ("metadata_pairs", "UPDATE metadata_pairs SET owner = 'nobody' WHERE value = 'cash'"),
    ("metadata_pairs", "UPDATE metadata_pairs SET owner = 'entries' WHERE value = 'cash'"),
    ("metadata_pairs", "DELETE FROM metadata_pairs WHERE value = 'cash'"),
    ("metadata_pairs", "DELETE FROM metadata_pairs WHERE owner = 'business_events'"),
    ("metadata_pairs", f"INSERT INTO metadata_pairs VALUES (7, 'accounts', 'kind', 'cash', '{NOBODY}')"),
    ("metadata_pairs", "INSERT INTO metadata_pairs SELECT site_id, 'entries', 'kind', 'cash', id FROM entries"),
    # Reference data.
    ("entities", "UPDATE entities SET name = 'x'"),
    ("entities", "UPDATE entities SET country = NULL"),
    ("entities", "DELETE FROM entities"),
    ("currencies", "UPDATE currencies SET exponent = 4"),
    ("currencies", "DELETE FROM currencies"),
    ("products", "UPDATE products SET code = 'x'"),
    ("products", f"INSERT INTO products SELECT site_id, '{NOBODY}', 'other', name, description, metadata, lock_version, created_at, updated_at FROM products"),
    ("accounts", f"UPDATE accounts SET entity_id = '{NOBODY}' WHERE name = 'Till'"),
    ("ledgers", f"UPDATE ledgers SET entity_id = '{NOBODY}'"),
    # Handlers and what they handled.
    ("event_handlers", "UPDATE event_handlers SET name = 'x' WHERE name = 'Later'"),
    ("event_handlers", "UPDATE event_handlers SET status = 'active' WHERE name = 'Later'"),
    ("event_handlers", "UPDATE event_handlers SET event_name = '' WHERE name = 'Top ups'"),
    ("event_handlers", "UPDATE event_handlers SET lock_version = 3 WHERE name = 'Later'"),
    ("event_handlers", "UPDATE event_handlers SET definition = (SELECT definition FROM event_handlers WHERE name = 'Later')"),
    ("event_handlers", "DELETE FROM event_handlers WHERE name = 'Later'"),
    ("event_handlers", (f"INSERT INTO event_handlers SELECT site_id, '{NOBODY}', name, description, status, event_name, "
                       "definition, metadata, lock_version, created_at, updated_at FROM event_handlers WHERE name = 'Later'")),
    ("business_events", "UPDATE business_events SET name = 'x'"),
    ("business_events", "UPDATE business_events SET custom_data = '{}'"),
    ("business_events", "UPDATE business_events SET external_id = NULL"),
    ("business_events", "UPDATE business_events SET entries = '[]'"),
    ("business_events", "UPDATE business_events SET metadata = '{}'"),
    ("business_events", "UPDATE business_events SET effective_at = effective_at + 1"),
    ("business_events", f"UPDATE business_events SET event_handler_id = '{NOBODY}'"),
    ("business_events", "UPDATE business_events SET event_handler_version = 2"),
    ("business_events", "DELETE FROM business_events"),
    ("business_events", (f"INSERT INTO business_events SELECT site_id, '{NOBODY}', name, description, custom_data, 'other', metadata, "
                        "effective_at, event_handler_id, event_handler_version, entries, lock_version, created_at, updated_at "
                        "FROM business_events")),
    ("entries", "UPDATE entries SET business_event_id = NULL"),
    # Balances.
    ("balances", "UPDATE balances SET posted_debits = posted_debits + 1 WHERE posted_debits > 0"),
    ("balances", "UPDATE balances SET pending_credits = pending_credits + 1 WHERE posted_debits > 0"),
    ("balances", "UPDATE balances SET lock_version = lock_version + 1 WHERE posted_debits > 0"),
    ("balances", "DELETE FROM balances WHERE posted_debits > 0"),
    ("balances", "DELETE FROM balances WHERE posted_debits = 0 AND posted_credits = 0"),
    ("balances", f"INSERT INTO balances VALUES (7, '{NOBODY}', 0, 0, 0, 0, 1)"),
    ("balances", "UPDATE balances SET posted_debits = posted_credits, posted_credits = posted_debits WHERE posted_debits > 0"),
]
# fmt: on


async def test_books_that_nobody_touched_are_right(stage: Stage) -> None:
    """And the audit says how many rows it has looked at."""
    told: list[int] = []
    found = await stage.read(lambda conn: verify(conn, SITE.id, told.append))
    assert found is None
    rows = await stage.rows()
    looked_at = len(rows["events"]) + 2 * len(rows["lines"])
    assert sum(told) == looked_at
    expected = await stage.read(lambda conn: rows_to_look_at(conn, SITE.id))
    # An account's own changes are versions of it too.
    assert looked_at <= expected <= looked_at + len(rows["accounts"]) * 6


async def test_every_tampering_is_found_and_named(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """The finding names the table that was touched, or the one whose rows no longer follow; then all is taken back.

    It is the same where the books are cut into many pieces, whichever of them it is in.
    """
    whole = [await found_of(stage, statements) for _, statements in CASES]
    missed = []
    for (table, statements), found in zip(CASES, whole, strict=True):
        allowed = {table} | ({"lines"} if "effective_at" in statements and table == "entries" else set())
        if found is None or found.table not in allowed or not found.row:
            missed.append((statements, found))
    assert missed == []
    cut_small(monkeypatch)
    assert [await found_of(stage, statements) for _, statements in CASES] == whole
    assert await stage.verify() is None


# What the books can be told again from is audited; these tell only who was told before, and how far somebody has read.
NOT_BOOKS = {"facts", "idempotency_keys", "span_places"}


# A site's first moment; bounds that may be lower than they have to be; what shuts out a late batch; whose request it was; a span that is not there is made again.
TOLD_BY_NOTHING = {
    ("feeds", "created_at"),
    ("feeds", "holds_due_at"),
    ("feeds", "accepted_done"),
    ("feeds", "fence"),
    ("acceptances", "diagnostics"),
    ("acceptances", "created_at"),
    ("spans", "site_id"),
}


def otherwise(column: Column[Any], value: Any) -> Any:
    """Return another value of a column's kind."""
    match column.type:
        case LargeBinary():
            return bytes(reversed(value)) if value != bytes(reversed(value)) else value + b"0"
        case Boolean():
            return not value
        case Integer():
            return 1 if value is None else value + 1
        case _ if column.type is Json:
            return {"mallory": "1"} if isinstance(value, dict) else [1]
        case _ if column.type is Id:
            return NOBODY
    text = str(value)
    other = text[::-1] if text != text[::-1] else text + "x"
    return "mallory"[: column.type.length] if value is None else other[: column.type.length]  # type: ignore[attr-defined]


async def behind_their_back(stage: Stage, change: Any) -> Finding | str | None:
    """Return what the audit says of a change that is then taken back, or that the database refused it."""
    try:
        with pytest.raises(TakeBack) as back:
            await stage.write(tampered(stage, "", change))
    except (IntegrityError, SiteUnknown):
        return "refused"
    return back.value.found


async def test_every_column_of_every_row_is_audited(stage: Stage) -> None:
    """A row of each table, of lines and events the first and the last, one column at a time: changed, and swapped with another row's."""
    missed, tried = [], 0
    tables = [table for table in metadata.sorted_tables if table.name not in NOT_BOOKS]
    for table in tables:
        rows = await stage.read(lambda conn, table=table: conn.execute(select(table)).mappings().all())  # type: ignore[misc]
        keys = list(table.primary_key.columns)
        chosen = {0, len(rows) - 1} if table.name in {"lines", "events"} else {0} if rows else set()
        for number, column in itertools.product(sorted(chosen), table.c):
            row = rows[number]
            here = and_(*(key == row[key.name] for key in keys))
            given = [otherwise(column, row[column.name])]
            given += [each[column.name] for each in rows if each[column.name] != row[column.name]][:1]
            for value in given:
                change = update(table).where(here).values({column.name: value})
                found = await behind_their_back(stage, change)
                tried += 1
                if found is None and (table.name, column.name) not in TOLD_BY_NOTHING:
                    missed.append(f"{table.name}.{column.name} {row[column.name]!r} -> {value!r}")
    assert missed == []
    assert tried > 200
    assert await stage.verify() is None


async def found_of(stage: Stage, statements: str) -> Finding | None:
    """Return what the audit says of statements that are then taken back."""
    with pytest.raises(TakeBack) as back:
        await stage.write(tampered(stage, statements.strip().rstrip(";")))
    return back.value.found


async def test_every_row_that_goes_missing_is_missed(stage: Stage) -> None:
    """Any one row of any table."""
    missed = []
    for table in metadata.sorted_tables:
        if table.name in NOT_BOOKS or table.name == "spans":
            continue
        rows = await stage.read(lambda conn, table=table: conn.execute(select(table)).mappings().all())  # type: ignore[misc]
        for row in rows:
            here = and_(*(key == row[key.name] for key in table.primary_key.columns))
            if await behind_their_back(stage, delete(table).where(here)) is None:
                missed.append((table.name, dict(row)))
    assert missed == []


async def test_first_bad_sequence_is_the_one_that_is_named(stage: Stage) -> None:
    """Two events are changed; whoever looks starts at the first."""
    with pytest.raises(TakeBack) as back:
        await stage.write(tampered(stage, "UPDATE events SET type = 'hold.created' WHERE sequence IN (4, 6)"))
    assert back.value.found is not None
    assert back.value.found.row == "sequence 4"


async def test_every_row_is_in_one_piece(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Piecees go on where the one before ends, from before all that there is to behind it; each row is looked at once."""
    cut_small(monkeypatch)
    told: list[int] = []
    assert await stage.read(lambda conn: verify(conn, SITE.id, told.append)) is None
    rows = await stage.rows()
    assert sum(told) == len(rows["events"]) + 2 * len(rows["lines"])
    _, pieces = await stage.read(lambda conn: audit.plan(conn, SITE.id))
    for of in (*("entries", "accounts"), None):
        chosen = [each for each in pieces if not isinstance(each, Rest) and getattr(each, "of", None) == of]
        assert [each.after for each in chosen[1:]] == [each.until for each in chosen[:-1]]
        assert (not chosen[0].after, chosen[-1].until) == (True, None)
        assert 1 <= len(chosen) - len(rows[of or "events"]) // 3 <= 2


async def test_end_of_a_feed_that_was_cut_off_is_named_whatever_piece_it_is_in(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where it is the end of a piece, and where whole pieces are gone."""
    cut_small(monkeypatch)
    for gone in (1, 2, 3, 4, 5, 11):
        last = len((await stage.rows())["events"]) - gone
        statement = f"DELETE FROM events WHERE sequence > {last}"
        assert await found_of(stage, statement) == Finding(
            table="feeds", row=f"head {last + gone}", detail=f"the feed ends at {last}"
        )
        assert await found_of(stage, f"DELETE FROM events WHERE sequence = {last}") == Finding(
            table="events", row=f"sequence {last}", detail="the event is missing"
        )


async def test_audit_turns_its_pages(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """What does not fit one page is looked at all the same."""
    for module in (audit, entry_audit, feed_audit, line_audit, metadata_audit):
        monkeypatch.setattr(module, "PAGE", 2)
    assert await stage.verify() is None
    with pytest.raises(TakeBack) as back:
        await stage.write(tampered(stage, f"UPDATE lines SET amount = amount + 1 {LAST_LINE}"))
    assert back.value.found is not None
    assert back.value.found.table == "lines"
