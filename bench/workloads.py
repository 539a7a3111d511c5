"""Posting as different users do it: who pays whom, holds, sizes of batches, one gateway and two, by demand and by schedule.

    python -m bench.workloads [--seconds 3] [--rounds 3] [--accounts 2000]

On PostgreSQL, durable, all features on. Every case stands beside plain entries between accounts drawn alike, in turns
within each round; medians count, and the books are verified at the end.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import statistics
import time
from bisect import bisect
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

import msgspec

from bench import client
from bench.entries import bulk, converse_for, entry, post_paced, post_some, scheduled
from bench.ground import Ground, call, ground, token
from bench.table import Line, show

SKEW = 1.1
"""The exponent of Zipf's law by which accounts are drawn: some of them most of the time."""
PACED_PER_S = 1_000.0
Maker = Callable[[int, bytes], bytes]


class _Created(msgspec.Struct):
    id: str
    status: str


@dataclass(slots=True, kw_only=True)
class Case:
    """One way of posting; `weight` entries a request."""

    name: str
    ports: Sequence[int]
    connections: int
    make: Callable[[], Maker]
    weight: float = 1.0
    rates: list[float] = field(default_factory=list)
    p99s_ms: list[float] = field(default_factory=list)

    def run(self, seconds: float) -> None:
        """Post for so long."""
        load = converse_for(self.ports, self.connections, seconds, self.make())
        self.rates.append(load.rate * self.weight)
        self.p99s_ms.append(load.percentile_ms(0.99))


def between(bearer: str, debits: Callable[[], str], credits_: Callable[[], str]) -> Maker:
    """Return what makes entries between accounts that are drawn for each."""
    run = time.time_ns()

    def make(number: int, _answer: bytes) -> bytes:
        body = json.dumps(entry(debits(), credits_())).encode()
        return client.request("POST", "/v1/entries", bearer, body, f"idempotency-key: {run}-{number}\r\n")

    return make


def holding(bearer: str, draw: Callable[[], tuple[str, str]]) -> Maker:
    """Return what makes a hold, and then captures it, over each connection."""
    run = time.time_ns()

    def make(number: int, answer: bytes) -> bytes:
        key = f"idempotency-key: {run}-{number}\r\n"
        last = msgspec.json.decode(answer, type=_Created) if answer else None
        if last is not None and last.status == "open":
            return client.request("POST", f"/v1/holds/{last.id}/capture", bearer, b'{"final": true}', key)
        return client.request("POST", "/v1/holds", bearer, json.dumps(entry(*draw())).encode(), key)

    return make


def skewed(ids: Sequence[str], chance: random.Random) -> Callable[[], str]:
    """Return what draws accounts by Zipf's law."""
    weights = list(itertools.accumulate(1 / (rank + 1) ** SKEW for rank in range(len(ids))))
    return lambda: ids[bisect(weights, chance.random() * weights[-1])]


def cases(bearer: str, ids: Sequence[str], port: int, second: int) -> list[Case]:
    """Return all cases; the first is what the others stand beside."""
    chance = random.Random(2026)
    world, bank, *rest = ids
    half = len(rest) // 2
    low, high = rest[:half], rest[half:]
    one = (port,)

    def spread() -> Maker:
        return between(bearer, lambda: chance.choice(low), lambda: chance.choice(high))

    def zipf() -> Maker:
        return between(bearer, skewed(low, chance), skewed(high, chance))

    found = [
        Case(name="any to any", ports=one, connections=64, make=spread),
        Case(name="any to any, by Zipf's law", ports=one, connections=64, make=zipf),
        Case(name="any to bank", ports=one, connections=64,
             make=lambda: between(bearer, lambda: bank, lambda: chance.choice(rest))),
        Case(name="world to bank", ports=one, connections=64, make=lambda: between(bearer, lambda: bank, lambda: world)),
        Case(name="holds: reserve, then capture", ports=one, connections=64,
             make=lambda: holding(bearer, lambda: (chance.choice(low), chance.choice(high)))),
        Case(name="any to any, two gateways", ports=(port, second), connections=64, make=spread),
    ]  # fmt: skip
    for size, connections in ((1, 64), (10, 32), (100, 16), (1_000, 4)):
        make = bulk(bearer, list(rest), size)
        found.append(
            Case(
                name=f"bulk of {size:,}, {connections} connections",
                ports=one,
                connections=connections,
                make=lambda make=make: lambda number, _: make(number),  # type: ignore[misc]
                weight=size,
            )
        )
    return found


def measure(base: Ground, seconds: float, rounds: int, accounts: int) -> list[Line]:
    """Run every case in turns, check the books, and return medians."""
    with ExitStack() as held:
        port, second = (held.enter_context(base.gateway()).port for _ in range(2))
        bearer = token(port, base.credentials)
        ids = _accounts(base, port, bearer, accounts)
        every = cases(bearer, ids, port, second)
        for _ in range(rounds):
            for case in every:
                case.run(seconds)
        paced = post_paced(port, PACED_PER_S, seconds * rounds, scheduled(bearer, ids))
    base.verify()
    plain = statistics.median(every[0].rates)
    lines = []
    for case in every:
        rate, p99 = statistics.median(case.rates), statistics.median(case.p99s_ms)
        lines.append(Line(name=case.name, value=rate, unit="postings/s", baseline=plain))
        lines.append(Line(name=f"{case.name}: p99", value=p99, unit="ms"))
    name = f"by a schedule of {PACED_PER_S:,.0f}/s, from the scheduled instant"
    return lines + [
        Line(name=f"{name}: p{share * 100:.0f}", value=paced.percentile_ms(share), unit="ms") for share in (0.5, 0.99)
    ]


def _accounts(base: Ground, port: int, bearer: str, count: int) -> list[str]:
    """Open a ledger with so many accounts, many at once, and return their ids."""
    ledger = call(port, bearer, "POST", "/v1/ledgers", {"name": "Bench"})["id"]

    def make(number: int) -> bytes:
        body = {"ledger_id": ledger, "name": f"Account {number}", "type": "asset", "currency": "USD"}
        return client.request("POST", "/v1/accounts", bearer, json.dumps(body).encode())

    post_some(port, 64, count, make)
    return [str(found) for (found,) in base.rows("SELECT id FROM accounts WHERE ledger_id = $1", ledger)]


def main() -> None:
    """Measure as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--accounts", type=int, default=2_000)
    given = parser.parse_args()
    with ground(RATE_LIMIT_PER_S="0") as base:
        show("Workloads", measure(base, given.seconds, given.rounds, given.accounts))


if __name__ == "__main__":
    main()
