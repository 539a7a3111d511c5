"""People and how they sign in: an e-mail address and a password, throttled but never locked.

Whoever fails often waits longer before the next attempt is looked at: as a person from one address, and as an address at
all. Somebody else's failures from elsewhere keep nobody out. An attempt is counted before it is looked at, so that many at
once are not better than one after the other. A second factor belongs between `check` and `Sessions.open`.
"""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass, field
from typing import Final

from sqlalchemy import Connection

from auth import people_store as store
from auth.errors import (
    AdministratorExists,
    AdministratorNotFound,
    EmailInvalid,
    SignInRefused,
    SignInThrottled,
    SiteUnknown,
)
from auth.passwords import Passwords, draw_password
from auth.people_store import Administrator
from auth.ports import ControlDatabase, Entropy, IdSource

FREE_AS_PERSON: Final = 5
"""So many attempts fail without a wait for one person at one address."""
FREE_AS_ADDRESS: Final = 30
WAIT_MAX_S: Final = 60.0
FORGET_US: Final = 3_600_000_000

_EMAIL: Final = re.compile(r"[^@\s\x00-\x1f\x7f]{1,64}@[a-z0-9](?:[a-z0-9.-]{0,187}[a-z0-9])?")


@dataclass(frozen=True, slots=True, kw_only=True)
class NewPassword:
    """A person with the password they were given, to be shown once."""

    email: str
    password: str = field(repr=False)


class People:
    """The use cases around administrators, one transaction each; no transaction is open while a password is hashed."""

    def __init__(self, control: ControlDatabase, *, ids: IdSource, entropy: Entropy = os.urandom) -> None:
        self._control = control
        self._ids = ids
        self._entropy = entropy
        self._passwords = Passwords(entropy)

    async def create(self, organization: str, email: str, *, now_us: int) -> NewPassword:
        """Add an administrator to an organization. Raises EmailInvalid, AdministratorExists, SiteUnknown."""
        address = normal_email(email)
        password = draw_password(self._entropy)
        person = Administrator(
            id=self._ids.draw(now_us),
            organization=organization,
            email=address,
            password_hash=await self._passwords.hash(password),
            created_at=now_us,
            password_changed_at=now_us,
        )

        def run(conn: Connection) -> None:
            if not store.organization_exists(conn, organization):
                raise SiteUnknown(organization, "*")
            if not store.add_administrator(conn, person):
                raise AdministratorExists(address)

        await self._control.write(run)
        return NewPassword(email=address, password=password)

    async def reset(self, email: str, *, now_us: int) -> NewPassword:
        """Give an administrator a new password and end all their sessions. Raises EmailInvalid, AdministratorNotFound."""
        address = normal_email(email)
        password = draw_password(self._entropy)
        hashed = await self._passwords.hash(password)

        def run(conn: Connection) -> None:
            person = store.find_administrator(conn, address)
            if person is None:
                raise AdministratorNotFound(address)
            store.change_password(conn, person.id, hashed, now_us)

        await self._control.write(run)
        return NewPassword(email=address, password=password)

    async def first_of(self, organization: str) -> str | None:
        """Return the e-mail address of an organization's first administrator."""
        person = await self._control.read(lambda conn: store.first_administrator(conn, organization))
        return None if person is None else person.email

    async def check(self, email: str, password: str, *, address: str, now_us: int) -> Administrator:
        """Return whose e-mail address and password these are. Raises SignInRefused, SignInThrottled."""
        given = email.strip().lower()[:320]
        as_person, as_address = _subject("person", given, address), _subject("address", address)

        def begin(conn: Connection) -> Administrator | None:
            for subject, free in ((as_address, FREE_AS_ADDRESS), (as_person, FREE_AS_PERSON)):
                _count(conn, subject, free, now_us)
            return store.find_administrator(conn, given)

        person = await self._control.write(begin)
        if not await self._passwords.matches(password, None if person is None else person.password_hash):
            raise SignInRefused
        if person is None:
            raise SignInRefused

        def succeed(conn: Connection) -> None:
            for subject in (as_address, as_person):
                store.forget_failures(conn, subject, now_us - FORGET_US)

        await self._control.write(succeed)
        return person


def normal_email(text: str) -> str:
    """Return an e-mail address as it is kept. Raises EmailInvalid."""
    address = text.strip().lower()
    if _EMAIL.fullmatch(address) is None:
        raise EmailInvalid(text[:100])
    return address


def wait_s(failures: int, free: int) -> float:
    """Return how long after the last of so many failures the next attempt is looked at: it doubles up to a minute."""
    return 0.0 if failures < free else min(WAIT_MAX_S, 2.0 ** min(failures - free, 10))


def _count(conn: Connection, subject: bytes, free: int, now_us: int) -> None:
    found = store.read_failures(conn, subject)
    failures = 0 if found is None or found.last_at < now_us - FORGET_US else found.failures
    if found is not None:
        left_s = wait_s(failures, free) - (now_us - found.last_at) / 1_000_000
        if left_s > 0:
            raise SignInThrottled(left_s)
    store.count_failure(conn, subject, failures + 1, now_us)


def _subject(*parts: str) -> bytes:
    return hashlib.sha256("\x00".join(parts).encode("utf-8", "surrogatepass")).digest()
