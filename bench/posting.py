"""Posting: `POST /v1/entries` over HTTP on PostgreSQL, durable, all features on, beside one transaction per posting.

    python -m bench.posting [--seconds 6] [--rounds 3]

The baseline is the same gateway whose batches hold one command. Both run in turns within each round; medians count.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import uvloop

from bench import client
from bench.ground import Ground, accounts, ground, token

BULK = 100


def _entry(debit: str, credit: str) -> dict[str, object]:
    return {
        "lines": [
            {"account_id": debit, "direction": "debit", "amount": 1},
            {"account_id": credit, "direction": "credit", "amount": 1},
        ],
    }


def _source(seconds: float, make: Callable[[int], bytes]) -> Callable[[], bytes | None]:
    counter: Iterator[int] = itertools.count()
    end = time.monotonic() + seconds

    def following() -> bytes | None:
        return make(next(counter)) if time.monotonic() < end else None

    return following


def single(bearer: str, ids: list[str], *, hot: bool) -> Callable[[int], bytes]:
    """Return what makes the n-th request: an entry between two accounts, all into the same one where it is hot."""
    run = time.time_ns()
    half = len(ids) // 2
    bodies = [
        json.dumps(_entry(ids[0] if hot else ids[number % half], ids[half + number % half])).encode()
        for number in range(half)
    ]

    def make(number: int) -> bytes:
        return client.request(
            "POST", "/v1/entries", bearer, bodies[number % half], f"idempotency-key: {run}-{number}\r\n",
        )

    return make


def bulk(bearer: str, ids: list[str]) -> Callable[[int], bytes]:
    """Return what makes the n-th request: a hundred entries at once."""
    run = time.time_ns()
    half = len(ids) // 2
    body = json.dumps({"entries": [_entry(ids[each % half], ids[half + each % half]) for each in range(BULK)]}).encode()

    def make(number: int) -> bytes:
        return client.request("POST", "/v1/entries/batch", bearer, body, f"idempotency-key: {run}-{number}\r\n")

    return make


def _measure(port: int, connections: int, seconds: float, make: Callable[[int], bytes]) -> client.Load:
    load: client.Load = uvloop.run(client.run("127.0.0.1", port, connections, _source(seconds, make)))
    if load.failures:
        raise SystemExit(f"{load.failures} requests failed")
    return load


def measure(base: Ground, seconds: float, rounds: int) -> None:
    """Run every case in turns with its baseline and print medians and ratios."""
    rates: dict[str, list[float]] = {}
    latencies: dict[str, list[float]] = {}
    with ExitStack() as held:
        port = held.enter_context(base.gateway())
        plain = held.enter_context(base.gateway(module="bench.one_by_one"))
        bearer = token(port, base.credentials)
        ids = accounts(port, bearer, 200)
        cases: list[tuple[str, int, int, Callable[[int], bytes], int]] = [
            ("one transaction per posting, 64 connections", plain, 64, single(bearer, ids, hot=False), 1),
            ("single, 1 connection", port, 1, single(bearer, ids, hot=False), 1),
            ("single, 64 connections", port, 64, single(bearer, ids, hot=False), 1),
            ("single, 128 connections", port, 128, single(bearer, ids, hot=False), 1),
            ("one hot account, 64 connections", port, 64, single(bearer, ids, hot=True), 1),
            ("bulk of 100, 4 connections", port, 4, bulk(bearer, ids), BULK),
        ]
        for _ in range(rounds):
            for name, at, connections, make, weight in cases:
                load = _measure(at, connections, seconds, make)
                rates.setdefault(name, []).append(load.rate * weight)
                latencies.setdefault(name, []).append(load.percentile_ms(0.99))
                cases = [
                    (each, p, c, single(bearer, ids, hot="hot" in each) if w == 1 else bulk(bearer, ids), w)
                    for each, p, c, _, w in cases
                ]
    base.verify()
    baseline = statistics.median(rates[cases[0][0]])
    for name, *_ in cases:
        rate = statistics.median(rates[name])
        p99 = statistics.median(latencies[name])
        print(f"{name:48} {rate:9,.0f} postings/s   p99 {p99:7.1f} ms   {rate / baseline:5.2f} x baseline")
    spread, hot = statistics.median(rates[cases[2][0]]), statistics.median(rates[cases[4][0]])
    print(f"{'hot account against spread':48} {hot / spread:9.2f}")


def main() -> None:
    """Measure as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    with ground(RATE_LIMIT_PER_S="0") as base:
        measure(base, given.seconds, given.rounds)


if __name__ == "__main__":
    main()
