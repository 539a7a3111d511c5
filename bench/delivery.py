"""Delivery: from the feed to a partner's receiver on PostgreSQL, one gateway and one worker, beside a bare aiohttp loop.

    python -m bench.delivery [--events 6000] [--seconds 8]

Latency is taken twice: from the event's own timestamp (the instant at which the writer decided, before its commit: the commit is
included) and from the instant at which the schedule says the entry was to be posted. Every process reads the same clock of one
machine. In each case the ledger identity must hold: what was posted, times the endpoints, is what was received (each delivery counted once)
plus what the delivery log says is missing, and nothing may be missing in the end; else the measurement is void.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from bench.client import Load
from bench.entries import BULK, bulk, post_paced, post_some, scheduled
from bench.ground import Ground, accounts, call, ground, token
from bench.peers import Peer, peer
from bench.receiver import Arrival
from bench.table import Line, Target, latency, percentile, rate, show
from bench.usage import usage
from tests.servers import free_port

RATE_PER_S = 200.0
"""Entries a second at which latency is measured."""
SUSTAINED_PER_S = 1_500.0
"""Deliveries a second that are to be sustained."""
AT_ONCE = 64
NEIGHBOURS = ((1, 20), (10, 100))
"""How many hang of how many."""
NEIGHBOUR_DELIVERIES_PER_S = 600.0
NEIGHBOUR_ROUNDS = 9
"""Of half the time each: where the disk stops for some tenths of a second, that is one round in which it did."""
HANG_TIMEOUT_S = 2
IDLE = 980
"""Endpoints that get nothing; a site may have a thousand."""
IDLE_SETTLE_S = 5.0
IDLE_LEAST_S = 11.0
"""Two sweeps at least."""
ARRIVAL_TIMEOUT_S = 120.0
ARRIVED_PER_S = 300.0
"""What is waited for takes so much longer."""
WARM_UP_S = 0.5

_LOG = """
    SELECT count(*) FILTER (WHERE state = 'delivered'), count(*) FILTER (WHERE state <> 'delivered')
    FROM deliveries WHERE endpoint_id = ANY ($1::uuid[])
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """A gateway, a receiver and accounts to post between; `port` is the gateway's."""

    base: Ground
    receiver: Peer
    receiver_port: int
    port: int
    bearer: str
    ids: list[str]

    def url(self, path: str) -> str:
        """Return an address of the receiver."""
        return f"http://127.0.0.1:{self.receiver_port}/{path}"

    def subscribe(self, *paths: str, **options: Any) -> list[str]:
        """Register an endpoint per path and return their ids."""
        found = []
        for path in paths:
            body = {"url": self.url(path), "event_types": ["entry.posted"], **options}
            found.append(call(self.port, self.bearer, "POST", "/v1/webhook_endpoints", body)["id"])
        return found

    def unsubscribe(self, endpoints: list[str]) -> None:
        """Remove endpoints, and what the receiver noted."""
        for each in endpoints:
            call(self.port, self.bearer, "DELETE", f"/v1/webhook_endpoints/{each}")
        self.receiver.ask("reset")

    def post(self, rate_per_s: float, seconds: float) -> Load:
        """Post by a schedule."""
        return post_paced(self.port, rate_per_s, seconds, scheduled(self.bearer, self.ids))

    def warm_up(self, endpoints: list[str]) -> int:
        """Return how many entries were posted until the worker delivered them all: they are counted, and not timed."""
        posted = self.post(RATE_PER_S, WARM_UP_S).done
        self.arrived(posted, endpoints)
        return posted

    def arrived(self, posted: int, endpoints: list[str]) -> list[Arrival]:
        """Wait until all that was posted since the endpoints exist is delivered; return each delivery's first arrival.

        Ends the measurement where the identity does not hold.
        """
        expected = posted * len(endpoints)
        deadline = time.monotonic() + ARRIVAL_TIMEOUT_S + expected / ARRIVED_PER_S
        while self._logged(endpoints)[0] < expected and time.monotonic() < deadline:
            time.sleep(0.1)
        delivered, missing = self._logged(endpoints)
        first: dict[tuple[str, str], Arrival] = {}
        for each in msgspec.convert(self.receiver.ask("arrivals"), list[Arrival]):
            first.setdefault((each.path, each.event_id), each)
        if missing or len(first) != delivered or delivered != expected:
            raise SystemExit(
                f"void: {expected} posted, {len(first)} received, {delivered} delivered, {missing} missing"
            )
        return list(first.values())

    def _logged(self, endpoints: list[str]) -> tuple[int, int]:
        ((delivered, missing),) = self.base.rows(_LOG, endpoints)
        return delivered, missing


