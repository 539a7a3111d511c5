"""Replay beside live traffic: many deliveries sent again while entries are posted by a schedule to the same endpoint.

    python -m bench.replaying [--deliveries 100000] [--seconds 20]

The p99 from commit to arrival of what is live is compared with that of the same run without a replay. In the end everything that
was posted is delivered, and the replay's own counts add up; else the measurement is void.
"""

from __future__ import annotations

import argparse
import time
from contextlib import ExitStack
from typing import Any

from bench.delivery import AT_ONCE, RATE_PER_S, Scene
from bench.entries import BULK, bulk, post_some
from bench.ground import Ground, accounts, call, ground, token
from bench.peers import peer
from bench.receiver import Arrival
from bench.table import Line, Target, percentile, show
from tests.servers import free_port

REPLAY_TIMEOUT_S = 1_200.0


def measure(base: Ground, deliveries: int, seconds: float) -> list[Line]:
    """Fill an endpoint's past, then post with and without a replay of it beside."""
    with ExitStack() as held:
        receiver_port = free_port()
        port = held.enter_context(base.gateway()).port
        bearer = token(port, base.credentials)
        scene = Scene(
            base=base,
            receiver=held.enter_context(peer("bench.receiver", str(receiver_port))),
            receiver_port=receiver_port,
            port=port,
            bearer=bearer,
            ids=accounts(port, bearer, 2 * BULK),
        )
        endpoints = scene.subscribe("partner-0", max_in_flight=AT_ONCE)
        held.enter_context(base.process("worker"))
        posted = post_some(port, 2, max(1, deliveries // BULK), bulk(bearer, scene.ids)).done * BULK
        scene.arrived(posted, endpoints)
        posted, alone = _live(scene, endpoints, seconds, posted)
        began = time.monotonic()
        body = {"filter": {"endpoint_id": endpoints[0], "sequence_to": 10**17}}
        replay = call(port, bearer, "POST", "/v1/replays", body)
        since = time.time_ns() // 1000
        posted += scene.post(RATE_PER_S, seconds).done
        done = _finished(base, port, replay["id"])
        took_s = time.monotonic() - began
        beside = [each for each in scene.arrived(posted, endpoints) if each.scheduled_at >= since]
    base.verify()
    if done["delivered"] != done["total"]:
        raise SystemExit(f"void: the replay of {done['total']} delivered {done['delivered']}")
    without, with_replay = _p99(alone), _p99(beside)
    return [
        Line(name="200/s live: commit → received, p99", value=without, unit="ms"),
        Line(name="the same while a replay runs", value=with_replay, unit="ms", baseline=without),
        Line(
            name="p99 with / without a replay",
            value=with_replay / without,
            unit="x",
            target=Target(goal=1.1, bound=1.2, side="most"),
        ),
        Line(name=f"{done['total']:,} deliveries replayed", value=done["total"] / took_s, unit="deliveries/s"),
    ]


def _live(scene: Scene, endpoints: list[str], seconds: float, before: int) -> tuple[int, list[Arrival]]:
    """Post by a schedule; return how many entries there are now, and what arrived of those of the schedule."""
    since = time.time_ns() // 1000
    posted = before + scene.post(RATE_PER_S, seconds).done
    return posted, [each for each in scene.arrived(posted, endpoints) if each.scheduled_at >= since]


def _finished(base: Ground, port: int, replay_id: str) -> dict[str, Any]:
    deadline = time.monotonic() + REPLAY_TIMEOUT_S
    while True:
        # A token lives for ten minutes, and a replay may take longer.
        found: dict[str, Any] = call(port, token(port, base.credentials), "GET", f"/v1/replays/{replay_id}")
        if found["status"] == "completed":
            return found
        if time.monotonic() > deadline:
            raise SystemExit(f"void: the replay is not finished in {REPLAY_TIMEOUT_S:g} s: {found}")
        time.sleep(1)


def _p99(arrivals: list[Arrival]) -> float:
    return percentile([(each.received_at - each.committed_at) / 1000 for each in arrivals], 0.99)


def main() -> None:
    """Measure as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--deliveries", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=20.0)
    given = parser.parse_args()
    with ground(RATE_LIMIT_PER_S="0") as base:
        show("Replay", measure(base, given.deliveries, given.seconds))


if __name__ == "__main__":
    main()
