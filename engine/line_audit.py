"""The audit of lines along their accounts: every resulting total follows from the line before, every balance from the last one.

The database compares line with line, a page at a time; what comes back is the last line of every account, and what is wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from sqlalchemy import (
    ColumnElement,
    Connection,
    FromClause,
    Row,
    Select,
    and_,
    case,
    false,
    func,
    literal,
    or_,
    select,
    tuple_,
)

from engine.balances import EMPTY, Totals
from engine.finding import Finding
from engine.pieces import Ids, within
from engine.schema import balances, lines

PAGE: Final = 20_000
Progress = Callable[[int], None]
_OF_ACCOUNT: Final = ("currency", "normal_balance")
_NOT_ITS_ACCOUNTS: Final = "its currency or normal balance is not its account's"
_TOTALS: Final = ("posted_debits", "posted_credits", "pending_debits", "pending_credits")


class Known(NamedTuple):
    """What the lines of an account have to fit: how often it was opened or changed, its currency and its normal balance."""

    changes: int
    currency: str
    normal_balance: str


def verify_lines(
    conn: Connection, site_id: int, ids: Ids, progress: Progress, known: Mapping[str, Known]
) -> Finding | None:
    """Return the first line or balance of accounts with these ids that is wrong, given what is known of each of them."""
    of_them = within(_BALANCES, balances, balances.c.account_id, site_id, ids.after, ids.until)
    stored = {row.account_id: Totals(*_numbers(row[1:])) for row in conn.execute(of_them)}
    counts = {account_id: account.changes for account_id, account in known.items()}
    reached: dict[str, Totals] = {}
    for page, skipped in _pages(conn, site_id, ids):
        counted = skipped
        for row in page:
            line = f"entry {row.entry_id} line {row.position} version {row.version}"
            account = known.get(row.account_id)
            if account is None:
                return Finding(table="lines", row=line, detail=f"there is no account {row.account_id}")
            if row.wrong is not None or (row.currency, row.normal_balance) != account[1:]:
                return Finding(table="lines", row=line, detail=row.wrong or _NOT_ITS_ACCOUNTS)
            counts[row.account_id] += row.place - counted
            reached[row.account_id] = Totals(*_numbers(row[8:]))
            counted = row.place
        progress(counted - skipped)
    return _wrong_balance(stored, reached, counts)


_BALANCES: Final[Select[Any]] = select(*balances.c["account_id", *_TOTALS, "lock_version"])


def _numbers(columns: Any) -> list[int]:
    return list(columns)


def _wrong_balance(
    stored: dict[str, Totals],
    reached: dict[str, Totals],
    versions: dict[str, int],
) -> Finding | None:
    for account_id in sorted(stored.keys() | versions.keys()):
        if account_id not in stored or account_id not in versions:
            absent = "account" if account_id in stored else "balance"
            return Finding(table="balances", row=account_id, detail=f"there is no {absent} of this id")
        totals, found = stored[account_id], reached.get(account_id, EMPTY)
        if found[:4] != totals[:4]:
            return Finding(
                table="balances",
                row=account_id,
                detail=f"the totals are {totals[:4]}, the lines come to {found[:4]}",
            )
        if totals.lock_version != versions[account_id]:
            return Finding(
                table="balances",
                row=account_id,
                detail=f"lock_version is {totals.lock_version} after {versions[account_id]} lines and changes",
            )
    return None


def _pages(conn: Connection, site_id: int, ids: Ids) -> Iterator[tuple[Sequence[Row[Any]], int]]:
    """Return of every page of lines the last line of each account and every wrong line, and how many were on the page before.

    A page begins with the last line of the page before it, for the next one to be compared with.
    """
    last: Row[Any] | None = None
    while True:
        page = conn.execute(_compared(site_id, ids, last)).all()
        if not page or (last is not None and page[-1].place == 1):
            return
        yield page, 0 if last is None else 1
        if page[-1].place < PAGE:
            return
        last = page[-1]


def _compared(site_id: int, ids: Ids, last: Row[Any] | None) -> Any:
    after = ids.after if last is None else None
    query = within(select(lines), lines, lines.c.account_id, site_id, after, ids.until)
    query = query.order_by(lines.c.account_id, lines.c.account_lock_version).limit(PAGE)
    if last is not None:
        place = tuple_(
            literal(last.account_id, lines.c.account_id.type),
            literal(last.account_lock_version, lines.c.account_lock_version.type),
        )
        query = query.where(tuple_(lines.c.account_id, lines.c.account_lock_version) >= place)
    page = query.subquery()
    order = (page.c.account_id, page.c.account_lock_version)
    beside = {
        f"before_{name}": func.lag(page.c[name]).over(order_by=order)
        for name in ("account_id", "account_lock_version", "currency", "normal_balance", *_TOTALS)
    }
    beside["next_account_id"] = func.lead(page.c.account_id).over(order_by=order)
    beside["place"] = func.row_number().over(order_by=order)
    line = select(page, *(column.label(name) for name, column in beside.items())).subquery()
    wrong = _wrong(line)
    if last is not None:
        wrong = case((line.c.place == 1, None), else_=wrong)
    ends = or_(line.c.next_account_id.is_(None), line.c.next_account_id != line.c.account_id)
    shown = line.c[
        "entry_id", "position", "version", "account_id", "place", "currency", "normal_balance", *_TOTALS, "account_lock_version"
    ]  # fmt: skip
    return select(wrong.label("wrong"), *shown).where(or_(ends, wrong.is_not(None))).order_by(line.c.place)


def _wrong(line: FromClause) -> ColumnElement[Any]:
    """Return what is wrong with a line beside the one before it of its account, or NULL."""
    follows = func.coalesce(line.c.before_account_id == line.c.account_id, false())
    debit = line.c.direction == "debit"
    differs = []
    for name in _TOTALS:
        moved = line.c.posted_moved if name.startswith("posted") else line.c.pending_moved
        side = debit if name.endswith("debits") else ~debit
        # As a difference: what somebody wrote into a total can be too large to be added to.
        gained = line.c[name] - case((follows, line.c[f"before_{name}"]), else_=0)
        differs.append(gained != case((side, moved), else_=0))
    order = and_(follows, line.c.account_lock_version <= line.c.before_account_lock_version)
    return case(
        (~_moves_its_amount(line), "what it moved is not its amount"),
        (and_(follows, or_(*(line.c[f"before_{name}"] != line.c[name] for name in _OF_ACCOUNT))), _NOT_ITS_ACCOUNTS),
        (or_(*differs, order), "the resulting totals do not follow from the line before it"),
    )


def _moves_its_amount(line: FromClause) -> ColumnElement[bool]:
    return case(
        (line.c.status == "posted", line.c.posted_moved == line.c.amount),
        (line.c.status == "pending", line.c.posted_moved == 0),
        else_=and_(line.c.posted_moved == 0, line.c.pending_moved == -line.c.amount),
    )
