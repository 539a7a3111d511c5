"""`gledger verify`: the books of every site replayed, with what was found on the terminal."""

from __future__ import annotations

import asyncio
import sys
from functools import partial

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from auth import store as credentials
from engine.audit import PARTS, Part, rows_to_look_at
from engine.databases import Database, Site
from engine.errors import SiteUnknown
from engine.finding import Finding
from gledger import memory
from gledger.parts import open_control, open_databases
from gledger.settings import Settings


async def verify_sites(settings: Settings, organization: str | None, environment: str | None) -> int:
    """Verify the sites that match; return 0 where all is well, 1 where something is wrong or nothing matched."""
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
        for site in sites:
            database = await databases.of(site)
            finding = await _verify_one(site, database)
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


async def _verify_one(site: Site, database: Database) -> Finding | None:
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:,.0f} of {task.total:,.0f} rows"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        try:
            total = await database.read(lambda conn: rows_to_look_at(conn, site.id), site_id=site.id)
            task = progress.add_task(f"{site.organization}/{site.environment}", total=total)
            looked_at = partial(progress.advance, task)

            async def ask(part: Part) -> Finding | None:
                return await database.read(lambda conn: part(conn, site.id, looked_at), site_id=site.id)

            found = await asyncio.gather(*map(ask, PARTS))
            return next((each for each in found if each is not None), None)
        except SiteUnknown:
            return Finding(table="feeds", row=f"site {site.id}", detail="the site has no feed")
