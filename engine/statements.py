"""Questions about time: balances at a moment, series of them, statements of an account, trial balances of a ledger."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import Any, cast

from msgspec import Struct
from sqlalchemy import ColumnElement, Connection, and_, or_, select

from engine import queries, store
from engine.balances import Totals, balances_of
from engine.cursors import (
    StatementPlace,
    TrialBalancePlace,
    page_cursor,
    parse_position_cursor,
    parse_statement_cursor,
    parse_trial_balance_cursor,
    statement_cursor,
    trial_balance_cursor,
)
from engine.feed import read_head
from engine.history import NOW, Moment, totals_at, totals_of_several, version_by
from engine.money import format_instant
from engine.reports import (
    BalanceHistory,
    BalancePoint,
    Interval,
    Statement,
    StatementLine,
    SumKey,
    SumValue,
    TrialBalance,
    carried,
    intervals,
    statement_line_of,
    sums_of,
    trial_balance_account_of,
)
from engine.rows import AccountRow, LineRow
from engine.schema import accounts, entries, lines
from engine.shapes import AccountBalance, account_balance_of
from engine.spans import Sums, moved
from engine.sql import among


class Stretch(Struct, frozen=True, kw_only=True):
    """A stretch of effective time in microseconds, its start within it and its end not, and which page of it."""

    start: int
    end: int
    limit: int = 50
    cursor: str | None = None


def balance_at(conn: Connection, site_id: int, account_id: str, moment: Moment = NOW) -> AccountBalance:
    """Return an account's balances at a moment; raises NotFound and VersionUnknown."""
    account, present = queries.account_row(conn, site_id, account_id)
    return account_balance_of(account, totals_at(conn, site_id, account_id, present, moment))


def balance_history(
    conn: Connection,
    site_id: int,
    account_id: str,
    interval: Interval,
    stretch: Stretch,
    known_at: int | None,
) -> BalanceHistory:
    """Return an account's balances at the end of every interval of a stretch; raises NotFound."""
    account, present = queries.account_row(conn, site_id, account_id)
    start = stretch.start if stretch.cursor is None else parse_position_cursor(stretch.cursor)
    found = list(islice(intervals(interval, start, stretch.end), stretch.limit + 1))
    points = []
    for low, high in found[: stretch.limit]:
        moment = Moment(as_of=high - 1, known_at=known_at)
        balances = balances_of(totals_at(conn, site_id, account_id, present, moment), account["normal_balance"])
        points.append(
            BalancePoint(
                from_=format_instant(low),
                to=format_instant(high),
                posted=balances.posted,
                pending=balances.pending,
                available=balances.available,
            )
        )
    more = len(found) > stretch.limit
    return BalanceHistory(
        account_id=account_id,
        currency=account["currency"],
        currency_exponent=account["currency_exponent"],
        interval=interval,
        data=points,
        has_more=more,
        next_cursor=page_cursor(str(found[-1][0])) if more else None,
    )


def statement(
    conn: Connection,
    site_id: int,
    account_id: str,
    stretch: Stretch,
    known_at: int | None,
) -> Statement:
    """Return a page of an account's statement: every line that took effect within the stretch, the earliest first.

    The first page settles of which version of the account the books are shown; raises NotFound.
    """
    account, present = queries.account_row(conn, site_id, account_id)

    def at_end_of(before: int, version: int | None) -> Totals:
        moment = Moment(as_of=before - 1, known_at=known_at if version is None else None, version=version)
        return totals_at(conn, site_id, account_id, present, moment)

    if stretch.cursor is None:
        opening = at_end_of(stretch.start, None)
        place = StatementPlace(stretch.start, 0, *opening)
    else:
        place = parse_statement_cursor(stretch.cursor)
        opening = at_end_of(stretch.start, place.upto)
    rows = _lines_between(conn, site_id, account_id, place, stretch)
    shown, after = _with_balances(conn, site_id, rows[: stretch.limit], Totals(*place[2:]))
    more = len(rows) > stretch.limit
    last = rows[stretch.limit - 1] if more else None
    return Statement(
        account_id=account_id,
        currency=account["currency"],
        currency_exponent=account["currency_exponent"],
        normal_balance=account["normal_balance"],
        from_=format_instant(stretch.start),
        to=format_instant(stretch.end),
        lock_version=place.upto,
        opening_balances=balances_of(opening, account["normal_balance"]),
        closing_balances=balances_of(at_end_of(stretch.end, place.upto), account["normal_balance"]),
        data=shown,
        has_more=more,
        next_cursor=None
        if last is None
        else statement_cursor(StatementPlace(last["effective_at"], last["account_lock_version"], *after)),
    )


