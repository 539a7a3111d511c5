"""The audit of spans: each is made again, those of the lowest level from lines, and compared with what is stored."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import Connection, func, select, union

from engine.finding import Finding
from engine.history import spans_of, summed
from engine.pieces import Ids, within
from engine.schema import lines, span_parts, spans
from engine.spanning import lines_of
from engine.spans import (
    FAN_BITS,
    PARTS_LEVEL_MAX,
    SPAN_BITS,
    Part,
    Span,
    Sums,
    bits,
    in_order,
    parts_of,
    span_of_spans,
)

_SPANS_AT_ONCE: Final = 4_096


def verify_spans(conn: Connection, site_id: int, ids: Ids) -> Finding | None:
    """Return the first span of accounts with these ids that is not what its lines come to, or None."""
    of_them = [
        within(select(table.c.account_id), table, table.c.account_id, site_id, ids.after, ids.until)
        for table in (spans, span_parts)
    ]
    for account_id in sorted(conn.execute(union(*of_them)).scalars()):
        found = _wrong_spans(conn, site_id, account_id)
        if found is not None:
            return found
    return None


def _wrong_spans(conn: Connection, site_id: int, account_id: str) -> Finding | None:
    last = func.max(spans.c.number)
    query = select(spans.c.level, last).where(spans.c.site_id == site_id, spans.c.account_id == account_id)
    ends = {level: number + 1 for level, number in conn.execute(query.group_by(spans.c.level))}
    below: dict[int, Span] = {}
    parted: set[tuple[int, int]] = set()
    for level in range(max(ends, default=-1) + 1):
        stored = spans_of(conn, site_id, account_id, level, [(0, ends.get(level, 0))])
        made: dict[int, Span] = {}
        if level == 0:
            for start in range(0, ends.get(level, 0), _SPANS_AT_ONCE):
                made |= _grounded(conn, site_id, account_id, start, min(ends[level], start + _SPANS_AT_ONCE))
        else:
            made = {
                number: _raised(level, number, below)
                for number in range(ends.get(level, 0))
                if (number + 1) << FAN_BITS <= len(below)
            }
        for number in range(ends.get(level, 0)):
            if stored.get(number) != made.get(number):
                return _finding("spans", account_id, level, number, "it is not what its lines come to")
        parted |= {(level, number) for number, span in stored.items() if span.parted}
        below = stored
    return _wrong_parts(conn, site_id, account_id, parted)


def _finding(table: str, account_id: str, level: int, number: int, detail: str) -> Finding:
    return Finding(table=table, row=f"account {account_id} level {level} number {number}", detail=detail)


def _grounded(conn: Connection, site_id: int, account_id: str, first: int, end: int) -> dict[int, Span]:
    """Return the spans of the lowest level, added up by the database; only those whose versions are all there."""
    number = (lines.c.account_lock_version - 1) // (1 << SPAN_BITS)
    query = summed(
        number.label("number"),
        func.min(lines.c.effective_at),
        func.max(lines.c.effective_at),
        where=[
            lines.c.site_id == site_id,
            lines.c.account_id == account_id,
            lines.c.account_lock_version > first << SPAN_BITS,
            lines.c.account_lock_version <= end << SPAN_BITS,
        ],
    )
    found = {each: Span(0, each, None, None, Sums(0, 0, 0, 0), parted=False) for each in range(first, end)}
    for row in conn.execute(query.group_by(number)):
        found[row[0]] = _span(row)
    return found


def _span(row: Any) -> Span:
    return Span(0, row[0], row[1], row[2], Sums(*map(int, row[3:7])), parted=False)


def _raised(level: int, number: int, below: dict[int, Span]) -> Span:
    own = [below[each] for each in range(number << FAN_BITS, (number + 1) << FAN_BITS)]
    return span_of_spans(level, number, own, parted=level <= PARTS_LEVEL_MAX and not in_order(own))


def _wrong_parts(conn: Connection, site_id: int, account_id: str, parted: set[tuple[int, int]]) -> Finding | None:
    of_account = (span_parts.c.site_id == site_id, span_parts.c.account_id == account_id)
    query = select(span_parts.c.level, span_parts.c.number).where(*of_account).distinct()
    held = {(row.level, row.number) for row in conn.execute(query)}
    for level, number in sorted(held | parted):
        columns = select(span_parts.c.first_at, span_parts.c.place, span_parts.c.body).where(
            *of_account, span_parts.c.level == level, span_parts.c.number == number
        )
        ordered = columns.order_by(span_parts.c.place)
        stored = [Part(row.first_at, row.place, bytes(row.body)) for row in conn.execute(ordered)]
        low, high = number << bits(level), (number + 1) << bits(level)
        made = parts_of(lines_of(conn, site_id, account_id, low, high))
        # A builder that died may have left some of a span's parts: they are right, and the next one adds the others.
        if stored != made and ((level, number) in parted or not set(stored) <= set(made)):
            return _finding("span_parts", account_id, level, number, "they are not what its lines come to")
    return None
