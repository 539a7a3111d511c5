"""Stream tickets over HTTP: made by whoever may read events, brought by what cannot send a header."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct
from starlette.requests import HTTPConnection
from starlette.responses import Response

from auth.principal import Principal
from auth.tickets import LENGTH_MAX, LIFETIME_S, Ticket
from engine.errors import Fault
from engine.filters import EventFilter
from engine.money import format_instant
from gateway import guard, wire
from gateway.call import Call, Services
from gateway.frames import StreamFilter
from gateway.origins import hidden_tickets, origin_of
from gateway.problems import Problem, invalid
from gateway.query import Asked
from gateway.starting import FEEDS_MAX, filter_of

SCOPE: Final = "events.read"


class TicketCreate(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a ticket is for: which events, from pages of which origin, for how long."""

    filter: StreamFilter = StreamFilter()
    origin: (
        Annotated[str, Meta(max_length=300, description="As a browser sends it: `https://dashboard.example`.")] | None
    ) = None
    expires_in: Annotated[int, Meta(ge=1, le=LIFETIME_S, description="Seconds.")] = LIFETIME_S


class StreamTicket(Struct, frozen=True, kw_only=True):
    """A ticket: send it as `?ticket=` to the stream or the socket, at every reconnect until it expires."""

    ticket: str
    expires_at: str
    origin: str | None


async def create_ticket(call: Call, _asked: Asked) -> Response:
    """Make a stream ticket for what cannot send a header, such as a browser's EventSource.

    It is bound to your site, the filter, the origin and your credential: it ends, and is revoked, with that one.
    """
    services = call.services
    wanted = wire.decode(await call.document(), TicketCreate)
    filter_of(wanted.filter)
    if wanted.origin is not None and wanted.origin not in (*services.stream.origins, origin_of(services.public_url)):
        detail = "Not one of the origins whose pages may follow streams here (GLEDGER_STREAM_ORIGINS)."
        raise invalid([Fault(code="validation.invalid_value", pointer="/origin", detail=detail)])
    text, expires_at = services.authenticator.issue_ticket(
        call.principal,
        scopes=frozenset({SCOPE}),
        filter_json=wire.encode(wanted.filter),
        origin=wanted.origin,
        lifetime_s=wanted.expires_in,
        now_us=services.clock.now_us(),
    )
    if len(text) > LENGTH_MAX:
        raise invalid(
            [Fault(code="validation.out_of_range", pointer="/filter", detail="Too much for a ticket to hold.")]
        )
    made = StreamTicket(ticket=text, expires_at=format_instant(expires_at), origin=wanted.origin)
    return wire.reply(wire.encode(made), status=201)


async def admit(connection: HTTPConnection, services: Services) -> tuple[Principal, EventFilter | None]:
    """Return who follows, by a ticket or a header, and what a ticket lets through at most; raises what auth raises.

    Of several tickets it is the first; `admit_others` looks at the rest.
    """
    tickets = hidden_tickets(connection.scope)
    if not tickets:
        return await guard.authenticate(connection, services, SCOPE), None
    if "authorization" in connection.headers or "x-api-key" in connection.headers:
        raise Problem(code="auth.invalid", detail="Credentials were sent twice.")
    if len(tickets) > 1 and connection.scope["type"] == "websocket":
        raise Problem(code="auth.invalid", detail="A socket is opened with one ticket; `subscribe` brings others.")
    return open_ticket(tickets[0], services, connection.headers.get("origin"))


def admit_others(
    connection: HTTPConnection, services: Services, first: Principal
) -> list[tuple[Principal, EventFilter | None]]:
    """Return whom the tickets behind the first let in, each to another site's feed; raises as `admit` does."""
    tickets = hidden_tickets(connection.scope)[1:]
    if len(tickets) >= FEEDS_MAX:
        raise _not_together("validation.out_of_range", f"At most {FEEDS_MAX} feeds over one connection.")
    sites, found = {first.site.id}, []
    for text in tickets:
        principal, within = open_ticket(text, services, connection.headers.get("origin"))
        if principal.site.id in sites:
            raise _not_together("validation.duplicate_field", "Two of the tickets are of the same site.")
        guard.limit(principal, services, {})
        sites.add(principal.site.id)
        found.append((principal, within))
    return found


def _not_together(code: str, detail: str) -> Problem:
    return invalid([Fault(code=code, pointer="?ticket", detail=detail)])


def open_ticket(text: str, services: Services, origin: str | None) -> tuple[Principal, EventFilter | None]:
    """Return who a ticket lets in and what it lets through; raises what auth raises, or that its origin is another."""
    ticket = services.authenticator.read_ticket(text, services.clock.now_us())
    ticket.principal.require(SCOPE)
    if not _from_its_origin(ticket, origin, origin_of(services.public_url)):
        raise Problem(code="auth.origin_not_allowed", detail="The ticket was made for another origin than this one.")
    return ticket.principal, filter_of(msgspec.json.decode(ticket.filter, type=StreamFilter))


def _from_its_origin(ticket: Ticket, origin: str | None, own: str) -> bool:
    # A page of this very server sends no Origin with a GET; whoever else leaves it out is no browser.
    return ticket.origin == origin or (origin is None and ticket.origin == own)
