"""Streams: one gateway process, many SSE or WebSocket clients in a process of their own, beside a bare ASGI broadcast.

    python -m bench.streams [--seconds 8] [--clients 100] [--rate 100]

Entries are posted by a schedule; each makes one event. Latency is from the event's own timestamp (before its commit) to the
read that brought it, on the one clock of one machine. The run is void unless every client counted exactly what was
posted. The gateway posts and streams in one process, so its processor time without any client is measured too.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import msgspec

from bench import client
from bench.entries import post_paced, scheduled
from bench.ground import Ground, Serving, accounts, clean_environment, ground, running, token, wait_until
from bench.listeners import Report
from bench.peers import Peer, peer
from bench.table import Line, latency, percentile, rate, show
from bench.usage import usage
from tests.servers import free_port

READY_TIMEOUT_S = 60.0
COUNTED_TIMEOUT_S = 30.0
KINDS = ("sse", "websocket")


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """How many clients, and how many events a second for how long."""

    clients: int
    rate_per_s: float
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Streamed:
    """What a run came to."""

    events_per_s: float
    bytes_per_s: float
    latencies_ms: list[float]
    kib_a_client: float
    cores: float


Make = Callable[[int, int], bytes]


def measure(base: Ground, load: Load) -> list[Line]:
    """Measure both kinds, the product in turns with the baseline, check the books, and return what they came to."""
    found: list[Line] = []
    for kind in KINDS:
        with base.gateway() as serving:
            bearer = token(serving.port, base.credentials)
            make = scheduled(bearer, accounts(serving.port, bearer, 20))
            alone = _alone(serving, make, load) if kind == KINDS[0] else None
            ours = _stream(kind, serving, bearer, make, load)
        envelope = _envelope(base)
        with _broadcast() as serving:
            bare = _stream(kind, serving, bearer, _publishing(envelope), load)
        found += _lines(kind, load, ours, bare)
        if alone is not None:
            found.append(Line(name="posting alone, without clients", value=alone, unit="cores"))
    base.verify()
    return found


def _alone(serving: Serving, make: Make, load: Load) -> float:
    """Return how many cores the gateway needs to post at this rate for nobody."""
    post_paced(serving.port, load.rate_per_s, 1.0, make)
    before = usage(serving.pid)
    post_paced(serving.port, load.rate_per_s, load.seconds / 2, make)
    return usage(serving.pid).cores_since(before)


def _stream(kind: str, serving: Serving, bearer: str, make: Make, load: Load) -> Streamed:
    """Connect, post by the schedule, and count."""
    # What a first request and a first stream load stays loaded: it is no cost of a connection.
    with peer("bench.listeners", kind, str(serving.port), "2", bearer) as few:
        _ready(few, 2)
        post_paced(serving.port, load.rate_per_s, 0.5, make)
    before = usage(serving.pid)
    with peer("bench.listeners", kind, str(serving.port), str(load.clients), bearer) as clients:
        _ready(clients, load.clients)
        connected = usage(serving.pid)
        clients.ask("reset")
        began = usage(serving.pid)
        started = time.perf_counter()
        posted = post_paced(serving.port, load.rate_per_s, load.seconds, make).done
        _counted(clients, posted)
        elapsed_s = time.perf_counter() - started
        ended = usage(serving.pid)
        report = msgspec.convert(clients.ask("report"), Report)
    return Streamed(
        events_per_s=posted * load.clients / elapsed_s,
        bytes_per_s=report.bytes / elapsed_s,
        latencies_ms=report.latencies_ms,
        kib_a_client=(connected.resident_bytes - before.resident_bytes) / 1024 / load.clients,
        cores=ended.cores_since(began),
    )


def _ready(clients: Peer, count: int) -> None:
    deadline = time.monotonic() + READY_TIMEOUT_S
    while (ready := clients.ask("ready")) < count:
        if time.monotonic() > deadline:
            raise SystemExit(f"{ready} of {count} streams began")
        time.sleep(0.02)


def _counted(clients: Peer, posted: int) -> None:
    """Wait until every client counted everything; more or less than that voids the run."""
    deadline = time.monotonic() + COUNTED_TIMEOUT_S
    while min(counts := clients.ask("counts")) < posted and time.monotonic() < deadline:
        time.sleep(0.02)
    if set(counts) != {posted}:
        raise SystemExit(f"void: {posted} events posted, the clients counted {min(counts)} to {max(counts)}")


@contextmanager
def _broadcast() -> Iterator[Serving]:
    port = free_port()
    with running([sys.executable, "-m", "bench.bare_broadcast", str(port)], clean_environment()) as process:
        wait_until(port, "/")
        yield Serving(port=port, pid=process.pid)


def _envelope(base: Ground) -> bytes:
    ((body,),) = base.rows("SELECT body FROM events WHERE type = 'entry.posted' ORDER BY sequence DESC LIMIT 1")
    return bytes(body)


def _publishing(envelope: bytes) -> Make:
    request = client.request("POST", "/publish", "nobody", envelope)
    return lambda _number, _at_us: request


def _lines(kind: str, load: Load, ours: Streamed, bare: Streamed) -> list[Line]:
    name = f"{kind}, {load.clients:,} clients × {load.rate_per_s:g}/s"
    offered = load.clients * load.rate_per_s
    rows: list[tuple[str, str, Callable[[Streamed], float]]] = [
        ("events delivered", "events/s", lambda each: each.events_per_s),
        ("bytes", "MB/s", lambda each: each.bytes_per_s / 1e6),
        ("commit → client, p50", "ms", lambda each: statistics.median(each.latencies_ms)),
        ("commit → client, p99", "ms", lambda each: percentile(each.latencies_ms, 0.99)),
        ("resident memory a connection", "KiB", lambda each: each.kib_a_client),
        ("processor", "cores", lambda each: each.cores),
        ("processor an event and client", "µs", lambda each: each.cores / each.events_per_s * 1e6),
    ]
    targets = {
        "events delivered": rate(offered),
        "commit → client, p99": latency(250),
        "resident memory a connection": latency(50),
    }
    return [
        Line(name=f"{name}: {what}", value=of(ours), unit=unit, baseline=of(bare), target=targets.get(what))
        for what, unit, of in rows
    ]


def main() -> None:
    """Measure as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--clients", type=int, nargs="+", default=[100])
    parser.add_argument("--rate", type=float, default=100.0)
    given = parser.parse_args()
    with ground(RATE_LIMIT_PER_S="0") as base:
        for clients in given.clients:
            load = Load(clients=clients, rate_per_s=given.rate, seconds=given.seconds)
            show(f"Streams, {clients:,} clients", measure(base, load))


if __name__ == "__main__":
    main()
