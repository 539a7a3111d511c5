"""Sending again: a delivery that was settled, or waits for its retry, is queued for one more attempt and a fresh schedule."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from sqlalchemy import Connection

from delivery.rows import DeliveryRow
from delivery.schema import LANE_AGAIN
from delivery.store.deliveries import update_deliveries
from delivery.store.replays import Change, change_counts

ALREADY_QUEUED = frozenset({"pending", "in_flight"})
"""What is about to be sent, or under way: nothing is gained by queueing it once more."""


def requeue(
    conn: Connection, site_id: int, rows: Sequence[DeliveryRow], replay_id: str | None, now_us: int
) -> list[DeliveryRow]:
    """Queue deliveries of locked endpoints and return them; `replay_id` is the replay that counts what becomes of them.

    What another replay was still waiting for is no longer its own: it counts it as skipped.
    """
    left = Counter(
        (row.replay_id, row.endpoint_id) for row in rows if row.replay_id is not None and row.due_at is not None
    )
    changes = {place: Change(queued=-number, skipped=number) for place, number in left.items()}
    change_counts(conn, site_id, changes)
    queued = [
        replace(
            row,
            state="pending",
            reason=None,
            failures=0,
            trigger="replay",
            due_at=now_us,
            lane=LANE_AGAIN,
            replay_id=replay_id,
            updated_at=now_us,
        )
        for row in rows
    ]
    update_deliveries(conn, site_id, queued)
    return queued
