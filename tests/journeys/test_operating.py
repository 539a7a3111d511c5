"""What whoever runs it meets: from empty databases to requests that are served, and every mistake told in one line."""

from __future__ import annotations

import os
import secrets
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import aiohttp
import msgspec
import pytest

from gledger.sites import CredentialsFile
from tests.databases import PostgresAddress, owner_connection
from tests.journeys.conftest import Production, SiteClient
from tests.processes import MASTER_KEY, Finished, GatewayProgram, children_of, run, until
from tests.servers import free_port

WRONG_USE: Final = 2
FAILED: Final = 1
REVOKED_WITHIN_S: Final = 5.0
BOOTSTRAP: Final = ("bootstrap", "--organization", "acme-corp", "--environment", "production", "--json")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fresh:
    """Two databases without a table, and the settings that point at them: as the owner for migrations only."""

    environ: dict[str, str]


@pytest.fixture
async def fresh(postgres_with_roles: PostgresAddress, redis_server: str) -> AsyncIterator[Fresh]:
    """Databases as a hosting company hands them over."""
    address = postgres_with_roles
    names = [f"{address.prefix}_fresh_{kind}_{secrets.token_hex(3)}" for kind in ("site", "control")]
    async with owner_connection(address) as owner:
        for name in names:
            await owner.execute(f"CREATE DATABASE {name}")
    environ = {
        "GLEDGER_DATABASE_URL": address.runtime_url(names[0]),
        "GLEDGER_CONTROL_DATABASE_URL": address.runtime_url(names[1]),
        "GLEDGER_MIGRATION_DATABASE_URL": address.owner_url(names[0]),
        "GLEDGER_MIGRATION_CONTROL_DATABASE_URL": address.owner_url(names[1]),
        "GLEDGER_REDIS_URL": redis_server,
        "GLEDGER_MASTER_KEY": MASTER_KEY,
        "GLEDGER_PUBLIC_URL": f"http://127.0.0.1:{free_port()}",
    }
    yield Fresh(environ=environ)
    async with owner_connection(address) as owner:
        for name in names:
            await owner.execute(f"DROP DATABASE {name} WITH (FORCE)")


async def test_from_empty_databases_to_rotated_credentials(fresh: Fresh) -> None:
    """Migrate twice, bootstrap once; again only with --rotate, which makes new credentials and ends the old ones."""
    environ = fresh.environ
    unready = await run("doctor", environ=environ)
    assert unready.code == FAILED
    assert "FAILED" in unready.out
    for _ in range(2):
        assert await run("migrate", environ=environ) == Finished(code=0, out="The schema is up to date.\n", err="")
    first = await run(*BOOTSTRAP, environ=environ)
    assert (first.code, first.err) == (0, "")
    again = await run(*BOOTSTRAP, environ=environ)
    assert (again.code, again.out) == (FAILED, "")
    assert again.err.startswith("gledger: acme-corp/production exists")
    assert "--rotate" in again.err
    rotated = await run(*BOOTSTRAP, "--rotate", environ=environ)
    assert rotated.code == 0, rotated.err
    old, new = (msgspec.json.decode(each.out, type=CredentialsFile) for each in (first, rotated))
    assert old.api_key != new.api_key
    assert old.client_secret != new.client_secret
    await _check_doctor(environ)
    assert (await run("verify", environ=environ)).out == "acme-corp/production: the books are right\n"


async def _check_doctor(environ: dict[str, str]) -> None:
    """Everything answers, every setting is shown, and no secret is."""
    healthy = await run("doctor", environ=environ)
    assert (healthy.code, healthy.err) == (0, "")
    assert "migrations: all applied" in healthy.out
    assert "redis: answers" in healthy.out
    assert "GLEDGER_MASTER_KEY=•••" in healthy.out
    assert MASTER_KEY not in healthy.out
    # Tests connect as a role whose password is its name: the URL shows the one and not the other.
    assert ":•••@" in healthy.out
    assert environ["GLEDGER_DATABASE_URL"] not in healthy.out


async def test_rotation_ends_the_old_credentials_at_a_gateway_that_runs(
    production: Production, site: SiteClient
) -> None:
    """The old secret gets no token and the old key no answer, as soon as the gateway has looked."""
    organization = site.credentials.organization
    old = site.credentials
    await site.ask("GET", "/v1/ledgers")
    rotated = await production.deployment.run(
        "bootstrap", "--organization", organization, "--environment", "sandbox", "--json", "--rotate"
    )
    new = msgspec.json.decode(rotated.out, type=CredentialsFile)
    for url in site.urls:
        basic = {"authorization": aiohttp.encode_basic_auth(old.client_id, old.client_secret)}
        form = {"grant_type": "client_credentials"}
        async with site.http.post(f"{url}/oauth/token", data=form, headers=basic) as answer:
            assert (answer.status, (await answer.json())["error"]) == (401, "invalid_client")
        async with site.http.get(f"{url}/v1/ledgers", headers={"x-api-key": new.api_key}) as answer:
            assert answer.status == 200
        await _until_refused(site, url, old.api_key)


