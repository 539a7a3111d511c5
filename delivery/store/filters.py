"""Which deliveries: what a list or a replay asks for, as conditions that indexes serve."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import ColumnElement, Select, TextClause, literal, or_, select, text, true

from delivery.schema import UNDELIVERED, deliveries
from engine.ids import uuid7
from engine.schema import events
from engine.sql import among

_UNFINISHED: Final = frozenset({"pending", "in_flight", "retrying"})
_TROUBLED: Final = frozenset({"retrying", "exhausted", "skipped"})
UNDELIVERED_STATES: Final = frozenset({"pending", "retrying", "exhausted", "skipped"})
# Ids carry the millisecond of their row and may run ahead of the clock a little, never behind it.
_ID_SLACK_US: Final = 60_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """All deliveries that match everything given; instants are microseconds, bounds are inclusive."""

    endpoint_id: str | None = None
    event_types: tuple[str, ...] | None = None
    states: tuple[str, ...] | None = None
    created_from: int | None = None
    created_to: int | None = None
    sequence_from: int | None = None
    sequence_to: int | None = None
    event_id: str | None = None
    correlation_id: str | None = None
    errors: tuple[str, ...] | None = None
    answered: bool | None = None
    """True: the last attempt had an answer of 2xx; False: attempts were made and the last one had no answer at all."""


def matching(site_id: int, wanted: Wanted) -> list[ColumnElement[bool] | TextClause]:
    """Return the conditions of what is wanted on a site."""
    columns = deliveries.c
    found: list[ColumnElement[bool] | TextClause] = [columns.site_id == site_id]
    if wanted.endpoint_id is not None:
        found.append(columns.endpoint_id == wanted.endpoint_id)
    if wanted.event_types is not None:
        found.append(among(columns.event_type, wanted.event_types))
    if wanted.states is not None:
        found.append(_in_states(wanted.states))
    if wanted.created_from is not None:
        found += [columns.id >= first_id(wanted.created_from), columns.created_at >= wanted.created_from]
    if wanted.created_to is not None:
        found += [columns.id <= first_id(wanted.created_to + _ID_SLACK_US), columns.created_at <= wanted.created_to]
    if wanted.sequence_from is not None:
        found.append(columns.sequence >= wanted.sequence_from)
    if wanted.sequence_to is not None:
        found.append(columns.sequence <= wanted.sequence_to)
    if wanted.event_id is not None:
        found.append(columns.sequence.in_(_events(site_id).where(events.c.id == wanted.event_id)))
    if wanted.correlation_id is not None:
        found.append(columns.sequence.in_(_events(site_id).where(events.c.correlation_id == wanted.correlation_id)))
    if wanted.errors is not None:
        one = len(wanted.errors) == 1
        cause = columns.last_error == wanted.errors[0] if one else among(columns.last_error, wanted.errors)
        found += [columns.last_error.is_not(None), cause]
    if wanted.answered is True:
        found += [columns.last_error.is_(None), columns.last_status.between(200, 299)]
    elif wanted.answered is False:
        found += [columns.last_error.is_not(None), columns.last_status.is_(None)]
    return found


def few(wanted: Wanted) -> bool:
    """Tell whether what is wanted is found through an index of few rows: what is in trouble, or of one cause."""
    states = frozenset(wanted.states or ())
    troubled = wanted.states is not None and (states <= _TROUBLED or states == UNDELIVERED_STATES)
    return troubled or wanted.errors is not None or wanted.event_id is not None or wanted.correlation_id is not None


def _events(site_id: int) -> Select[int]:
    return select(events.c.sequence).where(events.c.site_id == site_id)


def _in_states(states: Sequence[str]) -> ColumnElement[bool] | TextClause:
    """Return the condition of the states, written so that a partial index of such rows may serve it."""
    if frozenset(states) == UNDELIVERED_STATES:
        return UNDELIVERED
    # Written out, not bound: a partial index is only considered for a value that the planner can see.
    exact = or_(*(deliveries.c.state == literal(state, literal_execute=True) for state in sorted(set(states))))
    if set(states) <= _TROUBLED:
        # SQLite takes a partial index only for the very words of its condition; it draws no conclusions.
        return exact & text("deliveries.state IN ('retrying', 'exhausted', 'skipped')")
    return exact & (deliveries.c.due_at.is_not(None) if set(states) <= _UNFINISHED else true())


def first_id(at_us: int) -> str:
    """Return the smallest id that a row made at an instant, or later, may have."""
    return uuid7(max(at_us // 1000, 0), 0, 0)
