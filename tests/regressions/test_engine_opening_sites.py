"""Opening sites: many at the same moment, and more than may stay open."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from engine import databases as databases_module
from engine import feed
from engine.commands import CreateLedger
from engine.databases import Databases, Site
from engine.ids import Ids
from engine.ledger import Engine
from gledger.migrations import upgrade
from tests.fakes.clock import FakeClock
from tests.store.engine_stage import EPOCH

SITES = [Site(id=number, organization=f"acme-{number}", environment="sandbox") for number in range(1, 6)]


@pytest.fixture
async def databases(tmp_path: Path) -> AsyncIterator[Databases]:
    """A folder with a file for every site, none of them there yet."""
    made = Databases(
        f"sqlite+aiosqlite:///{tmp_path}/{{organization}}-{{environment}}.sqlite3",
        lambda url: upgrade(url, "site"),
    )
    yield made
    await made.close()


async def open_site(databases: Databases, site: Site) -> None:
    """Make the site's file and its row."""
    database = await databases.of(site)
    await database.write(lambda conn: feed.create_site(conn, site, EPOCH, 1), site_id=site.id)


async def test_sites_that_are_opened_at_the_same_moment_are_all_migrated(databases: Databases) -> None:
    """Each migration runs alone; none of them ends in the middle of another."""
    await asyncio.gather(*(open_site(databases, site) for site in SITES))
    for site in SITES:
        head = await (await databases.of(site)).read(lambda conn, site=site: feed.read_head(conn, site.id))  # type: ignore[misc]
        assert head.sequence == 0


async def test_file_that_was_closed_to_make_room_never_gets_a_second_writer(
    databases: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An engine that still holds the site's database and one that asks for it again write through the same one."""
    monkeypatch.setattr(databases_module, "OPEN_FILES_MAX", 2)
    engine = Engine(databases, FakeClock(), Ids(), lambda _site, _head: None)
    for _ in range(2):
        for site in SITES:
            await open_site(databases, site)
            await engine.submit(site, CreateLedger(name="Main"))
    for site in SITES:
        assert engine._writers[site.id]._database is await databases.of(site)
        assert (await engine.head(site)).sequence == 2
