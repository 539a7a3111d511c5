"""Accounts as they are now, for whoever asks: all who ask a site for some at the same time share one statement.

The statement is one journey and one snapshot, the feed's head in it.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple, cast

from sqlalchemy import Connection, Select, bindparam, column, func, select, true
from sqlalchemy.dialects.postgresql import ARRAY

from engine import feed, store
from engine.balances import Totals
from engine.databases import Database
from engine.feed import HEAD, Head
from engine.rows import AccountRow
from engine.schema import accounts, balances, feeds
from engine.together import Together

_TOTALS: Final = balances.c["posted_debits", "posted_credits", "pending_debits", "pending_credits", "lock_version"]


class Present(NamedTuple):
    """The head of a feed, and accounts with their totals by id, those that there are, as of one snapshot."""

    head: Head
    accounts: dict[str, tuple[AccountRow, Totals]]


class Reader:
    """Whoever reads where a site's feed ends, or its accounts, in this process."""

    def __init__(self, database: Database, site_id: int) -> None:
        self._database = database
        self._site_id = site_id
        self._together: Together[str | None, Present] = Together(self._read)

    async def read(self, account_id: str | None = None) -> Present:
        """Return a snapshot with this account, if there is one; others may be in it. Raises what the database raises."""
        return await self._together.ask(account_id)

    async def _read(self, asked: list[str | None]) -> Present:
        wanted = [each for each in asked if each is not None]
        return await self._database.read_once(
            lambda conn: read_present(conn, self._site_id, wanted), site_id=self._site_id
        )


def read_present(conn: Connection, site_id: int, wanted: list[str]) -> Present:
    """Return the feed's head and the accounts with these ids that there are, by one statement where there is a journey to save.

    Raises SiteUnknown.
    """
    if conn.dialect.name != "postgresql":
        head = feed.read_head(conn, site_id)
        return Present(head, {row["id"]: (row, totals) for row, totals in store.accounts_by_id(conn, site_id, wanted)})
    rows = conn.execute(_PRESENT, {"site_id": site_id, "ids": wanted}).all()
    head = feed.head_of(rows[0] if rows else None, site_id)
    found: dict[str, tuple[AccountRow, Totals]] = {}
    for row in rows:
        values = row[len(HEAD) :]
        account = dict(zip(accounts.c.keys(), values, strict=False))
        if account["id"] is not None:
            found[account["id"]] = cast("AccountRow", account), Totals(*values[len(accounts.c) :])
    return Present(head, found)


def _present() -> Select[Any]:
    """Return the statement: a look by the whole key for each account, and for its totals, whatever the planner thinks of their number."""
    site_id = bindparam("site_id", type_=feeds.c.site_id.type)
    given = (
        func.unnest(bindparam("ids", type_=ARRAY(accounts.c.id.type)))
        .table_valued(column("id", accounts.c.id.type))
        .render_derived("given")
    )
    account = select(accounts).where(accounts.c.site_id == site_id, accounts.c.id == given.c.id).offset(0)
    row = account.lateral("account")
    totals = (
        select(*_TOTALS)
        .where(balances.c.site_id == site_id, balances.c.account_id == row.c.id)
        .offset(0)
        .lateral("totals")
    )
    beside = given.join(row, true()).join(totals, true())
    found = select(*row.c, *(each.label(f"of_{each.name}") for each in totals.c)).select_from(beside).subquery("found")
    return select(*HEAD, *found.c).select_from(feeds.outerjoin(found, true())).where(feeds.c.site_id == site_id)


_PRESENT: Final = _present()