async def _until_refused(site: SiteClient, url: str, api_key: str) -> None:
    """Return when a key is refused as revoked, within the five seconds that a revocation may take."""

    async def refused() -> str | None:
        async with site.http.get(f"{url}/v1/ledgers", headers={"x-api-key": api_key}) as answer:
            return (await answer.json())["code"] if answer.status == 401 else None

    assert await until(refused, timeout_s=REVOKED_WITHIN_S) == "auth.revoked"


@pytest.mark.parametrize("command", ["gateway", "worker"])
async def test_sqlite_is_refused_in_production_naming_the_settings(command: str) -> None:
    """SQLite has one writing process; what is missing is told all at once, each by its name."""
    done = await run(command, environ={})
    assert (done.code, done.out) == (WRONG_USE, "")
    for name in ("DATABASE_URL", "CONTROL_DATABASE_URL", "REDIS_URL", "MASTER_KEY"):
        assert f"gledger: GLEDGER_{name} must be " in done.err
    assert "Traceback" not in done.err


async def test_an_unknown_setting_is_refused_with_the_nearest_name() -> None:
    """A typing mistake cannot pass for a default."""
    done = await run("doctor", environ={"GLEDGER_DATABSE_URL": "x"})
    assert (done.code, done.out) == (WRONG_USE, "")
    assert done.err == "gledger: GLEDGER_DATABSE_URL is not a setting; did you mean GLEDGER_DATABASE_URL?\n"


@pytest.mark.parametrize("command", [("gateway",), ("worker",), ("migrate",), ("verify",), BOOTSTRAP])
async def test_a_database_that_does_not_answer_is_told_in_one_line(command: tuple[str, ...], redis_server: str) -> None:
    """No page of stack: which thing did not answer, and exit code 1."""
    nobody = f"postgresql+asyncpg://gledger:secret@127.0.0.1:{free_port()}/gledger"
    environ = {
        "GLEDGER_DATABASE_URL": nobody,
        "GLEDGER_CONTROL_DATABASE_URL": nobody,
        "GLEDGER_REDIS_URL": redis_server,
        "GLEDGER_MASTER_KEY": MASTER_KEY,
        "GLEDGER_PORT": str(free_port()),
    }
    done = await run(*command, environ=environ)
    assert (done.code, done.out) == (FAILED, "")
    assert done.err.startswith("gledger: the database did not answer")
    assert done.err.count("\n") == 1
    assert "secret" not in done.err


async def test_a_port_that_is_taken_is_told_in_one_line(production: Production) -> None:
    """The second gateway on a port says so and ends."""
    taken = production.gateways[0].url.rpartition(":")[2]
    done = await production.deployment.run("gateway", PORT=taken)
    assert (done.code, done.out) == (FAILED, "")
    assert done.err == f"gledger: cannot listen on 127.0.0.1:{taken}: Address already in use\n"


async def test_several_gateway_processes_share_a_port_and_one_that_dies_is_started_again(
    production: Production,
) -> None:
    """`--workers 2` is two processes behind one port; SIGTERM to the first process ends all of them, exit code 0."""
    gateway = production.deployment.gateway("--workers", "2")
    await gateway.ready()
    first = await _two_children(gateway)
    os.kill(min(first), signal.SIGKILL)
    second = await _two_children(gateway, other_than=first)
    await gateway.ready()
    assert await gateway.stop() == 0, gateway.tail()
    assert [pid for pid in second if Path(f"/proc/{pid}").exists()] == []


async def test_a_worker_that_is_told_to_stop_ends_with_code_0(production: Production, site: SiteClient) -> None:
    """SIGTERM is no failure, and what the worker was to deliver the next one delivers."""
    worker = production.deployment.worker(LOG_LEVEL="info")

    async def at_work() -> bool | None:
        return "worker.started" in worker.tail() or None

    await until(at_work, timeout_s=20)
    assert await worker.stop() == 0, worker.tail()
    assert "Traceback" not in worker.tail()


async def _two_children(gateway: GatewayProgram, other_than: set[int] | None = None) -> set[int]:
    """Return the supervised processes when they are two, and not just those."""

    async def two() -> set[int] | None:
        found = children_of(gateway.pid)
        return found if len(found) == 2 and found != other_than else None

    return await until(two, timeout_s=15)