def measure(base: Ground, events: int, seconds: float) -> list[Line]:
    """Measure every case, check the books, and return what they came to."""
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
        found = [line for count in (1, 10) for line in _backlog(scene, count, events)]
        found += [line for count in (1, 10) for line in _live(scene, count, seconds)]
        found += _latency(scene, seconds)
        for hanging, count in NEIGHBOURS:
            found += _neighbours(scene, seconds, hanging, count)
        found += _idle(scene, seconds)
    base.verify()
    return found


def _paths(count: int) -> list[str]:
    return [f"partner-{number}" for number in range(count)]


def _backlog(scene: Scene, count: int, events: int) -> list[Line]:
    """Post while no worker runs, then start one: from the first arrival to the last."""
    at_once = AT_ONCE if count == 1 else 16
    endpoints = scene.subscribe(*_paths(count), max_in_flight=at_once)
    requests = max(1, events // count // BULK)
    posted = post_some(scene.port, 2, requests, bulk(scene.bearer, scene.ids)).done * BULK
    with scene.base.process("worker"):
        arrivals = scene.arrived(posted, endpoints)
    baseline = _bare_loop(scene, count, at_once * count, posted)
    scene.unsubscribe(endpoints)
    name = f"backlog, {count} endpoint{'s' if count > 1 else ''}, {at_once * count} at once"
    return [
        Line(
            name=name,
            value=_rate(arrivals),
            unit="deliveries/s",
            baseline=baseline,
            target=rate(SUSTAINED_PER_S),
        )
    ]


def _bare_loop(scene: Scene, count: int, at_once: int, posted: int) -> float:
    """Send the same bodies to the same receiver without the product, and return requests a second."""
    newest = scene.base.rows(
        "SELECT body FROM events WHERE type = 'entry.posted' ORDER BY sequence DESC LIMIT $1",
        posted,
    )
    bodies = [bytes(body) for (body,) in newest]
    with tempfile.NamedTemporaryFile(suffix=".jsonl") as file:
        Path(file.name).write_bytes(b"\n".join(bodies))
        urls = [scene.url(path) for path in _paths(count)]
        command = [sys.executable, "-m", "bench.bare_sender", urls[0], str(at_once), file.name, *urls[1:]]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
    return float(json.loads(done.stdout))


def _live(scene: Scene, count: int, seconds: float) -> list[Line]:
    """Post by a schedule that makes 1,500 deliveries a second, and see what arrives while it lasts and after."""
    endpoints = scene.subscribe(*_paths(count), max_in_flight=AT_ONCE if count == 1 else 16)
    with scene.base.process("worker"):
        load, arrivals = _timed(scene, endpoints, SUSTAINED_PER_S / count, seconds)
    scene.unsubscribe(endpoints)
    lags = [(each.received_at - each.committed_at) / 1000 for each in arrivals]
    name = f"live, {count} endpoint{'s' if count > 1 else ''}, {SUSTAINED_PER_S:,.0f}/s offered"
    return [
        Line(name=name, value=_rate(arrivals), unit="deliveries/s", target=rate(SUSTAINED_PER_S)),
        Line(name=f"{name}: posted", value=load.rate * count, unit="deliveries/s"),
        Line(name=f"{name}: commit → received, p95", value=percentile(lags, 0.95), unit="ms"),
    ]


def _latency(scene: Scene, seconds: float) -> list[Line]:
    """Post 200 entries a second by a schedule to one endpoint."""
    endpoints = scene.subscribe(*_paths(1))
    with scene.base.process("worker"):
        load, arrivals = _timed(scene, endpoints, RATE_PER_S, seconds)
    scene.unsubscribe(endpoints)
    committed = [(each.received_at - each.committed_at) / 1000 for each in arrivals]
    planned = [(each.received_at - each.scheduled_at) / 1000 for each in arrivals]
    return [
        *(
            Line(
                name=f"200/s: commit → received, p{share}",
                value=percentile(committed, share / 100),
                unit="ms",
                target=latency(100) if share == 95 else None,
            )
            for share in (50, 95, 99)
        ),
        *(
            Line(name=f"200/s: scheduled → received, p{share}", value=percentile(planned, share / 100), unit="ms")
            for share in (50, 95, 99)
        ),
        Line(name="200/s: posting, p99 from the schedule", value=load.percentile_ms(0.99), unit="ms"),
        Line(name="200/s: the generator's own lag at most", value=load.lag_s * 1000, unit="ms"),
    ]


def _neighbours(scene: Scene, seconds: float, hanging: int, count: int) -> list[Line]:
    """Let some endpoints of many hang to their timeout, and look at the others: with them and without in turns, medians."""
    p99s: dict[bool, list[float]] = {False: [], True: []}
    paths = _paths(count)
    same = {f"/{path}" for path in paths[hanging:]}
    for hangs in (False, True) * NEIGHBOUR_ROUNDS:
        others = scene.subscribe(*paths[hanging:], timeout_s=HANG_TIMEOUT_S)
        some = [f"hang-{number}" for number in range(hanging)] if hangs else paths[:hanging]
        rest = scene.subscribe(*some, timeout_s=HANG_TIMEOUT_S)
        watched = others if hangs else [*others, *rest]
        with scene.base.process("worker"):
            _, arrivals = _timed(scene, watched, NEIGHBOUR_DELIVERIES_PER_S / count, seconds / 2)
            scene.receiver.ask("release")
        scene.unsubscribe([*others, *rest])
        lags = [(each.received_at - each.committed_at) / 1000 for each in arrivals if each.path in same]
        p99s[hangs].append(percentile(lags, 0.99))
    without, beside = (statistics.median(p99s[hangs]) for hangs in (False, True))
    return [
        Line(name=f"{hanging} of {count} endpoints hang: p99 of the others", value=beside, unit="ms", baseline=without),
        Line(
            name=f"{hanging} of {count} endpoints hang: p99 with / without",
            value=beside / without,
            unit="x",
            target=Target(goal=1.1, bound=1.2, side="most"),
        ),
    ]


def _idle(scene: Scene, seconds: float) -> list[Line]:
    """Let a worker sit beside a thousand endpoints that nothing is sent to, and see what that costs."""
    busy = []
    endpoints: list[str] = []
    for count in (0, IDLE):
        endpoints += scene.subscribe(*_paths(count), event_types=["ledger.updated"])
        with scene.base.process("worker") as worker:
            # Long enough for it to have started.
            time.sleep(IDLE_SETTLE_S)
            before = usage(worker.pid)
            time.sleep(max(seconds, IDLE_LEAST_S))
            busy.append(usage(worker.pid).cores_since(before) * 100)
    scene.unsubscribe(endpoints)
    without, beside = busy
    return [
        Line(name="idle worker: share of a core", value=without, unit="%"),
        Line(
            name=f"idle worker beside {IDLE:,} endpoints: what they add",
            value=beside - without,
            unit="% of a core",
            target=Target(goal=1.0, bound=1.5, side="most"),
        ),
    ]


def _timed(scene: Scene, endpoints: list[str], rate_per_s: float, seconds: float) -> tuple[Load, list[Arrival]]:
    """Warm up, post by a schedule, and return what was posted by it and what arrived of it."""
    warmed = scene.warm_up(endpoints)
    began_at = time.time_ns() // 1000
    load = scene.post(rate_per_s, seconds)
    arrivals = scene.arrived(warmed + load.done, endpoints)
    return load, [each for each in arrivals if each.scheduled_at >= began_at]


def _rate(arrivals: list[Arrival]) -> float:
    ordered = sorted(each.received_at for each in arrivals)
    return (len(ordered) - 1) / max(1e-6, (ordered[-1] - ordered[0]) / 1e6)


def main() -> None:
    """Measure as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=6_000)
    parser.add_argument("--seconds", type=float, default=8.0)
    given = parser.parse_args()
    with ground(RATE_LIMIT_PER_S="0") as base:
        show("Delivery", measure(base, given.events, given.seconds))


if __name__ == "__main__":
    main()
