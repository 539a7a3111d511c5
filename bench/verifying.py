"""What `gledger verify` costs, by how many entries there are: `python -m bench.verifying [--entries 10000 1000000]`.

The books grow to each size in turn through the engine itself, in batches, on PostgreSQL, in this process: transfers between a
thousand accounts, one of which is on every third entry; some reserved and posted later, some reserved and given up, some
reversed, some with four lines, all with metadata. Then the program verifies them as anybody would run it. Printed are the
seconds, the entries and rows it replays in a second, and the most memory that one of its processes held; the ratio is that to the
smallest size.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
import time
from random import Random
from typing import Any, Final

from bench.ground import Ground, ground
from bench.table import Line, latency, show
from engine.audit import rows_to_look_at
from engine.commands import (
    LOCAL,
    ArchiveEntry,
    BatchItem,
    CreateAccount,
    CreateLedger,
    LineDraft,
    PostBatch,
    PostEntry,
    PostPending,
    ReverseEntry,
)
from engine.databases import Site
from gledger.parts import Parts, open_parts
from gledger.settings import Settings

ACCOUNTS: Final = 1_000
BATCH: Final = 800
GOAL_S_PER_MILLION: Final = 60.0


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--entries", type=int, nargs="+", default=[10_000, 1_000_000], help="how many entries there are"
    )
    sizes = sorted(parser.parse_args().entries)
    found: list[Line] = []
    with ground() as base:
        accounts: list[str] = []
        entries = 0
        for size in sizes:
            started = time.perf_counter()
            entries, rows = asyncio.run(grow(base, accounts, entries, size))
            grown_s = time.perf_counter() - started
            seconds, memory_mib = timed(base)
            print(f"{entries:,} entries, {rows:,} rows: grown in {grown_s:.0f} s", flush=True)
            found += _lines(found, size, entries / seconds, rows / seconds, seconds, memory_mib)
        show("gledger verify", found)


def _lines(
    before: list[Line], size: int, entries_s: float, rows_s: float, seconds: float, memory_mib: float
) -> list[Line]:
    goal = latency(GOAL_S_PER_MILLION * size / 1_000_000) if size >= 1_000_000 else None
    given = (
        ("seconds", seconds, "s", goal),
        ("entries a second", entries_s, "/s", None),
        ("rows a second", rows_s, "/s", None),
        ("memory at most", memory_mib, "MiB", None),
    )
    smallest = [each.value for each in before[: len(given)]] or [value for _, value, _, _ in given]
    return [
        Line(name=f"{name}, {size:,} entries", value=value, unit=unit, baseline=first, target=target)
        for (name, value, unit, target), first in zip(given, smallest, strict=True)
    ]


async def grow(base: Ground, accounts: list[str], entries: int, size: int) -> tuple[int, int]:
    """Post until there are so many entries; return how many there are, and how many rows will be looked at."""
    random = Random(entries)
    async with open_parts(Settings.from_env(base.environment)) as parts:
        site = (await parts.sites())[0]
        if not accounts:
            accounts += await _open_accounts(parts, site)
        while entries < size:
            items, names = _drawn(random, accounts, min(BATCH, size - entries))
            await parts.engine.submit(site, PostBatch(entries=items, names=names))
            entries += sum(not isinstance(each, PostPending | ArchiveEntry) for each in items)
        rows = await parts.engine.ask(site, rows_to_look_at)
    return entries, int(rows.value)


async def _open_accounts(parts: Parts, site: Site) -> list[str]:
    ledger = (await parts.engine.submit(site, CreateLedger(name="Books"))).resource_id or ""
    opening = CreateAccount(ledger_id=ledger, name="One of many", type="asset", currency="EUR")
    done = await asyncio.gather(*(parts.engine.submit(site, opening) for _ in range(ACCOUNTS)))
    return [each.resource_id or "" for each in done]


def _drawn(random: Random, accounts: list[str], count: int) -> tuple[tuple[BatchItem, ...], tuple[str | None, ...]]:
    """Draw a batch that makes so many entries."""
    items: list[BatchItem] = []
    names: list[str | None] = []
    while count > 0:
        kind = random.random()
        name = f"n{len(items)}" if kind < 0.2 else None
        items.append(_entry(random, accounts, pending=kind < 0.15, legs=2 if kind > 0.9 else 1))
        names.append(name)
        count -= 1
        if kind < 0.1:
            items.append(PostPending(entry_id=f"{LOCAL}{name}"))
        elif kind < 0.15:
            items.append(ArchiveEntry(entry_id=f"{LOCAL}{name}"))
        elif kind < 0.2 and count > 0:
            items.append(ReverseEntry(entry_id=f"{LOCAL}{name}"))
            count -= 1
        names += [None] * (len(items) - len(names))
    return tuple(items), tuple(names)


def _entry(random: Random, accounts: list[str], *, pending: bool, legs: int) -> PostEntry:
    lines = []
    for _ in range(legs):
        debit, credit = random.choice(accounts), accounts[0] if random.random() < 1 / 3 else random.choice(accounts)
        amount = random.randint(1, 100_000)
        lines += [_line(debit, "debit", amount), _line(credit, "credit", amount)]
    metadata = {"order": str(random.randrange(10**9))}
    return PostEntry(lines=tuple(lines), status="pending" if pending else "posted", metadata=metadata)


def _line(account_id: str, direction: Any, amount: int) -> LineDraft:
    return LineDraft(account=account_id, direction=direction, amount=amount, metadata={})


def timed(base: Ground) -> tuple[float, float]:
    """Verify as anybody would; return the seconds and the most memory in MiB. What is wrong ends the measurement."""
    started = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "gledger", "verify"], env=base.environment, stdout=sys.stderr)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit("the books are wrong: nothing was measured")
    return time.perf_counter() - started, used.ru_maxrss / 1024


if __name__ == "__main__":
    main()
