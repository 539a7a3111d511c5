"""Who is signed in: sessions that live on the server, drawn anew at every sign-in, idle and absolute limits, one site each.

What the cookie holds is a secret of 256 bits; stored is its hash. The site a session looks at is part of the session:
nothing else in a request says it. The token that a form carries is bound to both, so that a page of the sandbox cannot
change production after the session was turned there.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
from dataclasses import dataclass, field
from typing import Final

from sqlalchemy import Connection

from auth import people_store as store
from auth.errors import SessionNotFound, SignInRefused, SiteUnknown
from auth.people_store import Administrator, Session
from auth.ports import ControlDatabase, Entropy, IdSource
from auth.principal import SiteRef
from auth.revocations import Revocations
from auth.store import add_revocation
from auth.tokens import LIFETIME_S

IDLE_US: Final = 30 * 60 * 1_000_000
ABSOLUTE_US: Final = 12 * 3600 * 1_000_000
_TOUCH_US: Final = 60 * 1_000_000
_TOKEN_BYTES: Final = 32
_TOKEN_LENGTH: Final = 43


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedIn:
    """A session with the secret that opens it."""

    session: Session
    token: str = field(repr=False)

    def form_token(self) -> str:
        """Return what a form of this session carries, for the site it looks at now."""
        text = f"form {self.session.site.id}"
        return hmac.new(self.token.encode(), text.encode(), hashlib.sha256).hexdigest()

    def accepts(self, form_token: str) -> bool:
        """Tell whether a form was made by this session for the site it looks at now."""
        return hmac.compare_digest(self.form_token().encode(), form_token.encode("utf-8", "surrogatepass"))


class Sessions:
    """The use cases of sessions, one transaction each."""

    def __init__(
        self, control: ControlDatabase, *, ids: IdSource, revocations: Revocations, entropy: Entropy = os.urandom
    ) -> None:
        self._control = control
        self._ids = ids
        self._revocations = revocations
        self._entropy = entropy

    async def open(
        self, person: Administrator, *, address: str, user_agent: str, now_us: int, instead_of: str | None = None
    ) -> SignedIn:
        """Sign a person in, at the sandbox if there is one; the session of the token `instead_of` ends.

        Raises SignInRefused where the organization has no site.
        """
        token = base64.urlsafe_b64encode(self._entropy(_TOKEN_BYTES)).rstrip(b"=").decode("ascii")

        def run(conn: Connection) -> Session:
            found = store.sites_of(conn, person.organization)
            if not found:
                raise SignInRefused
            store.forget_sessions(conn, now_us)
            ended = None if instead_of is None else store.find_session(conn, _hash(instead_of))
            if ended is not None:
                store.end_session(conn, ended.administrator_id, ended.id)
            session = Session(
                id=self._ids.draw(now_us),
                administrator_id=person.id,
                organization=person.organization,
                email=person.email,
                site=found[0],
                address=address[:64],
                user_agent=user_agent[:300],
                created_at=now_us,
                seen_at=now_us,
                expires_at=now_us + ABSOLUTE_US,
            )
            store.add_session(conn, session, _hash(token))
            return session

        return SignedIn(session=await self._control.write(run), token=token)

    async def find(self, token: str, *, now_us: int, active: bool = True) -> SignedIn | None:
        """Return the session that a token opens, if it is good; `active` notes that its owner does something."""
        if len(token) != _TOKEN_LENGTH:
            return None
        session = await self._control.read(lambda conn: store.find_session(conn, _hash(token)))
        if session is None or session.site.organization != session.organization:
            return None
        if session.expires_at <= now_us or session.seen_at <= now_us - IDLE_US:
            return None
        if active and session.seen_at <= now_us - _TOUCH_US:
            await self._control.write(lambda conn: store.touch_session(conn, session.id, now_us))
        return SignedIn(session=session, token=token)

    async def sites(self, session: Session) -> list[SiteRef]:
        """Return the sites that a session may look at: those of its own organization."""
        return await self._control.read(lambda conn: store.sites_of(conn, session.organization))

    async def turn(self, session: Session, environment: str) -> None:
        """Have a session look at the organization's other site. Raises SiteUnknown."""

        def run(conn: Connection) -> None:
            for site in store.sites_of(conn, session.organization):
                if site.environment == environment:
                    store.turn_session(conn, session.id, site.id)
                    return
            raise SiteUnknown(session.organization, environment)

        await self._control.write(run)

    async def list(self, session: Session, *, now_us: int) -> list[Session]:
        """Return what the session's owner is signed in with, the newest first."""
        found = await self._control.read(lambda conn: store.list_sessions(conn, session.administrator_id))
        return [each for each in found if each.expires_at > now_us and each.seen_at > now_us - IDLE_US]

    async def end(self, session: Session, session_id: str, *, now_us: int) -> None:
        """End a session of the same person, with the tokens and tickets made in it. Raises SessionNotFound."""
        expires_at = now_us + LIFETIME_S * 1_000_000

        def run(conn: Connection) -> None:
            # Tokens and tickets of a session carry its id: they are revoked as a token is.
            add_revocation(conn, session_id, session.site.id, expires_at=expires_at, now_us=now_us)
            if not store.end_session(conn, session.administrator_id, session_id):
                raise SessionNotFound(session_id)

        await self._control.write(run)
        self._revocations.add_token(session_id, expires_at)


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
