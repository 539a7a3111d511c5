"""Everything, short: `python -m bench`, or `make bench`. About five minutes on two cores.

    python -m bench [--quick]

Posting, delivery and streams, each on servers of its own and beside its baselines of the same run, with the books checked
after each. Prints whether each target of docs/performance.md is met, and fails only where nothing was measured: where
a request failed, a webhook or an event is missing, or the books are wrong. Each part alone, with options: `python -m
bench.posting`, `bench.delivery`, `bench.streams`.
"""

from __future__ import annotations

import argparse
import time

from bench import delivery, posting, streams
from bench.ground import ground
from bench.table import Line, show
from bench.usage import load_average


def main() -> None:
    """Measure everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="so short that it only shows that everything runs")
    quick = parser.parse_args().quick
    started = time.monotonic()
    print(f"Load average before: {load_average()} (more than about 0.3: somebody else is being measured too)")
    lines = _posting(2.0 if not quick else 0.5, 3 if not quick else 1)
    lines += _delivery(6_000 if not quick else 1_000, 8.0 if not quick else 1.0)
    for clients in (100, 1_000) if not quick else (100,):
        lines += _streams(clients, 8.0 if not quick else 1.0)
    judged = [line for line in lines if line.target is not None]
    met = sum(line.target.met_by(line.value) for line in judged if line.target is not None)
    print(f"\n{met} of {len(judged)} targets met, in {time.monotonic() - started:.0f} s; load average {load_average()}")


def _posting(seconds: float, rounds: int) -> list[Line]:
    with ground(RATE_LIMIT_PER_S="0") as base:
        found = posting.measure(base, seconds, rounds)
    found += posting.for_the_record(seconds)
    show("Posting", found)
    return found


def _delivery(events: int, seconds: float) -> list[Line]:
    with ground(RATE_LIMIT_PER_S="0") as base:
        found = delivery.measure(base, events, seconds)
    show("Delivery", found)
    return found


def _streams(clients: int, seconds: float) -> list[Line]:
    with ground(RATE_LIMIT_PER_S="0") as base:
        found = streams.measure(base, streams.Load(clients=clients, rate_per_s=100.0, seconds=seconds))
    show(f"Streams, {clients:,} clients", found)
    return found


if __name__ == "__main__":
    main()
