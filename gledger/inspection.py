"""`gledger verify`: the books of every site replayed, with what was found on the terminal."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial
from itertools import chain
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from auth import store as credentials
from engine import audit
from engine.databases import Database, Site
from engine.errors import SiteUnknown
from engine.finding import Finding
from engine.pieces import Piece, Rest
from gledger import memory
from gledger.auditors import Auditors
from gledger.parts import open_control, open_databases
from gledger.settings import Settings

FEW_ROWS: Final = 200_000
"""So many are looked at before another process would have begun."""
_PROCESSES_MAX: Final = 4
_AT_ONCE: Final = 2

Look = Callable[[Piece], Awaitable[Finding | None]]


async def verify_sites(
    settings: Settings, organization: str | None, environment: str | None, processes: int | None = None
) -> int:
    """Verify the sites that match; return 0 where all is well, 1 where something is wrong or nothing matched.

    So many processes look at once; None is as many as there are processors, from two to four, where the books are large.
    """
    control = open_control(settings, writer=False)
    databases = open_databases(settings, writer=False)
    memory.settle()
    try:
        found = await control.read(credentials.list_sites)
        sites = [
            Site(id=each.id, organization=each.organization, environment=each.environment)
            for each in found
            if organization in {None, each.organization} and environment in {None, each.environment}
        ]
        if not sites:
            print("gledger: there is no such site", file=sys.stderr)
            return 1
        wrong = 0
        async with Auditors(processes or min(_PROCESSES_MAX, max(2, os.cpu_count() or 1))) as auditors:
            for site in sites:
                finding = await _verify_one(site, await databases.of(site), auditors, processes)
                name = f"{site.organization}/{site.environment}"
                if finding is None:
                    print(f"{name}: the books are right")
                else:
                    wrong += 1
                    print(f"{name}: {finding.table}, {finding.row}: {finding.detail}")
        return 1 if wrong else 0
    finally:
        await databases.close()
        await control.close()


async def _verify_one(site: Site, database: Database, auditors: Auditors, processes: int | None) -> Finding | None:
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:,.0f} of {task.total:,.0f} rows"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        try:
            rows, pieces = await database.read(lambda conn: audit.plan(conn, site.id), site_id=site.id)
            looked_at = partial(
                progress.advance, progress.add_task(f"{site.organization}/{site.environment}", total=rows)
            )

            async def here(piece: Piece) -> Finding | None:
                return await database.read(
                    lambda conn: audit.verify_piece(conn, site.id, piece, looked_at), site_id=site.id
                )

            if processes == 1 or (processes is None and rows <= FEW_ROWS):
                return await first_of(pieces, [here] * _AT_ONCE)
            looks = [partial(each.look, site, progress=looked_at) for each in await auditors.started()]
            return await first_of(pieces, looks)
        except SiteUnknown:
            return Finding(table="feeds", row=f"site {site.id}", detail="the site has no feed")


async def first_of(pieces: Sequence[Piece], looks: Sequence[Look]) -> Finding | None:
    """Return what the first piece has that has something wrong, whoever is done first; each looks at one at a time."""
    found: dict[int, Finding] = {}
    # What is one piece however much it is goes first, so that nobody waits for it alone in the end; one looks at those.
    large = iter([each for each in enumerate(pieces) if isinstance(each[1], Rest)])
    small = iter([each for each in enumerate(pieces) if not isinstance(each[1], Rest)])

    async def work(look: Look, mine: Iterator[tuple[int, Piece]]) -> None:
        for number, piece in mine:
            if number < min(found, default=len(pieces)):
                finding = await look(piece)
                if finding is not None:
                    found[number] = finding

    first, *others = looks
    tasks = [asyncio.ensure_future(work(first, chain(large, small)))]
    tasks += [asyncio.ensure_future(work(each, small)) for each in others]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return found[min(found)] if found else None
