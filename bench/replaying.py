"""Replay beside live traffic: many deliveries sent again while entries are posted by a schedule to the same endpoint.

    python -m bench.replaying [--deliveries 100000] [--seconds 8]

The replay is paused and resumed in turns, and the p99 from commit to arrival of what is live while it runs is compared with that
while it is paused: medians of the turns, the first half of each left out, because a replay begins slowly. In the end everything that was posted is delivered, and the replay's own counts add up; else the
measurement is void.
"""

from __future__ import annotations

import argparse
import statistics
import time
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

from bench.delivery import AT_ONCE, RATE_PER_S, Scene
from bench.entries import BULK, bulk, post_some
from bench.ground import Ground, accounts, call, ground, token
from bench.peers import peer
from bench.receiver import Arrival
from bench.table import Line, Target, percentile, show
from tests.servers import free_port

REPLAY_TIMEOUT_S = 1_200.0
ROUNDS = 15
"""Short turns and many: where the disk stops for some tenths of a second, that is one turn in which it did."""


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
        # A token lives for ten minutes, and everything here may take some of them.
        scene = replace(scene, bearer=token(port, base.credentials))
        began = time.monotonic()
        body = {"filter": {"endpoint_id": endpoints[0], "sequence_to": 10**17}}
        replay = call(port, scene.bearer, "POST", "/v1/replays", body)["id"]
        turns: list[tuple[bool, int, int]] = []
        rested_s = 0.0
        for beside in (False, True) * ROUNDS:
            call(port, scene.bearer, "POST", f"/v1/replays/{replay}/{'resume' if beside else 'pause'}")
            since, started = time.time_ns() // 1000 + round(seconds * 500_000), time.monotonic()
            posted += scene.post(RATE_PER_S, seconds).done
            turns.append((beside, since, time.time_ns() // 1000))
            rested_s += 0.0 if beside else time.monotonic() - started
        done = _finished(base, port, replay)
        took_s = time.monotonic() - began - rested_s
        arrivals = scene.arrived(posted, endpoints)
    base.verify()
    if done["delivered"] != done["total"]:
        raise SystemExit(f"void: the replay of {done['total']} delivered {done['delivered']}")
    without, with_replay = (
        statistics.median(_p99(arrivals, since, until) for beside, since, until in turns if beside is wanted)
        for wanted in (False, True)
    )
    return [
        Line(name="200/s live, the replay paused: commit → received, p99", value=without, unit="ms"),
        Line(name="the same while it runs", value=with_replay, unit="ms", baseline=without),
        Line(
            name="p99 with / without a replay",
            value=with_replay / without,
            unit="x",
            target=Target(goal=1.1, bound=1.2, side="most"),
        ),
        Line(name=f"{done['total']:,} deliveries replayed", value=done["total"] / took_s, unit="deliveries/s"),
    ]


def _finished(base: Ground, port: int, replay_id: str) -> dict[str, Any]:
    deadline = time.monotonic() + REPLAY_TIMEOUT_S
    while True:
        found: dict[str, Any] = call(port, token(port, base.credentials), "GET", f"/v1/replays/{replay_id}")
        if found["status"] == "completed":
            return found
        if time.monotonic() > deadline:
            raise SystemExit(f"void: the replay is not finished in {REPLAY_TIMEOUT_S:g} s: {found}")
        time.sleep(1)


def _p99(arrivals: list[Arrival], since: int, until: int) -> float:
    live = [each for each in arrivals if since <= each.scheduled_at <= until]
    return percentile([(each.received_at - each.committed_at) / 1000 for each in live], 0.99)


def main() -> None:
    """Measure as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--deliveries", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=8.0)
    given = parser.parse_args()
    with ground(RATE_LIMIT_PER_S="0") as base:
        show("Replay", measure(base, given.deliveries, given.seconds))


if __name__ == "__main__":
    main()
