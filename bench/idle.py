"""Idle streams: many clients that are told nothing, in one gateway process; what they keep and what they cost.

    python -m bench.idle [--clients 10000] [--seconds 20] [--kinds sse websocket]

Every connection is open when memory is read, and every one gets the one event that is posted at the end: a connection that is
forgotten would be cheap. Needs as many open files as clients, in both processes (`ulimit -n`).
"""

from __future__ import annotations

import argparse
import resource
import time

from bench.entries import post_some, single
from bench.ground import Ground, accounts, ground, token
from bench.peers import Peer, peer
from bench.table import Line, Target, show
from bench.usage import usage

CONNECT_TIMEOUT_S = 180.0
_BESIDE = 500
"""Files that a process has open beside its streams."""


def measure(base: Ground, kind: str, clients: int, seconds: float) -> list[Line]:
    """Connect, wait, wake everybody once, and return what it came to."""
    with base.gateway() as serving:
        bearer = token(serving.port, base.credentials)
        ids = accounts(serving.port, bearer, 2)
        # What a first request and a first stream load stays loaded: it is no cost of a connection.
        with peer("bench.listeners", kind, str(serving.port), "2", bearer) as few:
            _until(few, "ready", 2)
            post_some(serving.port, 1, 10, single(bearer, ids))
        before = usage(serving.pid)
        began = time.monotonic()
        with peer("bench.listeners", kind, str(serving.port), str(clients), bearer) as many:
            _until(many, "ready", clients)
            connected_s = time.monotonic() - began
            connected = usage(serving.pid)
            time.sleep(seconds)
            idle = usage(serving.pid)
            many.ask("reset")
            posted_at = time.monotonic()
            post_some(serving.port, 1, 1, single(bearer, ids))
            _until(many, "counts", clients)
            woken_s = time.monotonic() - posted_at
            peak = usage(serving.pid)
    name = f"{kind}, {clients:,} idle clients"
    mib = max(connected.resident_bytes, idle.resident_bytes, peak.resident_bytes) / 1024**2
    per_client = (idle.resident_bytes - before.resident_bytes) / 1024 / clients
    return [
        Line(
            name=f"{name}: resident memory of the process",
            value=mib,
            unit="MiB",
            target=Target(goal=500.0, bound=500.0, side="most"),
        ),
        Line(name=f"{name}: resident memory a connection", value=per_client, unit="KiB"),
        Line(name=f"{name}: to connect them all", value=connected_s, unit="s"),
        Line(name=f"{name}: processor while idle", value=idle.cores_since(connected), unit="cores"),
        Line(name=f"{name}: one event to all of them", value=woken_s, unit="s"),
    ]


def _until(clients: Peer, question: str, least: int) -> None:
    """Wait until so many streams began, or until every client counted the one event."""
    deadline = time.monotonic() + CONNECT_TIMEOUT_S
    while True:
        found = clients.ask(question)
        if (found if question == "ready" else sum(each >= 1 for each in found)) >= least:
            return
        if time.monotonic() > deadline:
            raise SystemExit(f"void: {question}: not all {least} clients in {CONNECT_TIMEOUT_S:g} s")
        time.sleep(0.1)


def main() -> None:
    """Measure as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--kinds", nargs="+", choices=("sse", "websocket"), default=["sse", "websocket"])
    given = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most < given.clients + _BESIDE:
        raise SystemExit(f"{given.clients} clients need more open files than the {most} that a process may have here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with ground(RATE_LIMIT_PER_S="0") as base:
        for kind in given.kinds:
            show(f"Idle streams, {kind}", measure(base, kind, given.clients, given.seconds))


if __name__ == "__main__":
    main()
