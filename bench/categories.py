"""What categories cost, by how many accounts they have: `python -m bench.categories [--accounts 100 10000]`.

One category, inside another, grows to each size through the engine itself, on PostgreSQL, in this process. Printed are
milliseconds for reading its balance from the stored sum and for adding its accounts up (what a sum on every read would cost,
and what a change of a link costs), for a posting to an account in no category, in the two, and in the two with a limit and a
monitor each; and their ratio to the smallest size, or to the posting in no category.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final

from bench.ground import Ground, ground
from bench.table import Line, percentile, show
from engine import category_queries, category_store
from engine.balances import Limit
from engine.category_commands import CreateCategory, CreateMonitor, LinkCategory, PlaceAccount, UpdateCategory
from engine.commands import Command, CreateAccount, CreateLedger, LineDraft, PostEntry
from engine.databases import Site
from gledger.parts import Parts, open_parts
from gledger.settings import Settings

ASKED: Final = 60
TOGETHER: Final = 256


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--accounts", type=int, nargs="+", default=[100, 10_000], help="how large the category grows")
    sizes = sorted(parser.parse_args().accounts)
    with ground() as base:
        show("Categories", asyncio.run(measure(base, sizes)))
        base.verify()


async def measure(base: Ground, sizes: list[int]) -> list[Line]:
    """Grow a category to each size and ask; return a line for each question and size."""
    found: list[Line] = []
    async with open_parts(Settings.from_env(base.environment)) as parts:
        site = (await parts.sites())[0]

        async def made(command: Command) -> str:
            return (await parts.engine.submit(site, command)).resource_id or ""

        async def timed(
            name: str, size: int, run: Callable[[], Awaitable[Any]], baseline: float | None = None
        ) -> float:
            times = []
            for _ in range(ASKED):
                started = time.perf_counter()
                await run()
                times.append(time.perf_counter() - started)
            median_ms = percentile(times, 0.5) * 1000
            first = smallest.setdefault(name, median_ms) if baseline is None else baseline
            found.append(Line(name=f"{name}, {size:,} accounts", value=median_ms, unit="ms", baseline=first))
            return median_ms

        smallest: dict[str, float] = {}
        alone = 0.0
        ledger = await made(CreateLedger(name="Groups"))
        opening = CreateAccount(ledger_id=ledger, name="One of many", type="liability", currency="EUR")
        free, cash = await made(opening), await made(opening)
        top, low = [await made(_category(name)) for name in ("Top", "Low")]
        await made(LinkCategory(category_id=top, child_id=low, inside=True))
        inside: list[str] = []
        for size in sizes:
            inside += await _fill(parts, site, opening, low, size - len(inside))
            alone = await timed("posting in no category", size, partial(made, _entry(free, cash)))
            await timed("posting in two categories", size, partial(made, _entry(inside[0], cash)), alone)
            from_sum = partial(parts.engine.ask, site, category_queries.category_balance, top)
            added_up = partial(parts.engine.ask, site, category_store.sum_below, [top])
            await timed("balance from its sum", size, from_sum)
            await timed("balance added up", size, added_up)
        for category_id in (top, low):
            limit = Limit(balance="available", at_least=-(10**12), at_most=None)
            await made(UpdateCategory(category_id=category_id, limits=(limit,)))
            await made(
                CreateMonitor(
                    subject="account_category", subject_id=category_id, field="posted", operator="gt", value=10**12
                )
            )
        await timed(
            "posting, two categories limited and watched", sizes[-1], lambda: made(_entry(inside[0], cash)), alone
        )
    return found


def _category(name: str) -> CreateCategory:
    return CreateCategory(name=name, currency="EUR", normal_balance="credit")


def _entry(debit: str, credit: str) -> PostEntry:
    lines = ((debit, "debit"), (credit, "credit"))
    return PostEntry(lines=tuple(LineDraft(account=a, direction=d, amount=1, metadata={}) for a, d in lines))  # type: ignore[arg-type]


async def _fill(parts: Parts, site: Site, opening: CreateAccount, category_id: str, count: int) -> list[str]:
    """Open accounts and put them into a category; return their ids."""
    made: list[str] = []
    started = time.perf_counter()
    while len(made) < count:
        width = min(TOGETHER, count - len(made))
        opened = await asyncio.gather(*(parts.engine.submit(site, opening) for _ in range(width)))
        ids = [each.resource_id or "" for each in opened]
        places = [PlaceAccount(category_id=category_id, account_id=each, inside=True) for each in ids]
        await asyncio.gather(*(parts.engine.submit(site, place) for place in places))
        made += ids
    print(f"{count:,} accounts opened and placed in {time.perf_counter() - started:.1f} s", flush=True)
    return made


if __name__ == "__main__":
    main()
