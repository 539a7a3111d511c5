"""Explore seeds: `python -m tests.simulation [--seeds 1000] [--first 1]`. Says which broke a promise; such a seed replays exactly.

Run it with PYTHONHASHSEED=0, as `make simulate` does, so that sets are walked in one order.
"""

from __future__ import annotations

import argparse
import sys
import time
from concurrent.futures import ProcessPoolExecutor

from tests.simulation.scenario import Outcome, explore


def main() -> int:
    """Explore as the command line says; the exit status is 1 if a promise was broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=1000)
    parser.add_argument("--first", type=int, default=1)
    given = parser.parse_args()
    began = time.monotonic()
    numbers = range(given.first, given.first + given.seeds)
    parts = [list(numbers[start : start + 10]) for start in range(0, len(numbers), 10)]
    outcomes: list[Outcome] = []
    with ProcessPoolExecutor() as pool:
        for some in pool.map(explore, parts):
            outcomes += some
            for outcome in some:
                for broken in outcome.broken:
                    print(f"seed {outcome.seed}: {broken}")  # noqa: T201 - what the command is for
    failed = sum(1 for each in outcomes if each.broken)
    kills, requests = sum(each.kills for each in outcomes), sum(each.requests for each in outcomes)
    print(  # noqa: T201 - see above
        f"{len(outcomes)} seeds, {kills} processes killed, {requests} requests arrived, {failed} seeds broke a promise, "
        f"{time.monotonic() - began:.0f} s"
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
