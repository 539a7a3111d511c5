"""`compose.yaml` and the Dockerfile, run: every command and setting in them, as processes against local servers."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import aiohttp
import msgspec
import pytest
import yaml

from gledger.embedded import find_server
from gledger.sites import CredentialsFile
from tests.processes import MASTER_KEY, ROOT, GatewayProgram, Program, run, until
from tests.servers import Postgres, free_port

COMPOSE: Final = (ROOT / "compose.yaml").read_text("utf-8")
DOCKERFILE: Final = (ROOT / "Dockerfile").read_text("utf-8")
PORT: Final = "8080"


def document() -> dict[str, Any]:
    """Return `compose.yaml` as compose reads it, with a master key and every default."""

    def value(match: re.Match[str]) -> str:
        return MASTER_KEY if match["name"] == "GLEDGER_MASTER_KEY" else match["text"]

    pattern = r"\$\{(?P<name>[A-Z_]+):(?P<kind>[-?])(?P<text>[^}]*)\}"
    found: dict[str, Any] = yaml.safe_load(re.sub(pattern, value, COMPOSE))
    return found


class Host:
    """One machine that plays every container: the services' host names become its ports."""

    def __init__(self, postgres: Postgres, redis_port: int, gateway_port: int) -> None:
        self.services: dict[str, Any] = document()["services"]
        self.gateway_port = gateway_port
        self._postgres = postgres
        self._redis_port = redis_port

    def environ(self, service: str) -> dict[str, str]:
        """Return a service's environment: the image's settings under its own, at this machine's addresses."""
        image = dict(re.findall(r"\b(GLEDGER_[A-Z_]+)=(\S+)", DOCKERFILE))
        return {name: self.here(value) for name, value in (image | self.services[service]["environment"]).items()} | {
            "GLEDGER_PORT": str(self.gateway_port)
        }

    def here(self, text: str) -> str:
        """Return a text with the containers' addresses replaced by this machine's."""
        return (
            text.replace("@postgres/", f"@127.0.0.1:{self._postgres.port}/")
            .replace("redis://redis:6379", f"redis://127.0.0.1:{self._redis_port}")
            .replace(f"127.0.0.1:{PORT}", f"127.0.0.1:{self.gateway_port}")
        )

    def prepare_postgres(self, folder: Path) -> None:
        """Do what the image does with a new data folder: the owner, its database, then the mounted script."""
        given = self.services["postgres"]["environment"]
        environ = {
            **given,
            "PATH": f"{self._postgres.programs}{os.pathsep}{os.environ['PATH']}",
            "PGHOST": "127.0.0.1",
            "PGPORT": str(self._postgres.port),
        }
        owner = f"CREATE ROLE {given['POSTGRES_USER']} SUPERUSER LOGIN PASSWORD '{given['POSTGRES_PASSWORD']}'"
        for statement in (owner, f"CREATE DATABASE {given['POSTGRES_DB']} OWNER {given['POSTGRES_USER']}"):
            self._psql(statement, environ, folder)
        [script] = [each for each in self.services["postgres"]["volumes"] if each.startswith("./")]
        command = ["sh", str(ROOT / script.partition(":")[0])]
        subprocess.run(command, env=environ, check=True, capture_output=True, cwd=folder)

    def check_postgres(self, folder: Path) -> None:
        """Run the health check of the service."""
        command = self.services["postgres"]["healthcheck"]["test"][1:]
        program = self._postgres.programs / command[0]
        done = subprocess.run(
            [program, *command[1:], f"--port={self._postgres.port}"], capture_output=True, check=False, cwd=folder
        )
        assert done.returncode == 0, done.stdout

    def check_gateway(self) -> int:
        """Run the health check of the gateway and return its exit code."""
        kind, program, *arguments = self.services["gateway"]["healthcheck"]["test"]
        assert (kind, program) == ("CMD", "python")
        command = [sys.executable, *(self.here(each) for each in arguments)]
        return subprocess.run(command, check=False, capture_output=True).returncode

    def _psql(self, statement: str, environ: dict[str, str], folder: Path) -> None:
        command = ["psql", "--username", "postgres", "--dbname", "postgres", "--set=ON_ERROR_STOP=1", "-c", statement]
        subprocess.run(command, env=environ, check=True, capture_output=True, cwd=folder)


