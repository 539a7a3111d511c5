"""`gledger verify` by several processes: the same findings, and none of them outlives who asked."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import pytest

from engine.databases import Site
from engine.finding import Finding
from engine.pieces import Ids, Rest, Sequences
from gledger.auditors import Auditors
from gledger.errors import AuditorLost
from tests.journeys.conftest import Production, SiteClient
from tests.processes import Finished, children_of, run, without_settings
from tests.servers import free_port

KILLED = -9


@pytest.fixture
def settings(production: Production, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment of this process, which auditors are started with, is that of the production that runs."""
    for name in set(os.environ) - set(without_settings()):
        monkeypatch.delenv(name)
    for name, value in production.deployment.environ().items():
        monkeypatch.setenv(name, value)


@asynccontextmanager
async def owner_of(production: Production) -> AsyncIterator[asyncpg.Connection]:
    """Connect as the owner of everything, past triggers and row-level security."""
    url = production.deployment.site_database.owner_url
    connection = await asyncpg.connect(
        url.replace("+asyncpg", ""), server_settings={"session_replication_role": "replica"}
    )
    try:
        yield connection
    finally:
        await connection.close()


async def site_of(site: SiteClient, production: Production) -> Site:
    """Return the site as processes name it."""
    organization = site.credentials.organization
    async with owner_of(production) as owner:
        number = await owner.fetchval("SELECT site_id FROM feeds WHERE organization = $1", organization)
    return Site(id=number, organization=organization, environment="sandbox")


async def test_several_processes_find_what_one_finds(production: Production, site: SiteClient) -> None:
    """Right books are right, and of what is wrong the first thing is named, with the same words and code.

    Also while others post.
    """
    only = ("--organization", site.credentials.organization)
    right = Finished(code=0, out=f"{site.credentials.organization}/sandbox: the books are right\n", err="")
    done = asyncio.Event()

    async def post() -> None:
        amounts = itertools.cycle(range(1, 9))
        while not done.is_set():
            await site.ask("POST", "/v1/entries", site.entry(next(amounts)))

    async with asyncio.TaskGroup() as group:
        group.create_task(post())
        for processes in ("1", "3"):
            assert await production.deployment.run("verify", *only, "--processes", processes) == right
        done.set()
    number = (await site_of(site, production)).id
    async with owner_of(production) as owner:
        changed = "UPDATE balances SET posted_debits = posted_debits + $2 WHERE site_id = $1 AND posted_debits > 0"
        await owner.execute(changed, number, 1)
        await owner.execute("UPDATE lines SET amount = amount + 1 WHERE site_id = $1 AND amount > 3", number)
        said = [await production.deployment.run("verify", *only, "--processes", each) for each in ("1", "3")]
        await owner.execute("UPDATE lines SET amount = amount - 1 WHERE site_id = $1 AND amount > 3", number)
        await owner.execute(changed, number, -1)
    assert said[0] == said[1]
    assert (said[0].code, said[0].err) == (1, "")
    assert "sandbox: lines, entry " in said[0].out


class Interrupted(Exception):
    """Somebody has seen enough."""


async def look_until_interrupted(where: Site, told: list[int], before: set[int]) -> None:
    """Have two look at something, and leave them."""
    async with Auditors(2) as auditors:
        first, second = await auditors.started()
        assert await first.look(where, Sequences(), told.append) is None
        assert await second.look(where, Ids("accounts"), told.append) is None
        assert await second.look(where, Sequences(999), told.append) == Finding(
            table="events", row="sequence 999", detail="the event is missing"
        )
        assert await auditors.started() == [first, second]
        assert len(children_of(os.getpid()) - before) == len((first, second))
        raise Interrupted


@pytest.mark.usefixtures("settings")
async def test_none_is_left_however_it_ends(production: Production, site: SiteClient) -> None:
    """An interrupt in the middle ends all of them; one that is killed is told, and so is what one says that cannot go on."""
    where = await site_of(site, production)
    before = children_of(os.getpid())
    told: list[int] = []
    with pytest.raises(Interrupted):
        await look_until_interrupted(where, told, before)
    assert told
    assert children_of(os.getpid()) == before
    async with Auditors(1) as auditors:
        [auditor] = await auditors.started()
        for pid in children_of(os.getpid()) - before:
            os.kill(pid, signal.SIGKILL)
        with pytest.raises(AuditorLost) as lost:
            await auditor.look(where, Rest("beside"), told.append)
    assert lost.value.code == KILLED
    assert children_of(os.getpid()) == before


@pytest.mark.usefixtures("settings")
async def test_what_a_process_cannot_do_is_told_as_if_there_were_one(
    production: Production, site: SiteClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A database that does not answer is that one line."""
    nobody = f"postgresql+asyncpg://gledger:secret@127.0.0.1:{free_port()}/gledger"
    where = await site_of(site, production)
    monkeypatch.setenv("GLEDGER_DATABASE_URL", nobody)
    async with Auditors(1) as auditors:
        [auditor] = await auditors.started()
        with pytest.raises(AuditorLost, match=r"\Athe database did not answer: .*\Z"):
            await auditor.look(where, Rest("beside"), lambda _rows: None)


async def test_an_auditor_whose_asker_is_gone_ends(production: Production) -> None:
    """Nobody gives it anything any more."""
    ended = await run("verify", "--auditor", environ=production.deployment.environ())
    assert ended == Finished(code=0, out="", err="")
