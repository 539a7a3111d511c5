"""What questions about the past cost, by how many lines the account has: `python -m bench.history [--lines 10000 1000000]`.

One account grows to each size in turn, on PostgreSQL, by rows as the program writes them (see `bench.filling`); then the
spans are made and the time is measured, once, and every question is asked at random moments. Two accounts: one whose
entries take effect when they are booked, one whose entries take effect at any time of a year. Printed are milliseconds a
question at each size, and the ratio to the smallest: a logarithm grows from 10,000 to 1,000,000 by half.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any, Final

from bench.filling import Posting, fill
from bench.ground import Ground, ground
from bench.table import Line, percentile, show
from engine import statements
from engine.commands import CreateAccount, CreateLedger
from engine.databases import Site
from engine.history import Moment
from engine.spanning import SpanBuilder
from engine.statements import Stretch
from gledger.parts import Parts, open_parts
from gledger.settings import Settings

YEAR_US: Final = 365 * 86_400_000_000
ASKED: Final = 60


@dataclass(slots=True, kw_only=True)
class Grown:
    """An account, how many lines it has, and between which times they take effect."""

    account_id: str
    shuffled: bool
    lines: int = 0
    first_at: int = 0
    last_at: int = 0


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lines", type=int, nargs="+", default=[10_000, 1_000_000], help="how large the account grows")
    sizes = sorted(parser.parse_args().lines)
    with ground() as base:
        show("Questions about the past", asyncio.run(measure(base, sizes)))
        base.verify()


async def measure(base: Ground, sizes: list[int]) -> list[Line]:
    """Grow both accounts to each size and ask; return a line for each question and size."""
    found: list[Line] = []
    async with open_parts(Settings.from_env(base.environment)) as parts:
        site = (await parts.sites())[0]
        ledger = (await parts.engine.submit(site, CreateLedger(name="Past"))).resource_id or ""
        for shuffled in (False, True):
            account, other = [await _account(parts, site, ledger) for _ in range(2)]
            grown = Grown(account_id=account, shuffled=shuffled)
            smallest: dict[str, float] = {}
            for size in sizes:
                grow_s = await _grow(parts, base, grown, other, size)
                started = time.perf_counter()
                await SpanBuilder(parts.databases).extend(site, account)
                built_s = time.perf_counter() - started
                order = "in any order" if shuffled else "in order"
                print(f"{grown.lines:,} lines {order}: {grow_s:.0f} s, spans {built_s:.1f} s", flush=True)
                for name, ask in _questions(grown).items():
                    median_ms = await _asked(parts, site, ask)
                    smallest.setdefault(name, median_ms)
                    found.append(
                        Line(
                            name=f"{name}, {size:,} lines {order}", value=median_ms, unit="ms", baseline=smallest[name]
                        )
                    )
    return found


async def _account(parts: Parts, site: Site, ledger: str) -> str:
    command = CreateAccount(ledger_id=ledger, name="Past", type="asset", currency="EUR")
    return (await parts.engine.submit(site, command)).resource_id or ""


async def _grow(parts: Parts, base: Ground, grown: Grown, other: str, size: int) -> float:
    """Fill the books until the account has so many lines; return the seconds it took."""
    started = time.perf_counter()
    random = Random(grown.lines)
    now = parts.clock.now_us()
    grown.first_at = now - YEAR_US if grown.shuffled else grown.first_at or now

    def draw() -> Posting:
        return Posting(grown.account_id, other, 1, now - random.randrange(YEAR_US) if grown.shuffled else None)

    await asyncio.to_thread(fill, base, size - grown.lines, draw)
    grown.lines = size
    grown.last_at = parts.clock.now_us()
    return time.perf_counter() - started


def _questions(grown: Grown) -> dict[str, tuple[Callable[..., Any], Callable[[Random], tuple[Any, ...]]]]:
    """Return each question with what draws its arguments."""

    def at(random: Random) -> int:
        return random.randrange(grown.first_at, grown.last_at)

    return {
        "balance now": (statements.balance_at, lambda _: (grown.account_id,)),
        "balance as of a time": (statements.balance_at, lambda r: (grown.account_id, Moment(as_of=at(r)))),
        "balance as of a version": (
            statements.balance_at,
            lambda r: (grown.account_id, Moment(version=r.randrange(1, grown.lines))),
        ),
        "balance as known at a time": (statements.balance_at, lambda r: (grown.account_id, Moment(known_at=at(r)))),
        "balance as of a time, of a version": (
            statements.balance_at,
            lambda r: (grown.account_id, Moment(as_of=at(r), version=r.randrange(1, grown.lines))),
        ),
        "a statement's page of 50": (
            statements.statement,
            lambda r: (grown.account_id, Stretch(start=at(r), end=grown.last_at + 1), None),
        ),
        "a year by months": (
            statements.balance_history,
            lambda _: (grown.account_id, "month", Stretch(start=grown.last_at - YEAR_US, end=grown.last_at), None),
        ),
    }


async def _asked(
    parts: Parts, site: Site, question: tuple[Callable[..., Any], Callable[[Random], tuple[Any, ...]]]
) -> float:
    """Ask a question again and again; return the median in milliseconds."""
    query, draw = question
    random = Random(1)
    spent: list[float] = []
    for _ in range(ASKED):
        arguments = draw(random)
        started = time.perf_counter()
        await parts.engine.ask(site, query, *arguments)
        spent.append((time.perf_counter() - started) * 1000)
    return percentile(spent, 0.5)


if __name__ == "__main__":
    main()
