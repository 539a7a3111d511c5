"""The SQL of people and their sessions: one function, one purpose; none begins or commits."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Row, delete, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from auth.principal import SiteRef
from auth.schema import administrators, organizations, sessions, sign_in_failures, sites


@dataclass(frozen=True, slots=True, kw_only=True)
class Administrator:
    """A person of one organization who signs in to the portal."""

    id: str
    organization: str
    email: str
    password_hash: str = field(repr=False)
    created_at: int
    password_changed_at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """Somebody who is signed in: where, since when, until when at the latest, and the site looked at; microseconds."""

    id: str
    administrator_id: str
    organization: str
    email: str
    site: SiteRef
    address: str
    user_agent: str
    created_at: int
    seen_at: int
    expires_at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Failures:
    """How often signing in failed of late for a subject, and when last."""

    failures: int
    last_at: int


def organization_exists(conn: Connection, organization: str) -> bool:
    """Tell whether there is such an organization."""
    query = select(organizations.c.slug).where(organizations.c.slug == organization)
    return conn.execute(query).one_or_none() is not None


def add_administrator(conn: Connection, person: Administrator) -> bool:
    """Store a person unless somebody has the e-mail address; return whether they were stored."""
    dialect = postgresql if conn.dialect.name == "postgresql" else sqlite
    values = {
        "id": person.id,
        "organization": person.organization,
        "email": person.email,
        "password_hash": person.password_hash,
        "created_at": person.created_at,
        "password_changed_at": person.password_changed_at,
    }
    return conn.execute(dialect.insert(administrators).values(**values).on_conflict_do_nothing()).rowcount == 1


def find_administrator(conn: Connection, email: str) -> Administrator | None:
    """Return the person with an e-mail address."""
    row = conn.execute(select(administrators).where(administrators.c.email == email)).mappings().one_or_none()
    return None if row is None else Administrator(**row)


def first_administrator(conn: Connection, organization: str) -> Administrator | None:
    """Return the first person of an organization."""
    query = (
        select(administrators)
        .where(administrators.c.organization == organization)
        .order_by(administrators.c.id)
        .limit(1)
    )
    row = conn.execute(query).mappings().one_or_none()
    return None if row is None else Administrator(**row)


def change_password(conn: Connection, administrator_id: str, password_hash: str, now_us: int) -> None:
    """Give a person another password and end every session they have."""
    found = update(administrators).where(administrators.c.id == administrator_id)
    conn.execute(found.values(password_hash=password_hash, password_changed_at=now_us))
    conn.execute(delete(sessions).where(sessions.c.administrator_id == administrator_id))


def sites_of(conn: Connection, organization: str) -> list[SiteRef]:
    """Return an organization's active sites, the sandbox first."""
    query = (
        select(sites.c.id, sites.c.organization, sites.c.environment)
        .where(sites.c.organization == organization, sites.c.state == "active")
        .order_by(sites.c.environment.desc())
    )
    return [
        SiteRef(id=row.id, organization=row.organization, environment=row.environment) for row in conn.execute(query)
    ]


def add_session(conn: Connection, session: Session, token_hash: bytes) -> None:
    """Store a session."""
    conn.execute(
        insert(sessions).values(
            id=session.id,
            token_hash=token_hash,
            administrator_id=session.administrator_id,
            site_id=session.site.id,
            address=session.address,
            user_agent=session.user_agent,
            created_at=session.created_at,
            seen_at=session.seen_at,
            expires_at=session.expires_at,
        )
    )


def find_session(conn: Connection, token_hash: bytes) -> Session | None:
    """Return the session that a token opens, run out or not."""
    return next(iter(_sessions(conn, sessions.c.token_hash == token_hash)), None)


def list_sessions(conn: Connection, administrator_id: str) -> list[Session]:
    """Return a person's sessions, the newest first."""
    return _sessions(conn, sessions.c.administrator_id == administrator_id)


def touch_session(conn: Connection, session_id: str, now_us: int) -> None:
    """Note that a session is in use."""
    conn.execute(update(sessions).where(sessions.c.id == session_id).values(seen_at=now_us))


def turn_session(conn: Connection, session_id: str, site_id: int) -> None:
    """Have a session look at another site."""
    conn.execute(update(sessions).where(sessions.c.id == session_id).values(site_id=site_id))


def end_session(conn: Connection, administrator_id: str, session_id: str) -> bool:
    """End a person's session; return whether there was one to end."""
    found = delete(sessions).where(sessions.c.administrator_id == administrator_id, sessions.c.id == session_id)
    return conn.execute(found).rowcount == 1


def forget_sessions(conn: Connection, now_us: int) -> None:
    """Remove what has run out."""
    conn.execute(delete(sessions).where(sessions.c.expires_at < now_us))


def read_failures(conn: Connection, subject: bytes) -> Failures | None:
    """Return a subject's failures; whoever counts them waits for whoever does so now."""
    query = select(sign_in_failures).where(sign_in_failures.c.subject == subject).with_for_update()
    row = conn.execute(query).one_or_none()
    return None if row is None else Failures(failures=row.failures, last_at=row.last_at)


def count_failure(conn: Connection, subject: bytes, failures: int, now_us: int) -> None:
    """Store how often a subject failed by now."""
    dialect = postgresql if conn.dialect.name == "postgresql" else sqlite
    values = {"failures": failures, "last_at": now_us}
    statement = dialect.insert(sign_in_failures).values(subject=subject, **values)
    conn.execute(statement.on_conflict_do_update(index_elements=["subject"], set_=values))


def forget_failures(conn: Connection, subject: bytes, before_us: int) -> None:
    """Forget a subject's failures, and everybody's that are older than an instant."""
    conn.execute(delete(sign_in_failures).where(sign_in_failures.c.subject == subject))
    conn.execute(delete(sign_in_failures).where(sign_in_failures.c.last_at < before_us))


_SESSION: Final = (
    select(
        *(column for column in sessions.c if column.name not in {"token_hash", "site_id"}),
        administrators.c.organization.label("owner"),
        administrators.c.email,
        sites.c.id.label("site_id"),
        sites.c.organization,
        sites.c.environment,
    )
    .join(administrators, administrators.c.id == sessions.c.administrator_id)
    .join(sites, sites.c.id == sessions.c.site_id)
)


def _sessions(conn: Connection, *conditions: ColumnElement[bool]) -> list[Session]:
    return [_session(row) for row in conn.execute(_SESSION.where(*conditions).order_by(sessions.c.id.desc()))]


def _session(row: Row[*tuple[Any, ...]]) -> Session:
    return Session(
        id=row.id,
        administrator_id=row.administrator_id,
        organization=row.owner,
        email=row.email,
        site=SiteRef(id=row.site_id, organization=row.organization, environment=row.environment),
        address=row.address,
        user_agent=row.user_agent,
        created_at=row.created_at,
        seen_at=row.seen_at,
        expires_at=row.expires_at,
    )
