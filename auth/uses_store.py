"""The SQL of when credentials were used, and of a site's clients as a list; none begins or commits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, select, update

from auth.schema import api_keys, clients


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientEntry:
    """An OAuth client as its site sees it; instants in microseconds."""

    client_id: str
    name: str
    scopes: tuple[str, ...]
    created_at: int
    rotated_at: int
    last_used_at: int | None
    revoked_at: int | None


def note_uses(conn: Connection, keys: Mapping[str, int], of_clients: Mapping[str, int]) -> None:
    """Store when API keys and clients were last used, by their ids."""
    if keys:
        used = update(api_keys).where(api_keys.c.id == bindparam("key")).values(last_used_at=bindparam("at"))
        conn.execute(used, [{"key": id_, "at": at} for id_, at in sorted(keys.items())])
    if of_clients:
        used = update(clients).where(clients.c.client_id == bindparam("key")).values(last_used_at=bindparam("at"))
        conn.execute(used, [{"key": id_, "at": at} for id_, at in sorted(of_clients.items())])


def anything_used(conn: Connection, site_id: int) -> bool:
    """Tell whether a request ever came with one of a site's credentials."""
    for table in (api_keys, clients):
        query = select(table.c.last_used_at).where(table.c.site_id == site_id, table.c.last_used_at.is_not(None))
        if conn.execute(query.limit(1)).first() is not None:
            return True
    return False


def list_clients(conn: Connection, site_id: int) -> list[ClientEntry]:
    """Return a site's clients, those taken back too, the newest first."""
    query = select(clients).where(clients.c.site_id == site_id).order_by(clients.c.created_at.desc())
    return [
        ClientEntry(
            client_id=row.client_id,
            name=row.name,
            scopes=tuple(row.scopes.split()),
            created_at=row.created_at,
            rotated_at=row.rotated_at,
            last_used_at=row.last_used_at,
            revoked_at=row.revoked_at,
        )
        for row in conn.execute(query)
    ]
