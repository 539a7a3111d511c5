"""What `gledger dev` brings with it: one owner of a data folder, and a Valkey that keeps what it was given."""

from __future__ import annotations

import os
import re
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from gledger.embedded import Valkey, data_folder
from gledger.errors import DataFolderInUse, ServerNotStarted

ROOT = Path(__file__).parents[3]
HOLD = """
import sys
from pathlib import Path
from gledger.embedded import Valkey, data_folder
with data_folder(Path(sys.argv[1])), Valkey(Path(sys.argv[1]) / "valkey") as server:
    print(server.pid, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Valkey]:
    """A Valkey that runs."""
    with Valkey(tmp_path / "valkey") as valkey:
        yield valkey


def stored(server: Valkey, name: str) -> object:
    """Read one key."""
    with redis.Redis.from_url(server.url) as client:
        return client.get(name)


def store(server: Valkey, name: str, value: str) -> None:
    """Write one key."""
    with redis.Redis.from_url(server.url) as client:
        client.set(name, value)


def test_data_survives_a_stop(server: Valkey) -> None:
    """What was stored is there after a restart, at the same address."""
    store(server, "name", "value")
    address = server.url
    server.stop()
    assert server.pid is None
    server.start()
    assert server.url == address
    assert stored(server, "name") == b"value"


def test_it_starts_again_after_a_crash(server: Valkey) -> None:
    """A killed server leaves nothing that keeps the next from starting."""
    server.kill()
    server.start()
    store(server, "name", "value")
    assert stored(server, "name") == b"value"


def test_only_this_user_can_connect(server: Valkey) -> None:
    """The socket is the user's own, and no port is open."""
    path = Path(server.url.removeprefix("unix://").partition("?")[0])
    assert stat.S_IMODE(path.stat().st_mode) == 0o700
    with redis.Redis.from_url(server.url) as client:
        assert client.config_get("port") == {"port": "0"}


def test_a_path_too_long_for_a_socket_is_no_obstacle(tmp_path: Path) -> None:
    """The kernel's limit is ours to work around."""
    with Valkey(tmp_path / ("deep" * 30)) as server:
        store(server, "name", "value")
        socket = Path(server.url.removeprefix("unix://").partition("?")[0])
    assert not socket.parent.exists()


def test_a_server_that_does_not_start_says_why(tmp_path: Path) -> None:
    """The error carries the program's last line."""
    failing = tmp_path / "valkey-server"
    failing.write_text("#!/bin/sh\necho out of luck\nexit 3\n")
    failing.chmod(0o755)
    with pytest.raises(ServerNotStarted, match="status 3: out of luck"):
        Valkey(tmp_path / "valkey", program=failing).start()


def test_a_second_process_is_refused_the_data_folder(tmp_path: Path) -> None:
    """Two processes on one SQLite file is what must never be; the error names the owner."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as owner:
        assert owner.stdout is not None
        owner.stdout.readline()
        with pytest.raises(DataFolderInUse, match=f"in use by process {owner.pid}"), data_folder(tmp_path):
            pass
        owner.communicate(timeout=20)
    with data_folder(tmp_path):
        assert (tmp_path / "lock").read_text() == f"{os.getpid()}\n"


def test_a_server_that_outlived_its_parent_is_ended_first(tmp_path: Path) -> None:
    """Two servers never write the same data: the orphan of a killed process is stopped, and what it stored is kept."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as parent:
        assert parent.stdout is not None
        orphan = int(parent.stdout.readline())
        successor = Valkey(tmp_path / "valkey")
        store(successor, "name", "value")
        parent.send_signal(signal.SIGKILL)
    with data_folder(tmp_path), successor:
        assert successor.pid != orphan
        assert stored(successor, "name") == b"value"
    log = (tmp_path / "valkey" / "valkey.log").read_text()
    assert re.search(rf"{orphan}:M .* now ready to exit", log)