@contextmanager
def redis_of(services: dict[str, Any], folder: Path) -> Iterator[int]:
    """Run the Redis service's command with the server of this machine, on a free port."""
    port = free_port()
    name, *arguments = services["redis"]["command"]
    assert name == "redis-server"
    with (folder / "redis.log").open("wb") as log:
        process = subprocess.Popen(
            [find_server(), *arguments, "--port", str(port), "--bind", "127.0.0.1"],
            cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )  # fmt: skip
    try:
        yield port
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(10)


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    """PostgreSQL and Redis run as `compose.yaml` runs them."""
    services = document()["services"]
    name, *given = services["postgres"]["command"]
    assert name == "postgres"
    assert set(given[::2]) == {"-c"}
    settings = dict(each.split("=") for each in given[1::2])
    with Postgres(settings=settings) as postgres, redis_of(services, tmp_path) as redis_port:
        made = Host(postgres, redis_port, free_port())
        made.prepare_postgres(tmp_path)
        made.check_postgres(tmp_path)
        yield made


async def test_every_command_and_setting_of_the_deployment_works(host: Host, tmp_path: Path) -> None:
    """Migrate, gateway and worker start with what the files give them; the site that is made serves and is measured."""
    assert 'ENTRYPOINT ["gledger"]' in DOCKERFILE
    migrated = await run(*host.services["migrate"]["command"], environ=host.environ("migrate"))
    assert (migrated.code, migrated.err) == (0, "")
    made = await run(*_bootstrap_command(), environ=host.environ("migrate"))
    assert (made.code, made.err) == (0, "")
    credentials = msgspec.json.decode(made.out, type=CredentialsFile)
    assert credentials.base_url == host.here(document()["x-settings"]["GLEDGER_PUBLIC_URL"])
    gateway = GatewayProgram(
        *host.services["gateway"]["command"], environ=host.environ("gateway"), log=tmp_path / "gateway.log",
        port=host.gateway_port,
    )  # fmt: skip
    worker = Program(*host.services["worker"]["command"], environ=host.environ("worker"), log=tmp_path / "worker.log")
    try:
        gateway.start()
        worker.start()
        await gateway.ready()
        assert host.check_gateway() == 0
        await _use(credentials, host.services["gateway"]["environment"]["GLEDGER_METRICS_TOKEN"])

        async def at_work() -> bool | None:
            return "worker.started" in worker.tail() or None

        await until(at_work, timeout_s=20)
        began = time.monotonic()
        assert (await worker.stop(), await gateway.stop()) == (0, 0), worker.tail() + gateway.tail()
        grace_s = int(host.services["gateway"]["stop_grace_period"].removesuffix("s"))
        assert time.monotonic() - began < grace_s
        for line in (gateway.tail() + worker.tail()).splitlines():
            msgspec.json.decode(line)
    finally:
        gateway.close()
        worker.close()
    assert host.check_gateway() != 0, "the health check cannot fail"


def test_the_image_starts_what_the_files_name() -> None:
    """The image's default command, and the commands of the services, are commands of the program."""
    found = re.search(r"^CMD (\[.*\])$", DOCKERFILE, re.MULTILINE)
    assert found is not None
    assert yaml.safe_load(found[1]) == ["gateway"]
    assert re.search(r"^STOPSIGNAL SIGTERM$", DOCKERFILE, re.MULTILINE)
    copied = re.findall(r"^COPY (?!--from)(\S+) ", DOCKERFILE, re.MULTILINE)
    assert [name for name in copied if not (ROOT / name).exists()] == []


def _bootstrap_command() -> list[str]:
    """Return the arguments of the command that the head of `compose.yaml` tells to run."""
    found = re.search(r"^#\s+docker compose run --rm migrate (.*)$", COMPOSE, re.MULTILINE)
    assert found is not None
    return shlex.split(found[1])


async def _use(credentials: CredentialsFile, metrics_token: str) -> None:
    """Make a ledger over the public address, and read the metrics as Prometheus does."""
    async with aiohttp.ClientSession(credentials.base_url) as http:
        async with http.post("/v1/ledgers", json={"name": "x"}, headers={"x-api-key": credentials.api_key}) as answer:
            assert answer.status == 201, await answer.text()
        async with http.get("/metrics") as answer:
            assert answer.status == 401
        async with http.get("/metrics", headers={"authorization": f"Bearer {metrics_token}"}) as answer:
            assert answer.status == 200
            assert "gledger_" in await answer.text()
