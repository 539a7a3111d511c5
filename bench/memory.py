"""Whether a gateway's memory grows under a steady load: `python -m bench.memory [--seconds 3600] [--rate 300]`.

One gateway on a durable PostgreSQL, and a schedule of requests over what a gateway keeps anything of: entries with new keys and
metadata, batches, reservations, changed accounts, dry runs, balances now and in time, lists by ever other filters. Its
resident memory is read again and again. Printed are the means of ten stretches and the slope of a line through what was read
after the first quarter, in which connections, statements and caches come to their size. The books are verified.
"""

from __future__ import annotations

import argparse
import json
import statistics
import threading
import time
from collections.abc import Callable
from random import Random
from typing import Any, Final

import uvloop

from bench import client
from bench.entries import entry
from bench.ground import Ground, accounts, ground, token
from bench.table import Line, Target, show
from bench.usage import Usage, load_average, usage

ACCOUNTS: Final = 500
WARM: Final = 0.25
STRETCHES: Final = 10
RENEWED_EVERY_S: Final = 240.0
"""A token lives ten minutes at most."""
GROWTH: Final = Target(goal=1.0, bound=2.0, side="most")
Maker = Callable[[int, int], bytes]


class Bearer:
    """An access token that is valid whenever it is asked for."""

    def __init__(self, port: int, base: Ground) -> None:
        """Take where it is had, and from whom."""
        self._port, self._base = port, base
        self._until = 0.0
        self._text = ""

    def __str__(self) -> str:
        if time.monotonic() > self._until:
            self._text = token(self._port, self._base.credentials)
            self._until = time.monotonic() + RENEWED_EVERY_S
        return self._text


def mixed(bearer: Bearer, ids: list[str]) -> Maker:
    """Return what makes the n-th request: of twenty, fifteen write and five read."""
    random = Random(1)
    run = time.time_ns()

    def pair() -> dict[str, Any]:
        return entry(*random.sample(ids, 2))

    def write(kind: int, number: int) -> tuple[str, dict[str, Any]]:
        if kind < 11:
            return "/v1/entries", pair() | {"metadata": {"order": str(number)}, "external_id": f"{run}-{number}"}
        if kind == 11:
            later = [
                pair() | {"status": "pending", "local_id": "later"},
                {"operation": "post", "entry_id": "local:later"},
            ]
            return "/v1/entries/batch", {"entries": [pair() for _ in range(8)] + later}
        if kind == 12:
            return "/v1/holds", pair() | {"metadata": {"order": str(number)}}
        return "/v1/entries/validate", pair() | {"description": f"number {number}"}

    def read(kind: int, number: int) -> str:
        account = random.choice(ids)
        return (
            f"/v1/accounts/{account}/balance",
            f"/v1/accounts/{account}/balance?as_of=2026-01-01T00:00:00.{number % 10**6:06}Z",
            f"/v1/entries?metadata[order]={number - 100}",
            f"/v1/accounts/{account}/lines?limit=20",
            f"/v1/events?limit=20&resource_id={account}",
        )[kind]

    def make(number: int, _at_us: int) -> bytes:
        kind = number % 20
        if kind >= 15:
            return client.request("GET", read(kind - 15, number), str(bearer))
        method, path, body = "POST", *write(kind, number)
        if kind == 13:
            method, path, body = "PATCH", f"/v1/accounts/{random.choice(ids)}", {"metadata": {"order": str(number)}}
        headers = f"idempotency-key: {run}-{number}\r\ncorrelation-id: c-{number}\r\n"
        return client.request(method, path, str(bearer), json.dumps(body).encode(), headers)

    return make


class Watch:
    """Reads what a process uses again and again, as long as the block lasts."""

    def __init__(self, pid: int, every_s: float) -> None:
        """Take whose, and how often."""
        self._pid, self._every_s = pid, every_s
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.found: list[Usage] = []

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.is_set():
            self.found.append(usage(self._pid))
            self._over.wait(self._every_s)


def measure(base: Ground, seconds: float, rate_per_s: float) -> list[Line]:
    """Load a gateway and return how its memory went."""
    with base.gateway() as serving:
        bearer = Bearer(serving.port, base)
        ids = accounts(serving.port, str(bearer), ACCOUNTS)
        make = mixed(bearer, ids)
        with Watch(serving.pid, min(1.0, seconds / 100)) as watch:
            load: client.Load = uvloop.run(client.paced("127.0.0.1", serving.port, rate_per_s, seconds, make))
    if load.failures:
        raise SystemExit(
            f"{load.failures} requests failed: nothing was measured. The first answer:\n{load.first_failure}"
        )
    base.verify()
    return _lines(watch.found, load)


def _lines(found: list[Usage], load: client.Load) -> list[Line]:
    started, ended = found[0].at_s, found[-1].at_s
    mib = [(each.at_s - started, each.resident_bytes / 1024**2) for each in found]
    length = (ended - started) / STRETCHES
    lines = []
    for number in range(STRETCHES):
        stretch = [value for at, value in mib if number * length <= at <= (number + 1) * length]
        name = f"resident memory from {number * length:,.0f} to {(number + 1) * length:,.0f} s"
        lines.append(Line(name=name, value=statistics.mean(stretch), unit="MiB"))
    warm = [(at, value) for at, value in mib if at >= WARM * (ended - started)]
    slope, first = statistics.linear_regression(*zip(*warm, strict=True))
    grown = slope * 3600 / first * 100
    return [
        *lines,
        Line(name="growth after the first quarter", value=slope * 3600, unit="MiB/h"),
        Line(name="growth after the first quarter, of what it was", value=grown, unit="%/h", target=GROWTH),
        Line(name="requests answered", value=load.done, unit=""),
        Line(name="requests answered: p99 from the schedule", value=load.percentile_ms(0.99), unit="ms"),
        Line(name="processor", value=found[-1].cores_since(found[0]), unit="cores"),
    ]


def main() -> None:
    """Measure as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=3600.0)
    parser.add_argument("--rate", type=float, default=300.0, help="requests a second")
    given = parser.parse_args()
    with ground(RATE_LIMIT_PER_S="0") as base:
        found = measure(base, given.seconds, given.rate)
    show(f"Memory of a gateway, {given.rate:,.0f} requests a second; load average {load_average()}", found)


if __name__ == "__main__":
    main()