def trial_balance(
    conn: Connection,
    site_id: int,
    ledger_id: str,
    moment: Moment,
    limit: int,
    cursor: str | None,
) -> TrialBalance:
    """Return a page of a ledger's trial balance, with the sums carried over the pages so far; raises NotFound."""
    queries.ledger(conn, site_id, ledger_id)
    last_at = read_head(conn, site_id).last_at
    before: Mapping[SumKey, SumValue] = {}
    known_at = last_at if moment.known_at is None else min(moment.known_at, last_at)
    query = select(accounts).where(accounts.c.site_id == site_id, accounts.c.ledger_id == ledger_id)
    if cursor is not None:
        last_id, known_at, before = parse_trial_balance_cursor(cursor)
        query = query.where(accounts.c.id > last_id)
    query = query.where(accounts.c.created_at <= known_at).order_by(accounts.c.id).limit(limit + 1)
    rows = [cast("AccountRow", row) for row in conn.execute(query).mappings()]
    more, rows = len(rows) > limit, rows[:limit]
    present = {row["id"]: totals for row, totals in store.accounts_by_id(conn, site_id, [row["id"] for row in rows])}
    asked = NOW if moment.as_of is None and known_at >= last_at else Moment(as_of=moment.as_of, known_at=known_at)
    totals = totals_of_several(conn, site_id, present, asked)
    found = [trial_balance_account_of(row, totals[row["id"]]) for row in rows]
    sums = carried(before, found)
    return TrialBalance(
        ledger_id=ledger_id,
        as_of=None if moment.as_of is None else format_instant(moment.as_of),
        known_at=format_instant(known_at),
        data=found,
        sums=sums_of(sums),
        has_more=more,
        next_cursor=trial_balance_cursor(TrialBalancePlace(rows[-1]["id"], known_at, sums)) if more else None,
    )


def _lines_between(
    conn: Connection, site_id: int, account_id: str, place: StatementPlace, stretch: Stretch
) -> list[LineRow]:
    """Return the lines after a place that take effect before a stretch ends, one more than the page holds.

    Lines that took effect when they were booked are in the order of the account's versions, the others in an index of their own.
    """
    behind: list[ColumnElement[bool]] = [
        lines.c.site_id == site_id,
        lines.c.account_id == account_id,
        or_(
            lines.c.effective_at > place.at,
            and_(lines.c.effective_at == place.at, lines.c.account_lock_version > place.version),
        ),
    ]
    shifted = (
        select(lines)
        .where(
            *behind,
            lines.c.effective_at != lines.c.created_at,
            lines.c.effective_at >= place.at,
            lines.c.effective_at < stretch.end,
            lines.c.account_lock_version <= place.upto,
        )
        .order_by(lines.c.effective_at, lines.c.account_lock_version)
        .limit(stretch.limit + 1)
    )
    found = [cast("LineRow", row) for row in conn.execute(shifted).mappings()]
    # Beyond the last of a full page nothing is looked for: of lines that were all booked later there may be a million.
    end = found[-1]["effective_at"] + 1 if len(found) > stretch.limit else stretch.end
    low, high = (version_by(conn, site_id, account_id, at, place.upto) for at in (place.at, end))
    at_once = (
        select(lines)
        .where(
            *behind,
            lines.c.effective_at == lines.c.created_at,
            lines.c.account_lock_version > low,
            lines.c.account_lock_version <= high,
        )
        .order_by(lines.c.account_lock_version)
        .limit(stretch.limit + 1)
    )
    found += [cast("LineRow", row) for row in conn.execute(at_once).mappings()]
    found.sort(key=lambda row: (row["effective_at"], row["account_lock_version"]))
    return found[: stretch.limit + 1]


def _with_balances(
    conn: Connection, site_id: int, rows: list[LineRow], running: Totals
) -> tuple[list[StatementLine], Totals]:
    query = select(entries.c.id, entries.c.description).where(
        entries.c.site_id == site_id, among(entries.c.id, {row["entry_id"] for row in rows})
    )
    described: dict[str, Any] = {row.id: row.description for row in conn.execute(query)} if rows else {}
    shown = []
    for row in rows:
        sums = moved(row["direction"], row["posted_moved"], row["pending_moved"])
        debits, credits_, pending_debits, pending_credits = sums.plus(Sums(*running[:4]))
        running = Totals(debits, credits_, pending_debits, pending_credits, running.lock_version)
        shown.append(statement_line_of(row, described[row["entry_id"]], running))
    return shown, running
