"""A turn of dispatch at one site, as one transaction: settle what came back, then claim what goes out next.

Locks are taken in one order by everybody who takes several: the site, then endpoints by id. So both halves lock together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from delivery.bodies import Bodies
from delivery.claim import Claim, claim
from delivery.failing import Policy
from delivery.settle import Finished, Settlement, may_change_status, settle
from delivery.store.endpoints import lock_endpoints, standing
from engine import feed
from engine.lookups import plan_once
from engine.sql import write


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """What goes into a turn: attempts that are over, endpoints to claim at, and places that are free for requests."""

    finished: Sequence[Finished]
    endpoint_ids: Sequence[str]
    free: int


def take_turn(
    conn: Connection,
    site_id: int,
    turn: Turn,
    bodies: Bodies,
    *,
    now_us: int,
    policy: Policy,
    settle_margin_us: int,
    chance: Callable[[], float],
) -> tuple[Settlement, Claim]:
    """Settle and claim; nothing of it is stored if any of it fails."""
    plan_once(conn)
    locks_site = may_change_status(turn.finished, policy, now_us)
    head = feed.lock_head(conn, site_id).sequence if locks_site else None
    involved = {one.claimed.endpoint.id for one in turn.finished} | set(turn.endpoint_ids)
    locked = lock_endpoints(conn, site_id, involved)
    settlement = settle(conn, site_id, turn.finished, locked, head=head, now_us=now_us, policy=policy, chance=chance)
    claimed = claim(
        conn,
        site_id,
        turn.endpoint_ids,
        settlement.endpoints,
        bodies,
        now_us=now_us,
        free=turn.free,
        settle_margin_us=settle_margin_us,
    )
    write(conn, [*claimed.changes, standing(site_id, claimed.standings)])
    return settlement, claimed
