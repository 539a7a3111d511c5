"""Sending again: a delivery that was settled, or waits for its retry, is queued for one more attempt and a fresh schedule."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from msgspec.structs import replace
from sqlalchemy import Connection

from delivery.order import park_again
from delivery.rows import DeliveryRow, EndpointRow
from delivery.schema import LANE_AGAIN
from delivery.store.replays import Change

ALREADY_QUEUED = frozenset({"pending", "in_flight"})
"""What is about to be sent, or under way: nothing is gained by queueing it once more."""


def taken_over(rows: Iterable[DeliveryRow]) -> dict[tuple[str, str], Change]:
    """Return by how much the counts of parts change, by replay and endpoint, when these deliveries are queued.

    What another replay was still waiting for is no longer its own: it counts it as skipped.
    """
    left = Counter(
        (row.replay_id, row.endpoint_id) for row in rows if row.replay_id is not None and row.due_at is not None
    )
    return {place: Change(queued=-number, skipped=number) for place, number in left.items()}


def requeue(
    conn: Connection,
    site_id: int,
    endpoint: EndpointRow,
    rows: Sequence[DeliveryRow],
    replay_id: str | None,
    now_us: int,
) -> list[DeliveryRow]:
    """Return deliveries of a locked endpoint as they are when they are queued; `replay_id` is the replay that counts what becomes of them.

    Of a replay those behind wait for those before where the endpoint asks for order. The caller stores them, in the same transaction, and
    what `taken_over` says.
    """
    queued = [
        replace(
            row,
            state="pending",
            reason=None,
            failures=0,
            trigger="replay",
            due_at=now_us,
            lane=LANE_AGAIN,
            waits_for=0,
            replay_id=replay_id,
            updated_at=now_us,
        )
        for row in rows
    ]
    return queued if replay_id is None else park_again(conn, site_id, queued, endpoint, replay_id)
