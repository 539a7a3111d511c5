"""Commands that speak to a server: who they are, one request and its answer, a refusal in one line.

Credentials come from the environment (`GLEDGER_BASE_URL` and `GLEDGER_API_KEY`) or a credentials file. No key is taken
from the command line: everybody on the machine could read it there.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp

from auth.errors import CredentialsInvalid
from auth.keyformat import parse_api_key
from gledger.errors import ProgramError
from gledger.sites import read_credentials

BASE_URL: Final = "GLEDGER_BASE_URL"
API_KEY: Final = "GLEDGER_API_KEY"
_TIMEOUT: Final = aiohttp.ClientTimeout(total=60, sock_connect=10)


class Refused(ProgramError):
    """The server refused a request."""

    def __init__(self, status: int, code: str, detail: str) -> None:
        super().__init__(f"refused ({status} {code}): {detail}")
        self.status = status
        self.code = code


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """A server and the key that opens a site there."""

    base_url: str
    api_key: str

    @property
    def environment(self) -> str | None:
        """Return the environment that the key is of, None where the key does not say."""
        try:
            return parse_api_key(self.api_key).environment
        except CredentialsInvalid:
            return None


def find_access(path: Path | None, environ: Mapping[str, str], default: Path) -> Access:
    """Return the credentials to use: a file that was named, else the environment, else the file of `gledger dev`.

    Raises ProgramError where there are none.
    """
    if path is None and environ.get(API_KEY):
        return Access(base_url=environ.get(BASE_URL, "http://127.0.0.1:8080").rstrip("/"), api_key=environ[API_KEY])
    place = path or default
    found = read_credentials(place)
    if found is None:
        raise ProgramError(
            f"there are no credentials at {place}: start `gledger dev`, name a file with --credentials, "
            f"or set {API_KEY} and {BASE_URL}"
        )
    return Access(base_url=(environ.get(BASE_URL) or found.base_url).rstrip("/"), api_key=found.api_key)


class Remote:
    """A site on a server."""

    def __init__(self, session: aiohttp.ClientSession, access: Access) -> None:
        self.session = session
        self.access = access

    async def ask(
        self, method: str, path: str, body: Any = None, params: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """Return the answer to a request; raises Refused, ProgramError where the server is not to be reached."""
        given = {name: str(value) for name, value in (params or {}).items() if value is not None}
        try:
            async with self.session.request(method, self.access.base_url + path, json=body, params=given) as answer:
                if answer.status >= 300:
                    raise await refusal(answer)
                found: dict[str, Any] = await answer.json()
                return found
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise unreachable(self.access, error) from None


@asynccontextmanager
async def connected(access: Access) -> AsyncIterator[Remote]:
    """Open a session for the time of the block."""
    headers = {"authorization": f"Bearer {access.api_key}"}
    async with aiohttp.ClientSession(headers=headers, timeout=_TIMEOUT) as session:
        yield Remote(session, access)


async def refusal(answer: aiohttp.ClientResponse) -> Refused:
    """Return a problem document as an error."""
    try:
        problem = await answer.json(content_type=None)
        code, detail = str(problem["code"]), str(problem["detail"])
    except (ValueError, KeyError, TypeError):
        code, detail = "unknown", "the answer is not one of GLedger's"
    return Refused(answer.status, code, detail)


def unreachable(access: Access, error: BaseException) -> ProgramError:
    """Return the error of a server that does not answer."""
    return ProgramError(f"{access.base_url} does not answer: {str(error) or type(error).__name__}")
