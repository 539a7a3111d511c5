"""The README as a new user meets it: a clone of the commit, an ordinary user, its commands as they are printed."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from tests.docs.documents import ROOT, blocks
from tests.docs.users import User, ordinary_user
from tests.servers import free_port

INSTALL_TIMEOUT_S: Final = 400.0
STORY_TIMEOUT_S: Final = 60.0
REQUESTS_TIMEOUT_S: Final = 60.0
END_TIMEOUT_S: Final = 25.0
_LOOK_S: Final = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Clone:
    """A clone of the commit that belongs to an ordinary user."""

    user: User
    folder: Path
    environ: dict[str, str]

    @contextmanager
    def running(self, *command: str) -> Iterator[Running]:
        """Run a command in the clone for the block; whatever it started is ended with it."""
        log = self.folder.parent / "-".join(["log", *(Path(part).name for part in command)])
        log.unlink(missing_ok=True)
        process = self.user.start(*command, cwd=self.folder, log=log, environ=self.environ)
        running = Running(process=process, log=log)
        try:
            yield running
        finally:
            running.end()


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A command that runs in a session of its own."""

    process: subprocess.Popen[bytes]
    log: Path

    def printed(self, pattern: str, timeout_s: float) -> re.Match[str]:
        """Return the first match of what it prints as soon as it has."""
        deadline = time.monotonic() + timeout_s
        while True:
            ended = self.process.poll() is not None
            found = re.search(pattern, self.output(), re.MULTILINE)
            if found is not None:
                return found
            assert not ended, f"it ended with {self.process.returncode}:\n{self.output()[-3000:]}"
            assert time.monotonic() < deadline, f"it did not print {pattern}:\n{self.output()[-3000:]}"
            time.sleep(_LOOK_S)

    def output(self) -> str:
        """Return all that it has printed."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    def end(self) -> bool:
        """Tell every process of its session to end; return whether all did by themselves, what does not is killed."""
        self._signal(signal.SIGTERM)
        deadline = time.monotonic() + END_TIMEOUT_S
        while self._living() and time.monotonic() < deadline:
            time.sleep(_LOOK_S)
        by_themselves = not self._living()
        self._signal(signal.SIGKILL)
        self.process.wait()
        return by_themselves

    def _living(self) -> list[int]:
        """Return the processes of its session that live; a dead one that nobody asked about is none of them."""
        self.process.poll()
        found = []
        for status in Path("/proc").glob("[0-9]*/stat"):
            try:
                state, _, group = status.read_text(encoding="utf-8", errors="replace").rpartition(") ")[2].split()[:3]
            except (FileNotFoundError, ProcessLookupError):
                continue
            if int(group) == self.process.pid and state != "Z":
                found.append(int(status.parent.name))
        return found

    def _signal(self, number: signal.Signals) -> None:
        for pid in self._living():
            with suppress(ProcessLookupError):
                os.kill(pid, number)


@pytest.fixture(scope="module")
def clone() -> Iterator[Clone]:
    """Provide a clone of the commit that is checked out, as its new owner's."""
    # Not below pytest's own folders: those let nobody else in.
    with tempfile.TemporaryDirectory(prefix="gledger-readme-", ignore_cleanup_errors=True) as name:
        root = Path(name)
        root.chmod(0o755)
        with ordinary_user(root) as user:
            folder = root / "gledger-live"
            command = ["git", "clone", "--quiet", "--no-hardlinks", str(ROOT), str(folder)]
            subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
            user.take(folder)
            yield Clone(user=user, folder=folder, environ=user.environ(GLEDGER_PORT=str(free_port())))


def test_a_new_user_follows_the_readme_and_everything_in_it_works(clone: Clone) -> None:
    """`make run` tells the story; then the token, the entry, the stream and the webhook come out as the README says."""
    first, *others = (each.text for each in blocks(clone.folder / "README.md", "sh"))
    assert [line.partition("#")[0].strip() for line in first.splitlines()] == ["make run", "make test"]
    with clone.running("make", "run") as server:
        server.printed(r"^GLedger Live at http://127\.0\.0\.1:\d+, site acme-corp/sandbox$", INSTALL_TIMEOUT_S)
        server.printed(r"^11\. The partner has endpoint sequences 1 to \d+ without a gap", STORY_TIMEOUT_S)
        server.printed(r"^curl -sN ", STORY_TIMEOUT_S)
        port = str(free_port())
        script = clone.folder.parent / "script"
        # The receiver runs until the shell is told to end; its port must be free on this machine.
        script.write_text("\n".join([*others, "wait"]).replace("9009", port), encoding="utf-8")
        with clone.running("sh", str(script)) as shell:
            verified = r"verified endpoint\.test, number 1, missing before it: none$"
            shell.printed(verified, REQUESTS_TIMEOUT_S)
            _check_requests(shell.output())
        _follow_and_resume(clone)
        assert server.end(), f"it did not end in time:\n{server.output()[-3000:]}"
    tested = subprocess.run(
        ["make", "-n", "test"], cwd=clone.folder, env=clone.environ, text=True, capture_output=True, check=True
    )
    assert "-m pytest" in tested.stdout


def _follow_and_resume(clone: Clone) -> None:
    """Follow the feed with the example, stop it, tell the story again, start it again: it goes on where it was."""
    place = clone.folder / "feed.cursor"
    follow = (".venv/bin/python", "examples/follow.py")
    with clone.running(*follow) as follower:
        last = int(follower.printed(r"^(\d+) endpoint\.test ", REQUESTS_TIMEOUT_S)[1])
        deadline = time.monotonic() + REQUESTS_TIMEOUT_S
        # It is printed first and remembered then.
        while f".{last}." not in (place.read_text("ascii") if place.exists() else ""):
            assert time.monotonic() < deadline, "it did not remember its place"
            time.sleep(_LOOK_S)
    assert _sequences(follower) == list(range(1, last + 1))
    with clone.running("make", "demo") as told:
        told.printed(r"^11\. The partner has endpoint sequences 1 to \d+ without a gap", STORY_TIMEOUT_S)
    with clone.running(*follow) as follower:
        # The story's ledger, its three accounts, its seven entries; facts about the receiver that ended may follow.
        follower.printed(rf"^{last + 11} ", REQUESTS_TIMEOUT_S)
    assert _sequences(follower)[:11] == list(range(last + 1, last + 12))


def _sequences(follower: Running) -> list[int]:
    return [int(each) for each in re.findall(r"^(\d+) ", follower.output(), re.MULTILINE)]


def _check_requests(output: str) -> None:
    """Check the entry, and the stream from the first event to the one about it."""
    posted, _, streamed = output.partition("retry: ")
    entry = json.loads(posted)
    assert entry["status"] == "posted"
    assert [(line["direction"], line["amount"]) for line in entry["lines"]] == [("debit", 1500), ("credit", 1500)]
    assert all(line["resulting_balances"]["posted"]["amount"] for line in entry["lines"])
    events: list[dict[str, Any]] = [
        json.loads(block.partition("\ndata: ")[2])
        for block in streamed.partition("\n\n")[2].split("\n\n")
        if block.startswith("id: ") and "\nevent: checkpoint\n" not in block
    ]
    assert [each["sequence"] for each in events] == list(range(1, len(events) + 1))
    assert [each["resource"]["id"] for each in events].count(entry["id"]) == 1
    assert events[-1]["resource"]["id"] == entry["id"]
