"""What posting and balance reads cost with ten million entries stored, beside empty books: `python -m bench.growth`.

    python -m bench.growth [--entries 1000000 10000000] [--seconds 5] [--rounds 5] [--accounts 1000]

Two durable PostgreSQL servers, each with a gateway of its own: one with as many accounts and no entry, one that was filled
(see `bench.filling`) to each size. Every case runs on both in turns within each round; medians count, and of the ratio the goal is 0.9.
Beside rates stands what a request costs the gateway and PostgreSQL together, which says more where others work too. The
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
from bench.ground import Ground, Serving, accounts, ground, token
from bench.table import Line, Target, show
from bench.usage import family_processor_s, load_average

VERIFIED_MAX: Final = 1_000_000
WITHIN: Final = Target(goal=0.9, bound=0.9, side="least")
Maker = Callable[[int], bytes]


@dataclass(slots=True, kw_only=True)
class Side:
    """One of the two: where it serves, and who asks there for which accounts."""

    port: int
    pids: tuple[int, ...]
    bearer: str
    ids: list[str]

    def processor_s(self) -> float:
        """Return what its gateway and its database have spent."""
        return sum(map(family_processor_s, self.pids))


@dataclass(slots=True, kw_only=True)
class Case:
    """One kind of request, so many at once, and the rates on each side."""

    name: str
    connections: int
    make: Callable[[Side], Maker]
    weight: int = 1
    costs_us: dict[bool, list[float]] = field(default_factory=lambda: {False: [], True: []})
    rates: dict[bool, list[float]] = field(default_factory=lambda: {False: [], True: []})
    p99s_ms: dict[bool, list[float]] = field(default_factory=lambda: {False: [], True: []})

    def run(self, side: Side, seconds: float, *, full: bool) -> None:
        """Ask for so long."""
        before = side.processor_s()
        load = post_for(side.port, self.connections, seconds, self.make(side))
        self.costs_us[full].append((side.processor_s() - before) / (load.done * self.weight) * 1e6)
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


def measure(sizes: list[int], seconds: float, rounds: int, count: int, *, verified: bool) -> None:
    """Fill one side to each size, ask both in turns, and show the medians; at last check the books."""
    with ExitStack() as held:
        bases = [held.enter_context(ground(RATE_LIMIT_PER_S="0")) for _ in range(2)]
        sides = [_side(base, held.enter_context(base.gateway()), count) for base in bases]
        there = 0
        for size in sizes:
            # The gateway finds another head than the one it remembers, and reads again.
            filled(bases[1], sides[1].ids, size - there)
            there = size
            if verified or size <= VERIFIED_MAX:
                bases[1].verify()
            show(f"{size:,} entries stored, beside none", compared(bases, sides, seconds, rounds))
        bases[0].verify()


def _side(base: Ground, serving: Serving, count: int) -> Side:
    bearer = token(serving.port, base.credentials)
    pids = (serving.pid, base.postgres.pid or 0)
    return Side(port=serving.port, pids=pids, bearer=bearer, ids=accounts(serving.port, bearer, count))


def compared(bases: list[Ground], sides: list[Side], seconds: float, rounds: int) -> list[Line]:
    """Ask both sides in turns and return medians."""
    cases = [Case(name=name, connections=many, make=make, weight=weight) for name, many, make, weight in CASES]
    for side, base in zip(sides, bases, strict=True):
        side.bearer = token(side.port, base.credentials)
    print(f"load average {load_average()}", flush=True)
    for number in range(rounds):
        for case in cases:
            for full in (False, True) if number % 2 == 0 else (True, False):
                case.run(sides[full], seconds, full=full)
    print(f"load average {load_average()}", flush=True)
    lines = []
    for case in cases:
        empty, full_ = (statistics.median(case.rates[each]) for each in (False, True))
        lines.append(Line(name=case.name, value=full_, unit="/s", baseline=empty))
        lines.append(Line(name=f"{case.name}: full / empty", value=full_ / empty, unit="x", target=WITHIN))
        empty, full_ = (statistics.median(case.p99s_ms[each]) for each in (False, True))
        lines.append(Line(name=f"{case.name}: p99", value=full_, unit="ms", baseline=empty))
        empty, full_ = (statistics.median(case.costs_us[each]) for each in (False, True))
        lines.append(Line(name=f"{case.name}: processor for each", value=full_, unit="µs", baseline=empty))
    return lines


def main() -> None:
    """Measure as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--entries", type=int, nargs="+", default=[10_000_000], help="how many entries there are, in turn"
    )
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--accounts", type=int, default=1_000)
    parser.add_argument("--verify", action="store_true", help="verify the books however large they are")
    given = parser.parse_args()
    measure(sorted(given.entries), given.seconds, given.rounds, given.accounts, verified=given.verify)


if __name__ == "__main__":
    main()
