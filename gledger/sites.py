"""Making a site: its control row, its database, its feed, its first credentials; every step may be done again."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Final

import msgspec

from auth.clients import Credentials
from auth.errors import SiteExists
from engine import feed
from engine.databases import Site
from gledger.errors import ProgramError
from gledger.parts import Parts

_EPOCH_BYTES: Final = 6


class CredentialsFile(msgspec.Struct, frozen=True, kw_only=True):
    """What `gledger bootstrap --json` prints, and what `gledger dev` writes for its own sandbox."""

    base_url: str
    organization: str
    environment: str
    client_id: str
    client_secret: str
    scopes: list[str]
    api_key: str
    portal_url: str = ""
    admin_email: str = ""
    admin_password: str | None = None
    """None where the organization had an administrator before: a password is shown once."""


class SiteHasCredentials(ProgramError):
    """The site was bootstrapped before; its credentials are shown once."""

    def __init__(self, organization: str, environment: str) -> None:
        """Name the site."""
        super().__init__(
            f"{organization}/{environment} exists and its credentials were shown: "
            "--rotate makes new ones and ends the old ones at once",
        )


async def bootstrap(parts: Parts, organization: str, environment: str, *, rotate: bool = False) -> Credentials:
    """Make a site that can be used and return its first credentials; raises SiteHasCredentials."""
    now_us = parts.clock.now_us()
    record = await parts.authority.clients.begin_site(organization, environment, now_us=now_us)
    site = Site(id=record.id, organization=organization, environment=environment)
    database = await parts.databases.of(site)
    epoch = secrets.token_hex(_EPOCH_BYTES)
    await database.write(lambda conn: feed.create_site(conn, site, epoch, now_us), site_id=site.id)
    try:
        return await parts.authority.clients.bootstrap(organization, environment, rotate=rotate, now_us=now_us)
    except SiteExists:
        raise SiteHasCredentials(organization, environment) from None


async def first_administrator(parts: Parts, organization: str) -> tuple[str, str | None]:
    """Return the e-mail address of an organization's first administrator, with a password where one is made only now."""
    people = parts.authority.people
    email = await people.first_of(organization)
    if email is not None:
        return email, None
    made = await people.create(organization, f"admin@{organization}.example", now_us=parts.clock.now_us())
    return made.email, made.password


async def credentials_file(parts: Parts, organization: str, environment: str, issued: Credentials) -> CredentialsFile:
    """Return credentials in the form they are handed over in, the first administrator's with them."""
    email, password = await first_administrator(parts, organization)
    return CredentialsFile(
        base_url=parts.settings.public_url,
        organization=organization,
        environment=environment,
        client_id=issued.client_id,
        client_secret=issued.client_secret,
        scopes=sorted(issued.scopes),
        api_key=issued.api_key,
        portal_url=portal_url(parts),
        admin_email=email,
        admin_password=password,
    )


def portal_url(parts: Parts) -> str:
    """Return where people sign in."""
    return f"{parts.settings.public_url}/portal"


def read_credentials(path: Path) -> CredentialsFile | None:
    """Return the credentials that a file holds, or None where there is none."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=CredentialsFile)
    except FileNotFoundError:
        return None
    except msgspec.MsgspecError as error:
        raise ProgramError(f"{path} is not a credentials file ({error}): remove it to have new ones made") from None


def write_private(path: Path, content: bytes) -> None:
    """Write a file that only its owner can read, whole or not at all."""
    draft = path.with_suffix(".new")
    draft.unlink(missing_ok=True)
    draft.touch(mode=0o600, exist_ok=False)
    draft.write_bytes(content)
    draft.replace(path)
