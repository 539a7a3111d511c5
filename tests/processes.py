"""The program as real processes: started with settings, waited for, signalled by pid, and always ended.

A `Deployment` is what production is made of: two databases on PostgreSQL with all migrations applied, a Redis, the
settings every process shares, and whatever gateways and workers a test starts of it.
"""

from __future__ import annotations

import asyncio
import base64
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeVar

import aiohttp
import msgspec

from gledger.sites import CredentialsFile
from tests.databases import PostgresAddress, PostgresDatabase, Templates, fresh_postgres
from tests.servers import free_port

T = TypeVar("T")
ROOT: Final = Path(__file__).parent.parent
READY_TIMEOUT_S: Final = 40.0
END_TIMEOUT_S: Final = 20.0
"""How long SIGTERM may take, as the product promises."""
MASTER_KEY: Final = base64.b64encode(bytes(range(32))).decode()
_LOOK_S: Final = 0.03


class ProgramEnded(Exception):
    """A process ended that should have been running; the end of its log says why."""


class Program:
    """One `gledger …` process with its log in a file. It may be started again after it ended."""

    def __init__(self, *arguments: str, environ: Mapping[str, str], log: Path, cwd: Path = ROOT) -> None:
        """Take the command line after `gledger`, its settings, and where its output goes."""
        self.arguments = arguments
        self.log = log
        self._environ = without_settings() | dict(environ)
        self._cwd = cwd
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process id; raises `ProgramEnded` where it does not run."""
        if self._process is None or self._process.poll() is not None:
            code = None if self._process is None else self._process.returncode
            raise ProgramEnded(f"gledger {' '.join(self.arguments)} does not run (exit code {code}):\n{self.tail()}")
        return self._process.pid

    @property
    def running(self) -> bool:
        """Tell whether it runs."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start it; nothing is waited for."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "gledger", *self.arguments],
                env=self._environ,
                cwd=self._cwd,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        os.kill(self.pid, number)

    def kill(self) -> None:
        """End it at once, as a crash does, and return when it is gone."""
        self.send(signal.SIGKILL)
        self._wait(END_TIMEOUT_S)

    async def ended(self, timeout_s: float = END_TIMEOUT_S) -> int:
        """Return its exit code when it has ended; raises `TimeoutError`."""

        async def exit_code() -> int | None:
            return None if self._process is None else self._process.poll()

        return await until(exit_code, timeout_s=timeout_s)

    async def stop(self, timeout_s: float = END_TIMEOUT_S) -> int:
        """Ask it to end with SIGTERM and return its exit code; raises `TimeoutError`."""
        self.send(signal.SIGTERM)
        return await self.ended(timeout_s)

    def ask_to_end(self) -> None:
        """Send SIGTERM if it runs, awake even if it is frozen."""
        if self._process is not None and self._process.poll() is None:
            for number in (signal.SIGCONT, signal.SIGTERM):
                self._process.send_signal(number)

    def close(self) -> None:
        """End it whatever it is doing; for the end of a test."""
        self.ask_to_end()
        if self._process is None:
            return
        try:
            self._process.wait(END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def tail(self, characters: int = 3000) -> str:
        """Return the end of what it printed."""
        return self.log.read_text("utf-8", "replace")[-characters:] if self.log.exists() else ""

    def _wait(self, timeout_s: float) -> None:
        if self._process is not None:
            self._process.wait(timeout_s)


class GatewayProgram(Program):
    """A gateway process, on a port that stays the same over restarts."""

    def __init__(self, *arguments: str, environ: Mapping[str, str], log: Path, port: int) -> None:
        super().__init__(*arguments, environ={**environ, "GLEDGER_PORT": str(port)}, log=log)
        self.url = f"http://127.0.0.1:{port}"

    async def ready(self) -> None:
        """Return when it says that it is ready; raises `ProgramEnded` or `TimeoutError`."""
        async with aiohttp.ClientSession() as http:
            await until_ready(http, self.url, self)


class WorkerProgram(Program):
    """A worker process, whose metrics are on a port that stays the same over restarts."""

    def __init__(self, *, environ: Mapping[str, str], log: Path, port: int) -> None:
        super().__init__("worker", environ={**environ, "GLEDGER_WORKER_METRICS_PORT": str(port)}, log=log)
        self.port = port

    async def ready(self) -> None:
        """Return when it is at work; raises `ProgramEnded` or `TimeoutError`."""

        async def answers() -> bool | None:
            _ = self.pid
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", self.port)
            except OSError:
                return None
            writer.close()
            return True

        await until(answers, timeout_s=READY_TIMEOUT_S)


@dataclass(slots=True, kw_only=True)
class Deployment:
    """What the processes of one test share, and the processes it started."""

    folder: Path
    site_database: PostgresDatabase
    control_database: PostgresDatabase
    redis_url: str
    settings: Mapping[str, str]
    programs: list[Program] = field(default_factory=list)

    def environ(self, **settings: str) -> dict[str, str]:
        """Return the settings of a process, these laid over the shared ones."""
        return {**self.settings, **{f"GLEDGER_{name}": value for name, value in settings.items()}}

    def gateway(self, *arguments: str, port: int | None = None, **settings: str) -> GatewayProgram:
        """Start a gateway on a port of its own."""
        port = port or free_port()
        log = self.folder / f"gateway-{len(self.programs)}.log"
        program = GatewayProgram("gateway", *arguments, environ=self.environ(**settings), log=log, port=port)
        self.programs.append(program)
        program.start()
        return program

    def worker(self, **settings: str) -> WorkerProgram:
        """Start a worker."""
        log = self.folder / f"worker-{len(self.programs)}.log"
        port = int(settings.get("WORKER_METRICS_PORT") or free_port())
        program = WorkerProgram(environ=self.environ(**settings), log=log, port=port)
        self.programs.append(program)
        program.start()
        return program

    async def run(self, *arguments: str, **settings: str) -> Finished:
        """Run a command to its end."""
        return await run(*arguments, environ=self.environ(**settings))

    async def bootstrap(self, organization: str = "acme-corp", environment: str = "sandbox") -> CredentialsFile:
        """Make a site and return its credentials."""
        done = await self.run("bootstrap", "--organization", organization, "--environment", environment, "--json")
        assert done.code == 0, done.err
        return msgspec.json.decode(done.out, type=CredentialsFile)

    def close(self) -> None:
        """End every process that was started."""
        for program in self.programs:
            program.ask_to_end()
        for program in self.programs:
            program.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """A command that ran to its end."""

    code: int
    out: str
    err: str


async def run(*arguments: str, environ: Mapping[str, str], cwd: Path = ROOT, timeout_s: float = 60) -> Finished:
    """Run `gledger …` to its end."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gledger", *arguments,
        env=without_settings() | dict(environ), cwd=cwd,
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        async with asyncio.timeout(timeout_s):
            out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode is not None
    return Finished(code=process.returncode, out=out.decode(), err=err.decode())


async def until(look: Callable[[], Awaitable[T | None]], *, timeout_s: float) -> T:
    """Return what looking finds as soon as that is something; raises `TimeoutError`."""
    deadline = time.monotonic() + timeout_s
    while (found := await look()) is None:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{look!r}: not within {timeout_s:g} s")
        await asyncio.sleep(_LOOK_S)
    return found


def children_of(pid: int) -> set[int]:
    """Return the processes that a process started and that live."""
    found = {int(each.name) for each in Path("/proc").glob("[0-9]*")}
    return {each for each in found if _standing(each) == pid}


def is_alive(pid: int) -> bool:
    """Tell whether a process lives; one that ended and that nobody asked about does not."""
    return _standing(pid) is not None


def _standing(pid: int) -> int | None:
    """Return the parent of a process that lives."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    state, parent = status.rpartition(") ")[2].split()[:2]
    return None if state == "Z" else int(parent)


