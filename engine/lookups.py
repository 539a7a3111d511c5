"""Rows of a site that are looked up by many keys, each by itself, whatever the planner believes about how many a site has.

With `key = ANY (array)` it may read the whole site once and compare, and does where its statistics do not know the site.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Column, ColumnElement, Connection, Select, bindparam, func, select, true
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.engine import Row

from engine.databases import begin_with
from engine.sql import among_given


@dataclass(frozen=True, slots=True, kw_only=True)
class Lookup:
    """A statement that finds rows by a column which is unique in a site; made once, because to make one costs more than to run it."""

    one_by_one: Select[Any]
    at_once: Select[Any]

    def rows(self, conn: Connection, site_id: int, keys: Sequence[Any]) -> Sequence[Row[Any]]:
        """Return the rows with these keys, in no order."""
        query = self.one_by_one if conn.dialect.name == "postgresql" else self.at_once
        return conn.execute(query, {"site": site_id, "keys": keys}).all()


def lookup(columns: Sequence[ColumnElement[Any]], key: Column[Any], *conditions: ColumnElement[bool]) -> Lookup:
    """Return what finds these columns of the key's table by it, of rows that fulfil the conditions."""
    found = select(*columns).where(key.table.c.site_id == bindparam("site"), *conditions)
    given = func.unnest(bindparam("keys", type_=ARRAY(key.type))).table_valued("key", name="given").render_derived()
    # As a stretch of one, in its order: of several indexes that begin with the site, which seem to cost the same where little is
    # known, the one is taken that has the order.
    stretch = found.where(key >= given.c.key, key <= given.c.key).order_by(key)
    one = stretch.limit(1).correlate(given).lateral("found")
    return Lookup(
        one_by_one=select(one).select_from(given.join(one, true())),
        at_once=found.where(among_given(key, "keys")),
    )


def plan_once(conn: Connection) -> None:
    """Let what this transaction asks be planned once for a connection, and in order; for statements that no statistics lead astray.

    Planning them each time costs PostgreSQL a third of a small transaction. A plan is kept for some seconds: while a table is nearly
    empty any index will do, and what was planned then must not be what a million rows are read by.
    """
    if conn.dialect.name == "postgresql":
        begin_with(conn, _PLAN_ONCE)
    plan_afresh(conn)


def plan_afresh(conn: Connection) -> None:
    """Let nothing be run by a plan that this connection has kept for longer than some seconds."""
    if conn.dialect.name == "postgresql":
        now = time.monotonic()
        if now >= conn.info.get(_KEPT_UNTIL, 0.0):
            conn.exec_driver_sql("DISCARD PLANS")
            conn.info[_KEPT_UNTIL] = now + PLANS_KEPT_S


@contextmanager
def in_order(conn: Connection) -> Iterator[None]:
    """Let what is asked in the block in some order be read by the index that has it.

    Where rows change often that index grows for a while larger than any other; then to read all that a shorter key leads to, and to
    sort it, seems to cost less.
    """
    if conn.dialect.name == "postgresql":
        conn.exec_driver_sql("SET LOCAL enable_sort = off")
    yield
    # Not after an error: the transaction is over then, and its settings with it.
    if conn.dialect.name == "postgresql":
        conn.exec_driver_sql("SET LOCAL enable_sort = on")


PLANS_KEPT_S: Final = 5.0
_KEPT_UNTIL: Final = "gledger.plans_kept_until"
_PLAN_ONCE: Final = (
    "SELECT set_config('plan_cache_mode', 'force_generic_plan', true), set_config('enable_sort', 'off', true);"
)
