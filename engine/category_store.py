"""The SQL of categories and monitors for a batch: what follows from the accounts it touches, and how that is written.

Accounts in no category and without a monitor cost nothing here: their rows say so.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Final

from sqlalchemy import (
    CTE,
    BigInteger,
    Connection,
    Integer,
    Select,
    and_,
    bindparam,
    column,
    delete,
    func,
    literal_column,
    not_,
    select,
    true,
)
from sqlalchemy.dialects.postgresql import ARRAY

from engine.balances import EMPTY, Totals
from engine.books import Books
from engine.schema import (
    account_categories,
    balance_monitors,
    balances,
    category_accounts,
    category_balances,
    category_links,
)
from engine.sql import Insert, Update, among, insert_rows

Link = tuple[str, str]
_HALF: Final = literal_column("32", Integer)
_LOW: Final = literal_column("4294967295", BigInteger)


def subjects(books: Books) -> dict[str, set[str]]:
    """Return the accounts and the categories that the known monitors watch."""
    found: dict[str, set[str]] = {"account": set(), "account_category": set()}
    for row in books.known("balance_monitor"):
        found[row["subject"]].add(row["subject_id"])
    return found


def learn(
    conn: Connection,
    site_id: int,
    books: Books,
    wanted: Collection[str],
    changing: Sequence[tuple[str, str, bool]] = (),
) -> None:
    """Let the books know the categories of their accounts, some more, and every monitor that may be set off.

    `changing` are links about to change: parent, child, and whether the child will be inside.
    """
    placed = [row["id"] for row in books.accounts() if row["categories"]]
    direct = _direct(conn, site_id, placed) if placed else []
    seeds = {category_id for _, category_id in direct}.union(wanted)
    above = _above(conn, site_id, seeds) if seeds else []
    known = {high for _, high in above}
    if known:
        query = select(account_categories).where(
            account_categories.c.site_id == site_id, among(account_categories.c.id, known)
        )
        books.learn(resources=[("account_category", dict(row)) for row in conn.execute(query).mappings()])
        books.membership.learn(direct=direct, above=above, totals=totals_of(conn, site_id, known).items())
    for parent_id, child_id, inside in changing:
        highest = books.membership.above(parent_id)
        without = None if inside else (parent_id, child_id)
        books.membership.learn(
            links=[((parent_id, child_id), _linked(conn, site_id, parent_id, child_id))],
            unions=[
                (each, sum_below(conn, site_id, {each, child_id} if inside else {each}, without)) for each in highest
            ],
        )
    watched = [row["id"] for row in (*books.accounts(), *books.known("account_category")) if row["monitors"]]
    if watched:
        query = _active_monitors(conn.dialect.name, site_id, watched)
        books.learn(resources=[("balance_monitor", dict(row)) for row in conn.execute(query).mappings()])


def _active_monitors(dialect: str, site_id: int, subject_ids: Sequence[str]) -> Select[Any]:
    monitors = balance_monitors.c
    active = select(balance_monitors).where(monitors.site_id == site_id, monitors.status == "active")
    if dialect != "postgresql":
        return active.where(among(monitors.subject_id, subject_ids))
    # One look for each subject, for the same reason as above a category.
    subject_type = monitors.subject_id.type
    subjects = func.unnest(bindparam(None, list(subject_ids), type_=ARRAY(subject_type), unique=True))
    given = subjects.table_valued(column("id", subject_type)).render_derived()
    found = active.where(monitors.subject_id == given.c.id).offset(0).lateral("found")
    return select(found).select_from(given.join(found, true()))


def totals_of(conn: Connection, site_id: int, wanted: Collection[str]) -> dict[str, Totals]:
    """Return what categories come to, by category."""
    columns = category_balances.c
    query = select(
        columns.category_id,
        columns.posted_debits,
        columns.posted_credits,
        columns.pending_debits,
        columns.pending_credits,
        columns.lock_version,
    ).where(columns.site_id == site_id, among(columns.category_id, wanted))
    return {category_id: Totals(*found) for category_id, *found in conn.execute(query)}


def moved(site_id: int, new: Mapping[str, Totals], changed: Mapping[str, Totals]) -> list[Insert | Update]:
    """Return how what categories come to is written."""
    given, kept = (
        [{"site_id": site_id, "category_id": category_id, **totals._asdict()} for category_id, totals in each.items()]
        for each in (new, changed)
    )
    return [
        Insert(table=category_balances, rows=given),
        Update(table=category_balances, keys=("site_id", "category_id"), rows=kept),
    ]


def save_places(
    conn: Connection,
    site_id: int,
    placed: Mapping[Link, tuple[bool, bool]],
    linked: Mapping[Link, bool],
) -> None:
    """Write which accounts are in which categories, each as it was before the batch and after it, and the links."""
    entered = [place for place, (was, inside) in placed.items() if inside and not was]
    insert_rows(conn, category_accounts, [dict(zip(_PLACE, (site_id, *place), strict=True)) for place in entered])
    for category_id, account_id in (place for place, (was, inside) in placed.items() if was and not inside):
        places = category_accounts.c
        conn.execute(
            delete(category_accounts).where(
                places.site_id == site_id, places.category_id == category_id, places.account_id == account_id
            ),
        )
    for (parent_id, child_id), inside in linked.items():
        if inside:
            insert_rows(conn, category_links, [{"site_id": site_id, "parent_id": parent_id, "child_id": child_id}])
        else:
            conn.execute(delete(category_links).where(_is_link(site_id, parent_id, child_id)))


_PLACE: Final = ("site_id", "category_id", "account_id")


def above_of(dialect: str, site_id: int, seeds: Iterable[str]) -> CTE:
    """Return categories paired with everything above them and with themselves, as `low` and `high`."""
    columns = account_categories.c
    start = select(columns.id.label("low"), columns.id.label("high")).where(
        columns.site_id == site_id, among(columns.id, seeds)
    )
    up = start.cte("up", recursive=True)
    links = category_links.c
    step = select(links.parent_id).where(links.site_id == site_id, links.child_id == up.c.high)
    if dialect == "postgresql":
        # One look for each category on the way: as a plain join all links of a site would be read where the planner takes
        # it for small. The offset keeps the planner from making a plain join of it.
        found = step.offset(0).lateral("found")
        return up.union(select(up.c.low, found.c.parent_id).select_from(up.join(found, true())))
    return up.union(select(up.c.low, links.parent_id).where(links.site_id == site_id, links.child_id == up.c.high))


def below_of(site_id: int, roots: Iterable[str], without: Link | None = None) -> CTE:
    """Return categories and everything below them as `id`, as if one link were not there."""
    columns, links = account_categories.c, category_links.c
    down = (
        select(columns.id.label("id"))
        .where(columns.site_id == site_id, among(columns.id, roots))
        .cte("down", recursive=True)
    )
    step = select(links.child_id).where(links.site_id == site_id, links.parent_id == down.c.id)
    if without is not None:
        step = step.where(not_(and_(links.parent_id == without[0], links.child_id == without[1])))
    return down.union(step)


def accounts_below(site_id: int, roots: Iterable[str], without: Link | None = None) -> Select[Any]:
    """Return the accounts that count in any of the categories, each once."""
    down = below_of(site_id, roots, without)
    return (
        select(category_accounts.c.account_id)
        .where(category_accounts.c.site_id == site_id, category_accounts.c.category_id.in_(select(down.c.id)))
        .distinct()
    )


def sum_below(conn: Connection, site_id: int, roots: Iterable[str], without: Link | None = None) -> Totals:
    """Add up the accounts that count in any of the categories, each once.

    High and low halves apart: the sum of many 64-bit totals may not fit what a database adds up in.
    """
    inside = accounts_below(site_id, roots, without).subquery()
    columns = (
        balances.c.posted_debits,
        balances.c.posted_credits,
        balances.c.pending_debits,
        balances.c.pending_credits,
    )
    sums = [func.sum(half) for each in columns for half in (each.op(">>")(_HALF), each.op("&")(_LOW))]
    query = (
        select(*sums)
        .select_from(inside)
        .join(balances, and_(balances.c.site_id == site_id, balances.c.account_id == inside.c.account_id))
    )
    halves = [int(each or 0) for each in conn.execute(query).one()]
    sides = [(high << 32) + low for high, low in zip(halves[::2], halves[1::2], strict=True)]
    return Totals(sides[0], sides[1], sides[2], sides[3], EMPTY.lock_version)


def balances_below(conn: Connection, site_id: int, category_id: str) -> dict[str, Totals]:
    """Return the totals of every account that counts in a category, by account."""
    inside = accounts_below(site_id, [category_id]).subquery()
    query = select(
        balances.c.account_id,
        balances.c.posted_debits,
        balances.c.posted_credits,
        balances.c.pending_debits,
        balances.c.pending_credits,
        balances.c.lock_version,
    ).join(inside, and_(balances.c.site_id == site_id, balances.c.account_id == inside.c.account_id))
    return {account_id: Totals(*found) for account_id, *found in conn.execute(query)}


def _above(conn: Connection, site_id: int, seeds: Iterable[str]) -> list[Link]:
    pairs = above_of(conn.dialect.name, site_id, seeds).c
    return [(low, high) for low, high in conn.execute(select(pairs.low, pairs.high))]


def _direct(conn: Connection, site_id: int, account_ids: Sequence[str]) -> list[Link]:
    columns = category_accounts.c
    query = select(columns.account_id, columns.category_id).where(
        columns.site_id == site_id, among(columns.account_id, account_ids)
    )
    return [(account_id, category_id) for account_id, category_id in conn.execute(query)]


def _linked(conn: Connection, site_id: int, parent_id: str, child_id: str) -> bool:
    query = select(category_links.c.child_id).where(_is_link(site_id, parent_id, child_id))
    return conn.execute(query).first() is not None


def _is_link(site_id: int, parent_id: str, child_id: str) -> Any:
    links = category_links.c
    return and_(links.site_id == site_id, links.parent_id == parent_id, links.child_id == child_id)
