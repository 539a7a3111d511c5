"""The ground a measurement stands on: a durable PostgreSQL, Redis, a migrated site, and the processes of the program."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg

from gledger.embedded import Valkey
from tests.servers import Postgres, free_port

READY_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """A process that serves HTTP on a loopback port."""

    port: int
    pid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """Servers, settings and credentials; processes are started and ended by their ids."""

    postgres: Postgres
    environment: dict[str, str]
    credentials: dict[str, Any]

    @contextmanager
    def process(self, *arguments: str, module: str = "gledger", **settings: str) -> Iterator[subprocess.Popen[bytes]]:
        """Run the program for the time of the block, with settings of its own."""
        environment = {**self.environment, **{f"GLEDGER_{name}": value for name, value in settings.items()}}
        with running([sys.executable, "-m", module, *arguments], environment) as process:
            yield process

    @contextmanager
    def gateway(self, module: str = "gledger", workers: int = 1) -> Iterator[Serving]:
        """Run a gateway and return where it serves when it is ready."""
        port = free_port()
        with self.process("gateway", "--workers", str(workers), module=module, PORT=str(port)) as process:
            wait_until(port, "/readyz")
            yield Serving(port=port, pid=process.pid)

    def rows(self, query: str, *arguments: object) -> list[tuple[Any, ...]]:
        """Ask the database past all row-level security: what the program says of itself is checked against it."""
        return asyncio.run(_rows(self.postgres.url("gledger"), query, *arguments))

    def verify(self) -> None:
        """Check the books; a measurement of wrong books is none."""
        verify(self.environment)


@contextmanager
def running(command: list[str], environment: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process for the time of the block; what it logs goes where our errors go, a table is all that we print."""
    process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=sys.stderr)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def verify(environment: dict[str, str]) -> None:
    """Replay all books that the settings lead to; what is wrong ends the measurement."""
    found = subprocess.run(
        [sys.executable, "-m", "gledger", "verify"], env=environment, check=False, timeout=600, stdout=sys.stderr
    )
    if found.returncode:
        raise SystemExit("the books are wrong: nothing was measured")


@contextmanager
def ground(**settings: str) -> Iterator[Ground]:
    """Bring everything up, and take it down at the end."""
    with ExitStack() as held:
        folder = Path(held.enter_context(tempfile.TemporaryDirectory(prefix="gledger-bench-")))
        postgres = held.enter_context(Postgres(durable=True))
        valkey = held.enter_context(Valkey(folder / "valkey"))
        asyncio.run(_roles(postgres))
        runtime = postgres.url("gledger", "gledger_app")
        owner = postgres.url("gledger")
        environment = {
            **clean_environment(),
            "GLEDGER_DATABASE_URL": runtime,
            "GLEDGER_CONTROL_DATABASE_URL": runtime,
            "GLEDGER_MIGRATION_DATABASE_URL": owner,
            "GLEDGER_MIGRATION_CONTROL_DATABASE_URL": owner,
            "GLEDGER_REDIS_URL": valkey.url,
            "GLEDGER_MASTER_KEY": base64.b64encode(secrets.token_bytes(32)).decode(),
            "GLEDGER_LOG_LEVEL": "warning",
            "GLEDGER_WEBHOOK_ALLOW_PRIVATE": "on",
            "GLEDGER_PUBLIC_URL": "http://127.0.0.1:8080",
            **{f"GLEDGER_{name}": value for name, value in settings.items()},
        }
        program = [sys.executable, "-m", "gledger"]
        subprocess.run([*program, "migrate"], env=environment, check=True, stdout=subprocess.DEVNULL)
        made = subprocess.run(
            [*program, "bootstrap", "--organization", "bench", "--environment", "production", "--json"],
            env=environment,
            check=True,
            stdout=subprocess.PIPE,
        )
        yield Ground(postgres=postgres, environment=environment, credentials=json.loads(made.stdout))


@contextmanager
def embedded(**settings: str) -> Iterator[tuple[Serving, dict[str, Any], dict[str, str]]]:
    """Run `gledger dev` on SQLite files in a folder of its own; return where it serves, its credentials, its settings."""
    with tempfile.TemporaryDirectory(prefix="gledger-bench-") as folder:
        port = free_port()
        environment = {
            **clean_environment(),
            "GLEDGER_DATA": folder,
            "GLEDGER_PORT": str(port),
            "GLEDGER_LOG_LEVEL": "warning",
            **{f"GLEDGER_{name}": value for name, value in settings.items()},
        }
        with running([sys.executable, "-m", "gledger", "dev"], environment) as process:
            wait_until(port, "/readyz")
            yield Serving(port=port, pid=process.pid), _credentials(Path(folder) / "credentials.json"), environment
        verify(environment)


def clean_environment() -> dict[str, str]:
    """Return the environment without any setting of the program."""
    return {name: value for name, value in os.environ.items() if not name.startswith("GLEDGER_")}


def token(port: int, credentials: dict[str, Any]) -> str:
    """Return an access token."""
    basic = base64.b64encode(f"{credentials['client_id']}:{credentials['client_secret']}".encode()).decode()
    asked = urllib.request.Request(
        f"http://127.0.0.1:{port}/oauth/token",
        data=b"grant_type=client_credentials",
        headers={"authorization": f"Basic {basic}"},
    )
    with urllib.request.urlopen(asked, timeout=10) as answer:
        return str(json.load(answer)["access_token"])


def call(port: int, bearer: str, method: str, path: str, body: Any = None) -> dict[str, Any]:
    """Call the API and return its answer; nothing where it has none."""
    asked = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}",
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={"authorization": f"Bearer {bearer}", "content-type": "application/json"},
    )
    with urllib.request.urlopen(asked, timeout=30) as answer:
        found: dict[str, Any] = json.loads(answer.read() or b"{}")
        return found


def accounts(port: int, bearer: str, count: int) -> list[str]:
    """Open a ledger with so many accounts and return their ids."""
    ledger = call(port, bearer, "POST", "/v1/ledgers", {"name": "Bench"})["id"]
    return [
        call(
            port,
            bearer,
            "POST",
            "/v1/accounts",
            {"ledger_id": ledger, "name": f"Account {number}", "type": "asset", "currency": "USD"},
        )["id"]
        for number in range(count)
    ]


def wait_until(port: int, path: str) -> None:
    """Wait until a process answers there."""
    deadline = time.monotonic() + READY_TIMEOUT_S
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=2):
                return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def _credentials(file: Path) -> dict[str, Any]:
    deadline = time.monotonic() + READY_TIMEOUT_S
    while not file.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return found


async def _rows(url: str, query: str, *arguments: object) -> list[tuple[Any, ...]]:
    connection = await asyncpg.connect(url.replace("+asyncpg", ""))
    try:
        return [tuple(row) for row in await connection.fetch(query, *arguments)]
    finally:
        await connection.close()


async def _roles(postgres: Postgres) -> None:
    connection = await asyncpg.connect(postgres.url().replace("+asyncpg", ""))
    try:
        await connection.execute("CREATE ROLE gledger_runtime NOLOGIN")
        await connection.execute("CREATE ROLE gledger_app LOGIN IN ROLE gledger_runtime")
        await connection.execute("CREATE DATABASE gledger")
    finally:
        await connection.close()
