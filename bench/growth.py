"""What posting and balance reads cost with ten million entries stored, beside empty books: `python -m bench.growth`.

    python -m bench.growth [--entries 10000000] [--seconds 5] [--rounds 5] [--accounts 1000]

Two durable PostgreSQL servers, each with a gateway of its own: one with as many accounts and no entry, one that was filled
(see `bench.filling`). Every case runs on both in turns within each round; medians count, and of the ratio the goal is 0.9. The
books are verified where there are a million entries at most, and with `--verify` however many there are.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from random import Random
from typing import Final

from bench import client
from bench.entries import bulk, post_for, single
from bench.filling import Posting, fill
from bench.ground import Ground, accounts, ground, token
from bench.table import Line, Target, show
from bench.usage import load_average

VERIFIED_MAX: Final = 1_000_000
WITHIN: Final = Target(goal=0.9, bound=0.9, side="least")
Maker = Callable[[int], bytes]


@dataclass(slots=True, kw_only=True)
class Side:
    """One of the two: where it serves, and who asks there for which accounts."""

    port: int
    bearer: str
    ids: list[str]


@dataclass(slots=True, kw_only=True)
class Case:
    """One kind of request, so many at once, and the rates on each side."""

    name: str
    connections: int
    make: Callable[[Side], Maker]
    weight: int = 1
    rates: dict[bool, list[float]] = field(default_factory=lambda: {False: [], True: []})
    p99s_ms: dict[bool, list[float]] = field(default_factory=lambda: {False: [], True: []})

    def run(self, side: Side, seconds: float, *, full: bool) -> None:
        """Ask for so long."""
        load = post_for(side.port, self.connections, seconds, self.make(side))
        self.rates[full].append(load.rate * self.weight)
        self.p99s_ms[full].append(load.percentile_ms(0.99))


def balances(side: Side) -> Maker:
    """Return what makes requests for balances, one account's after the other's."""
    asked = [client.request("GET", f"/v1/accounts/{each}/balance", side.bearer) for each in side.ids]
    return lambda number: asked[number % len(asked)]


CASES: Final = (
    ("single posts, 64 connections", 64, lambda side: single(side.bearer, side.ids), 1),
    ("single posts, 1 connection", 1, lambda side: single(side.bearer, side.ids), 1),
    ("bulk of 100, 16 connections", 16, lambda side: bulk(side.bearer, side.ids), 100),
    ("balance reads, 64 connections", 64, balances, 1),
    ("balance reads, 1 connection", 1, balances, 1),
)


def filled(base: Ground, ids: list[str], count: int) -> None:
    """Fill the books with entries between accounts that are drawn for each."""
    random = Random(count)
    started = time.monotonic()
    said = started

    def draw() -> Posting:
        debit, credit = random.sample(ids, 2)
        return Posting(debit, credit, random.randint(1, 100_000))

    def told(done: int) -> None:
        nonlocal said
        if time.monotonic() - said > 30:
            said = time.monotonic()
            print(f"  {done:,} entries after {said - started:.0f} s", flush=True)

    fill(base, count, draw, told)
    size = base.rows("SELECT pg_size_pretty(pg_database_size('gledger'))")[0][0]
    print(f"{count:,} entries, {size}, filled in {time.monotonic() - started:.0f} s", flush=True)


def opened(base: Ground, count: int) -> list[str]:
    """Open so many accounts through a gateway that ends again: nobody has the books in memory when they are filled."""
    with base.gateway() as serving:
        return accounts(serving.port, token(serving.port, base.credentials), count)


def measure(seconds: float, rounds: int, entries: int, count: int, *, verified: bool) -> list[Line]:
    """Fill one side, ask both in turns, check the books, and return medians."""
    cases = [Case(name=name, connections=many, make=make, weight=weight) for name, many, make, weight in CASES]
    with ExitStack() as held:
        bases = [held.enter_context(ground(RATE_LIMIT_PER_S="0")) for _ in range(2)]
        ids = [opened(base, count) for base in bases]
        filled(bases[1], ids[1], entries)
        if verified:
            bases[1].verify()
        sides = []
        for base, known in zip(bases, ids, strict=True):
            port = held.enter_context(base.gateway()).port
            sides.append(Side(port=port, bearer=token(port, base.credentials), ids=known))
        print(f"load average {load_average()}", flush=True)
        for number in range(rounds):
            for case in cases:
                for full in (False, True) if number % 2 == 0 else (True, False):
                    case.run(sides[full], seconds, full=full)
        print(f"load average {load_average()}", flush=True)
        bases[0].verify()
    lines = []
    for case in cases:
        empty, full_ = (statistics.median(case.rates[each]) for each in (False, True))
        lines.append(Line(name=case.name, value=full_, unit="/s", baseline=empty, target=None))
        lines.append(Line(name=f"{case.name}: full / empty", value=full_ / empty, unit="x", target=WITHIN))
        empty, full_ = (statistics.median(case.p99s_ms[each]) for each in (False, True))
        lines.append(Line(name=f"{case.name}: p99", value=full_, unit="ms", baseline=empty))
    return lines


def main() -> None:
    """Measure as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--entries", type=int, default=10_000_000)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--accounts", type=int, default=1_000)
    parser.add_argument("--verify", action="store_true", help="verify the books however large they are")
    given = parser.parse_args()
    verified = given.verify or given.entries <= VERIFIED_MAX
    lines = measure(given.seconds, given.rounds, given.entries, given.accounts, verified=verified)
    show(f"{given.entries:,} entries stored, beside none", lines)


if __name__ == "__main__":
    main()