def without_settings() -> dict[str, str]:
    """Return this process's environment without any setting of the product."""
    return {name: value for name, value in os.environ.items() if not name.startswith("GLEDGER_")}


async def until_ready(http: aiohttp.ClientSession, url: str, program: Program) -> None:
    """Return when the server at an address says that it is ready; raises `ProgramEnded` or `TimeoutError`."""
    deadline = time.monotonic() + READY_TIMEOUT_S
    while True:
        _ = program.pid
        try:
            async with http.get(f"{url}/readyz", timeout=aiohttp.ClientTimeout(total=3)) as answer:
                if answer.status == 200:
                    return
        except (aiohttp.ClientError, TimeoutError):
            pass
        if time.monotonic() > deadline:
            raise TimeoutError(f"{url} is not ready:\n{program.tail()}")
        await asyncio.sleep(_LOOK_S)


@asynccontextmanager
async def deployed(
    address: PostgresAddress, templates: Templates, redis_url: str, folder: Path
) -> AsyncIterator[Deployment]:
    """Provide fresh databases and the settings for them; whatever is started of it is ended with the block."""
    async with AsyncExitStack() as held:
        site = await held.enter_async_context(fresh_postgres(address, templates, "site"))
        control = await held.enter_async_context(fresh_postgres(address, templates, "control"))
        public_url = f"http://127.0.0.1:{free_port()}"
        settings = {
            "GLEDGER_DATABASE_URL": site.runtime_url,
            "GLEDGER_CONTROL_DATABASE_URL": control.runtime_url,
            "GLEDGER_REDIS_URL": redis_url,
            "GLEDGER_MASTER_KEY": MASTER_KEY,
            "GLEDGER_PUBLIC_URL": public_url,
            "GLEDGER_LOG_LEVEL": "warning",
            "GLEDGER_LOG_FORMAT": "json",
            "GLEDGER_WEBHOOK_ALLOW_PRIVATE": "on",
            "GLEDGER_WEBHOOK_RETRY_SCHEDULE": "0,1,1,1,2,2,2,4,4,4,8,8,8",
        }
        deployment = Deployment(
            folder=folder, site_database=site, control_database=control, redis_url=redis_url, settings=settings
        )
        held.callback(deployment.close)
        yield deployment
