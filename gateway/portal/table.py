"""The one table of the portal's pages: path, method, handler, who may open it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, Literal

from msgspec import Struct
from starlette.responses import Response

from gateway.portal import (
    books,
    credentials,
    deliveries,
    door,
    endpoints,
    events,
    explorer,
    find,
    home,
    inspector,
    live,
    replays,
    sent,
)
from gateway.portal.visit import Visit

Handler = Callable[[Visit], Awaitable[Response]]


class Page(Struct, frozen=True, kw_only=True):
    """One page. `public` is shown to everybody; `live` watches, which keeps nobody signed in."""

    path: str
    handler: Handler
    method: Literal["GET", "POST"] = "GET"
    public: bool = False
    live: bool = False


# The table is laid out by hand: one page, one line.
# fmt: off
PAGES: Final = (
    Page(path="/portal/sign-in", handler=door.sign_in_page, public=True),
    Page(path="/portal/sign-in", method="POST", handler=door.sign_in, public=True),
    Page(path="/portal/sign-out", method="POST", handler=door.sign_out),
    Page(path="/portal/environment", method="POST", handler=door.turn),
    Page(path="/portal/sessions", handler=door.sessions_page),
    Page(path="/portal/sessions/{id}/end", method="POST", handler=door.end_session),
    Page(path="/portal", handler=home.home),
    Page(path="/portal/find", handler=find.find_page),
    Page(path="/portal/checklist", handler=home.checklist, live=True),
    Page(path="/portal/deliveries", handler=deliveries.list_page),
    Page(path="/portal/deliveries/live", handler=live.deliveries, live=True),
    Page(path="/portal/deliveries/replay", method="POST", handler=replays.replay_selected),
    Page(path="/portal/deliveries/{id}", handler=deliveries.delivery_page),
    Page(path="/portal/deliveries/{id}/attempts", handler=deliveries.attempts_part, live=True),
    Page(path="/portal/deliveries/{id}/attempts/{number}", handler=sent.attempted),
    Page(path="/portal/deliveries/{id}/skip", method="POST", handler=deliveries.skip),
    Page(path="/portal/deliveries/{id}/replay", method="POST", handler=replays.replay_one),
    Page(path="/portal/replays", handler=replays.list_page),
    Page(path="/portal/replays", method="POST", handler=replays.begin),
    Page(path="/portal/replays/preview", method="POST", handler=replays.preview),
    Page(path="/portal/replays/{id}", handler=replays.replay_page),
    Page(path="/portal/replays/{id}/progress", handler=replays.progress, live=True),
    Page(path="/portal/replays/{id}/{verb}", method="POST", handler=replays.steer),
    Page(path="/portal/endpoints", handler=endpoints.list_page),
    Page(path="/portal/endpoints", method="POST", handler=endpoints.create),
    Page(path="/portal/endpoints/new", handler=endpoints.new_page),
    Page(path="/portal/endpoints/{id}", handler=endpoints.endpoint_page),
    Page(path="/portal/endpoints/{id}", method="POST", handler=endpoints.change),
    Page(path="/portal/endpoints/{id}/test-answer", handler=endpoints.test_answer, live=True),
    Page(path="/portal/endpoints/{id}/{verb}", method="POST", handler=endpoints.act),
    Page(path="/portal/events", handler=events.list_page),
    Page(path="/portal/events/live", handler=live.events, live=True),
    Page(path="/portal/events/{id}", handler=events.event_page),
    Page(path="/portal/console", handler=events.console_page),
    Page(path="/portal/console/ticket", method="POST", handler=events.console_ticket),
    Page(path="/portal/books", handler=books.ledgers_page),
    Page(path="/portal/books/{id}", handler=books.ledger_page),
    Page(path="/portal/accounts", handler=books.accounts_page),
    Page(path="/portal/accounts/{id}", handler=books.account_page),
    Page(path="/portal/entries", handler=books.entries_page),
    Page(path="/portal/entries/{id}", handler=books.entry_page),
    Page(path="/portal/keys", handler=credentials.list_page),
    Page(path="/portal/keys", method="POST", handler=credentials.create_key),
    Page(path="/portal/keys/{id}/revoke", method="POST", handler=credentials.revoke_key),
    Page(path="/portal/clients", method="POST", handler=credentials.create_client),
    Page(path="/portal/clients/{id}/{verb}", method="POST", handler=credentials.steer_client),
    Page(path="/portal/holds", handler=books.holds_page),
    Page(path="/portal/inspectors", handler=inspector.list_page),
    Page(path="/portal/inspectors", method="POST", handler=inspector.create),
    Page(path="/portal/inspectors/{id}", handler=inspector.inspector_page),
    Page(path="/portal/inspectors/{id}", method="POST", handler=inspector.change),
    Page(path="/portal/inspectors/{id}/requests", handler=inspector.requests_part, live=True),
    Page(path="/portal/inspectors/{id}/requests/{number}", handler=sent.inspected),
    Page(path="/portal/explorer", handler=explorer.explorer_page),
    Page(path="/portal/explorer/token", method="POST", handler=explorer.mint),
)
# fmt: on
