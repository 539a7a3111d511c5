"""An ordinary user of this machine, made for a test and removed after it; where the test is no root, the one it runs as."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

# What a machine needs to reach its package registry, and to find its programs.
_KEPT: Final = ("PATH", "LANG", "LC_ALL", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "TMPDIR")
_KEPT_PREFIXES: Final = ("PIP_",)
_KEPT_ENDINGS: Final = ("_proxy",)


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """Whose home is here; `account` is None for the one who runs the test."""

    home: Path
    account: pwd.struct_passwd | None

    def environ(self, **more: str) -> dict[str, str]:
        """Return the environment of this user's shell, and these variables."""
        kept = {
            key: value
            for key, value in os.environ.items()
            if key in _KEPT or key.startswith(_KEPT_PREFIXES) or key.lower().endswith(_KEPT_ENDINGS)
        }
        return {**kept, "HOME": str(self.home), **more}

    def start(self, *command: str, cwd: Path, log: Path, environ: Mapping[str, str]) -> subprocess.Popen[bytes]:
        """Start a command in a session of its own, as this user, with its output in a file."""
        identity: dict[str, Any] = {}
        if self.account is not None:
            identity = {"user": self.account.pw_uid, "group": self.account.pw_gid, "extra_groups": []}
        with log.open("ab") as output:
            return subprocess.Popen(
                command,
                cwd=cwd,
                env=dict(environ),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                **identity,
            )

    def take(self, folder: Path) -> None:
        """Become the owner of a folder and all that is in it."""
        if self.account is not None:
            for path in (folder, *folder.rglob("*")):
                os.chown(path, self.account.pw_uid, self.account.pw_gid, follow_symlinks=False)


@contextmanager
def ordinary_user(folder: Path) -> Iterator[User]:
    """Make a user whose home is in a folder, and remove the user at the end. Only root can, and only root has to."""
    if os.geteuid() != 0:
        yield User(home=Path.home(), account=None)
        return
    home = folder / "home"
    home.mkdir()
    if shutil.which("useradd") is None:
        user = User(home=home, account=pwd.getpwnam("nobody"))
        user.take(home)
        yield user
        return
    login = f"gledger-{os.getpid()}"
    subprocess.run(["useradd", "--home-dir", home, "--no-create-home", "--shell", "/bin/sh", login], check=True)
    try:
        user = User(home=home, account=pwd.getpwnam(login))
        user.take(home)
        yield user
    finally:
        subprocess.run(["userdel", login], check=True, capture_output=True)
