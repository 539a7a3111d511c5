"""Posting: `POST /v1/entries` over HTTP on PostgreSQL, durable, all features on, beside three baselines of the same run.

    python -m bench.posting [--seconds 5] [--rounds 3]

Singles stand beside the same gateway whose transactions hold one command, and beside a handler behind the same server that
does nothing; bulk beside what the database alone takes of the same statements. All cases run in turns within each round; medians count. The
gateway of the baseline stands still but for its turns. SQLite, as `gledger dev` has it, is for the record.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from bench.entries import BULK, bulk, post_for, single
from bench.ground import Ground, accounts, clean_environment, embedded, ground, running, token, wait_until
from bench.limit import batch_limit
from bench.table import Line, Target, latency, rate, show
from tests.servers import free_port

ACCOUNTS = 200


@dataclass(slots=True, kw_only=True)
class Case:
    """One way of posting, and what it came to in each round."""

    name: str
    port: int
    connections: int
    make: Callable[[], Callable[[int], bytes]]
    weight: int = 1
    awake: int | None = None
    """The process that is woken for these turns only: it would hear of every batch of the others."""
    rates: list[float] = field(default_factory=list)
    p99s_ms: list[float] = field(default_factory=list)

    def run(self, seconds: float) -> None:
        """Post for so long."""
        with _woken(self.awake):
            load = post_for(self.port, self.connections, seconds, self.make())
        self.rates.append(load.rate * self.weight)
        self.p99s_ms.append(load.percentile_ms(0.99))

    @property
    def rate(self) -> float:
        """Return postings a second."""
        return statistics.median(self.rates)

    @property
    def p99_ms(self) -> float:
        """Return what 99 of 100 requests took at most."""
        return statistics.median(self.p99s_ms)


def measure(base: Ground, seconds: float, rounds: int) -> list[Line]:
    """Run every case in turns with its baseline, check the books, and return medians."""
    limit = batch_limit(base)
    with ExitStack() as held:
        port = held.enter_context(base.gateway()).port
        plain = held.enter_context(base.gateway(module="bench.one_by_one"))
        empty = free_port()
        held.enter_context(running([sys.executable, "-m", "bench.empty_post", str(empty)], clean_environment()))
        wait_until(empty, "/v1/entries")
        bearer = token(port, base.credentials)
        ids = accounts(port, bearer, ACCOUNTS)
        spread = lambda: single(bearer, ids)  # noqa: E731 - a name for a case's requests
        cases = (
            Case(
                name="one transaction per posting, 64 connections",
                port=plain.port,
                connections=64,
                make=spread,
                awake=plain.pid,
            ),
            Case(name="a handler that does nothing, 64 connections", port=empty, connections=64, make=spread),
            Case(name="single, 1 connection", port=port, connections=1, make=spread),
            Case(name="single, 64 connections", port=port, connections=64, make=spread),
            Case(name="single, 128 connections", port=port, connections=128, make=spread),
            Case(
                name="one hot account, 64 connections",
                port=port,
                connections=64,
                make=lambda: single(bearer, ids, hot=True),
            ),
            Case(
                name=f"bulk of {BULK}, 16 connections",
                port=port,
                connections=16,
                make=lambda: bulk(bearer, ids),
                weight=BULK,
            ),
        )
        with _sleeping(plain.pid):
            for number in range(rounds):
                # Each round begins with another case: what one leaves to the disk would always be paid for by the same next one.
                first = number * len(cases) // rounds
                for case in (*cases[first:], *cases[:first]):
                    case.run(seconds)
    base.verify()
    return _lines(cases, limit)


@contextmanager
def _sleeping(pid: int) -> Iterator[None]:
    """Let a process stand still for the time of the block."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@contextmanager
def _woken(pid: int | None) -> Iterator[None]:
    """Let a process that stands still go on for the time of the block."""
    if pid is None:
        yield
        return
    os.kill(pid, signal.SIGCONT)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGSTOP)


def _lines(cases: tuple[Case, ...], limit: float) -> list[Line]:
    plain, empty, one, many, more, hot, bulked = cases
    found = [
        Line(name=each.name, value=each.rate, unit=unit)
        for each, unit in ((plain, "postings/s"), (empty, "requests/s"))
    ]
    for case, target in ((one, None), (many, rate(5_000)), (more, None)):
        found.append(Line(name=case.name, value=case.rate, unit="postings/s", baseline=plain.rate, target=target))
        found.append(
            Line(
                name=f"{case.name}: p99",
                value=case.p99_ms,
                unit="ms",
                baseline=plain.p99_ms,
                target=latency(60) if case is many else None,
            )
        )
    within = Target(goal=0.9, bound=0.8, side="least")
    return [
        *found,
        Line(
            name="64 connections / one transaction per posting", value=many.rate / plain.rate, unit="x", target=rate(5)
        ),
        Line(
            name="64 connections / a handler that does nothing",
            value=many.rate / empty.rate,
            unit="x",
            target=rate(0.25),
        ),
        Line(name=hot.name, value=hot.rate, unit="postings/s", baseline=many.rate),
        Line(name="hot account / spread accounts", value=hot.rate / many.rate, unit="x", target=within),
        Line(name=bulked.name, value=bulked.rate, unit="postings/s", baseline=limit, target=rate(15_000)),
        Line(name="bulk / the database's own limit", value=bulked.rate / limit, unit="x", target=rate(0.6)),
        Line(name=f"{bulked.name}: p99", value=bulked.p99_ms, unit="ms"),
    ]


def for_the_record(seconds: float) -> list[Line]:
    """Post into `gledger dev` on SQLite files; it has no target."""
    with embedded(RATE_LIMIT_PER_S="0") as (serving, credentials, _):
        bearer = token(serving.port, credentials)
        ids = accounts(serving.port, bearer, ACCOUNTS)
        one = post_for(serving.port, 64, seconds, single(bearer, ids))
        many = post_for(serving.port, 4, seconds, bulk(bearer, ids))
    return [
        Line(name="SQLite: single, 64 connections", value=one.rate, unit="postings/s"),
        Line(name="SQLite: single, 64 connections: p99", value=one.percentile_ms(0.99), unit="ms"),
        Line(name=f"SQLite: bulk of {BULK}, 4 connections", value=many.rate * BULK, unit="postings/s"),
    ]


def main() -> None:
    """Measure as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    with ground(RATE_LIMIT_PER_S="0") as base:
        found = measure(base, given.seconds, given.rounds)
    show("Posting", [*found, *for_the_record(given.seconds)])


if __name__ == "__main__":
    main()
