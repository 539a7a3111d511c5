"""What an account's totals were: as of an effective time, as of a version, as known at a recording time, and both together.

What was recorded up to a version stands in that version's line. What took effect by a time is added up from spans (see
`engine.spans`) and, where those do not reach, from the lines themselves: an answer never depends on spans being there.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Final

from msgspec import Struct
from sqlalchemy import ColumnElement, Connection, Select, case, func, select, union_all

from engine.balances import EMPTY, Totals
from engine.errors import VersionUnknown
from engine.schema import lines, span_parts, spans
from engine.spans import (
    FAN_BITS,
    NOTHING,
    SPAN_BITS,
    Range,
    Span,
    Sums,
    bits,
    joined,
    sums_in_part,
    top_level,
)
from engine.sql import among

_SMALL: Final = 1 << SPAN_BITS


class Moment(Struct, frozen=True, kw_only=True):
    """Which past is asked for: what took effect by `as_of`, of what was recorded by `known_at` or by a version.

    Instants are in microseconds and inclusive; None does not narrow. Of `known_at` and `version` at most one is given.
    """

    as_of: int | None = None
    known_at: int | None = None
    version: int | None = None


NOW: Final = Moment()


def totals_at(conn: Connection, site_id: int, account_id: str, present: Totals, moment: Moment) -> Totals:
    """Return an account's totals at a moment; `lock_version` tells up to which version lines were looked at.

    Raises VersionUnknown where the account has not had the version yet.
    """
    version = present.lock_version
    if moment.version is not None:
        if moment.version > version:
            raise VersionUnknown(moment.version, version)
        version = moment.version
    elif moment.known_at is not None:
        version = _version_known(conn, site_id, account_id, moment.known_at, version)
    if moment.as_of is None:
        return present if version == present.lock_version else _recorded(conn, site_id, account_id, version)
    return Totals(*_effective(conn, site_id, account_id, moment.as_of, version), lock_version=version)


def totals_of_several(
    conn: Connection,
    site_id: int,
    present: Mapping[str, Totals],
    moment: Moment,
) -> dict[str, Totals]:
    """Return the totals of several accounts at a moment that names no version, given their present totals."""
    if moment == NOW:
        return dict(present)
    large = {account_id: totals for account_id, totals in present.items() if totals.lock_version > _SMALL}
    found = dict.fromkeys(present, EMPTY)
    small = present.keys() - large.keys()
    if small:
        query = summed(
            lines.c.account_id, where=[lines.c.site_id == site_id, among(lines.c.account_id, small), *_until(moment)]
        )
        for account_id, *sums in conn.execute(query.group_by(lines.c.account_id)):
            debits, credits_, pending_debits, pending_credits = map(int, sums)
            version = present[account_id].lock_version
            found[account_id] = Totals(debits, credits_, pending_debits, pending_credits, version)
    for account_id, totals in large.items():
        found[account_id] = totals_at(conn, site_id, account_id, totals, moment)
    return found


def _until(moment: Moment) -> list[ColumnElement[bool]]:
    bounds: list[ColumnElement[bool]] = []
    if moment.as_of is not None:
        bounds.append(lines.c.effective_at <= moment.as_of)
    if moment.known_at is not None:
        bounds.append(lines.c.created_at <= moment.known_at)
    return bounds


def version_by(conn: Connection, site_id: int, account_id: str, before: int, version: int) -> int:
    """Return the version of the last line that was recorded before an instant, of those up to a version; 0: none."""
    return _version_known(conn, site_id, account_id, before - 1, version)


def _version_known(conn: Connection, site_id: int, account_id: str, known_at: int, version: int) -> int:
    """Return the version of the last line recorded by an instant: times never run backwards along an account."""
    low, high, found = 0, version, 0
    middle = high
    while low < high:
        line = _line_by(conn, site_id, account_id, middle)
        if line is None or line.created_at <= known_at:
            low, found = middle, found if line is None else line.account_lock_version
        else:
            high = line.account_lock_version - 1
        middle = (low + high + 1) // 2
    return found


def _recorded(conn: Connection, site_id: int, account_id: str, version: int) -> Totals:
    line = _line_by(conn, site_id, account_id, version)
    if line is None:
        return EMPTY._replace(lock_version=version)
    return Totals(line.posted_debits, line.posted_credits, line.pending_debits, line.pending_credits, version)


def _line_by(conn: Connection, site_id: int, account_id: str, version: int) -> Any | None:
    query = (
        select(
            lines.c.account_lock_version,
            lines.c.created_at,
            lines.c.posted_debits,
            lines.c.posted_credits,
            lines.c.pending_debits,
            lines.c.pending_credits,
        )
        .where(
            lines.c.site_id == site_id,
            lines.c.account_id == account_id,
            lines.c.account_lock_version <= version,
        )
        .order_by(lines.c.account_lock_version.desc())
        .limit(1)
    )
    return conn.execute(query).first()


def _effective(conn: Connection, site_id: int, account_id: str, at: int, version: int) -> Sums:
    """Return what the lines up to a version that took effect by a time come to.

    From the top level down: a span that lies before the time counts, one after it does not, one around it is looked up in its
    parts or asked for level by level below. What no span covers is added up from the lines.
    """
    sums = NOTHING
    level = top_level(version)
    asked: list[Range] = [(0, version >> bits(level))]
    while level >= 0:
        found = spans_of(conn, site_id, account_id, level, asked)
        below: list[Range] = []
        inside: list[int] = []
        step = FAN_BITS if level else SPAN_BITS
        for low, high in asked:
            for number in range(low, high):
                span = found.get(number)
                if span is None:
                    below.append((number << step, (number + 1) << step))
                elif span.last_at is None or span.first_at is None or at < span.first_at:
                    continue
                elif span.last_at <= at:
                    sums = sums.plus(span.sums)
                elif span.parted:
                    inside.append(number)
                else:
                    below.append((number << step, (number + 1) << step))
        sums = sums.plus(_sums_inside(conn, site_id, account_id, level, inside, at))
        rest = version >> bits(level) << step, (version >> bits(level - 1)) if level else version
        asked = joined([*below, rest])
        level -= 1
    for low, high in asked:
        sums = sums.plus(_sums_of_lines(conn, site_id, account_id, low, high, at))
    return sums


def spans_of(conn: Connection, site_id: int, account_id: str, level: int, numbers: Sequence[Range]) -> dict[int, Span]:
    """Return the spans of a level with these numbers, those that are there."""
    found: dict[int, Span] = {}
    for low, high in numbers:
        query = select(
            spans.c.level,
            spans.c.number,
            spans.c.first_at,
            spans.c.last_at,
            spans.c.posted_debits,
            spans.c.posted_credits,
            spans.c.pending_debits,
            spans.c.pending_credits,
            spans.c.parted,
        ).where(
            spans.c.site_id == site_id,
            spans.c.account_id == account_id,
            spans.c.level == level,
            spans.c.number >= low,
            spans.c.number < high,
        )
        for row in conn.execute(query):
            found[row.number] = Span(
                row.level, row.number, row.first_at, row.last_at, Sums(*row[4:8]), parted=bool(row.parted)
            )
    return found


def _sums_inside(conn: Connection, site_id: int, account_id: str, level: int, numbers: Iterable[int], at: int) -> Sums:
    """Return what the lines of these spans that took effect by a time come to, from one part of each."""
    probes = [
        select(span_parts.c.body)
        .where(
            span_parts.c.site_id == site_id,
            span_parts.c.account_id == account_id,
            span_parts.c.level == level,
            span_parts.c.number == number,
            span_parts.c.first_at <= at,
        )
        .order_by(span_parts.c.first_at.desc(), span_parts.c.place.desc())
        .limit(1)
        .subquery()
        for number in numbers
    ]
    sums = NOTHING
    if probes:
        for body in conn.execute(union_all(*(select(probe.c.body) for probe in probes))).scalars():
            sums = sums.plus(sums_in_part(bytes(body), at))
    return sums


def _sums_of_lines(conn: Connection, site_id: int, account_id: str, above: int, upto: int, at: int) -> Sums:
    query = summed(
        where=[
            lines.c.site_id == site_id,
            lines.c.account_id == account_id,
            lines.c.account_lock_version > above,
            lines.c.account_lock_version <= upto,
            lines.c.effective_at <= at,
        ],
    )
    return Sums(*(int(each or 0) for each in conn.execute(query).one()))


def summed(*columns: ColumnElement[Any], where: Collection[ColumnElement[bool]]) -> Select[Any]:
    """Return the question for what lines moved of the four totals, after the columns that they are grouped by."""
    debit = lines.c.direction == "debit"
    return select(
        *columns,
        func.sum(case((debit, lines.c.posted_moved), else_=0)),
        func.sum(case((debit, 0), else_=lines.c.posted_moved)),
        func.sum(case((debit, lines.c.pending_moved), else_=0)),
        func.sum(case((debit, 0), else_=lines.c.pending_moved)),
    ).where(*where)
